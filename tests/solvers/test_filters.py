"""Classical filters: by hand, against scikit-image, and on phantoms whose truth is known."""

import math

import numpy as np
import pytest
from skimage.restoration import denoise_nl_means

from medrestore import rng
from medrestore.checks import InputError
from medrestore.metrics.fidelity import psnr
from medrestore.solvers.filters import (
    ValidationPair,
    estimate_noise,
    gaussian_filter,
    non_local_means,
    tune,
)


def phantom() -> np.ndarray:
    """Two boxes in air, piecewise constant."""
    image = np.zeros((40, 40, 4), dtype=np.float32)
    image[6:34, 6:34] = 1.0
    image[12:24, 14:30] = 2.0
    return image


def noisy(image: np.ndarray, sigma: float = 0.2, seed: int = 0) -> np.ndarray:
    noise = rng.generator(seed, "noise").standard_normal(image.shape)
    return (image + sigma * noise).astype(np.float32)


def test_gaussian_of_a_point_is_the_gaussian_in_mm():
    point = np.zeros((25, 25, 25))
    point[12, 12, 12] = 1
    smooth = gaussian_filter(point, fwhm_mm=8.0, voxel_size_mm=(2.0, 2.0, 4.0))
    assert smooth.dtype == np.float32
    x, y, z = np.meshgrid(*(size * (np.arange(25) - 12) for size in (2.0, 2.0, 4.0)), indexing="ij")
    expected = 0.5 ** ((x**2 + y**2 + z**2) / 4.0**2)  # one half at half the width from the center
    expected /= expected.sum()
    # The kernel is cut off at 4 standard deviations, where 6e-5 of its mass is lost along each axis.
    np.testing.assert_allclose(smooth, expected, rtol=2e-4, atol=2e-6)


def test_gaussian_of_width_zero_changes_nothing():
    image = noisy(phantom())
    np.testing.assert_array_equal(gaussian_filter(image, fwhm_mm=0.0, voxel_size_mm=(2, 2, 3)), image)


@pytest.mark.parametrize("sigma", [0.02, 0.1])
def test_noise_is_estimated_beside_edges_and_a_ramp(sigma):
    image = phantom()
    image += np.linspace(0, 1, 40, dtype=np.float32)[:, None, None] * (image > 0)
    # Median absolute deviation over some 3,000 correlated voxels: about 3 %; edges add as much.
    assert estimate_noise(noisy(image, sigma)) == pytest.approx(sigma, rel=0.12)


def test_noise_of_a_constant_is_zero():
    assert estimate_noise(np.full((5, 5, 2), 3.0)) == 0
    assert estimate_noise(np.zeros((5, 5, 2))) == 0


@pytest.mark.parametrize("dimensions", [2, 3])
def test_non_local_means_is_scikit_images_with_a_decay_in_units_of_noise(dimensions):
    degraded = noisy(phantom())
    options = {"patch_size": 3, "patch_distance": 2, "h": 1.5 * estimate_noise(degraded), "fast_mode": True}
    if dimensions == 3:
        expected = denoise_nl_means(degraded, **options)
    else:
        expected = np.stack([denoise_nl_means(degraded[:, :, z].copy(), **options) for z in range(4)], axis=2)
    clean = non_local_means(degraded, strength=1.5, dimensions=dimensions, patch_size=3, patch_distance=2)
    np.testing.assert_array_equal(clean, expected)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_non_local_means_gains_on_a_phantom(dimensions):
    target = phantom()
    degraded = noisy(target)
    clean = non_local_means(degraded, strength=1.0, dimensions=dimensions, patch_size=3, patch_distance=4)
    assert clean.dtype == np.float32
    assert clean.shape == target.shape
    gain = psnr(clean, target, data_range=2.0) - psnr(degraded, target, data_range=2.0)
    assert gain > 5  # averaging four voxels alike would give 6 dB


def test_non_local_means_scales_with_the_image():
    degraded = noisy(phantom())
    options = {"strength": 1.0, "patch_size": 3, "patch_distance": 3}
    scaled = non_local_means(degraded * np.float32(1024), **options) / np.float32(1024)
    # The decay follows the noise; scikit-image works in single precision.
    np.testing.assert_allclose(scaled, non_local_means(degraded, **options), rtol=1e-4, atol=1e-5)


def test_slices_alone_do_not_see_their_neighbors():
    degraded = noisy(phantom())
    permuted = non_local_means(degraded[:, :, ::-1], strength=1.0)[:, :, ::-1]
    # The noise estimate is one for the volume and a median, whatever the order.
    np.testing.assert_array_equal(permuted, non_local_means(degraded, strength=1.0))


def test_image_without_noise_comes_back():
    image = np.ones((8, 8, 2), dtype=np.float32)
    clean = non_local_means(image, strength=1.0)
    np.testing.assert_array_equal(clean, image)
    assert clean is not image


def test_tuning_finds_the_best_mean_over_pairs():
    pairs = [
        ValidationPair(np.zeros((2, 2, 2)), np.full((2, 2, 2), value), data_range=1.0) for value in (0.1, 0.3)
    ]
    tuning = tune([0.0, 0.15, 0.9], pairs, restore=lambda degraded, offset: degraded + offset)
    # Errors by hand: 0.1 and 0.3, 0.05 and 0.15, 0.8 and 0.6; PSNR is -20 log10 of each.
    expected = [-10 * math.log10(a * b) for a, b in ((0.1, 0.3), (0.05, 0.15), (0.8, 0.6))]
    assert tuning.best == 0.15
    assert tuning.mean_psnr == pytest.approx(expected)


def test_tuning_a_filter_prefers_the_width_that_fits_the_noise():
    target = phantom()
    widths = [0.0, 3.0, 30.0]

    def best(sigma: float) -> float:
        pairs = [ValidationPair(noisy(target, sigma, seed), target, 2.0) for seed in range(2)]
        return tune(
            widths, pairs, restore=lambda x, fwhm: gaussian_filter(x, fwhm_mm=fwhm, voxel_size_mm=(2, 2, 3))
        ).best

    assert best(0.01) == 0.0
    assert best(0.5) == 3.0


def test_bad_input_is_refused():
    image = phantom()
    bad = image.copy()
    bad[0, 0, 0] = np.nan
    for restore in (
        lambda x: gaussian_filter(x, fwhm_mm=4.0, voxel_size_mm=(2, 2, 2)),
        lambda x: non_local_means(x, strength=1.0),
        estimate_noise,
    ):
        with pytest.raises(InputError, match=r"of shape \(X, Y, Z\), got \(40, 40\)"):
            restore(image[:, :, 0])
        with pytest.raises(InputError, match="must be finite, got 1 NaN or infinite voxels"):
            restore(bad)
    with pytest.raises(InputError, match="at least 3 x 3 to estimate their noise"):
        estimate_noise(image[:2])
    with pytest.raises(InputError, match=r"fwhm_mm must be in \[0, inf\), got -1"):
        gaussian_filter(image, fwhm_mm=-1.0, voxel_size_mm=(2, 2, 2))
    with pytest.raises(InputError, match=r"three positive numbers, got \(2, 2\)"):
        gaussian_filter(image, fwhm_mm=4.0, voxel_size_mm=(2, 2))
    with pytest.raises(InputError, match=r"strength must be in \(0, inf\), got 0"):
        non_local_means(image, strength=0.0)
    with pytest.raises(InputError, match="dimensions must be one of 2, 3, got 4"):
        non_local_means(image, strength=1.0, dimensions=4)
    with pytest.raises(InputError, match="patch_size must be in"):
        non_local_means(image, strength=1.0, patch_size=0)
    with pytest.raises(InputError, match="patch_distance must be in"):
        non_local_means(image, strength=1.0, patch_distance=0)
    with pytest.raises(InputError, match="tuning needs a candidate and a pair, got 1 and 0"):
        tune([1.0], [], restore=lambda x, _: x)
