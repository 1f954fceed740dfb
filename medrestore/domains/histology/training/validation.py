"""What a validation measures and shows of super-resolved tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medrestore.domains.histology.consistency import range_of, residual_rmse
from medrestore.engines.training_data import Pair
from medrestore.operators.resampling import Subsampling

__all__ = ["TileMeasures"]

SHOWN_PATIENTS = 4


class TileMeasures:
    """Fidelity over a patient's tiles together, averaged over patients.

    ``psnr`` (dB, data range 1), ``rrmse`` (the norm of the error over that of the target) and ``psnr_gain``
    (dB above the bicubic enlargement of the input). Batches have ``image`` (B, 3, h, w), ``label``
    (B, 3, H, W) in [0, 1] and ``volume_index``, the patient; for a panel, their dataset has ``volume`` (of
    each tile).

    Parameters
    ----------
    reductions
        That the network is to undo. Where there are some, ``residual_rmse`` is the mean over tiles of
        :func:`~medrestore.domains.histology.consistency.residual_rmse`; ``model.pt`` holds its range.
    """

    caption = ""

    def __init__(self, reductions: Sequence[Subsampling] = ()) -> None:
        self.reductions = reductions
        self.information: Mapping[str, Any] = {}
        self._enlarged: dict[int, float] = {}  # squared error of the bicubic enlargement: it never changes

    def measure(self, pairs: Iterable[Pair]) -> dict[str, float]:
        """Return the means over patients."""
        first = not self._enlarged
        residuals: list[dict[str, float]] = []
        sums: dict[int, list[float]] = {}  # of a patient: squared error, squared target, number of values
        for batch, output in pairs:
            target, restored = batch["label"], output.clamp(0, 1)
            if self.reductions:
                residuals += [
                    {"residual_rmse": residual_rmse(one, given, self.reductions)}
                    for one, given in zip(_levels(restored), _levels(batch["image"]), strict=True)
                ]
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
        if not sums:
            return {}
        self.information = range_of(residuals)
        residual = [found["residual_rmse"] for found in residuals]
        error, signal, count = np.array(list(sums.values())).T
        enlarged = np.array([self._enlarged[patient] for patient in sums])
        return {
            "psnr": float(np.mean(10 * np.log10(count / error))),
            "rrmse": float(np.mean(np.sqrt(error / signal))),
            "psnr_gain": float(np.mean(10 * np.log10(enlarged / error))),
            **({"residual_rmse": float(np.mean(residual))} if residual else {}),
        }

    def draw(self, data_loader: Any, restore: Callable[[Tensor], Tensor]) -> Any:
        """Draw the first tile of up to four patients: enlarged, restored, target, absolute difference."""
        from matplotlib.figure import Figure

        dataset = data_loader.dataset
        chosen = np.unique(dataset.volume, return_index=True)[1][:SHOWN_PATIENTS]
        batch = dataset.__getitems__(chosen)
        restored = restore(batch["image"]).clamp(0, 1)
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
        return figure


def _levels(images: Tensor) -> NDArray[np.uint8]:
    """Return images (B, 3, H, W) in [0, 1] as (B, H, W, 3) uint8: as a restoration is written."""
    return images.mul(255).round().to(torch.uint8).movedim(1, -1).contiguous().numpy(force=True)


def _enlarge(images: Tensor, like: Tensor) -> Tensor:
    """Return the bicubic enlargement to the size of ``like``, in [0, 1]."""
    enlarged = nn.functional.interpolate(images, size=like.shape[-2:], mode="bicubic", align_corners=False)
    return enlarged.clamp(0, 1)
