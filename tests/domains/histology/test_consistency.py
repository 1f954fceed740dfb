"""What a restoration says of its input: residuals, and what lies outside of a training's range."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from medrestore.domains.histology.consistency import (
    consistency_warnings,
    measured_of,
    range_of,
    recording_of,
    residual_rmse,
)
from medrestore.operators.recording import jpeg_picture
from medrestore.operators.resampling import GaussianSubsampling, KernelSubsampling

GAUSSIAN, BOX = GaussianSubsampling(), KernelSubsampling("box")


def tissue(side: int = 256) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, 1, (side, side, 3))
    smooth = gaussian_filter(noise, (2, 2, 0), mode="wrap")
    return np.clip(np.rint(150 + 40 * smooth / smooth.std()), 0, 255).astype(np.uint8)


def test_residual_is_the_root_of_the_mean_square():
    restored = np.full((8, 8, 3), 100, np.uint8)
    low = np.full((2, 2, 3), 100, np.uint8)
    low[0, 0] = 103
    # Four pixels, one of which is 3 levels off.
    assert residual_rmse(restored, low, [GAUSSIAN]) == pytest.approx(3 / 2, abs=1e-4)  # float32 sums


def test_the_true_image_misses_its_reduction_by_rounding_alone():
    true = tissue()
    # Rounding is uniform in a gray level: 1 / sqrt(12) of .289, known to a part in 100 of 12,288 values.
    assert residual_rmse(true, GAUSSIAN.picture(true), [GAUSSIAN]) == pytest.approx(12**-0.5, rel=0.04)
    assert residual_rmse(true, BOX.picture(true), [GAUSSIAN]) > 2
    assert residual_rmse(true, BOX.picture(true), [GAUSSIAN, BOX]) < 0.3


def test_what_was_not_seen_is_told():
    seen = range_of([recording_of(GaussianSubsampling(4, sigma).picture(tissue())) for sigma in (1.5, 2.5)])
    seen["residual_rmse"] = [0.2, 0.4]
    low = GAUSSIAN.picture(tissue())
    inside = measured_of(tissue(), low, [GAUSSIAN])
    assert set(inside) == {"fine_share", "blocking", "residual_rmse"}
    assert consistency_warnings(inside, seen) == []
    for image, words in (
        (BOX.picture(tissue()), "sharpness"),
        (GaussianSubsampling(4, 5).picture(tissue()), "sharpness"),
        (jpeg_picture(low, quality=60), "blocks of JPEG"),
        (BOX.picture(tissue()), "reduced again, misses of its input"),
    ):
        found = consistency_warnings(measured_of(tissue(), image, [GAUSSIAN]), seen)
        assert any(words in note for note in found), (words, found)
    assert consistency_warnings(inside, {}) == []


def test_small_images_say_nothing_of_their_recording():
    low = GAUSSIAN.picture(tissue(64))
    assert recording_of(low) == {}
    assert set(measured_of(tissue(64), low, [GAUSSIAN])) == {"residual_rmse"}
    assert measured_of(tissue(64), low, []) == {}
