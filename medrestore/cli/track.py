"""Commands of what is recorded in MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medrestore.checks import counted

__all__ = ["track_app"]

track_app = typer.Typer(no_args_is_help=True, help="Complete what MLflow has not taken yet.")


@track_app.callback()
def _track() -> None:
    """Complete what MLflow has not taken yet."""


@track_app.command("sync")
def sync(
    output_dir: Annotated[
        list[Path], typer.Argument(help="Folders of trainings or corruption studies (their output_dir).")
    ],
    tracking_uri: Annotated[
        str | None,
        typer.Option(help="Address of the store, where it is not the one that the run began with."),
    ] = None,
) -> None:
    """Send what MLflow did not take while a training ran: points, panels, weights, and how it ended.

    A tracking server that is lost does not stop a training. What it could not take is kept in the folder
    mlflow_unsent of output_dir; calling the training again sends it too. Nothing is sent twice. What the
    server refused, as for a limit of size, is tried again.

    Example: medrestore track sync runs/taskgan runs/gan
    """
    from medrestore.tracking.sync import sync_runs

    for folder, sent in sync_runs(output_dir, tracking_uri=tracking_uri):
        typer.echo(
            f"{folder}: {counted(sent, 'record')} sent" if sent else f"{folder}: nothing was left to send"
        )
