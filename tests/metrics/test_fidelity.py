"""Fidelity metrics against scikit-image and by hand."""

import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from medrestore import rng
from medrestore.checks import InputError
from medrestore.metrics.fidelity import local_mean, nrmse, psnr, rmse, rrmse, ssim


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    random = rng.generator(0, "pair")
    target = random.random((24, 20, 5)).astype(np.float32)
    return (target + 0.1 * random.standard_normal(target.shape)).astype(np.float32), target


def test_psnr_equals_scikit_image(pair):
    restored, target = pair
    expected = peak_signal_noise_ratio(target.astype(np.float64), restored.astype(np.float64), data_range=1.7)
    assert psnr(restored, target, data_range=1.7) == pytest.approx(
        expected, rel=1e-12
    )  # both in double precision


def test_psnr_rises_by_twenty_decibels_for_a_tenth_of_the_error():
    target = np.ones((3, 4))
    assert psnr(target + 0.01, target, data_range=1.0) == pytest.approx(40)
    assert psnr(target + 0.01, target, data_range=10.0) == pytest.approx(60)
    assert psnr(target, target, data_range=1.0) == math.inf


def test_rmse_and_nrmse_by_hand():
    target, restored = np.array([[1.0, 2.0, 3.0, 6.0]]), np.array([[2.0, 2.0, 1.0, 4.0]])
    assert rmse(restored, target) == 1.5  # sqrt((1 + 0 + 4 + 4) / 4)
    assert nrmse(restored, target) == 0.5  # the target's mean is 3
    mask = np.array([[True, True, False, False]])
    assert rmse(restored, target, mask=mask) == pytest.approx(math.sqrt(0.5))
    assert nrmse(restored, target, mask=mask) == pytest.approx(math.sqrt(0.5) / 1.5)
    assert psnr(restored, target, data_range=1.0, mask=mask) == pytest.approx(10 * math.log10(2))


def test_rrmse_by_hand():
    target, restored = np.array([[2.0, 3.0, 6.0]]), np.array([[2.0, 2.0, 6.0]])
    assert rrmse(restored, target) == pytest.approx(1 / 7)  # |target| = sqrt(4 + 9 + 36)
    assert rrmse(restored, target, mask=np.array([[False, True, False]])) == pytest.approx(1 / 3)
    assert rrmse(target, target) == 0
    with pytest.raises(InputError, match="must not be zero everywhere"):
        rrmse(restored, 0 * target)


def test_rrmse_of_color_images_takes_all_channels_and_no_unsigned_difference():
    random = rng.generator(2, "color")
    target = random.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    restored = random.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    above = below = 0
    for a, b in zip(restored.ravel().tolist(), target.ravel().tolist(), strict=True):
        above, below = above + (a - b) ** 2, below + b**2
    assert rrmse(restored, target) == pytest.approx(math.sqrt(above / below), rel=1e-12)  # double precision
    scaled = rrmse(restored / 255, target / 255)
    assert scaled == pytest.approx(rrmse(restored, target), rel=1e-12)  # the unit cancels


def test_local_mean_is_the_gaussian_of_the_definition():
    image = rng.generator(3, "window").random((9, 8, 2))
    weights = [math.exp(-(x**2) / (2 * 0.8**2)) for x in (-1, 0, 1)]
    kernel = np.outer(weights, weights) / sum(weights) ** 2
    mean = local_mean(image, window=3, sigma=0.8)
    for row in range(1, 8):
        for column in range(1, 7):
            for channel in range(2):
                around = image[row - 1 : row + 2, column - 1 : column + 2, channel]
                # Sums of nine numbers below 1 in double precision.
                assert mean[row, column, channel] == pytest.approx((kernel * around).sum(), abs=1e-14)
    with pytest.raises(InputError, match="window must be odd, got 4"):
        local_mean(image, window=4, sigma=1.0)
    with pytest.raises(InputError, match=r"window must be in \[1, inf\], got -1"):
        local_mean(image, window=-1, sigma=1.0)
    with pytest.raises(InputError, match=r"sigma must be in \(0, inf\), got 0"):
        local_mean(image, window=3, sigma=0)


def skimage_maps(
    restored: np.ndarray, target: np.ndarray, data_range: float
) -> list[tuple[float, np.ndarray]]:
    return [
        structural_similarity(
            target[:, :, z].astype(np.float64),
            restored[:, :, z].astype(np.float64),
            data_range=data_range,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )
        for z in range(target.shape[2])
    ]


def test_ssim_equals_scikit_image_slice_by_slice(pair):
    restored, target = pair
    maps = skimage_maps(restored, target, 1.3)
    # Both in double precision; variances are differences of moments near 0.3.
    assert ssim(restored, target, data_range=1.3) == pytest.approx(
        np.mean([mean for mean, _ in maps]), abs=1e-12
    )
    single = ssim(restored[:, :, 2], target[:, :, 2], data_range=1.3)
    assert single == pytest.approx(maps[2][0], abs=1e-12)


def test_ssim_within_a_mask_averages_the_similarity_map(pair):
    restored, target = pair
    mask = target > 0.4
    mask[:, :, 1] = False
    similarity = np.stack([image for _, image in skimage_maps(restored, target, 1.0)], axis=-1)
    assert ssim(restored, target, data_range=1.0, mask=mask) == pytest.approx(
        similarity[mask].mean(), abs=1e-12
    )


def test_ssim_knows_no_neighboring_slice(pair):
    restored, target = pair
    mask = np.zeros(target.shape, dtype=bool)
    mask[:, :, 2] = True
    changed = restored.copy()
    changed[:, :, [1, 3]] = 0
    assert ssim(changed, target, data_range=1.0, mask=mask) == ssim(
        restored, target, data_range=1.0, mask=mask
    )


METRICS = [
    lambda a, b, **options: psnr(a, b, data_range=1.0, **options),
    lambda a, b, **options: ssim(a, b, data_range=1.0, **options),
    rmse,
    nrmse,
    rrmse,
]


@pytest.mark.parametrize("metric", METRICS)
def test_bad_input_is_refused(metric):
    image = np.ones((12, 12, 2))
    with pytest.raises(InputError, match=r"restored \(12, 12, 2\), target \(12, 12\)"):
        metric(image, image[:, :, 0])
    with pytest.raises(InputError, match=r"of shape \(X, Y\) or \(X, Y, Z\), got \(12,\)"):
        metric(image[:, 0, 0], image[:, 0, 0])
    bad = image.copy()
    bad[3, 4, 1], bad[0, 0, 0] = np.nan, np.inf
    with pytest.raises(InputError, match="restored must be finite, got 2 NaN or infinite voxels"):
        metric(bad, image)
    with pytest.raises(InputError, match="target must be finite"):
        metric(image, bad)
    with pytest.raises(InputError, match="mask are empty"):
        metric(image, image, mask=image < 0)
    with pytest.raises(InputError, match="mask must be boolean, got float64"):
        metric(image, image, mask=image)
    with pytest.raises(InputError, match=r"mask \(12, 12\), target \(12, 12, 2\)"):
        metric(image, image, mask=image[:, :, 0] > 0)


def test_ssim_refuses_what_its_windows_would_see_outside_the_mask():
    image = np.ones((12, 12))
    bad = image.copy()
    bad[0, 0] = np.nan
    with pytest.raises(InputError, match="restored must be finite"):
        ssim(bad, image, data_range=1.0, mask=np.arange(144).reshape(12, 12) > 0)
    assert rmse(bad, image, mask=np.arange(144).reshape(12, 12) > 0) == 0


def test_range_and_size_are_refused():
    image = np.ones((12, 12))
    for metric in (psnr, ssim):
        with pytest.raises(InputError, match=r"data_range must be in \(0, inf\), got 0"):
            metric(image, image, data_range=0.0)
    with pytest.raises(InputError, match=r"at least 11 x 11 for SSIM, got \(10, 12\)"):
        ssim(image[:10], image[:10], data_range=1.0)
    with pytest.raises(InputError, match="target's mean must be positive"):
        nrmse(image, -image)
