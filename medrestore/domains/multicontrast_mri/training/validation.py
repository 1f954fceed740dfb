"""Validation of a segmenter during its training: Dice of each volume."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medrestore.checks import require_in_range
from medrestore.engines.trainer import RestorationTrainer

__all__ = ["SegmentationValidation"]


class SegmentationValidation:
    """Segment the validation slices with the averaged network after every ``interval`` epochs and the last.

    Adds to the trainer's ``state.metrics``: ``validation_dice``, the overlap of found and true lesions over
    each volume's slices together, mean over the volumes that have lesions; and
    ``validation_false_positive_pixels``, mean over those that have none, where there are any.

    Parameters
    ----------
    data_loader
        Validation slices: ``image``, ``label`` (mask, 0 or 1) and ``volume_index``.
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

    def attach(self, trainer: RestorationTrainer) -> None:
        """Validate ``trainer`` at the end of epochs."""
        trainer.add_event_handler(trainer.every(self.interval), self._validate)

    def _validate(self, trainer: RestorationTrainer) -> None:
        if trainer.state.rank != 0:
            return
        network = trainer.averaged.module.eval()
        pixels: dict[int, Tensor] = {}
        for batch in self.data_loader:
            found = _segment(network, batch["image"], trainer.state.device)
            truth = batch["label"] > 0.5
            counts = torch.stack([part.flatten(1).sum(1) for part in (found & truth, found, truth)], dim=1)
            for volume, count in zip(batch["volume_index"].tolist(), counts, strict=True):
                pixels[volume] = pixels.get(volume, 0) + count
        both, found, truth = torch.stack(list(pixels.values())).float().unbind(1)
        ill = truth > 0
        metrics = trainer.state.metrics
        if ill.any():
            metrics["validation_dice"] = (2 * both / (found + truth))[ill].mean().item()
        if not ill.all():
            metrics["validation_false_positive_pixels"] = found[~ill].mean().item()

    def panel(self, trainer: RestorationTrainer) -> Any:
        """Draw the three validation slices with the largest lesions, found and true ones outlined.

        Returns None in an epoch without validation.
        """
        if not trainer.is_due(self.interval):
            return None
        from matplotlib.figure import Figure

        largest: list[tuple[float, Tensor, Tensor]] = []
        for batch in self.data_loader:
            sizes = batch["label"].flatten(1).sum(1).tolist()
            largest += zip(sizes, batch["image"], batch["label"], strict=True)
            largest = sorted(largest, key=lambda entry: -entry[0])[:3]
        images = torch.stack([image for _, image, _ in largest])
        found = _segment(trainer.averaged.module.eval(), images, trainer.state.device)
        figure = Figure(figsize=(2.6 * len(largest), 3.2), layout="constrained")
        axes = figure.subplots(1, len(largest), squeeze=False)[0]
        for axis, image, mask, (_, _, truth) in zip(axes, images, found, largest, strict=True):
            axis.imshow(image[0].numpy().T, origin="lower", cmap="gray")
            for outline, color in ((truth[0], "tab:green"), (mask[0], "tab:red")):
                if outline.any() and not outline.bool().all():
                    axis.contour(outline.numpy().T, levels=[0.5], colors=color, linewidths=0.8)
            axis.set_axis_off()
        figure.suptitle(f"validation, epoch {trainer.state.epoch}: lesions, red: found", fontsize=10)
        return figure


def _segment(network: nn.Module, images: Tensor, device: torch.device | str) -> Tensor:
    """Return where a lesion is more likely than not, (B, 1, H, W) bool, on the CPU."""
    with torch.inference_mode():
        found: Tensor = network(images.to(device)).float() > 0
    return found.cpu()
