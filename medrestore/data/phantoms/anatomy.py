"""Head anatomy of a simulated subject: the average head under a random deformation, with some atrophy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import require_in_range
from medrestore.data.phantoms.template import (
    MENINGES_MM,
    REGIONS,
    SKULL_MM,
    Template,
    load_template,
)

__all__ = [
    "REGIONS",
    "CohortGrid",
    "SubjectAnatomy",
    "Template",
    "anatomy_at",
    "anatomy_of_other_grid",
    "load_template",
    "smooth_field",
    "vary",
]

MEAN_HEAD_SIZE = 0.93
"""Mean size of a head, in each direction, relative to MNI152's, which is larger than most."""

MEDIAN_FLUID_WEIGHT = 1.5
"""Weight of fluid where tissue is mixed, which thins the cortex and widens sulci and ventricles: the template
averages people of 18 to 44 years, patients are mostly older."""


@dataclass(frozen=True)
class CohortGrid:
    """The grid of a simulated cohort, RAS, in MNI millimeters.

    Attributes
    ----------
    shape : three int
        Voxels along X, Y, Z.
    voxel_size_mm : three float, mm
        Voxel size along X, Y, Z.
    origin_mm : three float, mm
        Center of voxel (0, 0, 0).
    """

    shape: tuple[int, int, int] = (128, 128, 50)
    voxel_size_mm: tuple[float, float, float] = (2.0, 2.0, 3.0)
    origin_mm: tuple[float, float, float] = (-127.0, -145.0, -68.0)

    @property
    def affine(self) -> NDArray[np.float64]:
        """Voxel indices to millimeters, (4, 4)."""
        affine = np.diag([*self.voxel_size_mm, 1.0])
        affine[:3, 3] = self.origin_mm
        return affine

    def axes_mm(self) -> tuple[NDArray[np.floating], ...]:
        """Return the coordinates (mm) of the voxel centers along X, Y and Z."""
        return tuple(
            start + size * np.arange(count)
            for start, size, count in zip(self.origin_mm, self.voxel_size_mm, self.shape, strict=True)
        )


@dataclass(frozen=True)
class SubjectAnatomy:
    """One subject's head on the cohort grid.

    Attributes
    ----------
    gray, white, fluid : (X, Y, Z) float32
        Tissue fractions of the brain.
    scalp, skull : (X, Y, Z) bool
        Soft tissue outside the brain, with the meninges; bone.
    regions : (X, Y, Z) int16
        Codes of :data:`REGIONS`.
    template_mm : (3, X, Y, Z) float32, mm
        Where each voxel lies in the template.
    parameters : dict of float
        Head size (1 is the template's) and the weight of fluid in mixed tissue (1 is none added).
    """

    gray: NDArray[np.float32]
    white: NDArray[np.float32]
    fluid: NDArray[np.float32]
    scalp: NDArray[np.bool_]
    skull: NDArray[np.bool_]
    regions: NDArray[np.int16]
    template_mm: NDArray[np.float32]
    parameters: dict[str, float]


def _spline_basis(count: int, step: float) -> NDArray[np.float32]:
    """Return the values (count, controls) of cubic B-splines at samples ``step`` control points apart."""
    position = 1.0 + step * np.arange(count)
    controls = int(position[-1]) + 3
    t = np.abs(position[:, None] - np.arange(controls)[None, :])
    inner = 2 / 3 - t**2 + t**3 / 2
    outer = np.maximum(2 - t, 0) ** 3 / 6
    return np.asarray(np.where(t < 1, inner, outer), dtype=np.float32)


def smooth_field(
    grid: CohortGrid, *, spacing_mm: float, random: np.random.Generator, components: int = 1
) -> NDArray[np.float32]:
    """Return a smooth Gaussian random field: cubic B-splines with normal coefficients, mean 0, SD near 1.

    Parameters
    ----------
    grid : CohortGrid
        Where the field is wanted.
    spacing_mm : float, mm
        Distance between control points: the field's length scale.
    random : numpy.random.Generator
        Source of the coefficients.
    components : int
        Number of independent fields.

    Returns
    -------
    (components, X, Y, Z) float32
    """
    require_in_range("spacing_mm", spacing_mm, 0.0, 1e3, include_low=False)
    bases = [
        _spline_basis(count, size / spacing_mm)
        for count, size in zip(grid.shape, grid.voxel_size_mm, strict=True)
    ]
    coefficients = random.standard_normal((components, *(basis.shape[1] for basis in bases))).astype(
        np.float32
    )
    # A cubic B-spline at random phase keeps 0.479 of each axis's variance: the integral of its square.
    coefficients /= np.float32(0.479**1.5)
    field = np.einsum("xi,cijk->cxjk", bases[0], coefficients)
    field = np.einsum("yj,cxjk->cxyk", bases[1], field)
    return np.asarray(np.einsum("zk,cxyk->cxyz", bases[2], field, optimize=True))


def _subject_affine(random: np.random.Generator) -> NDArray[np.float64]:
    """Return (3, 4): subject millimeters to template millimeters, about the middle of the brain."""
    size = 1 + 0.03 * random.standard_normal() + 0.02 * random.standard_normal(3)
    angles = np.deg2rad(3.0) * random.standard_normal(3)
    shift = np.array([1.5, 2.0, 1.5]) * random.standard_normal(3)
    rotation = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = [other for other in range(3) if other != axis]
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        rotation = rotation @ turn
    linear = rotation / np.clip(size * MEAN_HEAD_SIZE, 0.83, 1.01)
    middle = np.array([0.0, -18.0, 6.0])
    return np.column_stack([linear, middle - linear @ (middle + shift)])


def vary(template: Template, grid: CohortGrid, *, random: np.random.Generator) -> SubjectAnatomy:
    """Draw one subject: the template under an affine and a smooth non-linear deformation, with some atrophy.

    Parameters
    ----------
    template : Template
        The average head.
    grid : CohortGrid
        The grid of the subject's volumes.
    random : numpy.random.Generator
        Source of the draws.

    Returns
    -------
    SubjectAnatomy

    Notes
    -----
    Size 93 % of the template's on average, SD 3 % in common and 2 % per axis; rotation SD 3 degrees, shift SD
    2 mm; warp SD 2 mm per axis with control points 30 mm apart. The template's tissue fractions are averages
    over people, blurred by what registration left; they are sharpened towards one person's, p_t^2 / sum p^2,
    with the fluid weighted by a factor per subject (atrophy).
    """
    affine = _subject_affine(random)
    warp = 2.0 * smooth_field(grid, spacing_mm=30.0, random=random, components=3)
    fluid_weight = float(MEDIAN_FLUID_WEIGHT * np.exp(0.35 * random.standard_normal()))
    x, y, z = (axis.astype(np.float32) for axis in grid.axes_mm())
    template_mm = warp
    for row in range(3):
        weights = affine[row].astype(np.float32)
        template_mm[row] += (weights[0] * x)[:, None, None] + (weights[1] * y)[None, :, None]
        template_mm[row] += weights[2] * z + weights[3]
    parameters = {
        "head_size": float(abs(np.linalg.det(affine[:, :3])) ** (-1 / 3)),
        "fluid_weight": fluid_weight,
    }
    return anatomy_at(template, template_mm, parameters=parameters)


def anatomy_at(
    template: Template, template_mm: NDArray[np.float32], *, parameters: dict[str, float]
) -> SubjectAnatomy:
    """Return a subject's anatomy by where its voxels lie in the template.

    Parameters
    ----------
    template : Template
        The average head.
    template_mm : (3, X, Y, Z) float32, mm
        Where each voxel lies in it.
    parameters : dict of float
        Of the subject, as :class:`SubjectAnatomy` has them.

    Returns
    -------
    SubjectAnatomy
        On the grid of the places.
    """
    from scipy import ndimage

    fluid_weight = parameters["fluid_weight"]
    spacing = np.diag(template.affine)[:3].astype(np.float32)
    indices = (template_mm - template.affine[:3, 3].astype(np.float32)[:, None, None, None]) / spacing[
        :, None, None, None
    ]

    def sample(values: NDArray[np.float32], *, mode: str = "constant") -> NDArray[np.float32]:
        return np.asarray(ndimage.map_coordinates(values, indices, order=1, mode=mode, prefilter=False))

    gray, white, fluid = sample(template.gray), sample(template.white), sample(template.fluid)
    brain = gray + white + fluid
    gray, white, fluid = gray**2, white**2, fluid_weight * fluid**2
    scale = brain / np.maximum(gray + white + fluid, 1e-6)
    gray, white, fluid = gray * scale, white * scale, fluid * scale
    distance = sample(template.distance_mm, mode="nearest")
    inside = brain > 0.5
    soft = distance <= MENINGES_MM
    skull = ~inside & ~soft & (distance <= MENINGES_MM + SKULL_MM)
    scalp = ~inside & ~skull & (sample(template.outline_mm, mode="nearest") <= 0)
    regions = np.zeros(template_mm.shape[1:], dtype=np.int16)
    regions[skull | scalp] = REGIONS["head"]
    tissue = np.argmax(np.stack([gray, white, fluid]), axis=0)
    regions[inside] = np.where(tissue == 1, REGIONS["white_matter"], REGIONS["csf"])[inside]
    is_gray = inside & (tissue == 0)
    regions[is_gray] = template.region_of_gray(template_mm)[is_gray]
    return SubjectAnatomy(gray, white, fluid, scalp, skull, regions, template_mm, parameters)


def anatomy_of_other_grid(
    anatomy: SubjectAnatomy,
    template: Template,
    grid: CohortGrid,
    *,
    other: CohortGrid,
    matrix: NDArray[np.float64],
) -> SubjectAnatomy:
    """Return the same head on another grid, where it may lie otherwise.

    Parameters
    ----------
    anatomy : SubjectAnatomy
        The head.
    template : Template
        The average head that it was varied from.
    grid : CohortGrid
        Its grid.
    other : CohortGrid
        The grid that is wanted.
    matrix : (4, 4) float64
        Places of the other grid, mm, to the same places of the head.

    Returns
    -------
    SubjectAnatomy
        Made from the template, as the head itself: nothing is resampled twice. The deformation is linear
        between voxels of ``grid``; beyond them its shift goes on.
    """
    from scipy import ndimage

    x, y, z = np.meshgrid(*other.axes_mm(), indexing="ij", sparse=True)
    places = [row[0] * x + row[1] * y + row[2] * z + row[3] for row in matrix[:3]]
    indices = [
        (place - start) / size
        for place, start, size in zip(places, grid.origin_mm, grid.voxel_size_mm, strict=True)
    ]
    template_mm = np.empty((3, *other.shape), dtype=np.float32)
    for row, (place, own) in enumerate(
        zip(places, np.meshgrid(*grid.axes_mm(), indexing="ij", sparse=True), strict=True)
    ):
        shift = anatomy.template_mm[row] - own.astype(np.float32)
        template_mm[row] = place + ndimage.map_coordinates(
            shift, indices, order=1, mode="nearest", prefilter=False
        )
    return anatomy_at(template, template_mm, parameters=anatomy.parameters)
