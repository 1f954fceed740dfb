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
from medrestore.domains.multicontrast_mri.simulate.body import Body, Compartment, thick
from medrestore.operators.mdme import MdmeProtocol, add_complex_noise, mdme_signal, rician
from medrestore.operators.mr_sequences import CONTRASTS, InversionRecovery

__all__ = ["MriSettings", "Scans", "moved", "scan", "transmit_field"]

INFLOW_TIME_MS = 1000.0
"""About a heartbeat: the time in which fluid is exchanged between slices."""

TRANSFER: dict[str, float] = {"t1w": 0.4}
"""Magnetization transfer of a conventional scan relative to a turbo spin echo's: a plain spin echo has one
refocusing pulse per slice where the others have many."""


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
        About the largest part of the fluid that is replaced, long after preparation.
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
    alpha = np.float32(np.deg2rad(protocol.excitation_deg))
    spread = smooth_field(body.grid, spacing_mm=22.0, random=random, components=delays + 1)
    spread = np.abs(spread.reshape(delays + 1, -1)[:, body.fluid.cells])

    def signal(tissue: Compartment, field_there: NDArray[np.float32]) -> NDArray[np.float32]:
        values = mdme_signal(tissue.t1_ms, tissue.t2_ms, tissue.pd, protocol=protocol, b1=field_there)
        if tissue.name == "csf":
            for channel, (delay, echo) in enumerate(protocol.channels):
                replaced = _replaced(settings, delay, body.pulsation, spread[channel // len(echoes)])
                fresh = tissue.pd * np.exp(-np.float32(echo) / tissue.t2_ms) * np.sin(alpha * field_there)
                values[channel] += replaced * (fresh - values[channel])
                values[channel] *= _kept(settings, echo, body.pulsation, spread[-1])
        return np.asarray(values)

    return _sum_signals(body, signal, b1, len(protocol.channels))


def _replaced(
    settings: MriSettings, time_ms: float, pulsation: NDArray[np.float32], spread: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return how much of the fluid is replaced by fresh fluid in the time between preparation and readout."""
    arrived = np.float32(settings.inflow * (1 - np.exp(-time_ms / INFLOW_TIME_MS)))
    return np.asarray(arrived * pulsation * np.minimum(spread, np.float32(1.5)))


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
    spread = np.abs(smooth_field(body.grid, spacing_mm=22.0, random=random, components=2))
    spread = spread.reshape(2, -1)[:, body.fluid.cells]

    def signal(tissue: Compartment, field_there: NDArray[np.float32]) -> NDArray[np.float32]:
        values = sequence.signal(tissue.t1_ms, tissue.t2_ms, tissue.pd, b1=field_there)
        if tissue.name == "csf":
            if isinstance(sequence, InversionRecovery):
                replaced = _replaced(settings, sequence.ti_ms, body.pulsation, spread[0])
                fresh = tissue.pd * np.exp(-np.float32(sequence.te_ms) / tissue.t2_ms)
                values = values + replaced * (fresh - values)
            values = values * _kept(settings, sequence.te_ms, body.pulsation, spread[1])
        kept = 1 - np.float32(TRANSFER.get(name, 1.0)) * tissue.transfer
        return np.asarray(values * kept, dtype=np.float32)

    return np.asarray(_sum_signals(body, signal, b1, 1)[0])


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
    # Beyond its lowest and highest slice the head goes on.
    there = ndimage.affine_transform(image, back, offset=offset, order=2, mode="nearest")
    return np.asarray(there, dtype=np.float32)


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
