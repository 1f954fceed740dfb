"""Validation of a super-resolution during its training: fidelity of each patient's tiles, and a panel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medrestore.checks import require_in_range
from medrestore.engines.trainer import RestorationTrainer

__all__ = ["SuperResolutionValidation"]

SHOWN_PATIENTS = 4


class SuperResolutionValidation:
    """Restore the validation tiles with the averaged generator after every ``interval`` epochs and the last.

    Adds to the trainer's ``state.metrics``, each over a patient's tiles together and then averaged over
    patients: ``validation_psnr`` (dB, data range 1), ``validation_rrmse`` (the norm of the error over that of
    the target) and ``validation_psnr_gain`` (dB above the bicubic enlargement of the input). In an epoch in
    which no generator learns, nothing is restored.

    Parameters
    ----------
    data_loader
        Validation tiles: ``image`` (B, 3, h, w), ``label`` (B, 3, H, W) in [0, 1] and ``volume_index``, the
        patient; for a panel, its dataset's ``volume`` (of each tile).
    interval
        Epochs between two validations; there is one after the last epoch in any case.

    Raises
    ------
    InputError
        For an interval below 1.
    """

    def __init__(self, data_loader: Iterable[Mapping[str, Tensor]], *, interval: int = 1) -> None:
        require_in_range("interval", interval, 1, 10**6)
        self.data_loader = data_loader
        self.interval = interval
        self._enlarged: dict[int, float] = {}  # squared error of the bicubic enlargement: it never changes

    def attach(self, trainer: RestorationTrainer) -> None:
        """Validate ``trainer`` at the end of epochs in which its generator learns."""
        trainer.add_event_handler(trainer.every(self.interval), self._validate)

    def _validate(self, trainer: RestorationTrainer) -> None:
        if trainer.state.rank != 0 or not trainer.step.learns("generator"):
            return
        network = trainer.averaged.module.eval()
        first = not self._enlarged
        sums: dict[int, list[float]] = {}  # of a patient: squared error, squared target, number of values
        for batch in self.data_loader:
            target = batch["label"].to(trainer.state.device)
            restored = _restore(network, batch["image"], trainer)
            squared = [(restored - target).square().flatten(1).sum(1), target.square().flatten(1).sum(1)]
            if first:
                squared.append((_enlarge(batch["image"], target) - target).square().flatten(1).sum(1))
            for patient, values in zip(
                batch["volume_index"].tolist(), torch.stack(squared, dim=1).tolist(), strict=True
            ):
                held = sums.setdefault(patient, [0.0, 0.0, 0.0])
                held[0] += values[0]
                held[1] += values[1]
                held[2] += target[0].numel()
                if first:
                    self._enlarged[patient] = self._enlarged.get(patient, 0.0) + values[2]
        error, signal, count = np.array(list(sums.values())).T
        enlarged = np.array([self._enlarged[patient] for patient in sums])
        trainer.state.metrics |= {
            "validation_psnr": float(np.mean(10 * np.log10(count / error))),
            "validation_rrmse": float(np.mean(np.sqrt(error / signal))),
            "validation_psnr_gain": float(np.mean(10 * np.log10(enlarged / error))),
        }

    def panel(self, trainer: RestorationTrainer) -> Any:
        """Draw the first tile of up to four patients: enlarged, restored, target, absolute difference.

        Returns None in an epoch without validation or without a generator that learns.
        """
        if not trainer.is_due(self.interval) or not trainer.step.learns("generator"):
            return None
        from matplotlib.figure import Figure

        dataset: Any = self.data_loader.dataset  # type: ignore[attr-defined]
        chosen = np.unique(dataset.volume, return_index=True)[1][:SHOWN_PATIENTS]
        batch = dataset.__getitems__(chosen)
        restored = _restore(trainer.averaged.module.eval(), batch["image"], trainer).cpu()
        enlarged = _enlarge(batch["image"], restored)
        figure = Figure(figsize=(8.4, 0.5 + 2.05 * len(chosen)), layout="constrained")
        axes = figure.subplots(len(chosen), 4, squeeze=False)
        for row, pictures in zip(axes, zip(enlarged, restored, batch["label"], strict=True), strict=True):
            difference = (pictures[1] - pictures[2]).abs().mean(0)
            for axis, picture, title in zip(row, pictures, ("bicubic", "restored", "target"), strict=False):
                axis.imshow(picture.clamp(0, 1).permute(1, 2, 0).numpy(), interpolation="nearest")
                axis.set_title(title if axis in axes[0] else "", fontsize=10)
            row[3].imshow(difference.numpy(), cmap="magma", vmin=0, vmax=0.25, interpolation="nearest")
            row[3].set_title("|difference|, 0 to .25" if row[3] in axes[0] else "", fontsize=10)
            for axis in row:
                axis.set_axis_off()
        figure.suptitle(f"validation, epoch {trainer.state.epoch}", fontsize=10)
        return figure


def _restore(network: nn.Module, images: Tensor, trainer: RestorationTrainer) -> Tensor:
    """Return the restored tiles in [0, 1], float32, on the trainer's device."""
    with torch.inference_mode(), trainer.mixed_precision():
        restored: Tensor = network(images.to(trainer.state.device))
    return restored.float().clamp(0, 1)


def _enlarge(images: Tensor, like: Tensor) -> Tensor:
    """Return the bicubic enlargement to the size of ``like``, in [0, 1]."""
    enlarged = nn.functional.interpolate(
        images.to(like.device), size=like.shape[-2:], mode="bicubic", align_corners=False
    )
    return enlarged.clamp(0, 1)
