"""Intensity scale of an image, from the degraded image alone: what inference can know too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import InputError, require_in_range
from medrestore.data.grid import steps_in

__all__ = [
    "FWHM_PER_SIGMA",
    "RELATIVE",
    "SMOOTHING_FWHM_MM",
    "THRESHOLD",
    "Intensity",
    "foreground_scale",
]

FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))
"""Full width at half maximum of a Gaussian over its standard deviation, 2.355."""

SMOOTHING_FWHM_MM = 12.0
THRESHOLD = 0.3


def foreground_scale(
    volume: NDArray[np.floating],
    *,
    voxel_size_mm: Sequence[float],
    smoothing_fwhm_mm: float = SMOOTHING_FWHM_MM,
    threshold: float = THRESHOLD,
) -> float:
    r"""Mean intensity of an image over its own foreground; the network sees the image divided by it.

    .. math::
        s = \operatorname{mean}\{v_i : (G_\sigma * v)_i > t \max (G_\sigma * v)\}

    Parameters
    ----------
    volume : (X, Y, Z)
        The degraded image, any unit.
    voxel_size_mm
        Of X, Y, Z.
    smoothing_fwhm_mm
        Width of the Gaussian: wide enough for the foreground of a 1 % dose image to be that of the full dose.
    threshold
        Part of the smoothed maximum above which a voxel is foreground.

    Returns
    -------
    float
        In the unit of the image, positive.

    Notes
    -----
    Blocks of voxels of up to half the width are averaged first, and v_i is the mean of a block: much less to
    smooth, and no difference in the mean but at the foreground's rim.

    Raises
    ------
    InputError
        When the image is empty, not finite, zero everywhere, or without positive foreground.

    Examples
    --------
    >>> head = np.zeros((24, 24, 24), dtype=np.float32)
    >>> head[3:21, 3:21, 3:21] = 5.0
    >>> foreground_scale(head, voxel_size_mm=(3, 3, 3), smoothing_fwhm_mm=0.1)
    5.0
    """
    from scipy.ndimage import gaussian_filter

    require_in_range("threshold", threshold, 0, 1, include_low=False, include_high=False)
    require_in_range("smoothing_fwhm_mm", smoothing_fwhm_mm, 0, float("inf"), include_low=False)
    if volume.ndim != 3 or len(voxel_size_mm) != 3:
        raise InputError(
            f"volume and voxel_size_mm must have three axes, got {volume.shape} and {tuple(voxel_size_mm)}"
        )
    if volume.size == 0:
        raise InputError(f"the image has no voxels: shape {volume.shape}")
    blocks = np.asarray(volume)
    counts = np.ones((1, 1, 1))
    size = np.asarray(voxel_size_mm, dtype=np.float64)
    for axis in range(3):
        length = blocks.shape[axis]
        step = min(max(1, int(steps_in(smoothing_fwhm_mm / 2, size[axis]))), length)
        blocks = _block_sums(blocks, step, axis)
        counts = counts * _block_sums(
            np.ones([length if other == axis else 1 for other in range(3)]), step, axis
        )
        size[axis] *= step
    means = blocks / counts
    if not np.isfinite(means).all():
        raise InputError("the image holds voxels that are not finite (NaN or infinite)")
    smooth = gaussian_filter(means, smoothing_fwhm_mm / FWHM_PER_SIGMA / size, mode="nearest")
    foreground = smooth > threshold * max(smooth.max(), 0.0)
    total = float(blocks[foreground].sum())
    if total <= 0:
        raise InputError("the image has no positive foreground (zero everywhere, or negative)")
    return total / float(np.broadcast_to(counts, blocks.shape)[foreground].sum())


def _block_sums(values: NDArray[np.floating], step: int, axis: int) -> NDArray[np.float64]:
    """Sum every ``step`` neighbors along an axis; the last block may be shorter."""
    moved = np.moveaxis(values, axis, 0)
    sums = moved[::step].astype(np.float64)
    for offset in range(1, step):
        part = moved[offset::step]
        sums[: len(part)] += part
    return np.moveaxis(sums, 0, axis)


@dataclass(frozen=True)
class Intensity:
    """How networks see the images of a kind: (v - nothing) / scale.

    Parameters
    ----------
    nothing
        Value of air, in the image's unit: 0, or -1000 in HU.
    scale
        In the image's unit, where that is absolute; :func:`foreground_scale` of each degraded image if None.

    Examples
    --------
    >>> hounsfield = Intensity(nothing=-1000, scale=1000)
    >>> hounsfield.above_nothing(np.array([-1000, 40], np.float32)).tolist()
    [0.0, 1040.0]
    """

    nothing: float = 0.0
    scale: float | None = None

    @property
    def key(self) -> list[float]:
        """Plain values that name caches of scaled images."""
        scale = [SMOOTHING_FWHM_MM, THRESHOLD] if self.scale is None else [self.scale]
        return [*scale, *([self.nothing] if self.nothing else [])]

    def above_nothing(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return an image whose air is 0: what has a foreground."""
        return image - np.float32(self.nothing) if self.nothing else image

    def back(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return an image of :meth:`above_nothing` in its own unit."""
        return image + np.float32(self.nothing) if self.nothing else image

    def scale_of(self, image: NDArray[np.floating], *, voxel_size_mm: Sequence[float]) -> float:
        """Return what an image (X, Y, Z) of :meth:`above_nothing` is divided by."""
        return foreground_scale(image, voxel_size_mm=voxel_size_mm) if self.scale is None else self.scale


RELATIVE = Intensity()
"""Of images whose air is 0, in a unit that differs from image to image."""
