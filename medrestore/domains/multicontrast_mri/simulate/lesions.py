"""White-matter lesions of patients: plaques as in multiple sclerosis, and larger areas of oedema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrestore.data.phantoms.anatomy import CohortGrid
from medrestore.data.phantoms.ellipsoids import ellipsoid_fraction
from medrestore.data.phantoms.head import Head, sample_template
from medrestore.data.phantoms.template import Template
from medrestore.data.phantoms.tissues import TISSUES, Relaxation

__all__ = ["LESION_KINDS", "Lesion", "LesionKind", "LesionMap", "draw_lesions", "with_lesions"]

PERIVENTRICULAR_SHARE = 0.6
PERIVENTRICULAR_MM = (2.0, 12.0)
"""Share of plaques beside the ventricles, and how far their centers lie from them."""

DAWSON_SHARE = 0.6
"""Share of periventricular plaques that stand on the ventricle, their long axis away from it."""

BLACK_HOLE_SHARE = 0.25
"""Share of plaques whose T1 is that of destroyed tissue."""

MEDIAN_DIAMETER_MM = 7.5
DIAMETER_LOG_SD = 0.42
"""Of plaques, before they are cut to their range."""

WHITE_AT_CENTER = 0.9
"""Least white matter at the center of a lesion."""

LOWEST_MM = -12.0
"""Lesions lie above the brainstem: the template's height of the midbrain."""


@dataclass(frozen=True)
class LesionKind:
    """A kind of white-matter lesion; each lesion draws its own values, uniformly between the bounds.

    Attributes
    ----------
    code : int
        In maps of tissue.
    t1_ms, t2_ms : (float, float), ms
        Bounds of the relaxation times.
    pd : (float, float)
        Bounds of the proton density.
    transfer : float
        Signal lost to magnetization transfer in a multi-slice turbo spin echo.
    diameter_mm : (float, float), mm
        Smallest and largest mean diameter.
    """

    code: int
    t1_ms: tuple[float, float]
    t2_ms: tuple[float, float]
    pd: tuple[float, float]
    transfer: float
    diameter_mm: tuple[float, float]


LESION_KINDS: dict[str, LesionKind] = {
    "plaque": LesionKind(8, (1150.0, 1500.0), (105.0, 150.0), (0.78, 0.86), 0.07, (3.0, 15.0)),
    "black_hole": LesionKind(9, (1600.0, 2200.0), (140.0, 220.0), (0.84, 0.92), 0.03, (4.0, 13.0)),
    "oedema": LesionKind(10, (1300.0, 1700.0), (125.0, 190.0), (0.82, 0.9), 0.06, (14.0, 30.0)),
}
"""Lesions of patients. Black holes are the plaques whose tissue is destroyed. The values are choices that
follow the order that the sources of :mod:`medrestore.data.phantoms.tissues` give."""


@dataclass(frozen=True)
class Lesion:
    """One lesion: an ellipsoid.

    Attributes
    ----------
    kind : str
        A name of :data:`LESION_KINDS`.
    center_mm : three float, mm
        Its middle, in the subject's coordinates.
    diameters_mm : three float, mm
        Along its axes, the long one first.
    axis : three float
        Unit vector of its long axis.
    relaxation : Relaxation
        Its tissue.
    """

    kind: str
    center_mm: tuple[float, float, float]
    diameters_mm: tuple[float, float, float]
    axis: tuple[float, float, float]
    relaxation: Relaxation

    def as_plain(self) -> dict[str, Any]:
        """Return it in plain types, rounded to what is worth reading."""
        plain = asdict(self)
        for name in ("center_mm", "diameters_mm", "axis"):
            plain[name] = [round(value, 3) for value in plain[name]]
        plain["relaxation"] = {name: round(value, 3) for name, value in plain["relaxation"].items()}
        return plain


@dataclass(frozen=True)
class LesionMap:
    """Lesions on a grid; they take the place of white matter.

    Attributes
    ----------
    fraction : (X, Y, Z) float32
        Lesion tissue.
    code : (X, Y, Z) uint8
        Kind of the lesion that fills most of the voxel, 0 where there is none.
    t1_ms, t2_ms, pd : (X, Y, Z) float32
        Its tissue; 0 where there is none.
    lesions : tuple of Lesion
        What was drawn.
    """

    fraction: NDArray[np.float32]
    code: NDArray[np.uint8]
    t1_ms: NDArray[np.float32]
    t2_ms: NDArray[np.float32]
    pd: NDArray[np.float32]
    lesions: tuple[Lesion, ...]


def draw_lesions(
    head: Head,
    template: Template,
    grid: CohortGrid,
    *,
    ventricle_mm: NDArray[np.float32],
    plaques: int,
    oedemas: int,
    random: np.random.Generator,
) -> tuple[Lesion, ...]:
    """Draw a patient's lesions.

    Parameters
    ----------
    head : Head
        The patient's head.
    template : Template
        The average head.
    grid : CohortGrid
        Grid of the head.
    ventricle_mm : (X, Y, Z) float32, mm
        Distance to the ventricles, on the template's grid.
    plaques, oedemas : int
        How many of each.
    random : numpy.random.Generator
        Source of the draws.

    Returns
    -------
    tuple of Lesion
        Oedema first.
    """
    if plaques + oedemas == 0:
        return ()
    white = np.flatnonzero(
        (head.fraction("white_matter") >= WHITE_AT_CENTER) & (head.template_mm[2] > LOWEST_MM)
    )
    places = head.template_mm.reshape(3, -1)[:, white]
    distance = sample_template(template, ventricle_mm, places)
    beside = white[(distance >= PERIVENTRICULAR_MM[0]) & (distance <= PERIVENTRICULAR_MM[1])]
    axes = grid.axes_mm()
    lesions = []
    for index in range(oedemas + plaques):
        plaque = index >= oedemas
        near = plaque and len(beside) > 0 and random.random() < PERIVENTRICULAR_SHARE
        cell = int(random.choice(beside if near else white))
        where = np.unravel_index(cell, grid.shape)
        center = np.array([axis[i] for axis, i in zip(axes, where, strict=True)])
        center += (random.random(3) - 0.5) * np.array(grid.voxel_size_mm)
        axis = random.standard_normal(3)
        if near and random.random() < DAWSON_SHARE:
            # Away from the ventricle, which lies towards the middle: in-plane and across.
            axis = np.array([np.sign(center[0]) or 1.0, 0.0, 0.35]) + 0.25 * axis
        axis /= np.linalg.norm(axis)
        kind = "oedema"
        if plaque:
            kind = "black_hole" if random.random() < BLACK_HOLE_SHARE else "plaque"
        lesions.append(_lesion(kind, center, axis, random))
    return tuple(lesions)


def _lesion(
    kind: str, center: NDArray[np.float64], axis: NDArray[np.float64], random: np.random.Generator
) -> Lesion:
    """Draw size and tissue of a lesion."""
    bounds = LESION_KINDS[kind]
    low, high = bounds.diameter_mm
    if kind == "oedema":
        diameter = random.uniform(low, high)
    else:
        drawn = MEDIAN_DIAMETER_MM * np.exp(DIAMETER_LOG_SD * random.standard_normal())
        diameter = float(np.clip(drawn, low, high))
    stretch = random.uniform(1.0, 1.6)
    # The mean diameter (of the ball of equal volume) is kept, and no axis leaves the range.
    long, short = diameter * stretch ** (2 / 3), diameter * stretch ** (-1 / 3)
    long, short = float(np.clip(long, low, high)), float(np.clip(short, low, high))
    t1, t2, pd = (random.uniform(*limits) for limits in (bounds.t1_ms, bounds.t2_ms, bounds.pd))
    return Lesion(
        kind=kind,
        center_mm=(float(center[0]), float(center[1]), float(center[2])),
        diameters_mm=(long, short, short),
        axis=(float(axis[0]), float(axis[1]), float(axis[2])),
        relaxation=Relaxation(float(t1), float(t2), float(pd)),
    )


def lesion_map(head: Head, grid: CohortGrid, lesions: Sequence[Lesion]) -> LesionMap:
    """Put lesions onto a grid: each voxel belongs to the one that fills it most.

    Parameters
    ----------
    head : Head
        Where white matter is.
    grid : CohortGrid
        The grid of the head.
    lesions : sequence of Lesion
        What to draw.

    Returns
    -------
    LesionMap
    """
    white = head.fraction("white_matter")
    fraction = np.zeros(grid.shape, dtype=np.float32)
    code = np.zeros(grid.shape, dtype=np.uint8)
    t1, t2, pd = (np.zeros(grid.shape, dtype=np.float32) for _ in range(3))
    for lesion in lesions:
        box, inside = ellipsoid_fraction(
            grid, center_mm=lesion.center_mm, diameters_mm=lesion.diameters_mm[:2], axis=lesion.axis
        )
        filled = inside * white[box]
        wins = filled > fraction[box]
        fraction[box][wins] = filled[wins]
        code[box][wins] = LESION_KINDS[lesion.kind].code
        for values, value in zip(
            (t1, t2, pd),
            (lesion.relaxation.t1_ms, lesion.relaxation.t2_ms, lesion.relaxation.pd),
            strict=True,
        ):
            values[box][wins] = value
    return LesionMap(fraction, code, t1, t2, pd, tuple(lesions))


def with_lesions(head: Head, lesions: LesionMap) -> Head:
    """Return the head with the lesions taken out of its white matter; they are not among its fractions."""
    fractions = head.fractions.copy()
    fractions[list(TISSUES).index("white_matter")] -= lesions.fraction
    return Head(fractions, head.template_mm)
