"""MR of a subject of a PET cohort: the same head, moved, on a grid of its own, with white-matter lesions.

The tracer does not follow these lesions: where MR shows one, the activity is that of the white matter around
it. A restoration that is guided by MR and draws them into the PET is wrong there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from medrestore import rng
from medrestore.checks import fail
from medrestore.data.phantoms.anatomy import (
    CohortGrid,
    SubjectAnatomy,
    Template,
    anatomy_of_other_grid,
    smooth_field,
)
from medrestore.data.phantoms.ellipsoids import ellipsoid_fraction
from medrestore.data.phantoms.head import draw_head, sample_template
from medrestore.data.phantoms.tissues import TISSUES, Relaxation, draw_relaxation, varied
from medrestore.operators import mr_sequences
from medrestore.operators.mdme import rician
from medrestore.operators.mr_sequences import CONTRASTS, InversionRecovery

__all__ = [
    "SEQUENCES",
    "MrScan",
    "MrSettings",
    "WhiteLesion",
    "draw_white_lesions",
    "require_sequences",
    "sequence_facts",
    "simulate_mr",
    "white_lesion_fraction",
]

SEQUENCES: dict[str, mr_sequences.Sequence] = {
    "t1": InversionRecovery(tr_ms=2300.0, te_ms=3.0, ti_ms=900.0),
    "flair": CONTRASTS["t2_flair"],
}
"""What the scanner can give. T1 has the times of an MPRAGE; its train of small-angle readouts is taken as
one echo."""

TRANSFERRED = ("flair",)
"""Turbo spin echoes, which lose signal to magnetization transfer."""

MEDIAN_LESIONS = 4.0
LESIONS_LOG_SD = 0.8
MOST_LESIONS = 15
"""White-matter lesions of a person of the age: median, standard deviation of the logarithm, bound."""

PERIVENTRICULAR_SHARE = 0.5
PERIVENTRICULAR_MM = (2.0, 12.0)
"""Share beside the ventricles, and how far their centers lie from them."""

DIAMETER_MM = (4.0, 14.0)
MEDIAN_DIAMETER_MM = 7.0
DIAMETER_LOG_SD = 0.4

LESION_T1_MS = (1150.0, 1600.0)
LESION_T2_MS = (105.0, 160.0)
LESION_PD = (0.78, 0.88)
"""Bounds of their tissue: dark in T1, bright in T2-FLAIR. Choices, as of the other simulated lesions."""

WHITE_AT_CENTER = 0.9
LOWEST_MM = -12.0
"""Least white matter at the center of a lesion; height in the template, above the brainstem."""

_PRESENT = np.float32(1e-3)


@dataclass(frozen=True)
class MrSettings:
    """MR scanner and session, the same for every subject.

    Attributes
    ----------
    grid : CohortGrid
        Grid of the volumes.
    snr : float
        Mean signal of the brain over the noise's standard deviation.
    bias_log_sd : float
        Smooth variation of the receive sensitivity (SD of its logarithm).
    motion_mm, motion_deg : float
        Shift along and rotation about each axis between PET and each MR scan (SD).
    gain_log_sd : float
        Of the scale of each scan (SD of its logarithm).
    """

    grid: CohortGrid = field(
        default_factory=lambda: CohortGrid(
            shape=(128, 152, 76), voxel_size_mm=(1.5, 1.5, 2.0), origin_mm=(-95.25, -131.25, -70.0)
        )
    )
    snr: float = 30.0
    bias_log_sd: float = 0.12
    motion_mm: float = 0.7
    motion_deg: float = 0.7
    gain_log_sd: float = 0.3


@dataclass(frozen=True)
class WhiteLesion:
    """A lesion of the white matter: an ellipsoid.

    Attributes
    ----------
    center_mm : three float, mm
        Its middle.
    diameters_mm : two float, mm
        Along its long axis and across.
    axis : three float
        Unit vector of its long axis.
    relaxation : Relaxation
        Its tissue.
    """

    center_mm: tuple[float, float, float]
    diameters_mm: tuple[float, float]
    axis: tuple[float, float, float]
    relaxation: Relaxation


@dataclass(frozen=True)
class MrScan:
    """An MR scan and the truth of it.

    Attributes
    ----------
    image : (X, Y, Z) int16
        Magnitude, on the grid of the settings.
    motion : six float
        Shift along x, y, z (mm) and rotation about x, y, z (degrees) of the head since the PET, about the
        middle of the PET's grid.
    matrix : (4, 4) float64
        A place of the head in the PET, RAS+ mm, to the same place in this scan, as in
        :class:`~medrestore.data.registration.Registration`.
    """

    image: NDArray[np.int16]
    motion: tuple[float, ...]
    matrix: NDArray[np.float64]


def require_sequences(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of :data:`SEQUENCES`, each once.

    Raises
    ------
    InputError
        When one is unknown, or comes twice.
    """
    unknown = [name for name in names if name not in SEQUENCES]
    if unknown:
        fail(f"mr must be of {', '.join(SEQUENCES)}, got {', '.join(map(repr, unknown))}")
    if len(set(names)) < len(names):
        fail(f"mr must be different, got {', '.join(names)}")
    return tuple(names)


def draw_white_lesions(
    anatomy: SubjectAnatomy,
    template: Template,
    grid: CohortGrid,
    *,
    ventricle_mm: NDArray[np.float32],
    random: np.random.Generator,
) -> tuple[WhiteLesion, ...]:
    """Draw the lesions of a subject's white matter.

    Parameters
    ----------
    anatomy : SubjectAnatomy
        The subject's head.
    template : Template
        The head it was varied from.
    grid : CohortGrid
        Grid of the anatomy.
    ventricle_mm : (X, Y, Z) float32, mm
        Distance to the ventricles, from :func:`~medrestore.data.phantoms.head.ventricle_distance_mm`.
    random : numpy.random.Generator
        Source of the draws.
    """
    drawn = MEDIAN_LESIONS * np.exp(LESIONS_LOG_SD * random.standard_normal())
    count = int(np.clip(np.rint(drawn), 0, MOST_LESIONS))
    white = np.flatnonzero((anatomy.white >= WHITE_AT_CENTER) & (anatomy.template_mm[2] > LOWEST_MM))
    if not white.size:
        return ()
    distance = sample_template(template, ventricle_mm, anatomy.template_mm.reshape(3, -1)[:, white])
    beside = white[(distance >= PERIVENTRICULAR_MM[0]) & (distance <= PERIVENTRICULAR_MM[1])]
    lesions = []
    for _ in range(count):
        near = bool(beside.size) and random.random() < PERIVENTRICULAR_SHARE
        where = np.unravel_index(int(random.choice(beside if near else white)), grid.shape)
        center = np.array([axis[i] for axis, i in zip(grid.axes_mm(), where, strict=True)])
        center += (random.random(3) - 0.5) * np.array(grid.voxel_size_mm)
        axis = random.standard_normal(3)
        axis /= np.linalg.norm(axis)
        diameter = MEDIAN_DIAMETER_MM * np.exp(DIAMETER_LOG_SD * random.standard_normal())
        diameter, stretch = float(np.clip(diameter, *DIAMETER_MM)), random.uniform(1.0, 1.6)
        t1, t2, pd = (random.uniform(*limits) for limits in (LESION_T1_MS, LESION_T2_MS, LESION_PD))
        x, y, z = map(float, center)
        u, v, w = map(float, axis)
        diameters = (float(diameter * stretch ** (2 / 3)), float(diameter * stretch ** (-1 / 3)))
        lesions.append(WhiteLesion((x, y, z), diameters, (u, v, w), Relaxation(t1, t2, pd)))
    return tuple(lesions)


def white_lesion_fraction(
    lesions: Sequence[WhiteLesion], white: NDArray[np.float32], grid: CohortGrid
) -> NDArray[np.float32]:
    """Return how much of each voxel (X, Y, Z) lesions fill, in the place of its white matter."""
    fraction = np.zeros(grid.shape, dtype=np.float32)
    for lesion in lesions:
        box, inside = _filled(lesion, grid)
        np.maximum(fraction[box], inside * white[box], out=fraction[box])
    return fraction


def simulate_mr(
    anatomy: SubjectAnatomy,
    template: Template,
    grid: CohortGrid,
    lesions: Sequence[WhiteLesion],
    names: Sequence[str],
    settings: MrSettings,
    *,
    seed: int,
) -> dict[str, MrScan]:
    """Scan a subject.

    Parameters
    ----------
    anatomy : SubjectAnatomy
        The subject's head in the PET.
    template : Template
        The head it was varied from.
    grid : CohortGrid
        Grid of the PET.
    lesions : sequence of WhiteLesion
        Of its white matter.
    names : sequence of str
        Names of :data:`SEQUENCES`.
    settings : MrSettings
        Scanner and session.
    seed : int
        Names the streams of tissue, motion, bias and noise.

    Returns
    -------
    dict of MrScan

    Notes
    -----
    A voxel holds the sum of fraction x signal over its tissues, whose T1, T2 and proton density are drawn for
    the subject and vary smoothly. The head lies elsewhere in each scan while headers share one space: what a
    co-registration has to find. Noise is Rician.
    """
    relaxation = draw_relaxation(rng.generator(seed, "tissue"))
    scans = {}
    for name in names:
        random = rng.generator(seed, "scan", name)
        shift = settings.motion_mm * random.standard_normal(3)
        turn = settings.motion_deg * random.standard_normal(3)
        matrix = _rigid(grid, shift, turn)
        back = np.asarray(np.linalg.inv(matrix), dtype=np.float64)
        seen = anatomy_of_other_grid(anatomy, template, grid, other=settings.grid, matrix=back)
        there = [_moved(lesion, matrix) for lesion in lesions]
        image = _signal(seen, template, there, name, relaxation, settings, random)
        brain = seen.gray + seen.white > 0.9
        bias = smooth_field(settings.grid, spacing_mm=60.0, random=random)[0]
        gain = 1000 * float(np.exp(settings.gain_log_sd * random.standard_normal()))
        level = float(np.abs(image[brain]).mean())
        image *= np.float32(gain / level) * np.exp(np.float32(settings.bias_log_sd) * bias)
        noisy = rician(image, sigma=gain / settings.snr, random=random)
        scans[name] = MrScan(
            np.rint(np.minimum(noisy, np.iinfo(np.int16).max)).astype(np.int16),
            tuple(float(value) for value in (*shift, *turn)),
            matrix,
        )
    return scans


def _signal(
    seen: SubjectAnatomy,
    template: Template,
    lesions: Sequence[WhiteLesion],
    name: str,
    relaxation: dict[str, Relaxation],
    settings: MrSettings,
    random: np.random.Generator,
) -> NDArray[np.float32]:
    """Return the signed image of a head without noise, (X, Y, Z)."""
    sequence, grid = SEQUENCES[name], settings.grid
    # The tissue fractions are those that the activity follows: no sharper, no smoother.
    fractions = draw_head(seen, template, grid, random=random, sharpness=1.0).fractions
    white = fractions[list(TISSUES).index("white_matter")]
    fields = smooth_field(grid, spacing_mm=32.0, random=random, components=3).reshape(3, -1)
    image = np.zeros(white.size, dtype=np.float32)
    for lesion in lesions:
        box, inside = _filled(lesion, grid)
        share = inside * white[box]
        white[box] -= share
        values = lesion.relaxation
        signal = sequence.signal(values.t1_ms, values.t2_ms, values.pd)
        image.reshape(grid.shape)[box] += share * np.float32(signal)
    for fraction, (tissue_name, tissue) in zip(fractions, TISSUES.items(), strict=True):
        cells = np.flatnonzero(fraction.ravel() > _PRESENT)
        t1, t2, pd = varied(relaxation[tissue_name], tissue.smooth, fields[:, cells])
        kept = np.float32(1 - tissue.transfer if name in TRANSFERRED else 1)
        image[cells] += fraction.ravel()[cells] * kept * sequence.signal(t1, t2, pd).astype(np.float32)
    return image.reshape(grid.shape)


def _filled(lesion: WhiteLesion, grid: CohortGrid) -> tuple[tuple[slice, ...], NDArray[np.float32]]:
    return ellipsoid_fraction(
        grid, center_mm=lesion.center_mm, diameters_mm=lesion.diameters_mm, axis=lesion.axis
    )


def _rigid(
    grid: CohortGrid, shift_mm: NDArray[np.float64], rotation_deg: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the matrix of a shift and a rotation about the middle of a grid."""
    from scipy.spatial.transform import Rotation

    middle = (grid.affine @ np.array([*(np.array(grid.shape) - 1) / 2, 1.0]))[:3]
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", rotation_deg, degrees=True).as_matrix()
    matrix[:3, 3] = middle + shift_mm - matrix[:3, :3] @ middle
    return matrix


def _moved(lesion: WhiteLesion, matrix: NDArray[np.float64]) -> WhiteLesion:
    x, y, z = (float(value) for value in matrix[:3, :3] @ lesion.center_mm + matrix[:3, 3])
    u, v, w = (float(value) for value in matrix[:3, :3] @ lesion.axis)
    return WhiteLesion((x, y, z), lesion.diameters_mm, (u, v, w), lesion.relaxation)


def sequence_facts(name: str) -> dict[str, object]:
    """Return what the sidecar of a scan says, keys as in BIDS: seconds."""
    times = asdict(SEQUENCES[name])  # type: ignore[call-overload]
    return {
        "RepetitionTime": times["tr_ms"] / 1000,
        "EchoTime": times["te_ms"] / 1000,
        "InversionTime": round(times["ti_ms"] / 1000, 6),
        "MagneticFieldStrength": 3,
        "units": "arbitrary",
    }
