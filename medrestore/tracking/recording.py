"""What evaluations and studies share in MLflow: runs that end in a state, results recorded once."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medrestore.files import atomic_path
from medrestore.tracking.environment import describe_environment, git_commit, import_mlflow

__all__ = [
    "KIND",
    "PARENT_TAG",
    "RUN_FILE",
    "environment_tags",
    "fingerprint_of",
    "metric_points",
    "new_run",
    "recorded_run",
    "remember_run",
    "remembered_run",
]

KIND = "kind"
"""Tag of every run: what it is a record of."""

PARENT_TAG = "mlflow.parentRunId"
"""Tag by which MLflow shows a run below another one."""

RUN_FILE = "mlflow_run.json"
"""File in an output folder that names its run, so that what is continued continues it."""


@contextmanager
def new_run(
    client: Any, experiment_key: str, name: str, *, parent: str = "", tags: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Make a run for the block: FINISHED when it ends well, else FAILED.

    Parameters
    ----------
    client
        An ``MlflowClient``.
    experiment_key
        Id of the experiment.
    name
        Of the run.
    parent
        Id of the run that it is nested in.
    tags
        Further tags.

    Yields
    ------
    str
        Id of the run.
    """
    nested = {PARENT_TAG: parent} if parent else {}
    run_id = str(
        client.create_run(experiment_key, run_name=name, tags={**nested, **(tags or {})}).info.run_id
    )
    try:
        yield run_id
    except BaseException:
        client.set_terminated(run_id, status="FAILED")
        raise
    client.set_terminated(run_id, status="FINISHED")


def fingerprint_of(record: Mapping[str, Any]) -> str:
    """Return a checksum that tells one result from another."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def recorded_run(client: Any, experiment_key: str, fingerprint: str) -> str | None:
    """Return the finished run that holds a result already; None when there is none."""
    for run in client.search_runs([experiment_key], f"tags.fingerprint = '{fingerprint}'"):
        if run.info.status == "FINISHED":
            return str(run.info.run_id)
    return None


def remember_run(path: Path, run_id: str, *, experiment: str) -> None:
    """Write the file that names a run."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps({"run_id": run_id, "experiment": experiment}) + "\n")


def remembered_run(client: Any, path: Path, *, tracking_uri: str) -> Any:
    """Return the run that a file of :func:`remember_run` names, running again; None without one.

    A run that the store does not hold is warned of.
    """
    if not path.exists():
        return None
    import_mlflow()
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(json.loads(path.read_text())["run_id"])
    except (MlflowException, KeyError, json.JSONDecodeError):
        run = None
    if run is None or run.info.lifecycle_stage != "active":
        logging.getLogger("medrestore.tracking").warning(
            f"{path}: names a run that {tracking_uri} does not hold; starting a new one"
        )
        return None
    client.update_run(run.info.run_id, status="RUNNING")
    return run


def environment_tags() -> dict[str, str]:
    """Return the tags that say with which versions, and from which commit, a result was computed."""
    tags = {f"environment.{name}": value for name, value in describe_environment().items()}
    commit = git_commit()
    return tags if commit is None else {**tags, "mlflow.source.git.commit": commit}


def metric_points(values: Mapping[str, float], *, keep_nan: bool = False, step: int = 0) -> list[Any]:
    """Return numbers as MLflow metrics of now.

    Parameters
    ----------
    values
        By name.
    keep_nan
        Record NaN too, so that runs have metrics of the same names; left out otherwise.
    step
        Of the points.
    """
    import_mlflow()
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [
        Metric(name, float(value), now, step)
        for name, value in values.items()
        if keep_nan or not math.isnan(value)
    ]
