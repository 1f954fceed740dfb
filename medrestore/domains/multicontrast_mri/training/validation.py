"""What a validation measures and shows of a segmenter: Dice of each volume."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from medrestore.engines.training_data import Pair

__all__ = ["LesionMeasures"]


class LesionMeasures:
    """``dice``, the overlap of found and true lesions over each volume's slices together.

    It is the mean over the volumes that have lesions; ``false_positive_pixels`` that over those that have
    none, where there are any. Batches have ``image``, ``label`` (mask, 0 or 1) and ``volume_index``.
    """

    caption = ": lesions, red: found"

    @property
    def information(self) -> Mapping[str, Any]:
        """What ``model.pt`` is to say of validation: nothing."""
        return {}

    def measure(self, pairs: Iterable[Pair]) -> dict[str, float]:
        """Return the means over volumes."""
        pixels: dict[int, Tensor] = {}
        for batch, logits in pairs:
            found, truth = logits > 0, batch["label"] > 0.5
            counts = torch.stack([part.flatten(1).sum(1) for part in (found & truth, found, truth)], dim=1)
            for volume, count in zip(batch["volume_index"].tolist(), counts.cpu(), strict=True):
                pixels[volume] = pixels.get(volume, 0) + count
        numbers: dict[str, float] = {}
        if pixels:
            both, found, truth = torch.stack(list(pixels.values())).float().unbind(1)
            ill = truth > 0
            if ill.any():
                numbers["dice"] = (2 * both / (found + truth))[ill].mean().item()
            if not ill.all():
                numbers["false_positive_pixels"] = found[~ill].mean().item()
        return numbers

    def draw(self, data_loader: Any, restore: Callable[[Tensor], Tensor]) -> Any:
        """Draw the three validation slices with the largest lesions, found and true ones outlined."""
        from matplotlib.figure import Figure

        largest: list[tuple[float, Tensor, Tensor]] = []
        for batch in data_loader:
            sizes = batch["label"].flatten(1).sum(1).tolist()
            largest += zip(sizes, batch["image"], batch["label"], strict=True)
            largest = sorted(largest, key=lambda entry: -entry[0])[:3]
        images = torch.stack([image for _, image, _ in largest])
        found = restore(images) > 0
        figure = Figure(figsize=(2.6 * len(largest), 3.2), layout="constrained")
        axes = figure.subplots(1, len(largest), squeeze=False)[0]
        for axis, image, mask, (_, _, truth) in zip(axes, images, found, largest, strict=True):
            axis.imshow(image[0].numpy().T, origin="lower", cmap="gray")
            for outline, color in ((truth[0], "tab:green"), (mask[0], "tab:red")):
                if outline.any() and not outline.bool().all():
                    axis.contour(outline.numpy().T, levels=[0.5], colors=color, linewidths=0.8)
            axis.set_axis_off()
        return figure
