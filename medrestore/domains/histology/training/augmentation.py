"""Random changes of pairs of tiles: crop, flips and quarter turns, and stain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from medrestore.checks import InputError, require_in_range, require_same_shape
from medrestore.data.transforms import DrawnAugmentation
from medrestore.operators.recording import DegradationRange, degraded_batch
from medrestore.operators.stains import stain_jitter

__all__ = ["TileAugmentation", "TileChanges"]

SHIFT_PER_JITTER = 0.1
"""Optical density that is added at most, per unit of ``stain_jitter``. Tellez et al. give one number for the
factor and the shift, the latter in units of their software."""


@dataclass(frozen=True, eq=False)
class TileChanges:
    """What happens to each pair of a batch.

    Attributes
    ----------
    corner : (B, 2) float64
        Where the crop begins, as a part in [0, 1) of where it may.
    mirrored_rows, mirrored_columns, transposed : (B,) bool
        Together all eight ways to lay a square.
    stain_scale, stain_shift : (B, 3)
        Of :func:`~medrestore.operators.stains.stain_jitter`.
    """

    corner: Tensor
    mirrored_rows: Tensor
    mirrored_columns: Tensor
    transposed: Tensor
    stain_scale: Tensor
    stain_shift: Tensor


class TileAugmentation(DrawnAugmentation):
    """Crop, flip, turn and restain pairs of tiles, both images of a pair alike.

    Parameters
    ----------
    crop_size : pixels of the target
        Side of the crop, a multiple of ``scale``; whole tiles when None. Crops begin at the edge of a
        low-resolution pixel.
    scale
        High-resolution pixels per low-resolution pixel.
    flips
        Lay each pair in one of the eight ways that flips and quarter turns make: tissue has no up.
    degradation
        When given, the low-resolution image of each pair is made anew from its changed target, by a
        degradation drawn from this range.
    stain_jitter
        Half width j of the factor on the amount of each stain, uniform in [1 - j, 1 + j]; with it goes a
        shift of up to 0.1 j. 0 leaves the stains.
    seed, rank, world_size
        Of :class:`~medrestore.data.transforms.DrawnAugmentation`.

    Raises
    ------
    InputError
        When a number is out of range or the crop is no multiple of the scale.

    Notes
    -----
    A change of stain and smoothing do not commute, so the pair of a restained tile is not quite that of its
    smoothing; the difference is of second order in the contrast within a low-resolution pixel.
    """

    def __init__(
        self,
        *,
        crop_size: int | None,
        scale: int,
        flips: bool = True,
        stain_jitter: float = 0.0,
        degradation: DegradationRange | None = None,
        seed: int,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        require_in_range("scale", scale, 1, 64)
        require_in_range("stain_jitter", stain_jitter, 0, 1, include_high=False)
        super().__init__(seed=seed, rank=rank, world_size=world_size)
        if crop_size is not None and (crop_size < scale or crop_size % scale):
            raise InputError(f"crop_size must be a multiple of the scale {scale}, got {crop_size}")
        self.crop_size = crop_size
        self.scale = int(scale)
        self.flips = bool(flips)
        self.stain_jitter = float(stain_jitter)
        self.degradation = degradation

    def __call__(self, batch: Mapping[str, Tensor], *, epoch: int, iteration: int) -> dict[str, Tensor]:
        """Return the batch with ``image`` and ``label`` changed; the given tensors stay as they are.

        Parameters
        ----------
        batch
            ``image`` (B, 3, h, w) and ``label`` (B, 3, scale h, scale w) in [0, 1], on one device; other
            entries are passed on.
        epoch, iteration
            Name the draws.

        Raises
        ------
        InputError
            When the pair's sizes do not fit, the crop is larger than the tiles, or tiles to turn are no
            squares.
        """
        image, label = batch["image"], batch["label"]
        height, width = image.shape[-2:]
        require_same_shape(
            label=label.shape, image_enlarged=(*image.shape[:2], self.scale * height, self.scale * width)
        )
        changes = self.draw(len(image), epoch=epoch, iteration=iteration)
        changed = dict(batch)
        kept = ("image", "label") if self.degradation is None else ("label",)
        if self.crop_size is not None:
            side = self.crop_size // self.scale
            if side > min(height, width):
                raise InputError(
                    f"crop_size must be at most the tiles' {self.scale * min(height, width)} pixels, "
                    f"got {self.crop_size}"
                )
            room = torch.tensor([height - side + 1, width - side + 1], dtype=torch.float64)
            corner = (changes.corner * room).long().tolist()
            changed["image"] = _cropped(image, corner, side)
            scaled = [(self.scale * row, self.scale * column) for row, column in corner]
            changed["label"] = _cropped(label, scaled, self.crop_size)
        if self.flips:
            for name in kept:
                changed[name] = _laid(changed[name], changes)
        if self.stain_jitter > 0:
            for name in kept:
                changed[name] = stain_jitter(
                    changed[name], scale=changes.stain_scale, shift=changes.stain_shift
                )
        if self.degradation is not None:
            drawn = self.degradation.drawn(
                len(label) * self.share.step, epoch=epoch, iteration=iteration, share=self.share
            )
            changed["image"] = degraded_batch(changed["label"], drawn)
        return changed

    def draw(self, count: int, *, epoch: int, iteration: int) -> TileChanges:
        """Return what happens to ``count`` pairs."""
        uniform = self.uniform(count, 11, epoch=epoch, iteration=iteration, dtype=torch.float64)
        signed = 2 * uniform[:, 5:] - 1
        return TileChanges(
            corner=uniform[:, :2],
            mirrored_rows=uniform[:, 2] < 0.5,
            mirrored_columns=uniform[:, 3] < 0.5,
            transposed=uniform[:, 4] < 0.5,
            stain_scale=1 + self.stain_jitter * signed[:, :3],
            stain_shift=SHIFT_PER_JITTER * self.stain_jitter * signed[:, 3:],
        )


def _cropped(images: Tensor, corners: list[tuple[int, int]], side: int) -> Tensor:
    pieces = [
        image[:, row : row + side, column : column + side]
        for image, (row, column) in zip(images, corners, strict=True)
    ]
    return torch.stack(pieces)


def _laid(images: Tensor, changes: TileChanges) -> Tensor:
    """Lay each image its way, those of one way together: half the copies of three choices for all."""
    height, width = images.shape[-2:]
    if height != width:
        raise InputError(f"tiles that are turned must be squares, got {height} x {width} pixels")
    ways = changes.mirrored_rows.long() + 2 * changes.mirrored_columns + 4 * changes.transposed
    laid = torch.empty_like(images)
    for way in range(8):
        chosen = torch.nonzero(ways == way)[:, 0].to(images.device)
        if len(chosen) == 0:
            continue
        mirrored = [axis for axis, bit in ((2, 1), (3, 2)) if way & bit]
        turned = images[chosen].flip(mirrored)
        laid[chosen] = turned.transpose(2, 3) if way & 4 else turned
    return laid
