"""What evaluations and studies share in MLflow: runs that end in a state, results recorded once."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
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
from medrestore.tracking.store import (
    URI_VARIABLE,
    experiment_id,
    failures,
    open_client,
    recording,
    sqlite_file,
    sqlite_uri,
)

__all__ = [
    "KIND",
    "PARENT_TAG",
    "RUN_FILE",
    "continued_or_new",
    "environment_tags",
    "metric_points",
    "named_run",
    "new_run",
    "record_once",
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
    """Make a run for the block, nested in ``parent``: FINISHED when that ends well, else FAILED."""
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


def record_once(
    tracking_uri: str,
    experiment: str,
    run_name: str,
    *,
    record: Mapping[str, Any],
    kept: str,
    write: Callable[[Any, str, str], None],
) -> str:
    """Return the id of the run of a result, which ``record`` tells from others; made when there is none.

    ``write`` fills it, given an ``MlflowClient``, the id of the experiment and that of the run.
    """
    client = open_client(tracking_uri)
    fingerprint = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    with recording(tracking_uri, kept=kept):
        key = experiment_id(client, experiment, tracking_uri)
        run_id = _recorded_run(client, key, fingerprint)
        if run_id is None:
            # The tag is there from the beginning: so a record that breaks off is found.
            with new_run(client, key, run_name, tags={"fingerprint": fingerprint}) as run_id:
                write(client, key, run_id)
    return run_id


def _recorded_run(client: Any, experiment_key: str, fingerprint: str) -> str | None:
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


def continued_or_new(
    client: Any, known: Any, path: Path, *, experiment: str, run_name: str, tracking_uri: str
) -> str:
    """Return the id of a run that is known, or of a new one, which the file ``path`` names from now on."""
    if known is not None:
        return str(known.info.run_id)
    key = experiment_id(client, experiment, tracking_uri)
    run_id = str(client.create_run(key, run_name=run_name).info.run_id)
    remember_run(path, run_id, experiment=experiment, tracking_uri=tracking_uri)
    return run_id


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
