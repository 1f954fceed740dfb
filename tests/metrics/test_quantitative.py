"""Regional uptake, SUVR, agreement and dose equivalent, by hand."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from medrestore import rng
from medrestore.checks import InputError
from medrestore.metrics.quantitative import (
    DoseEquivalent,
    bland_altman,
    composite_suvr,
    dose_equivalent,
    region_means,
)


@pytest.fixture
def labeled() -> tuple[np.ndarray, np.ndarray]:
    random = rng.generator(0, "labeled")
    return random.random((6, 7, 8)).astype(np.float32), random.integers(0, 5, (6, 7, 8)).astype(np.int16)


def test_region_means_equal_scipy(labeled):
    image, regions = labeled
    expected = ndimage.mean(image.astype(np.float64), regions, [3, 1])
    means = region_means(image, regions, [3, 1])
    assert list(means) == [3, 1]
    assert list(means.values()) == pytest.approx(expected.tolist(), rel=1e-12)


def test_composite_counts_regions_alike_whatever_their_volume():
    image = np.array([[[2.0, 2.0, 3.0, 3.0, 3.0, 3.0, 9.0, 0.0]]])
    regions = np.array([[[1, 1, 2, 2, 2, 2, 3, 0]]])
    # (3 + 9) / 2 over 2; weighted by volume it would be (4 * 3 + 9) / 5 over 2.
    assert composite_suvr(image, regions, target_labels=[2, 3], reference_labels=[1]) == 3.0


def test_composite_does_not_depend_on_the_unit(labeled):
    image, regions = labeled
    first = composite_suvr(image, regions, target_labels=[2, 3, 4], reference_labels=[1])
    scaled = composite_suvr(image * np.float32(4096), regions, target_labels=[2, 3, 4], reference_labels=[1])
    assert first == scaled  # a power of two changes no mantissa


def test_regions_that_cannot_be_measured_are_refused(labeled):
    image, regions = labeled
    with pytest.raises(InputError, match=r"region 9 has no voxel; the region map holds \[0, 1, 2, 3, 4\]"):
        region_means(image, regions, [1, 9])
    with pytest.raises(InputError, match="integer codes, got float64"):
        region_means(image, regions.astype(np.float64), [1])
    with pytest.raises(InputError, match=r"image \(6, 7, 8\), regions \(6, 7\)"):
        region_means(image, regions[:, :, 0], [1])
    bad = image.copy()
    bad[regions == 2] = np.nan
    with pytest.raises(InputError, match="region 2 holds NaN"):
        region_means(bad, regions, [2])
    with pytest.raises(InputError, match="mean uptake must be positive, got 0"):
        composite_suvr(np.zeros_like(image), regions, target_labels=[2], reference_labels=[1])
    with pytest.raises(InputError, match="must each name at least one region"):
        composite_suvr(image, regions, target_labels=[], reference_labels=[1])


def test_bland_altman_by_hand():
    # Differences 1, 3, 5, 7: mean 4, squared deviations 9 + 1 + 1 + 9 = 20 over 3.
    agreement = bland_altman([2.0, 4.0, 6.0, 8.0], [1.0, 1.0, 1.0, 1.0])
    sd = (20 / 3) ** 0.5
    assert agreement == pytest.approx((4.0, sd, 4 - 1.96 * sd, 4 + 1.96 * sd))
    assert (agreement.bias, agreement.upper) == (agreement[0], agreement[3])


def test_bland_altman_refuses_what_has_no_limits():
    with pytest.raises(InputError, match="at least two subjects, got 1"):
        bland_altman([1.0], [2.0])
    with pytest.raises(InputError, match=r"a \(2,\), b \(3,\)"):
        bland_altman([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(InputError, match="b must be a row of finite numbers"):
        bland_altman([1.0, 2.0], [1.0, float("nan")])


FRACTIONS, PSNRS = [0.01, 0.1, 1.0], [20.0, 30.0, 34.0]


@pytest.mark.parametrize(
    ("psnr", "fraction", "bound"),
    [
        (20.0, 0.01, ""),
        (30.0, 0.1, ""),
        (34.0, 1.0, ""),
        (25.0, 10**-1.5, ""),
        (33.0, 10**-0.25, ""),
        (19.9, 0.01, "<"),
        (34.1, 1.0, ">"),
    ],
)
def test_dose_equivalent_by_hand(psnr, fraction, bound):
    result = dose_equivalent(psnr, FRACTIONS, PSNRS)
    assert result.fraction == pytest.approx(fraction, rel=1e-12)
    assert result.bound == bound


def test_dose_equivalent_takes_the_curve_in_any_order():
    assert dose_equivalent(27.0, FRACTIONS[::-1], PSNRS[::-1]) == dose_equivalent(27.0, FRACTIONS, PSNRS)


def test_dose_equivalent_is_monotone_on_a_curve_that_is_not():
    fractions, psnrs = [0.01, 0.02, 0.05, 0.1, 0.2], [20.0, 26.0, 24.0, 25.0, 30.0]
    doses = [dose_equivalent(psnr, fractions, psnrs).fraction for psnr in np.linspace(19, 31, 100)]
    assert all(a <= b for a, b in pairwise(doses))
    # 26 dB is first reached at 2 %; beyond it the raised curve leaves 26 at 10 % toward 30 at 20 %.
    assert dose_equivalent(26.0, fractions, psnrs).fraction == 0.02
    assert dose_equivalent(28.0, fractions, psnrs).fraction == pytest.approx(0.1 * 2**0.5)


def test_dose_equivalent_prints_its_bound():
    assert [str(DoseEquivalent(0.0123, bound)) for bound in ("", "<", ">")] == [
        "0.0123",
        "<0.0123",
        ">0.0123",
    ]


@pytest.mark.parametrize(
    ("fractions", "psnrs", "message"),
    [
        ([0.1], [20.0], "at least two different numbers"),
        ([0.1, 0.1], [20.0, 21.0], "at least two different numbers"),
        ([0.0, 0.1], [20.0, 21.0], r"in \(0, 1\], got \[0.0, 0.1\]"),
        ([0.1, 1.5], [20.0, 21.0], r"in \(0, 1\], got \[0.1, 1.5\]"),
        ([0.1, 0.2], [20.0, float("inf")], "psnrs must be a row of finite numbers"),
        ([0.1, 0.2, 0.3], [20.0, 21.0], r"fractions \(3,\), psnrs \(2,\)"),
    ],
)
def test_dose_equivalent_refuses_a_curve_that_is_none(fractions, psnrs, message):
    with pytest.raises(InputError, match=message):
        dose_equivalent(20.5, fractions, psnrs)


def test_dose_equivalent_refuses_an_infinite_psnr():
    with pytest.raises(InputError, match="psnr must be finite, got inf"):
        dose_equivalent(float("inf"), FRACTIONS, PSNRS)
