"""Tables of slides: which patient each is of, and maybe its split and resolution."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medrestore.data.identity import id_problems
from medrestore.data.row_checks import SPLITS
from medrestore.data.tables import Problem, located, meant, parse_text_table, refuse, table_problems
from medrestore.data.texts import plain_text
from medrestore.domains.histology.slides.patients import patient_key
from medrestore.domains.histology.slides.resolution import implausible
from medrestore.files import is_file

__all__ = ["Cases", "SlideRow", "read_slide_table"]

_COLUMNS = ("slide", "subject_id", "split", "microns_per_pixel")
_PATIENT_COLUMN = "patient"
"""Another name of ``subject_id``."""


@dataclass(frozen=True)
class SlideRow:
    """A row of a table of slides; what is not stated is empty or None.

    Parameters
    ----------
    number : int
        As a spreadsheet counts.
    slide, subject_id, split : str
        Cells.
    microns_per_pixel : float or None, um
        Of level 0.
    """

    number: int
    slide: str
    subject_id: str
    split: str
    microns_per_pixel: float | None


def read_slide_table(path: Path, *, files: bool) -> list[SlideRow]:
    """Read a table (CSV) of slides.

    Parameters
    ----------
    path
        Of the columns ``slide``, and as far as known ``subject_id`` (or ``patient``), ``split`` and
        ``microns_per_pixel``.
    files
        Require that every slide is a file, relative to the table.

    Raises
    ------
    InputError
        When it is no such table; names all faults.
    """
    table, problems = parse_text_table(path)
    if _PATIENT_COLUMN in table and "subject_id" not in table:
        table = table.rename(columns={_PATIENT_COLUMN: "subject_id"})
    if faults := table_problems(table, required=("slide",), optional=()):
        refuse(path, faults)
    unknown = [name for name in table.columns if name not in (*_COLUMNS, "row")]
    if unknown:
        known = f"{', '.join(_COLUMNS)}; {_PATIENT_COLUMN} stands for subject_id. Remedy: rename or remove it"
        refuse(path, [Problem(1, name, f"unknown; known are {known}") for name in unknown])
    if "subject_id" in table:
        problems += id_problems(table, ("subject_id",), files=False)
    rows = []
    for cells in table.to_dict("records"):
        number = int(cells["row"])
        slide, subject, split, stated = (str(cells.get(name, "")) for name in _COLUMNS)
        if not slide:
            problems.append(Problem(number, "slide", "is empty"))
        elif files and not is_file(located(path.parent, slide)):
            problems.append(Problem(number, "slide", f"{slide}: no such file"))
        if split and split not in SPLITS:
            known = ", ".join(SPLITS)
            message = f"{split!r} is not one of {known}{meant(split, SPLITS)}"
            problems.append(Problem(number, "split", message))
        microns = _microns(stated)
        if stated and microns is None:
            problems.append(Problem(number, "microns_per_pixel", f"must be a number above 0, got {stated}"))
        elif microns is not None and (reason := implausible(microns)):
            problems.append(Problem(number, "microns_per_pixel", reason))
        rows.append(SlideRow(number, slide, subject, split, microns))
    if problems:
        refuse(path, sorted(problems))
    return rows


class Cases:
    """A table that tells the patients of slides that are found elsewhere.

    Parameters
    ----------
    path
        As :func:`read_slide_table` takes; a slide is named by its file, with or without suffix and the
        folders before it, in any case.

    Raises
    ------
    InputError
        When it is no such table, a row names no patient, or two rows name one slide.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[str, SlideRow] = {}
        self._used: set[int] = set()
        problems = []
        for row in read_slide_table(path, files=False):
            if not row.subject_id:
                problems.append(Problem(row.number, "subject_id", "is empty"))
            name = row.slide.replace("\\", "/").removeprefix("./").casefold()
            before = self._rows.setdefault(name, row)
            if before is not row:
                problems.append(Problem(row.number, "slide", f"is that of row {before.number}"))
        if problems:
            refuse(path, problems)

    def row_of(self, path: Path, *, folders: tuple[str, ...]) -> SlideRow | None:
        """Return the row of a slide by as much of its path as the table tells, None where there is none.

        Raises
        ------
        InputError
            When one row names it with suffix and one without, and they differ.
        """
        for names in _names(path, folders):
            rows = [row for name in names if (row := self._rows.get(name.casefold())) is not None]
            self._used |= {row.number for row in rows}
            if len({(patient_key(row.subject_id), row.split, row.microns_per_pixel) for row in rows}) > 1:
                first, second = sorted(rows, key=lambda row: row.number)
                message = f"{second.slide} is the slide of row {first.number} too, and the rows differ"
                refuse(self.path, [Problem(second.number, "slide", message)])
            if rows:
                return rows[0]
        return None

    @property
    def unused(self) -> list[str]:
        """Slides of the table that nobody asked for."""
        return [row.slide for row in self._rows.values() if row.number not in self._used]


def _names(path: Path, folders: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield what a table may call a slide with suffix and without, with the most folders first."""
    for begin in range(len(folders) + 1):
        name = PurePosixPath(*folders[begin:], path.name)
        yield plain_text(str(name)), plain_text(str(name.with_suffix("")))


def _microns(stated: str) -> float | None:
    try:
        value = float(stated)
    except ValueError:
        return None
    return value if 0 < value < math.inf else None
