"""How much hematoxylin and eosin a picture shows, and how far a restored one drifts from its target."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from medrestore.checks import InputError, require_in_set, require_same_shape

__all__ = ["StainStatistics", "stain_density", "stain_drift", "stain_statistics"]

Array: TypeAlias = npt.NDArray[Any]

STAINS = {"hematoxylin": 0, "eosin": 1}
"""Place of each stain in the rows of scikit-image's separation matrix."""


class StainStatistics(NamedTuple):
    """Mean and standard deviation over pixels of both stains' optical density, or differences of them."""

    hematoxylin_mean: float
    hematoxylin_sd: float
    eosin_mean: float
    eosin_sd: float


def stain_density(rgb: Array, stain: Literal["hematoxylin", "eosin"]) -> Array:
    r"""Return the optical density that one stain of a hematoxylin and eosin section adds, pixel by pixel.

    .. math::
        D = M^{-1} \mathrm{OD}, \qquad \mathrm{OD} = -\log_{10}(I / 255)

    Parameters
    ----------
    rgb : (H, W, 3) uint8
        sRGB; white, 255, is where no light is lost.
    stain
        Which one.

    Returns
    -------
    (H, W) float32
        About 0 on background. Below 0 where the color lies outside what the stains can mix.

    Raises
    ------
    InputError
        When the picture is not RGB of 8 bits.

    Notes
    -----
    Ruifrok and Johnston, "Quantification of histochemical staining by color deconvolution", 2001, with the
    matrix of scikit-image's ``rgb2hed``, whose third stain, DAB, takes what the two do not explain. Two
    departures from ``rgb2hed``: the unit is optical density to base 10 (that function's values times 6),
    and values below 0 are kept, since cut off at 0 the mean would rise with noise. A value of 0 counts as 1.

    Examples
    --------
    >>> white = np.full((1, 2, 3), 255, dtype=np.uint8)
    >>> stain_density(white, "eosin").tolist()
    [[0.0, 0.0]]
    """
    from skimage.color import hed_from_rgb

    require_in_set("stain", stain, STAINS)
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise InputError(f"rgb must be (H, W, 3) of uint8, got {rgb.shape} of {rgb.dtype}")
    if rgb.size == 0:
        raise InputError(f"rgb must hold a pixel, got {rgb.shape}")
    # 256 values a channel: three look-ups and two sums take the place of logarithms of every pixel.
    optical_density = -np.log10(np.maximum(np.arange(256), 1) / 255)
    tables = np.outer(hed_from_rgb[:, STAINS[stain]], optical_density).astype(np.float32)
    density: Array = tables[0][rgb[..., 0]]
    density += tables[1][rgb[..., 1]]
    density += tables[2][rgb[..., 2]]
    return density


def stain_statistics(rgb: Array) -> StainStatistics:
    """Return mean and standard deviation of both stains' optical density over all pixels.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
        sRGB; background counts too.

    Returns
    -------
    StainStatistics
        Optical density to base 10, as :func:`stain_density` has it.

    Examples
    --------
    >>> stain_statistics(np.full((2, 2, 3), 255, dtype=np.uint8))
    StainStatistics(hematoxylin_mean=0.0, hematoxylin_sd=0.0, eosin_mean=0.0, eosin_sd=0.0)
    """
    hematoxylin, eosin = stain_density(rgb, "hematoxylin"), stain_density(rgb, "eosin")
    return StainStatistics(
        *(float(f(d, dtype=np.float64)) for d in (hematoxylin, eosin) for f in (np.mean, np.std))
    )


def stain_drift(restored: Array, target: Array) -> StainStatistics:
    """Return by how much the stains' statistics of a restored picture exceed those of its target.

    Parameters
    ----------
    restored, target : (H, W, 3) uint8
        sRGB.

    Returns
    -------
    StainStatistics
        Differences, restored minus target: a mean above 0 is a stain that came out too strong, a standard
        deviation below 0 one that lost contrast.

    Raises
    ------
    InputError
        When shapes differ or a picture is not RGB of 8 bits.
    """
    require_same_shape(restored=restored.shape, target=target.shape)
    pairs = zip(stain_statistics(restored), stain_statistics(target), strict=True)
    return StainStatistics(*(a - b for a, b in pairs))
