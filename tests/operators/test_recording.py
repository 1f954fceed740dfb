"""Recorded images: noise, JPEG, names and ranges, against Pillow and what is worked out by hand."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from medrestore.checks import InputError
from medrestore.operators.recording import (
    BLIND_SET,
    REDUCTIONS,
    DegradationRange,
    RecordedSubsampling,
    degradation_called,
    degraded_batch,
)
from medrestore.operators.resampling import GaussianSubsampling, KernelSubsampling

ALL = DegradationRange(noise_fraction=0.5, jpeg_fraction=0.5, seed=3)


def picture(height: int = 64, width: int = 96, seed: int = 0) -> np.ndarray:
    smooth = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3)).astype(np.uint8)
    return smooth.repeat(8, 0).repeat(8, 1)


def test_jpeg_is_pillows_of_the_reduced_picture():
    low = GaussianSubsampling().picture(picture())
    stream = BytesIO()
    Image.fromarray(low).save(stream, format="JPEG", quality=70)
    found = RecordedSubsampling(GaussianSubsampling(), jpeg_quality=70).picture(picture())
    np.testing.assert_array_equal(found, np.asarray(Image.open(stream)))
    assert (found != low).any()


def test_noise_has_its_deviation_and_belongs_to_the_image():
    operator = RecordedSubsampling(GaussianSubsampling(), noise_sd=5)
    gray = np.full((512, 512, 3), 128, np.uint8)
    noise = operator.picture(gray).astype(float) - 128
    # 49,152 values: the deviation is known to 5 / sqrt(2 * 49,152) = .016; rounding adds 1/12 of variance.
    assert noise.std() == pytest.approx(np.sqrt(25 + 1 / 12), abs=4 * 0.016)
    assert abs(noise.mean()) < 4 * 5 / np.sqrt(noise.size)
    np.testing.assert_array_equal(operator.picture(gray), operator.picture(gray))
    other = operator.picture(gray + 1).astype(float) - 129
    assert np.corrcoef(noise.ravel(), other.ravel())[0, 1] < 0.05  # 10 standard errors of 1 / sqrt(49,152)


def test_tensor_is_what_the_picture_is():
    image = picture()
    tensor = torch.from_numpy(image).movedim(-1, 0)[None].float() / 255
    quiet = RecordedSubsampling(KernelSubsampling("box"), jpeg_quality=80)
    found = quiet(tensor)[0].movedim(0, -1).mul(255).numpy()
    np.testing.assert_allclose(found, quiet.picture(image), atol=1e-3)


@pytest.mark.parametrize("name", [*BLIND_SET, "bicubic", "gaussian0.75-noise2.5-jpeg95"])
def test_names_lead_to_what_is_called_so(name):
    assert degradation_called(name).name == name
    assert degradation_called(name, scale=2).scale == 2


@pytest.mark.parametrize(
    "name", ["gaussian", "nearest", "box70", "box-jpeg", "jpeg70", "", "box-jpeg70-noise5"]
)
def test_what_is_no_name_is_refused(name):
    with pytest.raises(InputError, match="a degradation must be gaussianSIGMA, box, bicubic, lanczos"):
        degradation_called(name)


def test_draws_are_a_function_of_seed_epoch_and_iteration():
    drawn = ALL.drawn(200, epoch=1, iteration=2)
    assert drawn == ALL.drawn(200, epoch=1, iteration=2)
    assert drawn != ALL.drawn(200, epoch=1, iteration=3)
    assert drawn != ALL.drawn(200, epoch=2, iteration=2)
    assert drawn[1::2] == ALL.drawn(200, epoch=1, iteration=2, share=slice(1, None, 2))
    assert len({one.seed for one in drawn}) == 200


def test_draws_cover_the_range():
    drawn = ALL.drawn(2000, epoch=0, iteration=0)
    kinds = [one.reduction.name.rstrip("0123456789.") for one in drawn]
    # A kind's probability is 1/4: 500 of 2,000, standard deviation 19; that of half of them is 22.
    assert all(abs(kinds.count(kind) - 500) < 5 * 19 for kind in REDUCTIONS)
    sigmas = [one.reduction.sigma for one in drawn if isinstance(one.reduction, GaussianSubsampling)]
    assert 1 <= min(sigmas) < 1.1
    assert 2.9 < max(sigmas) <= 3
    noisy = [one.noise_sd for one in drawn if one.noise_sd]
    assert abs(len(noisy) - 1000) < 5 * 22
    assert 1 <= min(noisy) < 1.1
    assert 7.9 < max(noisy) <= 8
    qualities = [one.jpeg_quality for one in drawn if one.jpeg_quality]
    assert abs(len(qualities) - 1000) < 5 * 22
    assert (min(qualities), max(qualities)) == (50, 95)


def test_an_image_has_its_degradation_by_name():
    assert ALL.of("a") == ALL.of("a")
    assert len({ALL.of(str(number)) for number in range(50)}) > 40
    assert DegradationRange(seed=1).of("a") != DegradationRange(seed=2).of("a")
    assert GaussianSubsampling().of("a") == GaussianSubsampling()


def test_key_makes_the_range_again():
    assert DegradationRange.from_key(ALL.key) == ALL
    with pytest.raises(InputError, match="degradation has no key 'sigmas'; did you mean 'sigma'"):
        DegradationRange.from_key({"sigmas": [1, 2]})


def test_batch_is_what_each_degradation_makes_of_its_target():
    images = [picture(seed=seed) for seed in range(6)]
    targets = torch.stack([torch.from_numpy(image).movedim(-1, 0) for image in images]).float() / 255
    drawn = DegradationRange(jpeg_fraction=0.5, seed=1).drawn(6, epoch=0, iteration=0)
    assert {one.jpeg_quality is None for one in drawn} == {True, False}
    found = degraded_batch(targets, drawn)
    assert found.shape == (6, 3, 16, 24)
    for image, low, one in zip(images, found, drawn, strict=True):
        expected = one.picture(image).astype(int)
        difference = np.abs(low.movedim(0, -1).mul(255).numpy() - expected)
        # Float32 sums in another order: a value on the edge of rounding may be one gray level away, and JPEG
        # of that some levels in its block.
        assert (difference > 0.01).mean() < 0.02
    noisy = [RecordedSubsampling(GaussianSubsampling(), noise_sd=5, seed=seed) for seed in range(6)]
    change = 255 * (degraded_batch(targets, noisy) - GaussianSubsampling()(targets))
    # 6,912 values; those at black and white are cut.
    assert 3.5 < float(change.std()) < 5.3
    with pytest.raises(InputError, match="6 targets need as many degradations, got 5"):
        degraded_batch(targets, noisy[:5])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"reductions": ["gaussian", "nearest"]}, "reductions must be one of"),
        ({"reductions": []}, "reductions must be different kinds"),
        ({"reductions": ["box", "box"]}, "reductions must be different kinds"),
        ({"sigma": [3, 1]}, "sigma must be two numbers, the lower first"),
        ({"sigma": [0, 1]}, "sigma must be in"),
        ({"noise_sd": [0, 500]}, "noise_sd must be in"),
        ({"jpeg_quality": [50, 101]}, "jpeg_quality must be in"),
        ({"jpeg_fraction": 1.5}, "jpeg_fraction must be in"),
        ({"noise_fraction": -1}, "noise_fraction must be in"),
        ({"scale": 0}, "scale must be in"),
    ],
)
def test_ranges_out_of_range_are_refused(options, reason):
    with pytest.raises(InputError, match=reason):
        DegradationRange(**options)
