"""The application: training, tables of evaluations, the commands of other modules; what becomes of errors."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from medrestore import __version__
from medrestore.checks import InputError, fail
from medrestore.cli.bundles import bundles_app
from medrestore.cli.experiments import ABOUT_DEMOS, commands_of_studies, demo
from medrestore.cli.of_kinds import add_groups, add_shared
from medrestore.cli.study import study_app
from medrestore.cli.track import track_app
from medrestore.endings import ending_of
from medrestore.files import name_the_nameless
from medrestore.interruption import interrupt_behind, terminated_as_interrupted
from medrestore.options import Seed, home_in_word
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
app.add_typer(bundles_app)
app.add_typer(study_app, name="study")
app.add_typer(track_app, name="track")


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


app.command(help=ABOUT_DEMOS)(demo)


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


add_shared(app)  # help lists commands in the order of the work


def _as_overlay(file: Path) -> str:
    """Return the name of a file of keys and values, which must be there."""
    if not file.is_file():
        fail("no such file", path=file)
    if file.suffix.lower() not in (".yaml", ".yml", ".json"):
        fail("is no file of keys and values", path=file, remedy="name a .yaml or .json file as --args_file")
    return str(file)


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


add_groups(app, commands_of_studies())


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
