from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medrestore import rng
from medrestore.domains.amyloid_pet.domain import DOMAIN
from medrestore.evaluation.rendering import render
from medrestore.evaluation.tables import auc_interval, difference_table, summary_table
from medrestore.metrics.intervals import bootstrap_mean
from medrestore.metrics.quantitative import bland_altman
from medrestore.metrics.task import auc

METRICS = DOMAIN.metrics


def make_table() -> pd.DataFrame:
    """Four subjects; the first was scanned twice."""
    rows = []
    for method, shift in (("gan", 0.0), ("taskgan", 1.0), ("standard_dose", np.nan)):
        for number, subject in enumerate(("a", "a", "b", "c", "d")):
            rows.append(
                {
                    "subject_id": subject,
                    "session_id": f"ses-{number}",
                    "method": method,
                    "label": int(subject in "ab"),
                    "psnr": 20.0 + 2 * number + shift,
                    "dose_equivalent": 0.1 + 0.1 * number + 0 * shift,
                    "dose_equivalent_bound": ">" if number == 4 and method == "gan" else "",
                    "task_score": [0.9, 0.8, 0.4, 0.6, 0.1][number],
                    "task_mae": 0.1 * number,
                    "task_error": float(number in (2, 3)),
                    "suvr": 1.2 + 0.1 * number,
                    "suvr_bias": [0.1, 0.1, -0.1, 0.2, 0.0][number] + 0 * shift,
                    "suvr_absolute_error": [0.1, 0.1, 0.1, 0.2, 0.0][number] + 0 * shift,
                }
            )
    return pd.DataFrame(rows)


def pick(table: pd.DataFrame, **values: str) -> dict[str, float]:
    rows = table
    for column, value in values.items():
        rows = rows[rows[column] == value]
    assert len(rows) == 1
    return dict(rows.iloc[0])


def test_summary_is_the_mean_over_subjects_with_its_bootstrap_interval():
    summary = summary_table(make_table(), metrics=METRICS, seed=7)
    # The two scans of subject a count once, with their mean: (20 + 22) / 2, 24, 26, 28.
    expected = bootstrap_mean([21.0, 24.0, 26.0, 28.0], seed=7)
    found = pick(summary, method="gan", metric="psnr")
    assert found["mean"] == 24.75
    assert (found["mean"], found["low"], found["high"]) == expected
    assert found["subjects"] == 4


def test_what_does_not_apply_has_no_row():
    summary = summary_table(make_table(), metrics=METRICS, seed=0)
    standard = set(summary[summary["method"] == "standard_dose"]["metric"])
    assert standard == {"task_mae", "task_error", "task_auc"}


def test_limits_of_agreement_are_over_scans():
    table = make_table()
    summary = summary_table(table, metrics=METRICS, seed=0)
    group = table[table["method"] == "gan"]
    expected = bland_altman(group["suvr"].to_numpy(), (group["suvr"] - group["suvr_bias"]).to_numpy())
    assert pick(summary, method="gan", metric="suvr_lower_limit")["mean"] == pytest.approx(expected.lower)
    assert pick(summary, method="gan", metric="suvr_upper_limit")["mean"] == pytest.approx(expected.upper)
    assert np.isnan(pick(summary, method="gan", metric="suvr_upper_limit")["low"])


def test_auc_interval_is_that_of_the_slow_loop():
    scores, labels, subjects = (
        [0.9, 0.8, 0.4, 0.6, 0.1, 0.4],
        [1, 1, 1, 0, 0, 0],
        ["a", "a", "b", "c", "d", "e"],
    )
    found = auc_interval(scores, labels, subjects, seed=5)
    drawn = rng.generator(5, "bootstrap", 5).integers(5, size=(2000, 5))
    areas = []
    for sample in drawn:
        chosen = [i for who in sample for i in range(6) if subjects[i] == "abcde"[who]]
        positive = [scores[i] for i in chosen if labels[i] == 1]
        negative = [scores[i] for i in chosen if labels[i] == 0]
        if positive and negative:
            wins = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
            areas.append(sum(wins) / len(wins))
    assert found.mean == auc(scores, labels)
    # Both are means over the same pairs, added up in another order.
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(areas, [0.025, 0.975])), abs=1e-12)


def test_an_auc_of_hardly_any_sample_has_no_interval():
    # Of two subjects, one of each class, one sample in two holds both: of this seed's, a little less.
    drawn = rng.generator(0, "bootstrap", 2).integers(2, size=(2000, 2))
    assert (drawn[:, 0] != drawn[:, 1]).mean() < 0.5
    found = auc_interval([0.1, 0.9], [0, 1], ["a", "b"], seed=0)
    assert found.mean == 1.0
    assert np.isnan(found.low) and np.isnan(found.high)


def test_scans_of_one_subject_are_drawn_together():
    assert auc_interval([0.1, 0.9], [0, 1], ["a", "a"], seed=0) == (1.0, 1.0, 1.0)


def test_one_class_has_no_auc():
    summary = summary_table(make_table().query("label == 1"), metrics=METRICS, seed=0)
    assert "task_auc" not in set(summary["metric"])


def test_paired_differences_by_hand():
    found = difference_table(
        make_table(), metrics=METRICS, pairs=[("taskgan", "gan"), ("taskgan", "absent")], seed=0
    )
    assert set(found["second"]) == {"gan"}
    row = pick(found, metric="psnr")
    assert (row["mean"], row["low"], row["high"], row["subjects"]) == (1.0, 1.0, 1.0, 4)
    assert "suvr_bias" not in set(found["metric"])
    assert "suvr_absolute_error" in set(found["metric"])
    assert difference_table(make_table(), metrics=METRICS, pairs=[], seed=0).empty


def test_metrics_are_found_by_their_columns():
    columns = ["suvr", "observer_2_mae", "psnr", "observer_2_score", "data_range", "suvr_absolute_error"]
    assert METRICS.among(columns) == ["psnr", "suvr_absolute_error", "observer_2_mae"]


@pytest.mark.parametrize(
    ("metric", "title"),
    [("task_mae", "T MAE"), ("observer_2_auc", "Observer 2 AUC"), ("nrmse", "NRMSE, head")],
)
def test_titles(metric, title):
    assert METRICS.title_of(metric).title == title
    assert METRICS.label_of("l1_task") == "L1 + task"


def test_render_shows_every_number_in_its_table():
    summary = pd.DataFrame(
        [
            ("input", "psnr", 22.404, 21.9, 22.9, 4),
            ("taskgan", "observer_mae", 0.2, 0.1, 0.3, 4),
            ("taskgan", "task_mae", 0.1, np.nan, np.nan, 1),
            ("taskgan", "psnr", 30.0, 29.5, 30.25, 4),
            ("taskgan", "dose_equivalent", 0.4, 0.3, 0.5, 4),
            ("taskgan", "dose_equivalent_beyond", 0.25, np.nan, np.nan, 4),
            ("standard_dose", "task_mae", 0.05, np.nan, np.nan, 1),
        ],
        columns=["method", "metric", "mean", "low", "high", "subjects"],
    )
    differences = pd.DataFrame(
        [("taskgan", "gan", "psnr", 1.25, -0.5, 3.0, 4)],
        columns=["first", "second", "metric", "mean", "low", "high", "subjects"],
    )
    assert render(summary, differences, METRICS) == (
        "### Image quality\n"
        "\n"
        "| Method   | PSNR (dB)            | Dose equivalent        |\n"
        "| -------- | -------------------- | ---------------------- |\n"
        "| Input    | 22.40 (21.90, 22.90) | n/a                    |\n"
        "| Task-GAN | 30.00 (29.50, 30.25) | ≥ 0.400 (0.300, 0.500) |\n"
        "\n"
        "### Diagnosis\n"
        "\n"
        "| Method        | T MAE | Observer MAE         |\n"
        "| ------------- | ----- | -------------------- |\n"
        "| Task-GAN      | 0.100 | 0.200 (0.100, 0.300) |\n"
        "| Standard dose | 0.050 | n/a                  |\n"
        "\n"
        "### Paired differences\n"
        "\n"
        "| Metric    | Task-GAN - GAN       |\n"
        "| --------- | -------------------- |\n"
        "| PSNR (dB) | +1.25 (-0.50, +3.00) |\n"
    )
