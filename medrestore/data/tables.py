"""Tables that a user wrote or edited: read as text, with every fault named by its row and column.

Rows are numbered as a spreadsheet shows them: the header is row 1, the first row below it row 2.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from medrestore.checks import InputError, counted, fail, listed_lines, one_line
from medrestore.data.texts import plain_text, read_text

__all__ = [
    "Problem",
    "located",
    "meant",
    "no_number",
    "parse_text_table",
    "read_text_table",
    "records_of",
    "refuse",
    "require_column",
    "table_problems",
]

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_COMMAS = "separate columns by commas (in a spreadsheet: save it as 'CSV UTF-8')"
_REMEDY = "save it as comma-separated UTF-8 with a header"


@dataclass(frozen=True, order=True)
class Problem:
    """A fault of a table.

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


def records_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as plain mappings."""
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def refuse(path: Path, problems: Sequence[Problem]) -> NoReturn:
    """Raise :class:`~medrestore.checks.InputError` with all problems of a table, 50 of them in words."""
    raise InputError(f"{path}: {counted(len(problems), 'problem')}\n{listed_lines(problems)}")


def read_text_table(
    path: Path, *, what: str = "a manifest (CSV)", separators: Sequence[str] = (",",)
) -> pd.DataFrame:
    """Read any CSV table as text: cells that are empty stay so; ``row`` is the row of a spreadsheet.

    Parameters
    ----------
    path
        CSV file, UTF-8.
    what
        What was expected there, for a message.
    separators
        Signs that may stand between cells; the header tells which of them does.

    Returns
    -------
    pandas.DataFrame
        Names of columns and cells as :func:`~medrestore.data.texts.plain_text` leaves them. Rows and columns
        that hold nothing, as spreadsheets append them, are left out; a row that ends early is filled up with
        empty cells, since spreadsheets leave the last separators out.

    Raises
    ------
    InputError
        When there is no such file, it is no CSV table, or a row has more cells than the header.
    """
    table, problems = parse_text_table(path, what=what, separators=separators)
    if problems:
        fail(f"is no CSV table ({'; '.join(map(str, problems[:10]))})", path=path, remedy=_REMEDY)
    return table


def parse_text_table(
    path: Path,
    *,
    what: str = "a manifest (CSV)",
    separators: Sequence[str] = (",",),
    plain: Callable[[str], str] = plain_text,
) -> tuple[pd.DataFrame, list[Problem]]:
    """Read a table as :func:`read_text_table` does; return the faults of single rows, for a report of all.

    Parameters
    ----------
    path, what, separators
        As in :func:`read_text_table`.
    plain
        What is done to each cell.

    Raises
    ------
    InputError
        When there is no such file or it is no CSV table.
    """
    text = read_text(path, what=what)
    lines = _lines(path, text, _separator(path, text, separators), plain)
    if not any(map(any, lines)):
        fail(f"is no CSV table (there is nothing in it), expected {what}", path=path, remedy=_REMEDY)
    if not any(lines[0]):
        fail("is no CSV table (its first row is empty, expected the header)", path=path, remedy=_REMEDY)
    header = _header(path, [plain_text(name) for name in lines[0]])
    problems = [
        Problem(row, "", f"has more cells than the {counted(len(header), 'column')} of the header")
        for row, cells in enumerate(lines[1:], 2)
        if len(cells) > len(header) and any(cells[len(header) :])
    ]
    faulty = {problem.row for problem in problems}
    width = len(header)
    kept = [
        (row, cells if len(cells) == width else [*cells[:width], *[""] * (width - len(cells))])
        for row, cells in enumerate(lines[1:], 2)
        if row not in faulty and any(cells)
    ]
    columns: dict[str, Sequence[str]] = {}
    values = list(zip(*(cells for _, cells in kept), strict=True)) or [()] * width
    for place, (name, column) in enumerate(zip(header, values, strict=True)):
        if name or any(column):
            columns[name or f"Unnamed: {place}"] = column  # an index that pandas wrote has no name
    table = pd.DataFrame(columns, dtype=object)
    table["row"] = np.array([row for row, _ in kept], dtype=np.int64)
    return table, problems


def table_problems(table: pd.DataFrame, *, required: Sequence[str], optional: Sequence[str]) -> list[Problem]:
    """Report columns that are missing, or that there is no row; fill optional columns with nothing.

    Parameters
    ----------
    table
        Of :func:`read_text_table`; optional columns are added in place.
    required, optional
        Names of columns.
    """
    others = [str(name) for name in table if name not in (*required, *optional, "row")]
    missing = [name for name in required if name not in table]
    if missing:
        near = {name: _near(name, others) for name in missing}
        if len(missing) == len(required) > 1 and not any(near.values()):
            held = ", ".join(repr(name[:40]) for name in others[:4])
            return [Problem(1, "", f"is no header: it has none of {', '.join(required)}, but {held}")]
        return [Problem(1, name, f"no such column{near[name]}") for name in missing]
    for name in optional:
        if name not in table:
            meant_so = [other for other in others if other.casefold() == name]
            if meant_so:
                return [Problem(1, name, f"is called {meant_so[0]!r} here: write it in lower case")]
            table[name] = ""
    return [Problem(0, "", "there is no row below the header")] if table.empty else []


def require_column(table: pd.DataFrame, column: str, path: Path) -> str:
    """Return the name of a column that the table has.

    Raises
    ------
    InputError
        When it has not; names the nearest one, or all.
    """
    if column not in table:
        names = [str(name) for name in table if name != "row"]
        hint = _near(column, names) or f"; it has {', '.join(names)}"
        fail(f"has no column {column!r}{hint}", path=path)
    return column


def meant(value: str, allowed: Sequence[str]) -> str:
    """Ask whether the same word in lower case was meant; nothing where it is another.

    >>> meant("Train", ("train", "test")), meant("training", ("train", "test"))
    ("; did you mean 'train'?", '')
    """
    return "".join(f"; did you mean {name!r}?" for name in allowed if name == value.casefold())


def located(folder: Path, name: str) -> Path:
    """Return the absolute path of a file that a table names.

    Where there is none of exactly this name, one whose name looks the same is taken: letters of a file's
    name may be stored in parts (macOS), cells lose spaces that nobody sees, and Windows writes folders with
    backslashes. Links are not followed.

    Parameters
    ----------
    folder
        To which the name is relative.
    name
        As a cell holds it.
    """
    path = (folder / name).absolute()
    try:
        if path.exists() or path.is_symlink():
            return path
        place = folder.absolute()
        for part in PurePosixPath(name.replace("\\", "/")).parts:
            there = part == ".." or (place / part).exists()
            twins = {} if there else _entries(place, place.stat().st_mtime_ns)
            place /= twins.get(plain_text(part), part)
    except OSError:  # what cannot be looked into is told by whoever opens the file
        return path
    return place


@lru_cache(maxsize=256)
def _entries(folder: Path, _stamp: int) -> dict[str, str]:
    """Return what is in a folder by how it looks, where that is not its name."""
    names = [entry.name for entry in folder.iterdir()]
    return {plain: name for name in names if (plain := plain_text(name)) != name}


def no_number(text: str) -> str:
    """Say why a text is no number.

    >>> no_number("0,01")
    "'0,01' is no number: write it with a decimal point"
    """
    comma = re.fullmatch(r"[+-]?\d*,\d+", text)
    return f"{text!r} is no number" + (": write it with a decimal point" if comma else "")


def _near(name: str, others: Sequence[str]) -> str:
    """Ask whether a column of nearly the name was meant; nothing where there is none."""
    folded = {other.casefold(): other for other in others}
    near = get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.8)
    return f"; did you mean {folded[near[0]]!r}?" if near else ""


def _separator(path: Path, text: str, allowed: Sequence[str]) -> str:
    """Return the sign that stands between the cells of the header, or refuse it."""
    first = next(iter(io.StringIO(text, newline=None)), "")
    if first.strip().strip('"').lower().startswith("sep="):
        fail(
            f"begins with the line {first.strip()!r}, which is Excel's and no header",
            path=path,
            remedy="take that line away, and separate cells by commas",
        )
    wanted = " or ".join(_SEPARATORS[sign] for sign in allowed)
    likely = max(_SEPARATORS, key=first.count)  # commas where nothing separates
    if likely not in allowed:
        fail(f"is separated by {_SEPARATORS[likely]}, expected {wanted}", path=path, remedy=_COMMAS)
    return likely


def _lines(path: Path, text: str, separator: str, plain: Callable[[str], str]) -> list[list[str]]:
    """Split a text into rows of plain cells."""
    rows: list[list[str]] = []
    known: dict[str, str] = {}
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True
    )
    try:
        if text.isascii() and not re.search(r"[^\S\r\n]", text):  # nothing that would be taken away: quicker
            rows.extend(reader)
            return rows
        for cells in reader:
            for cell in cells:
                if cell not in known:
                    known[cell] = plain(cell)
            rows.append([known[cell] for cell in cells])
    except csv.Error as error:
        reason = one_line(error)
        quoted = (
            "a quotation mark is not closed" if "end of data" in reason or "field limit" in reason else reason
        )
        fail(
            f"is no CSV table ({quoted}, from line {len(rows) + 1} on)",
            path=path,
            remedy='write a cell with a quotation mark as "...""...", or take the mark away',
        )
    return rows


def _header(path: Path, cells: Sequence[str]) -> list[str]:
    """Return the names of the columns; refuse twins."""
    seen: dict[str, str] = {}
    for name in filter(None, cells):
        other = seen.get(name.casefold())
        if other is not None:
            twins = f"two columns {name!r}" if other == name else f"columns {other!r} and {name!r}"
            fail(f"has {twins}", path=path, row=1, remedy="keep one, or rename the other")
        seen[name.casefold()] = name
    return list(cells)
