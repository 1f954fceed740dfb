"""Resolution of histology images: smoothing with subsampling, its adjoint, and enlargement.

A pixel is a square; low-resolution pixel i lies at the center of its block of ``scale`` high-resolution
pixels, at ``scale * i + (scale - 1) / 2`` in their indices. Enlargement by Pillow, and by torch with
``align_corners=False``, follows the same convention, so nothing is shifted.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from medrestore.checks import InputError, require_in_range, require_in_set
from medrestore.operators.base import Degradation, LinearDegradation

__all__ = [
    "ENLARGEMENTS",
    "KERNELS",
    "GaussianSubsampling",
    "KernelSubsampling",
    "PictureDegradation",
    "Subsampling",
    "enlarge",
]

ENLARGEMENTS = ("bicubic", "lanczos")
"""Methods of :func:`enlarge`."""

REACH = 4.0
"""Standard deviations at which the Gaussian is cut: 6e-5 of it lie beyond, a sixtieth of a gray level."""

_SIGMAS = (0.1, 1000.0)
"""A narrower Gaussian is none: between the samples nothing of it would be left."""

KERNELS = {"box": 0.5, "bicubic": 2.0, "lanczos": 3.0}
"""Kernels of :class:`KernelSubsampling` and how far they reach, in low-resolution pixels."""


class PictureDegradation(Degradation):
    """A degradation of pictures in 8 bits, ``scale`` high-resolution pixels to one of low resolution."""

    @property
    @abstractmethod
    def scale(self) -> int:
        """High-resolution pixels per low-resolution pixel along each axis."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Short name, of which files may be called; it says all but the scale."""

    @abstractmethod
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

    def of(self, name: str) -> PictureDegradation:  # noqa: ARG002
        """Return the degradation of the image of this name: the same for all."""
        return self


class Subsampling(LinearDegradation, PictureDegradation):
    """y = S x: smoothing by a kernel and subsampling of the last two axes. A subclass says the kernel.

    Notes
    -----
    Linear, separable, center-aligned, with mirrored borders: see :meth:`matrix`.
    """

    @property
    @abstractmethod
    def reach(self) -> float:
        """How far the kernel reaches from a block's center, high-resolution pixels."""

    @abstractmethod
    def weights(self, distances: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the kernel, up to a factor, at distances from a block's center, high-resolution pixels."""

    @property
    def halo(self) -> int:
        """Low-resolution pixels around a part of an image that it depends on."""
        return math.ceil(self.reach / self.scale) + 1

    def matrix(self, size: int) -> sparse.csr_matrix:
        """Return the matrix that smooths a vector and keeps one value for every block.

        Parameters
        ----------
        size
            Length of the vector; a multiple of ``scale``.

        Returns
        -------
        scipy.sparse.csr_matrix, (size / scale, size) float32
            Rows sum to 1. Not to be changed: calls share it.

        Raises
        ------
        InputError
            When the size is no multiple of ``scale``.

        Notes
        -----
        The kernel is taken at the samples within its reach of the block's center, or within half a block
        where that is more, and normalized. Beyond its ends the vector is mirrored with its last sample
        repeated (scipy's ``reflect``). Rows whose kernel meets no end hold the same numbers, so an image that
        is reduced in overlapping strips comes out bit for bit as the whole one.

        Examples
        --------
        >>> matrix = GaussianSubsampling(scale=2, sigma=0.5).matrix(4)
        >>> [round(float(weight), 3) for weight in matrix.toarray()[0]]
        [0.5, 0.491, 0.009, 0.0]
        """
        return _matrix(self, size)

    def forward(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the low-resolution array (..., H / scale, W / scale) float32 of (..., H, W)."""
        moved = np.moveaxis(image, (-2, -1), (0, 1))
        return np.ascontiguousarray(np.moveaxis(self.reduced(moved), (0, 1), (-2, -1)))

    def adjoint(self, data: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return S^T y (..., scale h, scale w) float32 of a low-resolution array (..., h, w)."""
        rows, columns = (self.matrix(self.scale * size) for size in data.shape[-2:])
        spread = _separable(np.moveaxis(data, (-2, -1), (0, 1)), rows.T, columns.T)
        return np.ascontiguousarray(np.moveaxis(spread, (0, 1), (-2, -1)))

    def picture(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the low-resolution image of a high-resolution one, in 8 bits as a scanner gives it."""
        _require_picture(image)
        return np.ascontiguousarray(np.clip(np.rint(self.reduced(image)), 0, 255).astype(np.uint8))

    def reduced(self, images: NDArray[np.generic]) -> NDArray[np.float32]:
        """Reduce arrays (H, W, ...), in the order of axes in which a picture needs no copy."""
        return _separable(images, *(self.matrix(size) for size in images.shape[:2]))


@lru_cache(maxsize=64)
def _matrix(subsampling: Subsampling, size: int) -> sparse.csr_matrix:
    scale = subsampling.scale
    if size < scale or size % scale:
        raise InputError(f"the size must be a multiple of the scale {scale}, got {size}")
    offset = (scale - 1) / 2
    reach = max(subsampling.reach, scale / 2)
    steps = np.arange(np.ceil(offset - reach), np.floor(offset + reach) + 1)
    weights = subsampling.weights(steps - offset)
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
class GaussianSubsampling(Subsampling):
    """Gaussian smoothing and subsampling, as the paper makes a low-resolution image.

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
    The paper (SRGAN_SQE, Section 3) says "Gaussian-smooth and subsample" and gives no width.

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
    def name(self) -> str:
        """``gaussian`` and sigma.

        >>> GaussianSubsampling(sigma=1.5).name
        'gaussian1.5'
        """
        return f"gaussian{float(self.sigma):.6g}"

    @property
    def reach(self) -> float:
        """Four standard deviations."""
        return REACH * self.sigma

    def weights(self, distances: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return exp(-d^2 / (2 sigma^2))."""
        density: NDArray[np.float64] = np.exp(-0.5 * (distances / self.sigma) ** 2)
        return density


@dataclass(frozen=True)
class KernelSubsampling(Subsampling):
    """Subsampling by a kernel of interpolation, stretched to the block: as software makes levels of a slide.

    Parameters
    ----------
    kernel
        ``box``, the mean of a block, by which most scanners make the levels of a pyramid; ``bicubic``
        (a = -0.5); or ``lanczos`` (three lobes).
    scale
        High-resolution pixels per low-resolution pixel along each axis.

    Raises
    ------
    InputError
        When the kernel is unknown or the scale out of range.

    Notes
    -----
    Away from borders it is what Pillow's ``resize`` gives, but for the rounding between its two passes;
    Pillow cuts the kernel at a border and normalizes it again, here the image is mirrored.

    Examples
    --------
    >>> KernelSubsampling("box", scale=2).forward(np.arange(4, dtype=np.float32).reshape(2, 2))
    array([[1.5]], dtype=float32)
    """

    kernel: str
    scale: int = 4

    def __post_init__(self) -> None:
        require_in_set("kernel", self.kernel, tuple(KERNELS))
        require_in_range("scale", self.scale, 1, 64)

    @property
    def key(self) -> dict[str, int | str]:
        """Scale and kernel."""
        return {"scale": int(self.scale), "kernel": self.kernel}

    @property
    def name(self) -> str:
        """The kernel."""
        return self.kernel

    @property
    def reach(self) -> float:
        """Half a block, two or three of them."""
        return KERNELS[self.kernel] * self.scale

    def weights(self, distances: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the kernel, which is 0 or next to it at its reach.

        Notes
        -----
        Keys 1981, "Cubic convolution interpolation for digital image processing", Eq. 4, with a = -1/2.
        """
        far = np.abs(distances) / self.scale
        if self.kernel == "box":
            return np.ones_like(far)
        if self.kernel == "lanczos":
            return np.asarray(np.sinc(far) * np.sinc(far / 3))
        near = (1.5 * far - 2.5) * far**2 + 1
        return np.where(far < 1, near, ((-0.5 * far + 2.5) * far - 4) * far + 2)


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
