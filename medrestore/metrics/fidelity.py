"""How close a restored image is to its target: PSNR, SSIM, RMSE, NRMSE."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from medrestore.checks import InputError, require_in_range, require_same_shape

__all__ = ["nrmse", "psnr", "rmse", "ssim"]

Array: TypeAlias = npt.NDArray[Any]


def psnr(restored: Array, target: Array, *, data_range: float, mask: Array | None = None) -> float:
    r"""Return the peak signal-to-noise ratio :math:`20 \log_{10}(R / \mathrm{RMSE})` in dB.

    Parameters
    ----------
    restored, target : (X, Y) or (X, Y, Z)
        Images in one unit.
    data_range
        R, in the images' unit.
    mask : bool, of the images' shape
        Voxels that count; all when not given.

    Returns
    -------
    float
        Infinite for equal images.

    Raises
    ------
    InputError
        When shapes differ, values are not finite, the mask is empty or the data range is not positive.

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

    Returns
    -------
    float

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

    Parameters
    ----------
    restored, target : (X, Y) or (X, Y, Z)
        Images in one unit.
    mask : bool, of the images' shape
        Voxels that count; all when not given.

    Returns
    -------
    float

    Raises
    ------
    InputError
        When shapes differ, values are not finite, the mask is empty or the target's mean is not positive.

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

    Returns
    -------
    float

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
    from scipy.ndimage import gaussian_filter

    _require_data_range(data_range)
    _values(restored, target, None)
    _values(restored, target, mask)
    if min(restored.shape[:2]) < 11:
        raise InputError(f"slices must be at least 11 x 11 for SSIM, got {restored.shape[:2]}")
    sigma = (1.5, 1.5, 0.0)[: restored.ndim]

    def local_mean(image: Array) -> Array:
        mean: Array = gaussian_filter(image, sigma, truncate=3.5)
        return mean

    # Variances are differences of nearly equal numbers: double precision.
    a, b = restored.astype(np.float64), target.astype(np.float64)
    mean_a, mean_b = local_mean(a), local_mean(b)
    variances = local_mean(a * a) + local_mean(b * b) - mean_a**2 - mean_b**2
    covariance = local_mean(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    similarity /= (mean_a**2 + mean_b**2 + c1) * (variances + c2)
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
