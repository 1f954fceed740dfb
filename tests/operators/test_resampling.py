"""Resampling: against obvious loops, scipy and torch; centers stay where they are."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter1d

from medrestore.checks import InputError
from medrestore.operators.resampling import (
    KERNELS,
    GaussianSubsampling,
    KernelSubsampling,
    enlarge,
)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def mirrored(place: int, size: int) -> int:
    """Walk back from the end that a place lies beyond, the last sample counted twice."""
    while not 0 <= place < size:
        place = -1 - place if place < 0 else 2 * size - 1 - place
    return place


def slowly(vector: np.ndarray, scale: int, sigma: float) -> np.ndarray:
    """Smooth and subsample one number after another."""
    reach = max(4 * sigma, scale / 2)
    reduced = []
    for block in range(len(vector) // scale):
        center = scale * block + (scale - 1) / 2
        total = weight = 0.0
        for place in range(-200, len(vector) + 200):
            if abs(place - center) <= reach:
                density = np.exp(-((place - center) ** 2) / (2 * sigma**2))
                total += density * vector[mirrored(place, len(vector))]
                weight += density
        reduced.append(total / weight)
    return np.array(reduced)


@pytest.mark.parametrize(
    ("size", "scale", "sigma"),
    [(24, 4, 2.0), (24, 4, 0.3), (8, 4, 5.0), (9, 3, 1.0), (7, 1, 1.5), (4, 4, 20.0), (10, 2, 1.0)],
)
def test_matrix_does_what_a_loop_does(size, scale, sigma):
    vector = np.random.default_rng(1).standard_normal(size)
    matrix = GaussianSubsampling(scale=scale, sigma=sigma).matrix(size)
    # float32 weights: relative error 6e-8 each, of values up to about 3.
    np.testing.assert_allclose(matrix @ vector, slowly(vector, scale, sigma), atol=1e-6)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.25])
def test_odd_scale_is_scipys_smoothing_at_the_centers(sigma):
    vector = np.random.default_rng(2).standard_normal(45)
    smooth = gaussian_filter1d(vector, sigma, mode="reflect", radius=int(4 * sigma))
    np.testing.assert_allclose(
        GaussianSubsampling(scale=3, sigma=sigma).matrix(45) @ vector, smooth[1::3], atol=1e-6
    )


def test_low_resolution_pixels_lie_at_the_centers_of_their_blocks():
    ramp = np.arange(64, dtype=np.float32)
    reduced = GaussianSubsampling().matrix(64) @ ramp
    # A symmetric kernel keeps a ramp; two blocks from the ends no mirrored sample is met (reach 8).
    np.testing.assert_allclose(reduced[2:-2], 4 * np.arange(2, 14) + 1.5, atol=1e-5)


@pytest.mark.parametrize("method", ["bicubic", "lanczos"])
def test_enlarged_again_nothing_is_shifted(method):
    ramp = np.tile(np.arange(0, 256, 2, dtype=np.uint8)[:, None, None], (1, 64, 3))  # 2 levels a pixel
    for image in (ramp, ramp.swapaxes(0, 1)):
        again = enlarge(GaussianSubsampling().picture(image), scale=4, method=method)
        inside = (slice(24, -24),) * 2
        # A shift by half a pixel would be 1 level everywhere; rounding to 8 bits twice is at most 1 anywhere.
        difference = again[inside].astype(float) - image[inside]
        assert abs(difference.mean()) < 0.1
        assert abs(difference).max() <= 1


def test_tensor_agrees_with_torchs_enlargement_in_place():
    ramp = torch.arange(64.0).repeat(1, 3, 64, 1)
    reduced = GaussianSubsampling()(ramp)
    again = torch.nn.functional.interpolate(reduced, scale_factor=4, mode="bilinear", align_corners=False)
    torch.testing.assert_close(again[..., 12:-12], ramp[..., 12:-12], atol=1e-4, rtol=0)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("scale", [2, 4, 5])
def test_kernels_are_pillows_away_from_borders(kernel, scale):
    image = 64 + picture(16 * scale, 14 * scale) // 2  # Pillow limits to the range; this stays in it
    method = {name: getattr(Image.Resampling, name.upper()) for name in KERNELS}[kernel]
    expected = np.asarray(Image.fromarray(image).resize((14, 16), method)).astype(float)
    found = KernelSubsampling(kernel, scale).reduced(image)
    inside = (slice(3, -3),) * 2  # the widest kernel reaches three low-resolution pixels
    # Pillow rounds after either axis: half a level, times the widest kernel's absolute sum of 1.3, and half.
    assert np.abs(found - expected)[inside].max() < 0.5 * 1.3 + 0.5 + 0.01


def test_box_is_the_mean_of_blocks():
    image = picture(8, 12)
    expected = image.reshape(2, 4, 3, 4, 3).mean(axis=(1, 3))
    # float32 sums of 16 numbers up to 255.
    np.testing.assert_allclose(KernelSubsampling("box").reduced(image), expected, atol=1e-4)


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_keep_a_ramp_and_strips_are_the_whole(kernel):
    operator = KernelSubsampling(kernel)
    reduced = operator.matrix(64) @ np.arange(64, dtype=np.float32)
    np.testing.assert_allclose(reduced[3:-3], 4 * np.arange(3, 13) + 1.5, atol=1e-4)
    image, halo = picture(96, 40), operator.halo
    part = operator.picture(image[4 * (8 - halo) : 4 * (16 + halo)])[halo : halo + 8]
    np.testing.assert_array_equal(part, operator.picture(image)[8:16])


def test_picture_is_reduced_channel_by_channel_and_rounded():
    image = picture(16, 24)
    rows, columns = (GaussianSubsampling().matrix(size).toarray() for size in (16, 24))
    exact = np.stack([rows @ image[..., channel] @ columns.T for channel in range(3)], axis=-1)
    reduced = GaussianSubsampling().picture(image)
    assert reduced.shape == (4, 6, 3)
    assert reduced.dtype == np.uint8
    assert np.abs(reduced - exact).max() <= 0.5 + 1e-4


def test_white_stays_white_and_black_black():
    for level in (0, 255):
        assert (GaussianSubsampling().picture(np.full((8, 8, 3), level, np.uint8)) == level).all()


def test_strips_with_a_halo_are_the_whole_bit_for_bit():
    image = picture(96, 40)
    operator = GaussianSubsampling(scale=4, sigma=2.0)
    whole, halo = operator.picture(image), operator.halo
    strips = []
    for first in range(0, 24, 8):  # low-resolution rows, with a halo of 3: reach 8
        top, bottom = max(first - halo, 0), min(first + 8 + halo, 24)
        reduced = operator.picture(image[4 * top : 4 * bottom])
        strips.append(reduced[first - top : first - top + 8])
    np.testing.assert_array_equal(np.concatenate(strips), whole)


def test_bicubic_is_that_of_torch():
    image = 64 + picture(12, 15) // 2  # Pillow limits to the range after either axis; this stays in it
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    # With antialias torch takes the kernel of Pillow (a = -0.5).
    expected = torch.nn.functional.interpolate(tensor, scale_factor=4, mode="bicubic", antialias=True)
    difference = enlarge(image, scale=4) - expected[0].permute(1, 2, 0).numpy()
    # Pillow rounds after either axis: half a level, times the kernel's absolute sum of 1.27, and half.
    assert np.abs(difference).max() < 0.5 * 1.27 + 0.5 + 0.01


def test_lanczos_is_three_lobes_of_the_windowed_sinc():
    image = np.zeros((15, 1, 3), np.uint8)
    image[7] = 200
    enlarged = enlarge(image, scale=4, method="lanczos")[:, 2, 0]
    distance = (np.arange(60) - (4 * 7 + 1.5)) / 4
    expected = np.where(abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0)
    # Weights are normalized to 1 at every place: within 1 % of what they are, 2 levels of 200.
    assert np.abs(enlarged - np.clip(200 * expected, 0, 255)).max() < 2.5


def test_wrong_input_is_refused():
    with pytest.raises(InputError, match="multiple of the scale 4, got 10"):
        GaussianSubsampling().picture(picture(8, 10))
    for scale in (0, -4):
        with pytest.raises(InputError, match="scale must be in"):
            GaussianSubsampling(scale=scale)
    for sigma in (0, 1e-300, math.nan, 1e9):  # of 1e-300 nothing is left between the samples
        with pytest.raises(InputError, match=r"sigma must be in \[0.1, 1000.0\], got"):
            GaussianSubsampling(sigma=sigma)
    with pytest.raises(InputError, match=r"must be \(H, W, C\) uint8, got \(8, 8, 3\) float64"):
        GaussianSubsampling().picture(np.zeros((8, 8, 3)))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="kernel must be one of 'box', 'bicubic', 'lanczos', got 'nearest'"):
        KernelSubsampling("nearest")
    with pytest.raises(InputError, match="method must be one of 'bicubic', 'lanczos', got 'nearest'"):
        enlarge(picture(4, 4), scale=4, method="nearest")
    with pytest.raises(InputError, match="3 channels, got 1"):
        enlarge(np.zeros((4, 4, 1), np.uint8), scale=4)
