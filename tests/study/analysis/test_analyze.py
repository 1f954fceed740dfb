from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medrestore.checks import InputError
from medrestore.files import sha256_file
from medrestore.study.analysis.analyze import analyze_study, study_reads
from medrestore.study.analysis.reader_group import Settings
from medrestore.study.layout import READING, Study, open_study
from medrestore.study.statistics.analyze import analyze_table
from medrestore.study.statistics.reads import read_table

STANDARD, LOW, RESTORED = "armstandardzz", "armlowdosezz", "armtaskganzz"


def raw_reads(study: Study) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Answers by reader, arm and case, put together from the files alone, row by row."""
    image = {row["image_id"]: row for row in study.key.to_dict("records")}
    place = {row["read_id"]: row for row in study.reading_list.to_dict("records")}
    found = {}
    with sqlite3.connect(study.reads_path) as connection:
        for read_id, answers in connection.execute("SELECT read_id, answers FROM reads ORDER BY row"):
            row = place[read_id]
            if row["phase"] == READING and row["repeat"] == 0:
                key = image[row["image_id"]]
                found[row["reader"], key["arm"], key["case"]] = json.loads(answers)
    return found


def test_measures_are_those_of_a_slow_loop_over_the_rows(read_example):
    group = analyze_study(read_example).main
    reads, truth = raw_reads(read_example), read_example.truth
    for reader in read_example.readers:
        for arm in read_example.arms:
            own = {case: item for (r, a, case), item in reads.items() if (r, a) == (reader, arm)}
            assert len(own) == 20
            right = {case: item["positive"] == bool(truth[case]) for case, item in own.items()}
            positive = [right[case] for case in own if truth[case] == 1]
            negative = [right[case] for case in own if truth[case] == 0]
            expected = {
                "error_rate": 1 - np.mean(list(right.values())),
                "accuracy": np.mean(list(right.values())),
                "sensitivity": np.mean(positive),
                "specificity": np.mean(negative),
                "auc": roc_auc_score([truth[case] for case in own], [item["score"] for item in own.values()]),
                "mean_quality": np.mean([item["quality"] for item in own.values()]),
                "share_quality_at_least_3": np.mean([item["quality"] >= 3 for item in own.values()]),
            }
            assert set(expected) == set(group.measures)
            for name, value in expected.items():
                rows = group.measures[name].as_dict()["per_reader"]
                row = next(row for row in rows if (row["reader"], row["method"]) == (reader, arm))
                assert row["estimate"] == pytest.approx(value, abs=1e-12), name


def test_the_primary_endpoint_is_what_the_engine_finds_in_a_csv_file(read_example, tmp_path):
    analysis = analyze_study(read_example.folder, Settings(alpha=0.1, correction="bonferroni"))
    study_reads(read_example).to_csv(tmp_path / "reads.csv", index=False)
    alone = analyze_table(
        read_table(tmp_path / "reads.csv"),
        metric="error_rate",
        reference=STANDARD,
        margin=0.3,
        correction="none",
    )
    verdict = analysis.main.verdict
    assert verdict is not None
    row = next(r for r in alone.as_dict()["differences_from_reference"] if r["first"] == RESTORED)
    assert asdict(verdict.difference) == row
    assert analysis.main.primary is not None
    assert analysis.main.primary.as_dict()["alpha"] == 0.05  # the plan's, whatever the others have
    assert analysis.main.measures["auc"].as_dict()["alpha"] == 0.1
    tested = next(r for r in alone.as_dict()["non_inferiority"] if r["method"] == RESTORED)
    assert verdict.non_inferiority is not None
    assert asdict(verdict.non_inferiority) == tested
    assert "interval" in verdict.text


def test_study_reads_are_found_by_question_metric_or_plan(read_example):
    by_plan = study_reads(read_example)
    assert by_plan.equals(study_reads(read_example, "positive"))
    assert list(by_plan) == ["reader", "method", "case", "truth", "rating"]
    assert len(by_plan) == 3 * 3 * 20
    scores = study_reads(read_example, metric="auc")
    assert scores.equals(study_reads(read_example, "score"))
    assert set(scores["rating"]) > {1.0, 10.0}
    assert study_reads(read_example, metric="share_at_least").equals(study_reads(read_example, "quality"))
    with pytest.raises(InputError, match="no question is called 'qualty'"):
        study_reads(read_example, "qualty")
    with pytest.raises(InputError, match="metric must be one of 'auc'"):
        study_reads(read_example, metric="kappa")


def test_identical_arms_differ_by_0_with_p_1(make_study, fill, a_read, study_folder):
    study = make_study(study_folder, cases=12, readers=("anna", "bert", "carl"))
    cases = study.plan["cases"]

    def answer(row: Any) -> Any:
        wrong = (cases.index(row["case"]) * 7 + len(row["reader"]) + ord(row["reader"][0])) % 5 == 0
        return a_read(bool(row["truth"]) != wrong, confidence=1 + cases.index(row["case"]) % 5)

    fill(study, answer)
    group = analyze_study(study).main
    for name, found in group.measures.items():
        for row in found.as_dict()["differences"]:
            assert (row["difference"], row["p"]) == (0.0, 1.0), name
    assert group.verdict is not None
    assert group.verdict.difference.p == 1.0


def test_humans_and_models_are_never_pooled(make_study, fill, a_read, study_folder):
    readers = {"anna": "human", "bert": "human", "net_1": "model", "net_2": "model"}
    study = make_study(study_folder, cases=8, readers=readers)
    fill(study, lambda row: a_read(bool(row["truth"]) != (study.readers[row["reader"]] == "model")))
    analysis = analyze_study(study)
    assert [group.kind for group in analysis.groups] == ["human", "model"]
    assert not analysis.is_rehearsal
    for group, rate in zip(analysis.groups, (0.0, 1.0), strict=True):
        assert {row["mean"] for row in group.measures["error_rate"].as_dict()["methods"]} == {rate}
        assert set(group.tables.errors["reader"]) == {"all", *group.readers}
    assert analysis.main.readers == ("anna", "bert")


def test_a_study_that_only_models_read_is_a_rehearsal(make_study, fill, noisy_answer, study_folder):
    study = make_study(study_folder, cases=8, readers={"anna": "human", "net_1": "model", "net_2": "model"})
    fill(study, lambda row: noisy_answer(row) if row["reader"] != "anna" else None)
    analysis = analyze_study(study)
    assert analysis.is_rehearsal
    assert "REHEARSAL WITH MODEL READERS" in analysis.summary
    assert "No read yet of anna" in analysis.summary


def test_one_reader_is_analyzed_as_fixed_and_told_so(make_study, fill, noisy_answer, study_folder):
    study = fill(make_study(study_folder, cases=12, readers=("anna",)), noisy_answer)
    group = analyze_study(study).main
    assert group.taken_as == "fixed"
    assert any("hold for this reader alone" in note for note in group.notes)
    assert group.verdict is not None
    assert group.measures["error_rate"].as_dict()["conclusions_from"] == "fixed_readers"


def test_the_arm_that_is_the_truth_has_no_errors_and_no_comparison(
    make_study, fill, noisy_answer, study_folder
):
    primary = {"metric": "error_rate", "arm": RESTORED, "reference": STANDARD, "margin": None}
    study = make_study(
        study_folder,
        cases=12,
        readers=("anna", "bert", "carl"),
        primary={**primary, "alpha": 0.05, "covariance": "jackknife"},
        plan={"truth": {"consensus_of": STANDARD, "ties": "refuse"}},
    )
    fill(study, noisy_answer)
    group = analyze_study(study).main
    assert set(group.tables.errors["arm"]) == {LOW, RESTORED}
    assert group.arms[0] == STANDARD
    assert [row["method"] for row in group.measures["auc"].as_dict()["methods"]] == [LOW, RESTORED]
    assert [row["method"] for row in group.measures["mean_quality"].as_dict()["methods"]] == study.arms
    assert group.verdict is None
    assert any("which therefore has no errors by definition" in note for note in group.notes)


def test_a_measure_that_cannot_be_had_is_named_and_the_others_are_there(
    make_study, fill, a_read, study_folder
):
    study = make_study(study_folder, cases=6, readers=("anna", "bert"))
    path = study.private / "truth.csv"
    path.write_text("case,truth\n" + "".join(f"{case},0\n" for case in study.plan["cases"]))
    design = json.loads((study.private / "design.json").read_text())
    design["truth_sha256"] = sha256_file(path)
    (study.private / "design.json").write_text(json.dumps(design))
    fill(open_study(study_folder), lambda row: a_read(row["position"] % 3 == 0))
    group = analyze_study(study_folder).main
    assert {"sensitivity", "auc"}.isdisjoint(group.measures)
    assert {"error_rate", "specificity", "mean_quality"} <= set(group.measures)
    assert [note.split(":")[0] for note in group.notes] == ["Sensitivity", "AUC"]
    assert "metric 'sensitivity' needs two positive cases, got 0" in group.notes[0]


def test_missing_reads_are_refused_or_told(make_study, fill, noisy_answer, study_folder):
    study = make_study(study_folder, cases=10, readers=("anna", "bert"))
    lost = study.plan["cases"][4]

    def answer(row: Any) -> Any:
        return None if (row["reader"], row["case"], row["arm"]) == ("anna", lost, LOW) else noisy_answer(row)

    fill(study, answer)
    with pytest.raises(InputError, match=r"1 of 62 readings are missing \(anna: 1 of 31\)"):
        analyze_study(study)
    analysis = analyze_study(study, Settings(missing="drop_cases"))
    assert analysis.main.cases == 9
    assert "1 of 10 cases were left out" in analysis.notes[0]
    assert all(found.as_dict()["cases"]["total"] == 9 for found in analysis.main.measures.values())


def test_a_damaged_study_is_refused(make_study, fill, noisy_answer, study_folder):
    study = fill(make_study(study_folder, cases=6), noisy_answer)
    connection = sqlite3.connect(study.reads_path)
    connection.execute("DROP TRIGGER rows_are_not_removed")
    connection.execute("DELETE FROM reads WHERE row = 5")
    connection.commit()
    connection.close()
    with pytest.raises(InputError, match=r"row 5 is missing.*Nothing was analyzed"):
        analyze_study(study_folder)


def test_settings_are_checked_before_anything_is_computed(read_example):
    with pytest.raises(InputError, match="correction must be one of 'holm'"):
        analyze_study(read_example, Settings(correction="tukey"))
    with pytest.raises(InputError, match="missing must be one of 'refuse', 'drop_cases'"):
        analyze_study(read_example, Settings(missing="impute"))


def test_a_study_without_primary_endpoint_is_exploratory(make_study, fill, noisy_answer, study_folder):
    study = make_study(study_folder, cases=6, plan={"primary": None})
    analysis = analyze_study(fill(study, noisy_answer))
    assert analysis.main.verdict is None
    assert analysis.main.primary is None
    assert "exploratory" in analysis.summary
    assert study_reads(study).equals(study_reads(study, "positive"))
