"""Signals of conventional MR sequences, spin echo and inversion recovery, and six of a brain protocol at 3 T.

One steady state serves both sequences. Within a repetition: inversion by the angle gamma, delay TI,
excitation by alpha, refocusing by beta after TE/2, echo at TE, recovery until TR. With
E(t) = exp(-t / T1), the longitudinal magnetization that is excited is

    M = [1 - E(TI) + cos(gamma) E(TI) (1 - E(R) + cos(beta) E(R) (1 - E(TE/2)))]
        / [1 - cos(gamma) cos(alpha) cos(beta) E(TR)],    R = TR - TI - TE/2,

and the signal PD M sin(alpha) sin^2(beta/2) exp(-TE / T2). A spin echo has no inversion: gamma = 0, TI = 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medrestore.checks import fail, require_in_range

__all__ = [
    "CONTRASTS",
    "CSF_T1_MS",
    "FAT_T1_MS",
    "TITLES",
    "InversionRecovery",
    "Sequence",
    "SpinEcho",
    "TissueArrays",
    "nulling_time_ms",
    "tissue_arrays",
]

FloatArray: TypeAlias = NDArray[np.floating[Any]]
TissueArrays: TypeAlias = tuple[FloatArray, FloatArray, FloatArray, FloatArray]

CSF_T1_MS = 4163.0
"""T1 of cerebrospinal fluid at 3 T, ms (Lin et al., Proc ISMRM 9:1391, 2001)."""

FAT_T1_MS = 382.0
"""T1 of subcutaneous fat at 3 T, ms (de Bazelaire et al., Radiology 230:652, 2004)."""


class Sequence(Protocol):
    """A sequence whose signal follows from T1, T2 and proton density."""

    @property
    def tr_ms(self) -> float:
        """Repetition time, ms."""
        ...

    @property
    def te_ms(self) -> float:
        """Echo time, ms."""
        ...

    def signal(self, t1_ms: ArrayLike, t2_ms: ArrayLike, pd: ArrayLike, *, b1: ArrayLike = 1.0) -> FloatArray:
        """Return the signed signal, in the unit of the proton density."""
        ...


def tissue_arrays(t1_ms: ArrayLike, t2_ms: ArrayLike, pd: ArrayLike, b1: ArrayLike) -> TissueArrays:
    """Check tissue parameters and return them as arrays: 1/T1, 1/T2 (1/ms), PD and B1.

    Parameters
    ----------
    t1_ms, t2_ms : float or array, ms
        Relaxation times; positive where there are protons, anything (0 in maps) where ``pd`` is 0.
    pd : float or array
        Proton density, not negative.
    b1 : float or array
        Transmit field over its nominal value: every flip angle is multiplied by it.

    Returns
    -------
    four arrays that broadcast together
        float32 when every array given is, else float64; the rates are 0 where ``pd`` is 0.

    Raises
    ------
    InputError
        When a value is not finite or not physical, or the shapes do not broadcast.
    """
    given = {"t1_ms": t1_ms, "t2_ms": t2_ms, "pd": pd, "b1": b1}
    kinds = {np.asarray(value).dtype for value in given.values() if not isinstance(value, (int, float))}
    kind: type[np.floating[Any]] = np.float32 if kinds == {np.dtype(np.float32)} else np.float64
    arrays: dict[str, FloatArray] = {name: np.asarray(value, dtype=kind) for name, value in given.items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all() or (array.size and array.min() < 0):
            fail(f"{name} must be finite and not negative", remedy="check the map for NaN and signs")
    try:
        np.broadcast_shapes(*(array.shape for array in arrays.values()))
    except ValueError:
        listed = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        fail(f"tissue maps must have shapes that broadcast, got {listed}")
    rates = []
    for name in ("t1_ms", "t2_ms"):
        time = arrays[name]
        if np.any((time == 0) & (arrays["pd"] > 0)):
            fail(f"{name} must be positive where pd is", remedy="set pd to 0 outside the body")
        rates.append(np.divide(1, time, out=np.zeros_like(time), where=time > 0))
    return rates[0], rates[1], arrays["pd"], arrays["b1"]


@dataclass(frozen=True)
class SpinEcho:
    """Spin echo: excitation, refocusing at TE/2, echo at TE.

    Attributes
    ----------
    tr_ms, te_ms : float, ms
        Repetition time, from excitation to excitation, and echo time; of a turbo spin echo the effective one.
    excitation_deg, refocusing_deg : float, degrees
        Nominal flip angles.

    Notes
    -----
    At 90 and 180 degrees S = PD exp(-TE/T2) [1 - 2 exp(-(TR - TE/2)/T1) + exp(-TR/T1)], which tends to
    PD exp(-TE/T2) at long TR. A turbo spin echo is taken as a single echo at its effective echo time: the
    later refocusing pulses, their stimulated echoes and magnetization transfer are left out.

    Examples
    --------
    >>> float(SpinEcho(tr_ms=1e6, te_ms=100.0).signal(1000.0, 100.0, 1.0).round(4))  # 1 / e
    0.3679
    """

    tr_ms: float
    te_ms: float
    excitation_deg: float = 90.0
    refocusing_deg: float = 180.0

    def __post_init__(self) -> None:
        _require_times(self.tr_ms, self.te_ms, 0.0)

    def signal(self, t1_ms: ArrayLike, t2_ms: ArrayLike, pd: ArrayLike, *, b1: ArrayLike = 1.0) -> FloatArray:
        """Return the signed signal.

        Parameters
        ----------
        t1_ms, t2_ms : float or array, ms
            Relaxation times; anything where ``pd`` is 0.
        pd : float or array
            Proton density.
        b1 : float or array
            Transmit field over its nominal value.

        Returns
        -------
        array of the broadcast shape, in the unit of ``pd``
            float32 when every array given is, else float64.

        Raises
        ------
        InputError
            When a value is not physical.
        """
        tissue = tissue_arrays(t1_ms, t2_ms, pd, b1)
        return _echo(tissue, self.tr_ms, self.te_ms, self.excitation_deg, self.refocusing_deg)


@dataclass(frozen=True)
class InversionRecovery:
    """Inversion recovery with a spin-echo readout: FLAIR and STIR.

    Attributes
    ----------
    tr_ms, te_ms, ti_ms : float, ms
        Repetition time, from inversion to inversion, echo time, and time from inversion to excitation.
    inversion_deg, excitation_deg, refocusing_deg : float, degrees
        Nominal flip angles.
    adiabatic : bool
        Whether the inversion, as on today's scanners, does not depend on B1.

    Notes
    -----
    At 180, 90 and 180 degrees
    S = PD exp(-TE/T2) [1 - 2 exp(-TI/T1) + 2 exp(-(TR - TE/2)/T1) - exp(-TR/T1)], which tends to
    PD exp(-TE/T2) [1 - 2 exp(-TI/T1)] at long TR. The term of the refocusing pulse is kept: at the short TR
    of T1-FLAIR it moves the null of cerebrospinal fluid. The signal is signed; images show its magnitude.

    Examples
    --------
    >>> flair = InversionRecovery(tr_ms=1e6, te_ms=10.0, ti_ms=1000.0 * float(np.log(2)))
    >>> abs(float(flair.signal(1000.0, 100.0, 1.0).round(12)))
    0.0
    """

    tr_ms: float
    te_ms: float
    ti_ms: float
    inversion_deg: float = 180.0
    excitation_deg: float = 90.0
    refocusing_deg: float = 180.0
    adiabatic: bool = True

    def __post_init__(self) -> None:
        require_in_range("ti_ms", self.ti_ms, 0.0, np.inf, include_low=False, include_high=False)
        _require_times(self.tr_ms, self.te_ms, self.ti_ms)

    def signal(self, t1_ms: ArrayLike, t2_ms: ArrayLike, pd: ArrayLike, *, b1: ArrayLike = 1.0) -> FloatArray:
        """Return the signed signal, with parameters and result as in :meth:`SpinEcho.signal`."""
        tissue = tissue_arrays(t1_ms, t2_ms, pd, b1)
        inversion = np.cos(np.deg2rad(self.inversion_deg) * (1.0 if self.adiabatic else tissue[3]))
        return _echo(
            tissue,
            self.tr_ms,
            self.te_ms,
            self.excitation_deg,
            self.refocusing_deg,
            ti_ms=self.ti_ms,
            cos_inversion=inversion.astype(tissue[3].dtype),
        )


def nulling_time_ms(t1_ms: float, *, tr_ms: float, te_ms: float = 0.0) -> float:
    """Return the inversion time at which an :class:`InversionRecovery` shows nothing of a T1.

    TI = T1 ln(2 / (1 + 2 exp(-(TR - TE/2)/T1) - exp(-TR/T1)))

    Parameters
    ----------
    t1_ms : float, ms
        T1 to null.
    tr_ms, te_ms : float, ms
        Repetition and echo time of the sequence.

    Returns
    -------
    float, ms
        T1 ln 2 at long TR, less at a finite one.

    Raises
    ------
    InputError
        When a time is not positive (TE: negative), or the readout does not fit into TR.

    Examples
    --------
    >>> round(nulling_time_ms(1000.0, tr_ms=1e6), 2)
    693.15
    """
    require_in_range("t1_ms", t1_ms, 0.0, np.inf, include_low=False, include_high=False)
    _require_times(tr_ms, te_ms, 0.0)
    late, whole = np.exp(-(tr_ms - te_ms / 2) / t1_ms), np.exp(-tr_ms / t1_ms)
    ti_ms = float(t1_ms * np.log(2 / (1 + 2 * late - whole)))
    _require_times(tr_ms, te_ms, ti_ms)
    return ti_ms


def _require_times(tr_ms: float, te_ms: float, ti_ms: float) -> None:
    require_in_range("tr_ms", tr_ms, 0.0, np.inf, include_low=False, include_high=False)
    require_in_range("te_ms", te_ms, 0.0, np.inf, include_high=False)
    if ti_ms + te_ms > tr_ms:
        fail(
            f"the echo must come before the next repetition, got {ti_ms + te_ms:g} ms of {tr_ms:g} ms",
            remedy="give a longer tr_ms, or check that all times are in milliseconds",
        )


def _echo(
    tissue: TissueArrays,
    tr_ms: float,
    te_ms: float,
    excitation_deg: float,
    refocusing_deg: float,
    *,
    ti_ms: float = 0.0,
    cos_inversion: ArrayLike = 1.0,
) -> FloatArray:
    """Return the signal of the module's steady state."""
    r1, r2, pd, b1 = tissue
    excitation, refocusing = (b1 * b1.dtype.type(np.deg2rad(deg)) for deg in (excitation_deg, refocusing_deg))
    cos_refocusing = np.cos(refocusing)
    after_inversion, half_echo = np.exp(-r1 * ti_ms), np.exp(-r1 * (te_ms / 2))
    rest = np.exp(-r1 * (tr_ms - ti_ms - te_ms / 2))
    recovered = 1 - rest + cos_refocusing * rest * (1 - half_echo)
    excited = 1 - after_inversion + cos_inversion * after_inversion * recovered
    # E(TR) is the product of the three; without protons it is 1, and the denominator may vanish with it.
    steady = 1 - cos_inversion * np.cos(excitation) * cos_refocusing * after_inversion * half_echo * rest
    excited = excited / np.where(r1 > 0, steady, 1)
    transverse = np.sin(excitation) * np.sin(refocusing / 2) ** 2 * np.exp(-r2 * te_ms)
    return np.asarray(pd * excited * transverse, dtype=b1.dtype)


CONTRASTS: Mapping[str, Sequence] = MappingProxyType(
    {
        "t1w": SpinEcho(tr_ms=600.0, te_ms=10.0),
        "t1_flair": InversionRecovery(
            tr_ms=2500.0, te_ms=10.0, ti_ms=nulling_time_ms(CSF_T1_MS, tr_ms=2500.0, te_ms=10.0)
        ),
        "t2w": SpinEcho(tr_ms=4500.0, te_ms=95.0),
        "t2_flair": InversionRecovery(
            tr_ms=9000.0, te_ms=95.0, ti_ms=nulling_time_ms(CSF_T1_MS, tr_ms=9000.0, te_ms=95.0)
        ),
        "stir": InversionRecovery(
            tr_ms=5000.0, te_ms=60.0, ti_ms=nulling_time_ms(FAT_T1_MS, tr_ms=5000.0, te_ms=60.0)
        ),
        "pdw": SpinEcho(tr_ms=3000.0, te_ms=15.0),
    }
)
"""Six contrasts of a clinical brain protocol at 3 T.

T1-FLAIR and T2-FLAIR null cerebrospinal fluid, STIR fat, each under its own TR and TE. The times of T1w,
T2-FLAIR and PDw are about those that the MS-SMART trial set for 3 T scanners of three makers (Connick et al.,
BMJ Open 8:e021944, 2018), T2w is its second echo at a longer TR; T1-FLAIR and STIR are typical of the clinic.
"""

TITLES: Mapping[str, str] = MappingProxyType(
    {
        "t1w": "T1w",
        "t1_flair": "T1-FLAIR",
        "t2w": "T2w",
        "t2_flair": "T2-FLAIR",
        "stir": "STIR",
        "pdw": "PDw",
    }
)
"""How figures and tables write the contrasts."""
