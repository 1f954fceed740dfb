"""Ids in tables: whether a file can be called by them, and whether two may be one, written in two ways."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from medrestore.data.tables import Problem, records_of
from medrestore.data.texts import alike

__all__ = [
    "id_problem",
    "id_problems",
    "identity_problems",
    "likeness_problems",
    "ruined",
    "scan_name",
    "scan_names",
]

LONGEST = 100
"""Bytes of an id: subject, session, dose and the endings of a restoration make a name of 255 at most."""

_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_ERRORS = re.compile(r"#(NAME\?|REF!|N/A|VALUE!|DIV/0!|NUM!|NULL!|#+)", re.IGNORECASE)
_ROUNDED = re.compile(r"\d+([.,]\d+)?E\+\d+", re.IGNORECASE)


def scan_name(subject_id: object, session_id: object) -> str:
    """Return what files of a scan are called.

    >>> scan_name("sub-0001", "ses-01")
    'sub-0001_ses-01'
    """
    return f"{subject_id}_{session_id}"


def scan_names(rows: pd.DataFrame, arm: Callable[[Mapping[str, Any]], str]) -> list[str]:
    """Return what the files of each row of a manifest are called.

    Parameters
    ----------
    rows
        With ``subject_id`` and ``session_id``.
    arm
        From a row to what follows the name of a scan that has several of them.

    >>> rows = pd.DataFrame({"subject_id": ["a", "a", "b"], "session_id": "1", "dose": [2, 5, 2]})
    >>> scan_names(rows, lambda row: f"_dose-{row['dose']}")
    ['a_1_dose-2', 'a_1_dose-5', 'b_1']
    """
    several = rows.duplicated(["subject_id", "session_id"], keep=False)
    return [
        scan_name(row["subject_id"], row["session_id"]) + (arm(row) if repeated else "")
        for row, repeated in zip(records_of(rows), several, strict=True)
    ]


def id_problem(value: str) -> str:
    """Say why no file can be called by an id, on any system; empty when one can.

    >>> id_problem("05/03/2021"), id_problem("2021-03-05")
    ("'05/03/2021' can be no part of a file name: it holds '/'", '')
    """
    cannot = f"{value!r} can be no part of a file name: "
    sign = next((mark for mark in value if mark in '/\\:*?"<>|' or unicodedata.category(mark) == "Cc"), "")
    if sign:
        return f"{cannot}it holds {sign!r}"
    if value.startswith((".", "-")):
        return f"{cannot}it begins with {value[0]!r}"
    if value.endswith("."):
        return f"{cannot}it ends in '.'"
    if _RESERVED.fullmatch(value):
        return f"{cannot}Windows keeps it for a device"
    if len(value.encode()) > LONGEST:
        return f"{cannot}it has {len(value.encode())} bytes, at most {LONGEST} are possible"
    return ""


def ruined(value: str) -> str:
    """Say how a spreadsheet ruined an id, where it did.

    >>> ruined("1.23E+15"), ruined("12E5")
    ("'1.23E+15' is a long number that a spreadsheet rounded: write the id as it was", '')
    """
    if _ERRORS.fullmatch(value):
        return f"{value!r} is a spreadsheet's error, no id: write the id as it was"
    if _ROUNDED.fullmatch(value):
        return f"{value!r} is a long number that a spreadsheet rounded: write the id as it was"
    return ""


def id_problems(table: pd.DataFrame, columns: Sequence[str], *, files: bool = True) -> list[Problem]:
    """Report ids that a spreadsheet ruined, and those by which no file can be called.

    Parameters
    ----------
    table
        Text, with ``row`` and the columns.
    columns
        Of ids.
    files
        Whether files are called by them.
    """
    known = {
        value: ruined(value) or (id_problem(value) if files else "")
        for name in columns
        for value in set(table[name])
    }
    return [
        Problem(row, name, known[value])
        for name in columns
        for row, value in zip(table["row"], table[name], strict=True)
        if known[value]
    ]


def likeness_problems(table: pd.DataFrame, column: str, *, within: str | None = None) -> list[Problem]:
    """Report ids that differ in case, in zeros or in the sign between words alone.

    One subject in two writings can be in two splits, and its files replace each other where the file system
    knows no case.

    Parameters
    ----------
    table
        Text, with ``row`` and the columns.
    column
        Of ids.
    within
        Column of the ids within which these are told apart; the whole table when not given.
    """
    what = column.removesuffix("_id")
    problems = []
    first: dict[tuple[str, str], tuple[int, str]] = {}
    told: set[tuple[str, str]] = set()
    plain = {name: alike(name) for kind in (column, within) if kind for name in set(table[kind])}
    outer = [""] * len(table) if within is None else [plain[name] for name in table[within]]
    for row, value, above in zip(table["row"], table[column], outer, strict=True):
        before, other = first.setdefault((above, plain[value]), (row, value))
        if value and value != other and (above, value) not in told:
            told.add((above, value))
            message = f"{value!r} and {other!r} of row {before} look like one {what}, written in two ways"
            problems.append(Problem(row, column, f"{message}. Remedy: write it alike, or rename one of two"))
    return problems


def _name_problems(table: pd.DataFrame) -> list[Problem]:
    """Report rows of two subjects or sessions whose files would be called the same."""
    problems = []
    first: dict[str, tuple[int, str]] = {}
    for row, subject, session in table[["row", "subject_id", "session_id"]].itertuples(index=False):
        before, other = first.setdefault(scan_name(subject, session), (row, subject))
        if subject != other:
            message = (
                f"subject and session make the same name as in row {before}: {scan_name(subject, session)}"
            )
            problems.append(Problem(row, "subject_id", message))
    return problems


def identity_problems(table: pd.DataFrame) -> list[Problem]:
    """Report what is wrong with the ids of scans, by which their files are called.

    Parameters
    ----------
    table
        Text, with ``row``, ``subject_id`` and ``session_id``.
    """
    problems = id_problems(table, ("subject_id", "session_id"))
    problems += likeness_problems(table, "subject_id")
    problems += likeness_problems(table, "session_id", within="subject_id")
    return problems + _name_problems(table)
