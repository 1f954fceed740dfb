"""Where MLflow keeps its runs: an sqlite file beside the results unless another tracking URI is given."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from medrestore.checks import InputError, fail, one_line
from medrestore.tracking.environment import import_mlflow, without_credentials
from medrestore.tracking.relocation import follow_moved_store

__all__ = [
    "EXPERIMENT_VARIABLE",
    "URI_VARIABLE",
    "RecordingError",
    "default_tracking_uri",
    "experiment_id",
    "experiment_name",
    "failures",
    "log_file",
    "log_values",
    "open_client",
    "open_existing",
    "reason_of",
    "recording",
    "sqlite_file",
    "sqlite_uri",
    "tracking_uri_of",
]

URI_VARIABLE, EXPERIMENT_VARIABLE = "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"
"""MLflow's own variables: they count where no key or option says otherwise."""

LARGEST_BATCH = 100
"""Parameters or tags that MLflow takes at once; metrics may be ten times as many."""

TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
UPLOAD_SECONDS = "300"
"""How long a server may take to put a file away: weights are hundreds of megabytes."""


class RecordingError(InputError):
    """MLflow did not take a record; the results are there all the same."""


def default_tracking_uri(folder: str | os.PathLike[str]) -> str:
    """Return the URI of the sqlite file that a results folder keeps its runs in.

    >>> default_tracking_uri("/results/demo")
    'sqlite:////results/demo/mlflow.db'
    """
    return sqlite_uri(Path(folder).absolute() / "mlflow.db")


def sqlite_uri(file: Path) -> str:
    """Return the URI of an sqlite store, whatever characters its path holds.

    Raises
    ------
    InputError
        For a path that the SQLAlchemy that is installed cannot be told.
    """
    from urllib.parse import quote

    uri = f"sqlite:///{file.as_posix()}"
    if sqlite_file(uri) != file:
        # With its driver named: of a bare sqlite:/// MLflow makes a folder named as the address reads.
        uri = f"sqlite+pysqlite:///{quote(file.as_posix())}"
    if sqlite_file(uri) != file:  # SQLAlchemy before 2.1 decodes nothing
        fail(
            "no store of MLflow can lie in a folder with '?' in its path",
            path=file,
            remedy="rename the folder, or name a store elsewhere as tracking_uri",
        )
    return uri


def sqlite_file(tracking_uri: str) -> Path | None:
    """Return the file of an sqlite store, None for any other store.

    >>> sqlite_file("sqlite:////results/demo/mlflow.db"), sqlite_file("https://mlflow.example.org")
    (PosixPath('/results/demo/mlflow.db'), None)
    """
    if not tracking_uri.startswith(("sqlite:///", "sqlite+pysqlite:///")):
        return None
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        database = make_url(tracking_uri).database
    except ArgumentError:
        return None
    return None if not database else Path(database).absolute()


def tracking_uri_of(given: str | None, folder: str | os.PathLike[str]) -> str:
    """Return where runs go: what is given, or ``MLFLOW_TRACKING_URI``, or the sqlite file in ``folder``."""
    return given or os.environ.get(URI_VARIABLE) or default_tracking_uri(folder)


def experiment_name(given: str | None, default: str) -> str:
    """Return the experiment's name: what is given, else ``MLFLOW_EXPERIMENT_NAME``, else ``default``."""
    return given or os.environ.get(EXPERIMENT_VARIABLE) or default


def open_client(tracking_uri: str) -> Any:
    """Return an ``MlflowClient`` of a store; MLflow's global tracking URI is not touched.

    The client API, unlike ``mlflow.start_run``, records no user, host or script name by itself. Processes
    that open one sqlite file at the same time wait for each other: MLflow makes its tables on opening.

    Raises
    ------
    RecordingError
        When MLflow cannot open the store.
    InputError
        For an empty address, an sqlite store in memory, or one in another place than its address reads.
    """
    file = _file_as_read(tracking_uri)
    mlflow = import_mlflow()
    from mlflow.store.db import utils as database

    # Creating a new database is announced line by line, and what fails is told by us.
    for name, level in (
        ("mlflow.store.db.utils", logging.CRITICAL),
        ("mlflow.tracking", logging.ERROR),
        ("alembic", logging.WARNING),
    ):
        logging.getLogger(name).setLevel(level)
    database.MAX_RETRY_COUNT = 2  # ten tries, its default, take minutes
    try:
        with _alone(tracking_uri):
            if file is not None:
                follow_moved_store(file)
                _forget_artifact_places()
            return mlflow.MlflowClient(tracking_uri=tracking_uri)
    except Exception as error:
        shown = without_credentials(tracking_uri)
        raise RecordingError(
            f"tracking_uri {shown!r}: MLflow cannot open this store ({reason_of(error)}). "
            "Remedy: use sqlite:///FOLDER/mlflow.db or the address of a running MLflow server"
        ) from error


def _forget_artifact_places() -> None:
    """Let MLflow look up anew where artifacts lie: it remembers by ids of runs, which copied stores share."""
    from mlflow.tracking._tracking_service import utils

    known = getattr(utils, "_artifact_repos_cache", None)
    if known is not None:
        known.clear()


def open_existing(tracking_uri: str) -> Any:
    """Return an ``MlflowClient`` as :func:`open_client` does, of a store that is there already.

    Raises
    ------
    InputError
        When there is no such sqlite file, or as :func:`open_client` says.
    """
    file = _file_as_read(tracking_uri)
    if file is not None and not file.is_file():
        raise InputError(
            f"{tracking_uri}: there is no such store. Remedy: name the mlflow.db of a run or demo with "
            f"--tracking-uri, or its address in {URI_VARIABLE}"
        )
    return open_client(tracking_uri)


def _file_as_read(tracking_uri: str) -> Path | None:
    """Return the file of an sqlite store that lies where its address reads, None for any other store.

    What SQLAlchemy or MLflow make of the others nobody expects: a folder ``~``, a store that ends with the
    process, one in the present folder.
    """
    file = sqlite_file(tracking_uri)
    _, _, path = tracking_uri.partition(":///")
    path, asked, options = path.partition("?")
    remedy = "use sqlite:///FOLDER/mlflow.db or the address of a running MLflow server"
    if not tracking_uri.strip():
        fault = "is empty"
    elif re.fullmatch(r"sqlite(\+\w+)?:/{2,3}(:memory:)?(\?.*)?", tracking_uri):
        fault = "names no file, and what is in memory is gone with the process"
    elif file is not None and path.startswith("~/"):
        fault, remedy = "holds a ~, which no shell writes out there", "write the home folder out"
    elif file is not None and asked and "=" not in options:
        fault = "holds a '?', where the path ends and options begin"
        remedy = "name a store in a folder without it"
    else:
        return file
    raise InputError(f"tracking_uri {without_credentials(tracking_uri)!r}: {fault}. Remedy: {remedy}")


def _alone(tracking_uri: str) -> AbstractContextManager[Any]:
    """Keep other processes of this machine from opening an sqlite store; nothing to do for other stores."""
    from filelock import FileLock

    file = sqlite_file(tracking_uri)
    if file is None:
        return nullcontext()
    # Not beside the store: what lies in a results folder is results.
    name = hashlib.sha256(str(file).encode()).hexdigest()[:20]
    return FileLock(Path(tempfile.gettempdir()) / f"medrestore-{os.getuid()}-{name}.lock")


def failures() -> tuple[type[Exception], ...]:
    """Return what a store that is out of reach, full or locked raises."""
    import_mlflow()
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, SQLAlchemyError, OSError)  # what requests raises is an OSError


@contextmanager
def recording(tracking_uri: str, *, kept: str = "") -> Iterator[None]:
    """Turn what a store raises in the block into one line that names it.

    Parameters
    ----------
    tracking_uri
        Of the store.
    kept
        What is there all the same, and how the record is completed; a remedy.

    Raises
    ------
    RecordingError
        When the store fails.
    """
    try:
        yield
    except failures() as error:
        remedy = kept or "start the server or mend the store, or name another tracking_uri"
        raise RecordingError(
            f"tracking_uri {without_credentials(tracking_uri)!r}: MLflow took no record "
            f"({reason_of(error)}). Remedy: {remedy}"
        ) from error


def reason_of(error: BaseException) -> str:
    """Return the gist of an error: chains of HTTP and SQL errors are long and name the same twice."""
    text = without_credentials(one_line(error))
    for known, gist in (
        ("Connection refused", "connection refused"),
        ("Name or service not known", "no such host"),
        ("Temporary failure in name resolution", "no such host"),
        ("nodename nor servname", "no such host"),
        ("timed out", "no answer in time"),
    ):
        if known in text:
            return gist
    status = re.search(r"too many (\d{3}) error responses", text)
    if status:
        return f"the server answers with error {status[1]}"
    _, _, cause = text.partition("(Caused by ")
    if quoted := re.findall(r"'([^']+)'", cause):
        return str(quoted[-1])
    text = text.partition("[SQL:")[0].partition("(Background on this error")[0].strip()
    return text if len(text) <= 200 else f"{text[:197]}..."


def experiment_id(client: Any, name: str, tracking_uri: str) -> str:
    """Return the id of the experiment, made if need be; artifacts of an sqlite store lie beside its file.

    Raises
    ------
    InputError
        When an experiment of this name was deleted in MLflow, or there can be none of this name.
    """
    import_mlflow()
    from mlflow.exceptions import MlflowException

    if not name:
        raise InputError("experiment has no name. Remedy: name one, or leave it out")
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=_artifact_location(tracking_uri)))
        except MlflowException as error:
            # Two processes may start at once: the other one made it.
            found = client.get_experiment_by_name(name)
            if found is None and error.error_code == "INVALID_PARAMETER_VALUE":
                raise InputError(
                    f"experiment {name[:40]!r}: MLflow takes no such name ({reason_of(error)}). "
                    "Remedy: use another experiment name"
                ) from error
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise InputError(
            f"experiment {name!r} was deleted in {without_credentials(tracking_uri)}. "
            "Remedy: restore it in MLflow, or use another experiment name"
        )
    return str(found.experiment_id)


def _artifact_location(tracking_uri: str) -> str | None:
    file = sqlite_file(tracking_uri)
    return None if file is None else (file.parent / "mlartifacts").as_uri()


def log_file(client: Any, run_id: str, path: str | os.PathLike[str], inside: str = "") -> None:
    """Record a file as an artifact in the folder ``inside`` of a run; one of the same name is replaced."""
    before = os.environ.get(TIMEOUT, "")
    os.environ[TIMEOUT] = max(before, UPLOAD_SECONDS, key=lambda text: int(text or 0))
    try:
        client.log_artifact(run_id, str(path), inside or None)
    finally:
        os.environ[TIMEOUT] = before


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
