"""An evaluation in MLflow: one run a method, so that MLflow's comparison lines their metrics up."""

from __future__ import annotations

import math
import time
from typing import Any

import pandas as pd

from medrestore.evaluation.evaluate import Evaluation
from medrestore.evaluation.tables import label_of
from medrestore.tracking.environment import describe_environment, flatten, git_commit, import_mlflow
from medrestore.tracking.store import experiment_id, log_values, open_client

__all__ = ["DIFFERENCE", "KIND", "log_evaluation"]

KIND = "kind"
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
    fingerprint = _fingerprint(evaluation)
    for run in client.search_runs([experiment_key], f"tags.fingerprint = '{fingerprint}'"):
        if run.info.status == "FINISHED":
            return str(run.info.run_id)
    parent = client.create_run(experiment_key, run_name=run_name).info.run_id
    try:
        _record_whole(client, parent, evaluation, fingerprint)
        for order, method in enumerate(evaluation.summary["method"].unique()):
            child = client.create_run(
                experiment_key, run_name=label_of(method), tags={"mlflow.parentRunId": parent}
            ).info.run_id
            tags = {KIND: METHOD, "method": str(method), "order": str(order)}
            rows = evaluation.summary[evaluation.summary["method"] == method]
            log_values(client, child, parameters=_settings(evaluation), tags=tags, metrics=_points(rows, ""))
            client.set_terminated(child, status="FINISHED")
    except BaseException:
        client.set_terminated(parent, status="FAILED")
        raise
    client.set_terminated(parent, status="FINISHED")
    return str(parent)


def _record_whole(client: Any, run_id: str, evaluation: Evaluation, fingerprint: str) -> None:
    tags = {KIND: EVALUATION, "fingerprint": fingerprint}
    tags |= {f"environment.{name}": value for name, value in describe_environment().items()}
    commit = git_commit()
    if commit is not None:
        tags["mlflow.source.git.commit"] = commit
    points: list[Any] = []
    for (first, second), rows in evaluation.differences.groupby(["first", "second"], sort=False):
        points += _points(rows, f"{DIFFERENCE}/{first}/{second}/")
    log_values(client, run_id, parameters=_settings(evaluation), tags=tags, metrics=points)
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


def _points(rows: pd.DataFrame, prefix: str) -> list[Any]:
    import_mlflow()
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    points = []
    for row in rows.to_dict("records"):
        values = {"": row["mean"], "_low": row["low"], "_high": row["high"], "_subjects": row["subjects"]}
        points += [
            Metric(f"{prefix}{row['metric']}{end}", float(value), now, 0)
            for end, value in values.items()
            if not math.isnan(value)
        ]
    return points


def _fingerprint(evaluation: Evaluation) -> str:
    import hashlib
    import json

    return hashlib.sha256(json.dumps(evaluation.record, sort_keys=True).encode()).hexdigest()
