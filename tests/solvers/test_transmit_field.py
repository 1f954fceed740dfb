"""Smoothing of a transmit field: fields known beforehand, outliers of one sign, voxels that say nothing."""

from __future__ import annotations

import numpy as np
import pytest

from medrestore import rng
from medrestore.checks import InputError
from medrestore.solvers.transmit_field import smooth_transmit_field

SHAPE = (24, 28, 10)


def ball() -> np.ndarray:
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    return sum(axis**2 for axis in axes) < 1


def field() -> np.ndarray:
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    return 1.1 - 0.2 * x**2 - 0.15 * y**2 - 0.1 * z**2 + 0.05 * x * y + 0.03 * z


def test_quadratic_fields_come_back_to_the_edge():
    inside = ball()
    truth = field()[inside]
    smooth = smooth_transmit_field(truth, np.ones_like(truth), inside=inside, sigma_voxels=(4, 4, 2))
    # The polynomial holds the field; what it leaves is rounding of float64 normal equations.
    np.testing.assert_allclose(smooth, truth, atol=1e-9)


def test_gaussian_follows_what_no_quadratic_holds():
    inside = np.ones(SHAPE, dtype=bool)
    x = np.arange(SHAPE[0])
    wave = np.broadcast_to(1 + 0.1 * np.sin(2 * np.pi * x / 24)[:, None, None], SHAPE)
    smooth = smooth_transmit_field(
        wave[inside], np.ones(wave.size), inside=inside, sigma_voxels=(1, 1, 1)
    ).reshape(SHAPE)
    # A Gaussian of one voxel keeps exp(-(2 pi / 24)^2 / 2) = 0.966 of the wave away from the ends.
    np.testing.assert_allclose(smooth[6:18], wave[6:18], atol=0.1 * 0.04)


def test_noise_is_averaged_by_weight():
    inside = ball()
    truth = field()[inside]
    random = rng.generator(0, "noise")
    sd = np.where(random.random(truth.size) < 0.5, 0.01, 0.2)
    noisy = truth + sd * random.standard_normal(truth.size)
    smooth = smooth_transmit_field(noisy, 1 / sd**2, inside=inside, sigma_voxels=(3, 3, 3))
    # Some 1,400 voxels of SD 0.01 share a quadratic of ten terms: 0.01 sqrt(10 / 1400) = 0.0008. Each mean
    # of the rest is over (2 sqrt(pi) 3)^2 x 10 slices, half of them good: 0.01 / sqrt(560) = 0.0004 inside,
    # twice that at the edge. With equal weights all would be 14 times as much.
    assert np.sqrt(np.mean((smooth - truth) ** 2)) < 0.002


def test_outliers_of_one_sign_do_not_shift_the_field():
    inside = ball()
    truth = field()[inside]
    random = rng.generator(0, "outliers")
    noisy = truth + 0.02 * random.standard_normal(truth.size)
    wrong = random.random(truth.size) < 0.2
    noisy[wrong] -= 0.3
    smooth = smooth_transmit_field(noisy, np.full(truth.size, 50.0), inside=inside, sigma_voxels=(4, 4, 2))
    # A mean would be 0.2 x 0.3 = 0.06 too low.
    assert abs(np.mean(smooth - truth)) < 0.003


def test_voxels_without_weight_get_a_value_and_give_none():
    inside = ball()
    truth = field()[inside]
    values, weight = truth.copy(), np.ones_like(truth)
    silent = rng.generator(0, "silent").random(truth.size) < 0.3
    values[silent], weight[silent] = 7.0, 0.0
    smooth = smooth_transmit_field(values, weight, inside=inside, sigma_voxels=(4, 4, 2))
    np.testing.assert_allclose(smooth, truth, atol=1e-9)
    nothing = smooth_transmit_field(values, np.zeros_like(weight), inside=inside, sigma_voxels=(4, 4, 2))
    np.testing.assert_array_equal(nothing, 1)


def test_one_slice_and_single_voxels():
    inside = np.zeros((6, 7, 1), dtype=bool)
    inside[1:4, 2:6] = True
    values = np.full(12, 0.9)
    smooth = smooth_transmit_field(values, np.ones(12), inside=inside, sigma_voxels=(2, 2, 2))
    np.testing.assert_allclose(smooth, 0.9, atol=1e-9)
    one = np.zeros((3, 3), dtype=bool)
    one[1, 1] = True
    smooth = smooth_transmit_field(np.array([1.2]), np.array([3.0]), inside=one, sigma_voxels=(2, 2))
    np.testing.assert_allclose(smooth, 1.2, atol=1e-6)


def test_refuses_other_numbers_of_values():
    with pytest.raises(InputError, match=r"must be equal, got b1 \(3,\), weight \(3,\), voxels \(4,\)"):
        smooth_transmit_field(np.ones(3), np.ones(3), inside=np.ones((2, 2), bool), sigma_voxels=(1, 1))
