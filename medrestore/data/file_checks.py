"""What can be wrong with the volumes that a manifest names: each alone, and those of a row together."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medrestore.checks import InputError, one_line
from medrestore.data.columns import FileColumn
from medrestore.data.intensity import RELATIVE, Intensity
from medrestore.data.tables import Problem
from medrestore.data.volumes import Volume, grid_difference, read_volume
from medrestore.files import sha256_file

__all__ = ["file_problems", "require_foreground", "require_whole_numbers"]


def require_foreground(volume: Volume, *, intensity: Intensity = RELATIVE) -> None:
    """Refuse an image whose intensity scale cannot be found."""
    intensity.scale_of(intensity.above_nothing(volume.data), voxel_size_mm=volume.voxel_size_mm)


def require_whole_numbers(volume: Volume) -> None:
    """Refuse a map whose codes are no whole numbers."""
    if not np.array_equal(volume.data, np.round(volume.data)):
        raise InputError("region codes are no whole numbers")


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
        As in :meth:`medrestore.data.schema.Schema.check`.
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
        on_grid = {name: cell for name, cell in cells.items() if not of_name[name].any_grid}
        problems += _grid_problems(row, on_grid, grid, remedy)
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
