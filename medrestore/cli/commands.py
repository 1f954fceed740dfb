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
from medrestore.cli.histology import histology_app, top_level_app
from medrestore.cli.mri import mri_app
from medrestore.cli.options import (
    Experiment,
    OutputFolder,
    Seed,
    TrackingUri,
    home_in_word,
    named_numbers,
    named_pairs,
    report_problems,
)
from medrestore.cli.study import study_app
from medrestore.cli.track import track_app
from medrestore.endings import ending_of
from medrestore.files import name_the_nameless
from medrestore.interruption import interrupt_behind, terminated_as_interrupted
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
simulate_app = typer.Typer(no_args_is_help=True, help="Simulate cohorts and low-dose scans.")
manifest_app = typer.Typer(no_args_is_help=True, help="Check and inspect manifests of image pairs.")
app.add_typer(simulate_app, name="simulate")
app.add_typer(manifest_app, name="manifest")
app.add_typer(mri_app, name="mri")
app.add_typer(histology_app, name="histology")
app.add_typer(top_level_app)
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


@simulate_app.command("amyloid-pet")
def simulate_amyloid_pet(
    output: OutputFolder,
    size: Annotated[
        str,
        typer.Option(
            help="demo (80 subjects), large (164), or reference: the paper's 40 and 60 more for test."
        ),
    ] = "demo",
    dose_fraction: Annotated[
        float, typer.Option(help="Part of the standard-dose counts that the low dose keeps.")
    ] = 0.01,
    seed: Seed = 0,
    workers: Annotated[int | None, typer.Option(help="Processes; all cores when not given.")] = None,
) -> None:
    """Simulate a cohort of amyloid PET pairs: low and standard dose of the very same counts, truth beside."""
    from medrestore.domains.amyloid_pet.simulate.cohort import simulate_cohort

    manifest = simulate_cohort(output, size=size, seed=seed, dose_fraction=dose_fraction, workers=workers)
    typer.echo(f"manifest: {manifest}")


@simulate_app.command("mdme-mri")
def simulate_mdme_mri(
    output: OutputFolder,
    size: Annotated[
        str,
        typer.Option(help="demo (34 subjects), large (110), or reference: the paper's 67, full resolution."),
    ] = "demo",
    seed: Seed = 0,
    workers: Annotated[int | None, typer.Option(help="Processes; all cores when not given.")] = None,
) -> None:
    """Simulate a cohort of multi-contrast MRI: an MDME acquisition, six conventional contrasts, lesions.

    As in real life, subjects move between the scans: [bold]medrestore mri coregister[/bold] comes next.
    """
    from medrestore.domains.multicontrast_mri.simulate.cohort import simulate_mdme_cohort

    manifest = simulate_mdme_cohort(output, size=size, seed=seed, workers=workers)
    typer.echo(f"manifest: {manifest}")


@simulate_app.command("low-dose")
def simulate_low_dose_command(
    image: Annotated[Path, typer.Option(help="A standard-dose PET volume (NIfTI, 3D).")],
    output: OutputFolder,
    dose_fraction: Annotated[
        list[float] | None, typer.Option(help="Part of the counts that is kept; repeat for several.")
    ] = None,
    mu_map: Annotated[
        Path | None,
        typer.Option(help="Attenuation map in 1/cm on the image's grid; else uniform in the segmented head."),
    ] = None,
    subject_id: Annotated[
        str, typer.Option(help="Name of the subject in the manifest: a pseudonym.")
    ] = "sub-0001",
    split: Annotated[str, typer.Option(help="Split of the rows: train, validation or test.")] = "test",
    amyloid_status: Annotated[
        int | None, typer.Option(help="0 or 1; training and validation need it, a test scan does not.")
    ] = None,
    tracer: Annotated[str, typer.Option(help="Tracer, for the manifest.")] = "unknown",
    units: Annotated[
        str | None, typer.Option(help="Units; those of the image's sidecar when not given.")
    ] = None,
    standard_counts: Annotated[
        float | None, typer.Option(help="Counts of the standard-dose scan; a typical number when not given.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Make low-dose pairs from a real standard-dose volume: both arms re-projected, only the dose differs."""
    from medrestore.domains.amyloid_pet.low_dose import simulate_low_dose

    manifest = simulate_low_dose(
        image,
        output=output,
        mu_map=mu_map,
        dose_fractions=tuple(dose_fraction or [0.01]),
        standard_counts=standard_counts,
        subject_id=subject_id,
        split=split,
        amyloid_status=amyloid_status,
        tracer=tracer,
        units=units,
        seed=seed,
    )
    typer.echo(f"manifest: {manifest}")


@manifest_app.command("check")
def manifest_check(
    file: Annotated[Path, typer.Argument(help="The manifest, a CSV file.")],
    label_column: Annotated[str, typer.Option(help="Column of the label y.")] = "amyloid_status",
    label_values: Annotated[
        list[int] | None, typer.Option(help="Allowed labels; repeat. Default: 0 and 1.")
    ] = None,
) -> None:
    """Report all faulty rows of a manifest at once; ends with code 1 when there is one.

    Files are read too: what train, restore or evaluate would refuse of them, such as a region map without the
    regions of the SUVR, is found here. Tables are CSV, separated by commas, UTF-8.
    """
    from medrestore.domains.amyloid_pet.schema import COMPOSITE_REGIONS, REFERENCE_REGION, pair_schema

    schema = pair_schema(
        label_column=label_column,
        label_values=tuple(label_values or (0, 1)),
        regions=(REFERENCE_REGION, *COMPOSITE_REGIONS),  # those that evaluate asks for
    )
    report_problems(file, schema.check(file))


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
def evaluate(
    manifest: Annotated[Path, typer.Option(help="The manifest whose split is evaluated.")],
    output: OutputFolder,
    method: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FOLDER of restored volumes (SUBJECT_SESSION_restored.nii.gz); repeat."),
    ] = None,
    task: Annotated[Path | None, typer.Option(help="model.pt whose network T judges the images.")] = None,
    observer: Annotated[
        list[Path] | None, typer.Option(help="model.pt of an independent observer; repeat for several.")
    ] = None,
    dose_series: Annotated[
        Path | None,
        typer.Option(help="Manifest of plain reconstructions at other doses, for the dose equivalent."),
    ] = None,
    filter: Annotated[
        list[str] | None,
        typer.Option(
            help="Classical filter and its parameter, gaussian=FWHM_MM or nlm=STRENGTH; repeat; "
            "'none' for neither. Tuned on the validation split when not given."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Rows of this split are evaluated.")] = "test",
    dose_fraction: Annotated[
        float | None, typer.Option(help="Of a manifest, the rows at this dose fraction only.")
    ] = None,
    tracking_uri: TrackingUri = None,
    experiment: Experiment = "evaluation",
    seed: Seed = 0,
) -> None:
    """Compare restorations: image quality, T and observers, SUVR, dose equivalent; table, CSV, figure."""
    from medrestore.domains.amyloid_pet.evaluation.evaluate import evaluate as run

    folders = {name: Path(folder) for name, folder in named_pairs("method", method or []).items()}
    filters = None
    if filter:
        filters = named_numbers("filter", [item for item in filter if item != "none"])
    evaluation = run(
        manifest,
        methods=folders,
        output=output,
        task=task,
        observers=observer or [],
        dose_series=dose_series,
        filters=filters,
        split=split,
        dose_fraction=dose_fraction,
        seed=seed,
    )
    typer.echo(evaluation.markdown)
    if tracking_uri:
        from medrestore.tracking.evaluations import log_evaluation

        log_evaluation(evaluation, experiment=experiment, tracking_uri=tracking_uri)


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
