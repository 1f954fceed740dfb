"""Where a slide holds tissue, where a pen has drawn on it, and whether a tile of it is in focus."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from medrestore.checks import InputError, require_in_range

__all__ = ["MINIMUM_FOCUS", "focus_score", "pen_mask", "tissue_mask"]

MINIMUM_FOCUS = 0.005
"""Tiles of a lower :func:`focus_score` are out of focus."""

SATURATION_RANGE = (0.04, 0.07)
"""Bounds of the threshold of :func:`tissue_mask`."""

_DARKEST = 50.0  # below, of 255, saturation is the noise of a black border or of ink
_LUMINANCE = (0.2125, 0.7154, 0.0721)  # of scikit-image's rgb2gray
_LAPLACIAN_NOISE = 20.0 / 12.0  # variance that rounding to whole numbers, 1 / 12, has after (1, 1, -4, 1, 1)
_BAND = 512  # rows whose hue is held at a time, in float64
_FLATTEST = 1.0  # variance in gray levels squared below which a tile shows nothing to focus on


def tissue_mask(
    rgb: npt.NDArray[np.uint8], *, smallest: int = 64, smoothing: float = 1.0
) -> npt.NDArray[np.bool_]:
    """Return where a picture of a slide shows tissue.

    Parameters
    ----------
    rgb : array (H, W, 3), uint8
        A slide at a coarse resolution, 2 to 10 um/pixel.
    smallest : int, pixels
        Area below which pieces are removed and holes filled.
    smoothing : float, pixels
        Standard deviation of the Gaussian that the saturation is smoothed with; 10 um joins the nuclei of
        a pale stroma.

    Returns
    -------
    array (H, W), bool

    Raises
    ------
    InputError
        When the array is no RGB picture of 8 bits.

    Notes
    -----
    Tissue is stained and glass is not: the mask is where the saturation (of HSV) exceeds a threshold, Otsu's
    within :data:`SATURATION_RANGE`. Its floor keeps an empty slide empty: glass stays below 0.03 in the
    slides that this was made with. Its ceiling keeps a picture that is filled with tissue full: there, Otsu's
    threshold (0.3 to 0.6) would part nuclei from stroma. Fat and wide vessels hold no stain and are left out,
    and so is stroma that is as pale as glass.
    """
    from scipy.ndimage import gaussian_filter
    from skimage.filters import threshold_otsu

    _require_rgb(rgb)
    require_in_range("smallest", smallest, 0, np.inf)
    require_in_range("smoothing", smoothing, 0, np.inf)
    saturation = gaussian_filter(_saturation(rgb), smoothing, mode="nearest")
    level = threshold_otsu(saturation) if np.ptp(saturation) > 0 else SATURATION_RANGE[0]
    mask = _without_small(np.asarray(saturation > np.clip(level, *SATURATION_RANGE)), smallest)
    return ~_without_small(~mask, smallest)


def pen_mask(rgb: npt.NDArray[np.uint8], *, smallest: int = 16) -> npt.NDArray[np.bool_]:
    """Return where a picture of a slide shows ink of a pen: blue, green, red or black.

    Parameters
    ----------
    rgb, smallest
        As of :func:`tissue_mask`; holes are not filled.

    Notes
    -----
    Inks are told from stains by hue, saturation and value, after the pen filters of deep-histopath (CODAIT,
    2018: ``filter_red_pen``, ``filter_green_pen``, ``filter_blue_pen``), whose many cut-offs in R, G and B
    are here one range of hue for each ink. Hematoxylin lies at 230 to 310 degrees, eosin at 305 to 350, DAB
    at 20 to 45: green and blue ink are unlike all of them, red ink is told from eosin and blood by its
    saturation only. Ink of tissue margins, which pathologists put on the specimen itself, is found as well.
    """
    _require_rgb(rgb)
    require_in_range("smallest", smallest, 0, np.inf)
    bands = range(0, len(rgb), _BAND)
    ink = np.concatenate([_ink(rgb[start : start + _BAND]) for start in bands])
    return _without_small(ink, smallest)


def focus_score(rgb: npt.NDArray[np.uint8]) -> float:
    r"""Return how sharp a tile is: the variance of its Laplacian over its variance.

    .. math:: s = \max(0, \mathrm{Var}(\Delta g) - \nu) \,/\, \mathrm{Var}(g)

    with g the luminance and :math:`\nu` what rounding to 8 bits adds to the numerator.

    Parameters
    ----------
    rgb : array (H, W, 3), uint8
        A tile at the resolution that it is used at.

    Returns
    -------
    float
        At least 0; 0 for a flat tile.

    Raises
    ------
    InputError
        When the array is no RGB picture of 8 bits.

    Notes
    -----
    The variance of the Laplacian is the usual measure of focus (Pech-Pacheco et al., ICPR 2000). Divided by
    the variance it depends neither on the strength of the stain nor on the brightness of the lamp, so one
    threshold serves many slides; it still depends on the resolution and on the scanner's sharpening. Noise
    counts as sharpness. 156 tiles of 256 pixels in 18 H&E slides of 0.25 to 0.5 um/pixel score 0.022 to 1.3;
    smoothed by a Gaussian of 2 pixels 28 % of them fall below :data:`MINIMUM_FOCUS`, of 3 pixels 94 %, of 4
    pixels all.
    """
    from scipy.ndimage import laplace

    _require_rgb(rgb)
    weights = np.asarray(_LUMINANCE, dtype=np.float32)
    gray = rgb @ weights
    variance = float(gray.var())
    if variance < _FLATTEST:
        return 0.0
    noise = _LAPLACIAN_NOISE * float(np.sum(weights**2))
    return max(float(laplace(gray, mode="reflect").var()) - noise, 0.0) / variance


def _ink(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return the pixels whose color is that of an ink."""
    from skimage.color import rgb2hsv

    hsv = rgb2hsv(rgb)
    hue, saturation, value = 360 * hsv[..., 0], hsv[..., 1], 255 * hsv[..., 2]
    colored = value > _DARKEST
    green = colored & (hue >= 75) & (hue < 195) & (saturation > 0.2)
    blue = colored & (hue >= 195) & (hue < 228) & (saturation > 0.45)
    red = colored & ((hue >= 348) | (hue < 12)) & (saturation > 0.7) & (value > 120)
    black = value < _DARKEST
    return np.asarray(green | blue | red | black, dtype=np.bool_)


def _without_small(mask: npt.NDArray[np.bool_], smallest: int) -> npt.NDArray[np.bool_]:
    """Return a mask without pieces, joined by edges, of an area below ``smallest``."""
    from scipy.ndimage import label

    labels, _ = label(mask)
    kept = np.bincount(labels.ravel()) >= smallest
    kept[0] = False
    return np.asarray(kept[labels], dtype=np.bool_)


def _saturation(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return the saturation of HSV; that of nearly black pixels goes to 0."""
    highest, lowest = rgb.max(axis=2).astype(np.float32), rgb.min(axis=2).astype(np.float32)
    saturation: npt.NDArray[np.float32] = (highest - lowest) / np.maximum(highest, np.float32(_DARKEST))
    return saturation


def _require_rgb(rgb: npt.NDArray[np.uint8]) -> None:
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
        raise InputError(f"expected a picture (H, W, 3) of uint8, got {rgb.shape} of {rgb.dtype}")
