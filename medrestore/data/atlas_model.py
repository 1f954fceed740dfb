"""What the average head says of a scan: its tissues at given places, the best mixture of them, a smooth warp.

A scan of whatever kind is explained by one value for each tissue: gray matter by region, white matter, fluid,
meninges, skull, scalp, air. Least squares finds the values, so neither T1 nor PET of whatever tracer needs a
template of its own, nor does the unit matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from medrestore.data.phantoms.template import MENINGES_MM, REGIONS, SKULL_MM, Template, load_template

__all__ = ["PADDING_MM", "Explained", "SplineField", "TissueMaps", "spline_bases", "tissue_maps"]

PADDING_MM = 16.0
"""Beyond the template's grid, where its outer values go on."""

RIDGE = 1e-4
"""Weight of the tissues' values against the squares of a scan of magnitude 1, per place: tissues that are not
among the places get 0."""


@dataclass(frozen=True, eq=False)
class Explained:
    """How well tissues at some places explain a scan's values there.

    Parameters
    ----------
    unexplained
        Part of the variance that is left: residual squares, with those of the ridge, over those about the
        mean.
    residual : (N,) float64
        What the tissues leave of each value.
    gradient : (N, 3) float64, 1/mm
        Of the logarithm of ``unexplained`` along each place; empty when it was not asked for.
    """

    unexplained: float
    residual: NDArray[np.float64]
    gradient: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TissueMaps:
    """Tissue fractions of the average head, blurred. Made by :func:`tissue_maps`.

    Parameters
    ----------
    fractions : (X, Y, Z, K) float32
        They add up to 1.
    first_mm : (3,) float64
        Of voxel (0, 0, 0).
    voxel_mm
        Edge of a voxel.
    """

    fractions: NDArray[np.float32]
    first_mm: NDArray[np.float64]
    voxel_mm: float

    def explain(
        self,
        scan: NDArray[np.float64],
        places_mm: NDArray[np.float64],
        *,
        weights: NDArray[np.float64],
        with_gradient: bool = True,
    ) -> Explained:
        """Explain a scan's values by the tissues at its places in the template.

        Parameters
        ----------
        scan : (N,) float64
            Values of magnitude 1.
        places_mm : (N, 3) float64
            Where they lie in the template, mm.
        weights : (N,) float64
            Of their squares.
        with_gradient
            Whether the gradient is wanted.

        Notes
        -----
        The tissues' values are the best for these places, so the gradient along a place is that of the
        squares with the values held (variable projection: Golub and Pereyra, SIAM J Numer Anal 10:413, 1973).
        Linear between voxels, and the gradient is that of the interpolation.
        """
        shape = np.array(self.fractions.shape[:3])
        index = np.clip((places_mm - self.first_mm) / self.voxel_mm, 0, shape - 1.0001)
        whole = index.astype(np.int64)
        part = (index - whole).astype(np.float32)
        strides = np.array([shape[1] * shape[2], shape[2], 1])
        steps = np.stack(np.meshgrid(*[[0, 1]] * 3, indexing="ij"), axis=-1).reshape(8, 3)
        corners = self.fractions.reshape(-1, self.fractions.shape[3])[
            (whole @ strides)[:, None] + steps @ strides
        ]
        sides = np.stack([1 - part, part], axis=-1)  # (N, axis, side)
        shares = np.einsum("ni,nj,nk->nijk", sides[:, 0], sides[:, 1], sides[:, 2])
        mixed = np.matmul(shares.reshape(-1, 1, 8), corners)[:, 0].astype(np.float64)
        weighted = mixed * weights[:, None]
        ridge = RIDGE * float(weights.sum())
        normal = weighted.T @ mixed + ridge * np.eye(mixed.shape[1])
        values = np.linalg.solve(normal, weighted.T @ scan)
        residual = scan - mixed @ values
        squares = float(weights @ residual**2) + ridge * float(values @ values)
        mean = float(weights @ scan) / float(weights.sum())
        unexplained = squares / max(float(weights @ (scan - mean) ** 2), np.finfo(float).tiny)
        gradient = np.empty((0, 3))
        if with_gradient:
            model = (corners @ values.astype(np.float32)).reshape(-1, 2, 2, 2)
            slopes = np.stack(
                [
                    np.einsum("njk,nj,nk->n", model[:, 1] - model[:, 0], sides[:, 1], sides[:, 2]),
                    np.einsum("nik,ni,nk->n", model[:, :, 1] - model[:, :, 0], sides[:, 0], sides[:, 2]),
                    np.einsum("nij,ni,nj->n", model[..., 1] - model[..., 0], sides[:, 0], sides[:, 1]),
                ],
                axis=-1,
            )
            gradient = (-2 / (squares * self.voxel_mm)) * (weights * residual)[:, None] * slopes
        return Explained(unexplained, residual, gradient)


@lru_cache(maxsize=4)
def tissue_maps(sigma_mm: float, every: int = 1) -> TissueMaps:
    """Return the tissues of the average head, blurred by a Gaussian; every so many voxels along each axis."""
    from scipy.ndimage import gaussian_filter

    template = load_template()
    size = float(template.affine[0, 0])
    padding = int(PADDING_MM / size)
    maps = []
    for fraction in _tissues(template):
        padded = np.pad(fraction, padding, mode="edge")
        blurred = gaussian_filter(padded, sigma_mm / size, truncate=3.0)
        maps.append(blurred[::every, ::every, ::every])
    maps.append(1 - np.sum(maps, axis=0, dtype=np.float32))
    return TissueMaps(
        np.ascontiguousarray(np.stack(maps, axis=-1)), template.affine[:3, 3] - size * padding, size * every
    )


def _tissues(template: Template) -> list[NDArray[np.float32]]:
    """Return the fractions of all tissues but air; gray matter of the brain stem counts as white."""
    white = REGIONS["white_matter"]
    regions = [code for code in REGIONS.values() if code < white]
    gray = [np.where(template.nearest_region == code, template.gray, 0) for code in regions]
    stem = np.where(template.nearest_region == white, template.gray, 0)
    outside = 1 - template.gray - template.white - template.fluid
    depth = template.distance_mm
    soft, bone = depth <= MENINGES_MM, depth <= MENINGES_MM + SKULL_MM
    layers = [outside * soft, outside * (bone & ~soft), outside * (~bone & (template.outline_mm <= 0))]
    return [part.astype(np.float32) for part in (*gray, template.white + stem, template.fluid, *layers)]


@dataclass(frozen=True, eq=False)
class SplineField:
    """A smooth displacement: cubic B-splines on a regular grid of control points, none beyond it.

    Parameters
    ----------
    coefficients : (3, I, J, K) float64, mm
        Along X, Y, Z.
    first_mm : (3,) float64
        Of control point (0, 0, 0).
    spacing_mm
        Between neighbors.
    """

    coefficients: NDArray[np.float64]
    first_mm: NDArray[np.float64]
    spacing_mm: float

    def at(self, places_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the displacement (N, 3) at places (N, 3)."""
        from scipy.ndimage import map_coordinates

        index = ((places_mm - self.first_mm) / self.spacing_mm).T
        return np.stack(
            [
                map_coordinates(component, index, order=3, mode="grid-constant", prefilter=False)
                for component in self.coefficients
            ],
            axis=-1,
        )


def spline_bases(
    places: NDArray[np.float64], *, first: float, spacing: float, count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return cubic B-splines (N, count) at places along an axis, and their first and second derivatives.

    >>> value, slope, curvature = spline_bases(np.array([0.0]), first=-2.0, spacing=2.0, count=3)
    >>> value.round(3).tolist(), slope.tolist(), curvature.tolist()
    ([[0.167, 0.667, 0.167]], [[-0.25, 0.0, 0.25]], [[0.25, -0.5, 0.25]])
    """
    away = (places[:, None] - first) / spacing - np.arange(count)
    t, rest = np.abs(away), np.maximum(2 - np.abs(away), 0)
    value = np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, rest**3 / 6)
    slope = np.sign(away) * np.where(t < 1, 1.5 * t**2 - 2 * t, -(rest**2) / 2)
    curvature = np.where(t < 1, 3 * t - 2, rest)
    return value, slope / spacing, curvature / spacing**2
