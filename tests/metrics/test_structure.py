"""MS-mSSIM against scikit-image scale by scale, QILV against plain loops, both against what they are for."""

import math
import time

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.data import immunohistochemistry
from skimage.metrics import structural_similarity
from skimage.transform import downscale_local_mean

from medrestore import rng
from medrestore.checks import InputError
from medrestore.metrics.structure import ms_mssim, qilv

ROUNDING = 1e-12
"""Both sides are in double precision and of order 1; variances lose a few digits to cancellation."""


@pytest.fixture(scope="module")
def section() -> np.ndarray:
    """A real section, 192 x 192."""
    picture: np.ndarray = immunohistochemistry()[100:292, 200:392]
    return picture


def noisy(picture: np.ndarray, sd: float) -> np.ndarray:
    noise = sd * rng.generator(0, "noise").standard_normal(picture.shape)
    return np.clip(picture + noise, 0, 255)


def blurred(picture: np.ndarray, sigma: float) -> np.ndarray:
    return gaussian_filter(picture.astype(float), (sigma, sigma, 0))


@pytest.mark.parametrize("scales", [1, 2, 5])
def test_ms_mssim_is_the_mean_of_scikit_images_ssim_over_scales(section, scales):
    restored = noisy(blurred(section, 0.7), 5)
    a, b, similarities = restored, section.astype(float), []
    for scale in range(scales):
        if scale:
            a, b = downscale_local_mean(a, (2, 2, 1)), downscale_local_mean(b, (2, 2, 1))
        similarities.append(
            structural_similarity(
                b,
                a,
                data_range=255,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                channel_axis=-1,
            )
        )
    expected = sum(similarities) / scales
    assert ms_mssim(restored, section, data_range=255, scales=scales) == pytest.approx(expected, abs=ROUNDING)


def test_ms_mssim_of_channels_is_the_mean_of_gray_images(section):
    restored = noisy(section, 12)
    gray = [ms_mssim(restored[..., c], section[..., c], data_range=255) for c in range(3)]
    assert ms_mssim(restored, section, data_range=255) == pytest.approx(np.mean(gray), abs=ROUNDING)


def test_ms_mssim_leaves_out_an_odd_row_and_column_of_the_next_scale():
    random = rng.generator(1, "odd")
    a, b = random.random((45, 47)), random.random((45, 47))
    fine = ms_mssim(a, b, data_range=1, scales=1)
    half_a, half_b = (downscale_local_mean(image[:44, :46], (2, 2)) for image in (a, b))
    coarse = ms_mssim(half_a, half_b, data_range=1, scales=1)
    assert ms_mssim(a, b, data_range=1, scales=2) == pytest.approx((fine + coarse) / 2, abs=ROUNDING)


def test_eight_bit_images_are_what_their_values_are(section):
    restored = noisy(section, 20).round().astype(np.uint8)
    for a, b in ((restored, section), (restored.astype(np.float32), section.astype(np.float64))):
        # Whole numbers up to 255 are exact in all three types.
        assert ms_mssim(a, b, data_range=255) == ms_mssim(restored, section, data_range=255)
        assert qilv(a, b) == qilv(restored, section)


def qilv_by_loops(restored: np.ndarray, target: np.ndarray, window: int, sigma: float) -> float:
    """The equation, pixel by pixel, of one channel."""
    reach = window // 2
    offsets = [(i, j) for i in range(-reach, reach + 1) for j in range(-reach, reach + 1)]
    weights = [math.exp(-(i * i + j * j) / (2 * sigma**2)) for i, j in offsets]
    maps = []
    for image in (restored, target):
        variances = []
        for row in range(reach, image.shape[0] - reach):
            for column in range(reach, image.shape[1] - reach):
                values = [float(image[row + i, column + j]) for i, j in offsets]
                mean = sum(w * x for w, x in zip(weights, values, strict=True)) / sum(weights)
                squares = sum(w * (x - mean) ** 2 for w, x in zip(weights, values, strict=True))
                variances.append(squares / sum(weights))
        maps.append(variances)
    v, w = maps
    n = len(v)
    m1, m2 = sum(v) / n, sum(w) / n
    s1, s2 = (math.sqrt(sum((x - m) ** 2 for x in values) / n) for values, m in ((v, m1), (w, m2)))
    covariance = sum((x - m1) * (y - m2) for x, y in zip(v, w, strict=True)) / n
    luminance = 2 * m1 * m2 / (m1**2 + m2**2)
    contrast = 2 * s1 * s2 / (s1**2 + s2**2)
    return luminance * contrast * covariance / (s1 * s2)


@pytest.mark.parametrize(("window", "sigma"), [(11, 1.5), (5, 1.0)])
def test_qilv_is_its_equation(section, window, sigma):
    target = section[:24, :20]
    restored = noisy(target, 15)
    loops = [qilv_by_loops(restored[..., c], target[..., c], window, sigma) for c in range(3)]
    for channel in range(3):
        gray = qilv(restored[..., channel], target[..., channel], window=window, sigma=sigma)
        # The loop has no cancellation; ours subtracts squares near 1e4 for variances near 1e2.
        assert gray == pytest.approx(loops[channel], rel=1e-10)
    whole = qilv(restored, target, window=window, sigma=sigma)
    assert whole == pytest.approx(sum(loops) / 3, rel=1e-10)
    assert len({round(value, 3) for value in loops}) == 3  # channels that differ: none is forgotten


def test_qilv_knows_no_unit_no_offset_and_no_order(section):
    restored, target = noisy(section, 10), section.astype(float)
    value = qilv(restored, target)
    assert 0 < value < 1
    assert qilv(restored / 255, target / 255) == pytest.approx(value, rel=1e-10)
    assert qilv(restored + 1000, target) == pytest.approx(value, rel=1e-8)  # 1000**2 costs six digits
    assert qilv(target, restored) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("color", [(255, 255, 255), (0.1, 0.2, 0.7)])
def test_qilv_of_flat_images(section, color):
    flat = np.full((32, 32, 3), color)
    assert qilv(flat, flat) == 1  # both agree that there is nothing
    assert qilv(flat, 0.5 * flat) == 1  # a variance knows no level
    assert qilv(flat, section[:32, :32]) == 0
    assert qilv(section[:32, :32], flat) == 0
    half = section[:32, :32].astype(float)
    half[..., 0] = 7.3
    assert qilv(flat, half) == pytest.approx(1 / 3, rel=1e-12)  # one of three channels agrees


def test_qilv_of_a_ramp_takes_no_rounding_for_structure():
    ramp = np.add.outer(np.arange(64.0), 0.3 * np.arange(64.0)) + 0.1
    # Local variance is the same everywhere: 1.09 times that of the window, and four times as much at twice
    # the slope, so means alone tell: 2 * 4 / (1 + 16).
    assert qilv(ramp, ramp) == 1
    assert qilv(2 * ramp, ramp) == pytest.approx(8 / 17, rel=1e-9)
    assert qilv(ramp, np.square(np.arange(4096.0)).reshape(64, 64) % 7) == 0


def test_qilv_falls_faster_with_blur_and_ssim_with_noise(section):
    """What the two are for: of one blurred and one noisy image each prefers another."""
    soft, rough = blurred(section, 1.0), noisy(section, 12)
    assert ms_mssim(soft, section, data_range=255) > ms_mssim(rough, section, data_range=255)
    assert qilv(soft, section) < qilv(rough, section)
    for measure in (lambda x: ms_mssim(x, section, data_range=255), lambda x: qilv(x, section)):
        for damage, amounts in ((blurred, (0.5, 1, 2)), (noisy, (5, 20, 60))):
            values = [measure(damage(section, amount)) for amount in amounts]
            assert 1 > values[0] > values[1] > values[2]


MEASURES = [lambda a, b: ms_mssim(a, b, data_range=255), qilv]


@pytest.mark.parametrize("measure", MEASURES)
def test_equal_images_reach_one(section, measure):
    assert measure(section, section) == pytest.approx(1, abs=ROUNDING)
    assert measure(section[..., 1], section[..., 1]) == pytest.approx(1, abs=ROUNDING)


@pytest.mark.parametrize("measure", MEASURES)
def test_bad_input_is_refused(section, measure):
    with pytest.raises(InputError, match=r"restored \(192, 192\), target \(192, 192, 3\)"):
        measure(section[..., 0], section)
    for bad in (section[..., :2], np.zeros((192, 192, 4)), section[0, :, 0], section[None]):
        with pytest.raises(InputError, match=r"\(H, W\) or \(H, W, 3\), got"):
            measure(bad, bad)
    image = section.astype(float)
    image[3, 4, 1] = np.nan
    with pytest.raises(InputError, match="restored must be finite"):
        measure(image, section)
    with pytest.raises(InputError, match="target must be finite"):
        measure(section, image)


def test_too_small_images_and_settings_out_of_range_are_refused(section):
    with pytest.raises(InputError, match=r"at least 176 x 176 for 5 scales, got \(175, 192\)"):
        ms_mssim(section[:175], section[:175], data_range=255)
    ms_mssim(section[:176, :176], section[:176, :176], data_range=255)
    with pytest.raises(InputError, match=r"scales must be in \[1, inf\], got 0"):
        ms_mssim(section, section, data_range=255, scales=0)
    with pytest.raises(InputError, match=r"data_range must be in \(0, inf\), got 0"):
        ms_mssim(section, section, data_range=0)
    with pytest.raises(InputError, match=r"at least 12 x 12 for a window of 11, got \(11, 192\)"):
        qilv(section[:11], section[:11])
    with pytest.raises(InputError, match="window must be odd, got 10"):
        qilv(section, section, window=10)
    with pytest.raises(InputError, match="sigma must be in"):
        qilv(section, section, sigma=0)


def test_tens_of_thousands_of_tiles_can_be_measured(section):
    """About 25 ms for MS-mSSIM and 20 ms for QILV on one core; a loop over pixels would take seconds."""
    tile = np.pad(section, ((0, 64), (0, 64), (0, 0)), mode="reflect")
    for measure in MEASURES:
        times = []
        for _ in range(3):
            start = time.perf_counter()
            measure(tile, tile)
            times.append(time.perf_counter() - start)
        assert min(times) < 0.25
