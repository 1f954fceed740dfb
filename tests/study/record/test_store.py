"""The record of reads: what is acknowledged is on disk once, in a chain, and is never changed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from medrestore.checks import InputError
from medrestore.study.layout import Study
from medrestore.study.record.store import (
    ReadConflictError,
    ReadStore,
    StoreFailedError,
    UnknownReadError,
)


def read_ids(study: Study, reader: str = "reader_1") -> list[str]:
    table = study.reading_list
    return list(table.loc[(table["reader"] == reader), "read_id"])


def entry(study: Study, answers: dict[str, Any], place: int = 0, **changes: Any) -> dict[str, Any]:
    made = {
        "answer_id": str(uuid.uuid4()),
        "read_id": read_ids(study)[place],
        "reader": "reader_1",
        "answers": answers,
        "origin": "page",
        "seconds": 12.5,
    }
    return {**made, **changes}


def test_a_row_holds_what_the_contract_says_and_its_hash_can_be_computed_by_hand(study, good_answers):
    now = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=2)))
    given = entry(study, good_answers)
    with ReadStore(study, clock=lambda: now) as store:
        receipt = store.append(**given)
    with sqlite3.connect(study.reads_path) as connection:
        connection.row_factory = sqlite3.Row
        rows = [dict(row) for row in connection.execute("SELECT * FROM reads")]
    connection.close()
    assert len(rows) == 1
    row = rows[0]
    assert receipt == (1, row["hash"], True)
    assert row["time"] == "2026-01-02T01:04:05.000006+00:00"
    assert row["previous"] == row["plan_sha256"] == study.plan_sha256
    # maximum_of (2, 1), and positive with confidence 4 of 5: 5 + 4
    assert json.loads(row["answers"]) == {**good_answers, "load": 2, "score": 9}
    assert (row["phase"], row["origin"], row["reason"], row["seconds"]) == ("reading", "page", None, 12.5)
    stored = row.pop("hash")
    text = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert stored == hashlib.sha256(text.encode()).hexdigest()


def test_rows_are_chained_and_the_last_row_of_a_reading_counts(study, good_answers):
    with ReadStore(study) as store:
        first = store.append(**entry(study, good_answers))
        other = store.append(**entry(study, good_answers, 1, seconds=None))
        store.append(**entry(study, {**good_answers, "quality": 1}, reason="wrong key"))
        rows, current = store.rows(), store.current()
        assert store.head == rows["hash"].iloc[-1]
        memory = store.answered("reader_1")
    assert list(rows["previous"]) == [study.plan_sha256, first.hash, other.hash]
    assert list(current["row"]) == [2, 3]
    assert list(current["corrections"]) == [0, 1]
    assert current["answers"].iloc[1]["quality"] == 1
    assert memory[read_ids(study)[0]].answers["quality"] == 1
    assert memory[read_ids(study)[0]].corrections == 1
    with ReadStore(study) as store:
        assert {key: read.row for key, read in store.answered("reader_1").items()} == {
            read_ids(study)[0]: 3,
            read_ids(study)[1]: 2,
        }
        assert store.answered("reader_2") == {}


def test_the_same_answer_sent_again_gives_the_same_receipt_and_no_row(study, good_answers):
    given = entry(study, good_answers)
    with ReadStore(study) as store:
        first = store.append(**given)
        again = store.append(**given)
        assert (again.row, again.hash, again.created) == (first.row, first.hash, False)
        assert len(store.rows()) == 1
    with ReadStore(study) as store:
        assert store.append(**given).created is False
        for change in ({"seconds": 12.6}, {"answers": {**good_answers, "quality": 1}}, {"reason": "x"}):
            with pytest.raises(ReadConflictError, match="another answer is on record"):
                store.append(**{**given, **change})
        assert len(store.rows()) == 1


def test_a_correction_needs_a_reason_and_a_first_answer_has_none(study, good_answers):
    with ReadStore(study) as store:
        with pytest.raises(ReadConflictError, match="not answered yet"):
            store.append(**entry(study, good_answers, reason="too early"))
        store.append(**entry(study, good_answers))
        with pytest.raises(ReadConflictError, match="needs a reason"):
            store.append(**entry(study, good_answers))
        with pytest.raises(InputError, match="reason must be"):
            store.append(**entry(study, good_answers, reason="  "))
        assert len(store.rows()) == 1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"reader": "reader_2"}, UnknownReadError, "none of this reader"),
        ({"read_id": "0" * 16}, UnknownReadError, "none of this reader"),
        ({"reader": "nobody"}, UnknownReadError, "none of this reader"),
        ({"origin": "mail"}, InputError, "origin must be one of"),
        ({"answer_id": ""}, InputError, "answer_id must be"),
        ({"answer_id": "x" * 65}, InputError, "answer_id must be"),
        ({"seconds": -1.0}, InputError, "seconds must be"),
        ({"seconds": float("nan")}, InputError, "seconds must be"),
        ({"image_sha256": "A" * 64}, InputError, "image_sha256 must be"),
        ({"reason": "\ud800"}, InputError, "lone surrogate"),
        ({"answers": {"quality": 3}}, InputError, "'frontal' is missing"),
        ({"answers": {}}, InputError, "missing"),
    ],
)
def test_what_is_wrong_is_refused_and_changes_nothing(study, good_answers, change, error, message):
    with ReadStore(study) as store:
        with pytest.raises(error, match=message):
            store.append(**{**entry(study, good_answers), **change})
        assert store.rows().empty
        assert store.head == study.plan_sha256
        assert store.append(**entry(study, good_answers)).row == 1


def test_a_model_reader_may_leave_questions_out(study):
    with ReadStore(study) as store:
        store.append(**entry(study, {"positive": True}, origin="model", seconds=None))
        assert store.rows()["answers"].iloc[0] == {"positive": True}


def test_many_reads_are_taken_whole_or_not_at_all(study, good_answers):
    with ReadStore(study) as store:
        good = [entry(study, good_answers, place, origin="import") for place in range(3)]
        with pytest.raises(ReadConflictError, match="needs a reason"):
            store.append_many([*good, entry(study, good_answers, 1, origin="import")])
        assert store.rows().empty
        assert store.answered("reader_1") == {}
        # A correction may follow its read in the same transaction, and an answer its own repetition.
        receipts = store.append_many([*good, entry(study, good_answers, 1, reason="again"), good[0]])
        assert [receipt.row for receipt in receipts] == [1, 2, 3, 4, 1]
        assert [receipt.created for receipt in receipts] == [True] * 4 + [False]
        assert len(store.rows()) == 4
        assert store.answered("reader_1")[read_ids(study)[1]].corrections == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE reads SET seconds = 1",
        "DELETE FROM reads WHERE row = 1",
        "INSERT OR REPLACE INTO reads SELECT * FROM reads WHERE row = 1",
        "INSERT OR REPLACE INTO reads SELECT row + 1, answer_id, read_id, reader, phase, origin, answers, "
        "reason, seconds, time, image_sha256, version, plan_sha256, hash, hash FROM reads",
        "INSERT INTO reads SELECT row + 7, 'x', read_id, reader, phase, origin, answers, reason, seconds, "
        "time, image_sha256, version, plan_sha256, hash, hash FROM reads",
        "INSERT INTO reads SELECT row + 1, 'x', read_id, reader, phase, origin, answers, reason, seconds, "
        "time, image_sha256, version, plan_sha256, 'forged', hash FROM reads",
    ],
)
def test_the_file_itself_refuses_to_change_remove_or_reorder_rows(study, good_answers, statement):
    with ReadStore(study) as store:
        store.append(**entry(study, good_answers))
        before = store.stored_rows()
    connection = sqlite3.connect(study.reads_path)
    with pytest.raises(sqlite3.IntegrityError, match="reads"):
        connection.execute(statement)
    connection.close()
    with ReadStore(study) as store:
        assert store.stored_rows() == before


def test_commits_are_flushed_to_disk(study):
    with ReadStore(study) as store:
        connection = store._connection
        assert connection is not None
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert study.reads_path.stat().st_mode & 0o077 == 0


def test_one_process_writes_others_may_look(study, good_answers):
    with ReadStore(study) as store:
        store.append(**entry(study, good_answers))
        with pytest.raises(InputError, match="another process is writing") as caught, ReadStore(study):
            pass
        assert "Remedy: end it first" in str(caught.value)
        with ReadStore(study, read_only=True) as watcher:
            assert len(watcher.rows()) == 1
            store.append(**entry(study, good_answers, 1))
            assert len(watcher.rows()) == 2
            with pytest.raises(RuntimeError, match="read only"):
                watcher.append(**entry(study, good_answers, 2))
    with ReadStore(study) as store:
        assert len(store.rows()) == 2


def test_a_study_without_reads_has_no_rows_and_looking_makes_no_file(study):
    before = sorted(study.private.iterdir())
    with ReadStore(study, read_only=True) as store:
        assert store.rows().empty
        assert store.current().empty
        assert list(store.rows()) == [*store.current()][:-1]
        assert store.damage() == []
    assert sorted(study.private.iterdir()) == before


def test_reads_on_a_medium_that_cannot_be_written_can_be_looked_at(study, good_answers, monkeypatch):
    with ReadStore(study) as store:
        store.append(**entry(study, good_answers))
    connect = sqlite3.connect

    def on_read_only_medium(database: str, **options: Any) -> sqlite3.Connection:
        # What SQLite does there: it can make neither the log nor the shared memory.
        if "mode=ro" in database and "immutable=1" not in database:
            database = "file:/nonexistent/reads.sqlite?mode=ro"
        return connect(database, **options)

    monkeypatch.setattr(sqlite3, "connect", on_read_only_medium)
    with pytest.raises(sqlite3.OperationalError):
        on_read_only_medium("file:x?mode=ro", uri=True)
    with ReadStore(study, read_only=True) as store:
        assert len(store.rows()) == 1


def test_a_read_that_the_disk_did_not_take_is_not_acknowledged(study, good_answers):
    with ReadStore(study) as store:
        store.append(**entry(study, good_answers))
        connection = store._connection
        assert connection is not None
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        long = {**good_answers, "remark": "x" * 2000}
        late = [entry(study, long, place) for place in range(1, 5)]
        with pytest.raises(StoreFailedError, match="full"):
            store.append_many(late)
        assert len(store.rows()) == 1
        assert len(store.answered("reader_1")) == 1
        connection.execute("PRAGMA max_page_count = 100000")
        assert [receipt.row for receipt in store.append_many(late)] == [2, 3, 4, 5]


def test_a_file_that_was_replaced_while_it_was_open_takes_no_read(study, good_answers):
    with ReadStore(study) as store:
        store.append(**entry(study, good_answers))
        copy = study.private / "copy.sqlite"
        shutil.copy(study.reads_path, copy)
        copy.replace(study.reads_path)
        with pytest.raises(StoreFailedError, match="replaced"):
            store.append(**entry(study, good_answers, 1))


@pytest.mark.parametrize("kind", ["changed", "removed", "foreign", "bytes", "no time"])
def test_a_broken_chain_is_neither_continued_nor_analyzed(study, good_answers, kind):
    with ReadStore(study) as store:
        store.append_many([entry(study, good_answers, place) for place in range(3)])
    connection = sqlite3.connect(study.reads_path)
    connection.executescript("DROP TRIGGER rows_are_not_changed; DROP TRIGGER rows_are_not_removed;")
    connection.execute(
        {
            "changed": "UPDATE reads SET seconds = 99 WHERE row = 2",
            "removed": "DELETE FROM reads WHERE row = 2",
            "foreign": "UPDATE reads SET plan_sha256 = 'x' WHERE row = 3",
            "bytes": "UPDATE reads SET answers = X'FF' WHERE row = 2",
            "no time": "UPDATE reads SET time = 'x' WHERE row = 2",
        }[kind]
    )
    connection.commit()
    connection.close()
    with pytest.raises(InputError, match=r"chain of reads is broken: row [23]"), ReadStore(study):
        pass
    with (
        ReadStore(study, read_only=True) as store,
        pytest.raises(InputError, match="chain of reads is broken"),
    ):
        store.rows()


def test_a_study_that_cannot_be_written_is_refused_by_name(study, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with pytest.raises(InputError, match=r"cannot be written \(Permission denied\)"), ReadStore(study):
        pass


def test_a_file_that_is_no_database_is_refused_by_name(study):
    study.reads_path.write_bytes(b"no database at all, but long enough to look at" * 40)
    for read_only in (False, True):
        with (
            pytest.raises(InputError, match=r"reads\.sqlite: cannot be read as a record"),
            ReadStore(study, read_only=read_only),
        ):
            pass


def test_threads_write_one_chain(make_study, tmp_path):
    study = make_study(tmp_path / "study", readers=[f"reader_{place}" for place in range(8)])
    answers = {"positive": False, "confidence": 1}
    with ReadStore(study) as store:

        def read(reader: str) -> None:
            for read_id in read_ids(study, reader):
                store.append(
                    answer_id=str(uuid.uuid4()),
                    read_id=read_id,
                    reader=reader,
                    answers=answers,
                    origin="model",
                )

        threads = [threading.Thread(target=read, args=(reader,)) for reader in study.readers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rows = store.rows()  # checks the chain
    assert len(rows) == len(study.reading_list)
    assert rows["read_id"].is_unique


def test_a_killed_writer_leaves_all_that_it_acknowledged_and_no_lock(study, good_answers):
    code = """
import json, os, sys, uuid
from medrestore.study.layout import open_study
from medrestore.study.record.store import ReadStore
study = open_study(sys.argv[1])
with ReadStore(study) as store:
    for read_id in study.reading_list.query("reader == 'reader_1'")["read_id"]:
        receipt = store.append(answer_id=str(uuid.uuid4()), read_id=read_id, reader="reader_1",
                               answers=json.loads(sys.argv[2]), origin="page")
        os.write(1, f"{receipt.row} {receipt.hash}\\n".encode())
    os.kill(os.getpid(), 9)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(study.folder), json.dumps(good_answers)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    assert done.returncode == -9, done.stderr
    receipts = [line.split() for line in done.stdout.splitlines()]
    assert len(receipts) == 13  # 4 cases x 3 arms and a duplicate
    with ReadStore(study) as store:
        rows = store.rows()
        assert [[str(row), digest] for row, digest in zip(rows["row"], rows["hash"], strict=True)] == receipts
