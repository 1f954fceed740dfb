"""Removing the face: where it is in the template, found in an image by an affine registration.

A face can be recognized in a rendering of a scan, of MR above all. The mask is found once for a case, on the
mean of its arms, and used for all of them: a mask of its own could tell an arm.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import InputError
from medrestore.data.grid import steps_in
from medrestore.data.registration_images import itk_image, one_thread

if TYPE_CHECKING:
    import SimpleITK

__all__ = ["FACE_PROFILE_MM", "LEAST_FIT", "LEAST_MARGIN", "PROTECTED_MM", "Face", "face_mask", "is_face"]

FACE_PROFILE_MM = (
    (-15.0, -110.0),
    (0.0, -90.0),
    (25.0, -62.0),
    (40.0, -32.0),
    (65.0, -20.0),
    (80.0, 5.0),
    (100.0, 30.0),
)
"""Upper edge of what is removed: (y, z) in MNI mm, along the skull base from the throat to the forehead. The
eyes (y 60, z -40), nose, mouth and chin lie below it, temporal poles and orbital cortex above."""

PROTECTED_MM = 6.0
"""Around the template's brain nothing is removed: an affine leaves some mm between two brains."""

LEAST_FIT = 0.3
"""Correlation ratio below which a registration counts as failed; 0.38 to 0.84 in real T1, T2, PD and FLAIR
images, FDG and amyloid PET, and 1 % dose simulations, 0.05 in noise."""

LEAST_MARGIN = 1.2
"""Likewise of the margin; 1.4 to 3.9 in the same images, 1.0 in a ball, less in a head upside down."""

SCALES = (0.7, 1.4)
"""Of a head against the template, along any axis."""

WORKING_MM = 3.0
"""Voxel size to which an image is averaged before the registration."""

SHIFTS_MM = (-20.0, 0.0, 20.0)
PITCHES_DEGREES = (-20.0, 0.0, 20.0)
"""Starts of the registration about the first guess, up and down, and about the left-right axis."""

REMEDY = (
    "Remedy: look at the image: is it a head, the whole brain in it, in the right orientation? Leave the "
    "case out, or remove its face by other software"
)

HEAD_HEIGHT_MM = 150.0
"""From the top of the head, what lies below is neck or chin."""


@dataclass(frozen=True, eq=False)
class Face:
    """Where the face is in an image, and how sure that is.

    Parameters
    ----------
    mask : (X, Y, Z) bool
        True where the face is, and the air before it.
    fit
        Correlation ratio in [0, 1]: the share of the image's variance, in and around the brain, that the
        registered template explains.
    margin
        Mutual information of image and template, over that of the better one of two wrong registrations: of
        the image upside down, and back to front.
    """

    mask: NDArray[np.bool_]
    fit: float
    margin: float


def face_mask(image: NDArray[np.float32], affine: NDArray[np.float64]) -> Face:
    """Find the face.

    Parameters
    ----------
    image : (X, Y, Z) float32
        A head: MR of any contrast, or PET; the whole brain is in it.
    affine : (4, 4) float64
        Voxel indices to mm, RAS+.

    Returns
    -------
    Face

    Raises
    ------
    InputError
        When the registration fails: the image is no head, or is cut through the brain.

    Notes
    -----
    The ICBM 2009a brain (Fonov 2011), which nilearn ships, is registered by mutual information (Mattes 2003),
    rigid and then affine, so the contrast may be any. Everything before and below a line along the skull base
    is face, but for the brain and what is close to it. Judged by the correlation ratio (Roche 1998) and by
    normalized mutual information (Studholme 1999), less the 1 that two independent images have.
    """
    template = _template()
    moving = _working_image(image, affine)
    transform = _register(template, moving)
    fit, information = _similarity(template, moving, transform)
    to_image = _matrix(transform)
    scales = np.linalg.svd(to_image[:3, :3], compute_uv=False)
    if fit < LEAST_FIT or scales.min() < SCALES[0] or scales.max() > SCALES[1]:
        raise InputError(
            f"no face could be found: the head template, scaled by {scales.min():.2f} to {scales.max():.2f}, "
            f"fits by {fit:.2f} (at least {LEAST_FIT} is needed). {REMEDY}"
        )
    turned = [_turned(moving, axis) for axis in (0, 1)]
    others = [_similarity(template, other, _register(template, other))[1] for other in turned]
    margin = information / max(*others, 1e-6)
    if margin < LEAST_MARGIN:
        raise InputError(
            f"no face could be found: the head template fits {margin:.2f} times as well as upside down or "
            f"back to front (at least {LEAST_MARGIN} is needed). {REMEDY}"
        )
    return Face(_faces_of_grid(image.shape, np.linalg.inv(to_image) @ affine), fit, margin)


def is_face(points_mm: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Tell which places of the template belong to the face.

    Parameters
    ----------
    points_mm : (3, ...) float
        MNI coordinates.

    >>> eye, frontal_pole, nose = (0.0, 62, -40), (0, 68, 0), (0, 95, -45)
    >>> is_face(np.array([eye, frontal_pole, nose]).T)
    array([ True, False,  True])
    """
    from scipy.ndimage import map_coordinates

    y, z = points_mm[1], points_mm[2]
    places, heights = np.array(FACE_PROFILE_MM).T
    face = (z < np.interp(y, places, heights)) & (y > places[0])
    template = _template()
    inside = points_mm[:, face]
    index = (inside - template.affine[:3, 3:4]) / np.diag(template.affine)[:3, None]
    distance = map_coordinates(template.distance_mm, index, order=1, mode="constant", cval=np.inf)
    face[face] = distance > PROTECTED_MM
    return np.asarray(face)


@dataclass(frozen=True)
class _Template:
    """The average brain and the distance to it, on one MNI grid."""

    brain: SimpleITK.Image
    mask: SimpleITK.Image
    distance_mm: NDArray[np.float32]
    affine: NDArray[np.float64]
    middle_mm: tuple[float, float, float]


LEAST_COVER = 0.7
"""Part of the brain and its surroundings that must be in the image."""

MARGIN_MM = 9.0
"""Around the brain, what the registration looks at: its edge against skull and air."""


@lru_cache(maxsize=1)
def _template() -> _Template:
    import SimpleITK
    from nilearn import datasets
    from scipy import ndimage

    from medrestore.data.phantoms.template import load_template

    distance = load_template().distance_mm
    nifti = datasets.load_mni152_template(resolution=2)
    affine = np.asarray(nifti.affine, dtype=np.float64)
    brain = itk_image(np.asarray(nifti.dataobj, dtype=np.float32), affine)
    near = (distance <= MARGIN_MM).astype(np.uint8)
    middle = affine[:3, :3] @ np.array(ndimage.center_of_mass(distance == 0)) + affine[:3, 3]
    x, y, z = (float(value) for value in middle)
    return _Template(
        brain, SimpleITK.Cast(itk_image(near, affine), SimpleITK.sitkUInt8), distance, affine, (x, y, z)
    )


def _working_image(image: NDArray[np.float32], affine: NDArray[np.float64]) -> SimpleITK.Image:
    """Return the image on coarser voxels, the highest values cut: fat and vessels say little of the brain."""
    import SimpleITK

    size = np.linalg.norm(affine[:3, :3], axis=0)
    factors = [
        min(n, max(1, round(steps_in(WORKING_MM, mm)))) for n, mm in zip(image.shape, size, strict=True)
    ]
    small = SimpleITK.BinShrink(itk_image(image, affine), factors)
    values = SimpleITK.GetArrayViewFromImage(small)
    low, high = (float(value) for value in np.percentile(values, (0.5, 99.5)))
    if not high > low:
        raise InputError("no face could be found: the image is empty")
    return SimpleITK.Clamp(small, SimpleITK.sitkFloat32, low, high)


def _register(template: _Template, moving: SimpleITK.Image) -> SimpleITK.Transform:
    """Return the affine that maps template mm to image mm: the best of several rigid starts, made affine."""
    import SimpleITK

    center = _head_center(moving)
    best, lowest = None, np.inf
    for shift in SHIFTS_MM:
        for pitch in PITCHES_DEGREES:
            start = SimpleITK.Euler3DTransform(template.middle_mm, np.deg2rad(pitch), 0.0, 0.0)
            offset = center - np.array(template.middle_mm)
            start.SetTranslation((offset + np.array([0.0, 0.0, shift])).tolist())
            method = _method(template, shrink=(6,), smoothing_mm=(6.0,), iterations=40)
            method.SetInitialTransform(start, inPlace=True)
            try:
                with one_thread():  # the same mask every time
                    method.Execute(template.brain, moving)
            except RuntimeError:  # the images do not overlap from this start
                continue
            if method.GetMetricValue() < lowest:
                best, lowest = SimpleITK.Euler3DTransform(start), method.GetMetricValue()
    if best is None:
        raise InputError("no face could be found: the head template and the image do not overlap")
    affine = SimpleITK.AffineTransform(3)
    affine.SetCenter(best.GetCenter())
    affine.SetMatrix(best.GetMatrix())
    affine.SetTranslation(best.GetTranslation())
    method = _method(template, shrink=(4, 2), smoothing_mm=(4.0, 2.0), iterations=100)
    method.SetInitialTransform(affine, inPlace=True)
    with one_thread():
        method.Execute(template.brain, moving)
    return affine


def _method(
    template: _Template, *, shrink: tuple[int, ...], smoothing_mm: tuple[float, ...], iterations: int
) -> SimpleITK.ImageRegistrationMethod:
    import SimpleITK

    method = SimpleITK.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=32)
    method.SetMetricFixedMask(template.mask)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=4.0,
        minStep=0.02,
        numberOfIterations=iterations,
        relaxationFactor=0.6,
        gradientMagnitudeTolerance=1e-6,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(shrink)
    method.SetSmoothingSigmasPerLevel(smoothing_mm)
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    return method


def _head_center(moving: SimpleITK.Image) -> NDArray[np.float64]:
    """Return the middle (mm) of the head without what is further below its top than a head is high."""
    import SimpleITK

    smooth = SimpleITK.GetArrayFromImage(SimpleITK.SmoothingRecursiveGaussian(moving, 6.0)).transpose(2, 1, 0)
    low, high = np.percentile(smooth, (2, 98))
    index = np.argwhere(smooth > low + 0.2 * (high - low)).T
    matrix = np.array(moving.GetDirection()).reshape(3, 3) * np.array(moving.GetSpacing())
    points = matrix @ index + np.array(moving.GetOrigin())[:, None]
    top = float(np.percentile(points[2], 99.5))
    head = points[:, points[2] > top - HEAD_HEIGHT_MM]
    return np.asarray(head.mean(axis=1))


def _matrix(transform: SimpleITK.Transform) -> NDArray[np.float64]:
    """Return (4, 4) of an affine transform."""
    matrix = np.eye(4)
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    for axis in range(3):
        matrix[:3, axis] = np.array(transform.TransformPoint(np.eye(3)[axis].tolist())) - origin
    matrix[:3, 3] = origin
    return matrix


def _turned(image: SimpleITK.Image, axis: int) -> SimpleITK.Image:
    """Return the image upside down (0) or back to front (1), on the same grid."""
    import SimpleITK

    turned = SimpleITK.GetImageFromArray(
        np.ascontiguousarray(np.flip(SimpleITK.GetArrayViewFromImage(image), axis))
    )
    turned.CopyInformation(image)
    return turned


def _similarity(
    template: _Template, moving: SimpleITK.Image, transform: SimpleITK.Transform
) -> tuple[float, float]:
    """Return correlation ratio, and normalized mutual information less 1, of image and template.

    In and around the brain; both are 0 when the image does not hold it.
    """
    import SimpleITK

    outside, bins = -1e9, 32
    warped = SimpleITK.Resample(
        moving, template.brain, transform, SimpleITK.sitkLinear, outside, SimpleITK.sitkFloat32
    )
    values = SimpleITK.GetArrayViewFromImage(warped)
    near = SimpleITK.GetArrayViewFromImage(template.mask) > 0
    known = near & (values > outside / 2)
    if known.sum() < LEAST_COVER * near.sum():
        return 0.0, 0.0
    image = values[known].astype(np.float64)
    brain = SimpleITK.GetArrayViewFromImage(template.brain)[known]
    joint, _, edges = np.histogram2d(brain, image, bins)
    joint /= joint.sum()
    of_brain, of_image = joint.sum(axis=1), joint.sum(axis=0)
    middles = (edges[1:] + edges[:-1]) / 2
    means = joint @ middles / np.maximum(of_brain, 1e-12)
    mean = float(of_image @ middles)
    variance = float(of_image @ (middles - mean) ** 2)
    ratio = float(of_brain @ (means - mean) ** 2) / variance if variance > 0 else 0.0
    entropies = [float(-(p[p > 0] * np.log(p[p > 0])).sum()) for p in (of_brain, of_image, joint)]
    return ratio, (entropies[0] + entropies[1]) / entropies[2] - 1 if entropies[2] > 0 else 0.0


def _faces_of_grid(shape: tuple[int, ...], to_template: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the mask on a grid whose voxel indices ``to_template`` maps to MNI mm, plane by plane."""
    mask = np.zeros(shape, dtype=np.bool_, order="F")
    matrix = to_template.astype(np.float32)
    i, j = np.meshgrid(
        np.arange(shape[0], dtype=np.float32), np.arange(shape[1], dtype=np.float32), indexing="ij"
    )
    flat = np.tensordot(matrix[:3, :2], np.stack([i, j]), axes=1) + matrix[:3, 3][:, None, None]
    for k in range(shape[2]):
        mask[:, :, k] = is_face(flat + (matrix[:3, 2] * np.float32(k))[:, None, None])
    return mask
