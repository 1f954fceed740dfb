"""A subject as the scanner sees it: T1, T2 and proton density of each tissue in each voxel, and the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medrestore.data.phantoms.anatomy import CohortGrid, smooth_field
from medrestore.data.phantoms.head import Head
from medrestore.data.phantoms.tissues import TISSUES, Relaxation, varied
from medrestore.domains.multicontrast_mri.simulate.lesions import LESION_KINDS, LesionMap

__all__ = ["Body", "Compartment", "Truth", "fine_grid", "make_body", "thick", "truth_maps"]

PRESENT = np.float32(1e-3)
"""Fraction from which a tissue counts in a voxel."""


FLUID = list(TISSUES).index("csf")


@dataclass(frozen=True)
class Compartment:
    """One tissue where it is present.

    Attributes
    ----------
    name : str
        The tissue.
    cells : (N,) int
        Flat indices of its voxels.
    transfer : float or (N,) float32
        Signal lost to magnetization transfer.
    fraction, t1_ms, t2_ms, pd : (N,) float32
        How much of it, and what it is.
    """

    name: str
    cells: NDArray[np.intp]
    transfer: NDArray[np.float32] | float
    fraction: NDArray[np.float32]
    t1_ms: NDArray[np.float32]
    t2_ms: NDArray[np.float32]
    pd: NDArray[np.float32]


@dataclass(frozen=True)
class Body:
    """A subject as the scanner sees it, on the fine grid.

    Attributes
    ----------
    grid : CohortGrid
        The fine grid.
    compartments : tuple of Compartment
        Tissues, then lesions.
    brain : (X, Y, Z) float32
        Fraction of gray matter, white matter and lesions.
    pulsation : (N,) float32
        How much the fluid moves, in [0, 1], at the voxels of the fluid's compartment.
    """

    grid: CohortGrid
    compartments: tuple[Compartment, ...]
    brain: NDArray[np.float32]
    pulsation: NDArray[np.float32]

    @property
    def fluid(self) -> Compartment:
        """Cerebrospinal fluid."""
        return self.compartments[FLUID]


@dataclass(frozen=True)
class Truth:
    """Maps of the true tissue on the slices: means over what is in a voxel, 0 in air.

    Attributes
    ----------
    t1_ms, t2_ms, pd : (X, Y, Z) float32
        Mean relaxation times of the tissue in a voxel; proton density of the voxel.
    tissue : (X, Y, Z) int16
        Code of what fills most of it.
    lesions : (X, Y, Z) float32
        Fraction of lesions.
    """

    t1_ms: NDArray[np.float32]
    t2_ms: NDArray[np.float32]
    pd: NDArray[np.float32]
    tissue: NDArray[np.int16]
    lesions: NDArray[np.float32]


def fine_grid(grid: CohortGrid, parts: int) -> CohortGrid:
    """Return the grid whose slices are ``parts`` times as thin; its slices fill those of ``grid``."""
    size = grid.voxel_size_mm[2] / parts
    return CohortGrid(
        shape=(*grid.shape[:2], grid.shape[2] * parts),
        voxel_size_mm=(*grid.voxel_size_mm[:2], size),
        origin_mm=(*grid.origin_mm[:2], grid.origin_mm[2] - (parts - 1) / 2 * size),
    )


def thick(values: NDArray[np.float32], parts: int) -> NDArray[np.float32]:
    """Return the mean (..., Z / parts) over each slice of thin slices (..., Z)."""
    return np.asarray(values.reshape(*values.shape[:-1], -1, parts).mean(axis=-1))


def make_body(
    head: Head,
    lesions: LesionMap,
    grid: CohortGrid,
    *,
    relaxation: dict[str, Relaxation],
    random: np.random.Generator,
) -> Body:
    """Give every voxel of a head its T1, T2 and proton density.

    Parameters
    ----------
    head : Head
        Tissue fractions without the lesions'.
    lesions : LesionMap
        The lesions.
    grid : CohortGrid
        Grid of both.
    relaxation : dict of tissue to Relaxation
        The subject's.
    random : numpy.random.Generator
        Source of the smooth variation and of where fluid moves.

    Returns
    -------
    Body
    """
    fields = smooth_field(grid, spacing_mm=32.0, random=random, components=3).reshape(3, -1)
    compartments = []
    for index, (name, tissue) in enumerate(TISSUES.items()):
        fraction = head.fractions[index].ravel()
        cells = np.flatnonzero(fraction > PRESENT)
        t1, t2, pd = varied(relaxation[name], tissue.smooth, fields[:, cells])
        compartments.append(Compartment(name, cells, tissue.transfer, fraction[cells], t1, t2, pd))
    fraction = lesions.fraction.ravel()
    cells = np.flatnonzero(fraction > PRESENT)
    if cells.size:
        t1, t2, pd = (values.ravel()[cells] for values in (lesions.t1_ms, lesions.t2_ms, lesions.pd))
        lost = np.zeros(256, dtype=np.float32)
        for kind in LESION_KINDS.values():
            lost[kind.code] = kind.transfer
        transfer = lost[lesions.code.ravel()[cells]]
        compartments.append(Compartment("lesion", cells, transfer, fraction[cells], t1, t2, pd))
    brain = head.fractions[:3].sum(axis=0) + lesions.fraction
    fluid = compartments[FLUID].cells
    x, y, z = head.template_mm.reshape(3, -1)[:, fluid]
    # Strong in the midline and around the brainstem, weak in the lateral ventricles and over the convexity.
    far = (x / 28) ** 2 + ((y + 25) / 45) ** 2 + (np.maximum(z + 15, 0) / 24) ** 2
    place = 0.15 + 0.85 * np.exp(-far)
    patches = smooth_field(grid, spacing_mm=18.0, random=random).ravel()[fluid]
    pulsation = np.clip(place * (0.6 + 0.5 * patches), 0, 1).astype(np.float32)
    return Body(grid, tuple(compartments), brain, pulsation)


def truth_maps(body: Body, head: Head, lesions: LesionMap, *, parts: int) -> Truth:
    """Return what is in the slices' voxels.

    Parameters
    ----------
    body : Body
        Relaxation on the fine grid.
    head : Head
        Tissue fractions without the lesions'.
    lesions : LesionMap
        The lesions.
    parts : int
        Thin slices in a slice.

    Returns
    -------
    Truth
    """
    sums = np.zeros((4, body.brain.size), dtype=np.float32)
    for tissue in body.compartments:
        sums[0, tissue.cells] += tissue.fraction
        for total, values in zip(sums[1:], (tissue.t1_ms, tissue.t2_ms, tissue.pd), strict=True):
            total[tissue.cells] += tissue.fraction * values
    filled, t1, t2, pd = thick(sums.reshape(4, *body.grid.shape), parts)
    lesion = thick(lesions.fraction, parts)
    fractions = thick(head.fractions, parts)
    # Air is what is left; the kind of lesion is that of the thin slice with most of it.
    air = 1 - fractions.sum(axis=0) - lesion
    most = np.argmax(np.concatenate([air[None], fractions, lesion[None]]), axis=0)
    kind = lesions.code.reshape(*lesion.shape, parts).max(axis=-1)
    codes = np.array([0, *(tissue.code for tissue in TISSUES.values()), 0], dtype=np.int16)
    tissue_map = np.where(most == len(codes) - 1, kind, codes[most]).astype(np.int16)
    present = filled > PRESENT
    share = np.where(present, filled, 1)
    return Truth(
        t1_ms=np.where(present, t1 / share, 0),
        t2_ms=np.where(present, t2 / share, 0),
        pd=np.where(present, pd, 0),
        tissue=tissue_map,
        lesions=lesion,
    )
