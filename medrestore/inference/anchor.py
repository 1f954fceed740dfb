r"""The regional anchor: means that the unrestored image knows are given back to the restored one.

A network of slices pulls regional uptake to the mean of its training; the mean of the unrestored image over a
region is precise, since its noise averages out. With y the unrestored image, G(y) the restored one, regions r
of a label map with indicators 1_r, and K a 3D Gaussian:

.. math::
    x = G(y) + \sum_r c_r B_r, \quad B_r = K * 1_r, \quad T_{rs} = \operatorname{mean}_r B_s, \quad
    d_r = \operatorname{mean}_r (y - G(y))

c solves T c = d where d is certain, and x then has the regional means of y: the geometric transfer matrix of
Rousset et al (J Nucl Med 39:904, 1998), on the difference of two images in place of an image. The Gaussian
keeps edges of the label map out of x; the matrix takes back what it spreads over the neighbors.

Where d is uncertain it is shrunk: c is the posterior mean under c ~ N(0, t^2 I), d | c ~ N(T c, V), with V
the variances of the regional means of y (:func:`regional_noise`) and t^2 that of maximum marginal likelihood
over the scan's own regions (empirical Bayes: Efron and Morris, J Am Stat Assoc 68:117, 1973; for unequal
variances Morris, J Am Stat Assoc 78:47, 1983):

.. math::
    c = t^2 T^T (t^2 T T^T + V)^{-1} d

Without noise this is T c = d; with noise alone, c = 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import InputError, counted, require_in_range, require_same_shape

__all__ = [
    "LEAST_VOLUME_MM3",
    "SIGMA_MM",
    "Anchored",
    "GeometricTransfer",
    "Regions",
    "anchored",
    "regional_noise",
]

SIGMA_MM = 2.5
"""Standard deviation of the Gaussian K: about that of a brain PET image's resolution (6 mm FWHM)."""

LEAST_VOLUME_MM3 = 1000.0
"""Of a region that is anchored: a smaller one has no mean that is precise, and hardly any B of its own."""

LARGEST_CONDITION = 1000.0
"""Of a T that is inverted: B of float32, precise to 1e-7, then gives means that are precise to 1e-4 of c."""

TRUNCATE = 4.0
"""Where K ends, in standard deviations."""

INDEPENDENT_MM = 9.0
"""Distance along z at which the noise of two slices is taken for independent: post-filters of up to 6 mm FWHM
leave a correlation of .04 there."""


@dataclass(frozen=True, eq=False)
class Regions:
    """A label map on an image's grid.

    Parameters
    ----------
    codes : (X, Y, Z) int
        Region of each voxel; 0 where there is none.
    facts
        Plain values for the provenance: where it comes from.
    """

    codes: NDArray[np.integer[Any]]
    facts: Mapping[str, Any] = field(default_factory=dict)


class GeometricTransfer:
    """B_r and T of a label map.

    Parameters
    ----------
    codes : (X, Y, Z) int
        Region of each voxel; what is 0 is in no region.
    voxel_size_mm
        Of X, Y, Z.
    sigma_mm
        Standard deviation of the Gaussian K; 0 for none.
    least_volume_mm3
        Of a region; smaller ones are left out.

    Attributes
    ----------
    labels : tuple of int
        Codes of the R regions, ascending.
    left_out : dict of int
        Voxels of each region that is too small, by code.
    counts : (R,) int
        Voxels of each region.
    matrix : (R, R) float64
        T: ``matrix[r, s]`` is the mean of B_s in r.

    Raises
    ------
    InputError
        When the map holds no region, or codes that are no regions.

    Notes
    -----
    Beyond the image there is no region: K runs over zeros there.

    Examples
    --------
    >>> codes = np.zeros((8, 8, 8), dtype=np.int16)
    >>> codes[:, :, :4], codes[:, :, 4:] = 7, 2
    >>> transfer = GeometricTransfer(codes, voxel_size_mm=(4, 4, 4), sigma_mm=0)
    >>> transfer.labels, transfer.matrix.tolist()
    ((2, 7), [[1.0, 0.0], [0.0, 1.0]])
    """

    def __init__(
        self,
        codes: NDArray[np.integer[Any]],
        *,
        voxel_size_mm: Sequence[float],
        sigma_mm: float = SIGMA_MM,
        least_volume_mm3: float = LEAST_VOLUME_MM3,
    ) -> None:
        from scipy.ndimage import find_objects

        require_in_range("sigma_mm", sigma_mm, 0, 100)
        require_in_range("least_volume_mm3", least_volume_mm3, 0, float("inf"))
        if codes.ndim != 3 or not np.issubdtype(codes.dtype, np.integer):
            raise InputError(
                f"codes must be a volume of integers, got {codes.dtype} of {codes.ndim} dimensions"
            )
        if codes.min() < 0:
            raise InputError(f"region codes must not be negative, got {codes.min()}")
        voxels = np.bincount(codes.ravel())
        voxels[0] = 0
        large = voxels * float(np.prod(voxel_size_mm)) >= max(least_volume_mm3, np.finfo(float).tiny)
        small = (voxels > 0) & ~large
        self.left_out = {int(code): int(voxels[code]) for code in np.flatnonzero(small)}
        if not voxels.any():
            raise InputError("the region map names no region: it is 0 everywhere")
        if not large.any():
            raise InputError(
                f"the region map names no region of {least_volume_mm3:g} mm3 or more, but "
                f"{counted(len(self.left_out), 'smaller one')}"
            )
        self.labels = tuple(np.flatnonzero(large).tolist())
        self.counts = voxels[large]
        self.voxel_size_mm = tuple(float(size) for size in voxel_size_mm)
        self.sigma = tuple(sigma_mm / size for size in self.voxel_size_mm)
        # 0 is no region, r + 1 the region labels[r].
        self._index = np.where(large, np.cumsum(large), 0).astype(np.int32)[codes]
        self.matrix = np.zeros((len(self.labels),) * 2)
        margin = [int(TRUNCATE * sigma + 0.5) + 1 for sigma in self.sigma]
        for region, box in enumerate(find_objects(self._index)):
            # K is cut off, so B is 0 outside of a region's box and margin.
            window = tuple(
                slice(max(side.start - more, 0), side.stop + more)
                for side, more in zip(box, margin, strict=True)
            )
            inside = self._index[window]
            self.matrix[:, region] = self._sums(self._blurred(inside == region + 1), inside) / self.counts

    def means(self, image: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return the mean (R,) of an image (X, Y, Z) in each region."""
        require_same_shape(image=image.shape, codes=self._index.shape)
        return self._sums(image, self._index) / self.counts

    def spread(self, coefficients: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return the sum over regions of c_r B_r, (X, Y, Z), for coefficients (R,)."""
        return self._blurred(np.concatenate([[0], coefficients])[self._index])

    def slice_means(
        self, image: NDArray[np.floating[Any]]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the means of each region in each axial slice, and its voxels there, both (R, Z)."""
        slices, bins = self._index.shape[2], len(self.labels) + 1
        index = (self._index + bins * np.arange(slices, dtype=np.int32)).ravel()
        counts, sums = (
            np.bincount(index, weights, minlength=slices * bins).reshape(slices, bins)[:, 1:].T
            for weights in (None, image.ravel())
        )
        return sums / np.maximum(counts, 1), counts.astype(np.float64)

    def _blurred(self, image: NDArray[Any]) -> NDArray[np.float32]:
        from scipy.ndimage import gaussian_filter

        blurred: NDArray[np.float32] = gaussian_filter(
            image.astype(np.float32), self.sigma, mode="constant", truncate=TRUNCATE
        )
        return blurred

    def _sums(self, image: NDArray[Any], index: NDArray[np.int32]) -> NDArray[np.float64]:
        sums = np.bincount(index.ravel(), image.ravel(), minlength=len(self.labels) + 1)
        return np.asarray(sums[1:], dtype=np.float64)


def regional_noise(residual: NDArray[np.floating[Any]], transfer: GeometricTransfer) -> NDArray[np.float64]:
    r"""Return the variance (R,) of the mean of a noisy image in each region, from the image alone.

    .. math::
        V_r = \sum_{|l| < L} C_r(l) \frac{\sum_z n_z n_{z+l}}{n^2}, \quad C_r(l) = \gamma_r(L) - \gamma_r(l)

    with n_z the voxels of r in slice z, n in all, m_z the residual's mean there, and the variogram
    gamma_r(l) = mean of (m_{z+l} - m_z)^2 / 2 over slices, weighted by n_z n_{z+l}; L slices are
    :data:`INDEPENDENT_MM`.

    Parameters
    ----------
    residual : (X, Y, Z)
        Unrestored minus restored image: noise, and errors of the restoration that change little along z.
    transfer
        Of the regions.

    Notes
    -----
    The variance of the mean over a block, from the variogram (Matheron, Econ Geol 58:1246, 1963). Means of
    slices hold the correlation of the noise within a slice, whatever the reconstruction made of it; what is
    assumed is that slices L apart are independent, and that what the restoration gets wrong differs less
    between them than the noise. A region in too few slices has no variogram: the largest of the
    others' variances of a slice stands in for it.
    """
    means, counts = transfer.slice_means(residual)
    apart = max(1, round(INDEPENDENT_MM / transfer.voxel_size_mm[2]))

    def variogram(lag: int) -> NDArray[np.float64]:
        weights = counts[:, lag:] * counts[:, :-lag]
        squares = (means[:, lag:] - means[:, :-lag]) ** 2 / 2
        with np.errstate(invalid="ignore"):
            return np.asarray((weights * squares).sum(1) / weights.sum(1))

    of_slice = variogram(apart)
    if np.isnan(of_slice).all():
        raise InputError(
            f"no region reaches over {INDEPENDENT_MM:g} mm along z, so the noise of its mean is not known"
        )
    variance = of_slice * (counts**2).sum(1)
    for lag in range(1, apart):
        shared = (counts[:, lag:] * counts[:, :-lag]).sum(1)
        variance += 2 * np.nan_to_num(np.maximum(of_slice - variogram(lag), 0)) * shared
    variance /= transfer.counts.astype(np.float64) ** 2
    return np.where(np.isnan(of_slice), np.nanmax(of_slice), variance)


@dataclass(frozen=True, eq=False)
class Anchored:
    """An anchored image.

    Parameters
    ----------
    image : (X, Y, Z) float32
        x.
    differences, noise, coefficients, kept : (R,)
        d_r, square root of V_r, and c_r, in the image's unit; the part of d_r that is moved into r by what r
        itself says, 0 to 1.
    prior
        t, in the image's unit; infinite where nothing is shrunk.
    covariance : (R, R)
        Of c given d; zeros where nothing is shrunk.
    transfer
        Of the regions.
    """

    image: NDArray[np.float32]
    differences: NDArray[np.float64]
    noise: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    kept: NDArray[np.float64]
    prior: float
    covariance: NDArray[np.float64]
    transfer: GeometricTransfer

    def with_uncertainty(self, deviation: NDArray[np.float32]) -> NDArray[np.float32]:
        r"""Return the standard deviation (X, Y, Z) of x, from that of G(y) in each voxel.

        .. math::
            \sigma_x^2 = \sigma_G^2 + \sum_{rs} P_{rs} B_r B_s

        with P the covariance of c. The two are added as if they were independent, which tells too much rather
        than too little: what samples of G have in common over a region, the anchor takes back.
        """
        variance = deviation.astype(np.float32) ** 2
        values, vectors = np.linalg.eigh(self.covariance)
        # P by its principal axes: as many Gaussians as regions, no products of pairs.
        for value, vector in zip(values, vectors.T, strict=True):
            variance += np.float32(max(value, 0)) * self.transfer.spread(vector) ** 2
        return np.sqrt(variance)

    @property
    def facts(self) -> dict[str, Any]:
        """Plain values for a sidecar: numbers of each region by its code."""
        rows = zip(
            self.transfer.labels,
            *(values.tolist() for values in (self.differences, self.noise, self.kept, self.coefficients)),
            strict=True,
        )
        return {
            "prior_sd": self.prior if np.isfinite(self.prior) else None,
            "regions": {
                str(code): {"difference": d, "noise_sd": sd, "kept": kept, "coefficient": c}
                for code, d, sd, kept, c in rows
            },
            "regions_too_small": {str(code): count for code, count in self.transfer.left_out.items()},
        }


def anchored(
    restored: NDArray[np.float32],
    unrestored: NDArray[np.float32],
    transfer: GeometricTransfer,
    *,
    shrink: bool = True,
) -> Anchored:
    """Give the regional means of the unrestored image back to the restored one.

    Parameters
    ----------
    restored : (X, Y, Z) float32
        G(y).
    unrestored : (X, Y, Z) float32
        y, in the same unit.
    transfer
        Of the regions, on the same grid.
    shrink
        By the expected error of each region; otherwise T c = d.

    Raises
    ------
    InputError
        When shapes differ, values are not finite, or without shrinkage T cannot be inverted.
    """
    residual = unrestored - restored
    differences = transfer.means(residual)
    if not np.isfinite(differences).all():
        raise InputError("the images to anchor hold NaN or infinite values in a region")
    variances = regional_noise(residual, transfer) if shrink else np.zeros_like(differences)
    prior = _prior_variance(differences, transfer.matrix, variances)
    gain = _gain(transfer.matrix, variances, prior)
    coefficients = gain @ differences
    covariance = np.zeros_like(gain)
    if np.isfinite(prior):
        covariance = prior * (np.eye(len(gain)) - gain @ transfer.matrix)
    return Anchored(
        image=restored + transfer.spread(coefficients),
        differences=differences,
        noise=np.sqrt(variances),
        coefficients=coefficients,
        kept=np.diagonal(transfer.matrix @ gain),
        prior=float(np.sqrt(prior)),
        covariance=covariance,
        transfer=transfer,
    )


def _gain(matrix: NDArray[np.float64], variances: NDArray[np.float64], prior: float) -> NDArray[np.float64]:
    """Return what makes c of d: t^2 T' (t^2 T T' + V)^-1, and T^-1 for an infinite prior."""
    if prior == 0:
        return np.zeros_like(matrix)
    if np.isfinite(prior):
        scaled = np.diag(variances / prior)
        return np.asarray(np.linalg.solve(matrix @ matrix.T + scaled, matrix).T)
    condition = float(np.linalg.cond(matrix))
    if condition > LARGEST_CONDITION:
        raise InputError(
            f"regions of the map cannot be told apart at this width (condition {condition:.3g} of T). "
            "Remedy: join small ones, or let the anchor shrink"
        )
    return np.asarray(np.linalg.inv(matrix))


def _prior_variance(
    differences: NDArray[np.float64], matrix: NDArray[np.float64], variances: NDArray[np.float64]
) -> float:
    """Return t^2 of maximum marginal likelihood: d ~ N(0, t^2 T T' + V)."""
    from scipy.optimize import minimize_scalar

    if not variances.any():
        return float("inf")
    # In coordinates where V is the identity and T T' diagonal: z_i ~ N(0, 1 + t^2 e_i), independent.
    white = 1 / np.sqrt(np.maximum(variances, 1e-12 * variances.max()))
    values, vectors = np.linalg.eigh((white[:, None] * matrix) @ (white[:, None] * matrix).T)
    squares, values = (vectors.T @ (white * differences)) ** 2, np.maximum(values, 0)

    def cost(log_prior: float) -> float:
        spread = 1 + np.exp(log_prior) * values
        return float((np.log(spread) + squares / spread).sum())

    middle = -np.log(values.max())  # where t^2 is as large as the best region's noise
    found = minimize_scalar(cost, bounds=(middle - 14, middle + 14), method="bounded")
    return float(np.exp(found.x)) if found.fun < squares.sum() else 0.0
