"""Validation during a training: numbers of a kind of image, T, and the observer that no generator sees."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medrestore.checks import InputError, require_in_range
from medrestore.engines.trainer import RestorationTrainer
from medrestore.engines.training_data import Pair, TrainingData
from medrestore.methods.base import Task
from medrestore.networks.weights import load_network

__all__ = ["Validation"]


@dataclass(frozen=True)
class _Judge:
    """A network that says how wrong images are, and what it is asked."""

    network: Any
    task: Task

    def errors(self, images: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the error of each image that has an answer; none of a batch without the label."""
        if self.task.label_column not in batch:
            return images.new_zeros(0)
        known, y = self.task.known(batch), batch[self.task.label_column]
        if known is not None:
            images, y = images[known], y[known]
        found: Tensor = self.network.error(images, y) if len(images) else images.new_zeros(0)
        return found


def _observer_of(name: str) -> str:
    """Return how metrics call the observer of a T."""
    return "observer" if name == "task" else f"{name}_observer"


class Validation:
    """Run the averaged network on validation images after every ``interval`` epochs and the last.

    Adds to the trainer's ``state.metrics``, each after ``validation_``: the numbers of ``measures`` in epochs
    in which that network learns, and the mean of the ``error`` per image of each T that a stage trains or
    that comes trained, and of its observer: ``task_mae`` and ``observer_mae``, of a T of another name
    ``NAME_mae`` and ``NAME_observer_mae``; with ``_target`` at the end, of the targets.

    Parameters
    ----------
    data
        Validation images.
    interval
        Epochs between two validations; there is one after the last epoch in any case.
    observers
        By the name of a T, ``model.pt`` of a run that trained a network of its kind with another seed: the
        independent observer. Without it, only T is reported.
    tolerated_gap
        Warn when, relative to what each says of the targets, the observer's error exceeds T's by more. T then
        finds in the restorations what an outsider does not: G has learned to please T.

    Raises
    ------
    InputError
        For an interval below 1, or an observer that cannot be loaded or is of no T of the method.
    """

    def __init__(
        self,
        data: TrainingData,
        *,
        interval: int = 1,
        observers: Mapping[str, str | os.PathLike[str] | None] | None = None,
        tolerated_gap: float = 0.1,
    ) -> None:
        require_in_range("interval", interval, 1, 10**6)
        self.data_loader = data.validation_loader
        self.measures = data.measures
        self.interval = interval
        self.given = {name: path for name, path in (observers or {}).items() if path}
        self.observers: dict[str, nn.Module] = {}
        self.tolerated_gap = tolerated_gap
        self.full_precision = data.full_precision

    def attach(self, trainer: RestorationTrainer) -> None:
        """Validate ``trainer`` at the end of epochs."""
        tasks = trainer.step.tasks
        for name, path in self.given.items():
            if name not in tasks:
                raise InputError(f"an observer is given for {name!r}, but the method has T {sorted(tasks)}")
            network = load_network(path, tasks[name].trained_as or name)
            self.observers[name] = network.to(trainer.state.device)
        trainer.add_event_handler(trainer.every(self.interval), self._validate)
        trainer.panel = self.panel

    def _validate(self, trainer: RestorationTrainer) -> None:
        if trainer.state.rank != 0:
            return
        judges: dict[str, _Judge] = {}
        taught = trainer.step.given.union(*(stage.train for stage in trainer.stages))
        tasks = trainer.step.tasks
        for name, task in tasks.items():
            if name in taught:
                judges[name] = _Judge(trainer.step.bare(name), task)
            if name in self.observers:
                judges[_observer_of(name)] = _Judge(self.observers[name], task)
        metrics = self._run(trainer, self._network(trainer), judges)
        trainer.state.metrics.update(metrics)
        for name in tasks:
            self._warn(trainer, metrics, name)

    def _network(self, trainer: RestorationTrainer) -> nn.Module | None:
        """Return the averaged network where it learns."""
        return trainer.averaged.module if trainer.step.learns(trainer.step.averaged) else None

    def _run(
        self, trainer: RestorationTrainer, network: nn.Module | None, judges: Mapping[str, _Judge]
    ) -> dict[str, float]:
        used = [*(judge.network for judge in judges.values()), *([network] if network is not None else [])]
        if not used:
            return {}
        modes = {each: each.training for each in used}
        for each in used:
            each.eval()
        errors: dict[str, float] = {}
        pairs = self._pairs(trainer, network, judges, errors)
        numbers = self.measures.measure(pairs)
        if self.measures.information:
            seen = trainer.model_information.get("training_range", {})
            trainer.model_information["training_range"] = {**seen, **self.measures.information}
        for each, training in modes.items():
            each.train(training)
        return {f"validation_{name}": value for name, value in (errors | numbers).items()}

    def _pairs(
        self,
        trainer: RestorationTrainer,
        network: nn.Module | None,
        judges: Mapping[str, _Judge],
        errors: dict[str, float],
    ) -> Iterator[Pair]:
        """Yield what the network makes of each batch; note the judges' mean errors when all is read."""
        total: dict[str, float] = {}
        counts: dict[str, int] = {}
        for given in self.data_loader:
            batch = {key: value.to(trainer.state.device) for key, value in given.items()}
            target = batch["label"].float()
            with torch.inference_mode(), self._precision(trainer):
                restored = network(batch["image"]).float() if network is not None else None
                for name, judge in judges.items():
                    for image, of in ((restored, ""), (target, "_target")):
                        if image is not None:
                            found = judge.errors(image, batch)
                            key = f"{name}_mae{of}"
                            total[key] = total.get(key, 0.0) + found.sum().item()
                            counts[key] = counts.get(key, 0) + len(found)
            if restored is not None:
                yield batch, restored
        errors.update({name: value / counts[name] for name, value in total.items() if counts[name]})

    def _precision(self, trainer: RestorationTrainer) -> Any:
        return nullcontext() if self.full_precision else trainer.mixed_precision()

    def panel(self, trainer: RestorationTrainer) -> Any:
        """Draw some validation images and what is made of them, as a matplotlib figure.

        Returns None in an epoch without validation or in which the network does not learn.
        """
        network = self._network(trainer)
        if network is None or not trainer.is_due(self.interval):
            return None
        network.eval()

        def restore(images: Tensor) -> Tensor:
            with torch.inference_mode(), self._precision(trainer):
                restored: Tensor = network(images.to(trainer.state.device))
            return restored.float().cpu()

        figure = self.measures.draw(self.data_loader, restore)
        title = f"validation, epoch {trainer.state.epoch}{self.measures.caption}"
        figure.suptitle(title, fontsize=10)
        return figure

    def _warn(self, trainer: RestorationTrainer, metrics: Mapping[str, float], name: str) -> None:
        of_observer, of_task = f"validation_{_observer_of(name)}_mae", f"validation_{name}_mae"
        if not {of_observer, of_task} <= set(metrics):
            return
        observer = metrics[of_observer] - metrics[f"{of_observer}_target"]
        task = metrics[of_task] - metrics[f"{of_task}_target"]
        metrics_gap = observer - task
        trainer.state.metrics[f"validation_{_observer_of(name)}_task_gap"] = metrics_gap
        if metrics_gap > self.tolerated_gap:
            of = "" if name == "task" else f" ({name})"
            trainer.logger.warning(
                f"epoch {trainer.state.epoch}: T{of} and the independent observer part: on restored images, "
                f"relative to targets, T errs by {task:+.3f} and the observer by {observer:+.3f} per "
                "slice. The generator is learning to please T. "
                f"Remedy: lower {name}_weight, or let no stage train {name} beside generator"
            )
