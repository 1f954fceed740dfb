"""Rows of the record of reads: their columns, the hash that chains each to the one before, and its check."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from medrestore.study.layout import canonical_json, sha256_text

__all__ = ["COLUMNS", "SCHEMA", "CurrentRead", "chain_problems", "row_hash"]

COLUMNS = (
    *("row", "answer_id", "read_id", "reader", "phase", "origin", "answers", "reason", "seconds", "time"),
    *("image_sha256", "version", "plan_sha256", "previous", "hash"),
)

SCHEMA = """
CREATE TABLE IF NOT EXISTS reads (
  row INTEGER PRIMARY KEY, answer_id TEXT NOT NULL UNIQUE, read_id TEXT NOT NULL, reader TEXT NOT NULL,
  phase TEXT NOT NULL, origin TEXT NOT NULL, answers TEXT NOT NULL, reason TEXT, seconds REAL,
  time TEXT NOT NULL, image_sha256 TEXT, version TEXT NOT NULL, plan_sha256 TEXT NOT NULL,
  previous TEXT NOT NULL, hash TEXT NOT NULL);
CREATE TRIGGER IF NOT EXISTS rows_are_not_changed BEFORE UPDATE ON reads
  BEGIN SELECT RAISE(ABORT, 'rows of reads are never changed'); END;
CREATE TRIGGER IF NOT EXISTS rows_are_not_removed BEFORE DELETE ON reads
  BEGIN SELECT RAISE(ABORT, 'rows of reads are never removed'); END;
CREATE TRIGGER IF NOT EXISTS rows_are_chained BEFORE INSERT ON reads
  WHEN NEW.row IS NOT (SELECT COALESCE(MAX(row), 0) + 1 FROM reads)
    OR NEW.previous IS NOT COALESCE((SELECT hash FROM reads ORDER BY row DESC LIMIT 1), NEW.plan_sha256)
    OR EXISTS (SELECT 1 FROM reads WHERE answer_id = NEW.answer_id)
  BEGIN SELECT RAISE(ABORT, 'a row of reads must follow the last one'); END;
"""
"""The third trigger also stops INSERT OR REPLACE, which removes a row without asking the second."""


@dataclass(frozen=True)
class CurrentRead:
    """The row of a reading that counts: its last.

    Parameters
    ----------
    row
        Its number.
    text
        Its answers as canonical JSON.
    time
        When it was put on record, in UTC.
    corrections
        Rows of this reading after its first.
    """

    row: int
    text: str
    time: datetime
    corrections: int = 0

    @cached_property
    def answers(self) -> dict[str, Any]:
        """The checked answers, derived values among them."""
        answers: dict[str, Any] = json.loads(self.text)
        return answers

    @classmethod
    def of(cls, row: Mapping[str, Any], before: CurrentRead | None) -> CurrentRead:
        """Return a row as the one that counts from now on, in the place of the one before."""
        return cls(
            row=row["row"],
            text=row["answers"],
            time=datetime.fromisoformat(row["time"]),
            corrections=0 if before is None else before.corrections + 1,
        )


def row_hash(row: Mapping[str, Any]) -> str:
    """Return the hash of a row: SHA-256 of the canonical JSON of all its columns but ``hash`` itself."""
    return sha256_text(canonical_json({column: row[column] for column in COLUMNS if column != "hash"}))


def chain_problems(rows: Iterable[Mapping[str, Any]], plan_sha256: str) -> Iterator[str]:
    """Yield what is wrong with the numbers and hashes of rows in their order; nothing when the chain holds.

    Parameters
    ----------
    rows
        Rows with :data:`COLUMNS` as they are stored, by their number.
    plan_sha256
        What the first row is chained to, and every row carries.
    """
    previous = plan_sha256
    for number, row in enumerate(rows, start=1):
        if row["row"] != number:
            yield f"row {number} is missing: row {row['row']} comes in its place"
            return
        if row["previous"] != previous:
            yield f"row {number} does not follow the row before: rows were removed, replaced or reordered"
        try:
            if row_hash(row) != row["hash"]:
                yield f"row {number} was changed after it was written"
        except (TypeError, ValueError):  # bytes or infinity
            yield f"row {number} was changed: a row holds what no read can be"
        if row["plan_sha256"] != plan_sha256:
            yield f"row {number} belongs to another plan"
        previous = row["hash"]
