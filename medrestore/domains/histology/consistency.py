"""Whether an image is what a network was trained on, told from the image and from its restoration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrestore.metrics.recording import LEAST_SIDE, blocking, fine_share
from medrestore.operators.resampling import Subsampling

__all__ = ["MEASURED", "consistency_warnings", "measured_of", "range_of", "recording_of", "residual_rmse"]

MEASURED = {
    "fine_share": "sharpness (share of power at more than half the Nyquist frequency)",
    "blocking": "blocks of JPEG",
    "residual_rmse": "what the restoration, reduced again, misses of its input (RMSE, gray levels)",
}
"""Numbers of an image, and what they are in words."""

LEAST_BLOCKING = 0.1
"""Below this there is no JPEG to be seen: see :func:`~medrestore.metrics.recording.blocking`."""

_ONE_SIDED = ("blocking", "residual_rmse")
"""Less of them is never a fault."""

_ENDS = (0.01, 0.99)
"""Quantiles that are the ends of what was seen: one odd tile of a training says little."""


def recording_of(image: NDArray[np.uint8]) -> dict[str, float]:
    """Return sharpness and blocks of a low-resolution image (h, w, 3) uint8; nothing of one too small."""
    if min(image.shape[:2]) < LEAST_SIDE:
        return {}
    return {"fine_share": fine_share(image), "blocking": blocking(image)}


def residual_rmse(
    restored: NDArray[np.generic], image: NDArray[np.generic], reductions: Sequence[Subsampling]
) -> float:
    """Return what a restoration misses of its own input when it is reduced again.

    Parameters
    ----------
    restored : (scale h, scale w, C)
        Gray levels of 255.
    image : (h, w, C)
        What it was restored from.
    reductions
        That the network was trained to undo: of several, the one that fits best counts.

    Returns
    -------
    float, gray levels
        Root of the mean squared difference.
    """
    given = image.astype(np.float32)
    errors = [float(np.mean((reduction.reduced(restored) - given) ** 2)) for reduction in reductions]
    return float(np.sqrt(min(errors)))


def measured_of(
    restored: NDArray[np.uint8], image: NDArray[np.uint8], reductions: Sequence[Subsampling]
) -> dict[str, float]:
    """Return all numbers of an image and its restoration, by the names of :data:`MEASURED`."""
    residual = {"residual_rmse": residual_rmse(restored, image, reductions)} if reductions else {}
    return {**recording_of(image), **residual}


def range_of(measured: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Return what is usual of some images, by name: quantiles .01 and .99."""
    names = [name for name in MEASURED if any(name in found for found in measured)]
    return {
        name: [float(end) for end in np.quantile([found[name] for found in measured if name in found], _ENDS)]
        for name in names
    }


def consistency_warnings(measured: Mapping[str, float], seen: Mapping[str, Any]) -> list[str]:
    """Say in words what of an image lies outside of what its network has seen.

    Parameters
    ----------
    measured
        Of :func:`measured_of`.
    seen
        What ``model.pt`` says of its training, with what :func:`range_of` gives: of residuals that of
        validation tiles. What it does not say is not looked at.

    Returns
    -------
    list of str
        Empty when all is well.

    Examples
    --------
    >>> consistency_warnings({"blocking": 0.5}, {"blocking": [0.0, 0.08]})
    ['blocks of JPEG: 0.5, trained on 0 to 0.08']
    """
    found = []
    for name, value in measured.items():
        if name not in seen:
            continue
        low, high = seen[name]
        if name == "blocking":
            high = max(high, LEAST_BLOCKING)
        if value > high or (value < low and name not in _ONE_SIDED):
            found.append(f"{MEASURED[name]}: {value:.3g}, trained on {low:.3g} to {seen[name][1]:.3g}")
    return found
