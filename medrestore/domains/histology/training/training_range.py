"""What inference must know of a training on tiles, and whether an image lies in its range."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medrestore.checks import InputError
from medrestore.data.training_range import TOLERATED_SIZE_FACTOR
from medrestore.operators.resampling import GaussianSubsampling

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["model_information", "resolution_warnings"]


def model_information(table: pd.DataFrame, *, degradation: GaussianSubsampling) -> dict[str, Any]:
    """Return what inference must know of a training: kept in ``model.pt`` as plain values.

    Parameters
    ----------
    table
        Training rows of a manifest.
    degradation
        Makes the low-resolution tiles.

    Returns
    -------
    dict
        ``restorer``, ``scale``, ``sigma`` and ``training_range``: ``microns_per_pixel``, range
        [low, high] of the low-resolution images, for :func:`resolution_warnings`.

    Raises
    ------
    InputError
        When the table is empty or has a tile without resolution.
    """
    if table.empty:
        raise InputError("the training split is empty. Remedy: name a split that has rows")
    if not (table["microns_per_pixel"] > 0).all():
        raise InputError("microns_per_pixel must be given for every tile of the manifest")
    low, high = (degradation.scale * float(value) for value in table["microns_per_pixel"].agg(["min", "max"]))
    return {
        "restorer": "histology.ImageFileRestorer",
        **degradation.key,
        "training_range": {"microns_per_pixel": [low, high]},
    }


def resolution_warnings(microns_per_pixel: float | None, seen: Mapping[str, Any]) -> list[str]:
    """Say in words where an image's resolution lies outside of what a network was trained on.

    Parameters
    ----------
    microns_per_pixel : float or None, um
        Of the low-resolution image; None when not known.
    seen
        Of :func:`model_information`, as kept in ``model.pt``.

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
