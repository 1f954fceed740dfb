"""Verification finds what was tampered with, and nothing where nothing was."""

from __future__ import annotations

import json
import sqlite3
import uuid
from typing import Any

import pytest
from typer.testing import CliRunner

from medrestore.checks import InputError
from medrestore.cli import app
from medrestore.study.layout import Study
from medrestore.study.record.chain import COLUMNS, row_hash
from medrestore.study.record.store import ReadStore
from medrestore.study.record.verification import verify_study


@pytest.fixture
def read_study(study: Study, good_answers: dict[str, Any]) -> Study:
    """Return the study after five reads and a correction."""
    read_ids = list(study.reading_list["read_id"][:5])
    with ReadStore(study) as store:
        for place, read_id in enumerate([*read_ids, read_ids[2]]):
            store.append(
                answer_id=str(uuid.uuid4()),
                read_id=read_id,
                reader="reader_1",
                answers=good_answers,
                origin="page",
                reason="better so" if place == 5 else None,
            )
    return study


def tamper(study: Study, *statements: str) -> None:
    """Change the file as somebody would who has full access to it."""
    connection = sqlite3.connect(study.reads_path)
    for name in ("rows_are_not_changed", "rows_are_not_removed", "rows_are_chained"):
        connection.execute(f"DROP TRIGGER IF EXISTS {name}")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def rechain(study: Study) -> None:
    """Compute the whole chain anew: what a careful forger would do."""
    connection = sqlite3.connect(study.reads_path)
    connection.row_factory = sqlite3.Row
    previous = study.plan_sha256
    for number, stored in enumerate(
        connection.execute("SELECT * FROM reads ORDER BY row").fetchall(), start=1
    ):
        row = {**dict(stored), "previous": previous, "row": number}
        previous = row_hash(row)
        connection.execute(
            "UPDATE reads SET row = ?, previous = ?, hash = ? WHERE row = ?",
            (number, row["previous"], previous, stored["row"]),
        )
    connection.commit()
    connection.close()


def test_a_whole_study_has_no_problems(read_study):
    result = verify_study(read_study.folder)
    with ReadStore(read_study, read_only=True) as store:
        rows = store.rows()
    assert (result.rows, result.head, result.problems) == (6, rows["hash"].iloc[-1], ())
    text = str(result)
    assert "6 rows of reads" in text
    assert result.head in text
    assert "whole" in text
    for noted in (read_study.plan_sha256, *rows["hash"]):
        assert verify_study(read_study.folder, head=noted).problems == ()


def test_a_study_without_reads_is_whole(study):
    result = verify_study(study.folder, head=study.plan_sha256)
    assert (result.rows, result.head, result.problems) == (0, study.plan_sha256, ())
    assert not study.reads_path.exists()


def test_it_works_while_a_server_writes(read_study):
    with ReadStore(read_study):
        assert verify_study(read_study.folder).problems == ()


@pytest.mark.parametrize("column", [column for column in COLUMNS if column != "row"])
def test_any_changed_cell_is_found(read_study, column):
    value = {"seconds": "99.5", "answers": "replace(answers, 'true', 'false')"}.get(column, "'abc'")
    tamper(read_study, f"UPDATE reads SET {column} = {value} WHERE row = 3")  # noqa: S608
    problems = verify_study(read_study.folder).problems
    assert any("row 3 was changed after it was written" in problem for problem in problems)


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (["DELETE FROM reads WHERE row = 2"], "row 2 is missing: row 3 comes in its place"),
        (["DELETE FROM reads WHERE row = 1"], "row 1 is missing"),
        (
            ["UPDATE reads SET row = -3 WHERE row = 3", "UPDATE reads SET row = 3 WHERE row = 4"],
            "is missing",
        ),
        (
            [
                "UPDATE reads SET row = 99 WHERE row = 3",
                "UPDATE reads SET row = 3 WHERE row = 4",
                "UPDATE reads SET row = 4 WHERE row = 99",
            ],
            "row 3 does not follow the row before",
        ),
        (["UPDATE reads SET answers = x'00ff' WHERE row = 2"], "row holds what no read can be"),
        (["DROP TABLE reads", "CREATE TABLE reads (row INTEGER)"], "cannot be read as a record of reads"),
    ],
)
def test_removed_and_reordered_rows_are_found(read_study, statements, message):
    tamper(read_study, *statements)
    assert message in "\n".join(verify_study(read_study.folder).problems)


def test_rows_cut_off_at_the_end_are_found_by_a_noted_hash_alone(read_study):
    noted = verify_study(read_study.folder).head
    tamper(read_study, "DELETE FROM reads WHERE row = 6")
    result = verify_study(read_study.folder)
    assert (result.rows, result.problems) == (5, ())
    (problem,) = verify_study(read_study.folder, head=noted).problems
    assert "rows were removed or replaced" in problem


def test_a_chain_that_was_computed_anew_is_found_by_a_noted_hash_alone(read_study):
    noted = verify_study(read_study.folder).head
    tamper(read_study, "UPDATE reads SET answers = replace(answers, '\"quality\":4', '\"quality\":1')")
    rechain(read_study)
    result = verify_study(read_study.folder)
    assert result.problems == ()
    assert result.head != noted
    assert "rows were removed or replaced" in verify_study(read_study.folder, head=noted).problems[0]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("reader = 'reader_2' WHERE row = 2", "none of this reader"),
        ("read_id = 'abc' WHERE row = 2", "none of this reader"),
        ("answers = '{}' WHERE row = 2", "is missing"),
        ("answers = 'no JSON' WHERE row = 2", "row 2 is no valid read"),
        ("answers = '[1]' WHERE row = 2", "row 2 is no valid read"),
        ("answers = replace(answers, ',', ', ') WHERE row = 2", "not in the form"),
        ("phase = 'training' WHERE row = 2", "not in the form"),
        ("origin = 'mail' WHERE row = 2", "origin must be one of"),
        ("reason = NULL WHERE row = 6", "a correction has a reason"),
        ("reason = 'because' WHERE row = 1", "a correction has a reason"),
        (f"image_sha256 = '{'a' * 64}' WHERE row = 2", "another image was shown"),
        ("seconds = -1.0 WHERE row = 2", "seconds must be"),
    ],
)
def test_rows_that_no_reader_could_have_sent_are_found_in_a_whole_chain(read_study, statement, message):
    tamper(read_study, f"UPDATE reads SET {statement}")  # noqa: S608
    rechain(read_study)
    problems = "\n".join(verify_study(read_study.folder).problems)
    assert message in problems
    assert "was changed after" not in problems


def test_images_that_changed_are_missing_or_were_added_are_found(study):
    changed, gone = (study.image_path(image_id) for image_id in study.key["image_id"][:2])
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    gone.unlink()
    (study.public / "images" / "key.csv").write_text("arms", encoding="utf-8")
    problems = verify_study(study.folder).problems
    assert problems == (
        f"{changed}: is not the image that was frozen",
        f"{gone}: is missing",
        f"{study.public / 'images' / 'key.csv'}: is in the folder that may be handed out, "
        "but was not frozen with the study",
    )


@pytest.mark.parametrize(
    "name", ["public/protocol.json", "private/key.csv", "private/reading_list.csv", "private/truth.csv"]
)
def test_a_frozen_file_that_changed_is_a_problem(read_study, name):
    path = read_study.folder / name
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    result = verify_study(read_study.folder)
    assert "is not the file that was frozen" in result.problems[0]


@pytest.mark.parametrize("name", ["public/protocol.json", "private/design.json"])
@pytest.mark.parametrize("content", ["", "[]", "[" * 100_000, "{}"])
def test_a_damaged_description_is_a_problem(read_study, name, content):
    (read_study.folder / name).write_text(content, encoding="utf-8")
    problem = verify_study(read_study.folder).problems[0]
    assert problem.startswith(f"{read_study.folder / name}: is ")
    assert "from a backup" in problem


def test_a_changed_plan_is_a_problem(read_study):
    path = read_study.private / "design.json"
    design = json.loads(path.read_text(encoding="utf-8"))
    design["plan"]["primary"]["margin"] = 0.5
    path.write_text(json.dumps(design), encoding="utf-8")
    assert "the plan is not the one that was frozen" in verify_study(read_study.folder).problems[0]


def test_a_damaged_file_is_a_problem(read_study):
    content = bytearray(read_study.reads_path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = b"\xff" * 2000
    read_study.reads_path.write_bytes(bytes(content))
    assert verify_study(read_study.folder).problems


def test_a_folder_that_is_no_study_is_refused(tmp_path):
    with pytest.raises(InputError, match="is no study"):
        verify_study(tmp_path)


def test_the_command_ends_with_1_when_something_is_wrong(read_study, make_study):
    runner = CliRunner()
    good = runner.invoke(app, ["study", "verify", str(read_study.folder)])
    assert good.exit_code == 0, good.output
    bad = runner.invoke(app, ["study", "verify", str(read_study.folder), "--head", "0" * 64])
    assert bad.exit_code == 1
    assert "1 problem:" in bad.output


def test_many_problems_are_counted_and_the_first_are_printed(read_study):
    for number in range(30):
        (read_study.public / f"note_{number:02}.txt").write_text("x", encoding="utf-8")
    text = str(verify_study(read_study.folder))
    assert "30 problems:" in text
    assert "note_19" in text
    assert "note_20" not in text
    assert text.endswith("and 10 more")
