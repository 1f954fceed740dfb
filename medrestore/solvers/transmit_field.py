"""A smooth transmit field out of noisy values, voxel by voxel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import require_same_shape

__all__ = ["smooth_transmit_field"]

Floats: TypeAlias = NDArray[np.float64]

PASSES = 5
"""Passes of the robust smoothing; on simulated heads a sixth changes B1 by 0.001 at most."""

TUKEY = 4.685
"""Standard deviations at which a voxel no longer counts: 95 % efficiency for normal errors."""

NORMAL_MEDIAN = 0.6745
"""Median of \\|N(0, 1)\\|."""


def smooth_transmit_field(
    b1: Floats, weight: Floats, *, inside: NDArray[np.bool_], sigma_voxels: Sequence[float]
) -> Floats:
    """Smooth B1, by weight and without voxels that are far from those around them.

    Parameters
    ----------
    b1 : (N,) float
        B1 over its nominal value, of the voxels in C order of ``inside``.
    weight : (N,) float
        Inverse variance of each value up to a common factor; 0 leaves a voxel out.
    inside : (...) bool
        Image whose N true voxels the values belong to.
    sigma_voxels : float for each axis, voxels
        Standard deviation of the Gaussian.

    Returns
    -------
    (N,) float64
        Also where the weight is 0; 1 where no voxel says anything.

    Raises
    ------
    InputError
        When the number of values is not that of the voxels.

    Notes
    -----
    A quadratic in the voxels' positions, plus the Gaussian mean of what it leaves. A Gaussian mean alone
    would be drawn inward at the edge of the head, where the field falls. Fluid that flows in during a delay
    was not saturated, which looks like a weak B1, as do voxels of two tissues: errors of one sign, which
    shift a mean. Tukey's biweight leaves them out (Beaton and Tukey, Technometrics 16:147, 1974).

    Examples
    --------
    >>> b1 = np.full(25, 0.9)
    >>> b1[12] = 0.6  # an outlier
    >>> weight = np.ones(25)
    >>> smooth = smooth_transmit_field(b1, weight, inside=np.ones((5, 5), bool), sigma_voxels=(2, 2))
    >>> bool(np.allclose(smooth, 0.9))
    True
    """
    voxels = (int(np.count_nonzero(inside)),)
    require_same_shape(b1=b1.shape, weight=weight.shape, voxels=voxels)
    scatter = np.sqrt(weight)
    telling = weight > 0
    if not telling.any():
        return np.ones_like(b1)
    trust = weight
    for _ in range(PASSES - 1):
        distance = np.abs(b1 - _weighted_mean(b1, trust, inside, sigma_voxels)) * scatter
        # Rounding errors of data without noise are no outliers.
        usual = max(float(np.median(distance[telling])) / NORMAL_MEDIAN, 1e-6 * float(scatter.max()))
        trust = weight * np.maximum(1 - (distance / (TUKEY * usual)) ** 2, 0) ** 2
    return _weighted_mean(b1, trust, inside, sigma_voxels)


def _weighted_mean(b1: Floats, weight: Floats, inside: NDArray[np.bool_], sigma: Sequence[float]) -> Floats:
    """Return a quadratic fit of B1 over all voxels plus a Gaussian mean of what it leaves, both weighted."""
    from scipy import ndimage

    share = weight / weight.max()
    trend = _quadratic(b1 - 1, share, inside) + 1
    weights, products = (np.zeros(inside.shape, dtype=np.float32) for _ in range(2))
    weights[inside] = share
    products[inside] = share * (b1 - trend)
    total, sums = (
        ndimage.gaussian_filter(image, sigma, mode="constant")[inside] for image in (weights, products)
    )
    # Beyond float32's resolution of the largest weight a quotient would be one of rounding errors.
    rest = np.divide(sums, total, out=np.zeros_like(sums), where=total > 1e-7)
    return np.asarray(trend + rest, dtype=np.float64)


def _quadratic(values: Floats, weight: Floats, inside: NDArray[np.bool_]) -> Floats:
    """Return the weighted least-squares fit by a polynomial of degree 2 in the voxels' positions."""
    size = np.array(inside.shape)[:, None]
    positions = list(np.array(np.nonzero(inside)) / size * 2 - 1)
    terms = [np.ones_like(values), *positions]
    terms += [one * other for i, one in enumerate(positions) for other in positions[i:]]
    design = np.stack(terms)
    weighted = design * weight
    # Few voxels, or one slice, cannot tell all terms apart: the pseudo-inverse leaves those out.
    inverse = np.linalg.pinv(weighted @ design.T, rcond=1e-10, hermitian=True)
    fitted: Floats = inverse @ (weighted @ values) @ design
    return fitted
