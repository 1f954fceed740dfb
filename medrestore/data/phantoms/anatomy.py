"""Head anatomy for simulated cohorts: the MNI152 tissue maps that nilearn ships, varied from subject to subject.

Nothing is downloaded. Tissue maps: ICBM 2009a T1, grey and white matter (Fonov 2011). Region labels: each grey-matter
voxel takes the label of the nearest region center of Dosenbach (Science 329:1358, 2010), with the subcortical and
cerebellar centers of Seitzman (NeuroImage 206:116290, 2020). The head around the brain is drawn by distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import require_in_range

__all__ = [
    "COMPOSITE_REGIONS",
    "CORTICAL_REGIONS",
    "REFERENCE_REGION",
    "REGIONS",
    "CohortGrid",
    "SubjectAnatomy",
    "Template",
    "load_template",
    "mu_map",
    "vary",
]

REGIONS: dict[str, int] = {
    "cerebellum": 1,
    "frontal": 2,
    "lateral_temporal": 3,
    "parietal": 4,
    "precuneus_posterior_cingulate": 5,
    "other_cortex": 6,
    "deep_gray": 7,
    "white_matter": 8,
    "csf": 9,
    "head": 10,
}
"""Codes of the region-label maps; 0 is the background. ``cerebellum`` is the cerebellar cortex."""

COMPOSITE_REGIONS: tuple[int, ...] = (2, 3, 4, 5)
"""Regions whose means are averaged for the composite SUVR."""

REFERENCE_REGION: int = 1
"""The region that the composite SUVR is relative to."""

CORTICAL_REGIONS: tuple[int, ...] = (2, 3, 4, 5, 6)
"""Regions of the cerebral cortex."""

DOSENBACH_REGIONS: dict[str, tuple[str, ...]] = {
    "cerebellum": ("inf cerebellum", "lat cerebellum", "med cerebellum"),
    "frontal": (
        "ACC", "aPFC", "dACC", "dFC", "dlPFC", "frontal", "mFC", "mPFC", "sup frontal",
        "vFC", "vPFC", "vent aPFC", "vlPFC", "vmPFC",
    ),
    "lateral_temporal": ("TPJ", "inf temporal", "sup temporal", "temporal"),
    "parietal": ("IPL", "IPS", "angular gyrus", "parietal", "post parietal", "sup parietal"),
    "precuneus_posterior_cingulate": ("post cingulate", "precuneus"),
    "other_cortex": (
        "SMA", "ant insula", "fusiform", "mid insula", "occipital", "post insula", "post occipital", "pre-SMA",
        "precentral gyrus",
    ),
    "deep_gray": ("basal ganglia", "thalamus"),
}  # fmt: skip
"""Names of Dosenbach's regions that make up each of ours."""

MISPLACED_CENTERS: dict[tuple[int, int, int], str] = {
    (-6, 17, 34): "frontal",  # named basal ganglia; lies in the cingulate, beside dACC (9, 20, 34)
    (-4, -31, -4): "deep_gray",  # named posterior cingulate; lies at the midbrain and pulvinar
}
"""Dosenbach centers (mm) whose name does not say where they lie, and our region there."""

SEITZMAN_REGIONS: dict[str, str] = {
    "hippocampus": "other_cortex",
    "amygdala": "other_cortex",
    "basalGanglia": "deep_gray",
    "thalamus": "deep_gray",
    "cerebellum": "cerebellum",
}
"""Our regions for Seitzman's anatomical labels; their cortical centers carry no lobe and are not used."""

BRAINSTEM_CENTERS: tuple[tuple[int, int, int], ...] = (
    (0, -30, -16),
    (0, -27, -34),
    (0, -36, -48),
    (0, -42, -60),
)
"""Centers (mm) of midbrain, pons and medulla: grey and white matter mix there and hold tracer as white matter does."""

MENINGES_MM = 3.0
SKULL_MM = 6.5
SCALP_MM = 6.0
"""Thickness of the layers around the brain: fluid and meninges, skull, scalp; rounded from adult head CT."""

MU_TISSUE_PER_CM = 0.096
MU_BONE_PER_CM = 0.151
"""Linear attenuation at 511 keV: water (NIST XCOM) and skull averaged over its layers, as PET/MR head atlases use it."""


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

    def axes_mm(self) -> tuple[NDArray[np.float64], ...]:
        """Return the coordinates (mm) of the voxel centers along X, Y and Z."""
        return tuple(
            start + size * np.arange(count)
            for start, size, count in zip(self.origin_mm, self.voxel_size_mm, self.shape, strict=True)
        )


@dataclass(frozen=True)
class Template:
    """The average head that subjects are varied from, on one isotropic MNI grid.

    Attributes
    ----------
    gray, white, fluid : (X, Y, Z) float32
        Tissue fractions; they add up to 1 inside the brain and to 0 outside.
    distance_mm : (X, Y, Z) float32, mm
        Distance to the brain; 0 inside.
    outline_mm : (X, Y, Z) float32, mm
        Distance to the skin, its hollows under the brain filled; negative inside the head.
    nearest_region : (X, Y, Z) uint8
        Region code of the nearest region center.
    affine : (4, 4) float64
        Voxel indices to MNI millimeters.
    """

    gray: NDArray[np.float32]
    white: NDArray[np.float32]
    fluid: NDArray[np.float32]
    distance_mm: NDArray[np.float32]
    outline_mm: NDArray[np.float32]
    nearest_region: NDArray[np.uint8]
    affine: NDArray[np.float64]

    def region_of_gray(self, template_mm: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the region code (X, Y, Z) that gray matter at template coordinates (3, X, Y, Z) in mm belongs to."""
        index = []
        for axis, count in enumerate(self.nearest_region.shape):
            position = (template_mm[axis] - np.float32(self.affine[axis, 3])) / np.float32(
                self.affine[axis, axis]
            )
            index.append(np.clip(np.rint(position), 0, count - 1).astype(np.int32))
        return np.asarray(self.nearest_region[tuple(index)])


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


def region_centers() -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Return the region centers that nilearn ships and our codes for them.

    Returns
    -------
    (N, 3) float64, mm
        MNI coordinates.
    (N,) uint8
        Codes of :data:`REGIONS`.
    """
    from nilearn import datasets

    by_name = {name: ours for ours, names in DOSENBACH_REGIONS.items() for name in names}
    dosenbach = datasets.fetch_coords_dosenbach_2010(ordered_regions=False)
    points: list[tuple[float, float, float]] = []
    codes: list[int] = []
    for point, label in zip(dosenbach.rois.itertuples(index=False), dosenbach.labels, strict=True):
        where = (int(point.x), int(point.y), int(point.z))
        name = str(label).rsplit(" ", 1)[0]  # the label is the name and the region's number
        points.append(where)
        codes.append(REGIONS[MISPLACED_CENTERS.get(where, by_name[name])])
    seitzman = datasets.fetch_coords_seitzman_2018(ordered_regions=False)
    for point, label in zip(seitzman.rois.itertuples(index=False), seitzman.regions, strict=True):
        if label in SEITZMAN_REGIONS:
            points.append((float(point.x), float(point.y), float(point.z)))
            codes.append(REGIONS[SEITZMAN_REGIONS[label]])
    points.extend(BRAINSTEM_CENTERS)
    codes.extend([REGIONS["white_matter"]] * len(BRAINSTEM_CENTERS))
    return np.array(points, dtype=np.float64), np.array(codes, dtype=np.uint8)


@lru_cache(maxsize=1)
def load_template() -> Template:
    """Return the average head, from the maps that nilearn ships (ICBM 2009a), at 2 mm.

    Returns
    -------
    Template
    """
    from nilearn import datasets
    from scipy import ndimage, spatial

    resolution_mm = 2
    brain_image = datasets.load_mni152_template(resolution=resolution_mm)
    affine = np.asarray(brain_image.affine, dtype=np.float64)
    brain = ndimage.binary_fill_holes(np.asarray(brain_image.dataobj) > 0.05)
    brain = ndimage.binary_opening(brain, iterations=1)
    gray = (
        np.asarray(datasets.load_mni152_gm_template(resolution=resolution_mm).dataobj, dtype=np.float32)
        * brain
    )
    white = (
        np.asarray(datasets.load_mni152_wm_template(resolution=resolution_mm).dataobj, dtype=np.float32)
        * brain
    )
    total = np.maximum(gray + white, 1)
    gray, white = gray / total, white / total
    fluid = np.where(brain, np.clip(1 - gray - white, 0, 1), 0)
    distance = ndimage.distance_transform_edt(~brain) * resolution_mm
    outline = _head_outline(brain, resolution_mm)
    centers, codes = region_centers()
    axes = [affine[axis, 3] + resolution_mm * np.arange(count) for axis, count in enumerate(brain.shape)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    nearest = codes[spatial.cKDTree(centers).query(points.reshape(-1, 3))[1]].reshape(brain.shape)
    return Template(
        gray=gray.astype(np.float32),
        white=white.astype(np.float32),
        fluid=fluid.astype(np.float32),
        distance_mm=distance.astype(np.float32),
        outline_mm=outline,
        nearest_region=nearest,
        affine=affine,
    )


def _head_outline(brain: NDArray[np.bool_], resolution_mm: float) -> NDArray[np.float32]:
    """Return the distance (mm) to the skin: the brain grown by skull and scalp, closed by a ball of 40 mm."""
    from scipy import ndimage

    ball_mm = 40.0
    margin = int(np.ceil((ball_mm + MENINGES_MM + SKULL_MM + SCALP_MM) / resolution_mm)) + 1
    outside = ndimage.distance_transform_edt(~np.pad(brain, margin)) * resolution_mm
    grown = outside <= MENINGES_MM + SKULL_MM + SCALP_MM + ball_mm
    depth = ndimage.distance_transform_edt(grown) * resolution_mm
    inner = tuple(slice(margin, margin + count) for count in brain.shape)
    return np.asarray(ball_mm - depth[inner], dtype=np.float32)


def _spline_basis(count: int, controls: int) -> NDArray[np.float32]:
    """Return the (count, controls) values of uniform cubic B-splines spread over ``count`` samples."""
    position = np.linspace(1.0, controls - 2.0, count)
    t = np.abs(position[:, None] - np.arange(controls)[None, :])
    inner = 2 / 3 - t**2 + t**3 / 2
    outer = np.maximum(2 - t, 0) ** 3 / 6
    return np.where(t < 1, inner, outer).astype(np.float32)


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
        _spline_basis(count, int(np.ceil(count * size / spacing_mm)) + 3)
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
    linear = rotation / np.clip(size * 0.98, 0.88, 1.05)
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
    Size SD 3 % in common and 2 % per axis, rotation SD 3 degrees, shift SD 2 mm, warp SD 2 mm per axis with control
    points 30 mm apart. The template's tissue fractions are averages over people, blurred by what registration left;
    they are sharpened towards one person's, p_t^2 / sum p^2, with the fluid weighted by a factor per subject (atrophy).
    """
    from scipy import ndimage

    affine = _subject_affine(random)
    warp = 2.0 * smooth_field(grid, spacing_mm=30.0, random=random, components=3)
    fluid_weight = float(np.exp(0.35 * random.standard_normal()))
    x, y, z = (axis.astype(np.float32) for axis in grid.axes_mm())
    template_mm = warp
    for row in range(3):
        weights = affine[row].astype(np.float32)
        template_mm[row] += (weights[0] * x)[:, None, None] + (weights[1] * y)[None, :, None]
        template_mm[row] += weights[2] * z + weights[3]
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
    regions = np.zeros(grid.shape, dtype=np.int16)
    regions[skull | scalp] = REGIONS["head"]
    tissue = np.argmax(np.stack([gray, white, fluid]), axis=0)
    regions[inside] = np.where(tissue == 1, REGIONS["white_matter"], REGIONS["csf"])[inside]
    is_gray = inside & (tissue == 0)
    regions[is_gray] = template.region_of_gray(template_mm)[is_gray]
    parameters = {
        "head_size": float(abs(np.linalg.det(affine[:, :3])) ** (-1 / 3)),
        "fluid_weight": fluid_weight,
    }
    return SubjectAnatomy(gray, white, fluid, scalp, skull, regions, template_mm, parameters)


def mu_map(anatomy: SubjectAnatomy) -> NDArray[np.float32]:
    """Return the linear attenuation coefficients at 511 keV, (X, Y, Z) float32, 1/cm."""
    mu = np.zeros(anatomy.regions.shape, dtype=np.float32)
    mu[anatomy.regions > 0] = MU_TISSUE_PER_CM
    mu[anatomy.skull] = MU_BONE_PER_CM
    return mu
