"""Whether lesions can be seen: contrast to noise against normal tissue around them, overlap, detection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from medrestore.checks import InputError, require_in_range, require_same_shape

__all__ = [
    "Detection",
    "Find",
    "contrast_to_noise",
    "detect_lesions",
    "dice",
    "list_finds",
    "surrounding_ring",
]

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


class Find(NamedTuple):
    """A lesion, or a mark that is none.

    ``real``: of the mask. ``voxels``, and their ``center`` in voxel indices. ``found``: some of it is marked.
    ``found_before``: some of it was marked in the image that is compared with.
    """

    real: bool
    voxels: int
    center: tuple[float, ...]
    found: bool
    found_before: bool


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
    finds = list_finds(segmented, lesions, minimum_voxels=minimum_voxels)
    real = [find for find in finds if find.real]
    return Detection(len(real), sum(find.found for find in real), len(finds) - len(real))


def list_finds(
    segmented: Array, lesions: Array, *, before: Array | None = None, minimum_voxels: int = 3
) -> list[Find]:
    """List lesions and marks that are none, as :func:`detect_lesions` counts them, with place and size.

    Parameters
    ----------
    segmented, lesions : (X, Y, Z) bool
        What a reader marked, and the truth.
    before : (X, Y, Z) bool
        What the reader marked in another image of the same lesions; nothing when not given.
    minimum_voxels
        Smaller parts are left out.

    Raises
    ------
    InputError
        As :func:`detect_lesions`.

    Examples
    --------
    >>> truth = np.array([[[1, 1, 1, 0, 0, 0, 0, 0, 0]]], dtype=bool)
    >>> found = np.array([[[0, 0, 0, 0, 0, 1, 1, 1, 0]]], dtype=bool)
    >>> for find in list_finds(found, truth, before=truth):
    ...     print(find.real, find.voxels, find.center[-1], find.found, find.found_before)
    True 3 1.0 False True
    False 3 6.0 True False
    """
    from scipy.ndimage import label

    before = np.zeros_like(lesions) if before is None else before
    _require_masks(segmented=segmented, lesions=lesions, before=before)
    require_in_range("minimum_voxels", minimum_voxels, 1, float("inf"))
    corners = np.ones((3,) * lesions.ndim, dtype=bool)
    finds = []
    for real, mask in ((True, lesions), (False, segmented)):
        parts, count = label(mask, corners)
        sizes = np.bincount(parts.ravel(), minlength=count + 1)
        left = sizes >= minimum_voxels
        left[0] = False
        if not real:
            left[np.unique(parts[lesions])] = False
        places = np.argwhere(left[parts])
        of = parts[left[parts]]
        hit, known = (np.isin(np.arange(count + 1), parts[marks]) for marks in (segmented, before))
        for part in np.flatnonzero(left):
            center = tuple(float(value) for value in places[of == part].mean(axis=0))
            finds.append(Find(real, int(sizes[part]), center, bool(hit[part]), bool(known[part])))
    return finds


def _require_masks(**masks: Array) -> None:
    require_same_shape(**{name: mask.shape for name, mask in masks.items()})
    for name, mask in masks.items():
        if mask.dtype != np.bool_:
            raise InputError(f"{name} must be boolean, got {mask.dtype}")
