"""Resolution of histology images: Gaussian smoothing with subsampling, its adjoint, and enlargement.

A pixel is a square; low-resolution pixel i lies at the center of its block of ``scale`` high-resolution
pixels, at ``scale * i + (scale - 1) / 2`` in their indices. Enlargement by Pillow, and by torch with
``align_corners=False``, follows the same convention, so nothing is shifted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from medrestore.checks import InputError, require_in_range, require_in_set
from medrestore.operators.base import LinearDegradation

__all__ = [
    "ENLARGEMENTS",
    "GaussianSubsampling",
    "enlarge",
    "subsampling_matrix",
]

ENLARGEMENTS = ("bicubic", "lanczos")
"""Methods of :func:`enlarge`."""

REACH = 4.0
"""Standard deviations at which the Gaussian is cut: 6e-5 of it lie beyond, a sixtieth of a gray level."""

_SIGMAS = (0.1, 1000.0)
"""A narrower Gaussian is none: between the samples nothing of it would be left."""


@lru_cache(maxsize=64)
def subsampling_matrix(size: int, *, scale: int, sigma: float) -> sparse.csr_matrix:
    """Return the matrix that smooths a vector by a Gaussian and keeps one value for every block.

    Parameters
    ----------
    size
        Length of the vector; a multiple of ``scale``.
    scale
        Length of a block.
    sigma : float, samples of the vector
        Standard deviation of the Gaussian.

    Returns
    -------
    scipy.sparse.csr_matrix, (size / scale, size) float32
        Rows sum to 1. Not to be changed: calls share it.

    Raises
    ------
    InputError
        When the size is no multiple of ``scale``, or a number is out of range.

    Notes
    -----
    The Gaussian is taken at the samples within four standard deviations of the block's center, or within half
    a block where that is more, and normalized. Beyond its ends the vector is mirrored with its last sample
    repeated (scipy's ``reflect``). Rows whose Gaussian meets no end hold the same numbers, so an image that
    is reduced in overlapping strips comes out bit for bit as the whole one.

    Examples
    --------
    >>> [round(float(weight), 3) for weight in subsampling_matrix(4, scale=2, sigma=0.5).toarray()[0]]
    [0.5, 0.491, 0.009, 0.0]
    """
    require_in_range("scale", scale, 1, 64)
    require_in_range("sigma", sigma, *_SIGMAS)
    if size < scale or size % scale:
        raise InputError(f"the size must be a multiple of the scale {scale}, got {size}")
    offset = (scale - 1) / 2
    reach = max(REACH * sigma, scale / 2)
    steps = np.arange(np.ceil(offset - reach), np.floor(offset + reach) + 1)
    weights = np.exp(-0.5 * ((steps - offset) / sigma) ** 2)
    weights /= weights.sum()
    rows = np.arange(size // scale)
    places = scale * rows[:, None] + steps.astype(np.int64)
    mirrored = places % (2 * size)
    mirrored = np.where(mirrored < size, mirrored, 2 * size - 1 - mirrored)
    entries = (np.tile(weights, len(rows)), (np.repeat(rows, len(steps)), mirrored.ravel()))
    matrix = sparse.coo_matrix(entries, shape=(len(rows), size)).tocsr()  # adds up what was mirrored
    matrix.sort_indices()
    return matrix.astype(np.float32)


@dataclass(frozen=True)
class GaussianSubsampling(LinearDegradation):
    """y = S x: Gaussian smoothing and subsampling of the last two axes, as a low-resolution image is made.

    Parameters
    ----------
    scale
        High-resolution pixels per low-resolution pixel along each axis.
    sigma : float, high-resolution pixels
        Standard deviation of the Gaussian. Half the scale lets 29 % of an amplitude pass at the Nyquist
        frequency of the low-resolution grid and 0.7 % at twice that: little aliasing, little blur.

    Raises
    ------
    InputError
        When a number is out of range.

    Notes
    -----
    Linear, separable, center-aligned, with mirrored borders: see :func:`subsampling_matrix`. The paper
    (SRGAN_SQE, Section 3) says "Gaussian-smooth and subsample" and gives no width.

    Examples
    --------
    >>> GaussianSubsampling(scale=4).forward(np.ones((3, 8, 8), np.float32)).shape
    (3, 2, 2)
    """

    scale: int = 4
    sigma: float = 2.0

    def __post_init__(self) -> None:
        require_in_range("scale", self.scale, 1, 64)
        require_in_range("sigma", self.sigma, *_SIGMAS)

    @property
    def key(self) -> dict[str, float]:
        """Scale and sigma."""
        return {"scale": int(self.scale), "sigma": float(self.sigma)}

    @property
    def halo(self) -> int:
        """Low-resolution pixels around a part of an image that it depends on."""
        return math.ceil(REACH * self.sigma / self.scale) + 1

    def forward(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the low-resolution array (..., H / scale, W / scale) float32 of (..., H, W)."""
        moved = np.moveaxis(image, (-2, -1), (0, 1))
        return np.ascontiguousarray(np.moveaxis(self._reduced(moved), (0, 1), (-2, -1)))

    def adjoint(self, data: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return S^T y (..., scale h, scale w) float32 of a low-resolution array (..., h, w)."""
        rows, columns = (self._matrix(self.scale * size) for size in data.shape[-2:])
        spread = _separable(np.moveaxis(data, (-2, -1), (0, 1)), rows.T, columns.T)
        return np.ascontiguousarray(np.moveaxis(spread, (0, 1), (-2, -1)))

    def picture(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the low-resolution image of a high-resolution one, in 8 bits as a scanner gives it.

        Parameters
        ----------
        image : (H, W, C) uint8
            H and W are multiples of ``scale``.

        Returns
        -------
        (H / scale, W / scale, C) uint8
            Rounded to the nearest gray level.

        Raises
        ------
        InputError
            When the image is not (H, W, C) uint8, or its size is no multiple of the scale.
        """
        _require_picture(image)
        return np.ascontiguousarray(np.clip(np.rint(self._reduced(image)), 0, 255).astype(np.uint8))

    def _reduced(self, images: NDArray[np.generic]) -> NDArray[np.float32]:
        """Reduce arrays (H, W, ...), in the order of axes in which a picture needs no copy."""
        return _separable(images, *(self._matrix(size) for size in images.shape[:2]))

    def _matrix(self, size: int) -> sparse.csr_matrix:
        return subsampling_matrix(size, scale=self.scale, sigma=self.sigma)


def _separable(
    images: NDArray[np.generic], rows: sparse.spmatrix, columns: sparse.spmatrix
) -> NDArray[np.float32]:
    """Apply one matrix along the first axis (H, W, ...) and another along the second."""
    height, width, *rest = images.shape
    less = rows @ images.reshape(height, -1).astype(np.float32, copy=False)
    turned = less.reshape(-1, width, math.prod(rest)).swapaxes(0, 1).reshape(width, -1)  # (W, h * ...)
    done = (columns @ turned).reshape(columns.shape[0], rows.shape[0], *rest)
    return np.asarray(done.swapaxes(0, 1))


def enlarge(image: NDArray[np.uint8], *, scale: int, method: str = "bicubic") -> NDArray[np.uint8]:
    """Enlarge an image by interpolation: what super-resolution is compared with.

    Parameters
    ----------
    image : (h, w, 3) uint8
        The low-resolution image.
    scale
        Factor along each axis.
    method
        ``bicubic`` (Catmull-Rom-like, a = -0.5) or ``lanczos`` (three lobes), both Pillow's.

    Returns
    -------
    (scale * h, scale * w, 3) uint8
        Pillow interpolates along one axis after the other and rounds after either.

    Raises
    ------
    InputError
        When the image is not (h, w, 3) uint8, or the method is unknown.
    """
    from PIL import Image

    require_in_set("method", method, ENLARGEMENTS)
    require_in_range("scale", scale, 1, 64)
    _require_picture(image)
    height, width, channels = image.shape
    if channels != 3:
        raise InputError(f"the image must have 3 channels, got {channels}")
    kernel = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}[method]
    resized = Image.fromarray(np.ascontiguousarray(image)).resize((width * scale, height * scale), kernel)
    return np.asarray(resized).copy()


def _require_picture(image: NDArray[np.uint8]) -> None:
    if image.ndim != 3 or image.dtype != np.uint8:
        raise InputError(f"the image must be (H, W, C) uint8, got {image.shape} {image.dtype}")
