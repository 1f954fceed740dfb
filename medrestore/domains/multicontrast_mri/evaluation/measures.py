"""What is measured of one MR image: quality, grid artifact, contrast, and whether lesions can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import InputError
from medrestore.domains.multicontrast_mri.changes import FINDS
from medrestore.domains.multicontrast_mri.evaluation.judges import ContrastObserver, LesionReader
from medrestore.evaluation.measures import image_quality
from medrestore.metrics.lesions import Find, contrast_to_noise, dice, list_finds
from medrestore.metrics.texture import grid_artifact, smallest_side

__all__ = ["DATA_RANGE_PERCENTILE", "TrueImage", "measure_image", "normalized"]

DATA_RANGE_PERCENTILE = 99.9
"""Of the true image in the head: R of PSNR and SSIM. A maximum would hang on one vessel or spike."""

LITTLE_HEAD = 0.25
"""Slices with less head than this part of the largest are left to no judge: they show skull top or neck."""

SMALLEST_RING = 20
"""Voxels of normal tissue around lesions below which their contrast to noise is not given."""

LEAST_CNR = 1.0
"""Contrast to noise of the true image, absolute, below which a ratio to it says nothing."""


def normalized(image: NDArray[np.floating], head: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return an image in units of its own mean over the head.

    Parameters
    ----------
    image : (X, Y, Z)
        Any unit.
    head : (X, Y, Z) bool
        The true image's.

    Raises
    ------
    InputError
        When the mean is not positive.
    """
    mean = float(image[head].mean(dtype=np.float64))
    if not mean > 0:
        raise InputError(f"the image's mean over the head must be positive, got {mean:.3g}")
    divided: NDArray[np.float32] = image.astype(np.float32) / np.float32(mean)
    return divided


@dataclass(frozen=True, eq=False)
class TrueImage:
    """A subject's true image of one contrast, and all that other images of it are measured by.

    Parameters
    ----------
    contrast
        Name.
    image : (X, Y, Z) float32
        In units of its mean over the head.
    head : (X, Y, Z) bool
        Of :func:`~medrestore.evaluation.measures.foreground_mask` of the true image.
    data_range
        R of PSNR and SSIM, in the image's unit.
    observers
        T and independent ones.
    reader
        Of lesions, where this is the contrast that it was trained on.
    lesions : (X, Y, Z) bool or None
        Lesion mask, where there is one; it may be empty.
    affine : (4, 4) float64 or None, mm
        From voxels to the frame that places of lesions are told in; voxels of 1 mm where not given.
    ring : (X, Y, Z) bool or None
        Normal-appearing tissue around lesions.
    """

    contrast: str
    image: NDArray[np.float32]
    head: NDArray[np.bool_]
    data_range: float
    observers: Sequence[ContrastObserver] = ()
    reader: LesionReader | None = None
    lesions: NDArray[np.bool_] | None = None
    affine: NDArray[np.float64] | None = None
    ring: NDArray[np.bool_] | None = None

    @cached_property
    def judged(self) -> NDArray[np.intp]:
        """Axial slices that are judged: those with a good part of the head."""
        area = self.head.sum(axis=(0, 1))
        return np.flatnonzero(area >= LITTLE_HEAD * area.max())

    @cached_property
    def box(self) -> tuple[slice, slice] | None:
        """The head in the plane, or more of the slice where that is too small for a spectrum."""
        sides = []
        for axis in (0, 1):
            held = np.flatnonzero(self.head.any(axis=(1 - axis, 2)))
            first, last, room = int(held[0]), int(held[-1]) + 1, self.head.shape[axis]
            if room < smallest_side():
                return None
            more = max(smallest_side() - (last - first), 0)
            first = min(max(first - more // 2, 0), room - (last - first) - more)
            sides.append(slice(first, max(last, first + smallest_side())))
        return sides[0], sides[1]

    @cached_property
    def grid(self) -> tuple[float, float]:
        """Grid artifact of the true image."""
        return self.grid_of(self.image)

    @cached_property
    def cnr(self) -> float:
        """Contrast to noise of the lesions in the true image; NaN without them."""
        return self.cnr_of(self.image)

    @cached_property
    def segmented(self) -> NDArray[np.bool_]:
        """What the reader marks in the true image, slice-first."""
        return self.segment(self.image)

    def grid_of(self, image: NDArray[np.float32]) -> tuple[float, float]:
        """Return an image's grid artifact, relative and as amplitude; NaN where slices are too small."""
        if self.box is None:
            return float("nan"), float("nan")
        found = grid_artifact(image[:, :, self.judged].transpose(2, 0, 1)[:, self.box[0], self.box[1]])
        held = np.isfinite(found.relative)
        if not held.any():
            return float("nan"), float("nan")
        amplitude = float(np.sqrt(np.square(found.amplitude[held]).mean()))
        return float(found.relative[held].mean()), amplitude

    def cnr_of(self, image: NDArray[np.float32]) -> float:
        """Return the contrast to noise of the lesions in an image; NaN without lesions."""
        if self.lesions is None or self.ring is None or not self.lesions.any():
            return float("nan")
        if self.ring.sum() < SMALLEST_RING:
            return float("nan")
        return contrast_to_noise(image, self.lesions, self.ring)

    def described(self, find: Find) -> dict[str, float]:
        """Return a find's row of the table of lesions; it was found in slice-first arrays."""
        affine = np.eye(4) if self.affine is None else self.affine
        position, x, y = find.center
        place = affine @ [x, y, position, 1.0]
        return {
            **{"real": int(find.real), "found": int(find.found), "found_in_true": int(find.found_before)},
            "volume_ml": find.voxels * abs(float(np.linalg.det(affine[:3, :3]))) / 1000,
            **dict(zip(("x_mm", "y_mm", "z_mm"), map(float, place[:3]), strict=True)),
            "slice": round(position) + 1,
        }

    def segment(self, image: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return what the reader marks in an image, slice-first."""
        assert self.reader is not None  # noqa: S101
        return self.reader.segment(image.transpose(2, 0, 1))


def measure_image(image: NDArray[np.float32] | None, true: TrueImage) -> dict[str, Any]:
    """Measure an image against the true one, or the true one itself.

    Parameters
    ----------
    image : (X, Y, Z)
        Of :func:`normalized`; None for the true image: what it would be compared with itself by is left out.
    true
        Of the same subject and contrast.

    Returns
    -------
    dict
        ``psnr`` (dB) and ``ssim`` over the whole volume, ``rmse`` in units of the data range, as in the
        paper's table 2; ``nrmse`` over the head, in units of the head's mean. What each observer reads.
        ``grid_ratio`` to the true image, ``grid_amplitude`` (root mean square, % of the head's mean). ``cnr``
        of lesions, its ``cnr_difference``, ``cnr_error`` (absolute) and ``cnr_ratio`` to the true image's.
        ``lesion_dice``: overlap of what the reader marks with the mask, ``lesion_dice_to_true``: with what it
        marks in the true image; ``lesion_sensitivity``: share of lesions found; ``false_lesions``: number of
        others; ``lesions``: each of both kinds, with its place and size, a row of the table of that name.
    """
    own = true.image if image is None else image
    measured: dict[str, Any] = {}
    if image is not None:
        measured |= _quality(image, true)
    for observer in true.observers:
        slices = own[:, :, true.judged].transpose(2, 0, 1)
        head = true.head[:, :, true.judged].transpose(2, 0, 1)
        measured |= observer.reading(slices, head, contrast=true.contrast)
    relative, amplitude = true.grid if image is None else true.grid_of(image)
    measured["grid_amplitude"] = 100 * amplitude
    if image is not None:
        measured["grid_ratio"] = relative / true.grid[0]
    return measured | _lesion_contrast(image, true) | _detection(image, true)


def _quality(image: NDArray[np.float32], true: TrueImage) -> dict[str, float]:
    measured = image_quality(image, true.image, foreground=true.head, data_range=true.data_range)
    mean = float(true.image[true.head].mean(dtype=np.float64))
    return {**measured, "rmse": measured["rmse"] * mean / true.data_range}


def _lesion_contrast(image: NDArray[np.float32] | None, true: TrueImage) -> dict[str, float]:
    if np.isnan(true.cnr):
        return {}
    if image is None:
        return {"cnr": true.cnr}
    cnr = true.cnr_of(image)
    difference = cnr - true.cnr
    ratio = cnr / true.cnr if abs(true.cnr) >= LEAST_CNR else float("nan")
    return {"cnr": cnr, "cnr_difference": difference, "cnr_error": abs(difference), "cnr_ratio": ratio}


def _detection(image: NDArray[np.float32] | None, true: TrueImage) -> dict[str, Any]:
    if true.reader is None or true.lesions is None:
        return {}
    lesions = true.lesions.transpose(2, 0, 1)
    segmented = true.segmented if image is None else true.segment(image)
    finds = list_finds(segmented, lesions, before=true.segmented)
    real = [find for find in finds if find.real]
    measured: dict[str, Any] = {
        FINDS.name: [true.described(find) for find in finds],
        "false_lesions": len(finds) - len(real),
    }
    if lesions.any():
        measured["lesion_dice"] = dice(segmented, lesions)
        if image is not None:
            measured["lesion_dice_to_true"] = dice(segmented, true.segmented)
    if real:
        measured["lesion_sensitivity"] = sum(find.found for find in real) / len(real)
    return measured
