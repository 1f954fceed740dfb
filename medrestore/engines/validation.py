"""Validation during a training: image quality, T, and the observer that the generator never sees."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from monai.engines.evaluator import SupervisedEvaluator
from numpy.typing import NDArray
from torch import Tensor, nn

from medrestore.checks import require_in_range
from medrestore.engines.trainer import RestorationTrainer
from medrestore.networks.weights import load_network
from medrestore.progress import leave_mistakes_to_caller

__all__ = ["Validation"]


class Validation:
    """Restore the validation slices with the averaged generator after every ``interval`` epochs and the last.

    Adds to the trainer's ``state.metrics``: ``validation_psnr`` (dB, over each volume's slices together,
    data range = maximum of the volume's target, mean over volumes), ``validation_l1``, and the mean of the
    ``error`` per slice of T and of the observer, ``validation_task_mae`` and ``validation_observer_mae``.

    Parameters
    ----------
    data_loader
        Validation slices: ``image``, ``label``, ``volume_index`` and the label column; for a panel, its
        dataset's ``labels``, ``volume`` (of each slice) and ``shown_channel`` (of ``image``).
    label_column
        Key of y.
    interval
        Epochs between two validations; there is one after the last epoch in any case.
    observer
        ``model.pt`` of a run that trained a classifier of T's kind with another seed; its network ``task`` is
        the independent observer. Without it, only T is reported.
    tolerated_gap
        Warn when, relative to what each says of the targets, the observer's error exceeds T's by more. T then
        finds in the restorations what an outsider does not: G has learned to please T.
    colors
        Of the panel's images: a color map of matplotlib.

    Raises
    ------
    InputError
        For an interval below 1 or an observer that cannot be loaded.
    """

    def __init__(
        self,
        data_loader: Iterable[Mapping[str, Tensor]],
        *,
        label_column: str,
        interval: int = 1,
        observer: str | os.PathLike[str] | None = None,
        tolerated_gap: float = 0.1,
        colors: str = "gray_r",
    ) -> None:
        require_in_range("interval", interval, 1, 10**6)
        self.data_loader = data_loader
        self.label_column = label_column
        self.interval = interval
        self.observer = load_network(observer, "task") if observer else None
        self.tolerated_gap = tolerated_gap
        self.colors = colors
        self._observer_on_target: float | None = None

    def attach(self, trainer: RestorationTrainer) -> None:
        """Validate ``trainer`` at the end of epochs in which its generator learns."""
        if self.observer is not None:
            self.observer.to(trainer.state.device)
        trainer.add_event_handler(trainer.every(self.interval), self._validate)

    def _validate(self, trainer: RestorationTrainer) -> None:
        if trainer.state.rank != 0:
            return
        taught = any("task" in stage.train for stage in trainer.stages)
        judges = {"task": trainer.step.bare("task")} if taught else {}
        if self.observer is not None:
            judges["observer"] = self.observer
        generator = trainer.averaged.module if trainer.step.learns("generator") else None
        sums = self._run(trainer, generator, judges)
        trainer.state.metrics.update(sums)
        self._warn(trainer, sums)

    def _run(
        self, trainer: RestorationTrainer, generator: nn.Module | None, judges: Mapping[str, nn.Module]
    ) -> dict[str, float]:
        squared: dict[int, list[float]] = {}
        total: dict[str, float] = {}
        used = [*judges.values(), *([generator] if generator is not None else [])]
        modes = {network: network.training for network in used}
        for network in used:
            network.eval()  # an evaluator with an update of its own leaves that to it, and the gradients

        def restore(_: Any, batch: Mapping[str, Tensor]) -> dict[str, float]:
            batch = {key: value.to(trainer.state.device) for key, value in batch.items()}
            target, labels = batch["label"].float(), batch[self.label_column]
            with torch.inference_mode(), trainer.mixed_precision():
                restored = generator(batch["image"]).float() if generator is not None else None
                for name, judge in judges.items():
                    for image, of in ((restored, ""), (target, "_target")):
                        if image is not None:
                            error = judge.error(image, labels).sum()  # type: ignore[operator]
                            total[f"{name}_mae{of}"] = total.get(f"{name}_mae{of}", 0.0) + error.item()
            total["slices"] = total.get("slices", 0) + len(target)
            if restored is not None:
                error = (restored - target).flatten(1)
                total["l1"] = total.get("l1", 0.0) + error.abs().mean(1).sum().item()
                rows = zip(
                    batch["volume_index"].tolist(),
                    error.square().sum(1).tolist(),
                    target.flatten(1).amax(1).tolist(),
                    strict=True,
                )
                for volume, square, peak in rows:
                    entry = squared.setdefault(volume, [0.0, 0.0, 0.0])
                    entry[0] += square
                    entry[1] += error.shape[1]
                    entry[2] = max(entry[2], peak)
            return {}

        evaluator = SupervisedEvaluator(
            device=trainer.state.device,
            val_data_loader=self.data_loader,
            network=generator if generator is not None else nn.Identity(),
            iteration_update=restore,
            decollate=False,
        )
        evaluator.logger.setLevel("WARNING")
        leave_mistakes_to_caller(evaluator.logger)
        evaluator.run()
        for network, training in modes.items():
            network.train(training)
        count = total.pop("slices")
        metrics = {f"validation_{name}": value / count for name, value in total.items()}
        if squared:
            psnr = [
                10 * torch.log10(torch.tensor(n * peak**2 / square)).item()
                for square, n, peak in squared.values()
            ]
            metrics["validation_psnr"] = sum(psnr) / len(psnr)
        return metrics

    def panel(self, trainer: RestorationTrainer) -> Any:
        """Draw degraded, restored, target and difference of a slice of each class, as a matplotlib figure.

        Returns None in an epoch without validation or without a generator that learns.
        """
        if not trainer.is_due(self.interval) or not trainer.step.learns("generator"):
            return None
        from matplotlib.figure import Figure

        dataset: Any = self.data_loader.dataset  # type: ignore[attr-defined]
        batch = dataset.__getitems__(_one_of_each_class(dataset.labels, dataset.volume))
        generator = trainer.averaged.module.eval()
        with torch.inference_mode():
            restored = generator(batch["image"].to(trainer.state.device)).float().cpu()
        figure = Figure(figsize=(8, 0.5 + 1.9 * len(restored)), layout="constrained")
        axes = figure.subplots(len(restored), 4, squeeze=False)
        for row, target, image, degraded in zip(axes, batch["label"], restored, batch["image"], strict=True):
            peak = float(target.max())
            shown = (degraded[dataset.shown_channel], image[0], target[0], image[0] - target[0])
            for axis, picture, title in zip(
                row, shown, ("degraded", "restored", "target", "difference"), strict=True
            ):
                low, colors = (-peak / 2, "RdBu_r") if title == "difference" else (0, self.colors)
                axis.imshow(
                    picture.numpy().T, origin="lower", cmap=colors, vmin=low, vmax=peak / 2 if low else peak
                )
                axis.set_title(title if axis in axes[0] else "", fontsize=10)
                axis.set_axis_off()
        figure.suptitle(f"validation, epoch {trainer.state.epoch}", fontsize=10)
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
                "Remedy: lower task_weight, or set task_update to real_only"
            )


def _one_of_each_class(labels: NDArray[Any], volume: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return, for each class, the middle slice of one of its volumes; another volume for the next class."""
    chosen = []
    for number, kind in enumerate(np.unique(labels)):
        members = np.flatnonzero(labels == kind)
        volumes = np.unique(volume[members])
        own = members[volume[members] == volumes[number % len(volumes)]]
        chosen.append(own[len(own) // 2])
    return np.array(chosen)
