"""The manifest of histology: a CSV row for each tile of a slide.

The tiles themselves are not stored: a row says where a tile lies in its slide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from medrestore.checks import InputError, one_line
from medrestore.data.columns import Column, FileColumn
from medrestore.data.identity import id_problems, likeness_problems
from medrestore.data.row_checks import SPLITS
from medrestore.data.schema import Schema
from medrestore.data.tables import Problem, meant
from medrestore.data.texts import alike
from medrestore.domains.histology.slides.parts import slide_checksum, slide_identity
from medrestore.domains.histology.slides.patients import patient_key
from medrestore.domains.histology.slides.reader import Slide, open_slide
from medrestore.domains.histology.slides.resolution import implausible

__all__ = ["TILES", "TileReader", "open_tile_slide", "read_tile"]

_ROUNDING = 0.51  # pixels; corners of tiles are rounded to whole ones
_FARTHEST = 2**31 - 1  # pixels, more than any slide has along a side


def open_tile_slide(row: Mapping[Any, Any]) -> Slide:
    """Open the slide of a row of a manifest, at the resolution that the manifest states.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    return _open(*_opened_by(row))


def _open(path: str, given: float | None) -> Slide:
    return open_slide(path, microns_per_pixel=given, override=True)


def _opened_by(row: Mapping[Any, Any]) -> tuple[str, float | None]:
    stated = float(row["slide_microns_per_pixel"])
    return str(row["slide_path"]), None if np.isnan(stated) else stated


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


class TileReader:
    """Reads tiles of manifests, from any thread, and holds the slides open that were read from last.

    A slide that is let go is closed when nobody reads from it any more. A pickled reader holds none.

    Parameters
    ----------
    most
        Slides that are held open; a plain picture is held decoded.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open = lru_cache(maxsize=most)(_open)

    def __reduce__(self) -> tuple[Any, ...]:
        return TileReader, (self._most,)

    def slide(self, row: Mapping[Any, Any]) -> Slide:
        """Return the slide of a row, as :func:`open_tile_slide` opens it."""
        return self._open(*_opened_by(row))

    def read(self, row: Mapping[Any, Any]) -> npt.NDArray[np.uint8]:
        """Read the tile of a row as :func:`read_tile` does."""
        return read_tile(self.slide(row), row)


def _whole_problem(number: float, text: str, *, least: int) -> str:
    if number == round(number) and least <= number <= _FARTHEST:
        return ""
    most = f" and at most {_FARTHEST}" if number > _FARTHEST else ""
    return f"must be a whole number, at least {least}{most}, got {text}"


def _resolution_problem(number: float, text: str) -> str:
    return f"must be above 0, got {text}" if number <= 0 else implausible(number)


def _fraction_problem(number: float, text: str) -> str:
    return "" if 0 <= number <= 1 else f"must be in [0, 1], got {text}"


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


def _all_slide_problems(table: pd.DataFrame, _splits: Sequence[str]) -> list[Problem]:
    """Report what is wrong with each slide, with where its tiles lie, and slides that are there twice."""
    if "slide_path" not in table:
        return []
    problems = [
        problem for _, rows in table.groupby("slide_path", sort=False) for problem in _slide_problems(rows)
    ]
    return problems + _copy_problems(table.drop_duplicates("slide_path"))


_COLUMNS = (
    Column("subject_id"),
    FileColumn("slide", anywhere=True),
    *(Column("split"), Column("tile")),
    *(Column(name, number=partial(_whole_problem, least=0), whole=True) for name in ("x", "y")),
    Column("tile_size", number=partial(_whole_problem, least=1), whole=True),
    Column("microns_per_pixel", number=_resolution_problem),
    Column("slide_microns_per_pixel", required=False, number=_resolution_problem),
    Column("tissue_fraction", number=_fraction_problem),
    Column("focus", number=lambda _number, _text: ""),
    Column("slide_sha256"),
)

TILES = Schema(
    _COLUMNS,
    order=tuple(column.name for column in _COLUMNS),
    checks=(_row_problems,),
    whole_checks=(_all_slide_problems,),
    splits=(),
)
"""Manifests of tiles. Paths in them may leave their folder: slides are large and stay where they are.

A row is found faulty for a patient in two splits, one slide content under two patients, a duplicate tile or
position, tile sizes that differ, a slide that is there twice, a missing or unreadable slide, another
checksum, a tile outside of its slide or at a finer resolution than it has. ``slide_microns_per_pixel`` is NaN
where the slide's own resolution holds: open slides by :func:`open_tile_slide`. Checksums are those of
:func:`~medrestore.domains.histology.slides.parts.slide_checksum`.
"""
