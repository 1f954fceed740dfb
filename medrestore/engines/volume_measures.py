"""What a validation measures and shows of slices of volumes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrestore.engines.training_data import Pair

__all__ = ["VolumeMeasures"]

SHOWN_CLASSES = 8


@dataclass
class VolumeMeasures:
    """``psnr`` (dB, over each volume's slices together, data range = its target's maximum, mean) and ``l1``.

    Batches have ``label`` and ``volume_index``; for a panel, their dataset has ``labels``, ``volume`` (of
    each slice) and ``shown_channel`` (of ``image``).

    Parameters
    ----------
    colors
        Of the panel's images: a color map of matplotlib.
    groups
        Of volumes, by ``volume_index``: ``psnr_GROUP`` too, where there are several.
    """

    colors: str = "gray_r"
    caption: str = ""
    groups: Sequence[str] = ()

    @property
    def information(self) -> Mapping[str, Any]:
        """What ``model.pt`` is to say of validation: nothing."""
        return {}

    def measure(self, pairs: Iterable[Pair]) -> dict[str, float]:
        """Return the mean PSNR of volumes and the mean absolute error of slices."""
        squared: dict[int, list[float]] = {}
        total, count = 0.0, 0
        for batch, restored in pairs:
            target = batch["label"].float()
            error = (restored - target).flatten(1)
            total += error.abs().mean(1).sum().item()
            count += len(target)
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
        if not squared:
            return {}
        psnr = {
            volume: 10 * torch.log10(torch.tensor(n * peak**2 / square)).item()
            for volume, (square, n, peak) in squared.items()
        }
        found = {"l1": total / count, "psnr": sum(psnr.values()) / len(psnr)}
        if len(set(self.groups)) > 1:
            for group in dict.fromkeys(self.groups):
                held = [value for volume, value in psnr.items() if self.groups[volume] == group]
                found |= {f"psnr_{group}": sum(held) / len(held)} if held else {}
        return found

    def draw(self, data_loader: Any, restore: Callable[[Tensor], Tensor]) -> Any:
        """Draw degraded, restored, target and difference of a slice of each class."""
        from matplotlib.figure import Figure

        dataset = data_loader.dataset
        batch = dataset.__getitems__(_one_of_each_class(dataset.labels, dataset.volume))
        restored = restore(batch["image"])
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
        return figure


def _one_of_each_class(labels: NDArray[Any], volume: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the middle slice of a volume of each of the first classes, as far as can be of other volumes."""
    chosen = []
    for number, kind in enumerate(np.unique(labels)[:SHOWN_CLASSES]):
        members = np.flatnonzero(labels == kind)
        volumes = np.unique(volume[members])
        own = members[volume[members] == volumes[number % len(volumes)]]
        chosen.append(own[len(own) // 2])
    return np.array(chosen)
