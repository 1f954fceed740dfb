"""What can be wrong with a manifest: its numbers, its rows, its splits and its files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pandas as pd

from medrestore.checks import InputError
from medrestore.data.intensity import foreground_scale
from medrestore.data.volumes import Volume, grid_difference, read_volume
from medrestore.files import sha256_file

__all__ = [
    "FILES",
    "SPLITS",
    "Problem",
    "file_problems",
    "number_problems",
    "path_problem",
    "row_problems",
    "split_problems",
]

SPLITS = ("train", "validation", "test")
FILES = ("degraded", "target", "regions")
"""Columns that name a file."""


@dataclass(frozen=True, order=True)
class Problem:
    """A fault of a manifest.

    Parameters
    ----------
    row
        As a spreadsheet numbers it; 0 for the file as a whole.
    column
        Where to look; empty for the row as a whole.
    message
        What is wrong.
    """

    row: int
    column: str
    message: str

    def __str__(self) -> str:
        where = " ".join([f"row {self.row}"] * (self.row > 0) + [self.column] * bool(self.column))
        return f"{where}: {self.message}" if where else self.message


def number_problems(table: pd.DataFrame, label_column: str, label_values: Sequence[float]) -> list[Problem]:
    """Turn the columns of numbers from text to float64, in place; report what is no number or not allowed."""
    problems = []
    for name in (label_column, "dose_fraction"):
        numbers = pd.to_numeric(table[name], errors="coerce")
        for row, text, number in zip(table["row"], table[name], numbers, strict=True):
            if text == "":
                continue
            if not np.isfinite(number):
                problems.append(Problem(row, name, f"{text!r} is no number"))
            elif name == label_column and number not in label_values:
                allowed = ", ".join(f"{value:g}" for value in label_values)
                problems.append(Problem(row, name, f"label {text} is not one of {allowed}"))
            elif name == "dose_fraction" and not 0 < number <= 1:
                problems.append(Problem(row, name, f"must be in (0, 1], got {text}"))
        table[name] = numbers.astype(np.float64)
    return problems


def row_problems(table: pd.DataFrame) -> list[Problem]:
    """Report rows that contradict one another: duplicates, and leaks from one split into another."""
    problems = []
    for row, split in zip(table["row"], table["split"], strict=True):
        if split and split not in SPLITS:
            problems.append(Problem(row, "split", f"must be one of {', '.join(SPLITS)}, got {split!r}"))
    first: dict[tuple[Any, ...], int] = {}
    for row, *key in table[["row", "subject_id", "session_id", "dose_fraction"]].itertuples(index=False):
        before = first.setdefault(tuple(key), row)
        if before != row:
            problems.append(
                Problem(row, "", f"same subject, session and dose fraction as row {before} (duplicate)")
            )
    home: dict[str, tuple[int, str]] = {}
    for row, subject, split in table[["row", "subject_id", "split"]].itertuples(index=False):
        before, other = home.setdefault(subject, (row, split))
        if subject and split != other:
            problems.append(
                Problem(
                    row, "split", f"subject {subject} is in {split!r} here and in {other!r} in row {before}"
                )
            )
    for name in ("degraded", "target"):
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


def split_problems(
    table: pd.DataFrame, label_column: str, label_values: Sequence[float], require_splits: Sequence[str]
) -> list[Problem]:
    """Report splits that are empty, and a training split of one class."""
    if "split" not in table or label_column not in table:
        return []
    problems = [
        Problem(0, "split", f"split {split!r} is empty: no row has it")
        for split in require_splits
        if not (table["split"] == split).any()
    ]
    labels = pd.to_numeric(table.loc[table["split"] == "train", label_column], errors="coerce").dropna()
    if len(label_values) > 1 and len(set(labels)) == 1:
        problems.append(
            Problem(0, label_column, f"split 'train' holds one class only: all labels are {labels.iloc[0]:g}")
        )
    return problems


@dataclass(frozen=True)
class _File:
    sha256: str = ""
    volume: Volume | None = None
    problem: str = ""


def _inspect(path: str, name: str) -> _File:
    """Read a file; keep its grid, not its voxels."""
    if not Path(path).is_file():
        return _File(problem="no such file")
    checksum = ""
    try:
        checksum = sha256_file(path)
        volume = read_volume(path)
        if not volume.source.states_orientation:
            return _File(checksum, problem="states no orientation (qform and sform codes are 0)")
        if name == "degraded":
            foreground_scale(volume.data, voxel_size_mm=volume.voxel_size_mm)
        elif name == "regions" and not np.array_equal(volume.data, np.round(volume.data)):
            return _File(checksum, problem="region codes are no whole numbers")
    except (InputError, OSError) as error:
        return _File(checksum, problem=str(error).removeprefix(f"{path}: "))
    shape_only = np.broadcast_to(np.float32(0), volume.data.shape)
    return _File(checksum, Volume(data=shape_only, affine=volume.affine, source=volume.source))


def file_problems(table: pd.DataFrame, *, workers: int | None, progress: bool) -> list[Problem]:
    """Read every file once and report what is wrong with it or with its pair."""
    from tqdm.auto import tqdm

    wanted = {(path, name) for name in FILES for path in table[f"{name}_path"] if path}
    jobs = sorted(wanted)
    with warnings.catch_warnings(), ThreadPoolExecutor(workers or os.cpu_count()) as executor:
        warnings.simplefilter("ignore", UserWarning)  # a missing orientation is reported as a fault instead
        results = executor.map(lambda job: _inspect(*job), jobs)
        bar = tqdm(results, total=len(jobs), desc="checking volumes", unit="file", disable=not progress)
        found = dict(zip(jobs, bar, strict=True))
    problems = []
    for row in table.to_dict("records"):
        files = {name: found[row[f"{name}_path"], name] for name in FILES if row[f"{name}_path"]}
        problems += _pair_problems(row, files)
    return problems


def _pair_problems(row: Mapping[Any, Any], files: Mapping[str, _File]) -> list[Problem]:
    number = row["row"]
    problems = []
    for name, file in files.items():
        expected = row[f"{name}_sha256"].lower()
        if file.problem:
            problems.append(Problem(number, name, f"{row[name]}: {file.problem}"))
        if file.sha256 and file.sha256 != expected and (expected or name == "regions"):
            message = f"{row[name]} has checksum {file.sha256}, the manifest says {expected or 'nothing'}"
            problems.append(Problem(number, f"{name}_sha256", message))
    target = files["target"].volume if "target" in files else None
    for name in ("degraded", "regions"):
        volume = files[name].volume if name in files else None
        difference = grid_difference(volume, target) if volume is not None and target is not None else ""
        if difference:
            problems.append(
                Problem(number, name, f"{row[name]} is on another grid than the target: {difference}")
            )
    return problems
