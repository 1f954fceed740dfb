"""What a registration looks at: images at several resolutions, a head, and a lattice of places in it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import fail
from medrestore.data.grid import steps_in
from medrestore.data.volumes import Volume

if TYPE_CHECKING:
    import SimpleITK

__all__ = [
    "BINS",
    "LEVELS",
    "FixedHead",
    "Lattice",
    "Level",
    "bin_codes",
    "bin_limits",
    "image_levels",
    "image_values",
    "itk_image",
    "moved",
    "mutual_information",
    "one_thread",
    "values_at",
]


@dataclass(frozen=True)
class Level:
    """One resolution of a search, in mm: of the voxels, of the lattice, and of the steps."""

    voxel_mm: float
    lattice_mm: float
    first_step_mm: float
    last_step_mm: float


LEVELS = (Level(8.0, 8.0, 2.0, 0.1), Level(4.0, 6.0, 1.0, 0.02), Level(2.0, 6.0, 0.25, 0.01))

BINS = 32
PERCENTILES = (0.5, 99.5)
"""Values beyond are held there: fat and vessels would take most of the bins."""

LEAST_PLANES = 16
"""Below that many, no axis is made coarser."""

THICK_MM = 3.0
"""Slices thicker than this are interpolated to thinner ones."""

HEAD_SIGMA_MM = 4.0
HEAD_THRESHOLD = 0.2
HEAD_MARGIN_MM = 6.0
"""The head is where the smoothed magnitude exceeds this part of its 98th percentile, and the margin around
it: its edge against air counts."""

TILT_DEGREES = (17.0, -13.0, 23.0)
"""Of the lattice against the axes of space: no plane of it is parallel to any slice."""


@dataclass(frozen=True, eq=False)
class Lattice:
    """A regular lattice of places, tilted against the axes of space. Made by :meth:`around`.

    Parameters
    ----------
    first_mm : (3,) float64
        Its first place.
    step_mm
        Between neighbors.
    counts
        Places along each of its axes.
    axes : (3, 3) float64
        Its axes, in columns.
    """

    first_mm: NDArray[np.float64]
    step_mm: float
    counts: list[int]
    axes: NDArray[np.float64]

    @classmethod
    def around(cls, points_mm: NDArray[np.float64], *, step_mm: float) -> Lattice:
        """Return the lattice that spans given places (N, 3)."""
        from scipy.spatial.transform import Rotation

        axes = np.asarray(Rotation.from_euler("xyz", TILT_DEGREES, degrees=True).as_matrix())
        along = points_mm @ axes
        low, high = along.min(axis=0), along.max(axis=0)
        counts = [int(count) for count in np.ceil((high - low) / step_mm) + 1]
        return cls(axes @ low, step_mm, counts, axes)

    def points(self) -> NDArray[np.float64]:
        """Return all places, (N, 3) mm."""
        steps = np.stack(np.meshgrid(*[np.arange(count) for count in self.counts], indexing="ij"), axis=-1)
        return np.asarray(self.first_mm + self.step_mm * steps.reshape(-1, 3) @ self.axes.T)


@dataclass(frozen=True, eq=False)
class FixedHead:
    """A fixed image made ready for several moving ones. Made by :meth:`of`.

    Parameters
    ----------
    levels
        The image at each of :data:`LEVELS`.
    mask
        The head.
    center_mm : (3,) float64
        Of the head; rotations are about it.
    points_mm : (N, 3) float64
        Lattice of places in the head.
    codes : (N,) int64
        Bins of the image's values there.
    """

    levels: tuple[SimpleITK.Image, ...]
    mask: SimpleITK.Image
    center_mm: NDArray[np.float64]
    points_mm: NDArray[np.float64]
    codes: NDArray[np.int64]

    @classmethod
    def of(cls, volume: Volume) -> FixedHead:
        """Make an image ready.

        Raises
        ------
        InputError
            When the image is not finite, or has no head in it.
        """
        if not np.isfinite(volume.data).all():
            fail("holds voxels that are not finite (NaN or infinite)", path=volume.path)
        levels = image_levels(volume)
        mask = _head(levels[1])
        held = image_values(mask) > 0
        if not held.any() or np.ptp(volume.data) == 0:
            fail("shows no head to register to", path=volume.path)
        where = moved(np.argwhere(held), _affine(mask))
        points = Lattice.around(where, step_mm=LEVELS[-1].lattice_mm).points()
        nearest = np.rint(moved(points, np.linalg.inv(_affine(mask)))).astype(np.int64)
        inside = ((nearest >= 0) & (nearest < held.shape)).all(axis=1)
        points, nearest = points[inside], nearest[inside]
        points = points[held[tuple(nearest.T)]]
        values, _ = values_at(levels[-1], points)
        return cls(levels, mask, where.mean(axis=0), points, bin_codes(values, bin_limits(values)))


@contextmanager
def one_thread() -> Iterator[None]:
    """Let SimpleITK sum in one order. A method's own number of threads does not reach its metric."""
    import SimpleITK

    process = SimpleITK.ProcessObject
    before = process.GetGlobalDefaultNumberOfThreads()
    process.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        process.SetGlobalDefaultNumberOfThreads(before)


def itk_image(values: NDArray[Any], affine: NDArray[np.float64]) -> SimpleITK.Image:
    """Return an image for SimpleITK, whose physical space is ours.

    Parameters
    ----------
    values : (X, Y, Z)
        Voxels.
    affine : (4, 4) float64
        Voxel indices to mm, RAS+.
    """
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(values.transpose(2, 1, 0)))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    return image


def image_values(image: SimpleITK.Image) -> NDArray[Any]:
    """Return a copy of the voxels (X, Y, Z) of an image: a view would not keep the image alive."""
    import SimpleITK

    return np.asarray(SimpleITK.GetArrayFromImage(image)).transpose(2, 1, 0)


def moved(points: NDArray[Any], matrix: NDArray[Any]) -> NDArray[np.float64]:
    """Return points (N, 3) under an affine matrix (4, 4)."""
    return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3], dtype=np.float64)


def values_at(
    image: SimpleITK.Image, points_mm: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the values (N,) of an image at places (N, 3), linear, and which of the places lie in it.

    A voxel reaches half its size beyond its center.
    """
    from scipy.ndimage import map_coordinates

    index = moved(points_mm, np.linalg.inv(_affine(image)))
    inside = ((index >= -0.5) & (index <= np.array(image.GetSize()) - 0.5)).all(axis=1)
    values = map_coordinates(image_values(image), index.T, order=1, mode="nearest")
    return np.asarray(values, dtype=np.float32), np.asarray(inside)


def image_levels(volume: Volume) -> tuple[SimpleITK.Image, ...]:
    """Return an image at each of :data:`LEVELS`: averaged to coarser voxels, extreme values cut.

    Slices that are thicker than :data:`THICK_MM` are interpolated to thinner ones by cubic splines.

    Notes
    -----
    Linear interpolation smooths between voxels and not on them. Where two grids coincide, as those of one
    session often do, this makes images most alike at the identity and at whole voxels (Pluim, CVIU 77:211,
    2000): with slices of 5 mm, motions of a millimeter were not seen in simulated subjects. Splines smooth
    far less: the mean error fell from 0.52 to 0.17 mm.
    """
    import SimpleITK

    whole = itk_image(volume.data, volume.affine)
    images = []
    for level in LEVELS:
        factors = [
            max(1, min(int(steps_in(level.voxel_mm, size)), count // LEAST_PLANES))
            for size, count in zip(volume.voxel_size_mm, volume.data.shape, strict=True)
        ]
        method = SimpleITK.BinShrinkImageFilter()
        method.SetNumberOfThreads(1)
        method.SetShrinkFactors(factors)
        small = method.Execute(whole)
        values, affine = image_values(small), _affine(small)
        for axis, size in enumerate(small.GetSpacing()):
            parts = math.ceil(steps_in(size, THICK_MM))
            if size > volume.voxel_size_mm[axis] + 1e-3 or parts == 1:
                continue
            values = _thinner(values, parts, axis)
            affine = affine @ _thinner_affine(parts, axis)
        images.append(itk_image(np.clip(values, *bin_limits(values)), affine))
    return tuple(images)


def _thinner(values: NDArray[np.float32], parts: int, axis: int) -> NDArray[np.float32]:
    """Return an image with each voxel cut into parts along an axis, by splines through the centers."""
    from scipy.interpolate import make_interp_spline

    count = values.shape[axis]
    if count == 1:
        return np.repeat(values, parts, axis=axis)
    places = np.clip((np.arange(count * parts) + 0.5) / parts - 0.5, 0, count - 1)
    weights = make_interp_spline(np.arange(count), np.eye(count), k=min(3, count - 1))(places)
    thinner = np.tensordot(values, weights.astype(np.float32), axes=(axis, 1))
    return np.asarray(np.moveaxis(thinner, -1, axis))


def _thinner_affine(parts: int, axis: int) -> NDArray[np.float64]:
    """Return indices of the parts to indices of the voxels."""
    matrix = np.eye(4)
    matrix[axis, axis] = 1 / parts
    matrix[axis, 3] = 0.5 / parts - 0.5
    return matrix


def bin_limits(values: NDArray[np.float32]) -> tuple[float, float]:
    """Return the range of values that bins divide."""
    low, high = np.percentile(values, PERCENTILES)
    return float(low), float(high)


def bin_codes(values: NDArray[np.float32], limits: tuple[float, float]) -> NDArray[np.int64]:
    """Return the bins, 0 to :data:`BINS` - 1, of values; those beyond the limits are in the outer ones.

    >>> bin_codes(np.array([-1.0, 0.0, 0.99, 16.0, 40.0]), (0.0, 32.0))
    array([ 0,  0,  0, 16, 31])
    """
    width = max(limits[1] - limits[0], float(np.finfo(np.float32).tiny))
    return np.asarray(np.clip((values - limits[0]) / width * BINS, 0, BINS - 1).astype(np.int64))


def mutual_information(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    """Return the mutual information of two images at the same places, less what chance lends to it.

    Parameters
    ----------
    first, second : (N,) int64
        Bins of their values.

    Returns
    -------
    float
        In nats; about 0, on either side, for independent images.

    Notes
    -----
    The entropies of few samples are too small by (occupied bins - 1) / 2 N (Miller 1955): two images of noise
    would seem to know of each other.

    Examples
    --------
    >>> codes = np.tile(np.arange(4), 10_000)
    >>> round(mutual_information(codes, codes), 3), round(float(np.log(4)), 3)
    (1.386, 1.386)
    """
    if not len(first):
        return 0.0
    joint = np.bincount(first * BINS + second, minlength=BINS**2).reshape(BINS, BINS) / len(first)
    one, other = joint.sum(axis=1), joint.sum(axis=0)
    of_one, of_other, of_both = (float(-(p[p > 0] * np.log(p[p > 0])).sum()) for p in (one, other, joint))
    chance = np.count_nonzero(joint) - np.count_nonzero(one) - np.count_nonzero(other) + 1
    return of_one + of_other - of_both - float(chance) / (2 * len(first))


def _affine(image: SimpleITK.Image) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    matrix[:3, 3] = image.GetOrigin()
    return matrix


def _head(image: SimpleITK.Image) -> SimpleITK.Image:
    """Return the mask of the head on an image's grid."""
    import SimpleITK
    from scipy import ndimage

    size = image.GetSpacing()
    smooth = ndimage.gaussian_filter(np.abs(image_values(image)), [HEAD_SIGMA_MM / mm for mm in size])
    level = HEAD_THRESHOLD * float(np.percentile(smooth, 98))
    away = ndimage.distance_transform_edt(~(smooth > level), sampling=size)
    mask = SimpleITK.GetImageFromArray((away <= HEAD_MARGIN_MM).astype(np.uint8).transpose(2, 1, 0))
    mask.CopyInformation(image)
    return mask
