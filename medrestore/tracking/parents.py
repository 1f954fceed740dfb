"""A run in MLflow that other runs are nested in: the study that they belong to."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medrestore.tracking.environment import flatten
from medrestore.tracking.recording import (
    KIND,
    RUN_FILE,
    environment_tags,
    metric_points,
    remember_run,
    remembered_run,
)
from medrestore.tracking.store import experiment_id, log_values, open_client

__all__ = ["ParentRun", "open_parent_run"]


class ParentRun:
    """An open run of a study.

    Parameters
    ----------
    client
        An ``MlflowClient``.
    run_id
        Of the run: trainings get it as ``parent_run``.
    """

    def __init__(self, client: Any, run_id: str) -> None:
        self.client = client
        self.run_id = run_id

    def log_metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """Record numbers; NaN is left out. What is recorded again replaces what was there in tables."""
        log_values(self.client, self.run_id, metrics=metric_points(values, step=step))

    def log_files(self, paths: Sequence[str | os.PathLike[str]]) -> None:
        """Record files as artifacts; one of the same name is replaced."""
        for path in paths:
            self.client.log_artifact(self.run_id, str(path))


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
    InputError
        When the store cannot be opened.
    """
    client = open_client(tracking_uri)
    path = Path(folder) / RUN_FILE
    known = remembered_run(client, path, tracking_uri=tracking_uri)
    if known is None:
        key = experiment_id(client, experiment, tracking_uri)
        run_id = str(client.create_run(key, run_name=run_name).info.run_id)
        remember_run(path, run_id, experiment=experiment)
        recorded: Mapping[str, str] = {}
    else:
        run_id, recorded = str(known.info.run_id), known.data.params
    new = {name: value for name, value in flatten(parameters).items() if name not in recorded}
    log_values(client, run_id, parameters=new, tags={KIND: kind, **environment_tags()})
    try:
        yield ParentRun(client, run_id)
    except KeyboardInterrupt:
        client.set_terminated(run_id, status="KILLED")
        raise
    except BaseException:
        client.set_terminated(run_id, status="FAILED")
        raise
    client.set_terminated(run_id, status="FINISHED")
