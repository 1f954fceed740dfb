"""Records that a store did not take while the work ran, sent afterwards."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from medrestore.checks import InputError, Setbacks, counted, fail
from medrestore.files import only_process
from medrestore.tracking.environment import import_mlflow, without_credentials
from medrestore.tracking.outbox import REFUSED, UNSENT, Outbox
from medrestore.tracking.recording import RUN_FILE, named_run
from medrestore.tracking.store import open_existing, recording

__all__ = ["sync_run", "sync_runs"]


def sync_run(folder: str | os.PathLike[str], *, tracking_uri: str | None = None) -> int:
    """Send what ``mlflow_unsent`` in a run's folder holds; return the number of records.

    Parameters
    ----------
    folder
        ``output_dir`` of a training.
    tracking_uri
        Of the store that holds the run; the one that it was recorded in when not given. Needed only where
        that one has another address now, or one with a password.

    Raises
    ------
    InputError
        When the folder names no run, the store does not hold it, or does not take the records: what was sent
        is not sent again.
    """
    place = Path(folder)
    named = place / RUN_FILE
    if not (place / UNSENT).is_dir():
        named_run(named)  # the folder of something else is told
        return 0
    without = f"remove {place / UNSENT} and do without what it holds"
    if not named.is_file():
        fail("is not there, which names the run", path=named, remedy=f"bring it back; or {without}")
    try:
        run_id, remembered = named_run(named)
    except InputError:
        fail("names no run of MLflow", path=named, remedy=f"mend its run_id and tracking_uri; or {without}")
    uri = tracking_uri or remembered
    client = open_existing(uri)
    outbox = Outbox(place)
    with recording(uri):
        _require_run(client, run_id, uri, place)
        outbox.take_back()
        sent = outbox.send(client, run_id)
    outbox.close()
    logging.getLogger("medrestore.tracking").info(
        f"MLflow: {counted(sent, 'record')} of an earlier call sent to {without_credentials(uri)}"
    )
    return sent


def _require_run(client: Any, run_id: str, tracking_uri: str, folder: Path) -> None:
    import_mlflow()
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        fault, remedy = "does not hold", "name the store that does with --tracking-uri"
    else:
        if run.info.lifecycle_stage == "active":
            return
        fault, remedy = "had, and somebody deleted", "restore it in MLflow"
    shown = without_credentials(tracking_uri)
    raise InputError(
        f"{folder}: is of run {run_id}, which {shown} {fault}. "
        f"Remedy: {remedy}; or remove {folder / UNSENT}, and with it what the run lacks"
    )


def sync_runs(
    folders: Sequence[str | os.PathLike[str]], *, tracking_uri: str | None = None
) -> Iterator[tuple[Path, int]]:
    """Do :func:`sync_run` for several folders; yield each with the number of records that were sent.

    Raises
    ------
    InputError
        At the end, for all folders that failed: a training is at work there, or as :func:`sync_run` says.
    """
    setbacks = Setbacks("completed in MLflow", unit="run")
    for folder in map(Path, folders):
        with setbacks.set_aside(folder):
            if not folder.is_dir():
                fail("there is no such folder", path=folder, remedy="name the output_dir of a training")
            with only_process(folder, work="training"):
                sent = sync_run(folder, tracking_uri=tracking_uri)
            yield folder, sent
            refused = folder / UNSENT / REFUSED
            if refused.exists():
                fail(
                    "holds what MLflow refused",
                    path=refused,
                    remedy="mend the server, such as its limit of size, and call this again; or remove the "
                    "file and do without",
                )
    setbacks.raise_any(len(folders))
