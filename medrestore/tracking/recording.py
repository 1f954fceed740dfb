"""What evaluations and studies share in MLflow: runs that end in a state, results recorded once."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from medrestore.checks import fail
from medrestore.files import atomic_path
from medrestore.tracking.environment import (
    describe_environment,
    git_commit,
    import_mlflow,
    without_credentials,
)
from medrestore.tracking.store import URI_VARIABLE, failures, sqlite_file, sqlite_uri

__all__ = [
    "KIND",
    "PARENT_TAG",
    "RUN_FILE",
    "environment_tags",
    "fingerprint_of",
    "metric_points",
    "named_run",
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
        with suppress(*failures()):
            client.set_terminated(run_id, status="FAILED")
        raise
    client.set_terminated(run_id, status="FINISHED")


def fingerprint_of(record: Mapping[str, Any]) -> str:
    """Return a checksum that tells one result from another."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def recorded_run(client: Any, experiment_key: str, fingerprint: str) -> str | None:
    """Return the finished run that holds a result already; None when there is none.

    Runs of the same result whose record broke off are marked FAILED, with those nested in them.
    """
    for run in client.search_runs([experiment_key], f"tags.fingerprint = '{fingerprint}'"):
        if run.info.status == "FINISHED":
            return str(run.info.run_id)
        nested = client.search_runs([experiment_key], f"tags.`{PARENT_TAG}` = '{run.info.run_id}'")
        for left in (run, *nested):
            if left.info.status == "RUNNING":
                client.set_terminated(left.info.run_id, status="FAILED")
    return None


def remember_run(path: Path, run_id: str, *, experiment: str, tracking_uri: str) -> None:
    """Write the file that names a run and where it is, without credentials."""
    record = {
        "run_id": run_id,
        "experiment": experiment,
        "tracking_uri": _seen_from(path.parent, tracking_uri),
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(record) + "\n", encoding="utf-8")


def _seen_from(folder: Path, tracking_uri: str) -> str:
    """Return a URI to keep in a folder: relative for a store in it or above it, so that both can be moved."""
    file = sqlite_file(tracking_uri)
    if file is None:
        return without_credentials(tracking_uri)
    place = folder.absolute()
    if file.parent in (place, *place.parents):
        return f"sqlite:///{Path(os.path.relpath(file, place)).as_posix()}"
    return sqlite_uri(file)  # whoever reads it may be in another folder


def named_run(path: Path) -> tuple[str, str]:
    """Return the id and the tracking URI of the run that a file of :func:`remember_run` names.

    Where ``MLFLOW_TRACKING_URI`` is the same address with user and password, it is taken as it is.

    Raises
    ------
    InputError
        When there is no such file, or it names no run.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        run_id, uri = record["run_id"], record["tracking_uri"]
        if not isinstance(run_id, str) or not isinstance(uri, str):
            raise TypeError
    except OSError:
        fail("no run of MLflow was recorded here", path=path.parent, remedy="name the folder of a training")
    except (ValueError, KeyError, TypeError):
        fail("names no run of MLflow", path=path, remedy="call what made this folder again")
    if uri.startswith("sqlite:///"):
        return run_id, sqlite_uri((path.parent.absolute() / uri.removeprefix("sqlite:///")).resolve())
    if sqlite_file(uri) is not None:
        return run_id, uri
    variable = os.environ.get(URI_VARIABLE, "")
    return run_id, variable if without_credentials(variable) == uri else uri


def remembered_run(client: Any, path: Path, *, tracking_uri: str) -> Any:
    """Return the run that a file of :func:`remember_run` names, running again; None without one.

    A run that the store does not hold is warned of.
    """
    if not path.exists():
        return None
    import_mlflow()
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(json.loads(path.read_text(encoding="utf-8"))["run_id"])
    except (KeyError, ValueError, TypeError):
        run = None
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # a store that does not answer holds it still
            raise
        run = None
    if run is None or run.info.lifecycle_stage != "active":
        logging.getLogger("medrestore.tracking").warning(
            f"{path}: names a run that {without_credentials(tracking_uri)} does not hold; starting a new one"
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
