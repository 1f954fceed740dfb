from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from medrestore.checks import InputError
from medrestore.study.analysis.unblinded import unblind
from medrestore.study.layout import READING, open_study


def of_phase(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["phase"] == READING]


def test_the_last_correction_counts_and_the_first_time(
    make_study, fill, a_read, correct, readings_of, study_folder
):
    study = fill(make_study(study_folder), lambda row: a_read(True), seconds=lambda _: 41.0)
    row = next(row for row in of_phase(readings_of(study)) if row["repeat"] == 0)
    correct(study, row, a_read(False))
    held = unblind(study)
    same = held.planned.set_index("read_id").loc[row["read_id"]]
    assert same["answers"]["positive"] is False
    assert same["seconds"] == 41.0
    assert same["corrections"] == 1
    table = held.long("positive", "human", judged=True)
    chosen = table[
        (table["reader"] == row["reader"]) & (table["case"] == row["case"]) & (table["method"] == row["arm"])
    ]
    assert chosen["rating"].tolist() == [0.0]


def test_training_qualification_and_duplicates_are_not_analyzed(make_study, fill, a_read, study_folder):
    study = make_study(study_folder, training=2, qualification=2, duplicates=2)
    fill(study, lambda row: a_read(bool(row["truth"])))
    held = unblind(study)
    # 2 readers, 3 arms, 4 cases, and 2 duplicates each.
    assert len(held.planned) == 2 * (3 * 4 + 2)
    table = held.long("positive", "human", judged=True)
    assert len(table) == 2 * 3 * 4
    assert set(table["case"]) == set(study.plan["cases"])
    assert (table["rating"] == table["truth"]).all()
    assert list(dict.fromkeys(table["method"])) == study.arms
    assert len(held.answers("positive", "human")) == 2 * (3 * 4 + 2)


def test_missing_readings_are_counted_by_reader(make_study, fill, a_read, study_folder):
    study = make_study(study_folder, readers=("anna", "bert", "carl"), duplicates=0)

    def answer(row: Any) -> Any:
        gone = row["reader"] == "bert" and row["session"] == 3
        return (
            None
            if gone or (row["reader"], row["position"], row["session"]) == ("carl", 1, 1)
            else a_read(True)
        )

    fill(study, answer)
    with pytest.raises(InputError, match=r"5 of 36 readings are missing \(bert: 4 of 12; carl: 1 of 12\)"):
        unblind(study)


def test_declared_missing_reads_drop_their_cases(make_study, fill, a_read, readings_of, study_folder):
    study = make_study(study_folder, readers=("anna", "bert", "carl"))
    lost = next(row for row in of_phase(readings_of(study)) if row["reader"] == "bert")["case"]

    def answer(row: Any) -> Any:
        if row["reader"] == "carl" or (row["reader"] == "bert" and row["case"] == lost):
            return None
        return a_read(True)

    fill(study, answer)
    held = unblind(study, missing="drop_cases")
    assert held.dropped["human"] == (lost,)
    assert held.readers["human"] == ("anna", "bert")
    assert held.silent == ("carl",)
    table = held.long("positive", "human", judged=True)
    assert set(table["case"]) == set(study.plan["cases"]) - {lost}
    assert len(table) == 2 * 3 * 3


def test_nothing_left_is_refused(make_study, fill, a_read, study_folder):
    study = make_study(study_folder)
    with pytest.raises(InputError, match="no image has been read yet"):
        unblind(study)
    fill(study, lambda row: a_read(True) if row["session"] == 1 else None)
    with pytest.raises(InputError, match="no case was read by every reader under every arm"):
        unblind(study, missing="drop_cases")


def test_a_changed_row_is_refused(make_study, fill, a_read, study_folder):
    study = fill(make_study(study_folder), lambda row: a_read(True))
    connection = sqlite3.connect(study.reads_path)
    connection.execute("DROP TRIGGER rows_are_not_changed")
    connection.execute("""UPDATE reads SET answers = replace(answers, 'true', 'false') WHERE row = 3""")
    connection.commit()
    connection.close()
    with pytest.raises(InputError, match="row 3 was changed after it was written"):
        unblind(study)


@pytest.mark.parametrize(
    ("ties", "truth"), [("exclude", None), ("positive", 1), ("negative", 0), ("refuse", "error")]
)
def test_a_consensus_is_the_majority_of_the_first_reads(make_study, fill, a_read, study_folder, ties, truth):
    arm = "armstandardzz"
    readers = {"anna": "human", "bert": "human", "net_1": "model"}
    study = make_study(
        study_folder, readers=readers, duplicates=4, plan={"truth": {"consensus_of": arm, "ties": ties}}
    )
    first, second, third, _ = study.plan["cases"]

    def answer(row: Any) -> Any:
        # Models and hidden duplicates have no vote.
        if row["reader"] == "net_1" or row["repeat"] == 1 or row["arm"] != arm:
            return a_read(True)
        votes = {first: (True, True), second: (False, False), third: (True, False)}
        return a_read(votes.get(row["case"], (False, False))[row["reader"] == "bert"])

    fill(study, answer)
    if truth == "error":
        with pytest.raises(InputError, match=f"split over 1 cases of arm '{arm}'.*: {third}. Remedy"):
            unblind(study)
        return
    held = unblind(study)
    assert held.truth_arm == arm
    assert (held.truth[first], held.truth[second]) == (1, 0)
    assert held.truth.get(third) == truth
    assert held.tied == ((third,) if ties == "exclude" else ())
    judged = held.long("positive", "human", judged=True)
    assert arm not in set(judged["method"])
    assert (third in set(judged["case"])) == (ties != "exclude")
    assert arm in set(held.long("quality", "human", judged=False)["method"])


def test_an_unanswered_question_is_named_or_declared(make_study, fill, a_read, readings_of, study_folder):
    study = make_study(study_folder, readers={"net_1": "model", "net_2": "model"}, duplicates=0)
    silent = study.plan["cases"][1]

    def answer(row: Any) -> Any:
        given = a_read(True)
        if row["reader"] == "net_2" or (row["case"] == silent and row["arm"] == study.arms[0]):
            del given["quality"]
        return given

    fill(study, answer)
    held = unblind(study)
    assert set(held.long("positive", "model", judged=True)["reader"]) == {"net_1", "net_2"}
    with pytest.raises(InputError, match="1 of 12 answers to question 'quality' are missing"):
        held.long("quality", "model", judged=False)
    table = unblind(study, missing="drop_cases").long("quality", "model", judged=False)
    assert set(table["reader"]) == {"net_1"}  # net_2 never rated quality
    assert set(table["case"]) == set(study.plan["cases"]) - {silent}


def test_humans_and_models_are_told_apart(make_study, fill, a_read, study_folder):
    readers = {"anna": "human", "net_1": "model"}
    study = make_study(study_folder, readers=readers)
    fill(study, lambda row: a_read(True) if row["reader"] == "net_1" else None)
    held = unblind(open_study(study_folder))
    assert held.kinds == ("model",)
    assert held.main_kind == "model"
    assert held.silent == ("anna",)
    assert set(held.reads("model")["reader"]) == {"net_1"}
    assert held.reads("human").empty
