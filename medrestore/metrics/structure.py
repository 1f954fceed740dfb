"""Structure at several scales and local variance: MS-mSSIM (noise lowers it) and QILV (blur lowers it)."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from medrestore.checks import InputError, require_in_range, require_same_shape
from medrestore.metrics.fidelity import local_mean, ssim

__all__ = ["ms_mssim", "qilv"]

Array: TypeAlias = npt.NDArray[Any]

SSIM_WINDOW = 11
"""Side of the window of SSIM, pixels: the coarsest scale must hold one."""


def ms_mssim(restored: Array, target: Array, *, data_range: float, scales: int = 5) -> float:
    r"""Return the mean over dyadic scales of the mean structural similarity, averaged over channels.

    .. math::
        \frac{1}{S} \sum_{s=0}^{S-1} \overline{\mathrm{SSIM}}(D^s x, D^s y)

    with D the mean of 2 x 2 blocks and SSIM as :func:`medrestore.metrics.fidelity.ssim` has it, over windows
    that lie within the image.

    Parameters
    ----------
    restored, target : (H, W) or (H, W, 3)
        Images in one unit, of ``11 * 2 ** (scales - 1)`` pixels or more a side: 176 for five scales.
    data_range
        R, in the images' unit: 255 for 8-bit images.
    scales
        S; 1 is SSIM itself.

    Returns
    -------
    float
        At most 1, which only equal images reach.

    Raises
    ------
    InputError
        When shapes differ or are neither gray nor RGB, values are not finite, the data range is not positive,
        or the images are too small.

    Notes
    -----
    The SRGAN_SQE paper, section 3, "averages SSIM across neighborhoods at five
    different scales". This is not the MS-SSIM of Wang, Simoncelli and Bovik 2003, which multiplies powers of
    contrast and structure of all scales with the luminance of the coarsest: here every scale has its whole
    SSIM and one weight. The numbers of the two cannot be compared. An odd last row or column is left out of
    the next scale.

    Examples
    --------
    >>> image = np.linspace(0, 1, 176 * 176).reshape(176, 176)
    >>> ms_mssim(image, image, data_range=1.0)
    1.0
    """
    require_in_range("scales", scales, 1, float("inf"))
    _require_images(restored, target, smallest=SSIM_WINDOW * 2 ** (scales - 1), reason=f"{scales} scales")
    a, b = restored.astype(np.float64), target.astype(np.float64)
    total = 0.0
    for scale in range(scales):
        if scale:
            a, b = _half(a), _half(b)
        total += ssim(a, b, data_range=data_range)
    return total / scales


def qilv(restored: Array, target: Array, *, window: int = 11, sigma: float = 1.5) -> float:
    r"""Return the quality index based on local variance, averaged over channels.

    With V and V' the maps of local variance of the two images under a Gaussian window, their means m,
    standard deviations s and covariance c,

    .. math::
        \mathrm{QILV} = \frac{2 m m'}{m^2 + m'^2} \cdot \frac{2 s s'}{s^2 + s'^2} \cdot \frac{c}{s s'}

    Parameters
    ----------
    restored, target : (H, W) or (H, W, 3)
        Images in one unit, which cancels; larger than the window by a pixel or more.
    window
        Side of the Gaussian window, pixels, odd.
    sigma
        Standard deviation of the Gaussian, pixels.

    Returns
    -------
    float
        In [-1, 1]; 1 for equal images.

    Raises
    ------
    InputError
        When shapes differ or are neither gray nor RGB, values are not finite, the window is not odd, or the
        images are no larger than it.

    Notes
    -----
    Aja-Fernandez, San Jose Estepar, Alberola-Lopez and Westin, "Image quality assessment based on local
    variance", EMBC 2006, in the authors' setting: 11 x 11, 1.5 pixels, windows within the image. The
    constants that their program adds to the three factors are 0, as in the equation.

    Where a factor is 0/0 the two images agree in it and it counts as 1: two flat channels have QILV 1, and so
    have two of equal and constant local variance. Where only one of them is flat QILV is 0. A standard
    deviation of V that rounding alone can cause counts as 0. On a tile that is almost blank, QILV compares
    nothing but noise.

    Examples
    --------
    >>> image = np.square(np.arange(400.0)).reshape(20, 20) % 7
    >>> qilv(image, image)
    1.0
    >>> qilv(np.zeros((20, 20)), image)
    0.0
    """
    _require_images(restored, target, smallest=window + 1, reason=f"a window of {window}")
    v, floor_v = _local_variance(restored, window=window, sigma=sigma)
    w, floor_w = _local_variance(target, window=window, sigma=sigma)
    m, n = v.mean(axis=(0, 1)), w.mean(axis=(0, 1))
    v -= m
    w -= n
    spread_v, spread_w = np.square(v).mean(axis=(0, 1)), np.square(w).mean(axis=(0, 1))
    covariance = (v * w).mean(axis=(0, 1))
    known_v, known_w = spread_v > floor_v**2, spread_w > floor_w**2
    # s s' cancels between the last two factors, so only two constant maps are left undefined.
    similar = np.where(known_v & known_w, 2 * covariance, 0.0)
    spreads = np.where(known_v, spread_v, 0.0) + np.where(known_w, spread_w, 0.0)
    level = _ratio(2 * m * n, m**2 + n**2)
    return float((level * _ratio(similar, spreads)).mean())


def _local_variance(image: Array, *, window: int, sigma: float) -> tuple[Array, Array]:
    """Return each channel's map of local variance, and the deviation that rounding alone may give it."""
    values = image.astype(np.float64)
    # A variance knows no offset; without it a flat image has exactly none.
    values -= values[:1, :1].copy()
    square = values * values
    mean = local_mean(values, window=window, sigma=sigma)
    margin = window // 2
    variance = local_mean(square, window=window, sigma=sigma) - mean * mean
    inner = variance[margin : image.shape[0] - margin, margin : image.shape[1] - margin]
    rounding = 64 * np.finfo(np.float64).eps * square.max(axis=(0, 1))
    return np.maximum(inner, 0.0), rounding


def _ratio(above: Array, below: Array) -> Array:
    """Return the quotient, 1 where both are 0."""
    zero = below == 0
    return np.asarray(np.where(zero, 1.0, above / np.where(zero, 1.0, below)))


def _half(image: Array) -> Array:
    """Return the means of 2 x 2 blocks."""
    rows, columns = (side // 2 * 2 for side in image.shape[:2])
    even = image[0:rows:2] + image[1:rows:2]
    half: Array = (even[:, 0:columns:2] + even[:, 1:columns:2]) / 4
    return half


def _require_images(restored: Array, target: Array, *, smallest: int, reason: str) -> None:
    require_same_shape(restored=restored.shape, target=target.shape)
    if restored.ndim not in (2, 3) or restored.shape[2:] not in ((), (3,)):
        raise InputError(f"images must be of shape (H, W) or (H, W, 3), got {restored.shape}")
    if min(restored.shape[:2]) < smallest:
        raise InputError(
            f"images must be at least {smallest} x {smallest} for {reason}, got {restored.shape[:2]}"
        )
    for name, image in (("restored", restored), ("target", target)):
        if not np.isfinite(image).all():
            raise InputError(f"{name} must be finite, got NaN or infinite pixels")
