"""Rigid registration of two images of one head, of any contrast, and resampling through it.

Images of one session differ by what the patient moved, a few millimeters and degrees. Found by mutual
information, judged by what a wrong registration cannot have: a sharp peak.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import fail
from medrestore.data.volumes import Volume

if TYPE_CHECKING:
    import SimpleITK

__all__ = [
    "LEAST_DISTINCTNESS",
    "LEAST_INFORMATION",
    "LEAST_OVERLAP",
    "MOST_MM",
    "FixedHead",
    "Registration",
    "Resampled",
    "itk_image",
    "register_rigid",
    "resample",
]

MOST_MM = 20.0
"""Displacement of any place of the head above which a registration counts as failed: nobody moves that far in
a head coil, and the search does not reach much further."""

LEAST_OVERLAP = 0.5
"""Part of the fixed head that must lie in the moving image."""

LEAST_DISTINCTNESS = 0.25
"""Distinctness below which a registration counts as failed. The same head has 0.33 to 0.52 in T1, T2, FLAIR and
contrast-enhanced T1 of a real glioma, 0.32 to 0.40 in the averages of 152 people's T1, T2 and PD, 0.37 to 0.55
in simulated contrasts at 2 and 8 % noise; another head, and one mirrored or upside down, at most 0.20."""

LEAST_INFORMATION = 0.03
"""Mutual information (nats) below which a registration counts as failed; 0.6 to 1.6 in the same images, 0.02 in
smooth noise, 0.001 in white noise, where distinctness says nothing."""

DISPLACEMENT_MM = 4.0
"""Of the wrong registrations that distinctness compares with."""

BINS = 32
PERCENTILES = (0.5, 99.5)
"""Values beyond are held there: fat and vessels would take most of the bins."""

LEAST_PLANES = 16
"""Below that many, no axis is made coarser."""

HEAD_SIGMA_MM = 4.0
HEAD_THRESHOLD = 0.2
HEAD_MARGIN_MM = 6.0
"""The head is where the smoothed magnitude exceeds this part of its 98th percentile, and the margin around it:
its edge against air counts."""

HEAD_RADIUS_MM = 70.0
"""Weighs rotations against shifts: a radian moves a place in the head by so much, on average."""

_TILT_DEGREES = (17.0, -13.0, 23.0)


@dataclass(frozen=True)
class _Level:
    """One resolution of the search, in mm: of the voxels, of the lattice, and of the steps."""

    voxel_mm: float
    lattice_mm: float
    first_step_mm: float
    last_step_mm: float


_LEVELS = (_Level(8.0, 8.0, 2.0, 0.1), _Level(4.0, 5.0, 1.0, 0.02), _Level(2.0, 5.0, 0.25, 0.01))
_ITERATIONS = 60


@dataclass(frozen=True, eq=False)
class Registration:
    """Where the moving image shows what the fixed one shows, and how sure that is.

    Parameters
    ----------
    matrix : (4, 4) float64
        Rigid: a place in the fixed image, RAS+ mm, to the same place of the head in the moving image.
    failure
        Why it is not to be used; empty when all is well.
    identity_kept
        Whether the headers alone agreed better than what the search found; the matrix is then the identity.
    information_before, information_after
        Mutual information (nats) at the identity and at the matrix, over the same places with the same bins.
    distinctness
        Share of the mutual information that a displacement by :data:`DISPLACEMENT_MM` along an axis costs, on
        average.
    displacement_mean_mm, displacement_most_mm
        Over the head.
    rotation_deg
        About whatever axis.
    overlap
        Part of the fixed head that lies in the moving image.
    """

    matrix: NDArray[np.float64]
    failure: str = ""
    identity_kept: bool = False
    information_before: float = math.nan
    information_after: float = math.nan
    distinctness: float = math.nan
    displacement_mean_mm: float = math.nan
    displacement_most_mm: float = math.nan
    rotation_deg: float = math.nan
    overlap: float = math.nan


@dataclass(frozen=True, eq=False)
class FixedHead:
    """A fixed image made ready for several moving ones. Made by :meth:`of`.

    Parameters
    ----------
    levels
        The image at each resolution.
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
        levels = _levels(volume)
        mask = _head(levels[1])
        held = _values(mask) > 0
        if not held.any() or np.ptp(_values(levels[-1])) == 0:
            fail("the image shows no head to register to", path=volume.path)
        matrix = _affine(mask)
        where = np.argwhere(held) @ matrix[:3, :3].T + matrix[:3, 3]
        points = _lattice(where, _LEVELS[-1].lattice_mm).points()
        index = _indices(mask, points)
        nearest = np.rint(index).astype(np.int64)
        inside = ((nearest >= 0) & (nearest < held.shape)).all(axis=1)
        inside[inside] = held[tuple(nearest[inside].T)]
        points = points[inside]
        values, _ = _sample(levels[-1], points)
        return cls(levels, mask, where.mean(axis=0), points, _codes(values, _limits(values)))


def register_rigid(
    moving: Volume,
    fixed: Volume | FixedHead,
    *,
    most_mm: float = MOST_MM,
    least_overlap: float = LEAST_OVERLAP,
    least_distinctness: float = LEAST_DISTINCTNESS,
) -> Registration:
    """Register an image to another one of the same head.

    Parameters
    ----------
    moving : Volume
        To be brought to the fixed image; of the same session: the search starts where the headers say.
    fixed : Volume or FixedHead
        The image that stays; of any contrast, on any grid.
    most_mm : float, mm
        Largest displacement of a place in the head.
    least_overlap : float
        Part of the fixed head that must lie in the moving image.
    least_distinctness : float
        Smallest distinctness.

    Returns
    -------
    Registration
        With ``failure`` said where the optimizer fails, the images overlap too little or differ too much, or
        the head moves too far.

    Raises
    ------
    InputError
        When the fixed image cannot be used, or the moving one is not finite.

    Notes
    -----
    Six parameters maximize mutual information (Mattes, IEEE TMI 22:120, 2003) by gradient descent of regular
    steps over three resolutions: voxels of 8, 4 and 2 mm, made by averaging. Thick slices are never averaged,
    an image of 5 mm slices grows coarser in-plane only.

    The information is summed over a lattice that is tilted against both grids. Where grids coincide, as those
    of one session often do, interpolation smooths off the grid and not on it, which would draw the search to
    the identity and to whole voxels (Pluim, CVIU 77:211, 2000). The lattice is dense and fixed: no place is
    drawn at random, one thread sums, and the same images give the same matrix.

    Rotation center and start: the middle of the head, the identity. ``information`` counts what chance alone
    lends to few samples as nothing (Miller and Madow's correction of the entropies).

    SimpleITK's physical space is RAS+ here, as everywhere else in memory, instead of its files' LPS+: it knows
    no anatomy, and the same turn of both images changes no distance.
    """
    if not np.isfinite(moving.data).all():
        fail("holds voxels that are not finite (NaN or infinite)", path=moving.path)
    head = fixed if isinstance(fixed, FixedHead) else FixedHead.of(fixed)
    levels = _levels(moving)
    identity = np.eye(4)
    if np.ptp(_values(levels[-1])) == 0:
        return Registration(identity, failure="the image is the same everywhere")
    try:
        matrix = _search(head, levels)
    except RuntimeError as error:
        overlap = float(_sample(levels[-1], head.points_mm)[1].mean())
        reason = (
            _too_small(overlap, least_overlap)
            if overlap < least_overlap
            else f"the search ended: {_said(error)}"
        )
        return Registration(identity, failure=reason, overlap=overlap)
    return _judged(
        head,
        levels[-1],
        matrix,
        most_mm=most_mm,
        least_overlap=least_overlap,
        least_distinctness=least_distinctness,
    )


def _search(head: FixedHead, moving: tuple[SimpleITK.Image, ...]) -> NDArray[np.float64]:
    """Return the matrix of the most mutual information, from coarse to fine."""
    import SimpleITK

    transform = SimpleITK.Euler3DTransform(head.center_mm.tolist(), 0.0, 0.0, 0.0)
    for level, fixed, image in zip(_LEVELS, head.levels, moving, strict=True):
        method = SimpleITK.ImageRegistrationMethod()
        method.SetNumberOfThreads(1)  # sums in one order
        method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=BINS)
        method.SetMetricFixedMask(head.mask)
        method.SetMetricSamplingStrategy(method.NONE)
        lattice = _lattice(head.points_mm, level.lattice_mm)
        method.SetVirtualDomain(
            lattice.counts, lattice.first_mm.tolist(), [lattice.step_mm] * 3, lattice.axes.ravel().tolist()
        )
        method.SetInterpolator(SimpleITK.sitkLinear)
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=level.first_step_mm,
            minStep=level.last_step_mm,
            numberOfIterations=_ITERATIONS,
            relaxationFactor=0.5,
            gradientMagnitudeTolerance=1e-8,
        )
        method.SetOptimizerScales([HEAD_RADIUS_MM**2] * 3 + [1.0] * 3)
        method.SetInitialTransform(transform, inPlace=True)
        method.Execute(fixed, image)
    rotation = np.array(transform.GetMatrix()).reshape(3, 3)
    center = np.array(transform.GetCenter())
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = center + np.array(transform.GetTranslation()) - rotation @ center
    return matrix


def _judged(
    head: FixedHead,
    moving: SimpleITK.Image,
    matrix: NDArray[np.float64],
    *,
    most_mm: float,
    least_overlap: float,
    least_distinctness: float,
) -> Registration:
    """Measure what the search found against the identity and against displacements."""
    before, inside_before = _sample(moving, head.points_mm)
    after, inside = _sample(moving, _moved(head.points_mm, matrix))
    if not np.isfinite(matrix).all() or inside.mean() < least_overlap:
        overlap = float(inside.mean())
        return Registration(matrix, failure=_too_small(overlap, least_overlap), overlap=overlap)
    limits = _limits(after[inside])
    both = inside & inside_before
    information = [_information(head.codes[both], _codes(values[both], limits)) for values in (before, after)]
    identity_kept = inside_before.mean() >= least_overlap and information[0] >= information[1]
    if identity_kept:
        matrix, after, inside, information[1] = np.eye(4), before, inside_before, information[0]
    peak = _information(head.codes[inside], _codes(after[inside], limits))
    beside = []
    for shift in DISPLACEMENT_MM * np.vstack([np.eye(3), -np.eye(3)]):
        values, held = _sample(moving, _moved(head.points_mm, matrix) + shift)
        beside.append(_information(head.codes[held], _codes(values[held], limits)))
    distinctness = 1 - float(np.mean(beside)) / peak if peak > 0 else 0.0
    displacement = np.linalg.norm(_moved(head.points_mm, matrix) - head.points_mm, axis=1)
    failure = ""
    if displacement.max() > most_mm:
        failure = f"moves the head by up to {displacement.max():.1f} mm, at most {most_mm:g} mm are allowed"
    elif peak < LEAST_INFORMATION or distinctness < least_distinctness:
        failure = (
            f"shows something else than the fixed image, or hardly any signal: distinctness {distinctness:.2f} "
            f"(at least {least_distinctness:g} is needed), mutual information {peak:.3f} nats "
            f"(at least {LEAST_INFORMATION:g})"
        )
    return Registration(
        matrix=matrix,
        failure=failure,
        identity_kept=bool(identity_kept),
        information_before=information[0],
        information_after=information[1],
        distinctness=distinctness,
        displacement_mean_mm=float(displacement.mean()),
        displacement_most_mm=float(displacement.max()),
        rotation_deg=float(np.rad2deg(np.arccos(np.clip((np.trace(matrix[:3, :3]) - 1) / 2, -1, 1)))),
        overlap=float(inside.mean()),
    )


@dataclass(frozen=True, eq=False)
class Resampled:
    """A moving image on the fixed one's grid.

    Parameters
    ----------
    data : (X, Y, Z) float32
        0 where the moving image does not reach.
    outside
        Share of the voxels where it does not.
    """

    data: NDArray[np.float32]
    outside: float


def resample(moving: Volume, fixed: Volume, *, matrix: NDArray[np.float64]) -> Resampled:
    """Resample an image to another one's grid: once, through both affines and a rigid transform together.

    Parameters
    ----------
    moving : Volume
        As it was read.
    fixed : Volume
        The grid.
    matrix : (4, 4) float64
        Of a :class:`Registration`.

    Returns
    -------
    Resampled

    Notes
    -----
    Cubic B-splines: linear interpolation between slices of 5 mm would blur them by as much as half a slice.
    A spline overshoots beside sharp edges, so values are held within the range of the moving image: what is
    a magnitude does not fall below 0. A voxel reaches half its size beyond its center.
    """
    import SimpleITK

    transform = SimpleITK.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    method = SimpleITK.ResampleImageFilter()
    method.SetNumberOfThreads(1)
    method.SetReferenceImage(itk_image(np.broadcast_to(np.float32(0), fixed.data.shape), fixed.affine))
    method.SetTransform(transform)
    method.SetInterpolator(SimpleITK.sitkBSpline)
    method.SetDefaultPixelValue(math.nan)
    data = _values(method.Execute(itk_image(moving.data, moving.affine)))
    outside = np.isnan(data)
    low, high = float(moving.data.min()), float(moving.data.max())
    held = np.where(outside, 0, np.clip(data, low, high))
    return Resampled(np.ascontiguousarray(held, dtype=np.float32), float(outside.mean()))


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


def _levels(volume: Volume) -> tuple[SimpleITK.Image, ...]:
    """Return the image at each resolution, extreme values cut."""
    import SimpleITK

    whole = itk_image(volume.data, volume.affine)
    images = []
    for level in _LEVELS:
        factors = [
            max(1, min(int(level.voxel_mm / size + 1e-3), count // LEAST_PLANES))
            for size, count in zip(volume.voxel_size_mm, volume.data.shape, strict=True)
        ]
        method = SimpleITK.BinShrinkImageFilter()
        method.SetNumberOfThreads(1)
        method.SetShrinkFactors(factors)
        small = method.Execute(whole)
        values = SimpleITK.GetArrayViewFromImage(small)
        cut = SimpleITK.GetImageFromArray(np.clip(values, *np.percentile(values, PERCENTILES)))
        cut.CopyInformation(small)
        images.append(SimpleITK.Cast(cut, SimpleITK.sitkFloat32))
    return tuple(images)


def _head(image: SimpleITK.Image) -> SimpleITK.Image:
    """Return the mask of the head on an image's grid."""
    import SimpleITK
    from scipy import ndimage

    size = image.GetSpacing()
    smooth = ndimage.gaussian_filter(np.abs(_values(image)), [HEAD_SIGMA_MM / mm for mm in size])
    level = HEAD_THRESHOLD * float(np.percentile(smooth, 98))
    away = ndimage.distance_transform_edt(~(smooth > level), sampling=size)
    mask = SimpleITK.GetImageFromArray((away <= HEAD_MARGIN_MM).astype(np.uint8).transpose(2, 1, 0))
    mask.CopyInformation(image)
    return mask


@dataclass(frozen=True, eq=False)
class _Lattice:
    """A regular lattice tilted against the axes, around given places."""

    first_mm: NDArray[np.float64]
    step_mm: float
    counts: list[int]
    axes: NDArray[np.float64]

    def points(self) -> NDArray[np.float64]:
        """Return all places, (N, 3) mm."""
        steps = np.stack(np.meshgrid(*[np.arange(n) for n in self.counts], indexing="ij"), axis=-1)
        return np.asarray(self.first_mm + self.step_mm * steps.reshape(-1, 3) @ self.axes.T)


def _lattice(points_mm: NDArray[np.float64], step_mm: float) -> _Lattice:
    from scipy.spatial.transform import Rotation

    axes = np.asarray(Rotation.from_euler("xyz", _TILT_DEGREES, degrees=True).as_matrix())
    along = points_mm @ axes
    low, high = along.min(axis=0), along.max(axis=0)
    counts = [int(count) for count in np.ceil((high - low) / step_mm) + 1]
    return _Lattice(axes @ low, step_mm, counts, axes)


def _values(image: SimpleITK.Image) -> NDArray[Any]:
    """Return the voxels (X, Y, Z) of an image; a view that lives as long as the image."""
    import SimpleITK

    return np.asarray(SimpleITK.GetArrayViewFromImage(image)).transpose(2, 1, 0)


def _affine(image: SimpleITK.Image) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    matrix[:3, 3] = image.GetOrigin()
    return matrix


def _indices(image: SimpleITK.Image, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    return _moved(points_mm, np.linalg.inv(_affine(image)))


def _moved(points: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3])


def _sample(
    image: SimpleITK.Image, points_mm: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return values of an image at places, linear, and which of them lie in it."""
    from scipy.ndimage import map_coordinates

    index = _indices(image, points_mm)
    inside = ((index >= -0.5) & (index <= np.array(image.GetSize()) - 0.5)).all(axis=1)
    return map_coordinates(_values(image), index.T, order=1, mode="nearest"), inside


def _limits(values: NDArray[np.float32]) -> tuple[float, float]:
    low, high = np.percentile(values, PERCENTILES)
    return float(low), float(high)


def _codes(values: NDArray[np.float32], limits: tuple[float, float]) -> NDArray[np.int64]:
    width = max(limits[1] - limits[0], np.finfo(np.float32).tiny)
    return np.clip((values - limits[0]) / width * BINS, 0, BINS - 1).astype(np.int64)


def _information(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    """Return the mutual information (nats) of two bins each, less what chance lends to it."""
    if not len(first):
        return 0.0
    joint = np.bincount(first * BINS + second, minlength=BINS**2).reshape(BINS, BINS) / len(first)
    one, other = joint.sum(axis=1), joint.sum(axis=0)
    of_one, of_other, of_both = (float(-(p[p > 0] * np.log(p[p > 0])).sum()) for p in (one, other, joint))
    chance = np.count_nonzero(joint) - np.count_nonzero(one) - np.count_nonzero(other) + 1
    return of_one + of_other - of_both - float(chance) / (2 * len(first))


def _too_small(overlap: float, least: float) -> str:
    return f"covers {overlap:.0%} of the head, at least {least:.0%} is needed"


def _said(error: RuntimeError) -> str:
    """Return the last line of what ITK says: the ones before name its source files."""
    return str(error).strip().splitlines()[-1].strip()
