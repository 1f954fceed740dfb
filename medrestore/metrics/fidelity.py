"""How close a restored image is to its target: PSNR, SSIM, RMSE, NRMSE, RRMSE."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from medrestore.checks import InputError, require_in_range, require_same_shape

__all__ = ["local_mean", "nrmse", "psnr", "rmse", "rrmse", "ssim"]

Array: TypeAlias = npt.NDArray[Any]


def psnr(restored: Array, target: Array, *, data_range: float, mask: Array | None = None) -> float:
    r"""Return the peak signal-to-noise ratio :math:`20 \log_{10}(R / \mathrm{RMSE})` in dB.

    Parameters
    ----------
    restored, target, mask
        As in :func:`rmse`.
    data_range
        R, in the images' unit.

    Returns
    -------
    float
        Infinite for equal images.

    Raises
    ------
    InputError
        As :func:`rmse`, or when the data range is not positive.

    Examples
    --------
    >>> round(psnr(np.full((4, 4), 0.9), np.ones((4, 4)), data_range=1.0), 6)
    20.0
    """
    _require_data_range(data_range)
    error = rmse(restored, target, mask=mask)
    return float(20 * np.log10(data_range / error)) if error > 0 else float("inf")


def rmse(restored: Array, target: Array, *, mask: Array | None = None) -> float:
    r"""Return the root of the mean squared error, in the images' unit.

    Parameters
    ----------
    restored, target : (X, Y) or (X, Y, Z)
        Images in one unit.
    mask : bool, of the images' shape
        Voxels that count; all when not given.

    Raises
    ------
    InputError
        When shapes differ, values are not finite or the mask is empty.

    Examples
    --------
    >>> rmse(np.zeros((1, 2)), np.array([[3.0, -3.0]]))
    3.0
    """
    a, b = _values(restored, target, mask)
    return float(np.sqrt(np.mean(np.square(a - b))))


def nrmse(restored: Array, target: Array, *, mask: Array | None = None) -> float:
    r"""Return the RMSE divided by the mean of the target, both over the same voxels.

    Parameters are those of :func:`rmse`.

    Raises
    ------
    InputError
        As :func:`rmse`, or when the target's mean is not positive.

    Examples
    --------
    >>> nrmse(np.array([[3.0, 5.0]]), np.array([[4.0, 4.0]]))
    0.25
    """
    _, b = _values(restored, target, mask)
    mean = float(b.mean())
    if mean <= 0:
        raise InputError(f"the target's mean must be positive for a relative error, got {mean}")
    return rmse(restored, target, mask=mask) / mean


def rrmse(restored: Array, target: Array, *, mask: Array | None = None) -> float:
    r"""Return the error relative to the target, :math:`\|x - y\|_2 / \|y\|_2`, over all pixels and channels.

    Parameters are those of :func:`rmse`; 8-bit images are compared as they are.

    Raises
    ------
    InputError
        As :func:`rmse`, or when the target is zero everywhere.

    Notes
    -----
    The relative root of the mean squared error of the SRGAN_SQE paper, section 3.
    Zero is black in an sRGB image, so a tile of much white background has a smaller RRMSE at the same error.

    Examples
    --------
    >>> rrmse(np.array([[3.0, 5.0]]), np.array([[3.0, 4.0]]))
    0.2
    """
    a, b = _values(restored, target, mask)
    size = float(np.linalg.norm(b))
    if size == 0:
        raise InputError("the target must not be zero everywhere for a relative error")
    return float(np.linalg.norm(a - b)) / size


def local_mean(images: Array, *, window: int, sigma: float) -> Array:
    """Return means under a Gaussian window over the first two axes, reflected at the border.

    Parameters
    ----------
    images : (X, Y) or (X, Y, Z)
        One image, or a stack: slices of a volume, channels of a color image.
    window
        Side in pixels, odd: the Gaussian is cut off there and its weights sum to 1.
    sigma
        Standard deviation of the Gaussian, pixels.

    Returns
    -------
    float64, of the images' shape
        What is ``window // 2`` pixels or more from the border saw no reflection.

    Raises
    ------
    InputError
        When the window is even or not positive, or sigma is not positive.

    Examples
    --------
    >>> impulse = np.zeros((3, 3))
    >>> impulse[1, 1] = 4.0
    >>> float(local_mean(impulse, window=3, sigma=100.0)[1, 1].round(3))
    0.444
    """
    from scipy.ndimage import gaussian_filter

    require_in_range("window", window, 1, float("inf"))
    if window % 2 == 0:
        raise InputError(f"window must be odd, got {window}")
    require_in_range("sigma", sigma, 0, float("inf"), include_low=False, include_high=False)
    mean: Array = gaussian_filter(
        images, sigma, axes=(0, 1), radius=window // 2, output=np.float64, mode="reflect"
    )
    return mean


def ssim(restored: Array, target: Array, *, data_range: float, mask: Array | None = None) -> float:
    r"""Return the mean structural similarity of an image, or of a volume's axial slices.

    .. math::
        \mathrm{SSIM} = \frac{(2 \mu_a \mu_b + C_1)(2 \sigma_{ab} + C_2)}
                             {(\mu_a^2 + \mu_b^2 + C_1)(\sigma_a^2 + \sigma_b^2 + C_2)},
        \quad C_1 = (0.01 R)^2, \; C_2 = (0.03 R)^2

    with moments under a two-dimensional Gaussian of 1.5 pixels in an 11 x 11 window, slice by slice.

    Parameters
    ----------
    restored, target : (X, Y) or (X, Y, Z)
        Images in one unit, 11 x 11 pixels or more in a slice.
    data_range
        R, in the images' unit.
    mask : bool, of the images' shape
        Voxels over which the similarity map is averaged. When not given: all whose window lies within the
        slice.

    Raises
    ------
    InputError
        When shapes differ, values are not finite, the mask is empty, the data range is not positive or the
        slices are smaller than the window.

    Notes
    -----
    Wang et al. 2004. Equals scikit-image's ``structural_similarity(gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False)`` slice by slice, averaged. A mask may reach the slice's border, where the
    window is completed by reflection; what lies outside it is still seen by the windows, so it must be finite
    too.

    Examples
    --------
    >>> image = np.linspace(0, 1, 144).reshape(12, 12)
    >>> ssim(image, image, data_range=1.0)
    1.0
    """
    _require_data_range(data_range)
    # Variances are differences of nearly equal numbers: double precision.
    a, b = _values(restored, target, None)
    if mask is not None:
        _values(restored, target, mask)
    if min(restored.shape[:2]) < 11:
        raise InputError(f"slices must be at least 11 x 11 for SSIM, got {restored.shape[:2]}")
    mean_a, mean_b = (local_mean(image, window=11, sigma=1.5) for image in (a, b))
    product = mean_a * mean_b
    squares = mean_a * mean_a + mean_b * mean_b
    covariance = local_mean(a * b, window=11, sigma=1.5) - product
    variances = local_mean(a * a + b * b, window=11, sigma=1.5) - squares
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    similarity = (2 * product + c1) * (2 * covariance + c2)
    similarity /= (squares + c1) * (variances + c2)
    return float((similarity[5:-5, 5:-5] if mask is None else similarity[mask]).mean())


def _require_data_range(data_range: float) -> None:
    require_in_range("data_range", data_range, 0, float("inf"), include_low=False, include_high=False)


def _values(restored: Array, target: Array, mask: Array | None) -> tuple[Array, Array]:
    """Return the voxels that count of both images, in double precision."""
    require_same_shape(restored=restored.shape, target=target.shape)
    if restored.ndim not in (2, 3):
        raise InputError(f"images must be of shape (X, Y) or (X, Y, Z), got {restored.shape}")
    if mask is not None:
        require_same_shape(mask=mask.shape, target=target.shape)
        if mask.dtype != np.bool_:
            raise InputError(f"mask must be boolean, got {mask.dtype}")
        restored, target = restored[mask], target[mask]
    if target.size == 0:
        raise InputError("there is no voxel to compare: the images or the mask are empty")
    for name, image in (("restored", restored), ("target", target)):
        if not np.isfinite(image).all():
            bad = np.count_nonzero(~np.isfinite(image))
            raise InputError(f"{name} must be finite, got {bad} NaN or infinite voxels")
    return restored.astype(np.float64), target.astype(np.float64)
