"""Tissue fractions of a subject's head: the brain from the average maps, fluid, skull and scalp around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medrestore.data.phantoms.anatomy import REGIONS, CohortGrid, SubjectAnatomy, smooth_field
from medrestore.data.phantoms.template import MENINGES_MM, SKULL_MM, Template
from medrestore.data.phantoms.tissues import TISSUES

__all__ = ["Head", "draw_head", "ventricle_distance_mm"]

SHARPNESS = 1.5
"""Exponent on the tissue fractions of the brain: the sharper person behind the average of many."""

SKIN_MM = 1.5
FAT_MM = 4.0
"""Thickness of the skin and of the fat under it."""

DIPLOE_MM = (2.0, 4.5)
"""Where, in the skull, marrow lies: distances from its inner table."""

MARROW_FAT = 0.55
"""Fat in the marrow of the skull; the rest is bone."""

FLUID_IN_MENINGES = 0.75
"""Fluid between brain and skull; the rest is dura and vessels."""

CISTERN_MM = 5.0
CISTERN_DEPTH_MM = 40.0
"""How much wider the layer of fluid is deep under the skin: it widens over 10 mm from this depth on."""

VENTRICLE_DEPTH_MM = 46.0
"""Fluid that lies at least so deep under the skin is taken to be in the ventricles."""


@dataclass(frozen=True)
class Head:
    """One subject's head as tissue fractions.

    Attributes
    ----------
    fractions : (T, X, Y, Z) float32
        In the order of :data:`~medrestore.data.phantoms.tissues.TISSUES`; with air they
        add up to 1.
    template_mm : (3, X, Y, Z) float32, mm
        Where each voxel lies in the template.
    """

    fractions: NDArray[np.float32]
    template_mm: NDArray[np.float32]

    def fraction(self, tissue: str) -> NDArray[np.float32]:
        """Return the fraction (X, Y, Z) of one tissue."""
        return np.asarray(self.fractions[list(TISSUES).index(tissue)])


def ventricle_distance_mm(template: Template) -> NDArray[np.float32]:
    """Return the distance (X, Y, Z, mm) to the lateral and third ventricle, on the template's grid."""
    from scipy import ndimage

    x, _, z = np.meshgrid(
        *(
            template.affine[a, 3] + template.affine[a, a] * np.arange(template.gray.shape[a])
            for a in range(3)
        ),
        indexing="ij",
        sparse=True,
    )
    inside = (template.outline_mm < -VENTRICLE_DEPTH_MM) & (np.abs(x) < 42) & (z > -12) & (z < 36)
    ventricles = inside & (template.fluid > 0.5)
    distance = ndimage.distance_transform_edt(~ventricles) * template.affine[0, 0]
    return np.asarray(distance, dtype=np.float32)


def sample_template(
    template: Template, values: NDArray[np.float32], places_mm: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return a map of the template at places in it, linearly interpolated.

    Parameters
    ----------
    template : Template
        The average head.
    values : (X, Y, Z) float32
        On the template's grid.
    places_mm : (3, ...) float32, mm
        Template coordinates; beyond the template its border goes on.

    Returns
    -------
    (...) float32
    """
    from scipy import ndimage

    steps = np.diag(template.affine)[:3].astype(np.float32).reshape(3, *[1] * (places_mm.ndim - 1))
    start = template.affine[:3, 3].astype(np.float32).reshape(steps.shape)
    indices = (places_mm - start) / steps
    return np.asarray(ndimage.map_coordinates(values, indices, order=1, mode="nearest", prefilter=False))


def draw_head(
    anatomy: SubjectAnatomy,
    template: Template,
    grid: CohortGrid,
    *,
    random: np.random.Generator,
    sharpness: float = SHARPNESS,
) -> Head:
    """Return the tissue fractions of a healthy subject's head.

    Parameters
    ----------
    anatomy : SubjectAnatomy
        The subject, varied from the template.
    template : Template
        The average head.
    grid : CohortGrid
        The grid of the anatomy.
    random : numpy.random.Generator
        Source of the thickness of skull and fat, and of where fat lies between muscles.
    sharpness : float
        Exponent on the anatomy's tissue fractions of the brain; 1 leaves them as they are.

    Returns
    -------
    Head

    Notes
    -----
    From the brain outward: fluid and meninges (3 mm), skull with marrow in its middle, lean tissue, fat under
    the skin, skin. Borders are as wide as a voxel of the template, so that a voxel at a border is mixed.
    """
    gray, white, fluid = (part**sharpness for part in (anatomy.gray, anatomy.white, anatomy.fluid))
    brain = np.minimum(anatomy.gray + anatomy.white + anatomy.fluid, 1)
    scale = brain / np.maximum(gray + white + fluid, 1e-6)
    gray, white, fluid = gray * scale, white * scale, fluid * scale
    # The brainstem, whose centers are labeled white matter, is a mixture with the T1 of deep gray matter.
    areas = template.region_of_gray(anatomy.template_mm)
    deep = (areas == REGIONS["deep_gray"]) | (areas == REGIONS["white_matter"])
    fractions = np.zeros((len(TISSUES), *grid.shape), dtype=np.float32)
    part = dict(zip(TISSUES, fractions, strict=True))
    part["white_matter"][...] = white
    part["cortical_gray"][...] = np.where(deep, 0, gray)
    part["deep_gray"][...] = np.where(deep, gray, 0)
    part["csf"][...] = fluid
    # Outside the brain: distances from its surface, half a template voxel before the first center outside.
    skull_scale, fat_scale = np.exp(np.array([0.1, 0.25]) * random.standard_normal(2)).astype(np.float32)
    pads = smooth_field(grid, spacing_mm=16.0, random=random)[0]
    around = np.flatnonzero(brain < 1)
    places = anatomy.template_mm.reshape(3, -1)[:, around]
    width = np.float32(template.affine[0, 0])
    out = sample_template(template, template.distance_mm, places) - width / 2
    depth = -sample_template(template, template.outline_mm, places)

    def beyond(distance: NDArray[np.float32], limit: float) -> NDArray[np.float32]:
        return np.asarray(np.clip((distance - np.float32(limit)) / width + 0.5, 0, 1))

    # Deep under the skin, at the base of the brain, cisterns take the room.
    out -= CISTERN_MM * np.clip((depth - CISTERN_DEPTH_MM) / 10, 0, 1)
    inner = beyond(out, MENINGES_MM)
    bone = inner * (1 - beyond(out, MENINGES_MM + SKULL_MM * skull_scale))
    marrow = bone * beyond(out, MENINGES_MM + DIPLOE_MM[0] * skull_scale)
    marrow *= MARROW_FAT * (1 - beyond(out, MENINGES_MM + DIPLOE_MM[1] * skull_scale))
    soft = inner - bone
    under_skin = beyond(depth, SKIN_MM) * (1 - beyond(depth, SKIN_MM + FAT_MM * fat_scale))
    between = beyond(depth, SKIN_MM + FAT_MM * fat_scale) * np.clip(pads.ravel()[around] - 0.6, 0, 1)
    fat = np.clip(under_skin + between, 0, 1)
    room = (1 - brain.ravel()[around]) * beyond(depth, 0.0)
    for name, share in {
        "csf": (1 - inner) * FLUID_IN_MENINGES,
        "muscle": (1 - inner) * (1 - FLUID_IN_MENINGES) + soft * (1 - fat),
        "bone": bone - marrow,
        "fat": marrow + soft * fat,
    }.items():
        part[name].reshape(-1)[around] += room * share
    return Head(fractions, anatomy.template_mm)
