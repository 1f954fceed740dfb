"""All commands but those of reader studies, and what becomes of errors."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer

from medrestore import __version__
from medrestore.checks import InputError, counted, fail
from medrestore.cli.bundles import bundles_app
from medrestore.cli.experiments import corruption_study
from medrestore.cli.of_kinds import add_commands
from medrestore.cli.study import study_app
from medrestore.cli.track import track_app
from medrestore.endings import ending_of
from medrestore.files import name_the_nameless
from medrestore.interruption import interrupt_behind, terminated_as_interrupted
from medrestore.options import OutputFolder, Seed, home_in_word
from medrestore.tracking.store import URI_VARIABLE

__all__ = ["app", "main"]

app = typer.Typer(
    name="medrestore",
    help="Restore medical images and find out whether the diagnosis held.",
    epilog="Start with: medrestore demo --output demo_output",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
add_commands(app, {"histology": {"corruption-study": corruption_study}})
app.add_typer(bundles_app)
app.add_typer(study_app, name="study")
app.add_typer(track_app, name="track")


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def demo(
    subject: Annotated[
        str,
        typer.Argument(
            help="amyloid-pet; multicontrast-mri: six contrasts from one acquisition; histology: "
            "super-resolution."
        ),
    ] = "amyloid-pet",
    output: OutputFolder = Path("demo_output"),
    seed: Seed = 0,
) -> None:
    """Run the main job from nothing to a table: simulate or cut tiles, train, restore, evaluate.

    amyloid-pet takes about 11 minutes on two cores and ends with the rehearsal of a reader study,
    multicontrast-mri takes about 12, histology about 5. A call on the same folder continues where the last
    one ended.
    """
    from medrestore.experiments.demo import run_demo

    run_demo(subject, output, seed=seed)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def train(
    context: typer.Context,
    bundle: Annotated[str, typer.Argument(help="Folder or name of a bundle, e.g. amyloid_pet_taskgan.")],
    variant: Annotated[
        list[str] | None,
        typer.Option(
            help="Overlay from the bundle's variants, or a YAML or JSON file of keys; repeat, in order. +key "
            "adds to a list or mapping."
        ),
    ] = None,
    args_file: Annotated[
        Path | None,
        typer.Option(
            "--args_file",
            "--args-file",
            help="A YAML or JSON file of keys and values, merged after the overlays.",
        ),
    ] = None,
) -> None:
    """Train a bundle; any key of its train.yaml can follow as [bold]--key value[/bold]; others are refused.

    Numbers are written as 0.0001 or 1e-4, lists as "[64, 64]", yes and no as true and false, nested keys as
    train::trainer::seed or train#trainer#seed. Names, paths and other text are taken as they stand: nothing
    on the command line is ever evaluated. Overlays are: choose whose you use.

    Example: medrestore train amyloid_pet_taskgan --variant demo --dataset_dir data/pet --output_dir runs/a
    --seed 1
    """
    from medrestore.engines.bundle import open_bundle

    overlays = [*(variant or ()), *([] if args_file is None else [_as_overlay(args_file)])]
    workflow = open_bundle(bundle, "train", variants=overlays, overrides=_overrides(context.args))
    workflow.initialize()
    workflow.run()
    workflow.finalize()


def _as_overlay(file: Path) -> str:
    """Return the name of a file of keys and values, which must be there."""
    if not file.is_file():
        fail("no such file", path=file)
    if file.suffix.lower() not in (".yaml", ".yml", ".json"):
        fail("is no file of keys and values", path=file, remedy="name a .yaml or .json file as --args_file")
    return str(file)


@app.command()
def restore(
    output: Annotated[Path, typer.Option(help="Folder for the restorations.")],
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="INPUT",
            help="A NIfTI volume (3D; of several channels 4D), or a slide or picture; a folder of them, or a "
            "manifest (CSV). Bad files do not end the run: they are listed at its end, with code 2.",
            show_default=False,
        ),
    ] = None,
    input: Annotated[Path | None, typer.Option(help="INPUT, as an option.")] = None,
    bundle: Annotated[
        str | None,
        typer.Option(
            help="Folder or name of a bundle whose inference.yaml restores. Not needed for the model.pt of a "
            "training, which says what it restores."
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="model.pt of a finished training; else the bundle's models/model.pt.")
    ] = None,
    samples: Annotated[
        int,
        typer.Option(
            help="Keep dropout on, draw so many restorations, write their mean and standard deviation."
        ),
    ] = 0,
    split: Annotated[str | None, typer.Option(help="Of a manifest, restore this split only.")] = None,
    dose_fraction: Annotated[
        float | None, typer.Option(help="PET: of a manifest, the rows at this dose fraction only.")
    ] = None,
    contrast: Annotated[
        list[str] | None,
        typer.Option(help="MRI: a contrast to restore; repeat. All that were trained when not given."),
    ] = None,
    microns_per_pixel: Annotated[
        float | None,
        typer.Option(
            "--slide-microns-per-pixel",
            "--microns-per-pixel",
            help="Histology: of slides and pictures that do not state it.",
        ),
    ] = None,
    override_microns_per_pixel: Annotated[
        bool,
        typer.Option(
            "--override-microns-per-pixel",
            help="Histology: the resolution that is given holds for slides too that state another.",
        ),
    ] = False,
    background: Annotated[
        str | None,
        typer.Option(
            help="Histology: what glass of a slide becomes: bicubic (enlarged), white, or restored as tissue "
            "is. Default: bicubic."
        ),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            help="Histology: pixels of a slide by which windows reach into the next ones, where they are "
            "blended. Default: 24."
        ),
    ] = None,
    compression: Annotated[
        str | None,
        typer.Option(
            help="Histology: of restored slides: jpeg, or deflate: lossless, several times as large. "
            "Default: jpeg."
        ),
    ] = None,
    jpeg_quality: Annotated[
        int | None, typer.Option(help="Histology: of JPEG in restored slides, 1 to 100. Default: 90.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="cpu, cuda, cuda:1, ...; the first CUDA device if there is one when not given."),
    ] = None,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    seed: Seed = 0,
) -> None:
    """Restore volumes to NIfTI on the source's exact grid, slides to pyramidal TIFF; with JSON provenance."""
    inputs = [path for path in (source, input) if path is not None]
    if len(inputs) != 1:
        raise InputError("restore takes one INPUT. Remedy: name one file, folder or manifest")
    (images,) = inputs
    options = {
        "split": split,
        "precision": precision,
        "seed": seed,
        "samples": samples or None,
        "dose_fraction": dose_fraction,
        "contrasts": contrast,
        "microns_per_pixel": microns_per_pixel,
        "override_microns_per_pixel": override_microns_per_pixel or None,
        **_of_slides(
            images, background=background, overlap=overlap, compression=compression, jpeg_quality=jpeg_quality
        ),
        "device": device,
    }
    if bundle is None:
        from medrestore.inference.restorer import restore_files

        if weights is None:
            raise InputError("restore needs weights. Remedy: name the model.pt of a training as --weights")
        written = restore_files(images, weights=weights, output_dir=output, **options)
    else:
        from medrestore.engines.bundle import open_bundle

        # Keys of some bundles only: a bundle that has none of them says so.
        given = {key: value for key, value in options.items() if value is not None}
        given |= {"weights": str(weights)} if weights is not None else {}
        overrides = {"input": str(images), "output_dir": str(output), "split": split, **given}
        workflow = open_bundle(bundle, "inference", overrides=overrides)
        workflow.initialize()
        (written,) = workflow.run()
        workflow.finalize()
    typer.echo(f"{counted(len(written), 'file')} restored to {output}")


def _of_slides(source: Path, **settings: Any) -> dict[str, Any]:
    """Return the settings of whole slides; refuse them for a manifest, whose tiles need none."""
    for key, value in settings.items():
        if value is not None and source.suffix.lower() == ".csv":
            raise InputError(
                f"--{key.replace('_', '-')} is for slides, and {source} is a manifest. Remedy: leave it out"
            )
    return settings


@app.command()
def pool(
    evaluations: Annotated[list[Path], typer.Argument(help="Folders of evaluations, one for each seed.")],
    seed: Seed = 0,
) -> None:
    """Print one table over evaluations of several seeds: means over seeds, intervals over subjects."""
    from medrestore.domains.base import metrics_of
    from medrestore.evaluation.pool import pool_evaluations

    typer.echo(pool_evaluations(evaluations, metrics_of=metrics_of, seed=seed))


@app.command()
def compare(
    experiment: Annotated[str, typer.Argument(help="MLflow experiment that holds evaluations.")],
    tracking_uri: Annotated[
        str,
        typer.Option(
            envvar=URI_VARIABLE,
            help="MLflow store: sqlite:///FOLDER/mlflow.db of a run or demo, or a server's address.",
        ),
    ] = "sqlite:///mlflow.db",
) -> None:
    """Print the table of an evaluation from MLflow alone."""
    from medrestore.tracking.compare import compare as run
    from medrestore.tracking.compare import render

    typer.echo(render(run(experiment, tracking_uri=tracking_uri)))


def _overrides(arguments: list[str]) -> dict[str, str]:
    """Turn ``--key value`` and ``--key=value`` into a mapping of texts: what they are, their keys decide."""
    values: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise InputError(f"expected --key value, got {word!r}")
        key, joined, value = word[2:].partition("=")
        if not joined:
            if not rest:
                raise InputError(f"--{key} has no value")
            value = rest.pop(0)
        values[key] = value
    return values


def _print_what_is_there() -> None:
    """Let characters that a terminal's encoding lacks be printed as their codes, in place of an error."""
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def main() -> None:
    """Run the command line; a mistake in the input ends with code 2 and its message, without a traceback.

    Ctrl-C and SIGTERM end it with the codes that shells expect, 130 and 143.
    """
    _print_what_is_there()
    name_the_nameless()  # MONAI asks for the user's name and home when it is imported
    try:
        with terminated_as_interrupted():
            app(args=[home_in_word(word) for word in sys.argv[1:]])
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        ending = None if isinstance(error, SystemExit) and not interrupt_behind(error) else ending_of(error)
        if ending is None:
            raise
        code, words = ending
        typer.secho(words, err=True, fg=typer.colors.RED)
        sys.exit(code)
