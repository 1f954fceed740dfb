"""Parallel-beam projection of a stack of slices: a sparse system matrix with the scanner's resolution blur.

Images are (X, X, Z) with slices along the last axis; sinograms are (angles, bins, Z). One sparse product
projects all slices at once. A bin is as wide as a pixel. The value of a sinogram bin is the line integral of
the image in (image unit) x mm, averaged over the width of the bin.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from math import erf, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from medrestore.checks import fail, require_in_range
from medrestore.operators.base import LinearDegradation

__all__ = ["ParallelProjector", "ProjectionGeometry", "gaussian_blur_matrix", "system_matrix"]

FWHM_PER_SIGMA = 2.3548200450309493


@dataclass(frozen=True)
class ProjectionGeometry:
    """The grid of the slices, the angles and the resolution of a parallel-beam scanner.

    Attributes
    ----------
    pixels : int
        Rows and columns of a slice, and number of bins.
    slices : int
        Number of slices.
    pixel_mm, slice_mm : float, mm
        In-plane spacing (isotropic) and slice spacing.
    angles : int
        Number of angles, evenly spread over 180 degrees.
    fwhm_mm : float, mm
        Full width at half maximum of the Gaussian point spread function, in-plane and axially; 0 for none.
    """

    pixels: int = 128
    slices: int = 50
    pixel_mm: float = 2.0
    slice_mm: float = 3.0
    angles: int = 120
    fwhm_mm: float = 5.0

    def __post_init__(self) -> None:
        for name in ("pixels", "slices", "angles"):
            require_in_range(name, getattr(self, name), 1, 4096)
        for name in ("pixel_mm", "slice_mm"):
            require_in_range(name, getattr(self, name), 0.0, 100.0, include_low=False)
        require_in_range("fwhm_mm", self.fwhm_mm, 0.0, 100.0)


def gaussian_blur_matrix(size: int, *, fwhm: float) -> sparse.csr_matrix:
    """Return the symmetric (size, size) matrix that blurs a vector by a Gaussian, zero outside its ends.

    The kernel is the Gaussian's integral over each sample's width, cut at four standard deviations and
    normalized to sum 1, so that a narrow kernel neither aliases nor loses counts. Being symmetric, the matrix
    is its own adjoint.

    Parameters
    ----------
    size : int
        Number of samples.
    fwhm : float, samples
        Full width at half maximum; 0 gives the identity.

    Returns
    -------
    scipy.sparse.csr_matrix, (size, size) float32

    Examples
    --------
    >>> [round(float(weight), 3) for weight in gaussian_blur_matrix(5, fwhm=2.0).toarray()[2]]
    [0.037, 0.239, 0.444, 0.239, 0.037]
    """
    if fwhm == 0:
        return sparse.identity(size, dtype=np.float32, format="csr")
    sigma = fwhm / FWHM_PER_SIGMA
    reach = min(int(np.ceil(4 * sigma)), size - 1)
    edges = np.array([erf((k + 0.5) / (sigma * sqrt(2))) for k in range(-reach - 1, reach + 1)])
    kernel = np.diff(edges)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    return sparse.diags(
        [np.full(size - abs(k), kernel[k + reach]) for k in range(-reach, reach + 1)],
        offsets=list(range(-reach, reach + 1)),
        shape=(size, size),
        format="csr",
        dtype=np.float32,
    )


def _footprint_integral(distance: NDArray[np.float64], cosine: float, sine: float) -> NDArray[np.float64]:
    """Return the share of a unit pixel's projection that lies below ``distance`` (pixels) from its center.

    The projection of a square is a trapezoid: the convolution of two boxes of widths ``|cos|`` and ``|sin|``.
    """
    half_base = (abs(cosine) + abs(sine)) / 2
    half_top = abs(abs(cosine) - abs(sine)) / 2
    height = 1 / (half_base + half_top)
    away = np.abs(distance)
    # On the slopes the remaining area is a triangle; with no slope (0 and 90 degrees) it is never evaluated.
    slope = max(half_base - half_top, np.finfo(float).tiny)
    beyond = height * np.maximum(half_base - away, 0) ** 2 / (2 * slope)
    return np.asarray(0.5 + np.sign(distance) * np.where(away <= half_top, height * away, 0.5 - beyond))


@lru_cache(maxsize=4)
def system_matrix(pixels: int, angles: int) -> sparse.csr_matrix:
    """Return the strip-integral system matrix of one slice, in units of the pixel width.

    Entry (angle * pixels + bin, x * pixels + y) is the area that the bin's strip and the pixel share. Pixels
    outside the inscribed circle, which not all angles see, have no entries.

    Parameters
    ----------
    pixels : int
        Rows and columns of the slice, and number of bins.
    angles : int
        Number of angles over 180 degrees.

    Returns
    -------
    scipy.sparse.csr_matrix, (angles * pixels, pixels * pixels) float32
    """
    center = (pixels - 1) / 2
    position = np.arange(pixels) - center
    disk = np.add.outer(position**2, position**2).ravel() <= (pixels / 2) ** 2
    inside = np.flatnonzero(disk).astype(np.int32)
    x, y = position[inside // pixels], position[inside % pixels]
    rows, columns, values = [], [], []
    for index in range(angles):
        cosine, sine = np.cos(np.pi * index / angles), np.sin(np.pi * index / angles)
        radial = x * cosine + y * sine
        half_base = (abs(cosine) + abs(sine)) / 2
        first = np.floor(radial - half_base + center + 0.5).astype(np.int32)
        below = _footprint_integral(first - 0.5 - center - radial, cosine, sine)
        for offset in range(3):  # a footprint is at most sqrt(2) bins wide, so it touches three bins at most
            bins = first + offset
            above = _footprint_integral(bins + 0.5 - center - radial, cosine, sine)
            share = above - below
            below = above
            kept = (share > 1e-7) & (bins >= 0) & (bins < pixels)
            rows.append((index * pixels + bins)[kept])
            columns.append(inside[kept])
            values.append(share[kept].astype(np.float32))
    return sparse.csr_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))),
        shape=(angles * pixels, pixels * pixels),
    )


class ParallelProjector(LinearDegradation):
    r"""Line integrals of a stack of slices under the scanner's resolution: y = B_z B_r P x.

    P is the strip-integral matrix of :func:`system_matrix`; B_r and B_z are Gaussian blurs along the bins and
    along the slices. A parallel projection of an image that was blurred by an isotropic in-plane Gaussian
    equals the projection blurred along its bins by the same Gaussian, so that the blur costs little and need
    not be repeated per angle.

    Parameters
    ----------
    geometry : ProjectionGeometry
        Grid, angles and resolution.
    angle_indices : tuple of int
        The angles to project along, of the geometry's; all of them when empty.

    Examples
    --------
    >>> projector = ParallelProjector(ProjectionGeometry(pixels=16, slices=2, angles=8, pixel_mm=2.0))
    >>> point = np.zeros(projector.domain_shape, dtype=np.float32)
    >>> point[8, 8, 1] = 1.0
    >>> # Each angle sees pixel area / bin width:
    >>> projector.line_integrals(point).sum(axis=1)[:, 1].round(4).tolist()
    [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    """

    def __init__(self, geometry: ProjectionGeometry, *, angle_indices: tuple[int, ...] = ()) -> None:
        self.geometry = geometry
        self.angle_indices = angle_indices or tuple(range(geometry.angles))
        matrix = system_matrix(geometry.pixels, geometry.angles)
        if angle_indices:
            rows = np.add.outer(
                np.asarray(angle_indices) * geometry.pixels, np.arange(geometry.pixels)
            ).ravel()
            matrix = matrix[rows]
        self._matrix = matrix
        radial = gaussian_blur_matrix(geometry.pixels, fwhm=geometry.fwhm_mm / geometry.pixel_mm)
        self._radial_blur = sparse.kron(
            sparse.identity(len(self.angle_indices), dtype=np.float32), radial, format="csr"
        )
        self._axial_blur = gaussian_blur_matrix(
            geometry.slices, fwhm=geometry.fwhm_mm / geometry.slice_mm
        ).toarray()

    @property
    def key(self) -> dict[str, Any]:
        """The geometry and the angles."""
        return {**asdict(self.geometry), "angle_indices": list(self.angle_indices)}

    @property
    def domain_shape(self) -> tuple[int, int, int]:
        """Shape of an image stack, (X, X, Z)."""
        return (self.geometry.pixels, self.geometry.pixels, self.geometry.slices)

    @property
    def range_shape(self) -> tuple[int, int, int]:
        """Shape of a sinogram stack, (angles, bins, Z)."""
        return (len(self.angle_indices), self.geometry.pixels, self.geometry.slices)

    def forward(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return blurred line integrals (angles, bins, Z) float32, image unit x mm, of an image (X, X, Z)."""
        self._require("image", image.shape, self.domain_shape)
        rays = self._matrix @ self._columns(image)
        return self._scaled((self._radial_blur @ rays) @ self._axial_blur)

    def adjoint(self, data: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return A^T y, (X, X, Z) float32, of a sinogram stack (angles, bins, Z)."""
        self._require("data", data.shape, self.range_shape)
        rays = self._radial_blur @ (self._columns(data) @ self._axial_blur)
        image = self._matrix.T @ rays
        image *= np.float32(self.geometry.pixel_mm)
        return np.asarray(image.reshape(self.domain_shape))

    def line_integrals(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return line integrals without resolution blur, (angles, bins, Z) float32, in image unit x mm."""
        self._require("image", image.shape, self.domain_shape)
        return self._scaled(self._matrix @ self._columns(image))

    def subset(self, index: int, count: int) -> ParallelProjector:
        """Return the projector along every ``count``-th angle from angle ``index`` on."""
        require_in_range("count", count, 1, len(self.angle_indices))
        require_in_range("index", index, 0, count - 1)
        return ParallelProjector(self.geometry, angle_indices=self.angle_indices[index::count])

    def _columns(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (rows, Z) float32, one column a slice."""
        return np.ascontiguousarray(array, dtype=np.float32).reshape(-1, array.shape[-1])

    def _scaled(self, rays: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the rays as a sinogram, from pixel widths to mm."""
        rays *= np.float32(self.geometry.pixel_mm)
        return np.asarray(rays.reshape(self.range_shape))

    @staticmethod
    def _require(name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
        if tuple(shape) != expected:
            fail(f"{name} must have shape {expected}, got {tuple(shape)}")
