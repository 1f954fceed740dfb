"""Fit of T1, T2, proton density and B1: exact without noise, scipy's least squares with it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares

from medrestore import rng
from medrestore.checks import InputError
from medrestore.operators.mdme import MdmeProtocol, add_complex_noise, mdme_signal, phase_corrected
from medrestore.operators.mr_sequences import CONTRASTS
from medrestore.solvers.relaxometry import (
    B1_RANGE,
    T1_RANGE_MS,
    T2_RANGE_MS,
    QuantitativeMaps,
    fit_relaxometry,
    synthesize,
)

PROTOCOL = MdmeProtocol()
SHAPE = (40, 44)


def tissue(seed: int = 0) -> dict[str, np.ndarray]:
    """Return maps from fat to cerebrospinal fluid, voxel by voxel at random, under a smooth B1."""
    random = rng.generator(seed, "tissue")
    x, y = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    return {
        "t1_ms": np.exp(random.uniform(np.log(300), np.log(4500), SHAPE)),
        "t2_ms": np.exp(random.uniform(np.log(40), np.log(1500), SHAPE)),
        "pd": random.uniform(0.5, 1.0, SHAPE),
        "b1": 1.1 - 0.15 * x**2 - 0.2 * y**2 + 0.05 * x,
    }


def signals(truth: dict[str, np.ndarray], protocol: MdmeProtocol = PROTOCOL) -> np.ndarray:
    return mdme_signal(truth["t1_ms"], truth["t2_ms"], truth["pd"], protocol=protocol, b1=truth["b1"])


THREE_DELAYS = MdmeProtocol((2000.0, 150.0, 580.0), (15.0, 60.0, 110.0), 3000.0)
FIVE_DELAYS = MdmeProtocol(
    (100.0, 400.0, 1200.0, 2500.0, 4000.0), (20.0, 100.0), 5000.0, saturation_deg=100.0
)


@pytest.mark.parametrize(
    ("protocol", "component"),
    [
        (PROTOCOL, "phase_corrected"),
        (PROTOCOL, "magnitude"),
        (THREE_DELAYS, "phase_corrected"),
        (FIVE_DELAYS, "phase_corrected"),
        (FIVE_DELAYS, "magnitude"),
    ],
)
def test_exact_without_noise(protocol, component):
    truth = tissue()
    channels = signals(truth, protocol)
    if component == "magnitude":
        channels = np.abs(channels)
    maps = fit_relaxometry(channels, protocol=protocol, component=component, b1_sigma_voxels=0)
    for name, expected in truth.items():
        fitted = getattr(maps, name)
        assert fitted.dtype == np.float32
        # Maps are float32 (6e-8); the grid starts within 4 % and four steps square that error each time.
        np.testing.assert_allclose(fitted, expected, rtol=2e-6, err_msg=name)


def test_smooth_b1_that_a_quadratic_holds_is_exact_too():
    truth = tissue()
    maps = fit_relaxometry(signals(truth), protocol=PROTOCOL, b1_sigma_voxels=4.0)
    for name, expected in truth.items():
        # The error of B1 at its weights, below 1e-6, reaches T1 up to a factor of 6 at long T1.
        np.testing.assert_allclose(getattr(maps, name), expected, rtol=1e-5, err_msg=name)


def least_squares_fit(data: np.ndarray, start: list[float], free_b1: bool) -> np.ndarray:
    """Fit one voxel by scipy in ln T1, ln T2, PD and, if it is free, B1; else B1 is the last of ``start``."""

    def residual(x: np.ndarray) -> np.ndarray:
        b1 = x[3] if free_b1 else start[3]
        model = mdme_signal(float(np.exp(x[0])), float(np.exp(x[1])), float(x[2]), protocol=PROTOCOL, b1=b1)
        return model - data

    free = 4 if free_b1 else 3
    low = [np.log(T1_RANGE_MS[0]), np.log(T2_RANGE_MS[0]), 0.0, B1_RANGE[0]]
    high = [np.log(T1_RANGE_MS[1]), np.log(T2_RANGE_MS[1]), np.inf, B1_RANGE[1]]
    options = {"xtol": 1e-13, "ftol": 1e-13, "gtol": 1e-13}
    return least_squares(residual, start[:free], bounds=(low[:free], high[:free]), **options).x


@pytest.mark.parametrize("sigma", [0.0, 4.0])
def test_noisy_fits_are_those_of_scipy(sigma):
    truth = tissue(1)
    noise = 0.01 * rng.generator(1, "noise").standard_normal((8, *SHAPE))
    channels = signals(truth) + noise
    maps = fit_relaxometry(channels, protocol=PROTOCOL, b1_sigma_voxels=sigma)
    for voxel in range(0, channels[0].size, 40):
        place = np.unravel_index(voxel, SHAPE)
        start = [np.log(truth["t1_ms"][place]), np.log(truth["t2_ms"][place]), truth["pd"][place]]
        start.append(truth["b1"][place] if sigma == 0 else float(maps.b1[place]))
        best = least_squares_fit(channels[(slice(None), *place)], start, free_b1=sigma == 0)
        fitted = np.array([np.log(maps.t1_ms[place]), np.log(maps.t2_ms[place]), maps.pd[place]])
        # The joint fit knows that the delays follow a recovery when it fits T2. That changes the estimates
        # by the order of the noise squared, times an amplification of up to 100 at T2 = 1500 ms.
        np.testing.assert_allclose(fitted, best[:3], atol=0.02)
        assert abs(fitted[0] - best[0]) < 0.005


def uniform(t1: float, t2: float, pd: float, sigma: float) -> np.ndarray:
    """Return phase-corrected channels of a uniform head with B1 = 0.95 and complex noise."""
    shape = (64, 64)
    clean = mdme_signal(np.full(shape, t1), t2, pd, protocol=PROTOCOL, b1=0.95) * np.exp(0.7j)
    noisy = add_complex_noise(clean, sigma=sigma, random=rng.generator(0, "noise", int(t1)))
    return phase_corrected(noisy, reference=PROTOCOL.reference)


@pytest.mark.parametrize(("t1", "t2", "pd"), [(850.0, 70.0, 0.7), (1400.0, 95.0, 0.82)])
def test_bias_and_spread_are_those_of_the_cramer_rao_bound(t1, t2, pd):
    sigma = 0.005
    channels = uniform(t1, t2, pd, sigma)
    voxelwise = fit_relaxometry(channels, protocol=PROTOCOL, b1_sigma_voxels=0)
    smooth = fit_relaxometry(channels, protocol=PROTOCOL, b1_sigma_voxels=6)

    def bound(free: int) -> np.ndarray:
        """Return the smallest SD of ln T1, ln T2, PD (and B1), by the Jacobian's differences."""
        x = np.array([np.log(t1), np.log(t2), pd, 0.95])
        model = lambda x: mdme_signal(np.exp(x[0]), np.exp(x[1]), x[2], protocol=PROTOCOL, b1=x[3])  # noqa: E731
        steps = 1e-5 * np.eye(4)[:free]
        jacobian = np.stack([(model(x + step) - model(x - step)) / 2e-5 for step in steps], axis=1)
        return sigma * np.sqrt(np.diag(np.linalg.inv(jacobian.T @ jacobian)))

    for maps, free in ((voxelwise, 4), (smooth, 3)):
        least = bound(free)
        errors = (np.log(maps.t1_ms / t1), np.log(maps.t2_ms / t2), maps.pd - pd, maps.b1 - 0.95)
        for error, sd in zip(errors, least, strict=False):
            # 4,096 voxels tell an SD to 1.1 %; the phase correction's reference carries Rician noise, which
            # is correlated with nothing else: 10 % covers both.
            assert error.std() == pytest.approx(sd, rel=0.1)
            # Bias of second order in the noise, far below the SD of a voxel.
            assert abs(error.mean()) < 0.1 * sd
    # What a smooth B1 is for.
    assert np.log(smooth.t1_ms).std() < 0.7 * np.log(voxelwise.t1_ms).std()
    assert abs(smooth.b1 - 0.95).max() < 0.005


def test_magnitude_of_noisy_data_is_nearly_as_good():
    channels = uniform(1000.0, 80.0, 0.8, 0.005)
    signed = fit_relaxometry(channels, protocol=PROTOCOL)
    magnitude = fit_relaxometry(np.abs(channels), protocol=PROTOCOL, component="magnitude")
    # No signal of this T1 is near zero, where magnitudes would lose their sign by noise.
    for name in ("t1_ms", "t2_ms", "pd", "b1"):
        np.testing.assert_allclose(getattr(magnitude, name), getattr(signed, name), rtol=1e-4)


def test_outside_the_mask_and_without_signal_maps_are_zero():
    truth = tissue()
    channels = signals(truth).astype(np.float32)
    channels[:, :5] = 0
    mask = np.zeros(SHAPE, dtype=bool)
    mask[:, 4:30] = True
    maps = fit_relaxometry(channels, protocol=PROTOCOL, mask=mask, b1_sigma_voxels=0)
    fitted = mask.copy()
    fitted[:5] = False
    for name, expected in truth.items():
        assert not getattr(maps, name)[~fitted].any()
        # Channels in float32 lose a few times 1e-7, amplified a thousandfold at the longest T1 and T2.
        np.testing.assert_allclose(getattr(maps, name)[fitted], expected[fitted], rtol=1e-3)
    assert not synthesize(maps, CONTRASTS["t2_flair"])[~fitted].any()


def test_noise_stays_within_the_bounds():
    channels = rng.generator(0, "air").standard_normal((8, 30, 30))
    maps = fit_relaxometry(channels, protocol=PROTOCOL)
    for values, bounds in ((maps.t1_ms, T1_RANGE_MS), (maps.t2_ms, T2_RANGE_MS), (maps.b1, B1_RANGE)):
        assert values.min() >= np.float32(bounds[0])
        assert values.max() <= np.float32(bounds[1])
    assert (maps.pd >= 0).all()


def test_scale_and_chunks_do_not_matter(monkeypatch):
    channels = signals(tissue()) + 0.01 * rng.generator(0, "noise").standard_normal((8, *SHAPE))
    maps = fit_relaxometry(channels, protocol=PROTOCOL)
    monkeypatch.setattr("medrestore.solvers.relaxometry.CHUNK_VOXELS", 100)
    scaled = fit_relaxometry(4096 * channels, protocol=PROTOCOL)  # a power of two: exact in binary
    np.testing.assert_allclose(scaled.pd, 4096 * maps.pd, rtol=1e-5)
    for name in ("t1_ms", "t2_ms", "b1"):
        # Sums in another order may tell two equally good grid points apart otherwise.
        np.testing.assert_allclose(getattr(scaled, name), getattr(maps, name), rtol=1e-4)


def test_synthetic_images_are_the_signal_equations():
    truth = tissue()
    maps = QuantitativeMaps(**{name: values.astype(np.float32) for name, values in truth.items()})
    for sequence in CONTRASTS.values():
        image = synthesize(maps, sequence)
        assert image.dtype == np.float32
        exact = np.abs(sequence.signal(truth["t1_ms"], truth["t2_ms"], truth["pd"], b1=truth["b1"]))
        np.testing.assert_allclose(image, exact, atol=2e-6)  # float32 of terms of order one
        nominal = np.abs(sequence.signal(truth["t1_ms"], truth["t2_ms"], truth["pd"]))
        np.testing.assert_allclose(synthesize(maps, sequence, nominal_b1=True), nominal, atol=2e-6)
    assert (synthesize(maps, CONTRASTS["stir"]) >= 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"channels": np.ones((6, 4, 4))},
            r"must be \(8, ...\), 4 saturation delays x 2 echo times",
        ),
        ({"channels": np.ones(8)}, r"must be \(8, ...\).*got shape \(8,\)"),
        ({"channels": np.ones((8, 4, 4), complex)}, "channels must be real.*correct their phase"),
        ({"channels": np.full((8, 4, 4), np.nan)}, "must be finite, got 128 NaN or infinite values"),
        ({"channels": np.zeros((8, 4, 4))}, "no voxel with signal to fit"),
        ({"mask": np.zeros((4, 4), bool)}, "no voxel with signal to fit. Remedy: check the mask"),
        ({"mask": np.ones((4, 5), bool)}, r"shapes must be equal, got channels \(4, 4\), mask \(4, 5\)"),
        ({"component": "real"}, "component must be one of 'phase_corrected', 'magnitude', got 'real'"),
        ({"b1_sigma_voxels": -1.0}, "b1_sigma_voxels must be one number or 2, not negative, got -1"),
        ({"b1_sigma_voxels": (3.0, 3.0, 3.0)}, "b1_sigma_voxels must be one number or 2"),
        ({"channels": np.ones((8, 16))}, "smoothed over images alone.*b1_sigma_voxels=0"),
        (
            {"channels": np.ones((4, 4, 4)), "protocol": MdmeProtocol(echo_times_ms=(22.0,))},
            "needs 3 saturation delays and 2 echo times or more, got 4 and 1",
        ),
        (
            {"channels": np.ones((4, 4, 4)), "protocol": MdmeProtocol((150.0, 2000.0))},
            "needs 3 saturation delays and 2 echo times or more, got 2 and 2",
        ),
        (
            {
                "channels": np.ones((6, 4, 4)),
                "protocol": MdmeProtocol((150.0, 580.0, 2000.0)),
                "component": "magnitude",
            },
            "to magnitudes needs 4 saturation delays and 2 echo times or more, got 3 and 2",
        ),
    ],
)
def test_refusals(change, message):
    arguments = {"channels": np.ones((8, 4, 4)), "protocol": PROTOCOL, **change}
    with pytest.raises(InputError, match=message):
        fit_relaxometry(arguments.pop("channels"), **arguments)  # type: ignore[arg-type]


def test_maps_must_be_of_one_shape():
    one, other = np.ones((2, 2), dtype=np.float32), np.ones((2, 3), dtype=np.float32)
    with pytest.raises(InputError, match=r"shapes must be equal, got t1_ms \(2, 2\), t2_ms \(2, 3\)"):
        QuantitativeMaps(one, other, one, one)


def test_a_list_of_voxels_is_fitted_without_smoothing():
    channels = mdme_signal(np.array([700.0, 2000.0]), 90.0, 1.0, protocol=PROTOCOL, b1=1.05)
    maps = fit_relaxometry(channels, protocol=PROTOCOL, b1_sigma_voxels=0)
    np.testing.assert_allclose(maps.t1_ms, [700, 2000], rtol=2e-6)  # as above
