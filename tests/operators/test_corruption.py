"""Corruption: what each kind does, and a plan that depends on names and seed alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from medrestore.checks import InputError
from medrestore.operators.corruption import CORRUPTIONS, STRENGTHS, Corruption, PlannedCorruption, corrupt

TILES = [f"slide-{number % 7}_x{number}_y{3 * number}" for number in range(200)]


def gray(level: int, side: int = 64) -> np.ndarray:
    return np.full((side, side, 3), level, np.uint8)


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (24, 32, 3)).astype(np.uint8)


def test_noise_has_the_stated_deviation_and_no_bias():
    noisy = corrupt(gray(128, 128), "noise", strength=0.1, random=np.random.default_rng(0)).astype(float)
    # 49,152 values of deviation 25.5: the mean's is .115, the deviation's .081; three of each.
    assert abs(noisy.mean() - 128) < 0.35
    assert abs(noisy.std() - 25.5) < 0.25
    # Independent between channels and neighbors: correlation of 16,384 pairs deviates by .008.
    assert abs(np.corrcoef(noisy[..., 0].ravel(), noisy[..., 1].ravel())[0, 1]) < 0.03
    assert abs(np.corrcoef(noisy[:-1, :, 0].ravel(), noisy[1:, :, 0].ravel())[0, 1]) < 0.03


def test_noise_is_limited_to_the_range_without_wrapping():
    noisy = corrupt(gray(250), "noise", strength=0.3, random=np.random.default_rng(0))
    assert noisy.max() == 255
    # 250 + 76.5 z falls below 128 for z < -1.59: 5.6 % of the values; wrapped, 47 % would.
    assert (noisy < 128).mean() < 0.08


def test_blur_is_scipys_of_each_channel():
    image = picture()
    blurred = corrupt(image, "blur", strength=2.5)
    for channel in range(3):
        expected = gaussian_filter(image[..., channel].astype(float), 2.5, mode="reflect")
        assert np.abs(blurred[..., channel] - expected).max() <= 0.5 + 1e-3  # rounding, and float32


def test_contrast_multiplies_the_optical_density():
    image = picture()
    pale = corrupt(image, "contrast", strength=0.4)
    lit = image > 0
    before, after = -np.log10(image[lit] / 255), -np.log10(pale[lit] / 255)
    # Half a level of the pale image, as a density: .5 / (255 ln 10 transmitted), a third more for curvature.
    assert (np.abs(after - 0.4 * before) <= 0.7 / (np.log(10) * pale[lit])).all()
    assert (pale[image == 255] == 255).all()
    np.testing.assert_array_equal(corrupt(image, "contrast", strength=1.0), image)


def test_image_is_left_alone():
    image = picture()
    before = image.copy()
    for kind in CORRUPTIONS:
        corrupt(image, kind, strength=STRENGTHS[kind][1], random=np.random.default_rng(0))
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("fraction", [0, 0.0, 0.05, 0.123, 0.3, 1.0])
def test_exactly_the_fraction_is_corrupted_in_equal_shares(fraction):
    planned = Corruption(fraction=fraction, kinds=["noise", "blur", "contrast"], seed=3).plan(TILES)
    kinds = [tile.kind for tile in planned if tile.kind]
    assert len(kinds) == round(fraction * 200)
    shares = [kinds.count(kind) for kind in CORRUPTIONS]
    assert max(shares) - min(shares) <= 1
    for tile in planned:
        if tile.kind is None:
            assert tile.strength == 0
        else:
            low, high = STRENGTHS[tile.kind]
            assert low <= tile.strength <= high


def test_strengths_fill_their_range():
    planned = Corruption(1.0, ["blur"], seed=0, strengths={"blur": (3.0, 4.0)}).plan(TILES)
    strengths = np.array([tile.strength for tile in planned])
    # 200 uniform draws: the mean deviates by 1 / sqrt(12 * 200) = .02.
    assert 3 <= strengths.min() < 3.05
    assert 3.95 < strengths.max() <= 4
    assert abs(strengths.mean() - 3.5) < 0.07


def test_levels_are_nested():
    plans = [Corruption(level, seed=1).plan(TILES) for level in (0.05, 0.1, 0.3, 0.5)]
    for low, high in pairwise(plans):
        assert all(before in (PlannedCorruption(), after) for before, after in zip(low, high, strict=True))


def test_plan_is_a_function_of_names_and_seed():
    plan = dict(zip(TILES, Corruption(0.3, seed=1).plan(TILES), strict=True))
    turned = TILES[::-1]
    assert dict(zip(turned, Corruption(0.3, seed=1).plan(turned), strict=True)) == plan
    assert dict(zip(TILES, Corruption(0.3, seed=2).plan(TILES), strict=True)) != plan


def test_corrupted_tiles_are_spread_over_slides():
    planned = zip(TILES, Corruption(0.3).plan(TILES), strict=True)
    corrupted = {tile.split("_")[0] for tile, plan in planned if plan.kind}
    assert len(corrupted) == 7  # all slides; that 60 of 200 tiles miss one of seven has odds of 1e-4


def test_apply_is_a_function_of_plan_seed_and_name():
    corruption, image = Corruption(1.0, ["noise"], seed=1), gray(128)
    planned = PlannedCorruption("noise", 0.2)
    first = corruption.apply(image, planned, tile="a")
    np.testing.assert_array_equal(first, corruption.apply(image, planned, tile="a"))
    assert (first != corruption.apply(image, planned, tile="b")).any()
    assert (first != Corruption(1.0, ["noise"], seed=2).apply(image, planned, tile="a")).any()
    assert corruption.apply(image, PlannedCorruption(), tile="a") is image
    expected = corrupt(image, "blur", strength=2.0)
    np.testing.assert_array_equal(corruption.apply(image, PlannedCorruption("blur", 2.0), tile="a"), expected)


def test_wrong_input_is_refused():
    for options, message in (
        ({"fraction": 1.5}, r"fraction must be in \[0, 1\], got 1.5"),
        ({"fraction": float("nan")}, "fraction must be"),
        ({"fraction": 0.1, "kinds": ["fog"]}, "kinds must be one of 'noise', 'blur', 'contrast', got 'fog'"),
        ({"fraction": 0.1, "kinds": []}, "different kinds of corruption"),
        ({"fraction": 0.1, "kinds": ["blur", "blur"]}, "different kinds of corruption"),
        ({"fraction": 0.1, "strengths": {"blurr": (1, 2)}}, "did you mean 'blur'"),
        ({"fraction": 0.1, "strengths": {"blur": (3, 2)}}, r"strengths\['blur'\]\[1\] must be in \[3, inf\]"),
        ({"fraction": 0.1, "strengths": {"contrast": (0.5, 2)}}, r"\[1\] must be in \(0, 1.0\], got 2"),
    ):
        with pytest.raises(InputError, match=message):
            Corruption(**options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="named once each"):
        Corruption(0.1).plan(["a", "a"])
    with pytest.raises(InputError, match="noise needs a generator"):
        corrupt(gray(3), "noise", strength=0.1)
    with pytest.raises(InputError, match="strength must be in"):
        corrupt(gray(3), "blur", strength=0)
    with pytest.raises(InputError, match="kind must be one of"):
        corrupt(gray(3), "fog", strength=1)
    with pytest.raises(InputError, match=r"must be \(H, W, 3\) uint8"):
        corrupt(gray(3)[..., 0], "blur", strength=1)
