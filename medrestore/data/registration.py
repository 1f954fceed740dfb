"""Rigid registration of two images of one head, however they were taken, and resampling through it.

Images of one session differ by what the patient moved, a few millimeters and degrees. Found by mutual
information, judged by what a wrong registration cannot have: a sharp peak.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import fail
from medrestore.data.registration_images import (
    BINS,
    LEVELS,
    FixedHead,
    Lattice,
    bin_codes,
    bin_limits,
    image_levels,
    image_values,
    itk_image,
    moved,
    mutual_information,
    one_thread,
    values_at,
)
from medrestore.data.volumes import Volume, grid_difference

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
    "register_rigid",
    "resample",
]

MOST_MM = 20.0
"""Displacement of any place of the head above which a registration counts as failed: nobody moves that far in
a head coil, and the search does not reach much further."""

LEAST_OVERLAP = 0.5
"""Part of the fixed head that must lie in the moving image."""

LEAST_DISTINCTNESS = 0.25
"""Distinctness below which a registration counts as failed. The same head has 0.34 to 0.54 in T1, T2, FLAIR
and enhanced T1 of a real glioma, 0.33 to 0.41 in the averages of 152 people's T1, T2 and PD, 0.30
(STIR) to 0.5 in simulated subjects; another subject's head at most 0.21, one upside down or back to front
0.18. A mirrored head, which is nearly its own mirror image, has up to 0.3: for sides, trust the headers."""

LEAST_INFORMATION = 0.03
"""Mutual information (nats) below which a registration counts as failed; 0.4 to 1.6 in the same images, 0.02
in smooth noise, 0.001 in white noise, where distinctness says nothing."""

DISPLACEMENT_MM = 4.0
"""Of the wrong registrations that distinctness compares with."""

HEAD_RADIUS_MM = 35.0
"""Weighs rotations against shifts: a radian moves an edge in the head by so much along its normal, roughly.
With twice as much, the search can end before the rotation is found."""

_ITERATIONS = 60
"""At each resolution; it settles after about ten."""


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
        The image that stays; of any kind, on any grid.
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

    The information is summed over a lattice that is tilted against both grids, so that places at all
    distances from the voxels count. The lattice is fixed: no place is drawn at random, one thread sums, and
    the same images give the same matrix. Thick slices are interpolated to thinner ones first, see
    :func:`~medrestore.data.registration_images.image_levels`.

    Rotation center and start: the middle of the head, the identity. ``information`` counts what chance alone
    lends to few samples as nothing (Miller and Madow's correction of the entropies).

    SimpleITK's physical space is RAS+ here, as everywhere else in memory, instead of its files' LPS+: it
    knows no anatomy, and the same turn of both images changes no distance.
    """
    if not np.isfinite(moving.data).all():
        fail("holds voxels that are not finite (NaN or infinite)", path=moving.path)
    head = fixed if isinstance(fixed, FixedHead) else FixedHead.of(fixed)
    levels = image_levels(moving)
    identity = np.eye(4)
    if np.ptp(moving.data) == 0:
        return Registration(identity, failure="the image is the same everywhere")
    try:
        with one_thread():
            matrix = _search(head, levels)
    except RuntimeError as error:
        overlap = float(values_at(levels[-1], head.points_mm)[1].mean())
        reason = f"the search ended: {_said(error)}"
        if overlap < least_overlap:
            reason = _too_small(overlap, least_overlap)
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
    for level, fixed, image in zip(LEVELS, head.levels, moving, strict=True):
        method = SimpleITK.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=BINS)
        method.SetMetricFixedMask(head.mask)
        method.MetricUseFixedImageGradientFilterOff()  # only the moving image's gradient is used
        method.SetMetricSamplingStrategy(method.NONE)
        lattice = Lattice.around(head.points_mm, step_mm=level.lattice_mm)
        method.SetVirtualDomain(
            lattice.counts, lattice.first_mm.tolist(), [lattice.step_mm] * 3, lattice.axes.ravel().tolist()
        )
        method.SetInterpolator(SimpleITK.sitkLinear)
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=level.first_step_mm,
            minStep=level.last_step_mm,
            numberOfIterations=_ITERATIONS,
            relaxationFactor=0.6,
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
    before, inside_before = values_at(moving, head.points_mm)
    after, inside = values_at(moving, moved(head.points_mm, matrix))
    if not np.isfinite(matrix).all() or inside.mean() < least_overlap:
        overlap = float(inside.mean())
        return Registration(matrix, failure=_too_small(overlap, least_overlap), overlap=overlap)
    limits = bin_limits(after[inside])
    both = inside & inside_before
    information = [
        mutual_information(head.codes[both], bin_codes(values[both], limits)) for values in (before, after)
    ]
    identity_kept = inside_before.mean() >= least_overlap and information[0] >= information[1]
    if identity_kept:
        matrix, after, inside, information[1] = np.eye(4), before, inside_before, information[0]
    peak = mutual_information(head.codes[inside], bin_codes(after[inside], limits))
    beside = []
    for shift in DISPLACEMENT_MM * np.vstack([np.eye(3), -np.eye(3)]):
        values, held = values_at(moving, moved(head.points_mm, matrix) + shift)
        beside.append(mutual_information(head.codes[held], bin_codes(values[held], limits)))
    distinctness = 1 - float(np.mean(beside)) / peak if peak > 0 else 0.0
    displacement = np.linalg.norm(moved(head.points_mm, matrix) - head.points_mm, axis=1)
    failure = ""
    if peak < LEAST_INFORMATION or distinctness < least_distinctness:
        failure = (
            "shows something else than the fixed image, or hardly any signal: "
            f"distinctness {distinctness:.2f} (at least {least_distinctness:g} is needed), "
            f"mutual information {peak:.3f} nats (at least {LEAST_INFORMATION:g})"
        )
    elif displacement.max() > most_mm:
        failure = f"moves the head by up to {displacement.max():.1f} mm, at most {most_mm:g} mm are allowed"
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
    a magnitude does not fall below 0. A voxel reaches half its size beyond its center. An image that lies on
    the grid, and is not moved, stays as it is.
    """
    import SimpleITK

    if np.array_equal(matrix, np.eye(4)) and not grid_difference(moving, fixed):
        return Resampled(moving.data, 0.0)
    transform = SimpleITK.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    method = SimpleITK.ResampleImageFilter()
    method.SetNumberOfThreads(1)
    method.SetReferenceImage(itk_image(np.broadcast_to(np.float32(0), fixed.data.shape), fixed.affine))
    method.SetTransform(transform)
    method.SetInterpolator(SimpleITK.sitkBSpline)
    method.SetDefaultPixelValue(math.nan)
    data = image_values(method.Execute(itk_image(moving.data, moving.affine)))
    outside = np.isnan(data)
    low, high = float(moving.data.min()), float(moving.data.max())
    held = np.where(outside, 0, np.clip(data, low, high))
    return Resampled(np.ascontiguousarray(held, dtype=np.float32), float(outside.mean()))


def _too_small(overlap: float, least: float) -> str:
    return f"covers {overlap:.0%} of the head, at least {least:.0%} is needed"


def _said(error: RuntimeError) -> str:
    """Return the last line of what ITK says: the ones before name its source files."""
    return str(error).strip().splitlines()[-1].strip()
