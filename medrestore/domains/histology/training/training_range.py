"""Whether an image lies in the range of a training on tiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medrestore.data.training_range import TOLERATED_SIZE_FACTOR

__all__ = ["resolution_warnings"]


def resolution_warnings(microns_per_pixel: float | None, seen: Mapping[str, Any]) -> list[str]:
    """Say in words where an image's resolution lies outside of what a network was trained on.

    Parameters
    ----------
    microns_per_pixel : float or None, um
        Of the low-resolution image; None when not known.
    seen
        ``microns_per_pixel`` [low, high] of the low-resolution tiles, as kept in ``model.pt``.

    Returns
    -------
    list of str
        Empty when all is well: up to a tenth beyond the range.

    Examples
    --------
    >>> resolution_warnings(2.0, {"microns_per_pixel": [1.0, 1.0]})
    ['resolution is 2 um per pixel, trained on 1 to 1']
    """
    if "microns_per_pixel" not in seen:
        return []
    low, high = seen["microns_per_pixel"]
    if microns_per_pixel is None:
        return [f"resolution is not known, trained on {low:.3g} to {high:.3g} um per pixel"]
    if low / TOLERATED_SIZE_FACTOR <= microns_per_pixel <= high * TOLERATED_SIZE_FACTOR:
        return []
    return [f"resolution is {microns_per_pixel:.3g} um per pixel, trained on {low:.3g} to {high:.3g}"]
