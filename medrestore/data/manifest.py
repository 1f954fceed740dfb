"""Manifests: one CSV row for each pair of degraded and target volume, and what can be wrong with them.

Rows are numbered as a spreadsheet shows them: the header is row 1, the first pair row 2.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medrestore.checks import InputError, fail
from medrestore.data.manifest_checks import (
    PAIR_FILES,
    SPLITS,
    FileColumn,
    class_problems,
    empty_split_problems,
    file_problems,
    number_problems,
    pair_files,
    path_problem,
    row_problems,
    scan_problems,
)
from medrestore.data.tables import Problem, located, parse_text_table, refuse, table_problems
from medrestore.files import atomic_path, sha256_file

__all__ = [
    "COLUMNS",
    "SPLITS",
    "add_paths",
    "check_manifest",
    "read_manifest",
    "require_valid_manifest",
    "sha256_file",
    "split_rows",
    "with_checksums",
    "write_manifest",
    "write_table",
]

COLUMNS = (
    *(
        "subject_id",
        "session_id",
        "split",
        "degraded",
        "target",
        "regions",
        "amyloid_status",
        "dose_fraction",
    ),
    *("tracer", "units", "degraded_sha256", "target_sha256", "regions_sha256"),
)
"""Order in which :func:`write_manifest` writes columns; others follow."""

_KEY = {"subject_id": "subject", "session_id": "session", "dose_fraction": "dose fraction"}
_OPTIONAL = ("regions", "regions_sha256")
_REQUIRED = tuple(name for name in COLUMNS if name not in (*_OPTIONAL, "amyloid_status"))
_DERIVED = ("row", "degraded_path", "target_path", "regions_path")


def read_manifest(
    path: str | os.PathLike[str],
    *,
    label_column: str | None = "amyloid_status",
    label_values: Sequence[float] = (0, 1),
) -> pd.DataFrame:
    """Read a manifest; the volumes themselves are not opened.

    Parameters
    ----------
    path
        CSV file, UTF-8, separated by commas; paths in it are relative to its folder.
    label_column
        Column of the class label y; None where no label is needed, whatever the table has.
    label_values
        Labels that may occur.

    Returns
    -------
    pandas.DataFrame
        The columns of the file (identifiers as text, label and dose fraction as numbers), and ``row``,
        ``degraded_path``, ``target_path``, ``regions_path``: absolute paths, the last one empty where there
        are no regions.

    Raises
    ------
    InputError
        When the table has a fault; names all of them.
    """
    table, problems = _parse(Path(path), label_column, label_values)
    if problems:
        refuse(Path(path), problems)
    return table


def check_manifest(
    path: str | os.PathLike[str],
    *,
    label_column: str = "amyloid_status",
    label_values: Sequence[float] = (0, 1),
    require_splits: Sequence[str] = SPLITS,
    regions: Sequence[int] = (),
    workers: int | None = None,
    progress: bool = False,
) -> list[Problem]:
    """Report all faults of a manifest and of its files at once.

    Parameters
    ----------
    path, label_column, label_values
        As in :func:`read_manifest`.
    require_splits
        Splits that must not be empty.
    regions
        Codes that every region map must hold, the reference region first; any when not given.
    workers
        Threads that read files; as many as there are cores when not given.
    progress
        Show a bar.

    Returns
    -------
    list of Problem
        By row; empty when all is well. Faults found: a missing or empty column, a row longer than the header,
        a number that is none, a dose fraction outside of (0, 1], a label outside of its set, an unknown or
        empty split, a training split of one class, an id by which no file can be called, two ids that look
        like one, a subject in two splits, a duplicate row (subject, session, dose fraction), one file content
        under two subjects or as both images of a pair, an absolute path or one that leaves the folder, a
        missing, unreadable, truncated or 4D file, one without orientation, another checksum, voxels that are
        not finite, an image without foreground, a pair or region map of different shape or affine, region
        codes that are no whole numbers, negative, all zero or not those of ``regions``, a reference region
        without uptake.

    Raises
    ------
    InputError
        When there is no such file or it is no CSV table.
    """
    path = Path(path)
    table, problems = _parse(path, label_column, label_values)
    problems += empty_split_problems(table, require_splits)
    problems += class_problems(table, label_column, label_values)
    if "degraded_path" in table:
        problems += file_problems(
            table,
            columns=pair_files(regions),
            grid="target",
            contents=("degraded", "target"),
            workers=workers,
            progress=progress,
        )
    return sorted(set(problems))


def require_valid_manifest(
    path: str | os.PathLike[str],
    *,
    label_column: str = "amyloid_status",
    label_values: Sequence[float] = (0, 1),
    require_splits: Sequence[str] = SPLITS,
    workers: int | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Check a manifest and its files, and read it.

    Raises
    ------
    InputError
        When :func:`check_manifest` finds a fault; names all of them.
    """
    labels: dict[str, Any] = {"label_column": label_column, "label_values": label_values}
    problems = check_manifest(
        path, require_splits=require_splits, workers=workers, progress=progress, **labels
    )
    if problems:
        refuse(Path(path), problems)
    return read_manifest(path, **labels)


def with_checksums(
    table: pd.DataFrame,
    folder: str | os.PathLike[str],
    *,
    columns: Sequence[FileColumn] = PAIR_FILES,
) -> pd.DataFrame:
    """Return the table with the checksums of all its files, read from ``folder``.

    Raises
    ------
    InputError
        When a file is missing.
    """
    table = table.copy()
    known: dict[Path, str] = {}
    for column in columns:
        if column.name not in table:
            continue
        sums = []
        for value in table[column.name]:
            files = [located(Path(folder), name) for name in column.files(str(value))] if str(value) else []
            for file in files:
                if not file.is_file():
                    fail("no such file", path=file)
                if file not in known:
                    known[file] = sha256_file(file)
            sums.append(column.separator.join(known[file] for file in files))
        table[f"{column.name}_sha256"] = sums
    return table


def write_manifest(table: pd.DataFrame, path: str | os.PathLike[str]) -> Path:
    """Write a manifest, whole or not at all: known columns first, then others; same table, same bytes.

    Columns that :func:`read_manifest` derives are left out.

    Raises
    ------
    InputError
        When a required column is missing, or a path is absolute or leaves the manifest's folder.
    """
    return write_table(table, path, known=COLUMNS, required=_REQUIRED, derived=_DERIVED, files=PAIR_FILES)


def write_table(
    table: pd.DataFrame,
    path: str | os.PathLike[str],
    *,
    known: Sequence[str],
    required: Sequence[str],
    derived: Sequence[str],
    files: Sequence[FileColumn],
) -> Path:
    """Write a table as a manifest, whole or not at all.

    Parameters
    ----------
    table
        Rows of a manifest.
    path
        CSV file.
    known
        Columns in the order in which they come first.
    required
        Columns that must be there.
    derived
        Columns that are left out.
    files
        Columns whose paths must stay in the manifest's folder.

    Raises
    ------
    InputError
        When a required column is missing, or a path is absolute or leaves the manifest's folder.
    """
    path = Path(path)
    missing = [name for name in required if name not in table]
    if missing:
        fail(f"the table lacks the columns {', '.join(missing)}", path=path)
    for problem in _path_problems(table.assign(row=np.arange(2, len(table) + 2)), files):
        fail(f"{problem.column} {problem.message}", path=path, row=problem.row)
    first = [name for name in known if name in table]
    others = [name for name in table.columns if name not in (*known, *derived)]
    with atomic_path(path) as temporary:
        table[first + others].to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")
    return path


def add_paths(table: pd.DataFrame, folder: Path, files: Sequence[FileColumn]) -> list[Problem]:
    """Add the absolute paths of every column of files; report those that leave the folder.

    Links are not followed: the sidecar of a linked file lies beside the link.
    """
    for column in files:
        table[f"{column.name}_path"] = [
            column.separator.join(str(located(folder, name)) for name in column.files(cell)) if cell else ""
            for cell in table[column.name]
        ]
    return _path_problems(table, files)


def _path_problems(table: pd.DataFrame, files: Sequence[FileColumn]) -> list[Problem]:
    return [
        Problem(row, column.name, problem)
        for column in files
        if column.name in table
        for row, cell in zip(table["row"], table[column.name], strict=True)
        if str(cell)
        for problem in map(path_problem, column.files(str(cell)))
        if problem
    ]


def _parse(
    path: Path, label_column: str | None, label_values: Sequence[float]
) -> tuple[pd.DataFrame, list[Problem]]:
    table, faulty = parse_text_table(path)
    required = list(dict.fromkeys([*_REQUIRED, *filter(None, [label_column])]))
    problems = table_problems(table, required=required, optional=_OPTIONAL)
    if problems:
        return table, faulty + problems
    # A scan that is restored only needs no label: what cannot be judged without one is left out of its
    # evaluation.
    problems = faulty + [
        Problem(row, name, "is empty")
        for name in required
        for row, split, value in zip(table["row"], table["split"], table[name], strict=True)
        if value == "" and not (name == label_column and split == "test")
    ]
    problems += number_problems(table, label_column, label_values)
    problems += row_problems(table, key=_KEY)
    problems += scan_problems(table, [*filter(None, [label_column]), "regions_sha256"])
    problems += add_paths(table, path.parent, PAIR_FILES)
    return table, sorted(problems)


def split_rows(table: pd.DataFrame, split: str | None, *, dose_fraction: float | None = None) -> pd.DataFrame:
    """Return the rows of one split of a manifest, at one dose fraction; None takes all.

    Raises
    ------
    InputError
        When there are none; names the splits or dose fractions that there are.
    """
    rows = table if split is None else table[table["split"] == split]
    if rows.empty:
        held = ", ".join(sorted(set(table["split"]))) or "nothing"
        raise InputError(f"the manifest has no row of split {split!r}; it holds {held}")
    if dose_fraction is not None:
        held = ", ".join(f"{value:g}" for value in sorted(set(rows["dose_fraction"])))
        rows = rows[np.isclose(rows["dose_fraction"], dose_fraction)]
        if rows.empty:
            raise InputError(f"the manifest has no row of dose fraction {dose_fraction:g}; it holds {held}")
    return rows.reset_index(drop=True)
