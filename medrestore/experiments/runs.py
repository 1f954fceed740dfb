"""Trainings in folders of their own, headlines, commands to go on with."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

__all__ = ["command", "how_to_compare", "say", "train_run"]


def train_run(
    bundle: str,
    folder: Path,
    run: str,
    overlays: Sequence[str],
    overrides: Mapping[str, Any],
    *,
    tracking_uri: str | None = None,
) -> Path:
    """Train one run of a bundle, or keep it when it is finished; return its weights.

    Parameters
    ----------
    bundle
        Name of a bundle that ships with the package.
    folder
        Of the demonstration: the cohort is in ``cohort``, the run goes to ``runs/RUN``.
    run
        Name of its folder.
    overlays
        Of the bundle, in this order.
    overrides
        Values by key.
    tracking_uri
        MLflow store; that of the variable ``MLFLOW_TRACKING_URI`` when not given.
    """
    from medrestore.engines.bundle import open_bundle

    places = {
        "dataset_dir": str(folder / "cohort"),
        "output_dir": str(folder / "runs" / run),
        "tracking_uri": tracking_uri,
    }
    workflow = open_bundle(bundle, "train", variants=overlays, overrides={**places, **overrides})
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return folder / "runs" / run / "model.pt"


def say(text: str) -> None:
    """Print a headline."""
    typer.secho(f"\n{text}", bold=True)


def command(program: str, *words: object) -> str:
    """Return a command that runs when it is pasted into a shell, from the current folder.

    Parameters
    ----------
    program
        ``medrestore``, or another program that is installed beside it. Named by its path where the shell
        would not find it: nobody has activated the environment that ``make demo`` makes.
    words
        Its arguments; those with spaces or other signs of the shell are quoted.

    Returns
    -------
    str
        In the syntax of POSIX shells.
    """
    return shlex.join([*_program(program), *map(str, words)])


def how_to_compare(experiment: str, tracking_uri: str) -> str:
    """Return two lines: where and how the runs of an experiment are shown."""
    from medrestore.tracking.environment import without_credentials
    from medrestore.tracking.store import sqlite_file

    shown = without_credentials(tracking_uri)
    table = command("medrestore", "compare", experiment, "--tracking-uri", shown)
    ui = shown
    if sqlite_file(tracking_uri) is not None:
        server = command("mlflow", "ui", "--host", "127.0.0.1", "--backend-store-uri", tracking_uri)
        ui = f"MLFLOW_DISABLE_TELEMETRY=true {server}"
    return f"  compare in MLflow:  {ui}\n  or on the terminal: {table}"


def _program(name: str) -> list[str]:
    found = shutil.which(name)
    # The folder that this program was started from, then that of the interpreter's programs. No link is
    # followed: an environment's interpreter is a link to that of the system.
    for folder in (Path(sys.argv[0]).parent.absolute(), Path(sysconfig.get_path("scripts"))):
        path = folder / name
        if not (path.is_file() and os.access(path, os.X_OK)):
            continue
        if found is not None and Path(found).absolute() == path:
            return [name]
        here = Path.cwd()
        return [str(path.relative_to(here)) if path.is_relative_to(here) else str(path)]
    return [sys.executable, "-m", name]
