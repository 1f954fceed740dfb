"""An evaluation in MLflow: one run a method, so that MLflow's comparison lines their metrics up."""

from __future__ import annotations

from typing import Any

import pandas as pd

from medrestore.evaluation.record import Evaluation
from medrestore.evaluation.titles import label_of
from medrestore.tracking.environment import flatten
from medrestore.tracking.recording import (
    KIND,
    environment_tags,
    fingerprint_of,
    metric_points,
    new_run,
    recorded_run,
)
from medrestore.tracking.store import experiment_id, log_values, open_client

__all__ = ["DIFFERENCE", "KIND", "log_evaluation"]

EVALUATION, METHOD = "evaluation", "evaluation of a method"
DIFFERENCE = "difference"
"""Paired differences are metrics of the whole evaluation: ``difference/taskgan/gan/psnr``."""

FILES = ("tables.md", "summary.csv", "differences.csv", "per_subject.csv", "figure.png", "evaluation.json")


def log_evaluation(
    evaluation: Evaluation, *, experiment: str, tracking_uri: str, run_name: str = "evaluation"
) -> str:
    """Record an evaluation as a run with one nested run for each method.

    Parameters
    ----------
    evaluation
        Of :func:`~medrestore.evaluation.evaluate.evaluate`.
    experiment, run_name
        Names in MLflow.
    tracking_uri
        Any that MLflow knows.

    Returns
    -------
    str
        Id of the run. An evaluation that the experiment holds already is not recorded again.

    Notes
    -----
    The mean of a metric is recorded under its name, the ends of its interval as ``NAME_low`` and
    ``NAME_high`` and the number of subjects as ``NAME_subjects``:
    :func:`~medrestore.tracking.compare.compare` builds the tables from these alone. Tables, figure and the
    table per subject are artifacts.

    Raises
    ------
    InputError
        When the store cannot be opened.
    """
    client = open_client(tracking_uri)
    experiment_key = experiment_id(client, experiment, tracking_uri)
    fingerprint = fingerprint_of(evaluation.record)
    found = recorded_run(client, experiment_key, fingerprint)
    if found is not None:
        return found
    with new_run(client, experiment_key, run_name) as parent:
        _record_whole(client, parent, evaluation, fingerprint)
        for order, method in enumerate(evaluation.summary["method"].unique()):
            with new_run(client, experiment_key, label_of(method), parent=parent) as child:
                tags = {KIND: METHOD, "method": str(method), "order": str(order)}
                rows = evaluation.summary[evaluation.summary["method"] == method]
                points = metric_points(_numbers(rows, ""))
                log_values(client, child, parameters=_settings(evaluation), tags=tags, metrics=points)
    return parent


def _record_whole(client: Any, run_id: str, evaluation: Evaluation, fingerprint: str) -> None:
    tags = {KIND: EVALUATION, "fingerprint": fingerprint, **environment_tags()}
    values: dict[str, float] = {}
    for (first, second), rows in evaluation.differences.groupby(["first", "second"], sort=False):
        values |= _numbers(rows, f"{DIFFERENCE}/{first}/{second}/")
    log_values(client, run_id, parameters=_settings(evaluation), tags=tags, metrics=metric_points(values))
    for name in FILES:
        if (evaluation.output / name).is_file():
            client.log_artifact(run_id, str(evaluation.output / name))


def _settings(evaluation: Evaluation) -> dict[str, str]:
    kept = {
        key: value
        for key, value in evaluation.record.items()
        if key not in ("tuned_filters", "filters", "pairs")
    }
    filters = evaluation.record.get("tuned_filters", {})
    tuned = {f"{name}_{item['parameter']}": item["value"] for name, item in filters.items()}
    return flatten({**kept, "filters": tuned})


def _numbers(rows: pd.DataFrame, prefix: str) -> dict[str, float]:
    values: dict[str, float] = {}
    for row in rows.to_dict("records"):
        ends = {"": row["mean"], "_low": row["low"], "_high": row["high"], "_subjects": row["subjects"]}
        values |= {f"{prefix}{row['metric']}{end}": float(value) for end, value in ends.items()}
    return values
