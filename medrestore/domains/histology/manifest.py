"""Manifests of tiles: one CSV row for each tile of a slide, and what can be wrong with them.

The tiles themselves are not stored: a row says where a tile lies in its slide.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from medrestore.checks import InputError, fail, one_line
from medrestore.data.identity import id_problems, likeness_problems
from medrestore.data.manifest import SPLITS
from medrestore.data.tables import (
    Problem,
    located,
    meant,
    no_number,
    parse_text_table,
    refuse,
    table_problems,
)
from medrestore.data.texts import alike
from medrestore.domains.histology.slides.parts import slide_checksum, slide_identity
from medrestore.domains.histology.slides.patients import patient_key
from medrestore.domains.histology.slides.reader import Slide, open_slide
from medrestore.domains.histology.slides.resolution import implausible
from medrestore.files import atomic_path

__all__ = [
    "TILE_COLUMNS",
    "check_tile_manifest",
    "open_tile_slide",
    "read_tile",
    "read_tile_manifest",
    "write_tile_manifest",
]

TILE_COLUMNS = (
    *("subject_id", "slide", "split", "tile", "x", "y", "tile_size", "microns_per_pixel"),
    *("slide_microns_per_pixel", "tissue_fraction", "focus", "slide_sha256"),
)
"""Columns in the order in which :func:`write_tile_manifest` writes them; others follow."""

_OPTIONAL = ("slide_microns_per_pixel",)
_REQUIRED = tuple(name for name in TILE_COLUMNS if name not in _OPTIONAL)
_DERIVED = ("row", "slide_path")
_ROUNDING = 0.51  # pixels; corners of tiles are rounded to whole ones
_FARTHEST = 2**31 - 1  # pixels, more than any slide has along a side
_WHOLE = {"x": 0, "y": 0, "tile_size": 1}
_FRACTIONAL = ("microns_per_pixel", "slide_microns_per_pixel", "tissue_fraction", "focus")


def open_tile_slide(row: Mapping[Any, Any]) -> Slide:
    """Open the slide of a row of :func:`read_tile_manifest`, at the resolution that the manifest states.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    stated = float(row["slide_microns_per_pixel"])
    given = None if np.isnan(stated) else stated
    return open_slide(row["slide_path"], microns_per_pixel=given, override=True)


def read_tile(slide: Slide, row: Mapping[Any, Any]) -> npt.NDArray[np.uint8]:
    """Read the tile of a row from its opened slide: array (tile_size, tile_size, 3).

    Raises
    ------
    InputError
        When it cannot be read.
    """
    size = int(row["tile_size"])
    microns = float(row["microns_per_pixel"])
    return slide.read(int(row["x"]), int(row["y"]), width=size, height=size, microns_per_pixel=microns)


def read_tile_manifest(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a manifest of tiles; the slides are not opened.

    Parameters
    ----------
    path
        CSV file, UTF-8, separated by commas. Paths in it are relative to its folder and may leave it: slides
        are large and stay where they are.

    Returns
    -------
    pandas.DataFrame
        The columns of the file (:data:`TILE_COLUMNS` and others; names as text, the rest as numbers),
        ``row``, the row of a spreadsheet, and ``slide_path``, absolute. ``slide_microns_per_pixel`` is NaN
        where the slide's own resolution holds: open slides by :func:`open_tile_slide`.

    Raises
    ------
    InputError
        When the table has a fault; names all of them.
    """
    table, problems = _parse(Path(path))
    if problems:
        refuse(Path(path), problems)
    return table


def check_tile_manifest(path: str | os.PathLike[str]) -> list[Problem]:
    """Report all faults of a manifest of tiles and of its slides at once.

    Returns
    -------
    list of Problem
        By row; empty when all is well. Faults found: a missing or empty column, a number that is none, an
        unknown split, a patient in two splits, one slide content under two patients, a duplicate tile or
        position, tile sizes that differ, a slide that is there twice, a missing or unreadable slide,
        another checksum, a tile outside of its slide or at a finer resolution than it has.

    Raises
    ------
    InputError
        When there is no such file or it is no CSV table.
    """
    table, problems = _parse(Path(path))
    if "slide_path" in table:
        for _, rows in table.groupby("slide_path", sort=False):
            problems += _slide_problems(rows)
        problems += _copy_problems(table.drop_duplicates("slide_path"))
    return sorted(set(problems))


def write_tile_manifest(table: pd.DataFrame, path: str | os.PathLike[str]) -> Path:
    """Write a manifest of tiles, whole or not at all: known columns first, then others.

    Columns that :func:`read_tile_manifest` derives are left out.

    Raises
    ------
    InputError
        When a required column is missing.
    """
    path = Path(path)
    missing = [name for name in _REQUIRED if name not in table]
    if missing:
        fail(f"the table lacks the columns {', '.join(missing)}", path=path)
    first = [name for name in TILE_COLUMNS if name in table]
    others = [name for name in table.columns if name not in (*TILE_COLUMNS, *_DERIVED)]
    with atomic_path(path) as temporary:
        table[first + others].to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")
    return path


def _parse(path: Path) -> tuple[pd.DataFrame, list[Problem]]:
    table, faulty = parse_text_table(path)
    problems = table_problems(table, required=_REQUIRED, optional=_OPTIONAL)
    if problems:
        return table, faulty + problems
    problems = faulty + [
        Problem(row, name, "is empty")
        for name in _REQUIRED
        for row, value in zip(table["row"], table[name], strict=True)
        if value == ""
    ]
    problems += _number_problems(table)
    problems += _row_problems(table)
    paths = {slide: os.path.normpath(located(path.parent, slide)) for slide in set(table["slide"])}
    table["slide_path"] = [paths[slide] for slide in table["slide"]]
    return table, sorted(problems)


def _number_problems(table: pd.DataFrame) -> list[Problem]:
    """Turn the columns of numbers from text to numbers, in place; report what is none or not allowed."""
    problems = []
    for name in (*_WHOLE, *_FRACTIONAL):
        numbers = pd.to_numeric(table[name], errors="coerce").astype(np.float64)
        for row, text, number in zip(table["row"], table[name], numbers, strict=True):
            if text == "":
                continue
            if not np.isfinite(number):
                problems.append(Problem(row, name, no_number(text)))
            elif name in _WHOLE and (number != round(number) or not _WHOLE[name] <= number <= _FARTHEST):
                most = f" and at most {_FARTHEST}" if number > _FARTHEST else ""
                message = f"must be a whole number, at least {_WHOLE[name]}{most}, got {text}"
                problems.append(Problem(row, name, message))
            elif name.endswith("microns_per_pixel") and number <= 0:
                problems.append(Problem(row, name, f"must be above 0, got {text}"))
            elif name.endswith("microns_per_pixel") and (reason := implausible(number)):
                problems.append(Problem(row, name, reason))
            elif name == "tissue_fraction" and not 0 <= number <= 1:
                problems.append(Problem(row, name, f"must be in [0, 1], got {text}"))
        whole = numbers.fillna(0).clip(-_FARTHEST, _FARTHEST).astype(np.int64)
        table[name] = whole if name in _WHOLE else numbers
    return problems


def _row_problems(table: pd.DataFrame) -> list[Problem]:
    """Report rows that contradict one another."""
    problems = [
        Problem(row, "split", f"{split!r} is not one of {', '.join(SPLITS)}{meant(split, SPLITS)}")
        for row, split in zip(table["row"], table["split"], strict=True)
        if split and split not in SPLITS
    ]
    problems += id_problems(table, ("tile",))
    problems += id_problems(table, ("subject_id",), files=False)
    problems += likeness_problems(table, "subject_id")
    problems += _same_problems(
        table, "subject_id", "split", "patient {0} in two splits, {1} (row {2}) and {3}"
    )
    problems += _writing_problems(table)
    problems += _same_problems(
        table, "slide_sha256", "subject_id", "one slide under two patients, {1} (row {2}) and {3}"
    )
    problems += _same_problems(table, "slide", "slide_sha256", "{0} has another checksum than in row {2}")
    problems += _same_problems(
        table, "slide", "slide_microns_per_pixel", "{0} has another resolution than in row {2}"
    )
    sizes = table["tile_size"]
    first = int(sizes.iloc[0])
    other = table[sizes != first]
    if not other.empty:
        size, row = int(other["tile_size"].iloc[0]), int(other["row"].iloc[0])
        problems.append(Problem(row, "tile_size", f"tiles must have one size, got {size} and {first}"))
    for columns in (["tile"], ["slide", "x", "y"]):
        seen: dict[Any, int] = {}
        for row, *key in table[["row", *columns]].itertuples(index=False, name=None):
            before = seen.setdefault(tuple(key), row)
            if before != row and "" not in key:
                problems.append(Problem(row, columns[0], f"is the same tile as row {before}"))
    return problems


def _writing_problems(table: pd.DataFrame) -> list[Problem]:
    """Report patients in two splits under ids that name blocks or samples of theirs, as S19-1000 A1 does."""
    problems = []
    first: dict[str, tuple[int, str, str]] = {}
    for subject, split, row in (
        table[["subject_id", "split", "row"]]
        .drop_duplicates(["subject_id", "split"])
        .itertuples(index=False, name=None)
    ):
        before, other, held = first.setdefault(patient_key(subject), (row, subject, split))
        if split != held and subject != other and alike(subject) != alike(other):
            message = f"one patient in two splits: {other} in {held} (row {before}) and {subject} in {split}"
            problems.append(Problem(row, "subject_id", message))
    return problems


def _same_problems(table: pd.DataFrame, key: str, value: str, message: str) -> list[Problem]:
    """Report every group's first row whose value differs from that of its first."""
    problems = []
    for name, rows in table.groupby(key, sort=False):
        texts = [str(cell) for cell in rows[value]]  # NaN equals itself as text
        other = rows[[text not in (texts[0], "") for text in texts]]
        if str(name) and not other.empty:
            text = message.format(name, rows[value].iloc[0], rows["row"].iloc[0], other[value].iloc[0])
            problems.append(Problem(int(other["row"].iloc[0]), value, text))
    return problems


def _copy_problems(slides: pd.DataFrame) -> list[Problem]:
    """Report slides that are there twice, as links, copies or files of one series; a row for each."""
    problems = []
    first: dict[str, Mapping[Any, Any]] = {}
    for row in slides.to_dict("records"):
        try:
            identity = slide_identity(row["slide_path"])
        except (InputError, OSError):
            continue  # is told as a slide that cannot be read
        other = first.setdefault(identity, row)
        if other is row:
            continue
        where = f"is the same slide as {other['slide']} (row {other['row']})"
        for name, words in (("split", "in split"), ("subject_id", "of patient")):
            if row[name] != other[name]:
                where += f", which is {words} {other[name]}, and this one {words} {row[name]}"
                break
        problems.append(Problem(int(row["row"]), "slide", f"{row['slide']}: {where}"))
    return problems


def _slide_problems(rows: pd.DataFrame) -> list[Problem]:
    """Report what is wrong with a slide and with where its tiles lie."""
    first = rows.iloc[0].to_dict()
    number = int(first["row"])
    path = Path(first["slide_path"])
    problems = []
    try:
        if not path.is_file():
            return [Problem(number, "slide", f"{first['slide']}: no such file")]
        if first["slide_sha256"] and slide_checksum(path) != first["slide_sha256"].lower():
            problems.append(Problem(number, "slide_sha256", f"{first['slide']}: the file has changed"))
        with open_tile_slide(first) as slide:
            for row in rows[rows["microns_per_pixel"] > 0].to_dict("records"):  # others are told already
                extent = row["tile_size"] * slide.step(row["microns_per_pixel"])
                if (
                    row["x"] + extent > slide.width + _ROUNDING
                    or row["y"] + extent > slide.height + _ROUNDING
                ):
                    message = f"{row['tile']} leaves its slide of {slide.width} x {slide.height} pixels"
                    problems.append(Problem(int(row["row"]), "tile", message))
    except InputError as error:
        problems.append(Problem(number, "slide", str(error)))
    except OSError as error:
        reason = error.strerror or one_line(error)
        problems.append(Problem(number, "slide", f"{first['slide']}: cannot be read ({reason})"))
    return problems
