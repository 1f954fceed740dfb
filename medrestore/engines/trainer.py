"""The engine that runs a method's step: device, precision, stages, moving average, checkpoints."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from ignite.engine import Engine, EventEnum, Events
from monai.engines.trainer import Trainer
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from medrestore import rng
from medrestore.checks import InputError, require_in_range
from medrestore.data.processes import join_processes, leave_processes
from medrestore.engines.training_data import TrainingData
from medrestore.files import atomic_path, only_process, require_empty_folder, require_folder
from medrestore.interruption import terminated_as_interrupted
from medrestore.methods.base import Stage, Step
from medrestore.networks.device import require_device
from medrestore.networks.precision import autocast_dtype, require_sound_gradients
from medrestore.networks.weights import describe, load_file, load_state, save_file, save_model
from medrestore.progress import leave_mistakes_to_caller

__all__ = ["CONFIGURATION", "MODEL", "RestorationTrainer", "TrainingEvents"]

CHECKPOINT = "checkpoint.pt"
MODEL = "model.pt"
CONFIGURATION = "config.yaml"
KEPT_BY_OPTIMIZERS = {"initial_lr", "betas", "eps", "weight_decay", "momentum"}
"""Settings that a checkpoint's optimizers bring back, whatever the configuration says."""

MONAI_CONFIGURATION = "config_[0-9]*_[0-9]*.json"
"""What ``python -m monai.bundle run --tracking`` writes into ``output_dir`` before there is a trainer."""


class TrainingEvents(EventEnum):
    """Events of a training that Ignite does not know."""

    FOUND_FINISHED = "found_finished"
    """A run was called that had finished before: what it left undone elsewhere can be done now."""


def _raise(_: Engine, error: BaseException) -> None:
    raise error


def _take_only_value(handler: Any) -> None:
    """Let a handler of MONAI read the losses of this engine, one dictionary.

    MONAI's ``from_engine(["loss"])``, with which ``monai.bundle run --tracking`` adds its handlers, gives the
    value for a list of dictionaries, but a tuple that holds it for one.
    """
    transform = getattr(handler, "output_transform", None)
    if callable(transform):

        def only_value(output: Any) -> Any:
            value = transform(output)
            return value[0] if isinstance(value, tuple) and len(value) == 1 else value

        handler.output_transform = only_value


class RestorationTrainer(Trainer):
    """Train a :class:`~medrestore.methods.base.Step` through its stages, resumable at every epoch.

    Parameters
    ----------
    device
        Where the networks learn.
    step
        The method. Its networks are moved to ``device`` before the first iteration.
    data
        What they learn from.
    stages
        As plain data (see :class:`~medrestore.methods.base.Stage`), in order; those that
        :meth:`~medrestore.methods.base.Step.left` returns are done.
    output_dir
        Gets ``checkpoint.pt`` after every epoch and ``model.pt`` at the end. A folder that holds a checkpoint
        is continued from it; the result is bit-identical to that of a run that was never interrupted (on
        CPU). One that holds other files is refused.
    seed
        Names every random stream: dropout of iteration i is a function of the seed and i alone.
    max_epochs
        Stop after so many epochs, in the midst of the stages; a later run with more continues. All stages
        when not given.
    precision
        ``auto`` | ``fp32`` | ``bf16`` | ``fp16``; see :func:`~medrestore.networks.precision.autocast_dtype`.
    channels_last
        Keep weights and images in channels-last order: faster convolutions.
    accumulation
        Iterations whose gradients are averaged before an optimizer steps.
    ema_decay
        Decay per iteration of the moving average of the weights of ``step.averaged``: the generator's, which
        is what restores.
    compile_networks
        Run the networks through ``torch.compile``.
    parameters
        The configuration, plain values by name: written to ``config.yaml``.
    handlers
        MONAI or Ignite handlers: have ``attach(engine)``.

    Attributes
    ----------
    panel
        Draws some images and what is made of them, as a matplotlib figure: set by a validation.

    Notes
    -----
    Joins the processes that ``torchrun`` started, and leaves them at the end.

    Fires MONAI's ``MODEL_COMPLETED`` after every step, sets ``state.output["loss"]`` to the generator's loss
    (that of the learning network in a stage without it). MONAI's ``AdversarialTrainer`` is no base for this:
    it takes the degraded input for the real image, and its checkpoints do not load.

    Raises
    ------
    InputError
        For stages that no optimizer serves, a checkpoint of another configuration, or a network that cannot
        learn in this order on a CPU (:func:`~medrestore.networks.precision.require_sound_gradients`).
    """

    def __init__(
        self,
        device: torch.device | str,
        step: Step,
        data: TrainingData,
        *,
        stages: Sequence[Mapping[str, Any]],
        output_dir: str | os.PathLike[str],
        seed: int,
        max_epochs: int | None = None,
        precision: str = "auto",
        channels_last: bool = True,
        accumulation: int = 1,
        ema_decay: float = 0.99,
        compile_networks: bool = False,
        parameters: Mapping[str, Any] | None = None,
        handlers: Sequence[Any] | None = None,
    ) -> None:
        require_in_range("accumulation", accumulation, 1, 10**6)
        require_in_range("ema_decay", ema_decay, 0, 1, include_high=False)
        self.stages = step.left(stages)
        planned = sum(stage.epochs for stage in self.stages)
        if max_epochs is not None:
            require_in_range("max_epochs", max_epochs, 1, planned)
        device = require_device(device)
        join_processes(device)
        super().__init__(
            device=device,
            max_epochs=max_epochs or planned,
            data_loader=data.loader(pin_memory=device.type == "cuda"),
            iteration_update=self._iterate,
            decollate=False,
        )
        leave_mistakes_to_caller(self.logger)
        self.step = step
        self.output_dir = require_folder(output_dir, belongs="training")
        self.seed = seed
        self.channels_last = channels_last
        self.accumulation = accumulation
        self.ema_decay = ema_decay
        self.data = data
        self.augmentation = data.augmentation
        self.data_position = data.sampler
        self.model_information = dict(data.model_information)
        self.parameters = dict(parameters or {})
        self.autocast = autocast_dtype(precision, self.state.device)
        self.gradient_scaler = torch.amp.GradScaler(
            self.state.device.type, enabled=self.autocast is torch.float16
        )
        order = torch.channels_last if channels_last else torch.contiguous_format
        for name, network in step.networks.items():
            if channels_last and self.state.device.type == "cpu":
                require_sound_gradients(name, network)
            network.to(self.state.device, memory_format=order)  # type: ignore[call-overload]
        self.averaged = AveragedModel(
            step.networks[step.averaged], multi_avg_fn=get_ema_multi_avg_fn(ema_decay), use_buffers=True
        )
        self.averaged.eval()  # it is never trained
        self._prepare(compile_networks)
        for stage in self.stages:
            step.enter(stage)
        self._stage: Stage | None = None
        self.panel: Callable[[RestorationTrainer], Any] | None = None
        self.register_events(*TrainingEvents)
        self.add_event_handler(Events.EPOCH_STARTED, type(self)._enter_epoch)
        for handler in handlers or ():
            _take_only_value(handler)
            handler.attach(self)
        self.add_event_handler(Events.EPOCH_COMPLETED, type(self).save_checkpoint)
        self.add_event_handler(Events.COMPLETED, type(self).save_model)
        # Ignite swallows an exception when anybody listens to it: listeners only note it, the engine
        # raises it.
        self.add_event_handler(Events.EXCEPTION_RAISED, _raise)

    # ------------------------------------------------------------------ set-up
    def _prepare(self, compile_networks: bool) -> None:
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        for name, network in self.step.networks.items():
            if compile_networks:
                network.compile()
            if distributed and any(True for _ in network.parameters()):  # DDP refuses fixed networks
                self.step.networks[name] = self._distribute(network)
        for optimizer in self.step.optimizers.values():
            for group in optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])

    def _distribute(self, network: nn.Module) -> nn.Module:
        on_gpu = self.state.device.type == "cuda"
        if on_gpu:
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        parallel = nn.parallel.DistributedDataParallel
        # Buffers are kept alike by SyncBatchNorm; a broadcast before each of D's two forward passes would
        # change them under the graph of the first. The switch has a new name from torch 2.13 on.
        new_name = "forward_sync_buffers" in inspect.signature(parallel).parameters
        switch: dict[str, Any] = {"forward_sync_buffers" if new_name else "broadcast_buffers": False}
        return parallel(network, device_ids=[self.state.device] if on_gpu else None, **switch)

    # ------------------------------------------------------------------ an iteration
    def _iterate(self, _: Engine, batch: Mapping[str, Tensor]) -> dict[str, float]:
        state = self.state
        order = torch.channels_last if self.channels_last else torch.contiguous_format
        batch = {
            key: value.to(
                state.device,
                non_blocking=True,
                memory_format=order if value.ndim == 4 else torch.preserve_format,
            )
            for key, value in batch.items()
        }
        if self.augmentation is not None:
            batch = self.augmentation(batch, epoch=state.epoch, iteration=state.iteration)
        self._set_learning_rates()
        with (
            rng.forked(self.seed, "iteration", state.iteration, state.rank, device=state.device),
            self.mixed_precision(),
        ):
            losses = self.step.step(self, batch)
        names = list(losses)
        values = torch.stack([torch.as_tensor(losses[name], dtype=torch.float32) for name in names]).tolist()
        output = dict(zip(names, values, strict=True))
        output[CommonKeys.LOSS.value] = output["generator"] if "generator" in output else sum(values)
        bad = [name for name, value in output.items() if not math.isfinite(value)]
        if bad:
            raise InputError(
                f"iteration {state.iteration}: {', '.join(bad)} is not finite; "
                f"{self.output_dir / CHECKPOINT} holds the last good epoch. "
                "Remedy: lower learning_rate, or use precision fp32"
            )
        if self.step.learns(self.step.averaged):
            self.averaged.update_parameters(self.step.bare(self.step.averaged))
        self.fire_event(IterationEvents.MODEL_COMPLETED)
        return output

    def mixed_precision(self) -> torch.autocast:
        """Return a context in which networks compute in the training's precision."""
        return torch.autocast(
            self.state.device.type, dtype=self.autocast or torch.bfloat16, enabled=self.autocast is not None
        )

    def minimize(self, name: str, loss: Tensor) -> None:
        """Propagate ``loss`` back to network ``name``; step its optimizer every ``accumulation`` times."""
        optimizer = self.step.optimizers[name]
        phase = (self.state.iteration - 1) % self.accumulation
        if phase == 0:
            optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.state.device.type, enabled=False):
            self.gradient_scaler.scale(loss / self.accumulation if self.accumulation > 1 else loss).backward()
        if phase == self.accumulation - 1:
            self.gradient_scaler.step(optimizer)
            self.gradient_scaler.update()

    # ------------------------------------------------------------------ stages
    def stage_of(self, epoch: int) -> tuple[Stage, int]:
        """Return the stage of an epoch (from 1) and the number of epochs before that stage."""
        before = 0
        for stage in self.stages:
            if epoch <= before + stage.epochs:
                return stage, before
            before += stage.epochs
        raise InputError(f"epoch must be at most {before}, got {epoch}")

    def is_due(self, interval: int) -> bool:
        """Say whether what is done every ``interval`` epochs is done after the present one.

        It is after the last epoch too: what is said of a run then holds for its ``model.pt``.
        """
        epoch, last = int(self.state.epoch), int(self.state.max_epochs or 0)
        return epoch % interval == 0 or epoch == last

    def every(self, interval: int) -> Any:
        """Return the event of an epoch's end after which :meth:`is_due` says yes."""
        return Events.EPOCH_COMPLETED(event_filter=lambda _, __: self.is_due(interval))

    def _enter_epoch(self) -> None:
        stage, before = self.stage_of(self.state.epoch)
        self.step.enter(stage)
        if stage is not self._stage:
            self._stage = stage
            self.logger.info(
                f"stage {stage.name}: epochs {before + 1} to {before + stage.epochs}, "
                f"training {', '.join(self.step.learning(stage))}"
            )
        if self.data_position is not None:
            self.data_position.set_epoch(self.state.epoch, batches=stage.batches)

    def _set_learning_rates(self) -> None:
        stage, before = self.stage_of(self.state.epoch)
        done = self.state.iteration - 1 - before * self.state.epoch_length
        factor = stage.learning_rate_factor(done / (stage.epochs * self.state.epoch_length))
        for optimizer in self.step.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor

    # ------------------------------------------------------------------ checkpoints
    def configuration(self) -> dict[str, Any]:
        """Return what a checkpoint must share with the run that continues it: plain values."""
        return {
            "method": self.step.method,
            "seed": self.seed,
            "stages": [
                # Checkpoints from before there was a choice of batches hold the first four; they were mixed.
                [stage.name, stage.epochs, list(stage.train), stage.schedule]
                + ([] if stage.batches == "mixed" else [stage.batches])
                for stage in self.stages
            ],
            "epoch_length": self.state.epoch_length,
            "accumulation": self.accumulation,
            "ema_decay": self.ema_decay,
        }

    def save_checkpoint(self) -> None:
        """Write ``checkpoint.pt``: networks, optimizers, moving average, scaler, sampler position, seed."""
        if self.state.rank != 0:
            return
        save_file(
            {
                "configuration": self.configuration(),
                "epoch": self.state.epoch,
                "iteration": self.state.iteration,
                "step": self.step.state(),
                "averaged_generator": self.averaged.state_dict(),  # the first method's name for it
                "gradient_scaler": self.gradient_scaler.state_dict(),
                "data_position": self.data_position.state_dict() if self.data_position is not None else {},
                # Every random stream is a function of these two (medrestore.rng): there is no other state.
                "random_state": {"seed": self.seed, "iteration": self.state.iteration},
            },
            self.output_dir / CHECKPOINT,
        )

    def load_checkpoint(self) -> None:
        """Continue from ``checkpoint.pt``.

        Raises
        ------
        InputError
            When it was written by another configuration, other networks or settings of optimizers; names the
            difference.
        """
        path = self.output_dir / CHECKPOINT
        checkpoint = load_file(path, device=self.state.device)
        own = self.configuration()
        for key, value in checkpoint["configuration"].items():
            if own.get(key) != value:
                raise InputError(
                    f"{path}: was written with {key} {value}, this run has {own.get(key)}. "
                    "Remedy: use the same configuration to continue it, or another output_dir for a new run"
                )
        for name in self.step.networks:
            load_state(
                self.step.bare(name), checkpoint["step"]["networks"].get(name, {}), path=path, name=name
            )
        for name, optimizer in self.step.optimizers.items():
            state = checkpoint["step"]["optimizers"][name]
            _require_same_settings(optimizer, state, path=path, name=name)
            optimizer.load_state_dict(state)
        self.averaged.load_state_dict(checkpoint["averaged_generator"])
        self.gradient_scaler.load_state_dict(checkpoint["gradient_scaler"])
        if self.data_position is not None:
            self.data_position.load_state_dict(checkpoint["data_position"])
        self.state.epoch, self.state.iteration = checkpoint["epoch"], checkpoint["iteration"]

    def _tell_what_changed(self) -> None:
        """Warn of numbers that are not those the folder's run began with."""
        if self.state.rank != 0 or not (self.output_dir / CONFIGURATION).exists():
            return
        before = yaml.safe_load((self.output_dir / CONFIGURATION).read_text()) or {}
        for key, value in self.parameters.items():
            if before.get(key, value) != value:
                then = f"was {before[key]} up to epoch {self.state.epoch}"
                self.logger.warning(f"{self.output_dir}: {key} {then}, and is {value}")

    def save_model(self) -> None:
        """Write ``model.pt``: the averaged network and the other ones, each with its architecture."""
        if self.state.rank != 0:
            return
        networks = {name: describe(self.step.bare(name)) for name in self.step.networks}
        averaged = self.averaged.module.state_dict()
        networks[self.step.averaged]["state"] = {
            name: value.detach().cpu().clone() for name, value in averaged.items()
        }
        information = {**self.model_information, "method": self.step.method}
        save_model(information, networks, self.output_dir / MODEL)

    def _claim_folder(self) -> None:
        """Write the configuration; that of a run which left no checkpoint claims nothing."""
        folder = require_empty_folder(
            self.output_dir, belongs="training", marker=CONFIGURATION, tolerated=[MONAI_CONFIGURATION]
        )
        if (folder / MODEL).exists():
            raise InputError(
                f"{folder / MODEL}: is of another run that left no {CHECKPOINT}; nothing is overwritten. "
                "Remedy: name another output_dir, or move the file away"
            )
        with atomic_path(folder / CONFIGURATION) as temporary:
            temporary.write_text(yaml.safe_dump(self.parameters, sort_keys=False))

    def run(self) -> None:
        """Train, from the last checkpoint where there is one; a finished run is left as it is.

        Raises
        ------
        InputError
            When another process trains in ``output_dir``, or it holds something else.
        KeyboardInterrupt
            After Ctrl-C or SIGTERM; says how to continue.
        """
        # One process in the folder: of several that train together the first writes, and holds it for all.
        alone = only_process(self.output_dir, work="training") if self.state.rank == 0 else nullcontext()
        with alone, terminated_as_interrupted():
            try:
                self._train()
                leave_processes()
            except KeyboardInterrupt as interrupt:
                raise type(interrupt)(self._how_to_continue()) from interrupt

    def _how_to_continue(self) -> str:
        if not (self.output_dir / CHECKPOINT).exists():
            return f"{self.output_dir}: interrupted in the first epoch. Begin anew with the same call"
        return (
            f"{self.output_dir}: interrupted in epoch {self.state.epoch} of {self.state.max_epochs}; "
            f"{CHECKPOINT} holds the last whole epoch. Continue with the same call"
        )

    def _train(self) -> None:
        if (self.output_dir / CHECKPOINT).exists():
            self.load_checkpoint()
            self._tell_what_changed()
            if self.state.epoch >= self.state.max_epochs:
                if not (self.output_dir / MODEL).exists():
                    # Killed between the last epoch and its end: let the handlers record that epoch, and
                    # close what they hold open.
                    self.fire_event(Events.STARTED)
                    self.fire_event(Events.EPOCH_COMPLETED)
                    self.fire_event(Events.COMPLETED)
                else:
                    self.fire_event(TrainingEvents.FOUND_FINISHED)
                self.logger.info(f"{self.output_dir}: finished before, nothing to do")
                return
            self.logger.info(f"continuing after epoch {self.state.epoch} of {self.state.max_epochs}")
        elif self.state.rank == 0:
            self._claim_folder()
        # Trainer.run would make a second, disabled-by-default scaler; the engine's own scaler serves fp16.
        super(Trainer, self).run()


def _require_same_settings(
    optimizer: torch.optim.Optimizer, state: Mapping[str, Any], *, path: Path, name: str
) -> None:
    """Refuse settings of an optimizer that its state in a checkpoint would put back without a word."""
    for own, group in zip(optimizer.param_groups, state["param_groups"], strict=False):
        for key in sorted(KEPT_BY_OPTIMIZERS & own.keys() & group.keys()):
            if np.any(np.not_equal(own[key], group[key])):
                raise InputError(
                    f"{path}: the optimizer of {name} was made with {key} {group[key]}, this run has "
                    f"{own[key]}. Remedy: use the same configuration to continue it, or another output_dir "
                    "for a new run"
                )
