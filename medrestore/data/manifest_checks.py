"""What can be wrong with a manifest: its numbers, its rows, its splits and its files."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pandas as pd

from medrestore.checks import InputError, one_line
from medrestore.data.identity import identity_problems
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
    "pair_files",
    "path_problem",
    "require_foreground",
    "require_reference_uptake",
    "require_regions",
    "require_whole_numbers",
    "row_problems",
    "scan_problems",
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
    against, compare
        Another column, and what raises :class:`~medrestore.checks.InputError` when a volume cannot serve
        beside that of the other column; it is given both, where they share a grid.
    """

    name: str
    examine: Callable[[Volume], None] | None = None
    read: Callable[[Sequence[str]], Volume] | None = None
    checksum_required: bool = False
    separator: str = ""
    against: str = ""
    compare: Callable[[Volume, Volume], None] | None = None

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


def require_regions(volume: Volume, *, wanted: Sequence[int] = ()) -> None:
    """Refuse a region map that names no region, or not those that are wanted."""
    require_whole_numbers(volume)
    held = np.unique(volume.data)
    if not held.any():
        raise InputError("the region map names no region: it is 0 everywhere")
    limits = np.iinfo(np.int16)
    if held[0] < 0 or held[-1] > limits.max:
        raise InputError(f"region codes must be from 0 to {limits.max}, got {held[0]:g} to {held[-1]:g}")
    lacking = [f"{code}" for code in wanted if code not in held]
    if lacking:
        shown = ", ".join(f"{code:g}" for code in held[:20]) + ", ..." * (len(held) > 20)
        raise InputError(
            f"the region map has no voxel of region {', '.join(lacking)}, which the composite SUVR needs; "
            f"it holds {shown}. Remedy: leave regions empty for a scan without them"
        )


def require_reference_uptake(regions: Volume, target: Volume, *, reference: int) -> None:
    """Refuse a map whose reference region lies where the target shows no uptake: it would be divided by."""
    uptake = float(target.data[regions.data == reference].mean(dtype=np.float64))
    if not uptake > 0:
        raise InputError(
            f"the target's mean in the reference region {reference} is {uptake:.3g}, expected above 0"
        )


def pair_files(regions: Sequence[int] = ()) -> tuple[FileColumn, ...]:
    """Return the columns of a manifest of pairs that name a file.

    Parameters
    ----------
    regions
        Codes that a region map must hold, the reference region first; any when none is given.
    """
    return (
        FileColumn("degraded", examine=require_foreground),
        FileColumn("target", examine=require_foreground),
        FileColumn(
            "regions",
            examine=partial(require_regions, wanted=regions),
            checksum_required=True,
            against="target" if regions else "",
            compare=partial(require_reference_uptake, reference=regions[0]) if regions else None,
        ),
    )


PAIR_FILES = pair_files()
"""Columns of a manifest of pairs that name a file."""


def number_problems(
    table: pd.DataFrame, label_column: str | None, label_values: Sequence[float]
) -> list[Problem]:
    """Turn the columns of numbers from text to float64, in place; report what is no number or not allowed."""
    problems = []
    for name in filter(None, (label_column, "dose_fraction")):
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
    voxels: str = ""
    problem: str = ""


def _inspect(cell: str, other: str, column: FileColumn) -> _Cell:
    """Read the files of a cell; keep their grid and a checksum of their voxels, not the voxels."""
    files = column.files(cell)
    checksum = ""
    try:
        missing = [file for file in files if not Path(file).is_file()]
        if missing:
            return _Cell(problem="no such file" + (f": {missing[0]}" if len(files) > 1 else ""))
        checksum = column.separator.join(sha256_file(file) for file in files)
        volume = column.read(files) if column.read else read_volume(cell)
        if not volume.source.states_orientation:
            return _Cell(checksum, problem="states no orientation (qform and sform codes are 0)")
        if column.examine:
            column.examine(volume)
        if column.compare and other:
            _compare(volume, other, column.compare)
    except InputError as error:
        return _Cell(checksum, problem=str(error).removeprefix(f"{files[0]}: "))
    except OSError as error:
        return _Cell(checksum, problem=f"cannot be read ({error.strerror or one_line(error)})")
    voxels = hashlib.blake2b(np.ascontiguousarray(volume.data).data).hexdigest()
    shape_only = np.broadcast_to(np.float32(0), volume.data.shape)
    return _Cell(checksum, Volume(data=shape_only, affine=volume.affine, source=volume.source), voxels)


def _compare(volume: Volume, path: str, compare: Callable[[Volume, Volume], None]) -> None:
    """Compare a volume with another of its row; what is wrong with the other alone is told of the other."""
    try:
        other = read_volume(path)
    except (InputError, OSError):
        return
    if not grid_difference(volume, other):
        compare(volume, other)


def file_problems(
    table: pd.DataFrame,
    *,
    columns: Sequence[FileColumn],
    grid: str,
    contents: Sequence[str],
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
    contents
        Columns of images that must be others in each column of a row, and under each subject.
    remedy
        For one that is on another.
    workers, progress
        As in :func:`medrestore.data.manifest.check_manifest`.
    """
    from medrestore.progress import progress_bar

    of_name = {column.name: column for column in columns}
    jobs = sorted(
        {
            (cell, other, name)
            for name, column in of_name.items()
            for cell, other in zip(table[f"{name}_path"], _others(table, column), strict=True)
            if cell
        }
    )
    with warnings.catch_warnings(), ThreadPoolExecutor(workers or os.cpu_count()) as executor:
        warnings.simplefilter("ignore", UserWarning)  # a missing orientation is reported as a fault instead
        results = executor.map(lambda job: _inspect(job[0], job[1], of_name[job[2]]), jobs)
        bar = progress_bar(
            results, total=len(jobs), desc="checking volumes", unit="file", disable=not progress
        )
        found = dict(zip(jobs, bar, strict=True))
    problems = []
    owners: dict[str, tuple[Mapping[Any, Any], str]] = {}
    for row in table.to_dict("records"):
        cells = {
            name: found[row[f"{name}_path"], row.get(f"{column.against}_path", ""), name]
            for name, column in of_name.items()
            if row[f"{name}_path"]
        }
        for name, cell in cells.items():
            problems += _checksum_problems(row, of_name[name], cell)
        problems += _grid_problems(row, cells, grid, remedy)
        problems += _content_problems(row, {name: cells[name] for name in contents if name in cells}, owners)
    return problems


def _others(table: pd.DataFrame, column: FileColumn) -> Sequence[str]:
    """Return the path of what each cell of a column is compared with; empty where with nothing."""
    return [""] * len(table) if not column.against else list(table[f"{column.against}_path"])


def _content_problems(
    row: Mapping[Any, Any], cells: Mapping[str, _Cell], owners: dict[str, tuple[Mapping[Any, Any], str]]
) -> list[Problem]:
    """Report what is in two columns of a row, and voxels under two subjects in files of other bytes."""
    problems = []
    seen: dict[str, str] = {}
    for name, cell in cells.items():
        if not cell.voxels:
            continue
        twin = seen.setdefault(cell.voxels, name)
        if twin != name and row[f"{name}_sha256"].lower() == row[f"{twin}_sha256"].lower():
            message = f"same file content as {twin} of this row"
            problems.append(Problem(row["row"], f"{name}_sha256", message))
        elif twin != name and cell.sha256 != cells[twin].sha256:  # else a checksum is told to differ
            message = f"{row[name]} has the same voxels as {twin} of this row"
            problems.append(Problem(row["row"], name, message))
        owner, column = owners.setdefault(cell.voxels, (row, name))
        told = column == name and owner[f"{name}_sha256"].lower() == row[f"{name}_sha256"].lower()
        if owner["subject_id"] != row["subject_id"] and not told:
            place = "" if column == name else f" ({column})"
            whose = f"subject {owner['subject_id']}'s in row {owner['row']}{place}"
            problems.append(Problem(row["row"], name, f"{row[name]} has the same voxels as {whose}"))
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
