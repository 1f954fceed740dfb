"""Display window of a case: one rule from values common to all of its arms, so that it tells none of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import InputError
from medrestore.data.grid import steps_in

__all__ = ["BLOCK_MM", "FOREGROUND", "HEADROOM", "PERCENTILE_HIGH", "PERCENTILE_LOW", "display_window"]

BLOCK_MM = 6.0
"""Edge of the blocks whose means are looked at: half as wide as the centrum semiovale, and some dozens of
voxels, so that neither noise nor a spike makes the window."""

PERCENTILE_HIGH = 99.8
"""Of the blocks in the foreground: leaves out spots of less than about 6 ml in a head of 3 liters."""

HEADROOM = 1.2
"""What the window reaches above that percentile: in simulated florbetaben scans the brightest voxel of white
matter at full dose lies 1.10 times above it."""

PERCENTILE_LOW = 1.0
"""Of all blocks, for images that may be negative."""

FOREGROUND = 0.2
"""Part of the highest blocks' mean above which a block is foreground."""


def display_window(
    arms: Sequence[NDArray[np.float32]], *, voxel_size_mm: Sequence[float], modality: str = ""
) -> tuple[float, float]:
    r"""Return the window that all arms of a case are first shown in.

    .. math::
        h = l + 1.2 \, \bigl(\max_a P_{99.8}\{\bar v_a(b) : b \in F\} - l\bigr)

    with the means :math:`\bar v_a(b)` of arm a over blocks b of about 6 mm and the foreground F, the blocks
    that exceed a fifth of the highest ones in any arm.

    Parameters
    ----------
    arms : sequence of (X, Y, Z) float32
        Images of one case on one grid, one for each arm.
    voxel_size_mm
        Of X, Y, Z.
    modality
        Of the protocol. The window of PET starts at 0: less than no uptake is noise. That of other images
        starts at 0 too, unless in some arm more than one block in a hundred is below 0 by a twentieth of the
        window, as in images that were normalized to mean 0: then it starts at that percentile.

    Returns
    -------
    low, high : float
        In the unit of the image, representable as float32; the same for any order of the arms.

    Raises
    ------
    InputError
        When there is no arm, shapes differ, or no arm holds any signal.

    Notes
    -----
    White matter, the brightest tissue of a negative florbetaben scan, is the reader's reference. A maximum
    would let one noisy voxel of a low-dose arm darken all others; a percentile of unsmoothed voxels would
    depend on the noise of the noisiest arm. The window would then show all arms too dark.

    Examples
    --------
    >>> head = np.zeros((20, 20, 20), dtype=np.float32)
    >>> head[4:16, 4:16, 4:16] = 2.0
    >>> low, high = display_window([head, head / 2], voxel_size_mm=(6, 6, 6), modality="PET")
    >>> low, round(high, 6)
    (0.0, 2.4)
    """
    if not arms:
        raise InputError("arms must hold at least one image")
    if any(arm.shape != arms[0].shape or arm.ndim != 3 for arm in arms):
        raise InputError(f"arms must be volumes of one shape, got {[arm.shape for arm in arms]}")
    # A maximum is the same for any order of the arms, to the last bit; a mean would not be.
    means = np.stack([block_means(arm, voxel_size_mm) for arm in arms])
    low = 0.0
    top = float(np.percentile(means.reshape(len(arms), -1), 99.9, axis=1).max())
    if "PET" not in modality.upper():
        lowest = float(np.percentile(means.reshape(len(arms), -1), PERCENTILE_LOW, axis=1).min())
        low = lowest if lowest < -0.05 * max(top, 0.0) else 0.0
    foreground = means.max(axis=0) > low + FOREGROUND * (top - low)
    if not top > low or not foreground.any():
        raise InputError(f"no arm holds any signal: the highest values are {top:.3g}")
    high = float(np.percentile(means[:, foreground], PERCENTILE_HIGH, axis=1).max())
    return float(np.float32(low)), float(np.float32(low + HEADROOM * (high - low)))


def block_means(volume: NDArray[np.float32], voxel_size_mm: Sequence[float]) -> NDArray[np.float32]:
    """Return the means over blocks of about 6 mm; the last block of an axis may be smaller.

    Parameters
    ----------
    volume : (X, Y, Z) float32
        Any memory order.
    voxel_size_mm
        Of X, Y, Z.
    """
    blocks = volume
    count = np.ones((1, 1, 1), dtype=np.float32)
    # The slowest axis in memory first: whole planes are added up, and little is left for the others.
    for axis in sorted(range(3), key=lambda axis: -abs(volume.strides[axis])):
        length = blocks.shape[axis]
        step = min(length, max(1, round(steps_in(BLOCK_MM, voxel_size_mm[axis]))))
        starts = np.arange(0, length, step)
        moved = np.moveaxis(blocks, axis, 0)
        sums = moved[::step].copy(order="K")  # keeps the axes' order in memory
        for offset in range(1, step):
            part = moved[offset::step]
            sums[: len(part)] += part
        blocks = np.moveaxis(sums, 0, axis)
        sizes = np.diff(np.append(starts, length)).astype(np.float32)
        count = count * sizes.reshape([-1 if other == axis else 1 for other in range(3)])
    return np.asarray(blocks / count, dtype=np.float32)
