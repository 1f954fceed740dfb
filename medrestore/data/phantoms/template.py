"""The average head that simulated subjects are varied from: the MNI152 tissue maps that nilearn ships.

Nothing is downloaded. Tissue maps: ICBM 2009a T1, gray and white matter (Fonov 2011). Region labels: each
gray-matter voxel takes the label of the nearest region center of Dosenbach (Science 329:1358, 2010), with the
subcortical and cerebellar centers of Seitzman (NeuroImage 206:116290, 2020). The head around the brain is
drawn by distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "MENINGES_MM",
    "REGIONS",
    "SKULL_MM",
    "Template",
    "load_template",
    "region_centers",
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
        "SMA", "ant insula", "fusiform", "mid insula", "occipital", "post insula", "post occipital",
        "pre-SMA", "precentral gyrus",
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
"""Centers (mm) of midbrain, pons and medulla: gray and white matter mix there, with white matter's uptake."""

MENINGES_MM = 3.0
SKULL_MM = 6.5
SCALP_MM = 6.0
"""Thickness of the layers around the brain: fluid and meninges, skull, scalp; rounded from adult head CT."""


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
        """Return the region code of gray matter at places in the template.

        Parameters
        ----------
        template_mm : (3, X, Y, Z) float32, mm
            Template coordinates.

        Returns
        -------
        (X, Y, Z) uint8
        """
        index = []
        for axis, count in enumerate(self.nearest_region.shape):
            position = (template_mm[axis] - np.float32(self.affine[axis, 3])) / np.float32(
                self.affine[axis, axis]
            )
            index.append(np.clip(np.rint(position), 0, count - 1).astype(np.int32))
        return np.asarray(self.nearest_region[tuple(index)])


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
