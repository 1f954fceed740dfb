"""Export and import of reads: blinded unless told otherwise, all rows checked before the first is written."""

from __future__ import annotations

import csv
import uuid
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from medrestore.checks import InputError
from medrestore.study.layout import Study
from medrestore.study.record.exchange import (
    ANALYSIS_COLUMNS,
    EXPORT_COLUMNS,
    UNBLINDED_COLUMNS,
    export_reads,
    import_reads,
)
from medrestore.study.record.store import ReadStore

COLUMNS = (
    "read_id",
    "frontal",
    "parietal",
    "positive",
    "confidence",
    "quality",
    "artifact",
    "artifact_place",
)
GOOD = {
    "frontal": "2",
    "parietal": "1",
    "positive": "yes",
    "confidence": "4",
    "quality": "4",
    "artifact": "no",
}


def order(study: Study, reader: str = "reader_1") -> list[str]:
    table = study.reading_list
    return list(table.loc[table["reader"] == reader, "read_id"])


def write(path: Path, rows: list[dict[str, str]], columns: tuple[str, ...] = COLUMNS) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def stored(study: Study) -> pd.DataFrame:
    with ReadStore(study, read_only=True) as store:
        return store.rows()


@pytest.fixture
def read_study(study: Study, good_answers: dict[str, Any]) -> Study:
    """Return the study after two reads by the page, one of them corrected, and one by a model."""
    with ReadStore(study) as store:
        for place, changes in enumerate(({}, {"artifact": True, "artifact_place": [1.5, -2, 3]})):
            store.append(
                answer_id=str(uuid.uuid4()),
                read_id=order(study)[place],
                reader="reader_1",
                answers={**good_answers, **changes},
                origin="page",
                seconds=7.5,
            )
        store.append(
            answer_id=str(uuid.uuid4()),
            read_id=order(study)[0],
            reader="reader_1",
            answers={**good_answers, "quality": 5, "remark": 'much, "noise"\nbelow'},
            origin="page",
            reason="typing error",
        )
        store.append(
            answer_id=str(uuid.uuid4()),
            read_id=order(study, "reader_2")[3],
            reader="reader_2",
            answers={"positive": False},
            origin="model",
        )
    return study


def test_an_export_has_one_line_an_answer(read_study, tmp_path):
    path = tmp_path / "reads.csv"
    # 9 answers with the remark and the two derived ones, 9 with the point, 1
    assert export_reads(read_study.folder, path) == 19
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert tuple(table) == EXPORT_COLUMNS
    first = table[table["read_id"] == order(read_study)[0]].set_index("question")
    assert first["value"].to_dict() == {
        "frontal": "2",
        "parietal": "1",
        "load": "2",
        "positive": "1",
        "confidence": "4",
        "score": "9",
        "quality": "5",
        "artifact": "0",
        "remark": 'much, "noise"\nbelow',
    }
    assert set(first["corrections"]) == {"1"}
    assert set(first["reason"]) == {"typing error"}
    assert set(first["seconds"]) == {""}
    second = table[table["read_id"] == order(read_study)[1]].set_index("question")
    assert second.loc["artifact_place", "value"] == "1.5 -2 3"
    assert (second.loc["quality", "seconds"], second.loc["quality", "position"]) == ("7.5", "2")
    last = table.iloc[-1]
    assert (last["reader"], last["origin"], last["question"], last["value"]) == (
        "reader_2",
        "model",
        "positive",
        "0",
    )


def test_a_blinded_export_tells_neither_arm_nor_case_nor_repetition(make_study, tmp_path):
    study = make_study(tmp_path / "study")
    with ReadStore(study) as store:
        store.append_many(
            {
                "answer_id": str(uuid.uuid4()),
                "read_id": row["read_id"],
                "reader": row["reader"],
                "answers": {"positive": True},
                "origin": "model",
            }
            for row in study.reading_list.to_dict("records")
        )
    blinded, unblinded = tmp_path / "blinded.csv", tmp_path / "unblinded.csv"
    assert export_reads(study.folder, blinded) == export_reads(study.folder, unblinded, unblind=True) == 26
    text = blinded.read_text(encoding="utf-8")
    hidden = {*study.arms, *study.key["case"], *study.key["subject"], *study.key["image_id"]}
    assert not [name for name in hidden if name in text]
    assert not {"repeat", "truth", *UNBLINDED_COLUMNS} & set(text.partition("\n")[0].split(","))
    table = pd.read_csv(unblinded, dtype=str)
    assert tuple(table) == (*EXPORT_COLUMNS, *UNBLINDED_COLUMNS)
    images = study.key.set_index("image_id")
    image_of = study.reading_list.set_index("read_id")["image_id"]
    for row in table.to_dict("records"):
        image = images.loc[image_of[row["read_id"]]]
        assert (row["arm"], row["case"], row["image_id"]) == (image["arm"], image["case"], image.name)
        assert int(row["truth"]) == study.truth[image["case"]]
    assert table["repeat"].value_counts().to_dict() == {"0": 24, "1": 2}


def test_an_export_of_one_question_is_a_table_for_the_analysis(make_study, tmp_path):
    study = make_study(tmp_path / "study")
    read = study.reading_list[study.reading_list["phase"] == "reading"]
    arm = study.key.set_index("image_id")["arm"]
    with ReadStore(study) as store:
        store.append_many(
            {
                "answer_id": str(uuid.uuid4()),
                "read_id": row["read_id"],
                "reader": row["reader"],
                "answers": {"positive": arm[row["image_id"]] == study.arms[0]},
                "origin": "model",
            }
            for row in read.to_dict("records")
        )
    path = tmp_path / "positive.csv"
    with pytest.raises(InputError, match="Remedy: --unblind too"):
        export_reads(study.folder, path, question="positive")
    with pytest.raises(InputError, match="no question is called 'posit'"):
        export_reads(study.folder, path, unblind=True, question="posit")
    cases = study.key.loc[study.key["phase"] == "reading", "case"].nunique()
    crossed = len(study.readers) * len(study.arms) * cases
    assert export_reads(study.folder, path, unblind=True, question="positive") == crossed
    frame = pd.read_csv(path)
    assert tuple(frame) == ANALYSIS_COLUMNS
    assert (frame["rating"] == (frame["method"] == study.arms[0])).all()
    assert (frame["truth"] == frame["case"].map(study.truth)).all()
    assert not frame.duplicated(["reader", "method", "case"]).any()


def test_an_export_overwrites_nothing(read_study, tmp_path):
    path = tmp_path / "reads.csv"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match=r"reads\.csv: exists.*Remedy: name a new file"):
        export_reads(read_study.folder, path)
    assert path.read_text(encoding="utf-8") == "mine"


def test_reads_of_another_viewer_come_in_by_number_label_and_word(study, tmp_path):
    first, second, third, *_ = order(study)
    path = write(
        tmp_path / "reads.csv",
        [
            {"read_id": first, **GOOD, "seconds": "61.5"},
            {"read_id": second, **GOOD, "frontal": "Moderate", "positive": "NO", "quality": "excellent"},
            {
                "read_id": third,
                **GOOD,
                "artifact": "true",
                "artifact_place": "(1, -2.5, 3)",
                "frontal": "3.0",
                "load": "3",
                "remark": "1",
            },
            {"read_id": order(study)[3]},
            {"read_id": order(study, "reader_2")[0], **GOOD},
        ],
        (*COLUMNS, "load", "seconds", "remark"),
    )
    imported = import_reads(study.folder, path)
    assert (imported.new, imported.empty, imported.known, imported.corrections) == (4, 1, 0, 0)
    assert str(imported) == "4 reads taken, 1 left empty"
    rows = stored(study)
    assert list(rows["origin"]) == ["import"] * 4
    assert list(rows["reader"]) == ["reader_1"] * 3 + ["reader_2"]
    answers = list(rows["answers"])
    assert answers[0]["positive"] is True
    assert (answers[1]["frontal"], answers[1]["positive"], answers[1]["quality"]) == (2, False, 5)
    assert (answers[2]["frontal"], answers[2]["load"], answers[2]["remark"]) == (3, 3, "1")
    assert answers[2]["artifact_place"] == [1.0, -2.5, 3.0]
    assert rows["seconds"].iloc[0] == 61.5


def test_a_table_of_a_european_spreadsheet_is_read(study, tmp_path):
    path = tmp_path / "reads.csv"
    header = ";".join(("read_id", *GOOD))
    path.write_bytes(f"\ufeff{header}\r\n{order(study)[0]};{';'.join(GOOD.values())}\r\n;;;;;;\r\n".encode())
    assert import_reads(study.folder, path).new == 1


def test_an_import_can_be_repeated_and_continued(study, tmp_path):
    first, second, *_ = order(study)
    import_reads(study.folder, write(tmp_path / "one.csv", [{"read_id": first, **GOOD}, {"read_id": second}]))
    both = write(tmp_path / "two.csv", [{"read_id": first, **GOOD}, {"read_id": second, **GOOD}])
    imported = import_reads(study.folder, both)
    assert str(imported) == "1 read taken, 1 on record already"
    assert str(import_reads(study.folder, both)) == "0 reads taken, 2 on record already"
    changed = [{"read_id": first, **GOOD, "quality": "1"}]
    with pytest.raises(InputError, match=r"row 2, column 'reason': .*a correction needs a reason"):
        import_reads(study.folder, write(tmp_path / "three.csv", changed))
    assert len(stored(study)) == 2
    corrected = write(tmp_path / "four.csv", [{**changed[0], "reason": "slipped"}], (*COLUMNS, "reason"))
    assert str(import_reads(study.folder, corrected)) == "1 read taken, 1 correction among them"
    assert list(stored(study)["reason"].fillna("")) == ["", "", "slipped"]
    assert str(import_reads(study.folder, corrected)) == "0 reads taken, 1 on record already"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"read_id": "0" * 16}, "row 3, column 'read_id': there is no reading '0000000000000000'"),
        ({"frontal": "4"}, r"row 3, column 'frontal': must be one of 1 \(none\), 2 \(moderate\), 3 \(freq"),
        ({"frontal": "severe"}, "row 3, column 'frontal': .*got 'severe'"),
        ({"frontal": "1.5"}, "row 3, column 'frontal'"),
        ({"positive": "maybe"}, "row 3, column 'positive': must be yes or no, got 'maybe'"),
        ({"artifact": "yes", "artifact_place": "1 2"}, "row 3, column 'artifact_place': must be x y z in mm"),
        ({"artifact": "yes", "artifact_place": "1 2 nan"}, "row 3, column 'artifact_place'"),
        ({"artifact_place": "1 2 3"}, "row 3, answer 'artifact_place' is asked only when"),
        ({"quality": ""}, "row 3, answer 'quality' is missing"),
        ({"load": "3"}, "row 3, answer 'load' follows from others as 2, got 3"),
        ({"seconds": "-1"}, "row 3, column 'seconds': must be a number of 0 or more, got '-1'"),
        ({"seconds": "1,5"}, "row 3, column 'seconds'"),
        ({"reason": "why not"}, "row 3, column 'reason': there is no earlier answer"),
    ],
)
def test_a_wrong_row_is_named_and_nothing_is_written(study, tmp_path, change, message):
    first, second, *_ = order(study)
    rows = [{"read_id": first, **GOOD}, {"read_id": second, **GOOD, **change}]
    path = write(tmp_path / "reads.csv", rows, (*COLUMNS, "load", "seconds", "reason"))
    with pytest.raises(InputError, match=message) as caught:
        import_reads(study.folder, path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "Nothing was written" in str(caught.value)
    assert stored(study).empty


def test_ten_faults_are_told_at_once(study, tmp_path):
    rows = [{"read_id": read_id, **GOOD, "quality": "6"} for read_id in order(study)]
    with pytest.raises(InputError) as caught:
        import_reads(study.folder, write(tmp_path / "reads.csv", rows))
    assert str(caught.value).count("column 'quality'") == 10
    assert "and 3 more" in str(caught.value)


def test_a_reading_stands_in_a_file_once(study, tmp_path):
    rows = [{"read_id": order(study)[0], **GOOD}] * 2
    with pytest.raises(InputError, match=r"row 3, column 'read_id': '.*' is also in row 2"):
        import_reads(study.folder, write(tmp_path / "reads.csv", rows))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "there is nothing in it"),
        (b"reading,quality\n1,2\n", "no column 'read_id'"),
        (b"read_id,qualty\n", "has no key 'qualty'; did you mean 'quality'"),
        (b"read_id,quality,quality\n", "two columns 'quality'"),
        (b"read_id,quality\nabc,1,2\n", "row 2: has more cells than the 2 columns"),
        (b"read_id,remark\nabc,na\xefve\n", "is no UTF-8: byte 0xef in line 2.*Remedy: save it as UTF-8"),
        (b'read_id,remark\nabc,"never closed\n', "a quotation mark is not closed"),
    ],
)
def test_a_file_that_is_no_table_of_reads_is_refused(study, tmp_path, content, message):
    path = tmp_path / "reads.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        import_reads(study.folder, path)
    with pytest.raises(InputError, match="no such file, expected reads"):
        import_reads(study.folder, tmp_path / "none.csv")


def test_no_import_while_a_server_runs(study, tmp_path):
    path = write(tmp_path / "reads.csv", [{"read_id": order(study)[0], **GOOD}])
    with ReadStore(study), pytest.raises(InputError, match="another process is writing"):
        import_reads(study.folder, path)
