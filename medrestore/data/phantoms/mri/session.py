"""One session in the scanner: an MDME acquisition and six conventional scans of a head that moves a little.

Signals are computed on a grid finer than the slices are thick and then averaged over each slice, tissue by
tissue: a voxel holds the sum of fraction x signal. Fluid in motion is not what the signal equations
expect: between delays part of it is replaced by fluid that saw no preparation, and later echoes lose signal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medrestore import rng
from medrestore.data.phantoms.anatomy import CohortGrid, smooth_field
from medrestore.data.phantoms.mri.head import Head
from medrestore.data.phantoms.mri.lesions import LesionMap
from medrestore.data.phantoms.mri.tissues import TISSUES, Relaxation, varied
from medrestore.operators.mdme import MdmeProtocol, add_complex_noise, mdme_signal, rician
from medrestore.operators.mr_sequences import CONTRASTS, InversionRecovery

__all__ = ["Body", "MriSettings", "Scans", "Truth", "make_body", "scan", "truth_maps"]

PRESENT = np.float32(1e-3)
"""Fraction from which a tissue counts in a voxel."""


@dataclass(frozen=True)
class MriSettings:
    """Scanner and session, the same for every subject.

    Attributes
    ----------
    protocol : MdmeProtocol
        The MDME acquisition.
    slice_parts : int
        Thin slices that a slice is averaged from.
    mdme_snr, contrast_snr : float
        Mean signal of the brain over the noise's standard deviation: of MDME's reference channel, of each
        conventional scan.
    transmit_center, transmit_sd : float
        B1 in the middle of the head over its mean, and the smooth rest (SD).
    receive_log_sd : float
        Smooth variation of the receive sensitivity (SD of its logarithm).
    phase_rad : float
        Smooth background phase (SD).
    motion_mm, motion_deg : float
        Shift along and rotation about each axis between MDME and each conventional scan (SD).
    inflow : float
        Largest part of the fluid that is replaced between preparation and readout.
    dephasing : float
        Largest part of the fluid's signal that is lost by an echo at 100 ms.
    gain_log_sd : float
        Of the scale of each conventional scan (SD of its logarithm).
    """

    protocol: MdmeProtocol = field(default_factory=MdmeProtocol)
    slice_parts: int = 3
    mdme_snr: float = 60.0
    contrast_snr: float = 45.0
    transmit_center: float = 1.12
    transmit_sd: float = 0.04
    receive_log_sd: float = 0.08
    phase_rad: float = 0.8
    motion_mm: float = 0.7
    motion_deg: float = 0.7
    inflow: float = 0.35
    dephasing: float = 0.35
    gain_log_sd: float = 0.3


@dataclass(frozen=True)
class Compartment:
    """One tissue where it is present.

    Attributes
    ----------
    name : str
        The tissue.
    cells : (N,) int
        Flat indices of its voxels.
    fraction, t1_ms, t2_ms, pd : (N,) float32
        How much of it, and what it is.
    """

    name: str
    cells: NDArray[np.intp]
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


@dataclass(frozen=True)
class Scans:
    """What the scanner gives.

    Attributes
    ----------
    mdme : (C, X, Y, Z) complex64
        Channels of the acquisition.
    contrasts : dict of (X, Y, Z) float32
        Magnitude of each conventional scan.
    motion : dict of six float
        Shift (mm) and rotation (degrees) of each conventional scan relative to the MDME acquisition.
    """

    mdme: NDArray[np.complex64]
    contrasts: dict[str, NDArray[np.float32]]
    motion: dict[str, tuple[float, ...]]


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
        compartments.append(Compartment(name, cells, fraction[cells], t1, t2, pd))
    fraction = lesions.fraction.ravel()
    cells = np.flatnonzero(fraction > PRESENT)
    if cells.size:
        t1, t2, pd = (values.ravel()[cells] for values in (lesions.t1_ms, lesions.t2_ms, lesions.pd))
        compartments.append(Compartment("lesion", cells, fraction[cells], t1, t2, pd))
    brain = head.fractions[:3].sum(axis=0) + lesions.fraction
    fluid = compartments[list(TISSUES).index("csf")].cells
    x, _, z = head.template_mm.reshape(3, -1)[:, fluid]
    # Strong in the midline and around the brainstem, weak over the convexity.
    place = 0.25 + 0.75 * np.exp(-((x / 30) ** 2) - (np.maximum(z + 15, 0) / 35) ** 2)
    patches = smooth_field(grid, spacing_mm=18.0, random=random).ravel()[fluid]
    pulsation = np.clip(place * (0.6 + 0.5 * patches), 0, 1).astype(np.float32)
    return Body(grid, tuple(compartments), brain, pulsation)


def transmit_field(body: Body, settings: MriSettings, *, random: np.random.Generator) -> NDArray[np.float32]:
    """Return B1 over its nominal value (X, Y, Z): high in the middle of the head, low at its sides."""
    x, y, z = (
        ((axis - middle) / half).astype(np.float32)
        for axis, middle, half in zip(
            body.grid.axes_mm(), (0.0, -16.0, 14.0), (85.0, 105.0, 95.0), strict=True
        )
    )
    radius2 = x[:, None, None] ** 2 + y[None, :, None] ** 2 + z**2
    center = np.float32(settings.transmit_center)
    rest = smooth_field(body.grid, spacing_mm=55.0, random=random)[0]
    shape = center - np.float32(2.2) * (center - 1) * np.minimum(radius2, 1.3)
    return np.asarray(np.clip(shape + np.float32(settings.transmit_sd) * rest, 0.6, 1.4))


def _sum_signals(
    body: Body,
    signal: Callable[[Compartment, NDArray[np.float32]], NDArray[np.float32]],
    b1: NDArray[np.float32],
    channels: int,
) -> NDArray[np.float32]:
    """Return the sum over tissues of fraction x signal, (channels, X, Y, Z)."""
    image = np.zeros((channels, b1.size), dtype=np.float32)
    for tissue in body.compartments:
        values = signal(tissue, b1.ravel()[tissue.cells]) * tissue.fraction
        image[:, tissue.cells] += values
    return image.reshape(channels, *body.grid.shape)


def _mdme_signals(
    body: Body, settings: MriSettings, b1: NDArray[np.float32], *, random: np.random.Generator
) -> NDArray[np.float32]:
    """Return the signed channels on the fine grid, fluid in motion included."""
    protocol = settings.protocol
    delays, echoes = len(protocol.saturation_delays_ms), protocol.echo_times_ms
    fluid = body.compartments[list(TISSUES).index("csf")].cells
    spread = smooth_field(body.grid, spacing_mm=22.0, random=random, components=delays + 1)
    spread = np.abs(spread.reshape(delays + 1, -1)[:, fluid])

    def signal(tissue: Compartment, field_there: NDArray[np.float32]) -> NDArray[np.float32]:
        values = mdme_signal(tissue.t1_ms, tissue.t2_ms, tissue.pd, protocol=protocol, b1=field_there)
        if tissue.name == "csf":
            for channel, (_, echo) in enumerate(protocol.channels):
                moved = np.minimum(settings.inflow * body.pulsation * spread[channel // len(echoes)], 1)
                fresh = (
                    tissue.pd
                    * np.exp(-np.float32(echo) / tissue.t2_ms)
                    * np.sin(np.minimum(field_there, np.float32(1)) * np.float32(np.pi / 2))
                )
                values[channel] += moved * (fresh - values[channel])
                values[channel] *= _kept(settings, echo, body.pulsation, spread[-1])
        return np.asarray(values)

    return _sum_signals(body, signal, b1, len(protocol.channels))


def _kept(
    settings: MriSettings, echo_ms: float, pulsation: NDArray[np.float32], spread: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return what is left of the fluid's signal at an echo."""
    lost = np.float32(settings.dephasing * echo_ms / 100) * pulsation * np.minimum(spread, 2) / 2
    return np.asarray(1 - np.minimum(lost, np.float32(0.9)))


def _contrast_signal(
    body: Body, settings: MriSettings, name: str, b1: NDArray[np.float32], *, random: np.random.Generator
) -> NDArray[np.float32]:
    """Return the signed image of a conventional scan on the fine grid."""
    sequence = CONTRASTS[name]
    fluid = body.compartments[list(TISSUES).index("csf")].cells
    spread = np.abs(smooth_field(body.grid, spacing_mm=22.0, random=random, components=2))
    spread = spread.reshape(2, -1)[:, fluid]

    def signal(tissue: Compartment, field_there: NDArray[np.float32]) -> NDArray[np.float32]:
        values = sequence.signal(tissue.t1_ms, tissue.t2_ms, tissue.pd, b1=field_there)
        if tissue.name == "csf":
            if isinstance(sequence, InversionRecovery):
                moved = np.minimum(settings.inflow * body.pulsation * spread[0], 1)
                values = values + moved * (
                    tissue.pd * np.exp(-np.float32(sequence.te_ms) / tissue.t2_ms) - values
                )
            values = values * _kept(settings, sequence.te_ms, body.pulsation, spread[1])
        return np.asarray(values)

    return _sum_signals(body, signal, b1, 1)[0]


def moved(image: NDArray[np.float32], grid: CohortGrid, motion: tuple[float, ...]) -> NDArray[np.float32]:
    """Return an image of a head that was shifted and turned.

    Parameters
    ----------
    image : (X, Y, Z) float32
        The head in its first position.
    grid : CohortGrid
        Grid of the image.
    motion : six float
        Shift along x, y, z (mm) and rotation about x, y, z (degrees), about the middle of the grid.

    Returns
    -------
    (X, Y, Z) float32
    """
    from scipy import ndimage
    from scipy.spatial.transform import Rotation

    rotation = Rotation.from_euler("xyz", motion[3:], degrees=True).as_matrix()
    size = np.array(grid.voxel_size_mm)
    middle = (np.array(grid.shape) - 1) / 2
    # A voxel of the new image shows what lay at R^-1 (x - shift), x from the middle, in mm.
    back = rotation.T * size / size[:, None]
    offset = middle - back @ (middle + np.array(motion[:3]) / size)
    return np.asarray(ndimage.affine_transform(image, back, offset=offset, order=1), dtype=np.float32)


def scan(body: Body, grid: CohortGrid, settings: MriSettings, *, seed: int) -> Scans:
    """Scan a subject.

    Parameters
    ----------
    body : Body
        The subject on the fine grid of ``grid``.
    grid : CohortGrid
        Grid of the slices.
    settings : MriSettings
        Scanner and session.
    seed : int
        Names the streams of fields, motion, flow and noise.

    Returns
    -------
    Scans

    Notes
    -----
    All scans share transmit and receive field, as those of one coil in one session do. The noise of the
    MDME channels is complex Gaussian, of the magnitude images Rician.
    """
    parts = settings.slice_parts
    random = rng.generator(seed, "fields")
    b1 = transmit_field(body, settings, random=random)
    sensitivity, phase = smooth_field(grid, spacing_mm=60.0, random=random, components=2)
    sensitivity = np.exp(np.float32(settings.receive_log_sd) * sensitivity)
    brain = thick(body.brain, parts) > 0.9
    random = rng.generator(seed, "mdme")
    channels = thick(_mdme_signals(body, settings, b1, random=random), parts) * sensitivity
    level = float(channels[settings.protocol.reference][brain].mean())
    turned = channels * np.exp(1j * np.float32(settings.phase_rad) * phase)
    mdme = add_complex_noise(turned, sigma=level / settings.mdme_snr, random=random)
    contrasts, motions = {}, {}
    for name in CONTRASTS:
        random = rng.generator(seed, "contrast", name)
        motion = np.concatenate(
            [settings.motion_mm * random.standard_normal(3), settings.motion_deg * random.standard_normal(3)]
        )
        motions[name] = tuple(float(value) for value in motion)
        gain = 1000 * float(np.exp(settings.gain_log_sd * random.standard_normal()))
        image = _contrast_signal(body, settings, name, b1, random=random)
        image = thick(moved(image, body.grid, motions[name]), parts) * sensitivity * np.float32(gain)
        sigma = float(np.abs(image[brain]).mean()) / settings.contrast_snr
        contrasts[name] = rician(image, sigma=sigma, random=random)
    return Scans(mdme, contrasts, motions)


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
        for total, values in zip(sums, (1.0, tissue.t1_ms, tissue.t2_ms, tissue.pd), strict=True):
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
