"""What can be wrong with the rows of a manifest: cells, labels, and rows that contradict one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from medrestore.data.identity import identity_problems
from medrestore.data.tables import Problem, meant

__all__ = [
    "SPLITS",
    "class_problems",
    "empty_split_problems",
    "label_problem",
    "row_problems",
    "scan_problems",
]

SPLITS = ("train", "validation", "test")


def label_problem(number: float, text: str, *, values: Sequence[float]) -> str:
    """Say that a label is none of those allowed; empty when it is one.

    >>> label_problem(3.0, "3", values=(0, 1))
    'label 3 is not one of 0, 1'
    """
    allowed = ", ".join(f"{value:g}" for value in values)
    return "" if number in values else f"label {text} is not one of {allowed}"


def row_problems(table: pd.DataFrame, *, key: Mapping[str, str], contents: Sequence[str]) -> list[Problem]:
    """Report ids that are of no use, and rows that contradict one another: duplicates, leaks between splits.

    Parameters
    ----------
    table
        Text, with ``row``, ``subject_id``, ``session_id``, ``split`` and the columns below.
    key
        Columns that together tell rows apart, and their names in words.
    contents
        Columns of files that only one subject can have.
    """
    problems = []
    for row, split in zip(table["row"], table["split"], strict=True):
        if split and split not in SPLITS:
            problems.append(
                Problem(
                    row, "split", f"must be one of {', '.join(SPLITS)}, got {split!r}{meant(split, SPLITS)}"
                )
            )
    problems += identity_problems(table)
    *words, last = key.values()
    first: dict[tuple[Any, ...], int] = {}
    for row, *cells in table[["row", *key]].itertuples(index=False):
        before = first.setdefault(tuple(cells), row)
        if before != row:
            message = f"same {', '.join(words)} and {last} as row {before} (duplicate)"
            problems.append(Problem(row, "", message))
    home: dict[str, tuple[int, str]] = {}
    for row, subject, split in table[["row", "subject_id", "split"]].itertuples(index=False):
        if split not in SPLITS:
            continue
        before, other = home.setdefault(subject, (row, split))
        if subject and split != other:
            problems.append(
                Problem(
                    row, "split", f"subject {subject} is in {split!r} here and in {other!r} in row {before}"
                )
            )
    for name in contents:
        owner: dict[str, tuple[int, str]] = {}
        for row, subject, checksum in table[["row", "subject_id", f"{name}_sha256"]].itertuples(index=False):
            before, other = owner.setdefault(checksum.lower(), (row, subject))
            if checksum and subject != other:
                problems.append(
                    Problem(row, f"{name}_sha256", f"same file content as subject {other}'s in row {before}")
                )
    return problems


def scan_problems(table: pd.DataFrame, columns: Sequence[str]) -> list[Problem]:
    """Report what differs between rows of one scan, which are its doses, though it is of the scan.

    Parameters
    ----------
    table
        With ``row``, ``subject_id``, ``session_id`` and the columns.
    columns
        What is the same in all rows of a scan; an empty cell contradicts none.
    """
    problems = []
    for name in columns:
        first: dict[tuple[str, str], tuple[int, Any]] = {}
        for row, *scan, value in table[["row", "subject_id", "session_id", name]].itertuples(index=False):
            if value == "" or pd.isna(value):
                continue
            before, other = first.setdefault((scan[0], scan[1]), (row, value))
            if value != other:
                message = f"differs from that of the same scan in row {before}: {value} and {other}"
                problems.append(Problem(row, name, message))
    return problems


def empty_split_problems(table: pd.DataFrame, require_splits: Sequence[str]) -> list[Problem]:
    """Report splits that no row has."""
    if "split" not in table:
        return []
    return [
        Problem(0, "split", f"split {split!r} is empty: no row has it")
        for split in require_splits
        if not (table["split"] == split).any()
    ]


def class_problems(
    table: pd.DataFrame, _splits: Sequence[str], *, column: str, values: Sequence[float]
) -> list[Problem]:
    """Report a training split of one class."""
    if "split" not in table or column not in table:
        return []
    labels = pd.to_numeric(table.loc[table["split"] == "train", column], errors="coerce").dropna()
    if len(values) > 1 and len(set(labels)) == 1:
        message = f"split 'train' holds one class only: all labels are {labels.iloc[0]:g}"
        return [Problem(0, column, message)]
    return []
