"""Attenuation, background, thinning and post-filter, against values by hand and the laws of counting."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medrestore.checks import InputError
from medrestore.operators.pet import (
    PetAcquisition,
    attenuation_factors,
    gaussian_post_filter,
    randoms_and_scatter,
    thin_counts,
)
from medrestore.operators.projector import ParallelProjector, ProjectionGeometry

GEOMETRY = ProjectionGeometry(pixels=32, slices=3, pixel_mm=4.0, slice_mm=4.0, angles=12, fwhm_mm=6.0)


@pytest.fixture(scope="module")
def projector() -> ParallelProjector:
    return ParallelProjector(GEOMETRY)


def block(value: float) -> np.ndarray:
    image = np.zeros((32, 32, 3), dtype=np.float32)
    image[8:24, 10:22] = value
    return image


def test_attenuation_by_hand(projector):
    factors = attenuation_factors(projector, block(0.096))
    # At angle 0 rays run along the second axis through 12 pixels of 4 mm: 4.8 cm of water.
    assert factors[0, 16, 1] == pytest.approx(np.exp(-0.096 * 4.8), rel=1e-5)
    # At 90 degrees through 16 pixels: 6.4 cm.
    assert factors[6, 16, 1] == pytest.approx(np.exp(-0.096 * 6.4), rel=1e-5)
    assert factors[0, 0, 1] == 1.0
    assert factors.dtype == np.float32


@pytest.mark.parametrize("bad", [-0.01, np.nan, np.inf])
def test_attenuation_refuses_impossible_maps(projector, bad):
    mu = block(0.096)
    mu[0, 0, 0] = bad
    with pytest.raises(InputError, match="mu_per_cm must be finite and not negative"):
        attenuation_factors(projector, mu)


def test_background_has_the_asked_totals_and_is_smooth(projector):
    trues = projector.forward(block(5.0))
    randoms = randoms_and_scatter(trues, scatter_fraction=0.0, randoms_fraction=0.3, bin_mm=4.0, slice_mm=4.0)
    both = randoms_and_scatter(trues, scatter_fraction=0.5, randoms_fraction=0.3, bin_mm=4.0, slice_mm=4.0)
    total = trues.sum(dtype=np.float64)
    # Sums of a thousand float32.
    assert randoms.sum(dtype=np.float64) == pytest.approx(0.3 * total, rel=1e-5)
    assert both.sum(dtype=np.float64) == pytest.approx(0.8 * total, rel=1e-5)
    assert np.ptp(randoms) == 0
    scatter = both - randoms
    assert scatter.min() > 0  # it reaches outside the object, where trues are zero
    # 140 mm wide over a detector of 128 mm: from one bin to the next it changes little.
    assert np.abs(np.diff(scatter, axis=1)).max() < 0.06 * scatter.max()


def test_no_trues_no_background():
    nothing = randoms_and_scatter(
        np.zeros((2, 3, 4), dtype=np.float32),
        scatter_fraction=0.5,
        randoms_fraction=0.5,
        bin_mm=2.0,
        slice_mm=2.0,
    )
    assert not nothing.any()


def test_background_refuses_negative_fractions():
    counts = np.ones((2, 3, 4), dtype=np.float32)
    with pytest.raises(InputError, match="scatter_fraction must be in"):
        randoms_and_scatter(counts, scatter_fraction=-0.1, randoms_fraction=0.0, bin_mm=2.0, slice_mm=2.0)
    with pytest.raises(InputError, match="randoms_fraction must be in"):
        randoms_and_scatter(counts, scatter_fraction=0.1, randoms_fraction=-0.1, bin_mm=2.0, slice_mm=2.0)


def test_expected_counts_are_k_a_ax_plus_background(projector):
    activity, mu = block(2.0), block(0.1)
    acquisition, expected = PetAcquisition.of_patient(
        projector, activity, mu, counts_per_line_integral=0.5, scatter_fraction=0.2, randoms_fraction=0.1
    )
    trues = 0.5 * attenuation_factors(projector, mu) * projector.forward(activity)
    np.testing.assert_allclose(expected, trues + acquisition.background, rtol=1e-6)
    np.testing.assert_allclose(acquisition.expected_counts(activity), expected, rtol=1e-6)
    assert acquisition.background.sum() == pytest.approx(0.3 * trues.sum(), rel=1e-4)  # float32 sums
    np.testing.assert_allclose(
        acquisition.expected_counts(2 * activity) - acquisition.background, 2 * trues, rtol=1e-4, atol=1e-4
    )


def test_acquisition_refuses_what_does_not_fit(projector):
    ones = np.ones(projector.range_shape, dtype=np.float32)
    with pytest.raises(InputError, match=r"shapes must be equal, got projector \(12, 32, 3\), attenuation"):
        PetAcquisition(projector, ones[1:], ones, 1.0)
    with pytest.raises(InputError, match="counts_per_line_integral must be in"):
        PetAcquisition(projector, ones, ones, 0.0)


class TestThinCounts:
    def test_mean_and_variance(self):
        random = np.random.default_rng(0)
        n, fraction, draws = 1000, 0.05, 20_000
        thinned = thin_counts(np.full(draws, n), fraction, random=random)
        # Binomial: mean f n, variance f (1-f) n; five standard errors of each.
        variance = fraction * (1 - fraction) * n
        assert thinned.mean() == pytest.approx(fraction * n, abs=5 * np.sqrt(variance / draws))
        assert thinned.var() == pytest.approx(variance, rel=5 * np.sqrt(2 / draws))

    def test_low_and_rest_of_poisson_counts_are_independent_poisson(self):
        random = np.random.default_rng(1)
        mean, fraction, draws = 30.0, 0.25, 40_000
        counts = random.poisson(mean, draws)
        low = thin_counts(counts, fraction, random=random)
        rest = counts - low
        standard_error = 1 / np.sqrt(draws)
        assert abs(np.corrcoef(low, rest)[0, 1]) < 5 * standard_error
        for part, expected in ((low, fraction * mean), (rest, (1 - fraction) * mean)):
            assert part.mean() == pytest.approx(expected, abs=5 * np.sqrt(expected) * standard_error)
            assert part.var() == pytest.approx(expected, rel=5 * np.sqrt(2) * standard_error + 0.01)
        # Low and standard dose share events: their correlation is sqrt(f), unlike that of two separate scans.
        assert np.corrcoef(low, counts)[0, 1] == pytest.approx(np.sqrt(fraction), abs=5 * standard_error)

    def test_never_more_than_recorded(self):
        counts = np.random.default_rng(2).integers(0, 50, (4, 5, 6))
        thinned = thin_counts(counts, 0.5, random=np.random.default_rng(3))
        assert np.all((thinned >= 0) & (thinned <= counts))
        assert np.issubdtype(thinned.dtype, np.integer)
        assert thinned.shape == counts.shape

    def test_full_dose_is_a_copy(self):
        counts = np.array([1, 2, 3])
        thinned = thin_counts(counts, 1.0, random=np.random.default_rng(0))
        np.testing.assert_array_equal(thinned, counts)
        assert thinned is not counts

    def test_refuses(self):
        random = np.random.default_rng(0)
        with pytest.raises(InputError, match=r"fraction must be in \(0.0, 1.0\], got 0.0"):
            thin_counts(np.array([1]), 0.0, random=random)
        with pytest.raises(InputError, match="fraction must be in"):
            thin_counts(np.array([1]), 1.5, random=random)
        with pytest.raises(InputError, match="counts must be integers that are not negative"):
            thin_counts(np.array([1.5]), 0.5, random=random)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="counts must be integers that are not negative"):
            thin_counts(np.array([-1]), 0.5, random=random)


def test_post_filter_is_isotropic_in_mm():
    point = np.zeros((41, 41, 27), dtype=np.float32)
    point[20, 20, 13] = 1.0
    blurred = gaussian_post_filter(point, fwhm_mm=8.0, voxel_size_mm=(2.0, 2.0, 3.0))
    assert blurred.dtype == np.float32
    assert blurred.sum() == pytest.approx(1.0, abs=1e-5)
    # Sampled variance of a Gaussian is its own, to 1e-3 at sigma above one voxel; scipy cuts at four sigma.
    for axis, size in enumerate((2.0, 2.0, 3.0)):
        position = (np.arange(point.shape[axis]) - point.shape[axis] // 2) * size
        profile = blurred.sum(axis=tuple(other for other in range(3) if other != axis))
        assert (profile * position**2).sum() == pytest.approx((8.0 / 2.35482) ** 2, rel=5e-3)


def test_post_filter_against_scipy_and_none():
    image = np.random.default_rng(0).random((8, 9, 10)).astype(np.float32)
    expected = ndimage.gaussian_filter(image.astype(np.float64), 5.0 / 2.354820045 / 2.0, mode="nearest")
    np.testing.assert_allclose(
        gaussian_post_filter(image, fwhm_mm=5.0, voxel_size_mm=(2.0, 2.0, 2.0)), expected, rtol=1e-5
    )
    unchanged = gaussian_post_filter(image, fwhm_mm=0.0, voxel_size_mm=(2.0, 2.0, 2.0))
    np.testing.assert_array_equal(unchanged, image)
    assert unchanged is not image
    with pytest.raises(InputError, match="fwhm_mm must be in"):
        gaussian_post_filter(image, fwhm_mm=-1.0, voxel_size_mm=(2.0, 2.0, 2.0))
