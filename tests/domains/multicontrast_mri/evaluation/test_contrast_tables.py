"""Metrics of contrasts and groups in summary, differences and text."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medrestore.domains.multicontrast_mri.domain import DOMAIN
from medrestore.evaluation.rendering import render
from medrestore.evaluation.strata import difference_rows
from medrestore.evaluation.tables import difference_table, summary_table
from medrestore.evaluation.titles import MetricKey
from medrestore.metrics.intervals import bootstrap_mean

METRICS = DOMAIN.metrics


def make_table() -> pd.DataFrame:
    """Three subjects, two of them patients; the classical fit has no t1c; subject c has no t2w."""
    rows = []
    for method, shift in (("classical", -2.0), ("gan", 0.0), ("taskgan", 1.0), ("true", np.nan)):
        for number, (subject, group) in enumerate((("a", "patient"), ("b", "patient"), ("c", "control"))):
            for place, contrast in enumerate(("t1c", "t2w")):
                if (method, contrast) == ("classical", "t1c") or (subject, contrast) == ("c", "t2w"):
                    continue
                rows.append(
                    {
                        "subject_id": subject,
                        "session_id": "1",
                        "group": group,
                        "contrast": contrast,
                        "method": method,
                        "psnr": 20.0 + number + 10 * place + shift,
                        "cnr": 3.0 + place if group == "patient" else np.nan,
                        "cnr_error": 0.5 + 0 * shift if group == "patient" else np.nan,
                        "task_patch_accuracy": 0.5 + 0.1 * place,
                        "lesion_dice": 0.6 if contrast == "t2w" else np.nan,
                    }
                )
    return pd.DataFrame(rows)


@pytest.fixture
def summary() -> pd.DataFrame:
    return summary_table(make_table(), metrics=METRICS, seed=3).set_index(["method", "metric"])


def test_every_contrast_and_group_has_its_mean(summary):
    row = summary.loc[("gan", "t1c/psnr")]
    assert (row["mean"], row["low"], row["high"]) == bootstrap_mean([20.0, 21.0, 22.0], seed=3)
    assert row["subjects"] == 3
    assert summary.loc[("gan", "patient/t2w/psnr"), "mean"] == 30.5
    assert summary.loc[("gan", "control/t1c/psnr"), "mean"] == 22.0
    assert ("gan", "control/t2w/psnr") not in summary.index
    assert summary.loc[("true", "t2w/cnr"), "mean"] == 4.0
    assert ("true", "t2w/psnr") not in summary.index


def test_the_mean_is_over_the_contrasts_of_a_subject(summary):
    # (20 + 30) / 2, (21 + 31) / 2, and 22 alone.
    assert summary.loc[("gan", "mean/psnr"), "mean"] == pytest.approx((25 + 26 + 22) / 3)
    assert ("classical", "mean/psnr") not in summary.index  # has not all contrasts
    assert ("gan", "mean/cnr") not in summary.index  # a mean over contrasts says nothing
    assert ("gan", "mean/lesion_dice") not in summary.index


def test_differences_pair_images_before_any_mean():
    pairs = [("taskgan", "gan"), ("taskgan", "classical"), ("taskgan", "l1")]
    found = difference_table(make_table(), metrics=METRICS, pairs=pairs, seed=0)
    found = found.set_index(["first", "second", "metric"])
    assert set(found.index.get_level_values("second")) == {"gan", "classical"}
    assert found.loc[("taskgan", "gan", "mean/psnr"), "mean"] == 1.0
    assert found.loc[("taskgan", "classical", "t2w/psnr"), "mean"] == 3.0
    assert found.loc[("taskgan", "classical", "t2w/psnr"), "subjects"] == 2
    # Of t1c the classical fit has nothing: no difference, and no mean over contrasts either.
    assert ("taskgan", "classical", "t1c/psnr") not in found.index
    assert ("taskgan", "classical", "mean/psnr") not in found.index
    assert "t2w/cnr" not in found.index.get_level_values("metric")
    assert ("taskgan", "gan", "t2w/cnr_error") in found.index


def test_a_single_group_is_none_apart():
    table = make_table()
    for group in ("patient", ""):
        table["group"] = group
        assert not any(key.count("/") == 2 for key in summary_table(table, metrics=METRICS, seed=0)["metric"])


def test_keys_and_titles():
    for key in ("psnr", "t1w/psnr", "patient/t1w/psnr"):
        assert str(MetricKey.parse(key)) == key
    assert METRICS.title_of("observer_2_slice_accuracy").title == "Observer 2 accuracy, slices"
    names = ["observer_mae", "task_mae", "task_patch_accuracy", "psnr", "observer_slice_accuracy"]
    expected = ["psnr", "task_patch_accuracy", "task_mae", "observer_slice_accuracy", "observer_mae"]
    assert METRICS.in_order(names) == expected
    assert METRICS.strata.in_order(["pdw", "mean", "stir", "adc"]) == ["stir", "pdw", "adc", "mean"]


def test_differences_of_t1w_and_t2_flair_come_first():
    keys = ["t1_flair/psnr", "t2_flair/ssim", "mean/psnr", "t1w/psnr", "t2_flair/psnr", "patient/t1w/psnr"]
    keys += ["t1w/task_patch_accuracy", "t1w/nrmse"]
    rows = difference_rows(keys, METRICS)
    assert list(rows) == ["t1w/psnr", "t2_flair/psnr", "t2_flair/ssim", "t1_flair/psnr", "mean/psnr"]
    assert rows["t2_flair/psnr"] == ("psnr", "T2-FLAIR, PSNR (dB)")


def test_render_has_contrasts_as_columns():
    nothing = float("nan")
    rows = [
        ("gan", "t2_flair/psnr", 25.0, 24.5, 25.5, 3),
        ("gan", "t1w/psnr", 25.684, 25.0, 26.0, 3),
        ("gan", "mean/psnr", 25.3, 25.1, 25.4, 3),
        ("gan", "patient/t1w/psnr", 25.0, nothing, nothing, 1),
        ("gan", "t1w/nrmse", 0.5, 0.4, 0.6, 3),
        ("gan", "t2_flair/lesion_dice", 0.5, 0.4, 0.6, 2),
        ("taskgan", "t1w/psnr", 29.56, 29.0, 30.0, 3),
        ("taskgan", "control/t1w/psnr", 29.5, 29.0, 30.0, 2),
        ("true", "t2_flair/lesion_dice", 0.7, 0.6, 0.8, 2),
    ]
    columns = ["method", "metric", "mean", "low", "high", "subjects"]
    differences = pd.DataFrame(
        [("taskgan", "gan", "t1w/psnr", 3.876, 3.0, 4.75, 3)], columns=["first", "second", *columns[1:]]
    )
    assert render(pd.DataFrame(rows, columns=columns), differences, METRICS) == (
        "### PSNR (dB)\n"
        "\n"
        "| Method   | T1w                  | T2-FLAIR             | Mean                 |\n"
        "| -------- | -------------------- | -------------------- | -------------------- |\n"
        "| GAN      | 25.68 (25.00, 26.00) | 25.00 (24.50, 25.50) | 25.30 (25.10, 25.40) |\n"
        "| Task-GAN | 29.56 (29.00, 30.00) | n/a                  | n/a                  |\n"
        "\n"
        "### Lesions, segmented independently\n"
        "\n"
        "| Method     | T2-FLAIR: Dice, lesion mask |\n"
        "| ---------- | --------------------------- |\n"
        "| GAN        | 0.500 (0.400, 0.600)        |\n"
        "| True image | 0.700 (0.600, 0.800)        |\n"
        "\n"
        "### PSNR (dB): control and patient apart\n"
        "\n"
        "| Method, group     | T1w                  |\n"
        "| ----------------- | -------------------- |\n"
        "| GAN, patient      | 25.00                |\n"
        "| Task-GAN, control | 29.50 (29.00, 30.00) |\n"
        "\n"
        "### Paired differences\n"
        "\n"
        "| Metric         | Task-GAN - GAN       |\n"
        "| -------------- | -------------------- |\n"
        "| T1w, PSNR (dB) | +3.88 (+3.00, +4.75) |\n"
    )
