from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from medrestore.study.analysis import tables
from medrestore.study.analysis.unblinded import unblind
from medrestore.study.layout import QUALIFICATION


def test_errors_are_counted_as_in_the_paper():
    # Task-GAN, table 3: two readers, ten data sets, 7 of 20 decisions wrong; here 3 and 4.
    truth = [1, 0] * 5
    reads = pd.DataFrame(
        [
            {"reader": reader, "method": "gan", "truth": t, "rating": 1 - t if case < wrong else t}
            for reader, wrong in (("anna", 3), ("bert", 4))
            for case, t in enumerate(truth)
        ]
    )
    table = tables.error_table(reads).set_index("reader")
    assert table.loc["all", ["errors", "reads", "error_rate"]].tolist() == [7, 20, 0.35]
    assert np.isnan(table.loc["all", "low"])
    assert table.loc["anna", "errors"] == 3
    # Wilson, z = 1.959964: (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)
    z, n, p = 1.959964, 10, 0.3
    middle, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert table.loc["anna", "low"] == pytest.approx((middle - half) / (1 + z * z / n), abs=1e-6)
    assert table.loc["anna", "high"] == pytest.approx((middle + half) / (1 + z * z / n), abs=1e-6)


def test_times_leave_duplicates_and_reads_without_time_out():
    seconds = [10.0, 20.0, 30.0, 40.0, 50.0, 1000.0, np.nan]
    reads = pd.DataFrame(
        {"reader": "anna", "arm": "gan", "seconds": seconds, "repeat": [0, 0, 0, 0, 0, 1, 0]}
    )
    row = tables.time_table(reads).iloc[0]
    assert row.tolist() == ["all", "gan", 5, 30.0, 20.0, 40.0]


def test_learning_compares_halves_of_the_first_session_with_later_ones():
    reads = pd.DataFrame(
        {
            "reader": "anna",
            "session": [1, 1, 1, 1, 2, 2],
            "position": [1, 2, 3, 4, 1, 2],
            "seconds": [60.0, 50.0, 40.0, 30.0, 21.0, 23.0],
        }
    )
    assert tables.learning_table(reads).iloc[0].tolist() == ["anna", 55.0, 35.0, 45.0, 22.0]


def test_quality_counts_every_level(read_example):
    held = unblind(read_example)
    question = read_example.protocol["quality"]
    ratings = held.answers("quality", "human")
    ratings = ratings[ratings["repeat"] == 0]
    table = tables.quality_table(ratings, question)
    assert len(table) == 4 * 3 * 5  # all and three readers, three arms, five levels
    for arm in read_example.arms:
        own = table[(table["reader"] == "all") & (table["arm"] == arm)]
        assert own["reads"].sum() == 60
        assert own["label"].tolist() == list(question.options.values())
        assert (
            own.loc[own["rating"] == 4, "reads"].item()
            == ((ratings["arm"] == arm) & (ratings["rating"] == 4)).sum()
        )


def test_answers_are_counted_one_by_one(read_example):
    held = unblind(read_example)
    table = tables.answer_table(held, "human").set_index(["question", "answer", "arm"])
    reads = held.reads("human")
    for arm in read_example.arms:
        own = [
            row
            for row, a, r in zip(reads["answers"], reads["arm"], reads["repeat"], strict=True)
            if a == arm and not r
        ]
        assert table.loc[("positive", "yes", arm), "reads"] == sum(item["positive"] for item in own)
        assert table.loc[("frontal", "2 moderate", arm), "reads"] == sum(item["frontal"] == 2 for item in own)
        assert table.loc[("remark", "given", arm), "reads"] == 0
        scores = table.loc["score"].xs(arm, level="arm")["reads"]
        assert scores.sum() == len(own)
    assert "guess" not in table.index.get_level_values("question")


def test_completeness_names_what_was_read_and_when(make_study, fill, a_read, correct, readings_of, tmp_path):
    study = make_study(tmp_path / "study", readers=("anna", "bert", "carl"), duplicates=2)
    lost = study.plan["cases"][3]  # has no duplicate

    def answer(row: Any) -> Any:
        gone = row["reader"] == "carl" or (row["reader"] == "bert" and row["case"] == lost)
        return None if gone else a_read(True)

    fill(study, answer, days_between=15)
    last = next(row for row in readings_of(study) if row["reader"] == "anna" and row["session"] == 4)
    correct(study, last, a_read(False))
    table = tables.completeness_table(unblind(study, missing="drop_cases")).set_index("reader")
    counts = table[["planned", "read", "missing", "duplicates", "corrected"]]
    assert counts.loc["anna"].tolist() == [14, 14, 0, 2, 1]
    assert counts.loc["bert"].tolist() == [14, 11, 3, 2, 0]
    assert counts.loc["carl"].tolist() == [14, 0, 14, 0, 0]
    assert table["least_days_between_sessions"].tolist() == pytest.approx([15, 15, np.nan], nan_ok=True)
    assert table["first"].tolist() == ["2026-03-02", "2026-03-02", ""]
    assert table["last"].tolist() == ["2026-04-16", "2026-04-16", ""]


def test_corrections_are_counted_by_reason(make_study, fill, a_read, correct, readings_of, tmp_path):
    study = fill(make_study(tmp_path / "study", training=1), lambda row: a_read(True))
    rows = readings_of(study)
    mine = [
        row
        for row in rows
        if row["phase"] == "reading" and row["reader"] == "reader_2" and row["arm"] == study.arms[1]
    ]
    for row in mine[:2]:
        correct(study, row, a_read(False), reason="slipped")
    correct(study, next(row for row in rows if row["phase"] == "training"), a_read(False), reason="slipped")
    table = tables.correction_table(unblind(study), "human")
    assert table.to_dict("records") == [
        {"reader": "reader_2", "arm": study.arms[1], "reason": "slipped", "corrections": 2}
    ]


def test_qualification_is_judged_attempt_by_attempt(make_study, fill, a_read, tmp_path):
    study = make_study(tmp_path / "study", qualification=5, pass_mark=0.8, readers=("anna",))

    def answer(row: Any) -> Any:
        wrong = row["phase"] == QUALIFICATION and row["position"] <= (2 if row["attempt"] == 1 else 1)
        return a_read(bool(row["truth"]) != wrong)

    fill(study, answer)
    found = tables.qualification_table(study, unblind(study).rows)
    assert found.to_numpy().tolist() == [["anna", 1, 3, 5, False], ["anna", 2, 4, 5, True]]
