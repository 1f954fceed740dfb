"""The verdict on restorations, at tables whose differences are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medrestore.evaluation.rendering import render
from medrestore.evaluation.tables import difference_table, summary_table
from medrestore.evaluation.titles import FIDELITY, Metrics, Strata
from medrestore.evaluation.verdict import overall, verdict_note, verdict_sentences, verdict_table

METRICS = Metrics(
    FIDELITY, diagnosis=("dice", "observer_mae"), baselines={"gaussian": "Gaussian filter", "nlm": "NLM"}
)
SUBJECTS = 6
SPREAD = np.array([-0.5, -0.3, -0.1, 0.1, 0.3, 0.5])
"""Of differences over subjects: their mean is 0, and its bootstrap interval reaches to about +-.27."""


def table(**methods: tuple[float, float]) -> pd.DataFrame:
    """PSNR and observer's MAE of each method: the mean of its differences to 20 dB and .5 over subjects."""
    rows = [
        {
            "subject_id": f"s{subject}",
            "session_id": "1",
            "method": method,
            "psnr": 20 + psnr + (SPREAD[subject] if method == "ours" else 0),
            "observer_1_mae": 0.5 + mae + (0.1 * SPREAD[subject] if method == "ours" else 0),
            "observer_2_mae": 0.5 + mae,
            "task_mae": 0.0,
        }
        for method, (psnr, mae) in methods.items()
        for subject in range(SUBJECTS)
    ]
    truth = [{**row, "method": "true", "psnr": np.nan} for row in rows[:SUBJECTS]]
    return pd.DataFrame(rows + truth)


def verdicts(metrics: Metrics = METRICS, **methods: tuple[float, float]) -> pd.DataFrame:
    return verdict_table(table(**methods), metrics=metrics, seed=0)


@pytest.mark.parametrize(
    ("psnr", "mae", "words", "word"),
    [
        (1, -0.1, ["better", "better"], "better"),
        (-1, -0.1, ["better", "worse"], "worse"),
        (1, 0.1, ["worse", "better"], "worse"),
        (0, 0, ["no different", "no different"], "no different"),
        (1, 0, ["no different", "better"], "better"),
        (-1, 0, ["no different", "worse"], "worse"),
    ],
)
def test_words_by_the_interval(psnr, mae, words, word):
    found = verdicts(input=(0, 0), ours=(psnr, mae))
    assert list(found["metric"]) == ["observer_mae", "psnr"]
    assert list(found["verdict"]) == words
    assert overall(found["verdict"]) == word
    assert verdict_sentences(found, METRICS)["ours"].startswith(f"{word} ")


def test_numbers_are_paired_and_observers_averaged():
    found = verdicts(input=(0, 0), ours=(1, -0.2)).set_index("metric")
    # Two observers, one of which varies by .1 of the spread: half of it remains.
    np.testing.assert_allclose(found["mean"], [-0.2, 1.0], atol=1e-12)
    halves = (found["high"] - found["low"]).to_numpy() / 2
    assert halves[0] == pytest.approx(0.05 * halves[1], rel=1e-9)
    assert 0 < halves[1] < SPREAD.max()
    assert list(found["subjects"]) == [SUBJECTS] * 2


def test_the_best_classical_method_is_the_best_by_each_metric():
    found = verdicts(input=(0, 0), gaussian=(3, -0.1), nlm=(1, -0.3), ours=(4, -0.2))
    classical = found[found["second"] != "input"].set_index("metric")
    assert classical["second"].to_dict() == {"observer_mae": "nlm", "psnr": "gaussian"}
    assert classical["verdict"].to_dict() == {"observer_mae": "worse", "psnr": "better"}
    assert set(found["first"]) == {"ours"}  # neither baselines, nor the true image, which has no PSNR
    text = verdict_sentences(found, METRICS)["ours"]
    against_input, against_classical = text.split("; worse than the best classical method (")
    assert against_input.startswith("better than the input (Observer MAE -0.200 (")
    assert "against NLM, worse; PSNR (dB) +1.00 (" in against_classical
    assert text.endswith("against Gaussian filter, better).")


def test_one_classical_method_is_named_once():
    found = verdicts(gaussian=(3, 0), ours=(0, 0))
    text = verdict_sentences(found, METRICS)["ours"]
    assert text.startswith("worse than the best classical method, Gaussian filter (Observer MAE")
    assert "input" not in text and "against" not in text


def test_the_first_metric_of_diagnosis_that_was_measured_counts():
    held = table(input=(0, 0), ours=(0, 0.1)).assign(dice=0.5)
    assert set(verdict_table(held, metrics=METRICS, seed=0)["metric"]) == {"dice", "psnr"}
    held = held.drop(columns=["dice", "observer_1_mae", "observer_2_mae"])
    assert set(verdict_table(held, metrics=METRICS, seed=0)["metric"]) == {"psnr"}  # T is no observer
    alone = verdict_table(table(input=(0, 0), ours=(1, 1)), metrics=Metrics(FIDELITY), seed=0)
    assert set(alone["metric"]) == {"psnr"}
    assert overall(alone["verdict"]) == "better"


def test_images_that_one_of_both_lacks_do_not_count():
    metrics = Metrics(FIDELITY, strata=Strata("kind"), baselines={"fit": "Fit"})
    rows = [("fit", "a", 1.0), ("ours", "a", 3.0), ("ours", "b", 90.0)]
    held = pd.DataFrame(
        {"subject_id": f"s{number}", "session_id": "1", "method": method, "kind": kind, "psnr": psnr + number}
        for number in range(3)
        for method, kind, psnr in rows
    )
    (found,) = verdict_table(held, metrics=metrics, seed=0).to_dict("records")
    assert (found["mean"], found["low"], found["high"]) == (2, 2, 2)


def test_a_single_subject_tells_nothing():
    held = table(input=(0, 0), ours=(1, -0.1))
    found = verdict_table(held[held["subject_id"] == "s0"], metrics=METRICS, seed=0)
    assert set(found["verdict"]) == {"not told"}
    assert verdict_sentences(found, METRICS)["ours"].startswith("not told against the input")


def test_without_a_reference_there_is_no_verdict():
    found = verdicts(ours=(1, 0))
    assert found.empty
    assert verdict_sentences(found, METRICS) == {}
    assert verdict_note(found) == []


def test_verdicts_stand_above_the_tables():
    held = table(input=(0, 0), ours=(1, -0.1))
    summary = summary_table(held, metrics=METRICS, seed=0)
    differences = difference_table(held, metrics=METRICS, seed=0)
    said = verdict_sentences(verdict_table(held, metrics=METRICS, seed=0), METRICS)
    text = render(summary, differences, METRICS, verdicts=said)
    assert text.startswith("### Verdict\n\n**ours**: better than the input (")
    assert text.endswith(render(summary, differences, METRICS))
