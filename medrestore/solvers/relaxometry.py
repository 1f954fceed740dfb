"""Synthetic MRI the classical way: T1, T2, proton density and B1 of every voxel, and images made of them.

The signals of an MDME acquisition are a product: with D delays and E echoes, the D x E signals of a voxel are

    S = A m(T1, B1) u(T2)^T,    u_e = exp(-TE_e / T2),    A = PD sin(B1 alpha),

m the magnetization that each delay excites. So T2 comes from the echoes with all delays together, then T1,
B1 and A from the delays. B1 varies slowly over a head: it is estimated voxel by voxel, smoothed with the
weight of what each voxel tells about it, and T1 and A are fitted once more with the smooth field.
With four delays and three unknowns a single voxel tells B1 poorly, and its error goes into T1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import InputError, fail, require_in_set, require_same_shape
from medrestore.operators.mdme import MdmeProtocol, excited_magnetization
from medrestore.operators.mr_sequences import Sequence as MrSequence
from medrestore.solvers.transmit_field import smooth_transmit_field

__all__ = [
    "B1_RANGE",
    "LEAST_DELAYS",
    "LEAST_ECHOES",
    "T1_RANGE_MS",
    "T2_RANGE_MS",
    "QuantitativeMaps",
    "fit_relaxometry",
    "synthesize",
]

Floats: TypeAlias = NDArray[np.float64]

T1_RANGE_MS = (100.0, 6000.0)
"""Bounds of the T1 that is fitted, ms: from below fat to beyond cerebrospinal fluid at 3 T."""

T2_RANGE_MS = (10.0, 3000.0)
"""Bounds of the T2 that is fitted, ms."""

B1_RANGE = (0.6, 1.4)
"""Bounds of the transmit field that is fitted, over its nominal value."""

LEAST_DELAYS, LEAST_ECHOES = {"phase_corrected": 3, "magnitude": 4}, 2
"""That a fit needs: T1, B1 and A fit any three magnitudes with more than one choice of signs."""

LOG_T1_RANGE = (math.log(T1_RANGE_MS[0]), math.log(T1_RANGE_MS[1]))
LOG_T2_RANGE = (math.log(T2_RANGE_MS[0]), math.log(T2_RANGE_MS[1]))

CHUNK_VOXELS = 8192
"""Voxels fitted at a time, so that their arrays stay in the processor's cache."""

GRID_T1, GRID_B1, GRID_T2 = 64, 17, 64
"""Points of the search grids; steps of 7 % in T1, of 0.05 in B1 and of 9 % in T2."""

STEPS = 4
"""Gauss-Newton steps after the search. From half a grid step each squares the error of noise-free data."""

DIFFERENCE = 1e-4
"""Half the step of the central differences, in ln T1 and in B1; their error is of the order of its square."""


@dataclass(frozen=True)
class QuantitativeMaps:
    """What a voxel-wise fit gives; zero outside the mask.

    Attributes
    ----------
    t1_ms, t2_ms : (...) float32, ms
        Relaxation times.
    pd : (...) float32, unit of the signals
        Proton density times whatever the receiver multiplies it by.
    b1 : (...) float32
        Transmit field over its nominal value.
    """

    t1_ms: NDArray[np.float32]
    t2_ms: NDArray[np.float32]
    pd: NDArray[np.float32]
    b1: NDArray[np.float32]

    def __post_init__(self) -> None:
        require_same_shape(t1_ms=self.t1_ms.shape, t2_ms=self.t2_ms.shape, pd=self.pd.shape, b1=self.b1.shape)


def fit_relaxometry(
    channels: NDArray[Any],
    *,
    protocol: MdmeProtocol,
    component: str = "phase_corrected",
    mask: NDArray[np.bool_] | None = None,
    b1_sigma_voxels: float | Sequence[float] = 5.0,
) -> QuantitativeMaps:
    """Fit T1, T2, proton density and B1 to the channels of an MDME acquisition.

    Parameters
    ----------
    channels : (C, ...) real
        Phase-corrected (signed) or magnitude images, channels as in ``protocol.channels``.
    protocol : MdmeProtocol
        Times and angles: two echoes or more, three delays or more, of magnitudes four.
    component : "phase_corrected" or "magnitude"
        What the channels are. Magnitudes are given the signs with which they fit best.
    mask : (...) bool
        Voxels to fit; None takes all. Voxels without any signal are left out in either case.
    b1_sigma_voxels : float or one per spatial axis, voxels
        Standard deviation of the Gaussian that smooths B1; 0 keeps B1 voxel by voxel, with its noise.

    Raises
    ------
    InputError
        When the channels are not those of the protocol, not real or not finite, when the protocol cannot
        tell the parameters apart, or when the mask has another shape or holds no voxel.

    Notes
    -----
    The quantities are those of Warntjes et al., Magn Reson Med 60:320 (2008); the search for T1 and B1 is a
    match of normalized signals as in MR fingerprinting (Ma et al., Nature 495:187, 2013), the refinement
    Gauss-Newton with the linear parameters projected out (Kaufman, BIT 15:49, 1975). For white noise the
    split loses nothing to a joint fit at first order: what T2 adds to the signals, m u'^T with the part of
    u' along u taken out, is orthogonal to all that the delays can add.

    Examples
    --------
    >>> from medrestore.operators.mdme import mdme_signal
    >>> signals = mdme_signal(1000.0, 80.0, np.ones((4, 4)), protocol=MdmeProtocol(), b1=0.9)
    >>> maps = fit_relaxometry(signals, protocol=MdmeProtocol())
    >>> [round(float(values[2, 2]), 2) for values in (maps.t1_ms, maps.t2_ms, maps.pd, maps.b1)]
    [1000.0, 80.0, 1.0, 0.9]
    """
    inside = _require_input(channels, protocol, component, mask)
    sigma = _require_sigma(b1_sigma_voxels, inside.ndim)
    delays, echoes = len(protocol.saturation_delays_ms), len(protocol.echo_times_ms)
    signals = channels[:, inside].astype(np.float64).reshape(delays, echoes, -1)
    if component == "magnitude":
        np.abs(signals, out=signals)

    t2, by_delay = _in_chunks(lambda part: _fit_t2(part, protocol), signals)
    search = _Search.over(protocol, magnitude=component == "magnitude")
    b1, weight = _in_chunks(search.b1, by_delay)
    if max(sigma) > 0:
        smooth = smooth_transmit_field(b1, weight, inside=inside, sigma_voxels=sigma)
        b1 = np.clip(smooth, *B1_RANGE)
    t1, amplitude = _in_chunks(search.t1, by_delay, b1)
    pd = amplitude / np.sin(b1 * np.deg2rad(protocol.excitation_deg))

    def filled(values: Floats) -> NDArray[np.float32]:
        image = np.zeros(inside.shape, dtype=np.float32)
        image[inside] = values
        return image

    return QuantitativeMaps(filled(t1), filled(t2), filled(pd), filled(b1))


def synthesize(
    maps: QuantitativeMaps, sequence: MrSequence, *, nominal_b1: bool = False
) -> NDArray[np.float32]:
    """Return the magnitude image of a sequence, by its signal equation.

    Parameters
    ----------
    maps : QuantitativeMaps
        Fitted maps.
    sequence : Sequence
        One of ``medrestore.operators.mr_sequences``.
    nominal_b1 : bool
        Whether all flip angles are nominal, as synthetic MRI shows images, in place of those of the fitted
        field, as the scanner would have acquired them.

    Returns
    -------
    (...) float32, unit of ``maps.pd``, not negative
    """
    b1 = np.float32(1) if nominal_b1 else maps.b1
    image: NDArray[np.float32] = np.abs(sequence.signal(maps.t1_ms, maps.t2_ms, maps.pd, b1=b1))
    return image


def _fit_t2(signals: Floats, protocol: MdmeProtocol) -> tuple[Floats, Floats]:
    """Return T2 (n,) and A m (D, n), the least-squares fit of S = (A m) u(T2)^T to signals (D, E, n)."""
    echoes = np.array(protocol.echo_times_ms)[:, None]
    square = np.einsum("den,dfn->efn", signals, signals)
    # With A m projected out the fit maximizes u^T (S^T S) u over unit vectors u: linear in u u^T.
    grid = np.linspace(*LOG_T2_RANGE, GRID_T2)
    atoms = np.exp(-echoes * np.exp(-grid))
    atoms /= np.linalg.norm(atoms, axis=0)
    pairs = (atoms[:, None] * atoms).reshape(-1, GRID_T2)
    log_t2 = grid[np.argmax(square.reshape(len(pairs), -1).T @ pairs, axis=1)]
    for _ in range(STEPS):
        over_t2 = echoes * np.exp(-log_t2)
        decay = np.exp(-over_t2)
        length = _dot(decay, decay)
        slope = decay * over_t2
        slope -= decay * (_dot(decay, slope) / length)
        seen = np.einsum("efn,fn->en", square, decay)
        step = _ratio(_dot(seen, slope) * length, _dot(seen, decay) * _dot(slope, slope))
        log_t2 = _stepped(log_t2, step, LOG_T2_RANGE)
    decay = np.exp(-echoes * np.exp(-log_t2))
    return np.exp(log_t2), np.einsum("den,en->dn", signals, decay) / _dot(decay, decay)


@dataclass(frozen=True)
class _Search:
    """Search of T1 and B1 on a grid, then Gauss-Newton; A is projected out all the way."""

    protocol: MdmeProtocol
    signs: Floats  # (patterns, D, 1) that the data may have lost
    log_t1: Floats
    grid_b1: Floats
    atoms: NDArray[np.float32]  # (B1, T1, D), of unit length

    @classmethod
    def over(cls, protocol: MdmeProtocol, *, magnitude: bool) -> _Search:
        log_t1 = np.linspace(*LOG_T1_RANGE, GRID_T1)
        b1 = np.linspace(*B1_RANGE, GRID_B1)
        rates = np.broadcast_to(np.exp(-log_t1), (GRID_B1, GRID_T1))
        atoms = excited_magnetization(rates, b1[:, None], protocol=protocol)
        atoms = np.moveaxis(atoms / np.linalg.norm(atoms, axis=0), 0, -1)
        delays = np.array(protocol.saturation_delays_ms)
        # Recovery starts below zero, so that the shortest delays are negative: none of them, one, or more.
        last_negative = [-np.inf, *np.sort(delays)[:-1]] if magnitude else [-np.inf]
        signs = [np.where(delays <= last, -1.0, 1.0) for last in last_negative]
        return cls(protocol, np.array(signs)[..., None], log_t1, b1, atoms.astype(np.float32))

    def b1(self, data: Floats) -> tuple[Floats, Floats]:
        """Return B1 and the information on it when T1 and A are unknown, each (n,)."""
        return self._best_of_signs(self._fit_t1_b1, data)

    def t1(self, data: Floats, b1: Floats) -> tuple[Floats, Floats]:
        """Return T1 in ms and A, each (n,), for known B1."""
        return self._best_of_signs(lambda signed: self._fit_t1(signed, b1), data)

    def _best_of_signs(
        self, fit: Callable[[Floats], tuple[Floats, Floats, Floats]], data: Floats
    ) -> tuple[Floats, Floats]:
        """Return the first two results of the fit, of the signs that leave the least squares, the third."""
        first, second, least = fit(data * self.signs[0])
        for signs in self.signs[1:]:
            one, two, left = fit(data * signs)
            better = left < least
            for kept, new in ((first, one), (second, two), (least, left)):
                kept[better] = new[better]
        return first, second

    def _fit_t1_b1(self, data: Floats) -> tuple[Floats, Floats, Floats]:
        at_b1, at_t1 = np.divmod(_match(data, self.atoms.reshape(-1, len(data))), GRID_T1)
        log_t1, b1 = self.log_t1[at_t1], self.grid_b1[at_b1]
        information = np.zeros_like(b1)
        for _ in range(STEPS):
            model, residual, amplitude = self._project(data, log_t1, b1)
            t1_slope = self._slope(model, amplitude, log_t1, b1, (DIFFERENCE, 0.0))
            b1_slope = self._slope(model, amplitude, log_t1, b1, (0.0, DIFFERENCE))
            tt, tb, bb = _dot(t1_slope, t1_slope), _dot(t1_slope, b1_slope), _dot(b1_slope, b1_slope)
            t, b = _dot(t1_slope, residual), _dot(b1_slope, residual)
            determinant = tt * bb - tb**2
            log_t1 = _stepped(log_t1, _ratio(bb * t - tb * b, determinant), LOG_T1_RANGE)
            b1 = _stepped(b1, _ratio(tt * b - tb * t, determinant), B1_RANGE)
            information = _ratio(determinant, tt)
        # At a bound the estimate says where the fit was stopped, not what the field is.
        information[(b1 <= B1_RANGE[0]) | (b1 >= B1_RANGE[1])] = 0
        residual = self._project(data, log_t1, b1)[1]
        return b1, information, _dot(residual, residual)

    def _fit_t1(self, data: Floats, b1: Floats) -> tuple[Floats, Floats, Floats]:
        rows = np.rint((b1 - B1_RANGE[0]) / (self.grid_b1[1] - self.grid_b1[0])).astype(int)
        log_t1 = np.empty_like(b1)
        for row in np.unique(rows):
            here = rows == row
            log_t1[here] = self.log_t1[_match(data[:, here], self.atoms[row])]
        for _ in range(STEPS):
            model, residual, amplitude = self._project(data, log_t1, b1)
            slope = self._slope(model, amplitude, log_t1, b1, (DIFFERENCE, 0.0))
            log_t1 = _stepped(log_t1, _ratio(_dot(slope, residual), _dot(slope, slope)), LOG_T1_RANGE)
        _, residual, amplitude = self._project(data, log_t1, b1)
        return np.exp(log_t1), amplitude, _dot(residual, residual)

    def _model(self, log_t1: Floats, b1: Floats) -> Floats:
        return np.asarray(excited_magnetization(np.exp(-log_t1), b1, protocol=self.protocol), np.float64)

    def _project(self, data: Floats, log_t1: Floats, b1: Floats) -> tuple[Floats, Floats, Floats]:
        """Return m, what A m leaves of the data, and A, which is not negative."""
        model = self._model(log_t1, b1)
        amplitude = np.maximum(_dot(model, data) / _dot(model, model), 0)
        return model, data - amplitude * model, amplitude

    def _slope(
        self, model: Floats, amplitude: Floats, log_t1: Floats, b1: Floats, by: tuple[float, float]
    ) -> Floats:
        """Return the derivative of A m in ln T1 or B1, less its part along m."""
        slope = self._model(log_t1 + by[0], b1 + by[1]) - self._model(log_t1 - by[0], b1 - by[1])
        slope *= amplitude / (2 * sum(by))
        slope -= model * (_dot(model, slope) / _dot(model, model))
        return slope


def _match(data: Floats, atoms: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return, for data (D, n), the nearest of atoms (K, D) of unit length."""
    best: NDArray[np.intp] = np.argmax(data.T.astype(np.float32) @ atoms.T, axis=1)
    return best


def _stepped(values: Floats, step: Floats, bounds: tuple[float, float]) -> Floats:
    """Return the values after a step, cut to one in ten of the range and to the bounds."""
    most = 0.1 * (bounds[1] - bounds[0])
    return np.clip(values + np.clip(step, -most, most), bounds[0], bounds[1])


def _dot(one: Floats, other: Floats) -> Floats:
    """Return the scalar product along the first axis."""
    product: Floats = np.einsum("k...,k...->...", one, other)
    return product


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Return the quotient, 0 where the denominator is not positive."""
    quotient: Floats = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
    return quotient


def _in_chunks(fit: Callable[..., tuple[Floats, ...]], *arrays: Floats) -> tuple[Floats, ...]:
    """Apply a fit to chunks along the last axis and put its results together along theirs."""
    starts = range(0, arrays[0].shape[-1], CHUNK_VOXELS)
    parts = [fit(*(array[..., start : start + CHUNK_VOXELS] for array in arrays)) for start in starts]
    return tuple(np.concatenate(column, axis=-1) for column in zip(*parts, strict=True))


def _require_input(
    channels: NDArray[Any], protocol: MdmeProtocol, component: str, mask: NDArray[np.bool_] | None
) -> NDArray[np.bool_]:
    """Check the input and return the voxels to fit."""
    require_in_set("component", component, ("phase_corrected", "magnitude"))
    delays, echoes = len(protocol.saturation_delays_ms), len(protocol.echo_times_ms)
    least = LEAST_DELAYS[component]
    if delays < least or echoes < LEAST_ECHOES:
        fail(
            f"a fit to {'magnitudes' if component == 'magnitude' else 'signed channels'} needs {least} "
            f"saturation delays and {LEAST_ECHOES} echo times or more, got {delays} and {echoes}",
            remedy="give phase-corrected channels, or synthesize with a trained network",
        )
    if channels.ndim < 2 or len(channels) != delays * echoes:
        fail(
            f"channels must be ({delays * echoes}, ...), {delays} saturation delays x {echoes} echo times, "
            f"got shape {channels.shape}",
            remedy="give the delays and echo times that were acquired, or put the channels first",
        )
    if np.iscomplexobj(channels):
        fail("channels must be real, got complex ones", remedy="correct their phase, or take their magnitude")
    bad = np.count_nonzero(~np.isfinite(channels))
    if bad:
        raise InputError(f"channels must be finite, got {bad} NaN or infinite values")
    inside = np.any(channels, axis=0)
    if mask is not None:
        require_same_shape(channels=channels.shape[1:], mask=mask.shape)
        inside &= mask.astype(bool)
    if not inside.any():
        fail("there is no voxel with signal to fit", remedy="check the mask and the channels")
    return np.asarray(inside)


def _require_sigma(sigma: float | Sequence[float], dimensions: int) -> tuple[float, ...]:
    """Return the smoothing of B1 along every spatial axis."""
    each = tuple(sigma) if isinstance(sigma, Sequence) else (float(sigma),) * dimensions
    if len(each) != dimensions or not all(0 <= value < np.inf for value in each):
        raise InputError(f"b1_sigma_voxels must be one number or {dimensions}, not negative, got {sigma}")
    if dimensions < 2 and max(each) > 0:
        fail(
            "B1 can be smoothed over images alone, got a list of voxels",
            remedy="give channels (C, X, Y) or (C, X, Y, Z), or b1_sigma_voxels=0",
        )
    return each
