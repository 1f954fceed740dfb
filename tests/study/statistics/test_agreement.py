"""Agreement against published tables, libraries, and sums written as loops."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from medrestore.checks import InputError
from medrestore.study.statistics import agreement
from medrestore.study.statistics.agreement import (
    cohen,
    fleiss,
    gwet,
    icc,
    krippendorff,
    percent_agreement,
)
from medrestore.study.statistics.between_readers import agreement_between_readers
from medrestore.study.statistics.reads import read_table

NAN = math.nan
KRIPPENDORFF_2011 = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
).T
SHROUT_FLEISS_1979 = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float
)


@pytest.fixture
def ratings() -> np.ndarray:
    random = np.random.default_rng(5)
    return np.clip(random.integers(1, 5, size=(30, 1)) + random.integers(-1, 2, size=(30, 4)), 1, 4).astype(
        float
    )


def test_icc_of_shrout_and_fleiss():
    found = icc(SHROUT_FLEISS_1979)
    assert found.value == pytest.approx(0.2897637795, abs=5e-11)
    assert (found.low, found.high) == pytest.approx((0.019, 0.761), abs=5e-4)  # R's psych, ICC2


def test_icc_is_made_of_the_mean_squares_of_an_analysis_of_variance(ratings):
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    n, k = ratings.shape
    long = pd.DataFrame(ratings).melt(ignore_index=False).reset_index(names="case")
    table = anova_lm(ols("value ~ C(case) + C(variable)", long).fit())
    msr, msc, mse = table["mean_sq"]
    expected = (msr - mse) / (msr + (k - 1) * mse + k * (msc - mse) / n)
    assert icc(ratings).value == pytest.approx(expected, rel=1e-10)


def test_icc_where_no_interval_can_be_told():
    agreed = icc(np.array([[1, 1], [3, 3], [2, 2.0]]))
    assert (agreed.value, agreed.low, agreed.note) == (1, None, "raters agree in all: no interval")
    crossed = icc(np.array([[1, 2], [2, 1.0]]))  # MSR and MSC are 0, and n (k - 1) = k: a denominator of 0
    assert (crossed.value, crossed.low) == (None, None)
    tiny, huge = icc(SHROUT_FLEISS_1979 * 1e-200), icc(SHROUT_FLEISS_1979 * 1e200)
    assert tiny.value == pytest.approx(huge.value, rel=1e-9)


@pytest.mark.parametrize(("level", "expected"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_krippendorff(level, expected):
    """Krippendorff 2011, example C: four observers, missing ratings, one case with a single rating."""
    found = krippendorff(KRIPPENDORFF_2011, level=level)
    assert found.value == pytest.approx(expected, abs=5e-4)
    assert found.cases == 11


def slow_krippendorff(ratings: np.ndarray, distance: Callable[[float, float], float]) -> float:
    within, pairs = 0.0, []
    for row in ratings:
        given = row[~np.isnan(row)]
        if len(given) > 1:
            pairs += list(given)
            within += sum(distance(a, b) for a, b in itertools.permutations(given, 2)) / (len(given) - 1)
    between = sum(distance(a, b) for a, b in itertools.permutations(pairs, 2)) / (len(pairs) - 1)
    return 1 - within / between


def test_alpha_with_ordinal_weights_agrees_with_loops():
    """Gwet's ordinal weights on 1 to 5: the disagreement of ranks k apart is k (k + 1) / 2 of 10."""
    expected = slow_krippendorff(KRIPPENDORFF_2011, lambda a, b: abs(a - b) * (abs(a - b) + 1) / 20)
    found = krippendorff(KRIPPENDORFF_2011, level="ordinal weights")
    assert found.value == pytest.approx(expected, rel=1e-12)
    interval = slow_krippendorff(KRIPPENDORFF_2011, lambda a, b: (a - b) ** 2)
    assert krippendorff(KRIPPENDORFF_2011, level="interval").value == pytest.approx(interval, rel=1e-12)


def test_fleiss_is_that_of_statsmodels(ratings):
    from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

    expected = fleiss_kappa(aggregate_raters(ratings.astype(int))[0])
    assert fleiss(ratings).value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("weights", ["identity", "linear", "quadratic"])
def test_cohen_is_that_of_scikit_learn(ratings, weights):
    from sklearn.metrics import cohen_kappa_score

    a, b = ratings[:, 0], ratings[:, 1]
    expected = cohen_kappa_score(a, b, weights=None if weights == "identity" else weights)
    found = cohen(a, b, weights=weights)
    assert found.value == pytest.approx(expected, rel=1e-12)
    assert found.low is not None
    assert found.high is not None
    assert found.low < expected < found.high


@pytest.mark.parametrize("weights", agreement.WEIGHTS)
def test_gwet_agrees_with_loops(ratings, weights):
    """Missing ratings, and a category of the scale that nobody used."""
    ratings = ratings.copy()
    ratings[0, 1:], ratings[1, :2], ratings[2] = NAN, NAN, NAN
    scale = [1.0, 2.0, 3.0, 4.0, 7.0]

    def weight(a: float, b: float) -> float:
        if weights == "identity":
            return float(a == b)
        if weights == "ordinal":
            k = abs(scale.index(a) - scale.index(b))
            return 1 - math.comb(k + 1, 2) / math.comb(5, 2)
        return 1 - (abs(a - b) / 6) ** (2 if weights == "quadratic" else 1)

    agreed, shares = [], []
    for row in ratings:
        given = row[~np.isnan(row)]
        if len(given):
            shares.append([np.mean(given == c) for c in scale])
        if len(given) > 1:
            agreed.append(np.mean([weight(a, b) for a, b in itertools.permutations(given, 2)]))
    pi = np.mean(shares, axis=0)
    total = sum(weight(a, b) for a in scale for b in scale)
    chance = total * (pi * (1 - pi)).sum() / (5 * 4)
    expected = (np.mean(agreed) - chance) / (1 - chance)
    found = gwet(ratings, weights=weights, categories=scale)
    assert found.value == pytest.approx(expected, rel=1e-12)
    assert found.cases == 29


@pytest.mark.parametrize(
    "measure",
    [
        percent_agreement,
        fleiss,
        lambda x: gwet(x, weights="quadratic", categories=(1, 2, 3, 4)),
        *(lambda x, level=level: krippendorff(x, level=level) for level in agreement.LEVELS),
    ],
)
def test_intervals_are_of_resampled_cases(ratings, measure, monkeypatch):
    """Resampling by weights gives what doubled and left-out cases give."""
    drawn = np.random.default_rng(0).multinomial(30, np.full(30, 1 / 30), size=25).astype(float)
    monkeypatch.setattr(agreement, "_resamples", lambda n: drawn if n == 30 else np.ones((1, n)))
    found = measure(ratings)
    values = [measure(np.repeat(ratings, times.astype(int), axis=0)).value for times in drawn]
    expected = np.quantile(np.array(values, dtype=float), [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx(tuple(expected), rel=1e-12)


def test_bootstrap_and_asymptotic_intervals_tell_the_same():
    """For two raters and 400 cases, Cohen's and Fleiss' kappa are nearly one; so are their intervals."""
    random = np.random.default_rng(1)
    a = random.integers(0, 2, size=400)
    b = np.where(random.random(400) < 0.2, 1 - a, a)
    ours, theirs = fleiss(np.stack([a, b], axis=1).astype(float)), cohen(a.astype(float), b.astype(float))
    assert (ours.value, ours.low, ours.high) == pytest.approx(
        (theirs.value, theirs.low, theirs.high), abs=0.01
    )


@pytest.mark.parametrize("measure", [fleiss, gwet, krippendorff, icc, lambda x: cohen(x[:, 0], x[:, 1])])
def test_where_all_ratings_are_the_same_nothing_is_beyond_chance(measure):
    found = measure(np.full((8, 3), 2.0))
    assert (found.value, found.low, found.high) == (None, None, None)
    assert "all ratings are the same" in found.note
    assert percent_agreement(np.full((8, 3), 2.0)).value == 1


def test_one_rater_who_always_says_the_same_has_no_asymptotic_interval():
    found = cohen(np.array([0, 0, 0, 0, 0.0]), np.array([1, 0, 1, 0, 0.0]))
    assert found.value == pytest.approx(0, abs=1e-12)
    assert (found.low, found.high) == (None, None)
    assert "standard error is 0" in found.note


def test_what_cannot_be_computed_is_refused(ratings):
    ratings[3, 2] = NAN
    for measure in (fleiss, icc, lambda x: cohen(x[:, 1], x[:, 2])):
        with pytest.raises(InputError, match="needs complete ratings, 1 are missing"):
            measure(ratings)
    with pytest.raises(InputError, match="rating 4 is none of the categories 1, 2, 3"):
        gwet(ratings, categories=(1, 2, 3))
    with pytest.raises(InputError, match="weights must be one of"):
        gwet(ratings, weights="cubic")
    with pytest.raises(InputError, match="300 different values: no categories"):
        fleiss(np.arange(300.0).reshape(100, 3))
    with pytest.raises(InputError, match="two cases and two raters"):
        icc(ratings[:1])
    alone = krippendorff(np.array([[1, NAN], [NAN, 2]]))
    assert (alone.value, alone.note) == (None, "no case has two ratings")


def test_table_of_a_study(make_reads):
    table = read_table(make_reads(1))
    rows = pd.DataFrame(agreement_between_readers(table, positive_from=3))
    decisions = rows[(rows["scale"] == "decision") & (rows["method"] == "gan")]
    binary = (table.ratings[1].T >= 3).astype(float)
    by_name = decisions.set_index(["coefficient", "readers"])["value"]
    assert by_name["Fleiss kappa", "all"] == fleiss(binary).value
    assert by_name["Gwet AC1", "all"] == gwet(binary, categories=(0, 1)).value
    assert by_name["Cohen kappa", "Ann, Cy"] == cohen(binary[:, 0], binary[:, 2]).value
    of_ratings = rows[(rows["scale"] == "rating") & (rows["method"] == "standard")]
    by_name = of_ratings.set_index(["coefficient", "readers"])["value"]
    assert by_name["ICC(2,1)", "all"] == icc(table.ratings[0].T).value
    assert (
        by_name["Krippendorff alpha, ordinal", "all"]
        == krippendorff(table.ratings[0].T, level="ordinal").value
    )
    assert agreement_between_readers(read_table(make_reads(1, readers=("Ann",)))) == []
    many = read_table(make_reads(1, levels=None, positive=60, negative=60))
    assert {row.coefficient for row in agreement_between_readers(many)} == {"ICC(2,1)"}
