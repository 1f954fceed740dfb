"""Options of commands whose result can be recorded, and what makes a command of an evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medrestore.tracking.store import EXPERIMENT_VARIABLE, URI_VARIABLE

if TYPE_CHECKING:
    from medrestore.evaluation.record import Evaluation

__all__ = ["Experiment", "TrackingUri", "recorded"]

TrackingUri = Annotated[
    str | None,
    typer.Option(
        envvar=URI_VARIABLE,
        help="Record the result in this MLflow store: sqlite:///FOLDER/mlflow.db, or a server's address.",
    ),
]
Experiment = Annotated[str, typer.Option(envvar=EXPERIMENT_VARIABLE, help="MLflow experiment of the record.")]


def recorded(evaluate: Callable[..., Evaluation]) -> Callable[..., None]:
    """Return what evaluates, prints the tables, and records them where a store is named."""

    def run(*, tracking_uri: str | None, experiment: str, **given: Any) -> None:
        evaluation = evaluate(**given)
        typer.echo(evaluation.markdown)
        if tracking_uri:
            from medrestore.tracking.evaluations import log_evaluation

            log_evaluation(evaluation, experiment=experiment, tracking_uri=tracking_uri)

    return run
