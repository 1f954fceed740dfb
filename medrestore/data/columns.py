"""Columns of a manifest: what a cell may hold, and what the files are that it names."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pandas as pd

from medrestore.checks import fail
from medrestore.data.tables import Problem, located, no_number
from medrestore.data.volumes import Volume
from medrestore.files import sha256_file

__all__ = ["Column", "FileColumn", "path_problem"]

_MOST = 2**31 - 1


@dataclass(frozen=True)
class Column:
    """A column of a manifest.

    Parameters
    ----------
    name
        In the header.
    required
        The table must have it; where not, a table without it is read as if its cells were empty.
    filled
        No cell of a required column may be empty.
    empty_in
        Splits in whose rows it may nevertheless.
    number
        Says what is wrong with a number, given it and its text; empty when nothing. The column is text when
        not given.
    whole
        Numbers are int64 instead of float64, 0 where there is none.
    """

    name: str
    required: bool = True
    filled: bool = True
    empty_in: tuple[str, ...] = ()
    number: Callable[[float, str], str] | None = None
    whole: bool = False

    def empty_problems(self, table: pd.DataFrame) -> list[Problem]:
        """Report cells that are empty and must not be."""
        if not (self.required and self.filled):
            return []
        return [
            Problem(row, self.name, "is empty")
            for row, split, value in zip(table["row"], table["split"], table[self.name], strict=True)
            if value == "" and split not in self.empty_in
        ]

    def number_problems(self, table: pd.DataFrame) -> list[Problem]:
        """Turn a column of numbers from text to numbers, in place; report what is none or not allowed."""
        if self.number is None:
            return []
        numbers = pd.to_numeric(table[self.name], errors="coerce").astype(np.float64)
        problems = [
            Problem(row, self.name, reason)
            for row, text, number in zip(table["row"], table[self.name], numbers, strict=True)
            if text != ""
            if (reason := self.number(number, text) if np.isfinite(number) else no_number(text))
        ]
        whole = numbers.fillna(0).clip(-_MOST, _MOST).astype(np.int64) if self.whole else None
        table[self.name] = numbers if whole is None else whole
        return problems


@dataclass(frozen=True)
class FileColumn(Column):
    """A column of a manifest that names files, and what is asked of them; others are as of :class:`Column`.

    Parameters
    ----------
    name
        In the header; its checksums are in ``<name>_sha256``, absolute paths in ``<name>_path``.
    examine
        Raises :class:`~medrestore.checks.InputError` when a volume cannot serve.
    read
        Reads what the cell names; :func:`~medrestore.data.volumes.read_volume` of its path when not given.
    checksum_required
        An empty checksum is reported as a difference of the file rather than when the table is read.
    separator
        Between the files of a cell; empty where a cell names one file.
    against, compare
        Another column, and what raises :class:`~medrestore.checks.InputError` when a volume cannot serve
        beside that of the other column; it is given both, where they share a grid.
    anywhere
        Files may lie outside of the manifest's folder.
    any_grid
        Files need not be on the grid of the others of their row.
    """

    examine: Callable[[Volume], None] | None = None
    read: Callable[[Sequence[str]], Volume] | None = None
    checksum_required: bool = False
    separator: str = ""
    against: str = ""
    compare: Callable[[Volume, Volume], None] | None = None
    anywhere: bool = False
    any_grid: bool = False

    def files(self, cell: str) -> list[str]:
        """Return the files that a cell names.

        >>> FileColumn("input", separator=";").files("a.nii; b.nii")
        ['a.nii', 'b.nii']
        """
        parts = cell.split(self.separator) if self.separator else [cell]
        return [part.strip() for part in parts] if self.separator else parts

    def add_paths(self, table: pd.DataFrame, folder: Path) -> list[Problem]:
        """Add the absolute paths of the cells; report those that leave the folder, and checksums that lack.

        Links are not followed: the sidecar of a linked file lies beside the link.
        """
        paths = {
            cell: self.separator.join(str(located(folder, name)) for name in self.files(cell)) if cell else ""
            for cell in set(table[self.name])
        }
        if self.anywhere:
            paths = {cell: path and os.path.normpath(path) for cell, path in paths.items()}
        table[f"{self.name}_path"] = [paths[cell] for cell in table[self.name]]
        problems = self.path_problems(table)
        if self.checksum_required or (self.required and self.filled):  # the latter's are told as empty
            return problems
        cells = table[["row", self.name, f"{self.name}_sha256"]].itertuples(index=False)
        return problems + [
            Problem(row, f"{self.name}_sha256", "is empty")
            for row, cell, checksum in cells
            if cell and not checksum
        ]

    def path_problems(self, table: pd.DataFrame) -> list[Problem]:
        """Report paths that leave the manifest's folder."""
        if self.anywhere or self.name not in table:
            return []
        return [
            Problem(row, self.name, problem)
            for row, cell in zip(table["row"], table[self.name], strict=True)
            if str(cell)
            for problem in map(path_problem, self.files(str(cell)))
            if problem
        ]

    def checksums(self, table: pd.DataFrame, folder: Path, known: dict[Path, str]) -> list[str]:
        """Return the checksums of the cells' files; ``known`` ones are not computed again.

        Raises
        ------
        InputError
            When a file is missing.
        """
        sums = []
        for value in table[self.name]:
            files = [located(folder, name) for name in self.files(str(value))] if str(value) else []
            for file in files:
                if not file.is_file():
                    fail("no such file", path=file)
                if file not in known:
                    known[file] = sha256_file(file)
            sums.append(self.separator.join(known[file] for file in files))
        return sums


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
