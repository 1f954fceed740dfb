"""A training in MLflow: parameters, curves, panels, files and how it ended."""

from __future__ import annotations

import atexit
import logging
import os
import time
import weakref
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from numbers import Real
from pathlib import Path
from typing import Any

from ignite.distributed import get_rank
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys

from medrestore.checks import InputError, counted, one_line, require_in_range
from medrestore.engines.trainer import CONFIGURATION, MODEL, RestorationTrainer, TrainingEvents
from medrestore.files import atomic_path, sha256_file
from medrestore.tracking.environment import (
    anonymous_text,
    describe_environment,
    flatten,
    without_credentials,
)
from medrestore.tracking.outbox import UNSENT, Outbox, how_to_complete
from medrestore.tracking.recording import (
    KIND,
    PARENT_TAG,
    RUN_FILE,
    continued_or_new,
    environment_tags,
    remembered_run,
)
from medrestore.tracking.sender import Sender
from medrestore.tracking.store import (
    experiment_name,
    failures,
    log_file,
    log_values,
    open_client,
    recording,
    tracking_uri_of,
)
from medrestore.tracking.sync import sync_run

__all__ = ["RUN_FILE", "MLflowRun"]


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
    experiment
        Name in MLflow; ``MLFLOW_EXPERIMENT_NAME`` when not given, and ``default_experiment`` without that.
    run_name
        Name in MLflow.
    output_dir
        The training's folder; it gets ``mlflow_run.json`` and, by default, the sqlite store.
    default_experiment
        Of trainings of this kind.
    tracking_uri
        Any that MLflow knows; ``MLFLOW_TRACKING_URI`` when not given, and ``sqlite:///OUTPUT_DIR/mlflow.db``
        without that.
    parameters
        The configuration, nested. Of a :class:`~medrestore.engines.trainer.RestorationTrainer`, its own is
        taken when not given, as are its ``configuration``, ``manifest``, ``weights`` and ``panel``.
    inputs
        Weights that the training starts from or is judged by, by name: recorded as parameters, the name of
        the file and its SHA-256.
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
    resumed training repeats them bit for bit on a CPU. One that begins anew, since there was no checkpoint
    yet, with other parameters is another run. A parameter that differs on resumption leaves the recorded one
    and adds the tag ``changed.NAME``. An exception marks the run FAILED, an interruption KILLED.
    Only the first of several processes records.

    A store that does not answer at the start is an error within seconds. One that is lost while training runs
    neither stops nor slows it: records are kept in ``output_dir`` and sent by a thread beside the training,
    which waits 1, 2 and then 5 minutes between tries. What is left at the end is sent by the next call, or by
    :func:`~medrestore.tracking.sync.sync_run`.

    Raises
    ------
    InputError
        For an interval below 1.
    """

    def __init__(
        self,
        experiment: str | None,
        run_name: str,
        *,
        output_dir: str | os.PathLike[str],
        default_experiment: str = "medrestore",
        tracking_uri: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        inputs: Mapping[str, str | os.PathLike[str] | None] | None = None,
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
        # MONAI's command line takes 42 for a number.
        self.experiment = experiment_name(None if experiment is None else str(experiment), default_experiment)
        self.run_name = str(run_name)
        self.output_dir = Path(output_dir)
        self.tracking_uri = tracking_uri_of(tracking_uri, output_dir)
        self.parameters = flatten(parameters or {})
        self.inputs = dict(inputs or {})
        self.tags = {**(tags or {}), **({PARENT_TAG: parent_run} if parent_run else {})}
        self.configuration = configuration
        self.manifest = manifest
        self.artifacts = tuple(artifacts)
        self.weights = weights
        self.interval = interval
        self.panel = panel
        self.run_id: str | None = None
        self.logger = logging.getLogger("medrestore.tracking")
        self._outbox: Outbox | None = None
        self._sender: Sender | None = None
        self._recorded: dict[str, int] = {}
        self._metrics: dict[str, float] = {}
        self._open = False

    def attach(self, trainer: Engine) -> None:
        """Record ``trainer`` from its start to its end."""
        if get_rank() != 0:
            return
        trainer.add_event_handler(Events.STARTED, self._started)
        trainer.add_event_handler(Events.EXCEPTION_RAISED, self._failed)
        if isinstance(trainer, RestorationTrainer):
            trainer.add_event_handler(TrainingEvents.FOUND_FINISHED, self._found_finished)

    # ------------------------------------------------------------------ the engine's events
    def _started(self, trainer: Engine) -> None:
        if isinstance(trainer, RestorationTrainer):
            self.parameters = self.parameters or flatten(trainer.parameters)
            self.configuration = self.configuration or trainer.output_dir / CONFIGURATION
            self.weights = self.weights or trainer.output_dir / MODEL
            self.manifest = self.manifest or trainer.data.manifest
            self.panel = self.panel or trainer.panel
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
        values = {f"{prefix}{name}": value for name, value in _without_twin(output).items()}
        for name, optimizer in getattr(step, "optimizers", {}).items():
            if name not in self._learning(trainer):
                continue
            groups = optimizer.param_groups
            for index, group in enumerate(groups):
                values[f"learning_rate/{name}" + (f"_{index}" if len(groups) > 1 else "")] = group["lr"]
        self.log(values, step=trainer.state.iteration)

    def _learning(self, trainer: Engine) -> Container[str]:
        """Return the networks that learn in some stage of this run: the rates of others say nothing."""
        if not isinstance(trainer, RestorationTrainer):
            return getattr(trainer, "step").optimizers  # type: ignore[no-any-return]  # noqa: B009
        return {name for stage in trainer.stages for name in trainer.step.learning(stage)}

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

    def _completed(self, _: Engine) -> None:
        self.finish("FINISHED")

    def _found_finished(self, _: Engine) -> None:
        if (self.output_dir / UNSENT).is_dir():
            sync_run(self.output_dir, tracking_uri=self.tracking_uri)

    def _failed(self, _: Engine, error: BaseException) -> None:
        if self._open and not isinstance(error, KeyboardInterrupt):
            reason = anonymous_text(repr(error))[:1000]
            self._keep_tags({"failure": reason})
        self.finish("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")

    # ------------------------------------------------------------------ recording
    def start(self, *, iteration: int = 0) -> None:
        """Open the run: the one that ``output_dir`` names, else a new one.

        Parameters
        ----------
        iteration
            Of the checkpoint that the training continues from, 0 for a new one.

        Raises
        ------
        RecordingError
            When the store does not answer within seconds, or takes no record or file.
        """
        if self._open:
            return
        self.output_dir.mkdir(parents=True, exist_ok=True)
        shown = without_credentials(self.tracking_uri)
        self.logger.info(f"MLflow: run {self.run_name!r} of experiment {self.experiment!r} at {shown}")
        client = open_client(self.tracking_uri)
        outbox = Outbox(self.output_dir)
        with recording(self.tracking_uri):
            parameters = self._all_parameters()
            resumed = self._find_run(client, outbox, iteration, parameters)
            try:
                self._record_beginning(client, resumed, iteration, parameters)
            except BaseException:
                with suppress(*failures()):
                    client.set_terminated(self.run_id, status="FAILED")
                raise
        self._outbox = outbox
        self._sender = Sender(outbox, client=client, run_id=str(self.run_id), name=shown)
        self._sender.start()
        self._open = True
        _close_at_exit(self)

    def _all_parameters(self) -> dict[str, str]:
        parameters = {**self.parameters, **_inputs(self.inputs)}
        if self.manifest is not None:
            parameters["manifest_sha256"] = sha256_file(self.manifest)
        return parameters

    def _find_run(self, client: Any, outbox: Outbox, iteration: int, parameters: Mapping[str, str]) -> Any:
        run = remembered_run(client, self.output_dir / RUN_FILE, tracking_uri=self.tracking_uri)
        if run is not None and not iteration and _differs(run.data.params, parameters):
            # Begun anew, with other settings: the curves of a call that was refused are not continued.
            outbox.send(client, str(run.info.run_id))
            client.set_terminated(run.info.run_id, status="FAILED")
            run = None
        self.run_id = continued_or_new(
            client,
            run,
            self.output_dir / RUN_FILE,
            experiment=self.experiment,
            run_name=self.run_name,
            tracking_uri=self.tracking_uri,
        )
        if outbox.send(client, self.run_id):  # what an earlier call could not send comes before what is new
            client.update_run(self.run_id, status="RUNNING")
        if run is not None:
            for name in client.get_run(self.run_id).data.metrics:
                points = client.get_metric_history(self.run_id, name)
                self._recorded[name] = max(point.step for point in points)
        return run

    def _keep_tags(self, tags: Mapping[str, str]) -> None:
        if self._outbox is not None:
            self._outbox.add_tags(tags)

    def _record_beginning(
        self, client: Any, resumed: Any, iteration: int, parameters: Mapping[str, str]
    ) -> None:
        tags = {KIND: "training", **environment_tags(), **self.tags}
        if resumed is not None:
            known = resumed.data.params
            tags["resumed_at_iteration"] = str(iteration)
            tags |= {
                f"changed.{name}": f"{known[name]} -> {value} at iteration {iteration}"
                for name, value in parameters.items()
                if name in known and known[name] != value
            }
            parameters = {name: value for name, value in parameters.items() if name not in known}
        log_values(client, str(self.run_id), parameters=parameters, tags=tags)
        client.log_dict(self.run_id, describe_environment(), "environment.json")
        if self.configuration is not None:
            path = Path(self.configuration)
            client.log_text(self.run_id, anonymous_text(path.read_text()), f"configuration/{path.name}")
        for artifact in self.artifacts:
            log_file(client, str(self.run_id), artifact)

    def log(self, values: Mapping[str, Any], *, step: int) -> None:
        """Record numbers at a step; others are left out, as is a step that the run holds already."""
        now = int(time.time() * 1000)
        points = []
        for name, value in values.items():
            if _is_number(value) and step > self._recorded.get(name, -1):
                self._recorded[name] = step
                points.append((name, float(value), now, step))
        if points and self._outbox is not None and self._sender is not None:
            self._outbox.add_points(points)
            self._sender.wake()

    def log_figure(self, figure: Any, name: str) -> None:
        """Record a matplotlib figure as ``name``, a path with its suffix; one of that name is replaced."""
        from matplotlib import pyplot

        if self._outbox is not None and self._sender is not None:
            path = self._outbox.spool(name)
            try:
                with atomic_path(path) as temporary:
                    figure.savefig(temporary)
                self._outbox.add_file(path, Path(name).parent.as_posix())
                self._sender.wake()
            except (InputError, OSError) as error:
                # Hours of training are worth more than their record.
                self.logger.warning(f"{name} of run {self.run_id} could not be kept: {one_line(error)}")
        pyplot.close(figure)

    def finish(self, status: str = "FINISHED") -> None:
        """Record the weights where there are any, close the run with ``status`` and send what is left.

        What the store does not take now stays in ``output_dir``, and is named in a warning.
        """
        if not self._open or self._outbox is None or self._sender is None:
            return
        self._open = False
        if status == "FINISHED" and self.weights is not None and Path(self.weights).is_file():
            self._outbox.add_tags({"weights_sha256": sha256_file(self.weights)})
            self._outbox.add_file(self.weights, "model")
        self._outbox.add_end(status, int(time.time() * 1000))
        whole = self._sender.finish(hurry=status == "KILLED")
        if lost := self._outbox.lost():
            self.logger.warning(f"MLflow: {lost} in {self.output_dir / UNSENT}; run {self.run_id} lacks them")
        left = len(self._outbox)
        if left and not whole:
            store = without_credentials(self.tracking_uri)
            self.logger.warning(
                f"MLflow has not taken {counted(left, 'record')} of run {self.run_id} yet, kept in "
                f"{self.output_dir / UNSENT}. "
                f"Remedy: once {store} answers, {how_to_complete(self.output_dir)}"
            )


def _inputs(files: Mapping[str, str | os.PathLike[str] | None]) -> dict[str, str]:
    """Return parameters that tell weights apart which a training starts from or is judged by."""
    found: dict[str, str] = {}
    for name, file in files.items():
        found[name] = str(file and Path(file).name)
        if file:
            found[f"{name}_sha256"] = sha256_file(file)
    return found


def _without_twin(output: Mapping[str, Any]) -> Mapping[str, Any]:
    """Leave out MONAI's ``loss`` where it is the generator's, or the only one: one curve twice."""
    loss = CommonKeys.LOSS.value
    others = {name: value for name, value in output.items() if name != loss}
    return others if "generator" in others or len(others) == 1 else output


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


def _differs(recorded: Mapping[str, str], now: Mapping[str, str]) -> bool:
    return any(recorded[name] != now[name] for name in recorded.keys() & now.keys())
