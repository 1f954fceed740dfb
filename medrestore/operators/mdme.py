"""The multi-dynamic multi-echo (MDME) acquisition: signed signals, noise, and correction of the phase.

Within a repetition a slice is saturated by the angle theta (120 degrees), left for the delay TD, excited by
alpha (90 degrees) and read at several echo times. In steady state, with E(t) = exp(-t / T1),

    S = PD exp(-TE/T2) sin(B1 alpha) [1 - (1 - cos(B1 theta)) E(TD) - cos(B1 theta) E(TR)]
        / [1 - cos(B1 alpha) cos(B1 theta) E(TR)].

Every delay is a repetition of its own; saturation beyond 90 degrees makes the early signals negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medrestore.checks import InputError, fail, require_in_range
from medrestore.operators.mr_sequences import FloatArray, tissue_arrays

__all__ = [
    "MdmeProtocol",
    "add_complex_noise",
    "excited_magnetization",
    "mdme_signal",
    "phase_corrected",
    "rician",
]


@dataclass(frozen=True)
class MdmeProtocol:
    """Timing and flip angles of an MDME acquisition; the defaults are a brain protocol at 3 T.

    Attributes
    ----------
    saturation_delays_ms : tuple of float, ms
        TD, from saturation to excitation, one per dynamic, all different.
    echo_times_ms : tuple of float, ms
        TE, increasing.
    tr_ms : float, ms
        TR, from saturation to saturation of the same slice.
    saturation_deg, excitation_deg : float, degrees
        Nominal theta and alpha.

    Raises
    ------
    InputError
        When a time or an angle is out of its range, or a readout does not fit into TR.

    Examples
    --------
    >>> protocol = MdmeProtocol()
    >>> len(protocol.channels), protocol.channels[:3], protocol.reference
    (8, ((150.0, 22.0), (150.0, 95.0), (580.0, 22.0)), 6)
    """

    saturation_delays_ms: tuple[float, ...] = (150.0, 580.0, 2000.0, 4130.0)
    echo_times_ms: tuple[float, ...] = (22.0, 95.0)
    tr_ms: float = 4500.0
    saturation_deg: float = 120.0
    excitation_deg: float = 90.0

    def __post_init__(self) -> None:
        for name in ("saturation_delays_ms", "echo_times_ms"):
            times = tuple(float(time) for time in getattr(self, name))
            if not times or not all(0 < time < np.inf for time in times) or len(set(times)) < len(times):
                raise InputError(f"{name} must be different positive times, got {times}")
            object.__setattr__(self, name, times)  # lists, as YAML gives them, become tuples
        if list(self.echo_times_ms) != sorted(self.echo_times_ms):
            raise InputError(f"echo_times_ms must increase, got {self.echo_times_ms}")
        require_in_range("tr_ms", self.tr_ms, 0.0, np.inf, include_low=False, include_high=False)
        require_in_range("saturation_deg", self.saturation_deg, 0.0, 180.0)
        # Up to where no B1 met in practice turns the excitation by 180 degrees, which leaves no signal.
        require_in_range("excitation_deg", self.excitation_deg, 0.0, 120.0, include_low=False)
        last = max(self.saturation_delays_ms) + self.echo_times_ms[-1]
        if last > self.tr_ms:
            fail(
                f"the last echo must come before the next repetition, got {last:g} ms of {self.tr_ms:g} ms",
                remedy="give a longer tr_ms, or check that all times are in milliseconds",
            )

    @property
    def channels(self) -> tuple[tuple[float, float], ...]:
        """(TD, TE) in ms of every channel: for each delay all its echoes."""
        return tuple((delay, echo) for delay in self.saturation_delays_ms for echo in self.echo_times_ms)

    @property
    def reference(self) -> int:
        """Index of the channel of the longest delay and the first echo: the brightest, and positive."""
        longest = self.saturation_delays_ms.index(max(self.saturation_delays_ms))
        return longest * len(self.echo_times_ms)


def excited_magnetization(r1: FloatArray, b1: FloatArray, *, protocol: MdmeProtocol) -> FloatArray:
    """Return the longitudinal magnetization that each dynamic excites, over its equilibrium.

    M = [1 - (1 - cos(B1 theta)) E(TD) - cos(B1 theta) E(TR)] / [1 - cos(B1 alpha) cos(B1 theta) E(TR)]

    Parameters
    ----------
    r1 : (...) float, 1/ms
        1 / T1; 0 gives no magnetization.
    b1 : (...) float
        Transmit field over its nominal value.
    protocol : MdmeProtocol
        Times and angles.

    Returns
    -------
    (D, ...) float, in [-1, 1]
        One for each of the D saturation delays, in the dtype of ``b1``.

    Notes
    -----
    Warntjes et al., Magn Reson Med 60:320 (2008). The order within TR is saturation, TD, excitation,
    TR - TD: with M0 before the saturation, M = 1 - (1 - cos(theta) M0) E(TD) is excited and
    M0 = 1 - (1 - cos(alpha) M) E(TR - TD); solved for M this is the equation above. The refocusing pulses are
    taken to leave the longitudinal magnetization as it is.
    """
    kind = b1.dtype.type
    cos_alpha = np.cos(b1 * kind(np.deg2rad(protocol.excitation_deg)))
    cos_theta = np.cos(b1 * kind(np.deg2rad(protocol.saturation_deg)))
    repetition = np.exp(-r1 * kind(protocol.tr_ms))
    # Without relaxation the denominator vanishes where a pulse does.
    steady = np.where(r1 > 0, 1 - cos_alpha * cos_theta * repetition, 1)
    late, early = (1 - cos_theta * repetition) / steady, (1 - cos_theta) / steady
    excited = np.empty((len(protocol.saturation_delays_ms), *late.shape), dtype=b1.dtype)
    for index, delay in enumerate(protocol.saturation_delays_ms):
        excited[index] = late - early * np.exp(-r1 * kind(delay))
    return excited


def mdme_signal(
    t1_ms: ArrayLike, t2_ms: ArrayLike, pd: ArrayLike, *, protocol: MdmeProtocol, b1: ArrayLike = 1.0
) -> FloatArray:
    """Return the signed signals of an MDME acquisition.

    S = PD sin(B1 alpha) M exp(-TE/T2), with M as in :func:`excited_magnetization`.

    Parameters
    ----------
    t1_ms, t2_ms : float or array, ms
        Relaxation times; anything where ``pd`` is 0.
    pd : float or array
        Proton density.
    protocol : MdmeProtocol
        Times and angles.
    b1 : float or array
        Transmit field over its nominal value; it scales theta and alpha.

    Returns
    -------
    (C, ...) array, in the unit of ``pd``
        Channels as in ``protocol.channels`` before the broadcast shape; float32 when every array given is,
        else float64.

    Raises
    ------
    InputError
        When a value is not physical.

    Notes
    -----
    Refocusing is taken to be perfect at every echo.
    """
    r1, r2, density, field = tissue_arrays(t1_ms, t2_ms, pd, b1)
    shape = np.broadcast_shapes(r1.shape, r2.shape, density.shape, field.shape)
    kind = field.dtype.type
    gain = density * np.sin(field * kind(np.deg2rad(protocol.excitation_deg)))
    decays = [gain * np.exp(-r2 * kind(echo)) for echo in protocol.echo_times_ms]
    excited = excited_magnetization(r1, field, protocol=protocol)
    signals = np.empty((len(protocol.channels), *shape), dtype=field.dtype)
    for index in range(len(signals)):
        delay, echo = divmod(index, len(decays))
        signals[index] = excited[delay] * decays[echo]
    return signals


def add_complex_noise(
    image: NDArray[Any], *, sigma: ArrayLike, random: np.random.Generator
) -> NDArray[np.complex64]:
    """Add white Gaussian noise to the real and the imaginary part of an image.

    Parameters
    ----------
    image : real or complex array
        Signal without noise.
    sigma : float or array that broadcasts
        Standard deviation of the noise of each part, in the unit of the image; an array where the noise
        varies over the image.
    random : numpy.random.Generator
        Source of the draws.

    Returns
    -------
    complex64 array of the same shape

    Raises
    ------
    InputError
        When ``sigma`` is negative or not finite.
    """
    scale = np.asarray(sigma, dtype=np.float32)
    if not np.isfinite(scale).all() or np.any(scale < 0):
        fail(f"sigma must be finite and not negative, got {scale.min():g} to {scale.max():g}")
    noise = random.standard_normal((*image.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
    noise *= scale
    noise += image
    return noise


def rician(signal: NDArray[Any], *, sigma: ArrayLike, random: np.random.Generator) -> NDArray[np.float32]:
    """Return the magnitude image of a signal with complex Gaussian noise.

    Parameters
    ----------
    signal : real or complex array
        Signal without noise; a real one may be signed.
    sigma : float or array that broadcasts
        Standard deviation of the noise of the real and of the imaginary part.
    random : numpy.random.Generator
        Source of the draws.

    Returns
    -------
    float32 array of the same shape, not negative

    Notes
    -----
    The values follow the Rice distribution (Gudbjartsson and Patz, Magn Reson Med 34:910, 1995); in the
    air, where there is no signal, the Rayleigh distribution of mean sigma sqrt(pi / 2).
    """
    return np.abs(add_complex_noise(signal, sigma=sigma, random=random))


def phase_corrected(images: NDArray[Any], *, reference: int) -> NDArray[np.float32]:
    """Rotate all channels by the phase of one of them and return the real part: signed images.

    Parameters
    ----------
    images : (C, ...) complex
        Channels that share their background phase.
    reference : int
        Channel whose signal is positive everywhere, ``MdmeProtocol.reference``; it becomes its magnitude.

    Returns
    -------
    (C, ...) float32

    Raises
    ------
    InputError
        When the images are real or have no such channel.
    """
    if not np.iscomplexobj(images):
        fail(
            f"images must be complex to correct their phase, got {images.dtype}",
            remedy="give real and imaginary parts, or use the magnitude",
        )
    if not 0 <= reference < len(images):
        raise InputError(f"reference must be one of the {len(images)} channels, got {reference}")
    pivot = images[reference]
    magnitude = np.abs(pivot)
    # Without a reference there is no phase to take away: such voxels, zeros of a mask, stay as they are.
    rotation = np.divide(pivot.conj(), magnitude, out=np.ones_like(pivot), where=magnitude > 0)
    # Re(z w) without the imaginary part that nobody looks at.
    return np.asarray(images.real * rotation.real - images.imag * rotation.imag, dtype=np.float32)
