"""A run in MLflow that other runs are nested in: the study that they belong to."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from medrestore.checks import InputError
from medrestore.tracking.environment import flatten
from medrestore.tracking.outbox import Outbox, how_to_complete
from medrestore.tracking.recording import (
    KIND,
    RUN_FILE,
    continued_or_new,
    environment_tags,
    metric_points,
    remembered_run,
)
from medrestore.tracking.store import log_values, open_client, recording

__all__ = ["ParentRun", "open_parent_run"]


class ParentRun:
    """An open run of a study.

    Parameters
    ----------
    outbox
        Of the study: gets what is recorded.
    run_id
        Of the run: trainings get it as ``parent_run``.
    """

    def __init__(self, outbox: Outbox, run_id: str) -> None:
        self.outbox = outbox
        self.run_id = run_id

    def log_metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """Record numbers; NaN is left out. What is recorded again replaces what was there in tables."""
        points = metric_points(values, step=step)
        self.outbox.add_points([(point.key, point.value, point.timestamp, point.step) for point in points])

    def log_files(self, paths: Sequence[str | os.PathLike[str]]) -> None:
        """Record files as artifacts; one of the same name is replaced."""
        for path in paths:
            self.outbox.add_file(path)


@contextmanager
def open_parent_run(
    folder: str | os.PathLike[str],
    *,
    experiment: str,
    run_name: str,
    kind: str,
    tracking_uri: str,
    parameters: Mapping[str, Any],
) -> Iterator[ParentRun]:
    """Open the run of a study for the block: the one that its folder names, else a new one.

    Parameters
    ----------
    folder
        Of the study; ``mlflow_run.json`` in it names the run, so that a study that is called again continues
        it.
    experiment, run_name
        Names in MLflow.
    kind
        What it is a record of: a tag.
    tracking_uri
        Any that MLflow knows.
    parameters
        Settings of the study, nested; those that differ from recorded ones leave the recorded ones.

    Yields
    ------
    ParentRun
        FINISHED when the block ends well, KILLED when it was interrupted, else FAILED.

    Raises
    ------
    RecordingError
        When the store cannot be opened; or took no record at the end, which is kept in ``folder`` then.
    """
    client = open_client(tracking_uri)
    path = Path(folder) / RUN_FILE
    outbox = Outbox(folder)
    with recording(tracking_uri):
        known = remembered_run(client, path, tracking_uri=tracking_uri)
        recorded = {} if known is None else known.data.params
        run_id = continued_or_new(
            client, known, path, experiment=experiment, run_name=run_name, tracking_uri=tracking_uri
        )
        if outbox.send(client, run_id):
            client.update_run(run_id, status="RUNNING")
        new = {name: value for name, value in flatten(parameters).items() if name not in recorded}
        log_values(client, run_id, parameters=new, tags={KIND: kind, **environment_tags()})

    def end(status: str) -> None:
        outbox.add_end(status, int(time.time() * 1000))
        try:
            with recording(tracking_uri, kept=how_to_complete(folder)):
                outbox.send(client, run_id)
        finally:
            outbox.close()

    try:
        yield ParentRun(outbox, run_id)
    except BaseException as error:
        with suppress(InputError):  # what ended the work is told, and the record is kept
            end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    end("FINISHED")
