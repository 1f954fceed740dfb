"""Long tables of reads, one row a read, as arrays of methods, readers and cases."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from medrestore.checks import fail, require_in_set
from medrestore.data.tables import read_text_table

__all__ = ["MISSING", "ReadTable", "read_table"]

Array: TypeAlias = npt.NDArray[Any]

MISSING = ("refuse", "drop_cases", "available")
"""What to do when reads are missing: stop; use the cases that all readers read under all methods; or let each
reader's estimate stand on the reads that are there."""

METHOD_NAMES = ("method", "treatment", "modality", "arm")
EMPTY = ("", "na", "n/a", "nan", "null", "none", ".")
WORDS = {"true": 1.0, "false": 0.0}
SHOWN = 10


@dataclass(frozen=True)
class ReadTable:
    """Reads of t methods by r readers of n cases.

    Parameters
    ----------
    ratings : (t, r, n), float
        NaN where a read is missing.
    truth : (n,), int, or None
        1 for a positive case; None when the table was read without truth.
    methods, readers, cases
        Names in the order of their first appearance.
    source
        What errors call the table.
    absent
        Reader, method and case of every read that is missing, before cases were dropped.
    dropped
        Cases that were left out because not all readers read them.
    policy
        One of :data:`MISSING`, once :meth:`resolve` has applied it.
    """

    ratings: Array
    truth: Array | None
    methods: tuple[str, ...]
    readers: tuple[str, ...]
    cases: tuple[str, ...]
    source: str = "reads"
    absent: tuple[tuple[str, str, str], ...] = ()
    dropped: tuple[str, ...] = ()
    policy: str = "refuse"

    def resolve(self, missing: str) -> ReadTable:
        """Return the table that is analyzed, once missing reads are refused or declared.

        Raises
        ------
        InputError
            When reads are missing and were not declared; when a reader read nothing under a method, or no
            case was read by all: such designs are not crossed and need another analysis.
        """
        require_in_set("missing", missing, MISSING)
        gone = np.isnan(self.ratings)
        if not gone.any():
            return replace(self, policy=missing)
        self._require_crossed(gone)
        complete: Array = ~np.any(gone, axis=(0, 1))
        places = np.argwhere(gone.transpose(1, 0, 2))
        absent = tuple((self.readers[j], self.methods[i], self.cases[k]) for j, i, k in places)
        if missing == "available":
            return replace(self, absent=absent, policy=missing)
        if not complete.any():
            fail(
                "no case was read by every reader under every method: cases are nested in readers or methods "
                f"(split-plot), or named differently{self._alike()}",
                path=self.source,
                remedy="name cases alike in all rows, or analyze readers and methods apart that share cases",
            )
        if missing == "refuse":
            listed = "; ".join(
                f"reader {reader!r}, method {method!r}, case {case!r}"
                for reader, method, case in absent[:SHOWN]
            )
            count = len(absent)
            fail(
                f"{count} of {gone.size} reads {'is' if count == 1 else 'are'} missing: {listed}"
                + ("; ..." if count > SHOWN else "")
                + self._alike(),
                path=self.source,
                remedy="supply them, or declare with --missing drop_cases to leave out the "
                f"{(~complete).sum()} of {complete.size} cases that not all readers read under all methods",
            )
        return replace(
            self,
            ratings=self.ratings[:, :, complete],
            truth=None if self.truth is None else self.truth[complete],
            cases=tuple(case for case, kept in zip(self.cases, complete, strict=True) if kept),
            absent=absent,
            dropped=tuple(case for case, kept in zip(self.cases, complete, strict=True) if not kept),
            policy=missing,
        )

    def _require_crossed(self, gone: Array) -> None:
        unread = np.argwhere(gone.all(axis=2).T)
        if len(unread):
            listed = "; ".join(
                f"reader {self.readers[j]!r} has no read under method {self.methods[i]!r}"
                for j, i in unread[:SHOWN]
            )
            fail(
                f"readers and methods are not crossed (split-plot): {listed}"
                + (f"; {len(unread)} such pairs in all" if len(unread) > SHOWN else "")
                + self._alike(),
                path=self.source,
                remedy="leave those readers out, or analyze only methods that every reader read",
            )

    def _alike(self) -> str:
        """Say which names look like one name written in two ways."""
        for what, names in (("reader", self.readers), ("method", self.methods), ("case", self.cases)):
            first: dict[object, str] = {}
            for name in names:
                other = first.setdefault(_plain(name), name)
                if other != name:
                    return f"; {what} names {other!r} and {name!r} look like one, written in two ways"
        return ""


def read_table(source: str | os.PathLike[str] | pd.DataFrame, *, needs_truth: bool = True) -> ReadTable:
    """Read a long table: one row a read.

    Parameters
    ----------
    source
        A CSV file or a data frame with the columns ``reader``, ``method`` (also called ``treatment``,
        ``modality`` or ``arm``), ``case``, ``rating`` and ``truth``; others are left alone. Names are text as
        it is written. A rating is a number, or true or false; an empty one is a missing read.
    needs_truth
        Whether to read ``truth``: 0 or 1, or true or false, the same in all rows of a case.

    Returns
    -------
    ReadTable

    Raises
    ------
    InputError
        When a column or a name is missing, a value is not what it should be, a read is there twice, or a case
        has two truths; names the file, the row (the header is row 1) and what came.
    """
    frame, where = _load(source)
    columns = _columns(frame, where, needs_truth)
    fields = {name: _Field.of(frame[column]) for name, column in columns.items()}
    identity = {name: fields[name] for name in ("method", "reader", "case")}
    for name, field in identity.items():
        empty = np.flatnonzero(np.array(field.words)[field.codes] == "")
        if len(empty):
            fail(
                f"{columns[name]} is empty",
                path=where,
                row=frame.index[empty[0]],
                remedy="name it in every row",
            )
    shape = tuple(len(field.words) for field in identity.values())
    cells = math.prod(shape)
    if cells > max(10**7, 100 * len(frame)):
        fail(
            f"{len(frame)} rows name {shape[0]} methods, {shape[1]} readers, {shape[2]} cases: not crossed",
            path=where,
            remedy="every reader reads every case under every method; are the columns the right ones?",
        )
    flat = np.ravel_multi_index(tuple(field.codes for field in identity.values()), shape)
    _refuse_duplicates(flat, identity, frame.index, where)
    ratings = np.full(cells, np.nan)
    ratings[flat] = _ratings(fields["rating"], frame.index, where, columns["rating"])
    return ReadTable(
        ratings=ratings.reshape(shape),
        truth=_truth(fields["truth"], fields["case"], frame.index, where) if needs_truth else None,
        methods=fields["method"].words,
        readers=fields["reader"].words,
        cases=fields["case"].words,
        source=where,
    )


@dataclass(frozen=True)
class _Field:
    """A column: the words in it, in the order of first appearance, and which of them each row has."""

    words: tuple[str, ...]
    codes: Array

    @classmethod
    def of(cls, column: pd.Series[Any]) -> _Field:
        codes, uniques = pd.factorize(column)
        stripped = [str(word).strip() for word in uniques]
        merged, words = pd.factorize(
            np.array([*stripped, ""], dtype=object)
        )  # a code of -1 is the last: empty
        codes = merged[codes]
        used = len(words) if (codes == merged[-1]).any() or "" in stripped else len(words) - 1
        return cls(tuple(map(str, words[:used])), codes)


def _load(source: str | os.PathLike[str] | pd.DataFrame) -> tuple[pd.DataFrame, str]:
    if isinstance(source, pd.DataFrame):
        frame, where = source.set_axis(range(2, len(source) + 2)), "reads"
    else:
        where = str(source)
        if not Path(source).is_file():
            fail("there is no such file", path=where, remedy="name a CSV file of reads")
        table = read_text_table(Path(source), what="reads (CSV)")
        frame = table.drop(columns="row").set_axis(table["row"].to_list())  # rows as a spreadsheet shows them
    if frame.empty:
        fail("there is no row of reads", path=where, remedy="one row a read, below the header")
    return frame, where


def _columns(frame: pd.DataFrame, where: str, needs_truth: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    given = list(map(str, frame.columns))
    plain = [name.strip().lower() for name in given]
    wanted = {"method": METHOD_NAMES, **{name: (name,) for name in ("reader", "case", "rating")}}
    if needs_truth:
        wanted["truth"] = ("truth",)
    for name, aliases in wanted.items():
        places = [place for place, text in enumerate(plain) if text == name]
        places = places or [place for place, text in enumerate(plain) if text in aliases]
        if len(places) == 1:
            found[name] = frame.columns[places[0]]
        elif places:
            fail(
                f"columns {', '.join(repr(given[place]) for place in places)} could all be the {name}",
                path=where,
                remedy=f"call one of them {name!r}, and the others something else",
            )
        else:
            fail(
                f"there is no column {' or '.join(map(repr, aliases))}; there are "
                + ", ".join(map(repr, given)),
                path=where,
                remedy=f"add the column, or rename one {name!r}",
            )
    return found


def _ratings(field: _Field, rows: pd.Index[int], where: str, column: str) -> Array:
    values = np.array([math.nan if word.lower() in EMPTY else _number(word) for word in field.words])
    wrong = np.flatnonzero(np.isinf(values)[field.codes])
    if len(wrong):
        fail(
            f"{column} must be a finite number, got {field.words[field.codes[wrong[0]]]!r}",
            path=where,
            row=rows[wrong[0]],
            remedy="write ratings as numbers with a decimal point; leave a missing read empty",
        )
    ratings: Array = values[field.codes]
    return ratings


def _truth(field: _Field, case: _Field, rows: pd.Index[int], where: str) -> Array:
    values = np.array([_number(word) for word in field.words])[field.codes]
    wrong = np.flatnonzero(~np.isin(values, (0, 1)))
    if len(wrong):
        fail(
            f"truth of case {case.words[case.codes[wrong[0]]]!r} must be 0 or 1, "
            f"got {field.words[field.codes[wrong[0]]]!r}",
            path=where,
            row=rows[wrong[0]],
            remedy="1 for a positive case, 0 for a negative one",
        )
    first = np.unique(case.codes, return_index=True)[1]
    truth: Array = values[first].astype(np.int64)
    other = np.flatnonzero(values != truth[case.codes])
    if len(other):
        code = case.codes[other[0]]
        fail(
            f"truth of case {case.words[code]!r} is {values[other[0]]:g}, but {truth[code]} in row "
            f"{rows[first[code]]}",
            path=where,
            row=rows[other[0]],
            remedy="a case has one truth, whoever reads it",
        )
    return truth


def _refuse_duplicates(flat: Array, identity: dict[str, _Field], rows: pd.Index[int], where: str) -> None:
    first = np.unique(flat, return_index=True)[1]
    if len(first) == len(flat):
        return
    again = np.setdiff1d(np.arange(len(flat)), first)
    row_of = dict(zip(flat[first].tolist(), first.tolist(), strict=True))
    listed = "; ".join(
        ", ".join(f"{name} {identity[name].words[identity[name].codes[row]]!r}" for name in identity)
        + f" (rows {rows[row_of[flat[row]]]} and {rows[row]})"
        for row in again[:SHOWN].tolist()
    )
    fail(
        f"{len(again)} {'row repeats' if len(again) == 1 else 'rows repeat'} a read: {listed}"
        + ("; ..." if len(again) > SHOWN else ""),
        path=where,
        remedy="keep one row a read; hidden duplicates belong to the agreement within readers",
    )


def _number(word: str) -> float:
    """Return the number that a word is, true and false included; infinity where it is none."""
    if word.lower() in WORDS:
        return WORDS[word.lower()]
    try:
        value = math.inf if "_" in word else float(word)
    except ValueError:
        return math.inf
    return math.inf if math.isnan(value) else value


def _plain(name: str) -> object:
    text = name.strip().lower()
    try:
        return float(text)
    except ValueError:
        return text
