"""Signals of conventional sequences: by hand, at limits, and against isochromats stepped through pulses."""

from __future__ import annotations

from math import cos, exp, log, pi, sin

import numpy as np
import pytest

from medrestore.checks import InputError
from medrestore.operators.mr_sequences import (
    CONTRASTS,
    CSF_T1_MS,
    FAT_T1_MS,
    TITLES,
    InversionRecovery,
    SpinEcho,
    nulling_time_ms,
)

# T1, T2 (ms) and proton density of the size they have at 3 T.
WHITE = (850.0, 70.0, 0.70)
GRAY = (1400.0, 95.0, 0.82)
CSF = (CSF_T1_MS, 1800.0, 1.0)
FAT = (FAT_T1_MS, 70.0, 0.9)
PLAQUE = (1500.0, 160.0, 0.85)


def turned(axis: int, angle: float) -> np.ndarray:
    """Return the rotation matrix about x (0), y (1) or z (2)."""
    first, second = [other for other in range(3) if other != axis]
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = cos(angle)
    matrix[first, second], matrix[second, first] = -sin(angle), sin(angle)
    return matrix


def stepped_signal(
    t1: float, t2: float, sequence: SpinEcho | InversionRecovery, b1: float, isochromats: int = 36
) -> float:
    """Step isochromats through inversion, excitation, refocusing and recovery until nothing changes."""
    ti = getattr(sequence, "ti_ms", 0.0)
    inversion = np.deg2rad(getattr(sequence, "inversion_deg", 0.0))
    inversion *= 1 if getattr(sequence, "adiabatic", True) else b1
    excitation, refocusing = (
        b1 * np.deg2rad(angle) for angle in (sequence.excitation_deg, sequence.refocusing_deg)
    )
    # A gradient turns the isochromats evenly over the whole circle before and after the refocusing pulse.
    dephase = [turned(2, 2 * pi * (k + 0.5) / isochromats) for k in range(isochromats)]

    def relax(vectors: list[np.ndarray], time: float) -> list[np.ndarray]:
        keep = np.array([exp(-time / t2), exp(-time / t2), exp(-time / t1)])
        return [vector * keep + (0, 0, 1 - exp(-time / t1)) for vector in vectors]

    longitudinal, signal = 1.0, 0.0
    for _ in range(60):
        vectors = [np.array([0.0, 0.0, longitudinal * cos(inversion)])] * isochromats  # spoiled
        vectors = relax(vectors, ti)
        vectors = [turned(0, excitation) @ vector for vector in vectors]
        vectors = relax(vectors, sequence.te_ms / 2)
        vectors = [
            turn @ turned(1, refocusing) @ turn @ vector
            for turn, vector in zip(dephase, vectors, strict=True)
        ]
        vectors = relax(vectors, sequence.te_ms / 2)
        signal = np.mean(vectors, axis=0)[1]
        vectors = relax(vectors, sequence.tr_ms - ti - sequence.te_ms)
        longitudinal = float(np.mean(vectors, axis=0)[2])
    return signal


def test_spin_echo_by_hand():
    signal = SpinEcho(tr_ms=600.0, te_ms=20.0).signal(1000.0, 80.0, 0.5)
    # PD exp(-TE/T2) [1 - 2 exp(-(TR - TE/2)/T1) + exp(-TR/T1)]
    assert float(signal) == pytest.approx(0.5 * exp(-0.25) * (1 - 2 * exp(-0.59) + exp(-0.6)), rel=1e-12)


def test_inversion_recovery_by_hand():
    signal = InversionRecovery(tr_ms=2500.0, te_ms=10.0, ti_ms=900.0).signal(1000.0, 80.0, 0.5)
    recovered = 1 - 2 * exp(-0.9) + 2 * exp(-2.495) - exp(-2.5)
    assert float(signal) == pytest.approx(0.5 * exp(-0.125) * recovered, rel=1e-12)


@pytest.mark.parametrize("b1", [0.7, 1.0, 1.25])
@pytest.mark.parametrize(
    "sequence",
    [
        SpinEcho(tr_ms=600.0, te_ms=20.0),
        SpinEcho(tr_ms=900.0, te_ms=60.0, excitation_deg=70.0, refocusing_deg=150.0),
        InversionRecovery(tr_ms=2500.0, te_ms=20.0, ti_ms=900.0),
        InversionRecovery(tr_ms=1800.0, te_ms=40.0, ti_ms=300.0, inversion_deg=170.0, adiabatic=False),
    ],
)
def test_steady_state_is_that_of_stepped_isochromats(sequence, b1):
    for t1, t2 in ((300.0, 50.0), (1200.0, 90.0), (4000.0, 1500.0)):
        # The first pulse about x turns z to -y, which the refocusing about y leaves on its side.
        expected = -stepped_signal(t1, t2, sequence, b1)
        # 60 repetitions: what is left of the start is below (cos alpha E(TR))^60 < 1e-15.
        assert float(sequence.signal(t1, t2, 1.0, b1=b1)) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_limits_of_long_repetition():
    # exp(-1e6 / 4163) is below 1e-100.
    echo = SpinEcho(tr_ms=1e6, te_ms=90.0)
    recovery = InversionRecovery(tr_ms=1e6, te_ms=90.0, ti_ms=500.0)
    for t1, t2, pd in (WHITE, CSF):
        assert float(echo.signal(t1, t2, pd)) == pytest.approx(pd * exp(-90 / t2), rel=1e-12)
        expected = pd * exp(-90 / t2) * (1 - 2 * exp(-500 / t1))
        assert float(recovery.signal(t1, t2, pd)) == pytest.approx(expected, rel=1e-12)
    assert nulling_time_ms(1000.0, tr_ms=1e6) == pytest.approx(1000 * log(2), rel=1e-12)


@pytest.mark.parametrize("t1", [382.0, 900.0, 4163.0])
@pytest.mark.parametrize(("tr", "te"), [(2500.0, 10.0), (9000.0, 95.0), (5000.0, 0.0)])
def test_nulling_time_nulls(t1, tr, te):
    ti = nulling_time_ms(t1, tr_ms=tr, te_ms=te)
    assert 0 < ti <= t1 * log(2)
    sequence = InversionRecovery(tr_ms=tr, te_ms=te, ti_ms=ti)
    # Rounding of numbers of order one.
    assert abs(float(sequence.signal(t1, 100.0, 1.0))) < 1e-14
    # Below the null the signal is negative, beyond it positive.
    assert float(sequence.signal(1.1 * t1, 100.0, 1.0)) < 0 < float(sequence.signal(0.9 * t1, 100.0, 1.0))


def test_six_contrasts_show_what_they_are_named_for():
    assert list(CONTRASTS) == list(TITLES) == ["t1w", "t1_flair", "t2w", "t2_flair", "stir", "pdw"]
    tissues = np.array([WHITE, GRAY, CSF, FAT, PLAQUE]).T
    image = {name: np.abs(sequence.signal(*tissues)) for name, sequence in CONTRASTS.items()}
    for name in ("t1w", "t1_flair"):
        white, gray, csf, fat, plaque = image[name]
        assert fat > white > gray > csf
        assert plaque < white
    white, gray, csf, _, plaque = image["t2w"]
    assert csf > plaque > gray > white
    white, gray, csf, _, plaque = image["t2_flair"]
    assert plaque > gray > white
    assert csf < 1e-6
    assert image["t1_flair"][2] < 1e-6
    assert image["stir"][3] < 1e-6
    assert image["pdw"][1] > image["pdw"][0]
    # On a clinical console these times read: STIR about 220 ms and more, T2-FLAIR about 2.4 s.
    assert 220 < CONTRASTS["stir"].ti_ms < 280
    assert 2200 < CONTRASTS["t2_flair"].ti_ms < 2600


def test_adiabatic_inversion_does_not_feel_b1():
    times = {"tr_ms": 1e6, "te_ms": 10.0, "ti_ms": 500.0}
    factor = sin(0.8 * pi / 2) * sin(0.8 * pi / 2) ** 2  # excitation, and refocusing of 0.8 x 180 degrees
    adiabatic = InversionRecovery(**times).signal(900.0, 80.0, 1.0, b1=0.8)
    hard = InversionRecovery(**times, adiabatic=False).signal(900.0, 80.0, 1.0, b1=0.8)
    decay = exp(-10 / 80)
    assert float(adiabatic) == pytest.approx(factor * decay * (1 - 2 * exp(-500 / 900)), rel=1e-12)
    expected = factor * decay * (1 - (1 - cos(0.8 * pi)) * exp(-500 / 900))
    assert float(hard) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("sequence", list(CONTRASTS.values()), ids=list(CONTRASTS))
def test_arrays_broadcast_and_keep_their_precision(sequence):
    t1 = np.array([[900.0], [1400.0]], dtype=np.float32)
    t2 = np.array([70.0, 90.0, 1800.0], dtype=np.float32)
    signal = sequence.signal(t1, t2, np.float32(0.8), b1=np.full((4, 1, 1), 0.9, dtype=np.float32))
    assert signal.shape == (4, 2, 3)
    assert signal.dtype == np.float32
    one = sequence.signal(1400.0, 90.0, 0.8, b1=0.9)
    assert one.dtype == np.float64
    # float32: 1e-7 of terms of order one, which nearly cancel in the inversion recoveries.
    assert float(signal[3, 1, 1]) == pytest.approx(float(one), abs=1e-6)
    assert sequence.signal(t1, t2, np.array([0.8])).dtype == np.float64
    assert sequence.signal(t1, t2, 0.8, b1=1.1).dtype == np.float32  # a number of Python has no precision


@pytest.mark.parametrize("b1", [0.0, 1.0])
def test_air_is_black_without_relaxation_times(b1):
    for sequence in CONTRASTS.values():
        signal = sequence.signal(np.array([0.0, 900.0]), np.array([0.0, 80.0]), np.array([0.0, 1.0]), b1=b1)
        assert signal[0] == 0
        assert np.isfinite(signal[1])


def test_refusals():
    echo = SpinEcho(tr_ms=600.0, te_ms=10.0)
    with pytest.raises(InputError, match="t1_ms must be positive where pd is"):
        echo.signal(np.array([0.0, 900.0]), 80.0, 1.0)
    with pytest.raises(InputError, match="t2_ms must be finite and not negative"):
        echo.signal(900.0, np.array([np.nan]), 1.0)
    with pytest.raises(InputError, match="pd must be finite and not negative"):
        echo.signal(900.0, 80.0, -1.0)
    with pytest.raises(InputError, match=r"shapes that broadcast, got t1_ms \(2,\), t2_ms \(3,\)"):
        echo.signal(np.full(2, 900.0), np.full(3, 80.0), 1.0)
    with pytest.raises(InputError, match=r"before the next repetition, got 0.7 ms of 0.6 ms.*milliseconds"):
        SpinEcho(tr_ms=0.6, te_ms=0.7)
    with pytest.raises(InputError, match="before the next repetition, got 2510 ms of 2500 ms"):
        InversionRecovery(tr_ms=2500.0, te_ms=10.0, ti_ms=2500.0)
    with pytest.raises(InputError, match=r"ti_ms must be in \(0.0, inf\), got -3"):
        InversionRecovery(tr_ms=2500.0, te_ms=10.0, ti_ms=-3.0)
    with pytest.raises(InputError, match=r"tr_ms must be in \(0.0, inf\), got 0"):
        SpinEcho(tr_ms=0.0, te_ms=0.0)
    with pytest.raises(InputError, match=r"t1_ms must be in \(0.0, inf\), got 0"):
        nulling_time_ms(0.0, tr_ms=5000.0)
