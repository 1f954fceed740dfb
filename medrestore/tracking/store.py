"""Where MLflow keeps its runs: an sqlite file beside the results unless another tracking URI is given."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from medrestore.checks import InputError
from medrestore.tracking.environment import import_mlflow

__all__ = ["default_tracking_uri", "experiment_id", "log_values", "open_client"]

LARGEST_BATCH = 100
"""Parameters or tags that MLflow takes at once; metrics may be ten times as many."""


def default_tracking_uri(folder: str | os.PathLike[str]) -> str:
    """Return the URI of the sqlite file that a results folder keeps its runs in.

    >>> default_tracking_uri("/results/demo")
    'sqlite:////results/demo/mlflow.db'
    """
    return f"sqlite:///{Path(folder).absolute().as_posix()}/mlflow.db"


def open_client(tracking_uri: str) -> Any:
    """Return an ``MlflowClient`` of a store; MLflow's global tracking URI is not touched.

    The client API, unlike ``mlflow.start_run``, records no user, host or script name by itself. Processes
    that open one sqlite file at the same time wait for each other: MLflow makes its tables on opening.

    Raises
    ------
    InputError
        When MLflow cannot open the store.
    """
    mlflow = import_mlflow()
    # Creating a new database is announced line by line.
    for name in ("mlflow.store.db.utils", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        with _alone(tracking_uri):
            return mlflow.MlflowClient(tracking_uri=tracking_uri)
    except Exception as error:
        raise InputError(
            f"tracking_uri {tracking_uri!r}: MLflow cannot open this store ({error}). "
            "Remedy: use sqlite:///FOLDER/mlflow.db or the address of a running MLflow server"
        ) from error


def _alone(tracking_uri: str) -> AbstractContextManager[Any]:
    """Keep other processes of this machine from opening an sqlite store; nothing to do for other stores."""
    from filelock import FileLock

    file = _sqlite_file(tracking_uri)
    if file is None:
        return nullcontext()
    # Not beside the store: what lies in a results folder is results.
    name = hashlib.sha256(str(file).encode()).hexdigest()[:20]
    return FileLock(Path(tempfile.gettempdir()) / f"medrestore-{os.getuid()}-{name}.lock")


def _sqlite_file(tracking_uri: str) -> Path | None:
    if not tracking_uri.startswith("sqlite:///"):
        return None
    return Path(tracking_uri.removeprefix("sqlite:///")).absolute()


def experiment_id(client: Any, name: str, tracking_uri: str) -> str:
    """Return the id of the experiment, made if need be; artifacts of an sqlite store lie beside its file.

    Raises
    ------
    InputError
        When an experiment of this name was deleted in MLflow.
    """
    import_mlflow()
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=_artifact_location(tracking_uri)))
        except MlflowException:
            # Two processes may start at once: the other one made it.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise InputError(
            f"experiment {name!r} was deleted in {tracking_uri}. "
            "Remedy: restore it in MLflow, or use another experiment name"
        )
    return str(found.experiment_id)


def _artifact_location(tracking_uri: str) -> str | None:
    file = _sqlite_file(tracking_uri)
    return None if file is None else (file.parent / "mlartifacts").as_uri()


def log_values(
    client: Any,
    run_id: str,
    *,
    parameters: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    metrics: Iterable[Any] = (),
) -> None:
    """Log parameters, tags and ``mlflow.entities.Metric`` in as few calls as MLflow's limits allow."""
    import_mlflow()
    from mlflow.entities import Param, RunTag

    values = [Param(key, value) for key, value in (parameters or {}).items()]
    labels = [RunTag(key, value) for key, value in (tags or {}).items()]
    points = list(metrics)
    while values or labels or points:
        client.log_batch(
            run_id,
            params=values[:LARGEST_BATCH],
            tags=labels[:LARGEST_BATCH],
            metrics=points[: 8 * LARGEST_BATCH],
        )
        values, labels, points = values[LARGEST_BATCH:], labels[LARGEST_BATCH:], points[8 * LARGEST_BATCH :]
