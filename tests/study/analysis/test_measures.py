"""A figure of merit is one line of a table: plans, analyses and reports take it from there."""

from __future__ import annotations

import pytest

from medrestore.study.analysis.analyze import analyze_study
from medrestore.study.measures import MEASURES, Measure
from medrestore.study.planning.sections import primary_section
from medrestore.study.report.report import render_report


def test_a_new_figure_of_merit_touches_one_place(monkeypatch, make_study, fill, noisy_answer, tmp_path):
    false_alarms = Measure(
        *("false_alarms", "false_alarms", "False alarms", "rate of false alarms", "decision"),
        lambda ratings, _: ratings,
        classes=(0,),
        higher_is_better=False,
    )
    monkeypatch.setitem(MEASURES, "false_alarms", false_alarms)
    arms = ("armstandardzz", "armlowdosezz", "armtaskganzz")
    primary = {"metric": "false_alarms", "arm": arms[2], "reference": arms[1], "margin": 0.2}
    study = make_study(tmp_path / "study", cases=12, primary=primary_section(primary, arms, None))
    analysis = analyze_study(fill(study, noisy_answer))
    entry = analysis.main.measures["false_alarms"].as_dict()
    specificity = analysis.main.measures["specificity"].as_dict()
    assert [row["mean"] for row in entry["methods"]] == pytest.approx(
        [1 - row["mean"] for row in specificity["methods"]]
    )
    assert "Rate of false alarms was" in analysis.summary
    files = render_report(analysis)
    assert "human/analysis_false_alarms.json" in files
    assert b"<th>False alarms</th>" in files["report.html"]
    assert b"primary endpoint was the rate of false alarms" in files["methods.txt"]
