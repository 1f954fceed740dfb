"""What can be wrong with a manifest: its numbers, its rows, its splits and its files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pandas as pd

from medrestore.checks import InputError
from medrestore.data.identity import id_problems, likeness_problems, scan_name_problems
from medrestore.data.intensity import foreground_scale
from medrestore.data.tables import Problem, meant, no_number
from medrestore.data.volumes import Volume, grid_difference, read_volume
from medrestore.files import sha256_file

__all__ = [
    "PAIR_FILES",
    "SPLITS",
    "FileColumn",
    "class_problems",
    "empty_split_problems",
    "file_problems",
    "number_problems",
    "path_problem",
    "require_foreground",
    "require_whole_numbers",
    "row_problems",
]

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class FileColumn:
    """A column of a manifest that names files, and what is asked of them.

    Parameters
    ----------
    name
        Of the column; its checksums are in ``<name>_sha256``, absolute paths in ``<name>_path``.
    examine
        Raises :class:`~medrestore.checks.InputError` when a volume cannot serve.
    read
        Reads what the cell names; :func:`~medrestore.data.volumes.read_volume` of its path when not given.
    checksum_required
        An empty checksum is reported as a difference; where not, the table's own checks see to it.
    separator
        Between the files of a cell; empty where a cell names one file.
    """

    name: str
    examine: Callable[[Volume], None] | None = None
    read: Callable[[Sequence[str]], Volume] | None = None
    checksum_required: bool = False
    separator: str = ""

    def files(self, cell: str) -> list[str]:
        """Return the files that a cell names.

        >>> FileColumn("input", separator=";").files("a.nii; b.nii")
        ['a.nii', 'b.nii']
        """
        parts = cell.split(self.separator) if self.separator else [cell]
        return [part.strip() for part in parts] if self.separator else parts


def require_foreground(volume: Volume) -> None:
    """Refuse an image whose intensity scale cannot be found."""
    foreground_scale(volume.data, voxel_size_mm=volume.voxel_size_mm)


def require_whole_numbers(volume: Volume) -> None:
    """Refuse a map whose codes are no whole numbers."""
    if not np.array_equal(volume.data, np.round(volume.data)):
        raise InputError("region codes are no whole numbers")


PAIR_FILES = (
    FileColumn("degraded", examine=require_foreground),
    FileColumn("target"),
    FileColumn("regions", examine=require_whole_numbers, checksum_required=True),
)
"""Columns of a manifest of pairs that name a file."""


def number_problems(table: pd.DataFrame, label_column: str, label_values: Sequence[float]) -> list[Problem]:
    """Turn the columns of numbers from text to float64, in place; report what is no number or not allowed."""
    problems = []
    for name in (label_column, "dose_fraction"):
        numbers = pd.to_numeric(table[name], errors="coerce")
        for row, text, number in zip(table["row"], table[name], numbers, strict=True):
            if text == "":
                continue
            if not np.isfinite(number):
                problems.append(Problem(row, name, no_number(text)))
            elif name == label_column and number not in label_values:
                allowed = ", ".join(f"{value:g}" for value in label_values)
                problems.append(Problem(row, name, f"label {text} is not one of {allowed}"))
            elif name == "dose_fraction" and not 0 < number <= 1:
                problems.append(Problem(row, name, f"must be in (0, 1], got {text}"))
        table[name] = numbers.astype(np.float64)
    return problems


def row_problems(
    table: pd.DataFrame, *, key: Mapping[str, str], contents: Sequence[str] = ("degraded", "target")
) -> list[Problem]:
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
    problems += id_problems(table, ("subject_id", "session_id"))
    problems += likeness_problems(table, "subject_id")
    problems += likeness_problems(table, "session_id", within="subject_id")
    problems += scan_name_problems(table)
    *words, last = key.values()
    first: dict[tuple[Any, ...], int] = {}
    for row, *cells in table[["row", *key]].itertuples(index=False):
        before = first.setdefault(tuple(cells), row)
        if before != row:
            message = f"same {', '.join(words)} and {last} as row {before} (duplicate)"
            problems.append(Problem(row, "", message))
    home: dict[str, tuple[int, str]] = {}
    for row, subject, split in table[["row", "subject_id", "split"]].itertuples(index=False):
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


def path_problem(value: str) -> str:
    """Say why a path does not stay below the manifest's folder; empty when it does.

    >>> path_problem("subjects/../../scan.nii.gz")
    "'subjects/../../scan.nii.gz' leaves the manifest's folder"
    """
    if PurePosixPath(value).is_absolute() or PureWindowsPath(value).drive or value.startswith("\\"):
        return f"{value!r} is absolute, expected a path relative to the manifest's folder"
    depth = 0
    for part in value.replace("\\", "/").split("/"):
        depth += -1 if part == ".." else 0 if part in ("", ".") else 1
        if depth < 0:
            return f"{value!r} leaves the manifest's folder"
    return ""


def empty_split_problems(table: pd.DataFrame, require_splits: Sequence[str]) -> list[Problem]:
    """Report splits that no row has."""
    if "split" not in table:
        return []
    return [
        Problem(0, "split", f"split {split!r} is empty: no row has it")
        for split in require_splits
        if not (table["split"] == split).any()
    ]


def class_problems(table: pd.DataFrame, label_column: str, label_values: Sequence[float]) -> list[Problem]:
    """Report a training split of one class."""
    if "split" not in table or label_column not in table:
        return []
    labels = pd.to_numeric(table.loc[table["split"] == "train", label_column], errors="coerce").dropna()
    if len(label_values) > 1 and len(set(labels)) == 1:
        return [
            Problem(0, label_column, f"split 'train' holds one class only: all labels are {labels.iloc[0]:g}")
        ]
    return []


@dataclass(frozen=True)
class _Cell:
    sha256: str = ""
    volume: Volume | None = None
    problem: str = ""


def _inspect(cell: str, column: FileColumn) -> _Cell:
    """Read the files of a cell; keep their grid, not their voxels."""
    files = column.files(cell)
    missing = [file for file in files if not Path(file).is_file()]
    if missing:
        return _Cell(problem="no such file" + (f": {missing[0]}" if len(files) > 1 else ""))
    checksum = ""
    try:
        checksum = column.separator.join(sha256_file(file) for file in files)
        volume = column.read(files) if column.read else read_volume(cell)
        if not volume.source.states_orientation:
            return _Cell(checksum, problem="states no orientation (qform and sform codes are 0)")
        if column.examine:
            column.examine(volume)
    except (InputError, OSError) as error:
        return _Cell(checksum, problem=str(error).removeprefix(f"{files[0]}: "))
    shape_only = np.broadcast_to(np.float32(0), volume.data.shape)
    return _Cell(checksum, Volume(data=shape_only, affine=volume.affine, source=volume.source))


def file_problems(
    table: pd.DataFrame,
    *,
    columns: Sequence[FileColumn],
    grid: str,
    remedy: str = "",
    workers: int | None,
    progress: bool,
) -> list[Problem]:
    """Read every file once and report what is wrong with it or with the others of its row.

    Parameters
    ----------
    table
        With the columns, their checksums and their absolute paths.
    columns
        What is read.
    grid
        The column on whose grid all others of a row must be.
    remedy
        For one that is on another.
    workers, progress
        As in :func:`medrestore.data.manifest.check_manifest`.
    """
    from medrestore.progress import progress_bar

    of_name = {column.name: column for column in columns}
    jobs = sorted({(cell, name) for name in of_name for cell in table[f"{name}_path"] if cell})
    with warnings.catch_warnings(), ThreadPoolExecutor(workers or os.cpu_count()) as executor:
        warnings.simplefilter("ignore", UserWarning)  # a missing orientation is reported as a fault instead
        results = executor.map(lambda job: _inspect(job[0], of_name[job[1]]), jobs)
        bar = progress_bar(
            results, total=len(jobs), desc="checking volumes", unit="file", disable=not progress
        )
        found = dict(zip(jobs, bar, strict=True))
    problems = []
    for row in table.to_dict("records"):
        cells = {name: found[row[f"{name}_path"], name] for name in of_name if row[f"{name}_path"]}
        for name, cell in cells.items():
            problems += _checksum_problems(row, of_name[name], cell)
        problems += _grid_problems(row, cells, grid, remedy)
    return problems


def _checksum_problems(row: Mapping[Any, Any], column: FileColumn, cell: _Cell) -> list[Problem]:
    name, number = column.name, row["row"]
    expected = row[f"{name}_sha256"].lower()
    problems = []
    if cell.problem:
        problems.append(Problem(number, name, f"{row[name]}: {cell.problem}"))
    if cell.sha256 and cell.sha256 != expected and (expected or column.checksum_required):
        message = f"{row[name]} has checksum {cell.sha256}, the manifest says {expected or 'nothing'}"
        problems.append(Problem(number, f"{name}_sha256", message))
    return problems


def _grid_problems(
    row: Mapping[Any, Any], cells: Mapping[str, _Cell], grid: str, remedy: str
) -> list[Problem]:
    problems = []
    fixed = cells[grid].volume if grid in cells else None
    for name, cell in cells.items():
        if name == grid or cell.volume is None or fixed is None:
            continue
        difference = grid_difference(cell.volume, fixed)
        if difference:
            message = f"{row[name]} is on another grid than the {grid}: {difference}"
            problems.append(Problem(row["row"], name, message + (f". Remedy: {remedy}" if remedy else "")))
    return problems
