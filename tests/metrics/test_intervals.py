"""Bootstrap intervals against a slow loop, scipy and the normal distribution."""

import math

import numpy as np
import pytest
from scipy import stats

from medrestore import rng
from medrestore.checks import InputError
from medrestore.metrics.intervals import bootstrap_mean, paired_difference


@pytest.fixture
def values() -> np.ndarray:
    return rng.generator(0, "values").gamma(2.0, 1.0, 25)


def test_interval_equals_scipys_percentile_bootstrap(values):
    interval = bootstrap_mean(values, n_resamples=20_000, seed=1)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=rng.generator(2, "scipy")
    ).confidence_interval
    # A 2.5 % quantile of 20,000 normal draws has standard error 0.019 sd; sqrt(2) for two; four of it.
    tolerance = 4 * 0.019 * 2**0.5 * values.std() / 5
    assert interval.mean == pytest.approx(values.mean(), rel=1e-12)
    assert interval.low == pytest.approx(expected.low, abs=tolerance)
    assert interval.high == pytest.approx(expected.high, abs=tolerance)


def test_level_sets_the_width_as_the_normal_distribution_says():
    row = rng.generator(3, "normal").standard_normal(400)
    for level in (0.5, 0.95):
        interval = bootstrap_mean(row, level=level, n_resamples=10_000, seed=0)
        half = stats.norm.ppf((1 + level) / 2) * row.std() / 20
        # Quantiles of 10,000 draws: standard error below 0.027 sd of the mean; four of it at each end.
        assert (interval.high - interval.low) / 2 == pytest.approx(half, abs=4 * 0.027 * row.std() / 20)


def test_interval_covers_the_truth_as_often_as_it_says():
    random = rng.generator(4, "coverage")
    covered = 0
    for trial in range(400):
        interval = bootstrap_mean(random.standard_normal(40), n_resamples=500, seed=trial)
        covered += interval.low <= 0 <= interval.high
    # Percentile intervals of 40 subjects cover about 94 %; standard error of 400 trials 1.2 %, four of it.
    assert covered / 400 == pytest.approx(0.94, abs=0.048)


def test_seed_names_the_interval(values):
    assert bootstrap_mean(values, seed=5) == bootstrap_mean(values, seed=5)
    assert bootstrap_mean(values, seed=5) != bootstrap_mean(values, seed=6)


def test_paired_difference_is_the_mean_of_differences(values):
    # Both rise together: the difference is known far better than either mean.
    other = values - 0.5 + 0.01 * rng.generator(6, "other").standard_normal(25)
    interval = paired_difference(values, other, seed=0)
    assert interval == bootstrap_mean(values - other, seed=0)
    assert interval.low < 0.5 < interval.high
    single = bootstrap_mean(values, seed=0)
    assert interval.high - interval.low < 0.1 * (single.high - single.low)


def test_one_subject_has_a_mean_and_no_interval():
    interval = bootstrap_mean([3.5], seed=0)
    assert interval.mean == 3.5
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        ([], {}, r"a row of one number or more, got shape \(0,\)"),
        ([[1.0, 2.0]], {}, r"a row of one number or more, got shape \(1, 2\)"),
        ([1.0, float("nan"), 2.0, float("inf")], {}, r"got NaN or infinity at \[1, 3\]"),
        ([1.0, 2.0], {"level": 1.0}, r"level must be in \(0, 1\), got 1.0"),
        ([1.0, 2.0], {"n_resamples": 0}, "n_resamples must be in"),
    ],
)
def test_bad_input_is_refused(row, options, message):
    with pytest.raises(InputError, match=message):
        bootstrap_mean(row, seed=0, **options)


def test_unpaired_numbers_are_refused():
    with pytest.raises(InputError, match=r"a \(2,\), b \(1,\)"):
        paired_difference([1.0, 2.0], [1.0], seed=0)
