"""Whether a network drew a grid into an image: energy of the spectrum where up-sampling leaves its trace."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from medrestore.checks import InputError, require_in_range

__all__ = ["CORE", "GridArtifact", "grid_artifact", "smallest_side"]

Array: TypeAlias = npt.NDArray[Any]

CORE, BAND = 2, 6
"""Half widths, in bins of the spectrum, of a peak and of the band around it that it is compared with."""


class GridArtifact(NamedTuple):
    """Trace of a grid in each slice.

    ``relative``: mean power in the peaks over that of the bands around them, about 1 without a grid;
    ``amplitude``: root mean square of the grid, in the image's unit, 0 without one.
    """

    relative: Array
    amplitude: Array


def smallest_side(periods: Sequence[int] = (2, 4)) -> int:
    """Return the side of the smallest slice, in pixels, whose peaks stand apart from the mean and each other.

    >>> smallest_side()
    48
    """
    return 2 * BAND * max(periods)


def grid_artifact(slices: Array, *, periods: Sequence[int] = (2, 4)) -> GridArtifact:
    r"""Measure the grid of a given period in slices.

    A transposed convolution of stride 2 whose kernel overlaps unevenly draws a checkerboard of 2 pixels, two
    in a row one of 4: lines of the spectrum at multiples of 1/4 cycle per pixel. With P the power spectrum of
    the slice under a Hann window, and for each such frequency f a core C (within 2 bins) and a band B (3 to 6
    bins away) around it,

    .. math::
        \mathrm{relative} = \frac{1}{F} \sum_f \frac{\bar P(C_f)}{\bar P(B_f)}, \qquad
        \mathrm{amplitude}^2 = \frac{\sum_f \max(0, \sum_{C_f} P - |C_f| \, \bar P(B_f))}{N \sum w^2}

    Parameters
    ----------
    slices : (S, X, Y)
        Slice-first, cut to the object; sides of :func:`smallest_side` or more. What is beyond a multiple of
        all periods is cut off on both sides, so that the frequencies are bins of the spectrum.
    periods
        Of the grids, pixels, each 2 or more.

    Returns
    -------
    GridArtifact
        Both (S,) float64; NaN for a slice that is constant.

    Raises
    ------
    InputError
        When slices are no stack, not finite or too small.

    Notes
    -----
    Odena, Dumoulin and Olah, "Deconvolution and checkerboard artifacts", Distill 2016, show where the grids
    come from. The measure and its constants are ours. ``relative`` depends on no gain and little on
    sharpness, since peak and band lie side by side; structure along the axes makes it exceed 1 in images
    without a grid, so compare it with the true image's. The amplitude adds up peaks and their mirror images.

    Examples
    --------
    >>> x, y = np.indices((64, 64))
    >>> board = 0.1 * (-1.0) ** (x + y)
    >>> found = grid_artifact((1.0 + board)[None])
    >>> round(float(found.amplitude[0]), 3)
    0.1
    """
    if slices.ndim != 3 or len(slices) == 0:
        raise InputError(f"slices must be of shape (S, X, Y) with S of 1 or more, got {slices.shape}")
    for period in periods:
        require_in_range("periods", period, 2, float("inf"), include_high=False)
    least, step = smallest_side(periods), math.lcm(*periods)
    if min(slices.shape[1:]) < least:
        raise InputError(f"slices must be {least} x {least} pixels or more, got {slices.shape[1:]}")
    if not np.isfinite(slices).all():
        raise InputError("slices must be finite, got NaN or infinite pixels")
    inside = [slice((side % step) // 2, (side % step) // 2 + side - side % step) for side in slices.shape[1:]]
    cut = slices[:, inside[0], inside[1]].astype(np.float64)
    shape = cut.shape[1:]
    # Periodic windows: their transform has three bins and no more.
    rows, columns = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(side) / side) for side in shape)
    window = rows[:, None] * columns
    cut -= cut.mean(axis=(1, 2), keepdims=True)
    power = np.abs(np.fft.fft2(cut * window)) ** 2
    relative, energy = np.zeros(len(cut)), np.zeros(len(cut))
    frequencies = _frequencies(periods)
    constant = power.sum(axis=(1, 2)) <= 0
    for u, v in frequencies:
        near = _neighborhood(power, round(u * shape[0]), round(v * shape[1]))
        core = near[:, BAND - CORE : BAND + CORE + 1, BAND - CORE : BAND + CORE + 1].sum(axis=(1, 2))
        count = (2 * CORE + 1) ** 2
        band = (near.sum(axis=(1, 2)) - core) / ((2 * BAND + 1) ** 2 - count)
        with np.errstate(invalid="ignore", divide="ignore"):
            relative += core / count / band / len(frequencies)
        energy += np.maximum(core - count * band, 0)
    relative[constant] = np.nan
    energy[constant] = np.nan
    return GridArtifact(relative, np.sqrt(energy / (window.size * np.square(window).sum())))


def _frequencies(periods: Sequence[int]) -> list[tuple[float, float]]:
    """Return the frequencies of grids, cycles per pixel: all combinations but that of the mean."""
    lines = sorted({0.0, *(k / period for period in periods for k in range(1, period))})
    return [(u, v) for u in lines for v in lines if (u, v) != (0, 0)]


def _neighborhood(power: Array, row: int, column: int) -> Array:
    """Return the bins around one, over the spectrum's border where need be."""
    around = np.arange(-BAND, BAND + 1)
    return power[:, (row + around)[:, None] % power.shape[1], (column + around) % power.shape[2]]
