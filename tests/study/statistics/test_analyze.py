"""The analysis as a user gets it: files, JSON, text, and what is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from medrestore.checks import InputError
from medrestore.cli import app
from medrestore.study.measures import COVARIANCES, MEASURES
from medrestore.study.statistics.analyze import analyze_table
from medrestore.study.statistics.reads import read_table
from medrestore.study.statistics.sections import wilson

ISSUE_KEYS = {
    *("metric", "covariance", "components", "random_readers_random_cases", "fixed_readers", "fixed_cases"),
    *("differences", "per_reader"),
}


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for item in value.values() for number in numbers(item)]
    if isinstance(value, list):
        return [number for item in value for number in numbers(item)]
    return [float(value)] if isinstance(value, float) else []


def test_the_command_writes_what_the_issue_asks_for(make_reads, tmp_path):
    path, output = tmp_path / "reads.csv", tmp_path / "out"
    make_reads(1, methods=("a", "b", "c")).to_csv(path, index=False)
    command = ["study", "analyze", str(path), "--metric", "auc", "--output", str(output)]
    result = CliRunner().invoke(
        app, [*command, "--reference", "a", "--margin", "0.1"], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    for words in ("Obuchowski-Rockette", "fully crossed; no read missing", "a - b", "Non-inferiority to 'a'"):
        assert words in result.output
    entry = json.loads((output / "analysis.json").read_text(encoding="utf-8"))
    assert set(entry) >= ISSUE_KEYS
    assert set(entry["components"]) >= {"var", "cov1", "cov2", "cov3", "ms_t", "ms_r", "ms_tr"}
    for name in ("random_readers_random_cases", "fixed_cases"):
        assert set(entry[name]) >= {"f", "df1", "ddf", "p"}
    assert all(math.isfinite(number) for number in numbers(entry))
    assert entry["cases"] == {"total": 19, "positive": 7, "negative": 12, "in_metric": 19}
    for name, rows in (("differences", 3), ("per_reader", 9), ("methods", 3), ("non_inferiority", 2)):
        table = pd.read_csv(output / f"{name}.csv")
        assert len(table) == rows == len(entry[name])
    assert (output / "summary.txt").read_text(encoding="utf-8").strip() in result.output.strip()
    again = CliRunner().invoke(app, command, catch_exceptions=False)
    assert again.exit_code == 0
    assert not (output / "non_inferiority.csv").exists()
    assert not list(output.glob(".partial*"))


def test_the_command_needs_metric_and_output(make_reads, tmp_path):
    path = tmp_path / "reads.csv"
    make_reads(1).to_csv(path, index=False)
    with pytest.raises(InputError, match="needs --metric and --output"):
        CliRunner().invoke(app, ["study", "analyze", str(path)], catch_exceptions=False)


def test_the_command_refuses_what_a_csv_file_does_not_take(make_reads, tmp_path):
    path = tmp_path / "reads.csv"
    make_reads(1).to_csv(path, index=False)
    command = ["study", "analyze", str(path), "--metric", "auc", "--output", str(tmp_path / "out")]
    for option in (["--mlflow"], ["--volumes", "manifest.csv"]):
        with pytest.raises(InputError, match="is a CSV file, and --volumes and --mlflow are for studies"):
            CliRunner().invoke(app, [*command, *option], catch_exceptions=False)
    with pytest.raises(InputError, match="gone: no such study or file"):
        CliRunner().invoke(app, ["study", "analyze", str(tmp_path / "gone")], catch_exceptions=False)


def test_nothing_else_is_overwritten(make_reads, tmp_path):
    path = tmp_path / "reads.csv"
    make_reads(1).to_csv(path, index=False)
    with pytest.raises(InputError, match="holds other files and no analysis of reads"):
        analyze_table(read_table(path), metric="auc").write(tmp_path)
    assert [item.name for item in tmp_path.iterdir()] == ["reads.csv"]


@pytest.mark.parametrize("metric", list(MEASURES))
@pytest.mark.parametrize("levels", [2, 5, None])
def test_the_order_of_rows_changes_names_order_alone(make_reads, metric, levels):
    """Bit for bit: all sums are exact."""
    reads = make_reads(3, methods=("a", "b", "c"), levels=levels)
    cut = None if MEASURES[metric].threshold == "refused" else 1.5
    covariance = "unbiased" if metric == "auc" else "jackknife"

    def found(rows: pd.DataFrame) -> dict[str, Any]:
        table = read_table(rows, needs_truth=MEASURES[metric].judged)
        return analyze_table(table, metric=metric, positive_from=cut, covariance=covariance).as_dict()

    one, other = found(reads), found(reads.sample(frac=1, random_state=8))
    for name in ("components", "random_readers_random_cases", "fixed_readers", "fixed_cases"):
        for key, value in one[name].items():
            if not isinstance(value, list):
                assert other[name][key] == value, (name, key)
    mirrored = {(row["second"], row["first"]): row for row in other["differences"]}
    straight = {(row["first"], row["second"]): row for row in other["differences"]}
    for row in one["differences"]:
        pair = (row["first"], row["second"])
        sign = 1 if pair in straight else -1
        same = straight.get(pair) or mirrored[pair]
        assert row["difference"] == sign * same["difference"]
        assert (row["se"], row["p"]) == (same["se"], same["p"])
    key = ("reader", "method")
    by_name = {tuple(row[k] for k in key): row for row in other["per_reader"]}
    assert all(by_name[tuple(row[k] for k in key)] == row for row in one["per_reader"])


def test_scales_of_ratings_that_say_the_same(make_reads):
    """An AUC knows the order of ratings alone: any rising scale, negative or huge, gives the same numbers."""
    reads = make_reads(4, levels=5)
    plain = analyze_table(read_table(reads), metric="auc").as_dict()
    for scale in (lambda x: 1e9 * x - 3e9, lambda x: np.exp(x) / 7, lambda x: x - 0.1, lambda x: x * 1e-12):
        other = analyze_table(read_table(reads.assign(rating=scale(reads["rating"]))), metric="auc").as_dict()
        assert other["random_readers_random_cases"] == plain["random_readers_random_cases"]
    zero_one = reads.assign(rating=(reads["rating"] >= 3).astype(float))
    by_rating = analyze_table(read_table(zero_one), metric="sensitivity").as_dict()
    by_cut = analyze_table(read_table(reads), metric="sensitivity", positive_from=3).as_dict()
    assert by_rating["per_reader"] == by_cut["per_reader"]
    assert by_rating["differences"] == by_cut["differences"]


def test_mean_rating_and_share_need_no_truth(make_reads):
    reads = make_reads(2).drop(columns="truth")
    table = read_table(reads, needs_truth=False)
    mean = analyze_table(table, metric="mean_rating").as_dict()
    expected = reads.groupby("method")["rating"].mean()
    assert {row["method"]: row["mean"] for row in mean["methods"]} == pytest.approx(expected.to_dict())
    assert mean["cases"] == {"total": 19, "positive": None, "negative": None, "in_metric": 19}
    share = analyze_table(table, metric="share_at_least", positive_from=3).as_dict()
    expected = reads.assign(high=reads["rating"] >= 3).groupby(["reader", "method"])["high"].sum()
    for row in share["per_reader"]:
        assert row["events"] == expected[row["reader"], row["method"]]
    with pytest.raises(InputError, match="no column 'truth'"):
        read_table(reads)


def test_wilson_intervals_are_those_published():
    """Newcombe 1998, table I: 81/263 and 0/20; and the accuracy of 71/80."""
    assert wilson(81, 263, alpha=0.05) == pytest.approx((0.255289, 0.366210), abs=5e-7)
    assert wilson(0, 20, alpha=0.05) == pytest.approx((0.0, 0.161125), abs=5e-7)
    assert wilson(71, 80, alpha=0.05) == pytest.approx((0.799818, 0.939673), abs=5e-7)
    assert wilson(0, 20, alpha=0.05)[0] == 0
    assert wilson(20, 20, alpha=0.05)[1] == 1


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_perfect_separation_is_said_in_words(make_reads, covariance):
    reads = make_reads(0)
    reads["rating"] = np.where(reads["truth"] == 1, 4, 2)
    entry = analyze_table(read_table(reads), metric="auc", covariance=covariance).as_dict()
    assert entry["components"]["var"] == 0
    assert [row["mean"] for row in entry["methods"]] == [1, 1]
    assert all(row["low"] is None and row["high"] is None for row in entry["methods"] + entry["per_reader"])
    assert entry["random_readers_random_cases"]["p"] == 1
    assert any("Perfect separation everywhere" in note for note in entry["notes"])
    worse = reads.assign(rating=np.where(reads["method"] == "gan", 3, reads["rating"]))
    entry = analyze_table(read_table(worse), metric="auc", covariance=covariance)
    for name in ("random_readers_random_cases", "fixed_readers", "fixed_cases"):
        statistic = "chi2" if name == "fixed_readers" else "f"
        assert (entry.as_dict()[name][statistic], entry.as_dict()[name]["p"]) == (None, None)
    (row,) = entry.as_dict()["differences"]
    assert (row["difference"], row["se"], row["p"], row["low"]) == (0.5, 0, None, None)
    assert "F would be infinite" in " ".join(entry.summary.split())
    assert "all ratings are the same there" in " ".join(entry.summary.split())


def test_one_method_has_a_mean_and_no_test(make_reads):
    both = analyze_table(read_table(make_reads(5)), metric="auc").as_dict()
    reads = make_reads(5)
    alone = analyze_table(read_table(reads[reads["method"] == "gan"]), metric="auc")
    assert alone.as_dict()["methods"] == [both["methods"][1]]
    assert alone.as_dict()["differences"] == []
    assert alone.as_dict()["components"]["ms_t"] is None
    assert alone.as_dict()["components"]["ms_r"] is not None
    assert any("one method, 'gan'" in note for note in alone.as_dict()["notes"])
    assert "Tests that all methods" not in alone.summary
    with pytest.raises(InputError, match="reference 'gan' is the only method"):
        analyze_table(read_table(reads[reads["method"] == "gan"]), metric="auc", reference="gan")


def test_fixed_readers_take_the_headline(make_reads):
    table = read_table(make_reads(5))
    fixed = analyze_table(table, metric="auc", readers="fixed", reference="gan", margin=0.2)
    random = analyze_table(table, metric="auc")
    assert fixed.as_dict()["differences"] == random.as_dict()["fixed_readers"]["differences"]
    assert fixed.as_dict()["methods"] == random.as_dict()["fixed_readers"]["methods"]
    assert fixed.as_dict()["random_readers_random_cases"] == random.as_dict()["random_readers_random_cases"]
    assert fixed.as_dict()["non_inferiority"][0]["se"] == fixed.as_dict()["differences"][0]["se"]
    assert "these readers alone" in fixed.summary


def test_differences_from_a_reference_are_a_family_of_their_own(make_reads):
    table = read_table(make_reads(5, methods=("a", "b", "c", "d")))
    entry = analyze_table(table, metric="auc", reference="b", correction="bonferroni").as_dict()
    assert len(entry["differences"]) == 6
    rows = entry["differences_from_reference"]
    assert [(row["first"], row["second"]) for row in rows] == [("a", "b"), ("c", "b"), ("d", "b")]
    for row in rows:
        assert row["p_adjusted"] == pytest.approx(min(3 * row["p"], 1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metric": "auk"}, "metric must be one of 'auc'"),
        ({"covariance": "bootstrap"}, "covariance must be one of 'jackknife', 'delong', 'unbiased'"),
        ({"readers": "some"}, "readers must be one of 'random', 'fixed'"),
        ({"correction": "tukey"}, "correction must be one of 'holm'"),
        ({"missing": "ignore"}, "missing must be one of 'refuse', 'drop_cases', 'available'"),
        ({"alpha": 0}, r"alpha must be in \(0, 1\), got 0"),
        ({"margin": 0.05}, "margin 0.05 needs a reference.*standard, gan"),
        ({"margin": -1, "reference": "gan"}, r"margin must be in \(0, inf\), got -1"),
        ({"reference": "taskgan"}, "reference must be one of 'standard', 'gan', got 'taskgan'"),
        ({"positive_from": 3}, "metric 'auc' takes ratings as they are"),
        ({"metric": "mean_rating", "positive_from": 3}, "metric 'mean_rating' takes ratings as they are"),
        ({"metric": "error_rate"}, "needs positive_from: ratings run from 1 to 5.*--positive-from 3"),
        ({"metric": "share_at_least"}, "needs positive_from"),
        ({"metric": "accuracy", "positive_from": math.nan}, "positive_from must be a finite number"),
    ],
)
def test_wrong_settings_are_refused(make_reads, settings, message):
    with pytest.raises(InputError, match=message):
        analyze_table(read_table(make_reads(0)), **{"metric": "auc", **settings})


def test_one_random_reader_is_refused(make_reads):
    table = read_table(make_reads(0, readers=("Ann",)))
    with pytest.raises(InputError, match=r"one reader, 'Ann'.*Remedy: --readers fixed"):
        analyze_table(table, metric="auc")


@pytest.mark.parametrize(
    ("metric", "positive", "negative", "message"),
    [
        ("auc", 1, 9, "needs two positive cases, got 1"),
        ("auc", 9, 1, "needs two negative cases, got 1"),
        ("auc", 9, 0, "needs two negative cases, got 0"),
        ("sensitivity", 1, 9, "needs two positive cases, got 1"),
        ("specificity", 5, 1, "needs two negative cases, got 1"),
        ("error_rate", 1, 0, "needs two cases or more, got 1"),
    ],
)
def test_too_few_cases_are_refused(make_reads, metric, positive, negative, message):
    table = read_table(make_reads(0, positive=positive, negative=negative))
    with pytest.raises(InputError, match=message):
        analyze_table(table, metric=metric, positive_from=None if metric == "auc" else 3)


def test_available_reads_are_declared_and_counted(make_reads):
    """Error rates by hand: over the reads that are there; the jackknife is over all cases."""
    reads = make_reads(6)
    gone = (reads["reader"] == "Bo") & (reads["method"] == "gan") & reads["case"].isin(["case 2", "case 5"])
    table = read_table(reads[~gone])
    analysis = analyze_table(table, metric="error_rate", positive_from=3, missing="available")
    left = reads[~gone & (reads["reader"] == "Bo") & (reads["method"] == "gan")]
    wrong = (left["rating"] >= 3) != (left["truth"] == 1)
    (row,) = [
        row for row in analysis.as_dict()["per_reader"] if (row["reader"], row["method"]) == ("Bo", "gan")
    ]
    assert (row["n"], row["events"]) == (17, wrong.sum())
    assert row["se"] == pytest.approx(
        math.sqrt(18 / 19 * sum((wrong.mean() - x) ** 2 for x in wrong) / 16**2), rel=1e-12
    )
    assert "2 missing reads declared (available)" in analysis.summary
    fleiss = [row for row in analysis.as_dict()["agreement"] if row["coefficient"] == "Fleiss kappa"]
    assert [row["note"] for row in fleiss] == ["", "needs complete ratings, 2 are missing"]
    with pytest.raises(InputError, match="covariance 'delong' needs complete reads"):
        analyze_table(table, metric="auc", covariance="delong", missing="available")


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_any_study_gives_numbers_or_words(seed, covariance):
    """Small studies of every kind of ratings: all finite or null, every null explained, nothing raised."""
    random = np.random.default_rng(seed)
    t, r, n = random.integers(1, 4), random.integers(1, 4), 7
    truth = random.permutation([0, 0, 0, 1, 1, 1, 1])
    ratings = [
        random.integers(0, 2, size=(t, r, n)),
        np.ones((t, r, n)),
        2.5 * truth + random.integers(0, 2, size=(t, 1, 1)) + np.zeros((t, r, n)),
        random.normal(size=(t, r, n)) * 1e-30,
    ][seed % 4]
    rows = [
        {"reader": j, "method": f"m{i}", "case": k, "truth": truth[k], "rating": ratings[i, j, k]}
        for i in range(t)
        for j in range(r)
        for k in range(n)
    ]
    table = read_table(pd.DataFrame(rows))
    for metric, kind in MEASURES.items():
        analysis = analyze_table(
            table,
            metric=metric,
            covariance=covariance,
            positive_from=None if kind.threshold == "refused" else float(np.median(ratings)),
            readers="fixed" if r == 1 else "random",
            reference="m0" if t > 1 else None,
            margin=0.1 if t > 1 else None,
        )
        assert all(math.isfinite(number) for number in numbers(analysis.as_dict()))
        if any(row["p"] is None for row in analysis.as_dict()["differences"]):
            assert "no test and no interval" in analysis.summary or "infinite" in analysis.summary
        assert len(analysis.summary) > 500


def test_ratings_whose_squares_no_computer_holds_are_refused(make_reads):
    reads = make_reads(0, levels=None)
    table = read_table(reads.assign(rating=reads["rating"] * 1e60))
    with pytest.raises(InputError, match="variances are beyond computing"):
        analyze_table(table, metric="mean_rating")
    assert analyze_table(table, metric="auc").as_dict()["components"]["var"] > 0


def test_a_negative_unbiased_variance_is_said():
    """By hand: areas 1/4 and 1/2 of two cases of each class; their difference has variance -1/16."""
    ratings = {"a": [3, 1, 4, 2], "b": [3, 2, 3, 2]}
    rows = [
        {"reader": "Ann", "method": method, "case": k, "truth": int(k < 2), "rating": rating}
        for method, values in ratings.items()
        for k, rating in enumerate(values)
    ]
    table = read_table(pd.DataFrame(rows))
    entry = analyze_table(table, metric="auc", covariance="unbiased", readers="fixed").as_dict()
    parts = entry["components"]
    assert 2 * (parts["var"] - parts["cov1"]) == -1 / 16
    (row,) = entry["differences"]
    assert (row["difference"], row["se"], row["p"], row["low"]) == (-0.25, None, None, None)
    assert (entry["fixed_readers"]["chi2"], entry["fixed_readers"]["p"]) == (None, None)
    assert any("variance of a difference is below 0" in note for note in entry["notes"])
