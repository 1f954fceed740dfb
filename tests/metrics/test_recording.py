"""Sharpness and JPEG told from a picture alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from medrestore.checks import InputError
from medrestore.metrics.recording import blocking, fine_share
from medrestore.operators.recording import jpeg_picture


def texture(side: int = 64, *, sigma: float = 1.0, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, (side, side, 1)).repeat(3, 2)
    smooth = gaussian_filter(noise, (sigma, sigma, 0), mode="wrap")
    return np.clip(np.rint(128 + 30 * smooth / smooth.std()), 0, 255).astype(np.uint8)


def test_share_of_a_wave_is_all_or_nothing():
    place = np.arange(64)
    for cycles, expected in ((4, 0.0), (28, 1.0)):  # 1/16 and 7/16 of a cycle a pixel
        wave = 128 + 100 * np.sin(2 * np.pi * cycles * place / 64)
        picture = np.rint(wave)[:, None, None].repeat(64, 1).repeat(3, 2).astype(np.uint8)
        # Rounding leaves 1/12 of 5,000: what is outside of the wave is less than 1e-4.
        assert fine_share(picture) == pytest.approx(expected, abs=1e-4)
    assert fine_share(np.full((32, 32, 3), 200, np.uint8)) == 0


def test_white_noise_has_the_share_of_the_area_beyond_half_of_nyquist():
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 1)).repeat(3, 2).astype(np.uint8)
    # 1 - pi / 16 of the square of frequencies; 65,536 independent powers: a standard error of .002.
    assert fine_share(noise) == pytest.approx(1 - np.pi / 16, abs=0.01)


def test_blur_lowers_the_share():
    shares = [fine_share(texture(sigma=sigma)) for sigma in (0.5, 1, 2, 3)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 10 * shares[-1]


@pytest.mark.parametrize("sigma", [0.3, 0.7, 1.0, 1.5])
def test_blocks_are_seen_wherever_their_grid_lies(sigma):
    picture = texture(72, sigma=sigma)
    plain = blocking(picture)
    assert plain < 0.12
    values = [blocking(jpeg_picture(picture, quality=quality)) for quality in (95, 80, 50)]
    assert values == sorted(values)
    assert values[-1] > 0.3
    # What is cut off leaves fewer blocks: the value is that of a little less of the picture.
    shifted = blocking(jpeg_picture(picture, quality=50)[3:, 5:])
    assert shifted == pytest.approx(values[-1], abs=0.15)


def test_a_flat_picture_has_no_blocks():
    assert blocking(np.full((64, 64, 3), 200, np.uint8)) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("measure", [blocking, fine_share])
def test_what_is_no_picture_is_refused(measure):
    with pytest.raises(InputError, match="24 pixels a side or more"):
        measure(np.zeros((16, 64, 3), np.uint8))
    with pytest.raises(InputError, match=r"must be \(H, W, 3\) uint8"):
        measure(np.zeros((64, 64, 3)))
