"""The record of all reads: append-only, flushed to disk before it is acknowledged, each row chained by hash.

A row is never changed: a correction is a new row with a reason, and the last row of a reading counts. The
``hash`` of a row covers all its other columns, among them ``previous``, the hash of the row before (of the
first row: the checksum of the plan). Whoever notes the last hash elsewhere can prove later that no row up to
it was changed, removed or added.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import pandas as pd

import medrestore
from medrestore.checks import InputError, fail
from medrestore.study.layout import Study
from medrestore.study.record.chain import COLUMNS, CurrentRead, chain_problems, row_hash
from medrestore.study.record.database import connect_to_read, connect_to_write, damage_of, file_identity
from medrestore.study.record.entry import ORIGINS, ReadConflictError, UnknownReadError, checked_entry

__all__ = [
    "ORIGINS",
    "CurrentRead",
    "ReadConflictError",
    "ReadStore",
    "Receipt",
    "StoreFailedError",
    "UnknownReadError",
]

_CONTENT = ("read_id", "reader", "origin", "answers", "reason", "seconds", "image_sha256")
"""What must be the same when an answer is sent again under its id."""


class StoreFailedError(RuntimeError):
    """The disk did not take the read: it is not on record and must be sent again."""


class Receipt(NamedTuple):
    """What tells that a read is on disk; ``created`` is false when it was there already."""

    row: int
    hash: str
    created: bool


class ReadStore:
    """The reads of a study; a context manager.

    Parameters
    ----------
    study
        The study.
    read_only
        Look at the reads, also while a server runs; a study without reads has no rows. Otherwise this is the
        one writer, and a second one is refused.
    clock
        Gives the time of a row, in UTC.

    Raises
    ------
    InputError
        On entering: when another process writes, or the file is damaged or its chain broken.

    Notes
    -----
    SQLite with a write-ahead log and ``synchronous=FULL``: a commit returns after the log was flushed to
    disk. One connection behind a lock serves all threads. The rows that count are kept in memory, so that
    what a reader asks for does not take longer the more rows there are.
    """

    def __init__(
        self,
        study: Study,
        *,
        read_only: bool = False,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.study = study
        self.read_only = read_only
        self._clock = clock
        self._lock = threading.RLock()
        self._writer = filelock.FileLock(study.private / "reads.lock", thread_local=False)
        table = study.reading_list
        owners = zip(table["reader"], table["phase"], strict=True)
        self._owner: dict[str, tuple[str, str]] = dict(zip(table["read_id"], owners, strict=True))
        self._current: dict[str, dict[str, CurrentRead]] = {reader: {} for reader in study.readers}
        self._rows, self._head = 0, study.plan_sha256
        self._file: tuple[int, int] | None = None
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> ReadStore:
        path = self.study.reads_path
        try:
            self._connection = connect_to_read(path) if self.read_only else self._open_to_write()
        except sqlite3.Error as error:
            self.close()
            raise _unreadable(path, error) from error
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and let another process write."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            self._writer.release()

    @property
    def head(self) -> str:
        """Hash of the last row of the writer; the checksum of the plan when there is none."""
        return self._head

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Let no other thread write within the block: what it has seen still holds when it appends."""
        with self._lock:
            yield

    def append(
        self,
        *,
        answer_id: str,
        read_id: str,
        reader: str,
        answers: Mapping[str, Any],
        origin: str,
        reason: str | None = None,
        seconds: float | None = None,
        image_sha256: str | None = None,
    ) -> Receipt:
        """Put one read on record; when this returns, it is on disk.

        Parameters
        ----------
        answer_id
            Chosen by the sender. Sent again with the same content it gives the same receipt and no new row.
        read_id, reader
            Which reading, and whose.
        answers
            Question name -> answer, checked by the protocol; a model reader may leave questions out.
        origin
            One of :data:`ORIGINS`.
        reason
            Of a correction: needed when the reading is on record, refused when it is not.
        seconds
            Reading time.
        image_sha256
            Checksum of the bytes that were shown, where the viewer told it.

        Raises
        ------
        UnknownReadError, ReadConflictError, InputError
            When the reading is not the reader's, contradicts the record, or an answer is wrong.
        StoreFailedError
            When the disk did not take it.
        """
        entry = {
            "answer_id": answer_id,
            "read_id": read_id,
            "reader": reader,
            "answers": answers,
            "origin": origin,
            "reason": reason,
            "seconds": seconds,
            "image_sha256": image_sha256,
        }
        return self.append_many([entry])[0]

    def append_many(self, entries: Iterable[Mapping[str, Any]]) -> list[Receipt]:
        """Put reads, each a mapping of what :meth:`append` takes, on record: all of them or none."""
        if self.read_only:
            raise RuntimeError("these reads were opened to read only")
        checked = [checked_entry(self.study.protocol, self._owner, **entry) for entry in entries]
        receipts: list[Receipt] = []
        with self._lock:
            new: dict[str, tuple[str, CurrentRead]] = {}
            number, head = self._rows, self._head
            with self._transaction() as connection:
                for entry in checked:
                    receipt = _repeated(connection, entry)
                    if receipt is None:
                        reader, read_id = entry["reader"], entry["read_id"]
                        before = new[read_id][1] if read_id in new else self._current[reader].get(read_id)
                        _require_reason(entry, before)
                        row = self._next_row(entry, number, head)
                        places = ",".join("?" * len(COLUMNS))
                        connection.execute(
                            f"INSERT INTO reads ({','.join(COLUMNS)}) VALUES ({places})",  # noqa: S608
                            [row[column] for column in COLUMNS],
                        )
                        number, head = row["row"], row["hash"]
                        new[read_id] = (reader, CurrentRead.of(row, before))
                        receipt = Receipt(number, head, created=True)
                    receipts.append(receipt)
            # After the commit: memory is never ahead of the disk.
            self._rows, self._head = number, head
            for read_id, (reader, read) in new.items():
                self._current[reader][read_id] = read
        return receipts

    def holds(self, answer_id: str) -> bool:
        """Return whether a row has this id."""
        with self._lock:
            found = self._require_open().execute("SELECT 1 FROM reads WHERE answer_id = ?", (answer_id,))
            return found.fetchone() is not None

    def answered(self, reader: str) -> dict[str, CurrentRead]:
        """Return what counts of a reader's readings, as the writer knows it: read_id -> last row."""
        with self._lock:
            return dict(self._current[reader])

    def rows(self) -> pd.DataFrame:
        """Return all rows in their order, with the columns of the file; ``answers`` as dictionaries.

        Raises
        ------
        InputError
            When the chain is broken: such reads are not analyzed.
        """
        rows = self.stored_rows()
        self._require_whole(list(chain_problems(rows, self.study.plan_sha256)))
        table = pd.DataFrame(rows, columns=list(COLUMNS))
        table["answers"] = pd.Series([json.loads(text) for text in table["answers"]], dtype=object)
        return table.astype({"row": "int64", "seconds": "float64"})

    def current(self) -> pd.DataFrame:
        """Return the last row of each reading, in the order of rows, and its number of ``corrections``."""
        table = self.rows()
        table["corrections"] = table.groupby("read_id").cumcount()
        return table.drop_duplicates("read_id", keep="last").reset_index(drop=True)

    def stored_rows(self) -> list[dict[str, Any]]:
        """Return all rows in their order, exactly as they are stored and unchecked."""
        with self._lock:
            if self._connection is None and self.read_only:
                return []
            try:
                return _all_rows(self._require_open())
            except sqlite3.Error as error:
                raise _unreadable(self.study.reads_path, error) from error

    def damage(self) -> list[str]:
        """Return what SQLite finds wrong with its file; nothing when it is whole."""
        with self._lock:
            return [] if self._connection is None else damage_of(self._connection)

    def _open_to_write(self) -> sqlite3.Connection:
        path = self.study.reads_path
        try:
            self._writer.acquire(timeout=0)
        except filelock.Timeout as error:
            raise InputError(
                f"{path}: another process is writing reads to this study (a server that runs?). "
                "Remedy: end it first; nothing was changed"
            ) from error
        except OSError as error:
            raise InputError(
                f"{path}: cannot be written ({error.strerror or error}). "
                "Remedy: work as the owner of the study's folder, on a disk that can be written"
            ) from error
        connection = connect_to_write(path)
        try:
            self._load(connection)
        except BaseException:
            connection.close()
            raise
        self._file = file_identity(path)
        return connection

    def _load(self, connection: sqlite3.Connection) -> None:
        rows = _all_rows(connection)
        self._require_whole(list(chain_problems(rows, self.study.plan_sha256)))
        problems = []
        for row in rows:
            if self._owner.get(row["read_id"]) != (row["reader"], row["phase"]):
                problems.append(f"row {row['row']} belongs to no reading of its reader")
                continue
            reads = self._current[row["reader"]]
            reads[row["read_id"]] = CurrentRead.of(row, reads.get(row["read_id"]))
        self._require_whole(problems)
        if rows:
            self._rows, self._head = rows[-1]["row"], rows[-1]["hash"]

    def _require_whole(self, problems: list[str]) -> None:
        if problems:
            fail(
                f"the chain of reads is broken: {problems[0]}",
                path=self.study.reads_path,
                remedy="restore the file from a backup; medrestore study verify lists all problems",
            )

    def _require_open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise RuntimeError("the reads are not open: use the store in a with statement")
        return self._connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._require_open()
        try:
            if file_identity(self.study.reads_path) != self._file:
                raise OSError("the file was replaced while it was open")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except (sqlite3.Error, OSError) as error:
            raise StoreFailedError(
                f"{self.study.reads_path}: the read could not be written ({error})"
            ) from error

    def _next_row(self, entry: Mapping[str, Any], number: int, head: str) -> dict[str, Any]:
        row = {
            **entry,
            "row": number + 1,
            "time": self._clock().astimezone(UTC).isoformat(timespec="microseconds"),
            "version": medrestore.__version__,
            "plan_sha256": self.study.plan_sha256,
            "previous": head,
        }
        return {**row, "hash": row_hash(row)}


def _all_rows(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    found = connection.execute(f"SELECT {','.join(COLUMNS)} FROM reads ORDER BY row")  # noqa: S608
    return [dict(zip(COLUMNS, row, strict=True)) for row in found]


def _unreadable(path: Path, error: sqlite3.Error) -> InputError:
    return InputError(
        f"{path}: cannot be read as a record of reads ({error}). "
        "Remedy: restore it from a backup, and check it with medrestore study verify"
    )


def _repeated(connection: sqlite3.Connection, entry: Mapping[str, Any]) -> Receipt | None:
    """Return the receipt of an answer that is on record; refuse other content under its id."""
    found = connection.execute(
        f"SELECT row, hash, {','.join(_CONTENT)} FROM reads WHERE answer_id = ?",  # noqa: S608
        (entry["answer_id"],),
    ).fetchone()
    if found is None:
        return None
    if list(found[2:]) != [entry[column] for column in _CONTENT]:
        raise ReadConflictError("another answer is on record under this answer_id")
    return Receipt(found[0], found[1], created=False)


def _require_reason(entry: Mapping[str, Any], before: CurrentRead | None) -> None:
    if before is not None and entry["reason"] is None:
        raise ReadConflictError("this reading is answered: a correction needs a reason")
    if before is None and entry["reason"] is not None:
        raise ReadConflictError("a reason is of a correction, and this reading is not answered yet")
