"""Reads as tables: export of all that is on record, import of what was read in another viewer."""

from __future__ import annotations

import csv
import math
import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrestore.checks import InputError, counted, fail, require_known_keys
from medrestore.data.tables import parse_text_table, refuse
from medrestore.files import atomic_path, require_file_place
from medrestore.study.layout import PHASES, READING, Study, canonical_json, open_study
from medrestore.study.protocol import Protocol
from medrestore.study.questions import Question
from medrestore.study.record.store import CurrentRead, ReadStore

__all__ = [
    "ANALYSIS_COLUMNS",
    "EXPORT_COLUMNS",
    "UNBLINDED_COLUMNS",
    "Imported",
    "export_reads",
    "import_reads",
]

EXPORT_COLUMNS = (
    *("reader", "kind", "phase", "attempt", "session", "position", "read_id", "origin"),
    *("question", "value", "seconds", "time", "corrections", "reason"),
)
"""One row an answer. ``kind`` is ``human`` or ``model``; yes is 1 and no is 0; a point is ``x y z`` in mm;
``corrections`` counts the rows before the one that counts, ``reason`` is of the last of them."""

UNBLINDED_COLUMNS = ("arm", "case", "truth", "image_id", "repeat")
"""Further columns of an unblinded export."""

ANALYSIS_COLUMNS = ("reader", "kind", "method", "case", "truth", "rating")
"""Columns of an unblinded export of one question, which ``medrestore study analyze`` takes as it is."""

INFORMATION = ("reader", "phase", "attempt", "session", "position", "file")
"""Columns of a handout that tell the reader where they are; they are not read."""

WORDS = {"yes": True, "true": True, "y": True, "1": True, "no": False, "false": False, "n": False, "0": False}
SHOWN = 10
"""Faults that are told at once."""


@dataclass(frozen=True)
class Imported:
    """What came of an import: new reads, corrections among them, reads on record already, rows left empty."""

    new: int
    corrections: int = 0
    known: int = 0
    empty: int = 0

    def __str__(self) -> str:
        notes = [f"{counted(self.new, 'read')} taken"]
        notes += [f"{counted(self.corrections, 'correction')} among them"] if self.corrections else []
        notes += [f"{self.known} on record already"] if self.known else []
        notes += [f"{self.empty} left empty"] if self.empty else []
        return ", ".join(notes)


def export_reads(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    unblind: bool = False,
    question: str = "",
) -> int:
    """Write all reads as a long CSV table: the last row of each reading, one line an answer.

    Parameters
    ----------
    folder
        The study.
    output
        A new CSV file.
    unblind
        Add :data:`UNBLINDED_COLUMNS`. Without them nothing in the table tells an arm, a case, or that a
        reading was a hidden duplicate.
    question
        Write the answers to this question alone, of the study proper and without hidden duplicates, as a
        table with :data:`ANALYSIS_COLUMNS`; only unblinded.

    Returns
    -------
    int
        Number of lines.

    Raises
    ------
    InputError
        When the output exists, the study is not whole, or there is no such question.
    """
    study = open_study(folder)
    if question:
        study.protocol[question]
        if not unblind:
            raise InputError(
                "a table of one question is made for the analysis, which needs arm and truth. "
                "Remedy: --unblind too, or leave --question out"
            )
    path = require_file_place(output)
    if path.exists():
        fail("exists, and nothing is overwritten", path=path, remedy="name a new file")
    with ReadStore(study, read_only=True) as store:
        records = store.current().to_dict("records")
    reads = {str(row["read_id"]): {str(column): row[column] for column in row} for row in records}
    columns = (*EXPORT_COLUMNS, *(UNBLINDED_COLUMNS if unblind else ()))
    lines = list(_lines(study, reads))
    if question:
        columns = ANALYSIS_COLUMNS
        lines = [
            {**line, "method": line["arm"], "rating": line["value"]}
            for line in lines
            if line["question"] == question and line["phase"] == READING and not line["repeat"]
        ]
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    return len(lines)


def import_reads(folder: str | os.PathLike[str], reads: str | os.PathLike[str]) -> Imported:
    """Put reads on record that were made in another viewer.

    Parameters
    ----------
    folder
        The study; no server may run.
    reads
        CSV file: ``read_id``, a column for each question, and, if wanted, ``seconds`` and ``reason`` (of a
        correction). A choice is given by its number or label, yes and no in words, a point as ``x y z`` in
        mm. Rows without any answer are passed over, reads that are on record already too.

    Returns
    -------
    Imported
        Counts.

    Raises
    ------
    InputError
        Names file, row, column and what is allowed, for up to ten faults at once; nothing is written then.

    Notes
    -----
    The order of readings and the washout are the other viewer's matter; such rows have the origin ``import``.
    """
    study, path = open_study(folder), Path(reads)
    owners = dict(zip(study.reading_list["read_id"], study.reading_list["reader"], strict=True))
    rows = list(_rows(path, study.protocol))
    entries: list[dict[str, Any]] = []
    faults: list[str] = []
    seen: dict[str, int] = {}
    known = empty = corrections = 0
    with ReadStore(study) as store:
        on_record = {reader: store.answered(reader) for reader in study.readers}
        for number, row in rows:
            if not any(text for column, text in row.items() if column not in (*INFORMATION, "read_id")):
                empty += 1
                continue
            try:
                read_id = row["read_id"]
                if read_id not in owners:
                    raise InputError(f"column 'read_id': there is no reading {read_id[:40]!r} in this study")
                if read_id in seen:
                    raise InputError(f"column 'read_id': {read_id!r} is also in row {seen[read_id]}")
                seen[read_id] = number
                reader = owners[read_id]
                before = on_record[reader].get(read_id)
                entry = _entry(study.protocol, row, before)
            except InputError as error:
                faults.append(f"row {number}, {error}")
                continue
            if entry is None:
                known += 1
                continue
            corrections += before is not None
            entries.append({**entry, "read_id": read_id, "reader": reader})
        if faults:
            more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
            fail(
                f"{'; '.join(faults[:SHOWN])}{more}. Nothing was written",
                path=path,
                remedy="correct these rows and import the file again",
            )
        store.append_many(entries)
    return Imported(new=len(entries), corrections=corrections, known=known, empty=empty)


def _lines(study: Study, reads: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the lines of an export in the order of the reading list, with all columns."""
    images = study.key.set_index("image_id")[["arm", "case"]].to_dict("index")
    phases = {phase: place for place, phase in enumerate(PHASES)}
    readings = study.reading_list.to_dict("records")
    readers = {reader: place for place, reader in enumerate(study.readers)}
    readings.sort(
        key=lambda row: (
            *(readers[row["reader"]], phases[row["phase"]]),
            *(row["attempt"], row["session"], row["position"]),
        )
    )
    for reading in readings:
        read = reads.get(str(reading["read_id"]))
        if read is None:
            continue
        image = images[reading["image_id"]]
        common = {
            **{str(column): value for column, value in reading.items()},
            **{column: read[column] for column in ("origin", "time", "corrections")},
            "kind": study.readers[str(reading["reader"])],
            "seconds": "" if math.isnan(read["seconds"]) else read["seconds"],
            "reason": read["reason"] if isinstance(read["reason"], str) else "",
            "arm": image["arm"],
            "case": image["case"],
            "truth": study.truth.get(str(image["case"]), ""),
        }
        for question in study.protocol.questions:
            if question.name in read["answers"]:
                value = read["answers"][question.name]
                yield {**common, "question": question.name, "value": _value(value)}


def _value(value: Any) -> Any:
    """Return an answer as text for a table."""
    if isinstance(value, bool):
        return int(value)
    return " ".join(map(str, value)) if isinstance(value, list) else value


def _rows(path: Path, protocol: Protocol) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield number (as a spreadsheet counts: the header is row 1) and texts of each row."""
    # What a reader wrote in words is compared with the record: it keeps its letters as they are.
    table, problems = parse_text_table(path, what="reads (CSV)", separators=(",", ";", "\t"), plain=str.strip)
    if problems:
        refuse(path, problems)
    columns = [str(name) for name in table if name != "row"]
    if "read_id" not in columns:
        fail(
            "has no column 'read_id' in its first row",
            path=path,
            remedy="fill in the file that medrestore study handout made",
        )
    names = [question.name for question in protocol.questions]
    require_known_keys(
        f"{path}", dict.fromkeys(columns), ("read_id", *names, "seconds", "reason", *INFORMATION)
    )
    for row in table.to_dict("records"):
        yield int(row["row"]), {name: row[name] for name in columns}


def _entry(protocol: Protocol, row: Mapping[str, str], before: CurrentRead | None) -> dict[str, Any] | None:
    """Return one row as an entry for the record; None when the same is on record already."""
    given = {}
    for question in protocol.questions:
        text = row.get(question.name, "")
        if text:
            given[question.name] = _answer(question, text)
    answers = protocol.check_answers(given)
    if before is not None and before.text == canonical_json(answers):
        return None
    reason = row.get("reason") or None
    if before is not None and reason is None:
        raise InputError(
            "column 'reason': the reading is on record with other answers; a correction needs a reason"
        )
    if before is None and reason is not None:
        raise InputError("column 'reason': there is no earlier answer to correct; leave it empty")
    return {
        "answer_id": str(uuid.uuid4()),
        "answers": answers,
        "origin": "import",
        "reason": reason,
        "seconds": _seconds(row.get("seconds", "")),
    }


def _seconds(text: str) -> float | None:
    if not text:
        return None
    value = _number(text)
    if value is None or value < 0:
        raise InputError(f"column 'seconds': must be a number of 0 or more, got {text[:40]!r}")
    return value


def _answer(question: Question, text: str) -> Any:
    """Return the answer that a cell holds, in the form in which the page would send it."""
    value: Any = text
    wanted = question.type
    number = _number(text)
    if question.type == "choice":
        labels = {label.casefold(): option for option, label in question.options.items()}
        value = labels.get(text.casefold(), number)
        wanted = "one of " + ", ".join(f"{option} ({label})" for option, label in question.options.items())
        if value not in question.options:
            value = None
    elif question.type == "yes_no":
        value, wanted = WORDS.get(text.casefold()), "yes or no"
    elif question.type == "point":
        parts = [_number(part) for part in text.strip("[]()").replace(",", " ").replace(";", " ").split()]
        value, wanted = (parts if None not in parts and len(parts) == 3 else None), "x y z in mm"
    elif question.type != "text":
        value, wanted = number, "a number with a decimal point"
    if value is None:
        raise InputError(f"column {question.name!r}: must be {wanted}, got {text[:40]!r}")
    if question.type in ("choice", "integer") or (question.type == "derived" and number is not None):
        value = int(value) if float(value).is_integer() else value
    try:
        # A derived value is compared with what it follows from, together with the others.
        return value if question.type == "derived" else question.check(value)
    except InputError as error:
        raise InputError(f"column {question.name!r}: {error}") from error


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
