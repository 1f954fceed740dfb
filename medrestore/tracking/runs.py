"""A training in MLflow: parameters, curves, panels, files and how it ended."""

from __future__ import annotations

import atexit
import logging
import os
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from ignite.distributed import get_rank
from ignite.engine import Engine, Events

from medrestore.checks import InputError, require_in_range
from medrestore.files import sha256_file
from medrestore.tracking.environment import (
    anonymous_text,
    describe_environment,
    flatten,
    git_commit,
    import_mlflow,
)
from medrestore.tracking.recording import PARENT_TAG, RUN_FILE, remember_run, remembered_run
from medrestore.tracking.store import default_tracking_uri, experiment_id, log_values, open_client

__all__ = ["RUN_FILE", "MLflowRun"]

FLUSH_POINTS = 400
FLUSH_SECONDS = 5.0


class MLflowRun:
    """Record a training as an MLflow run.

    Attaches to any Ignite engine whose output is a dictionary of losses.

    Recorded: the flattened parameters, every loss of ``state.output`` each ``interval`` iterations under the
    name of the stage (``joint/pixel``), the learning rate of every optimizer (``learning_rate/generator``),
    at the end of each epoch the engine's ``state.metrics`` and a sample panel, the configuration, the
    manifest's checksum, the git commit, versions and hardware, and at the end the weights with their
    checksum. The step of every point is the iteration.

    Parameters
    ----------
    experiment, run_name
        Names in MLflow.
    output_dir
        The training's folder; it gets ``mlflow_run.json`` and, by default, the sqlite store.
    tracking_uri
        Any that MLflow knows; ``sqlite:///OUTPUT_DIR/mlflow.db`` when not given.
    parameters
        The configuration, nested.
    tags
        Free texts.
    configuration
        Configuration file, recorded with home folders blanked.
    manifest
        The cohort's manifest; its SHA-256 is recorded.
    artifacts
        Files recorded as they are when the training starts.
    weights
        File recorded, with its SHA-256, when the training ends.
    interval
        Iterations between two points of a curve.
    panel
        Given the engine, returns an image as a matplotlib figure; called at the end of each epoch.
    parent_run
        Id of the run, in the same store, that this one is nested in: that of a study of many trainings.

    Notes
    -----
    A resumed training continues its own run, and of a step that the run holds already nothing is recorded
    again: the iterations between the last checkpoint and an interruption are shown as they ran first. A
    resumed training repeats them bit for bit on a CPU. A parameter that differs on resumption leaves the
    recorded one and adds the tag ``changed.NAME``. A store that cannot be reached while training runs does
    not stop it: points are kept and sent later. An exception marks the run FAILED, an interruption KILLED.
    Only the first of several processes records.

    Raises
    ------
    InputError
        For an interval below 1 or a store that cannot be opened.
    """

    def __init__(
        self,
        experiment: str,
        run_name: str,
        *,
        output_dir: str | os.PathLike[str],
        tracking_uri: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        configuration: str | os.PathLike[str] | None = None,
        manifest: str | os.PathLike[str] | None = None,
        artifacts: Sequence[str | os.PathLike[str]] = (),
        weights: str | os.PathLike[str] | None = None,
        interval: int = 10,
        panel: Callable[[Any], Any] | None = None,
        parent_run: str | None = None,
    ) -> None:
        require_in_range("interval", interval, 1, 10**9)
        self.experiment = experiment
        self.run_name = run_name
        self.output_dir = Path(output_dir)
        self.tracking_uri = tracking_uri or default_tracking_uri(output_dir)
        self.parameters = flatten(parameters or {})
        self.tags = {**(tags or {}), **({PARENT_TAG: parent_run} if parent_run else {})}
        self.configuration = configuration
        self.manifest = manifest
        self.artifacts = tuple(artifacts)
        self.weights = weights
        self.interval = interval
        self.panel = panel
        self.run_id: str | None = None
        self.logger = logging.getLogger("medrestore.tracking")
        self._client: Any = None
        self._pending: list[Any] = []
        self._last_flush = 0.0
        self._recorded: dict[str, int] = {}
        self._metrics: dict[str, float] = {}
        self._open = False

    def attach(self, trainer: Engine) -> None:
        """Record ``trainer`` from its start to its end."""
        if get_rank() != 0:
            return
        trainer.add_event_handler(Events.STARTED, self._started)
        trainer.add_event_handler(Events.EXCEPTION_RAISED, self._failed)

    # ------------------------------------------------------------------ the engine's events
    def _started(self, trainer: Engine) -> None:
        self.start(iteration=trainer.state.iteration)
        if not trainer.has_event_handler(self._iteration):
            # Added here, not in attach(), to come after all others: the validation of an epoch has then been
            # done and the weights are written.
            trainer.add_event_handler(Events.ITERATION_COMPLETED(every=self.interval), self._iteration)
            trainer.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)
            trainer.add_event_handler(Events.COMPLETED, self._completed)
            # Ignite swallows an exception that somebody listens to.
            trainer.add_event_handler(Events.EXCEPTION_RAISED, _raise)

    def _iteration(self, trainer: Engine) -> None:
        output = trainer.state.output
        if not isinstance(output, Mapping):
            got = type(output).__name__
            raise InputError(f"the engine's output must be a dictionary of losses by name, got {got}")
        step = getattr(trainer, "step", None)
        stage = getattr(step, "stage", None)
        prefix = f"{stage.name}/" if stage is not None else ""
        values = {f"{prefix}{name}": value for name, value in output.items()}
        for name, optimizer in getattr(step, "optimizers", {}).items():
            groups = optimizer.param_groups
            for index, group in enumerate(groups):
                values[f"learning_rate/{name}" + (f"_{index}" if len(groups) > 1 else "")] = group["lr"]
        self.log(values, step=trainer.state.iteration)

    def _epoch(self, trainer: Engine) -> None:
        # Metrics stay in the state until they are computed again: one that did not change is an old one.
        metrics = {name: float(value) for name, value in trainer.state.metrics.items() if _is_number(value)}
        changed = {name: value for name, value in metrics.items() if self._metrics.get(name) != value}
        self._metrics |= changed
        self.log({**changed, "epoch": trainer.state.epoch}, step=trainer.state.iteration)
        if self.panel is not None:
            figure = self.panel(trainer)
            if figure is not None:
                self.log_figure(figure, f"panels/epoch_{trainer.state.epoch:04d}.png")
        self.flush()

    def _completed(self, _: Engine) -> None:
        self.finish("FINISHED")

    def _failed(self, _: Engine, error: BaseException) -> None:
        if self._open and not isinstance(error, KeyboardInterrupt):
            reason = anonymous_text(repr(error))[:1000]
            self._attempt(lambda: self._client.set_tag(self.run_id, "failure", reason))
        self.finish("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")

    # ------------------------------------------------------------------ recording
    def start(self, *, iteration: int = 0) -> None:
        """Open the run: the one that ``output_dir`` names, else a new one.

        Parameters
        ----------
        iteration
            Of the checkpoint that the training continues from, 0 for a new one.
        """
        if self._open:
            return
        self.output_dir.mkdir(parents=True, exist_ok=True)
        self._client = open_client(self.tracking_uri)
        resumed = self._find_run()
        if resumed is None:
            run = self._client.create_run(
                experiment_id(self._client, self.experiment, self.tracking_uri), run_name=self.run_name
            )
            self.run_id = run.info.run_id
            remember_run(self.output_dir / RUN_FILE, run.info.run_id, experiment=self.experiment)
        self._open = True
        _close_at_exit(self)
        self._record_beginning(resumed, iteration)

    def _find_run(self) -> Any:
        run = remembered_run(self._client, self.output_dir / RUN_FILE, tracking_uri=self.tracking_uri)
        if run is None:
            return None
        self.run_id = run.info.run_id
        for name in run.data.metrics:
            points = self._client.get_metric_history(self.run_id, name)
            self._recorded[name] = max(point.step for point in points)
        return run

    def _record_beginning(self, resumed: Any, iteration: int) -> None:
        environment = describe_environment()
        tags = {
            "kind": "training",
            **{f"environment.{name}": value for name, value in environment.items()},
            **self.tags,
        }
        commit = git_commit()
        if commit is not None:
            tags["mlflow.source.git.commit"] = commit
        parameters = dict(self.parameters)
        if self.manifest is not None:
            parameters["manifest_sha256"] = sha256_file(self.manifest)
        if resumed is not None:
            known = resumed.data.params
            tags["resumed_at_iteration"] = str(iteration)
            tags |= {
                f"changed.{name}": f"{known[name]} -> {value} at iteration {iteration}"
                for name, value in parameters.items()
                if name in known and known[name] != value
            }
            parameters = {name: value for name, value in parameters.items() if name not in known}
        log_values(self._client, str(self.run_id), parameters=parameters, tags=tags)
        self._client.log_dict(self.run_id, environment, "environment.json")
        if self.configuration is not None:
            path = Path(self.configuration)
            self._client.log_text(self.run_id, anonymous_text(path.read_text()), f"configuration/{path.name}")
        for artifact in self.artifacts:
            self._client.log_artifact(self.run_id, str(artifact))

    def log(self, values: Mapping[str, Any], *, step: int) -> None:
        """Record numbers at a step; others are left out, as is a step that the run holds already."""
        import_mlflow()
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        for name, value in values.items():
            if _is_number(value) and step > self._recorded.get(name, -1):
                self._recorded[name] = step
                self._pending.append(Metric(name, float(value), now, step))
        if len(self._pending) >= FLUSH_POINTS or time.monotonic() - self._last_flush > FLUSH_SECONDS:
            self.flush()

    def log_figure(self, figure: Any, name: str) -> None:
        """Record a matplotlib figure as ``name``, a path with its suffix; one of that name is replaced."""
        from matplotlib import pyplot

        self._attempt(lambda: self._client.log_figure(self.run_id, figure, name))
        pyplot.close(figure)

    def flush(self) -> None:
        """Send the points that are held back."""
        self._last_flush = time.monotonic()
        if self._pending and self._attempt(
            lambda: log_values(self._client, str(self.run_id), metrics=self._pending)
        ):
            self._pending = []

    def finish(self, status: str = "FINISHED") -> None:
        """Send what is left, record the weights where there are any, and close the run with ``status``."""
        if not self._open:
            return
        self._open = False
        self.flush()
        if status == "FINISHED" and self.weights is not None and Path(self.weights).is_file():
            checksum = sha256_file(self.weights)
            self._attempt(lambda: self._client.set_tag(self.run_id, "weights_sha256", checksum))
            self._attempt(lambda: self._client.log_artifact(self.run_id, str(self.weights), "model"))
        self._attempt(lambda: self._client.set_terminated(self.run_id, status=status))
        if self._pending:
            self.logger.warning(f"{len(self._pending)} points of run {self.run_id} could not be sent: lost")

    def _attempt(self, call: Callable[[], object]) -> bool:
        # Hours of training are worth more than their record: a store out of reach is reported, not fatal.
        import_mlflow()
        from mlflow.exceptions import MlflowException

        try:
            call()
        except (MlflowException, OSError) as error:
            self.logger.warning(f"MLflow at {self.tracking_uri} did not take a record: {error}")
            return False
        return True


def _is_number(value: object) -> bool:
    """Say whether MLflow can plot it: a plain number, or a tensor of no axes."""
    return isinstance(value, Real) or getattr(value, "ndim", None) == 0


def _raise(_: Engine, error: BaseException) -> None:
    raise error


def _close_at_exit(run: MLflowRun) -> None:
    """Mark a run KILLED that the interpreter's end finds open, without keeping it alive until then."""
    reference = weakref.ref(run)

    def close() -> None:
        left = reference()
        if left is not None:
            left.finish("KILLED")

    atexit.register(close)
