"""Uptake that departs from the tissue map: what neither T1 nor the cohort's mean tells of a subject.

    activity' = activity (1 + a w)

w is a part of each voxel, from 0 to 1, and a the change. A restoration that keeps to the measurement shows
it, one that draws what the anatomy suggests does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import InputError, fail, require_in_set
from medrestore.data.phantoms.anatomy import REGIONS, CohortGrid, SubjectAnatomy, Template
from medrestore.data.phantoms.ellipsoids import ellipsoid_fraction
from medrestore.domains.amyloid_pet.schema import CUT_OFF_SUVR
from medrestore.domains.amyloid_pet.simulate.amyloid import LOAD_RATIO, composite_of_truth

__all__ = ["DEPARTURES", "Departed", "depart"]

DEPARTURES: dict[str, tuple[float, float]] = {
    "raised_focus": (0.5, 0.9),
    "lost_focus": (-0.7, -0.4),
    "raised_region": (0.25, 0.45),
    "tissue_without_uptake": (-0.95, -0.7),
}
"""Kinds, and the bounds of the change a of the uptake: a focus in cortex that looks normal on T1; a region of
one side whose gray matter is normal; tissue, gray and white, that takes up next to nothing."""

DIAMETER_MM = (18.0, 28.0)
"""Of foci."""

LEAST_ML = 1.0
"""Smallest volume of a departure, at half of its largest change or more."""

TISSUE_AT_CENTER = 0.8
EDGE_MM = 15.0
"""Tissue at the middle of a focus, and its distance from the first and last slice."""

_TRIES = 500


@dataclass(frozen=True)
class Departed:
    """The activity of a subject, and how it departs.

    Attributes
    ----------
    activity : (X, Y, Z) float32
        With the departure.
    difference : (X, Y, Z) float32
        Against the activity without, in its unit.
    record : dict
        Kind, change and place.
    """

    activity: NDArray[np.float32]
    difference: NDArray[np.float32]
    record: dict[str, object]


def depart(
    activity: NDArray[np.float32],
    anatomy: SubjectAnatomy,
    template: Template,
    grid: CohortGrid,
    kind: str,
    *,
    status: int,
    random: np.random.Generator,
) -> Departed:
    """Change a subject's uptake somewhere.

    Parameters
    ----------
    activity : (X, Y, Z) float32
        As the tissue map and the amyloid load have it.
    anatomy : SubjectAnatomy
        The subject's head.
    template : Template
        The head it was varied from.
    grid : CohortGrid
        Grid of both.
    kind : str
        A name of :data:`DEPARTURES`.
    status : int
        Amyloid status, which stays: a place where the composite would cross the cut-off is not taken.
    random : numpy.random.Generator
        Source of place, size and change.

    Returns
    -------
    Departed
    """
    require_in_set("kind", kind, tuple(DEPARTURES))
    voxel_ml = float(np.prod(grid.voxel_size_mm)) / 1000
    for _ in range(_TRIES):
        change = float(random.uniform(*DEPARTURES[kind]))
        if kind == "raised_region":
            weight, place = _region(anatomy, template, random)
        else:
            weight, place = _focus(anatomy, grid, random, white=kind == "tissue_without_uptake")
        difference = np.asarray(activity * weight * np.float32(change), dtype=np.float32)
        changed = activity + difference
        size = np.abs(difference)
        volume = float((size >= size.max() / 2).sum()) * voxel_ml if size.any() else 0.0
        same = (composite_of_truth(changed, anatomy.regions) >= CUT_OFF_SUVR) == bool(status)
        if volume >= LEAST_ML and same:
            return Departed(changed, difference, {"kind": kind, "change": round(change, 6), **place})
    raise InputError(f"no place for a departure {kind!r} was found in {_TRIES} draws")


def _focus(
    anatomy: SubjectAnatomy, grid: CohortGrid, random: np.random.Generator, *, white: bool
) -> tuple[NDArray[np.float32], dict[str, object]]:
    """Return the weight of a focus and where it is."""
    tissue = anatomy.gray + anatomy.white if white else anatomy.gray
    codes = [REGIONS[name] for name in LOAD_RATIO if name != "deep_gray"]
    codes += [REGIONS["white_matter"]] * white
    z = grid.axes_mm()[2]
    held = (tissue >= TISSUE_AT_CENTER) & np.isin(anatomy.regions, codes)
    held &= (z > z[0] + EDGE_MM) & (z < z[-1] - EDGE_MM)
    cells = np.flatnonzero(held)
    if not cells.size:
        fail("the grid holds no cortex for a departure")
    where = np.unravel_index(int(random.choice(cells)), grid.shape)
    x, y, w = (float(axis[i]) for axis, i in zip(grid.axes_mm(), where, strict=True))
    diameter = float(random.uniform(*DIAMETER_MM))
    box, inside = ellipsoid_fraction(
        grid, center_mm=(x, y, w), diameters_mm=(diameter, diameter), axis=(1.0, 0.0, 0.0)
    )
    weight = np.zeros(grid.shape, dtype=np.float32)
    weight[box] = inside * _share(anatomy, tissue)[box]
    return weight, {"center_mm": [round(value, 3) for value in (x, y, w)], "diameter_mm": round(diameter, 3)}


def _region(
    anatomy: SubjectAnatomy, template: Template, random: np.random.Generator
) -> tuple[NDArray[np.float32], dict[str, object]]:
    """Return the weight of the gray matter of a region of one side, and which."""
    names = [name for name in LOAD_RATIO if name != "deep_gray"]
    name = names[int(random.integers(len(names)))]
    right = bool(random.integers(2))
    of_side = anatomy.template_mm[0] > 0
    held = (template.region_of_gray(anatomy.template_mm) == REGIONS[name]) & (of_side if right else ~of_side)
    weight = np.where(held, _share(anatomy, anatomy.gray), 0).astype(np.float32)
    return weight, {"region": name, "side": "right" if right else "left"}


def _share(anatomy: SubjectAnatomy, tissue: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the part of each voxel of the brain that a tissue is."""
    brain = anatomy.gray + anatomy.white + anatomy.fluid
    return np.asarray(tissue / np.maximum(brain, np.float32(1e-6)), dtype=np.float32)
