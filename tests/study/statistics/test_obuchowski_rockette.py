"""The engine against the formulas written as loops, and against libraries where they have a special case."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from medrestore.study.measures import COVARIANCES, MEASURES
from medrestore.study.statistics import obuchowski_rockette as engine
from medrestore.study.statistics.analyze import analyze_table
from medrestore.study.statistics.merit import figure_of_merit
from medrestore.study.statistics.reads import ReadTable, read_table

ROUNDING = 1e-9
"""Sums of some thousand products in double precision; the engine itself is exact."""

POSITIVE_FROM = 3.0
DESIGNS: dict[str, dict[str, Any]] = {
    "two of each": {"methods": ("a", "b"), "readers": ("Ann", "Bo"), "positive": 13, "negative": 23},
    "four methods": {"methods": ("x", "10", "9", "1.0"), "readers": (3, 1, 2), "positive": 8, "negative": 17},
    "many readers": {"readers": tuple(range(7)), "positive": 11, "negative": 4},
    "continuous": {"methods": (1, 2, 3), "levels": None},
    "two ratings": {"methods": ("a", "b", "c"), "levels": 2, "positive": 19},
}
SEED = 4  # of which no mean square is 0 by chance
CUTS = {"continuous": 0.5, "two ratings": 2.0}


def decided(table: ReadTable, metric: str, cut: float) -> tuple[np.ndarray, np.ndarray]:
    """Return what each read adds to a mean over cases, and which cases enter."""
    truth = np.zeros(len(table.cases)) if table.truth is None else table.truth
    positive = table.ratings >= cut
    wrong = positive != truth
    values = {
        "error_rate": wrong,
        "accuracy": ~wrong,
        "sensitivity": positive,
        "specificity": ~positive,
        "mean_rating": table.ratings,
        "share_at_least": positive,
    }[metric]
    entering = {"sensitivity": truth == 1, "specificity": truth == 0}.get(metric, truth >= 0)
    return values.astype(float), entering


def area(ratings: np.ndarray, truth: np.ndarray) -> float:
    pairs = list(product(ratings[truth == 1], ratings[truth == 0]))
    return sum(1.0 if x > y else 0.5 if x == y else 0.0 for x, y in pairs) / len(pairs)


def slow_theta(table: ReadTable, metric: str, cut: float, keep: np.ndarray) -> np.ndarray:
    """Return the figures of merit (t, r) of the cases that are kept, read by read."""
    t, r, _ = table.ratings.shape
    theta = np.empty((t, r))
    for i, j in product(range(t), range(r)):
        if metric == "auc":
            theta[i, j] = area(table.ratings[i, j, keep], table.truth[keep])
        else:
            values, entering = decided(table, metric, cut)
            theta[i, j] = values[i, j, keep & entering].mean()
    return theta


def slow_jackknife(table: ReadTable, metric: str, cut: float) -> np.ndarray:
    n = len(table.cases)
    entering = np.ones(n, dtype=bool) if metric == "auc" else decided(table, metric, cut)[1]
    left_out = np.array(
        [slow_theta(table, metric, cut, np.arange(n) != k).ravel() for k in np.flatnonzero(entering)]
    )
    count = len(left_out)
    apart = left_out - left_out.mean(axis=0)
    return (count - 1) / count * apart.T @ apart


def slow_auc_covariance(table: ReadTable, covariance: str) -> np.ndarray:
    """Return DeLong's covariance, or the unbiased one by its four moments, of matrices of psi."""
    t, r, n = table.ratings.shape
    psi = []
    for ratings in table.ratings.reshape(t * r, n):
        x, y = ratings[table.truth == 1], ratings[table.truth == 0]
        psi.append([[1.0 if a > b else 0.5 if a == b else 0.0 for b in y] for a in x])
    p = np.array(psi)
    n1, n0 = p.shape[1:]
    v = np.empty((t * r, t * r))
    for a, b in product(range(t * r), repeat=2):
        if covariance == "delong":
            v[a, b] = np.cov(p[a].mean(axis=1), p[b].mean(axis=1))[0, 1] / n1
            v[a, b] += np.cov(p[a].mean(axis=0), p[b].mean(axis=0))[0, 1] / n0
            continue
        full = (p[a] * p[b]).sum()
        row = (p[a].sum(axis=1) * p[b].sum(axis=1)).sum()
        column = (p[a].sum(axis=0) * p[b].sum(axis=0)).sum()
        total = p[a].sum() * p[b].sum()
        m1 = full / (n1 * n0)
        m2 = (row - full) / (n1 * n0 * (n0 - 1))
        m3 = (column - full) / (n1 * n0 * (n1 - 1))
        m4 = (total - row - column + full) / (n1 * n0 * (n1 - 1) * (n0 - 1))
        v[a, b] = (m1 + (n0 - 1) * m2 + (n1 - 1) * m3 + (n1 - 1) * (n0 - 1) * m4) / (n1 * n0) - m4
    return v


def slow_analysis(theta: np.ndarray, v: np.ndarray) -> dict[str, float]:
    """Return the components and all three tests, entry by entry."""
    t, r = theta.shape
    v = v.reshape(t, r, t, r)
    parts: dict[str, list[float]] = {"var": [], "cov1": [], "cov2": [], "cov3": []}
    for i, j, k, m in product(range(t), range(r), range(t), range(r)):
        name = "var" if i == k and j == m else "cov1" if j == m else "cov2" if i == k else "cov3"
        parts[name].append(v[i, j, k, m])
    found = {name: float(np.mean(values)) for name, values in parts.items()}
    mean = theta.mean()
    found["ms_t"] = r * sum((theta[i].mean() - mean) ** 2 for i in range(t)) / (t - 1)
    found["ms_r"] = t * sum((theta[:, j].mean() - mean) ** 2 for j in range(r)) / (r - 1)
    found["ms_tr"] = sum(
        (theta[i, j] - theta[i].mean() - theta[:, j].mean() + mean) ** 2
        for i, j in product(range(t), range(r))
    ) / ((t - 1) * (r - 1))
    between = max(found["cov2"] - found["cov3"], 0.0)
    d = found["ms_tr"] + r * between
    found |= {"d": d, "f": found["ms_t"] / d, "df1": t - 1}
    found["ddf"] = d**2 / (found["ms_tr"] ** 2 / ((t - 1) * (r - 1)))
    found["p"] = float(stats.f.sf(found["f"], t - 1, found["ddf"]))
    fixed = found["var"] - found["cov1"] + (r - 1) * between
    found["fixed"] = fixed
    found["chi2"] = (t - 1) * found["ms_t"] / fixed
    found["p_readers"] = float(stats.chi2.sf(found["chi2"], t - 1))
    found["f_cases"] = found["ms_t"] / found["ms_tr"]
    found["p_cases"] = float(stats.f.sf(found["f_cases"], t - 1, (t - 1) * (r - 1)))
    found["var_r"] = (found["ms_r"] - found["ms_tr"]) / t - found["cov1"] + found["cov3"]
    found["var_tr"] = found["ms_tr"] - found["var"] + found["cov1"] + found["cov2"] - found["cov3"]
    return found


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize(
    ("metric", "covariance"),
    [*(("auc", name) for name in COVARIANCES), *((name, "jackknife") for name in MEASURES if name != "auc")],
)
def test_the_engine_agrees_with_loops(make_reads, design, metric, covariance):
    reads = make_reads(SEED, **DESIGNS[design])
    reads = reads.sample(frac=1, random_state=1).assign(
        comment="x"
    )  # row order, and columns that are not ours
    table = read_table(reads)
    cut = CUTS.get(design, POSITIVE_FROM)
    theta = slow_theta(table, metric, cut, np.ones(len(table.cases), dtype=bool))
    v = slow_jackknife(table, metric, cut)
    if covariance != "jackknife":
        v = slow_auc_covariance(table, covariance)
    given = None if MEASURES[metric].threshold == "refused" else cut
    merit = figure_of_merit(table, metric, positive_from=given, covariance=covariance)
    assert merit.estimates == pytest.approx(theta, rel=ROUNDING)
    scale = float(np.abs(v).max())
    assert merit.covariances.reshape(v.shape) == pytest.approx(v, rel=ROUNDING, abs=ROUNDING * scale)

    entry = analyze_table(table, metric=metric, positive_from=given, covariance=covariance).as_dict()
    expected = slow_analysis(theta, v)
    components = entry["components"]
    for name, value in components.items():
        assert value == pytest.approx(expected[name], rel=1e-7, abs=ROUNDING * scale), name
    test = entry["random_readers_random_cases"]
    for name in ("f", "df1", "ddf", "p"):
        assert test[name] == pytest.approx(expected[name], rel=1e-7), name
    fixed, cases = entry["fixed_readers"], entry["fixed_cases"]
    assert (fixed["chi2"], fixed["p"]) == pytest.approx((expected["chi2"], expected["p_readers"]), rel=1e-6)
    assert (cases["f"], cases["p"]) == pytest.approx((expected["f_cases"], expected["p_cases"]), rel=1e-7)
    r = len(table.readers)
    for row in entry["differences"]:
        a, b = table.methods.index(row["first"]), table.methods.index(row["second"])
        assert a < b
        difference, se = theta[a].mean() - theta[b].mean(), math.sqrt(2 * expected["d"] / r)
        half = stats.t.ppf(0.975, expected["ddf"]) * se
        p = 2 * stats.t.sf(abs(difference / se), expected["ddf"])
        assert row["difference"] == pytest.approx(difference, rel=ROUNDING, abs=1e-15)
        assert (row["se"], row["p"]) == pytest.approx((se, p), rel=1e-7)
        assert (row["low"], row["high"]) == pytest.approx((difference - half, difference + half), rel=1e-6)
    for i, row in enumerate(entry["methods"]):
        own = v.reshape(*theta.shape, *theta.shape)[i, :, i, :]
        cov2 = (own.sum() - own.trace()) / (r * (r - 1))
        ms = theta[i].var(ddof=1)
        term = ms + r * max(cov2, 0)
        df = term**2 / (ms**2 / (r - 1)) if ms else math.inf
        half = stats.t.ppf(0.975, df) * math.sqrt(term / r)
        low, high = MEASURES[metric].bounds or (-math.inf, math.inf)
        ends = max(theta[i].mean() - half, low), min(theta[i].mean() + half, high)
        assert row["mean"] == pytest.approx(theta[i].mean(), rel=ROUNDING)
        assert (row["low"], row["high"]) == pytest.approx(ends, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("metric", [name for name in MEASURES if name != "auc"])
def test_all_covariances_of_a_mean_coincide(make_reads, metric):
    """A mean is a U-statistic of one case: all three covariances are cov / n."""
    table = read_table(make_reads(5))
    cut = None if MEASURES[metric].threshold == "refused" else POSITIVE_FROM
    values, entering = decided(table, metric, POSITIVE_FROM)
    rows = values.reshape(-1, len(table.cases))[:, entering]
    expected = np.cov(rows) / entering.sum()
    for covariance in COVARIANCES:
        merit = figure_of_merit(table, metric, positive_from=cut, covariance=covariance)
        assert merit.covariances.reshape(expected.shape) == pytest.approx(expected, rel=1e-12, abs=1e-16)
        assert merit.cases == entering.sum()


def test_fixed_cases_are_a_repeated_measures_analysis_of_variance(make_reads):
    from statsmodels.stats.anova import AnovaRM

    reads = make_reads(3, methods=("a", "b", "c"), readers=range(6))
    entry = analyze_table(read_table(reads), metric="auc").as_dict()
    areas = pd.DataFrame(entry["per_reader"])
    expected = AnovaRM(areas, "estimate", "reader", within=["method"]).fit().anova_table
    found = entry["fixed_cases"]
    assert found["f"] == pytest.approx(expected["F Value"].item(), rel=1e-9)
    assert found["p"] == pytest.approx(expected["Pr > F"].item(), rel=1e-9)


def test_areas_are_those_of_scikit_learn(make_reads):
    from sklearn.metrics import roc_auc_score

    table = read_table(make_reads(8, positive=30, negative=55, levels=None))
    found = figure_of_merit(table, "auc").estimates
    for i, j in product(range(2), range(3)):
        assert found[i, j] == pytest.approx(roc_auc_score(table.truth, table.ratings[i, j]), rel=1e-12)


def test_one_fixed_reader_is_a_paired_comparison_over_cases(make_reads):
    """By hand: the difference of two means over n cases has the variance of the n differences over n."""
    table = read_table(make_reads(4, readers=("Ann",)))
    entry = analyze_table(table, metric="mean_rating", readers="fixed").as_dict()
    apart = table.ratings[0, 0] - table.ratings[1, 0]
    (row,) = entry["differences"]
    se = apart.std(ddof=1) / math.sqrt(len(apart))
    assert (row["difference"], row["se"]) == pytest.approx((apart.mean(), se), rel=1e-12)
    assert row["p"] == pytest.approx(2 * stats.norm.sf(abs(apart.mean() / se)), rel=1e-9)
    assert row["df"] is None
    assert row["distribution"] == "normal"
    assert entry["random_readers_random_cases"]["p"] is None
    assert entry["fixed_cases"]["p"] is None
    assert any("one reader, 'Ann'" in note for note in entry["notes"])


def test_a_method_by_itself():
    """By hand: three readers with .5, .7, .9 and covariances 0.02 (own), 0.01 (shared)."""
    theta = np.array([Fraction(5, 10), Fraction(7, 10), Fraction(9, 10)], dtype=object)
    covariance = np.full((3, 3), Fraction(1, 100), dtype=object)
    covariance[range(3), range(3)] = Fraction(2, 100)
    term = engine.method_error_term(engine.RANDOM, theta, covariance, Fraction(1))
    assert term is not None
    assert term.value == Fraction(4, 100) + 3 * Fraction(1, 100)
    assert term.df == pytest.approx(0.07**2 / (0.04**2 / 2), rel=1e-12)
    assert term.standard_error() == pytest.approx(math.sqrt(0.07 / 3), rel=1e-12)
    fixed = engine.method_error_term(engine.FIXED_READERS, theta, covariance, Fraction(1))
    assert fixed == (Fraction(2, 100) + 2 * Fraction(1, 100), math.inf, 3)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_identical_arms_differ_by_nothing(make_reads, covariance):
    reads = make_reads(6, methods=("a", "c"), levels=None, positive=13, negative=29)
    twin = reads[reads["method"] == "a"].assign(method="b").sample(frac=1, random_state=0)
    alone = analyze_table(
        read_table(pd.concat([reads[reads["method"] == "a"], twin])), metric="auc", covariance=covariance
    ).as_dict()
    assert (alone["random_readers_random_cases"]["f"], alone["random_readers_random_cases"]["p"]) == (0, 1)
    assert (alone["fixed_readers"]["chi2"], alone["fixed_readers"]["p"]) == (0, 1)
    assert (alone["fixed_cases"]["f"], alone["fixed_cases"]["p"]) == (0, 1)
    (row,) = alone["differences"]
    assert (row["difference"], row["p"], row["low"], row["high"]) == (0, 1, 0, 0)
    assert any("MS(T) is 0" in note for note in alone["notes"])

    among = analyze_table(read_table(pd.concat([reads, twin])), metric="auc", covariance=covariance).as_dict()
    for section in (among, among["fixed_readers"], among["fixed_cases"]):
        (same,) = [row for row in section["differences"] if {row["first"], row["second"]} == {"a", "b"}]
        assert (same["difference"], same["t"], same["p"], same["p_adjusted"]) == (0, 0, 1, 1)
        assert same["se"] > 0
    assert 0 < among["random_readers_random_cases"]["p"] < 1


def test_a_difference_that_every_reader_shows_has_no_interaction(make_reads):
    """3.7 - 3.6 is not 2.7 - 2.6 in floating point; sums of decimals as written are exact."""
    reads = make_reads(2, methods=("a",))
    tenths = 10 * reads["rating"] + 6
    reads, other = reads.assign(rating=tenths / 10), reads.assign(method="b", rating=(tenths + 1) / 10)
    entry = analyze_table(read_table(pd.concat([reads, other])), metric="mean_rating").as_dict()
    assert entry["components"]["ms_tr"] == 0
    (row,) = entry["differences"]
    assert row["difference"] == -0.1
    for name in ("random_readers_random_cases", "fixed_readers", "fixed_cases"):
        assert entry[name]["p"] is None
        assert any("F would be infinite" in note for note in entry["notes"])


def test_an_infinite_ddf_is_said(make_reads):
    """Two readers who agree on every case: MS(TR) is 0, but cases vary: chi-squared takes the place of F."""
    reads = make_reads(9, readers=("Ann",), positive=20, negative=20)
    twin = reads.assign(reader="Bo")
    entry = analyze_table(read_table(pd.concat([reads, twin])), metric="auc").as_dict()
    test = entry["random_readers_random_cases"]
    assert test["ddf"] is None
    assert test["p"] == pytest.approx(stats.chi2.sf(test["f"], 1), rel=1e-12)
    assert entry["fixed_cases"]["p"] is None
    assert any("ddf is infinite" in note for note in entry["notes"])
    # By hand: with Cov2 = var and Cov3 = Cov1, both readers are one.
    single = analyze_table(read_table(reads), metric="auc", readers="fixed").as_dict()
    assert entry["differences"][0]["p"] == pytest.approx(single["differences"][0]["p"], rel=1e-9)


def test_multiplicity_is_corrected_as_defined(make_reads):
    table = read_table(make_reads(7, methods=("a", "b", "c")))
    plain = [row["p"] for row in analyze_table(table, metric="auc").as_dict()["differences"]]
    by_name = {
        name: [
            row["p_adjusted"]
            for row in analyze_table(table, metric="auc", correction=name).as_dict()["differences"]
        ]
        for name in ("holm", "bonferroni", "sidak", "none")
    }
    assert by_name["none"] == plain
    assert by_name["bonferroni"] == pytest.approx([min(3 * p, 1) for p in plain])
    assert by_name["sidak"] == pytest.approx([1 - (1 - p) ** 3 for p in plain])
    order = np.argsort(plain)
    holm, least = [0.0] * 3, 0.0
    for rank, place in enumerate(order):
        least = max(least, min((3 - rank) * plain[place], 1.0))
        holm[place] = least
    assert by_name["holm"] == pytest.approx(holm)


def test_non_inferiority_turns_its_sign_for_errors(make_reads):
    """Accuracy and error rate say the same: T, p and verdict agree, limits are mirrored."""
    table = read_table(make_reads(10, positive=30, negative=30))
    settings: dict[str, Any] = {"positive_from": 3, "reference": "standard", "margin": 0.1}
    (right,) = analyze_table(table, metric="accuracy", **settings).as_dict()["non_inferiority"]
    (wrong,) = analyze_table(table, metric="error_rate", **settings).as_dict()["non_inferiority"]
    assert wrong["difference"] == -right["difference"]
    assert (wrong["t"], wrong["p"]) == pytest.approx((right["t"], right["p"]), rel=1e-12)
    assert wrong["limit"] == pytest.approx(-right["limit"], rel=1e-12)
    assert (right["limit_side"], right["bound"]) == ("lower", -0.1)
    assert (wrong["limit_side"], wrong["bound"]) == ("upper", 0.1)
    assert right["non_inferior"] is wrong["non_inferior"] is (right["limit"] > -0.1)
    strict = analyze_table(table, metric="accuracy", **settings | {"margin": 1e-6}).as_dict()
    assert strict["non_inferiority"][0]["non_inferior"] is (strict["non_inferiority"][0]["limit"] > -1e-6)
