"""Whether lesions can be seen: contrast to noise against normal tissue around them, overlap, detection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from medrestore.checks import InputError, require_in_range, require_same_shape

__all__ = ["Detection", "contrast_to_noise", "detect_lesions", "dice", "surrounding_ring"]

Array: TypeAlias = npt.NDArray[Any]

INNER_MM, OUTER_MM = 1.5, 6.0
"""Distances from a lesion between which normal tissue is looked for: beyond its blurred rim, yet near."""

OUTLIER_SD = 2.5
"""Robust standard deviations from the ring's median beyond which a voxel is other tissue."""

MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


class Detection(NamedTuple):
    """How many lesions there are, how many of them were found, and how many finds are none."""

    lesions: int
    found: int
    false: int


def dice(first: Array, second: Array) -> float:
    """Return the overlap of two masks, 2 |A and B| / (|A| + |B|).

    Parameters
    ----------
    first, second : bool, of one shape
        Masks.

    Returns
    -------
    float
        In [0, 1]; NaN where both masks are empty: of nothing there is no overlap.

    Raises
    ------
    InputError
        When shapes differ or a mask is not boolean.

    Examples
    --------
    >>> dice(np.array([True, True, False]), np.array([False, True, False]))
    0.6666666666666666
    """
    _require_masks(first=first, second=second)
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else float("nan")


def surrounding_ring(
    lesions: Array,
    images: Sequence[Array],
    *,
    voxel_size_mm: Sequence[float],
    inside: Array | None = None,
) -> Array:
    """Return the voxels of normal-appearing tissue around lesions.

    Those at 1.5 to 6 mm from a lesion whose intensity is, in every image, within 2.5 robust standard
    deviations (1.4826 times the median absolute deviation) of the ring's median: fluid and cortex beside a
    lesion are no normal white matter, and stand out in one contrast or another.

    Parameters
    ----------
    lesions : (X, Y, Z) bool
        Lesion mask.
    images : each (X, Y, Z)
        True images of one subject; intensities in any unit.
    voxel_size_mm
        Of X, Y, Z.
    inside : (X, Y, Z) bool
        Voxels of the head; all when not given.

    Returns
    -------
    (X, Y, Z) bool
        Empty without lesions.

    Raises
    ------
    InputError
        When shapes differ or a mask is not boolean.

    Notes
    -----
    White matter is most of what lies beside a white-matter lesion, so the median is its own; no map of
    tissues is asked for, which real data do not have.
    """
    from scipy.ndimage import distance_transform_edt

    _require_masks(lesions=lesions)
    ring = np.zeros(lesions.shape, dtype=bool)
    if not lesions.any():
        return ring
    # Around the lesions alone: a head has a hundred times as many voxels.
    margin = [int(np.ceil(OUTER_MM / size)) + 1 for size in voxel_size_mm]
    held = [np.flatnonzero(lesions.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    box = tuple(
        slice(max(int(found[0]) - more, 0), int(found[-1]) + more + 1)
        for found, more in zip(held, margin, strict=True)
    )
    distance = distance_transform_edt(~lesions[box], sampling=voxel_size_mm)
    near = (distance > INNER_MM) & (distance <= OUTER_MM)
    if inside is not None:
        _require_masks(lesions=lesions, inside=inside)
        near &= inside[box]
    normal = near.copy()
    for image in images:
        require_same_shape(lesions=lesions.shape, image=image.shape)
        values = image[box][near].astype(np.float64)
        if values.size:
            away = np.abs(values - np.median(values))
            normal[near] &= away <= OUTLIER_SD * MAD_TO_SD * np.median(away)
    ring[box] = normal
    return ring


def contrast_to_noise(image: Array, lesions: Array, ring: Array) -> float:
    """Return the lesions' contrast to noise, (mean of lesions - mean of ring) / standard deviation of ring.

    Parameters
    ----------
    image : (X, Y, Z)
        Any unit: it cancels.
    lesions, ring : (X, Y, Z) bool
        Lesions, and normal tissue around them.

    Returns
    -------
    float
        Positive for lesions brighter than what is around them; NaN where the ring is constant.

    Raises
    ------
    InputError
        When shapes differ, a mask is not boolean or empty, or voxels in them are not finite.

    Notes
    -----
    The deviation is that of voxels, with N - 1 in the denominator; beside noise it holds what texture normal
    tissue has. An image that is too smooth has too high a ratio, so compare it with the true image's.

    Examples
    --------
    >>> image = np.array([[[5.0, 1.0, 2.0, 3.0]]])
    >>> contrast_to_noise(image, image > 4, image < 4)
    3.0
    """
    _require_masks(lesions=lesions, ring=ring)
    require_same_shape(image=image.shape, lesions=lesions.shape)
    inner, outer = image[lesions].astype(np.float64), image[ring].astype(np.float64)
    if inner.size == 0 or outer.size < 2:
        raise InputError(f"lesions must hold a voxel and their ring two, got {inner.size} and {outer.size}")
    if not (np.isfinite(inner).all() and np.isfinite(outer).all()):
        raise InputError("the image must be finite in lesions and ring, got NaN or infinite voxels")
    deviation = float(outer.std(ddof=1))
    return float(inner.mean() - outer.mean()) / deviation if deviation > 0 else float("nan")


def detect_lesions(segmented: Array, lesions: Array, *, minimum_voxels: int = 3) -> Detection:
    """Count lesions that were found, and finds that are no lesion.

    A lesion is a connected part of the mask (voxels that share a corner are connected), found where a voxel
    of it was segmented; a false one is a connected part of the segmentation that touches no lesion.

    Parameters
    ----------
    segmented, lesions : (X, Y, Z) bool
        What a reader marked, and the truth.
    minimum_voxels
        Smaller parts count neither as lesions nor as false ones.

    Raises
    ------
    InputError
        When shapes differ, a mask is not boolean, or the minimum is below 1.

    Examples
    --------
    >>> truth = np.array([[[1, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 0]]], dtype=bool)
    >>> found = np.array([[[0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1]]], dtype=bool)
    >>> detect_lesions(found, truth)
    Detection(lesions=2, found=1, false=1)
    """
    from scipy.ndimage import label

    _require_masks(segmented=segmented, lesions=lesions)
    require_in_range("minimum_voxels", minimum_voxels, 1, float("inf"))
    corners = np.ones((3,) * lesions.ndim, dtype=bool)
    parts, count = label(lesions, corners)
    large = np.flatnonzero(np.bincount(parts.ravel(), minlength=count + 1) >= minimum_voxels)
    large = large[large > 0]
    hit = np.unique(parts[segmented])
    marks, marked = label(segmented, corners)
    sizes = np.bincount(marks.ravel(), minlength=marked + 1)
    real = np.unique(marks[lesions])
    false = [mark for mark in range(1, marked + 1) if sizes[mark] >= minimum_voxels and mark not in real]
    return Detection(lesions=len(large), found=int(np.isin(large, hit).sum()), false=len(false))


def _require_masks(**masks: Array) -> None:
    require_same_shape(**{name: mask.shape for name, mask in masks.items()})
    for name, mask in masks.items():
        if mask.dtype != np.bool_:
            raise InputError(f"{name} must be boolean, got {mask.dtype}")
