"""Validation during a training: numbers of a kind of image, T, and the observer that no generator sees."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from medrestore.checks import InputError, require_in_range
from medrestore.engines.trainer import RestorationTrainer
from medrestore.engines.training_data import Pair, TrainingData
from medrestore.networks.weights import load_network

__all__ = ["Validation"]


class Validation:
    """Run the averaged network on validation images after every ``interval`` epochs and the last.

    Adds to the trainer's ``state.metrics``, each after ``validation_``: the numbers of ``measures`` in epochs
    in which that network learns, and the mean of the ``error`` per image of T, where a stage trains it, and
    of the observer, ``task_mae`` and ``observer_mae``; with ``_target`` at the end, of the targets.

    Parameters
    ----------
    data
        Validation images.
    interval
        Epochs between two validations; there is one after the last epoch in any case.
    observer
        ``model.pt`` of a run that trained a classifier of T's kind with another seed; its network ``task`` is
        the independent observer. Without it, only T is reported.
    tolerated_gap
        Warn when, relative to what each says of the targets, the observer's error exceeds T's by more. T then
        finds in the restorations what an outsider does not: G has learned to please T.

    Raises
    ------
    InputError
        For an interval below 1, or an observer that cannot be loaded or has no label column.
    """

    def __init__(
        self,
        data: TrainingData,
        *,
        interval: int = 1,
        observer: str | os.PathLike[str] | None = None,
        tolerated_gap: float = 0.1,
    ) -> None:
        require_in_range("interval", interval, 1, 10**6)
        if observer and data.label_column is None:
            raise InputError("an observer is given without label_column. Remedy: name the key of y")
        self.data_loader = data.validation_loader
        self.measures = data.measures
        self.label_column = data.label_column
        self.interval = interval
        self.observer = load_network(observer, "task") if observer else None
        self.tolerated_gap = tolerated_gap
        self.full_precision = data.full_precision

    def attach(self, trainer: RestorationTrainer) -> None:
        """Validate ``trainer`` at the end of epochs."""
        if self.observer is not None:
            self.observer.to(trainer.state.device)
        trainer.add_event_handler(trainer.every(self.interval), self._validate)
        trainer.panel = self.panel

    def _validate(self, trainer: RestorationTrainer) -> None:
        if trainer.state.rank != 0:
            return
        judges: dict[str, Any] = {}
        taught = trainer.step.given.union(*(stage.train for stage in trainer.stages))
        if self.label_column is not None and "task" in taught:
            judges["task"] = trainer.step.bare("task")
        if self.observer is not None:
            judges["observer"] = self.observer
        metrics = self._run(trainer, self._network(trainer), judges)
        trainer.state.metrics.update(metrics)
        self._warn(trainer, metrics)

    def _network(self, trainer: RestorationTrainer) -> nn.Module | None:
        """Return the averaged network where it learns."""
        return trainer.averaged.module if trainer.step.learns(trainer.step.averaged) else None

    def _run(
        self, trainer: RestorationTrainer, network: nn.Module | None, judges: Mapping[str, Any]
    ) -> dict[str, float]:
        used = [*judges.values(), *([network] if network is not None else [])]
        if not used:
            return {}
        modes = {each: each.training for each in used}
        for each in used:
            each.eval()
        errors: dict[str, float] = {}
        pairs = self._pairs(trainer, network, judges, errors)
        numbers = self.measures.measure(pairs)
        for each, training in modes.items():
            each.train(training)
        return {f"validation_{name}": value for name, value in (errors | numbers).items()}

    def _pairs(
        self,
        trainer: RestorationTrainer,
        network: nn.Module | None,
        judges: Mapping[str, Any],
        errors: dict[str, float],
    ) -> Iterator[Pair]:
        """Yield what the network makes of each batch; note the judges' mean errors when all is read."""
        total: dict[str, float] = {}
        count = 0
        for given in self.data_loader:
            batch = {key: value.to(trainer.state.device) for key, value in given.items()}
            target = batch["label"].float()
            with torch.inference_mode(), self._precision(trainer):
                restored = network(batch["image"]).float() if network is not None else None
                for name, judge in judges.items():
                    for image, of in ((restored, ""), (target, "_target")):
                        if image is not None:
                            error = judge.error(image, batch[str(self.label_column)]).sum().item()
                            total[f"{name}_mae{of}"] = total.get(f"{name}_mae{of}", 0.0) + error
            count += len(target)
            if restored is not None:
                yield batch, restored
        errors.update({name: value / count for name, value in total.items()})

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

    def _warn(self, trainer: RestorationTrainer, metrics: Mapping[str, float]) -> None:
        if not {"validation_observer_mae", "validation_task_mae"} <= set(metrics):
            return
        observer = metrics["validation_observer_mae"] - metrics["validation_observer_mae_target"]
        task = metrics["validation_task_mae"] - metrics["validation_task_mae_target"]
        metrics_gap = observer - task
        trainer.state.metrics["validation_observer_task_gap"] = metrics_gap
        if metrics_gap > self.tolerated_gap:
            trainer.logger.warning(
                f"epoch {trainer.state.epoch}: T and the independent observer part: on restored images, "
                f"relative to targets, T errs by {task:+.3f} and the observer by {observer:+.3f} per "
                "slice. The generator is learning to please T. "
                "Remedy: lower task_weight, or let no stage train task beside generator"
            )
