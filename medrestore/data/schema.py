"""Manifests: a CSV row for each scan or part of one; read, checked and written as a schema declares.

Rows are numbered as a spreadsheet shows them: the header is row 1, the first one below it row 2.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from medrestore.checks import InputError, fail
from medrestore.data.columns import Column, FileColumn
from medrestore.data.file_checks import file_problems
from medrestore.data.row_checks import SPLITS, empty_split_problems
from medrestore.data.tables import Problem, parse_text_table, refuse, table_problems
from medrestore.files import atomic_path

__all__ = ["SPLITS", "Column", "FileColumn", "Schema", "at_dose", "split_rows"]


@dataclass(frozen=True)
class Schema:
    """What the manifest of a kind of image holds, and what can be wrong with it.

    Parameters
    ----------
    columns
        In the order in which missing ones are named; a :class:`~medrestore.data.columns.FileColumn` goes with
        a column ``<name>_sha256``.
    order
        Columns in the order in which they are written; others follow.
    checks
        Each reports faults of the rows of a table that has all columns, numbers turned into such.
    whole_checks
        Each reports faults of a table as a whole, which prevent no reading of it, given the splits that must
        not be empty. A table whose header is faulty comes as text, and lacks the columns of paths.
    grid
        The column of files on whose grid all others of a row must be; when empty, files are not read as
        volumes: checks of the whole see to them.
    contents
        Columns of images that must be others in each column of a row, and under each subject.
    remedy
        For a file that is on another grid.
    splits
        Those that must not be empty, where a check is not told others.
    hint
        Says more of a column that a table lacks, given the table and the name.
    """

    columns: tuple[Column, ...]
    order: tuple[str, ...]
    checks: tuple[Callable[[pd.DataFrame], list[Problem]], ...] = ()
    whole_checks: tuple[Callable[[pd.DataFrame, Sequence[str]], list[Problem]], ...] = ()
    grid: str = ""
    contents: tuple[str, ...] = ()
    remedy: str = ""
    splits: tuple[str, ...] = SPLITS
    hint: Callable[[pd.DataFrame, str], str] = field(default=lambda _table, _name: "")

    @property
    def files(self) -> tuple[FileColumn, ...]:
        """Columns that name files."""
        return tuple(column for column in self.columns if isinstance(column, FileColumn))

    @property
    def required(self) -> list[str]:
        """Names of the columns that a table must have."""
        return [column.name for column in self.columns if column.required]

    def read(self, path: str | os.PathLike[str]) -> pd.DataFrame:
        """Read a manifest; the files that it names are not opened.

        Parameters
        ----------
        path
            CSV file, UTF-8, separated by commas; paths in it are relative to its folder.

        Returns
        -------
        pandas.DataFrame
            The columns of the file, identifiers as text, and ``row``, and for each column of files
            ``<name>_path``, absolute and empty where the cell is; ``<name>_paths``, tuples, where cells name
            several.

        Raises
        ------
        InputError
            When the table has a fault; names all of them.
        """
        table, problems = self._parse(Path(path))
        if problems:
            refuse(Path(path), problems)
        for column in self.files:
            if column.separator:
                joined = table.pop(f"{column.name}_path")
                table[f"{column.name}_paths"] = [tuple(cell.split(column.separator)) for cell in joined]
        return table

    def check(
        self,
        path: str | os.PathLike[str],
        *,
        require_splits: Sequence[str] | None = None,
        workers: int | None = None,
        progress: bool = False,
    ) -> list[Problem]:
        """Report all faults of a manifest and of its files at once.

        Parameters
        ----------
        path
            As in :meth:`read`.
        require_splits
            Splits that must not be empty; the schema's when not given.
        workers
            Threads that read files; as many as there are cores when not given.
        progress
            Show a bar.

        Returns
        -------
        list of Problem
            By row; empty when all is well. Faults found: a missing or empty column, a row longer than the
            header, a number that is none, an empty split, an absolute path or one that leaves the folder, a
            missing, unreadable, truncated or 4D file, one without orientation, another checksum, voxels that
            are not finite, one file content or the same voxels under two subjects or twice in a row, another
            grid, and what the schema's own checks and columns find.

        Raises
        ------
        InputError
            When there is no such file or it is no CSV table.
        """
        table, problems = self._parse(Path(path))
        splits = self.splits if require_splits is None else require_splits
        problems += empty_split_problems(table, splits)
        for check in self.whole_checks:
            problems += check(table, splits)
        if self.grid and f"{self.grid}_path" in table:
            problems += file_problems(
                table,
                columns=self.files,
                grid=self.grid,
                contents=self.contents,
                remedy=self.remedy,
                workers=workers,
                progress=progress,
            )
        return sorted(set(problems))

    def with_checksums(self, table: pd.DataFrame, folder: str | os.PathLike[str]) -> pd.DataFrame:
        """Return the table with the checksums of all its files, read from ``folder``.

        Raises
        ------
        InputError
            When a file is missing.
        """
        table = table.copy()
        known: dict[Path, str] = {}
        for column in self.files:
            if column.name in table:
                table[f"{column.name}_sha256"] = column.checksums(table, Path(folder), known)
        return table

    def write(self, table: pd.DataFrame, path: str | os.PathLike[str]) -> Path:
        """Write a manifest, whole or not at all: known columns first, then others; same table, same bytes.

        Columns that :meth:`read` derives are left out, and so are optional ones that are not of :attr:`order`
        and hold nothing.

        Raises
        ------
        InputError
            When a required column is missing, or a path is absolute or leaves the manifest's folder.
        """
        path = Path(path)
        missing = [name for name in self.required if name not in table]
        if missing:
            fail(f"the table lacks the columns {', '.join(missing)}", path=path)
        numbered = table.assign(row=np.arange(2, len(table) + 2))
        for column in self.files:
            for problem in column.path_problems(numbered):
                fail(f"{problem.column} {problem.message}", path=path, row=problem.row)
        derived = {"row", *(f"{column.name}_path{many}" for column in self.files for many in ("", "s"))}
        first = [name for name in self.order if name in table]
        optional = {column.name for column in self.columns if not column.required}
        derived |= {name for name in optional if name in table and (table[name] == "").all()}
        others = [name for name in table.columns if name not in self.order and name not in derived]
        with atomic_path(path) as temporary:
            table[first + others].to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")
        return path

    def _parse(self, path: Path) -> tuple[pd.DataFrame, list[Problem]]:
        table, problems = parse_text_table(path)
        found = table_problems(
            table,
            required=self.required,
            optional=[column.name for column in self.columns if not column.required],
        )
        if found:
            return table, problems + [
                replace(problem, message=problem.message + self.hint(table, problem.column))
                for problem in found
            ]
        for column in self.columns:
            problems += column.empty_problems(table)
            problems += column.number_problems(table)
        for check in self.checks:
            problems += check(table)
        for files in self.files:
            problems += files.add_paths(table, path.parent)
        return table, sorted(problems)


def split_rows(table: pd.DataFrame, split: str | None) -> pd.DataFrame:
    """Return the rows of one split of a manifest; None takes all.

    Raises
    ------
    InputError
        When there are none; names the splits that there are.
    """
    rows = table if split is None else table[table["split"] == split]
    if rows.empty:
        held = ", ".join(sorted(set(table["split"]))) or "nothing"
        raise InputError(f"the manifest has no row of split {split!r}; it holds {held}")
    return rows.reset_index(drop=True)


def at_dose(rows: pd.DataFrame, dose_fraction: float | None) -> pd.DataFrame:
    """Return the rows of a manifest at one dose fraction; None takes all.

    Raises
    ------
    InputError
        When there are none; names the dose fractions that there are.
    """
    if dose_fraction is None:
        return rows
    kept = rows[np.isclose(rows["dose_fraction"], dose_fraction)]
    if kept.empty:
        held = ", ".join(f"{value:g}" for value in sorted(set(rows["dose_fraction"])))
        raise InputError(f"the manifest has no row of dose fraction {dose_fraction:g}; it holds {held}")
    return kept.reset_index(drop=True)
