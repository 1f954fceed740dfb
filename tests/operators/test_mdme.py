"""The MDME acquisition: steady state by stepping through the pulses, noise by its distributions, phase."""

from __future__ import annotations

from math import cos, exp, pi, radians, sin

import numpy as np
import pytest
from scipy import stats

from medrestore import rng
from medrestore.checks import InputError
from medrestore.operators.mdme import (
    MdmeProtocol,
    add_complex_noise,
    excited_magnetization,
    mdme_signal,
    phase_corrected,
    rician,
)

PROTOCOL = MdmeProtocol()


def stepped_magnetization(t1: float, delay: float, protocol: MdmeProtocol, b1: float) -> float:
    """Step the longitudinal magnetization through saturation, delay, excitation and rest, many times."""
    theta, alpha = (b1 * radians(angle) for angle in (protocol.saturation_deg, protocol.excitation_deg))
    magnetization, excited = 1.0, 0.0
    for _ in range(80):
        magnetization *= cos(theta)
        magnetization = 1 + (magnetization - 1) * exp(-delay / t1)
        excited = magnetization
        magnetization *= cos(alpha)
        magnetization = 1 + (magnetization - 1) * exp(-(protocol.tr_ms - delay) / t1)
    return excited


@pytest.mark.parametrize("b1", [0.6, 1.0, 1.3])
@pytest.mark.parametrize("t1", [300.0, 900.0, 4163.0, 20000.0])
def test_steady_state_is_that_of_stepping_through_the_pulses(t1, b1):
    protocol = MdmeProtocol((150.0, 580.0, 900.0), (20.0, 80.0), 1000.0, 110.0, 80.0)
    excited = excited_magnetization(np.array(1 / t1), np.array(b1), protocol=protocol)
    for index, delay in enumerate(protocol.saturation_delays_ms):
        # |cos alpha cos theta| E(TR) stays below 0.64: after 80 repetitions 1e-15 is left of the start.
        expected = stepped_magnetization(t1, delay, protocol, b1)
        assert float(excited[index]) == pytest.approx(expected, rel=1e-11, abs=1e-13)


def test_signal_by_hand():
    protocol = MdmeProtocol((200.0, 1000.0, 3000.0), (25.0, 100.0), 4000.0)
    signal = mdme_signal(1000.0, 100.0, 0.8, protocol=protocol)
    # Nominal B1: cos(alpha) = 0, cos(theta) = -1/2, so that M = 1 - 3/2 E(TD) + 1/2 E(TR).
    expected = [
        0.8 * (1 - 1.5 * exp(-delay) + 0.5 * exp(-4)) * exp(-echo)
        for delay in (0.2, 1, 3)
        for echo in (0.25, 1)
    ]
    np.testing.assert_allclose(signal, expected, rtol=1e-12)
    assert signal[0] < 0 < signal[2]


def test_b1_scales_saturation_and_excitation():
    protocol = MdmeProtocol((300.0,), (20.0,), 2000.0)
    theta, alpha, late = 0.8 * 2 * pi / 3, 0.8 * pi / 2, exp(-2000 / 900)
    excited = (1 - (1 - cos(theta)) * exp(-300 / 900) - cos(theta) * late) / (
        1 - cos(theta) * cos(alpha) * late
    )
    signal = mdme_signal(900.0, 80.0, 1.0, protocol=protocol, b1=0.8)
    assert float(signal[0]) == pytest.approx(sin(alpha) * excited * exp(-20 / 80), rel=1e-12)


def test_long_repetition_is_saturation_recovery():
    protocol = MdmeProtocol((500.0,), (20.0,), 1e6, saturation_deg=90.0)
    signal = mdme_signal(900.0, 80.0, 1.0, protocol=protocol)
    assert float(signal[0]) == pytest.approx((1 - exp(-500 / 900)) * exp(-20 / 80), rel=1e-12)


def test_channels_are_delay_major_and_the_reference_is_positive():
    protocol = MdmeProtocol([580.0, 4130.0, 150.0], [22.0, 95.0])  # type: ignore[arg-type]
    assert protocol.channels == ((580, 22), (580, 95), (4130, 22), (4130, 95), (150, 22), (150, 95))
    assert protocol.reference == 2
    assert protocol == MdmeProtocol((580.0, 4130.0, 150.0), (22.0, 95.0))
    t1 = np.geomspace(100, 6000, 30)[:, None]
    signal = mdme_signal(t1, 80.0, 1.0, protocol=protocol, b1=np.linspace(0.6, 1.4, 9))
    assert signal.shape == (6, 30, 9)
    assert (signal[2] > 0).all()
    assert (np.abs(signal) <= signal[2] + 1e-12).all()  # and the brightest of all


def test_default_protocol_inverts_tissue_at_the_first_delay():
    signal = mdme_signal(np.array([850.0, 1400.0]), 80.0, 1.0, protocol=PROTOCOL)
    assert (signal[0] < 0).all()
    assert (signal[4:] > 0).all()


def test_precision_shape_and_air():
    t1 = np.array([0.0, 900.0, 1400.0], dtype=np.float32)
    pd = np.array([0.0, 0.7, 0.8], dtype=np.float32)
    signal = mdme_signal(t1, np.float32(80), pd, protocol=PROTOCOL, b1=np.ones((2, 1), dtype=np.float32))
    assert signal.shape == (8, 2, 3)
    assert signal.dtype == np.float32
    assert not signal[:, :, 0].any()
    exact = mdme_signal(t1[1:].astype(float), 80.0, pd[1:].astype(float), protocol=PROTOCOL)
    np.testing.assert_allclose(signal[:, 1, 1:], exact, atol=1e-6)  # float32 of terms of order one


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"saturation_delays_ms": ()}, "saturation_delays_ms must be different positive times"),
        ({"saturation_delays_ms": (150.0, 150.0)}, "saturation_delays_ms must be different"),
        ({"saturation_delays_ms": (-1.0, 150.0)}, "saturation_delays_ms must be different positive"),
        ({"echo_times_ms": (95.0, 22.0)}, r"echo_times_ms must increase, got \(95.0, 22.0\)"),
        ({"echo_times_ms": (float("nan"),)}, "echo_times_ms must be different positive times"),
        ({"tr_ms": 4.5}, "got 4225 ms of 4.5 ms. Remedy: .*milliseconds"),
        ({"saturation_deg": 200.0}, r"saturation_deg must be in \[0.0, 180.0\], got 200"),
        ({"excitation_deg": 0.0}, r"excitation_deg must be in \(0.0, 120.0\], got 0"),
    ],
)
def test_impossible_protocols_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        MdmeProtocol(**change)  # type: ignore[arg-type]


def test_complex_noise_is_white_and_circular():
    draws, sigma = 200_000, 0.7
    signal = np.full(draws, 2.0 - 1.0j)
    noise = add_complex_noise(signal, sigma=sigma, random=rng.generator(0, "noise")) - signal
    # Five standard errors: sigma / sqrt(n) of a mean, sigma^2 sqrt(2 / n) of a variance.
    for part in (noise.real, noise.imag):
        assert part.mean() == pytest.approx(0, abs=5 * sigma / np.sqrt(draws))
        assert part.var() == pytest.approx(sigma**2, rel=5 * np.sqrt(2 / draws))
    assert abs(np.corrcoef(noise.real, noise.imag)[0, 1]) < 5 / np.sqrt(draws)


def test_noise_may_vary_over_the_image_and_is_reproducible():
    image = np.ones((3, 40, 50), dtype=np.float32)
    sigma = np.linspace(0, 1, 50, dtype=np.float32)
    noisy = add_complex_noise(image, sigma=sigma, random=rng.generator(0, "noise"))
    assert noisy.dtype == np.complex64
    np.testing.assert_array_equal(noisy[..., 0], 1)
    # 120 draws of a complex number in each column: the SD to 5 / sqrt(480).
    np.testing.assert_allclose((noisy - image)[..., 1:].std(axis=(0, 1)) / np.sqrt(2), sigma[1:], rtol=0.23)
    again = add_complex_noise(image, sigma=sigma, random=rng.generator(0, "noise"))
    np.testing.assert_array_equal(noisy, again)
    for bad in (-0.1, np.nan):
        with pytest.raises(InputError, match="sigma must be finite and not negative"):
            add_complex_noise(image, sigma=bad, random=rng.generator(0, "noise"))


@pytest.mark.parametrize("signal", [0.0, 0.5, 3.0, -3.0])
def test_rician_has_the_moments_of_the_rice_distribution(signal):
    draws, sigma = 100_000, 0.4
    magnitude = rician(np.full(draws, signal), sigma=sigma, random=rng.generator(0, "rice", f"{signal}"))
    expected = stats.rice(abs(signal) / sigma, scale=sigma)
    assert magnitude.dtype == np.float32
    assert magnitude.mean() == pytest.approx(expected.mean(), abs=5 * expected.std() / np.sqrt(draws))
    # The variance's standard error is below sqrt(3 / n) of it for these kurtoses.
    assert magnitude.var() == pytest.approx(expected.var(), rel=5 * np.sqrt(3 / draws))


def test_air_of_a_magnitude_image_is_rayleigh():
    magnitude = rician(np.zeros(100_000), sigma=2.0, random=rng.generator(0, "air"))
    # Mean sigma sqrt(pi / 2), variance (2 - pi / 2) sigma^2.
    spread = 2 * np.sqrt(2 - pi / 2)
    assert magnitude.mean() == pytest.approx(2 * np.sqrt(pi / 2), abs=5 * spread / np.sqrt(100_000))


def test_phase_correction_brings_back_the_signs():
    x, y = np.meshgrid(np.linspace(-1, 1, 20), np.linspace(-1, 1, 24), indexing="ij")
    t1 = 1200 + 900 * x
    signal = mdme_signal(t1, 80.0, 1.0, protocol=PROTOCOL)
    phase = 7 * x * y + 2  # wraps
    corrected = phase_corrected(signal * np.exp(1j * phase), reference=PROTOCOL.reference)
    assert corrected.dtype == np.float32
    np.testing.assert_allclose(corrected, signal, atol=1e-6)  # float32
    assert (signal[0] < 0).any()


def test_phase_correction_of_noise():
    signal = mdme_signal(np.full((60, 60), 900.0), 80.0, 1.0, protocol=PROTOCOL)
    noisy = add_complex_noise(signal * np.exp(0.8j), sigma=0.01, random=rng.generator(0, "noise"))
    corrected = phase_corrected(noisy, reference=PROTOCOL.reference)
    residual = corrected - signal
    # The rotation keeps the noise's SD; 3,600 draws tell it to 5 / sqrt(7200) = 6 %.
    np.testing.assert_allclose(residual.std(axis=(1, 2)), 0.01, rtol=0.06)
    # Bias: half the variance of the reference's phase, 0.01^2 / (2 x 0.68^2) of the signal, below 1e-3.
    np.testing.assert_allclose(residual.mean(axis=(1, 2)), 0, atol=5 * 0.01 / 60)


def test_without_a_reference_voxels_stay():
    images = np.array([[1 + 2j, 1j], [0, 1j]], dtype=np.complex64)
    np.testing.assert_array_equal(phase_corrected(images, reference=1), [[1, 1], [0, 1]])


def test_phase_correction_refuses():
    with pytest.raises(InputError, match=r"must be complex .* got float32.*use the magnitude"):
        phase_corrected(np.ones((8, 2), dtype=np.float32), reference=6)
    with pytest.raises(InputError, match="reference must be one of the 2 channels, got 6"):
        phase_corrected(np.ones((2, 3), dtype=np.complex64), reference=6)
