"""Which slides tiles are cut from: their files, patients and splits."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medrestore.checks import InputError, fail, require_in_set
from medrestore.data.manifest import SPLITS, Problem, read_text_table, refuse
from medrestore.data.splits import assign_splits

__all__ = ["SLIDE_SUFFIXES", "SlideEntry", "find_slides", "patient_of", "require_splits", "slides_in"]

SLIDE_SUFFIXES = (
    *(".svs", ".tif", ".tiff", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide", ".bif", ".czi", ".dcm"),
    *(".png", ".jpg", ".jpeg"),
)
"""Names by which slides and pictures are found in a folder."""

_TCGA = re.compile(r"TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}(?![A-Z0-9])")
_TABLE_COLUMNS = ("slide", "subject_id", "split", "microns_per_pixel")


@dataclass(frozen=True)
class SlideEntry:
    """A slide to cut tiles from.

    Parameters
    ----------
    path : Path
        Absolute.
    subject_id : str
        The patient.
    split : str
        Empty until it is assigned.
    microns_per_pixel : float or None, um
        Resolution of level 0 that was stated; None where the file's holds.
    """

    path: Path
    subject_id: str
    split: str = ""
    microns_per_pixel: float | None = None

    @property
    def stem(self) -> str:
        """Name of the file without its suffix, which names its tiles."""
        return self.path.stem


def patient_of(stem: str, pattern: str | None = None) -> str:
    r"""Return the patient that a slide's name tells.

    Parameters
    ----------
    stem : str
        Name of the file without suffix.
    pattern : str or None
        Regular expression with one group, searched in the stem. When None: the first three fields of a TCGA
        barcode, else all up to the first underscore.

    Raises
    ------
    InputError
        When the pattern does not match, has not one group or the group is empty.

    Examples
    --------
    >>> patient_of("TCGA-18-5592-01Z-00-DX1")
    'TCGA-18-5592'
    >>> patient_of("patient_007_node_1")
    'patient'
    >>> patient_of("patient_007_node_1", r"^(patient_\d+)")
    'patient_007'
    """
    if pattern is None:
        found = _TCGA.match(stem)
        return found.group() if found else stem.partition("_")[0] or stem
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"patient_pattern {pattern!r} is no regular expression: {error}") from error
    if compiled.groups != 1:
        raise InputError(f"patient_pattern {pattern!r} must have one group, got {compiled.groups}")
    match = compiled.search(stem)
    if match is None or not match.group(1):
        raise InputError(f"patient_pattern {pattern!r} finds no patient in {stem!r}")
    return match.group(1)


def find_slides(
    slides: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    patient_pattern: str | None = None,
    microns_per_pixel: float | None = None,
) -> list[SlideEntry]:
    """Return the slides of folders, files or a table, sorted by path.

    Parameters
    ----------
    slides : path or sequence of paths
        Folders, whose files of :data:`SLIDE_SUFFIXES` are taken (not those of folders in it), files, or one
        table (CSV) with the column ``slide``, relative to it, and maybe ``subject_id``, ``split`` and
        ``microns_per_pixel``.
    patient_pattern : str or None
        As :func:`patient_of`; of no use where the table names the patient.
    microns_per_pixel : float or None, um
        Resolution of level 0 of all slides for which the table states none.

    Raises
    ------
    InputError
        When there is no slide, two have one stem (their tiles would have one name), a patient cannot be
        told, or the table has a fault.
    """
    paths = [Path(slides)] if isinstance(slides, (str, os.PathLike)) else [Path(path) for path in slides]
    if not paths:
        raise InputError("there is no slide: the list of folders and files is empty")
    if len(paths) == 1 and paths[0].suffix.lower() == ".csv":
        entries = _of_table(paths[0], patient_pattern, microns_per_pixel)
    else:
        files = {file.absolute() for path in paths for file in _files(path)}
        entries = [
            SlideEntry(file, patient_of(file.stem, patient_pattern), "", microns_per_pixel)
            for file in sorted(files)
        ]
    by_stem: dict[str, SlideEntry] = {}
    for entry in entries:
        other = by_stem.setdefault(entry.stem.lower(), entry)  # some file systems know no case
        if other is not entry:
            fail(
                f"has the name of {other.path}, so their tiles would be called the same",
                path=entry.path,
                remedy="rename one of them" if other.path != entry.path else "name it once",
            )
    return entries


def require_splits(
    entries: Sequence[SlideEntry], *, fractions: Mapping[str, float] | None, seed: int
) -> list[SlideEntry]:
    """Return the slides with their splits, by patient; those that a table gave are kept.

    Raises
    ------
    InputError
        When a patient is in two splits, some slides have a split and some have none, splits are given and
        fractions too, or there are too few patients.
    """
    for name in fractions or {}:
        require_in_set("a split in fractions", name, SPLITS)
    given = [entry for entry in entries if entry.split]
    if not given:
        subjects = [entry.subject_id for entry in entries]
        shares = fractions or {"train": 0.7, "validation": 0.1, "test": 0.2}
        try:
            split_of = assign_splits(subjects, [0] * len(subjects), fractions=shares, seed=seed)
        except InputError as error:
            raise InputError(
                f"{error}. Remedy: take more patients, other fractions, or a table with a column split"
            ) from error
        return [replace(entry, split=split_of[entry.subject_id]) for entry in entries]
    if fractions is not None:
        raise InputError("the table gives the splits, so no fractions can be given")
    if len(given) < len(entries):
        bare = next(entry for entry in entries if not entry.split)
        fail("has no split, others have", path=bare.path, remedy="give every slide a split, or none")
    first: dict[str, SlideEntry] = {}
    for entry in entries:
        other = first.setdefault(entry.subject_id, entry)
        if other.split != entry.split:
            raise InputError(
                f"patient {entry.subject_id} is in two splits: {other.path} in {other.split}, "
                f"{entry.path} in {entry.split}. Remedy: put all slides of a patient into one split"
            )
    return list(entries)


def slides_in(folder: Path) -> list[Path]:
    """Return the files of a folder that are slides or pictures by their names, sorted; no hidden ones."""
    return sorted(
        file
        for file in folder.iterdir()
        if file.is_file() and file.suffix.lower() in SLIDE_SUFFIXES and not file.name.startswith(".")
    )


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        fail("no such file or folder, expected slides", path=path)
    found = slides_in(path)
    if not found:
        fail(
            f"holds no slide ({', '.join(SLIDE_SUFFIXES)})", path=path, remedy="name the folder of the slides"
        )
    return found


def _of_table(path: Path, pattern: str | None, microns_per_pixel: float | None) -> list[SlideEntry]:
    table = read_text_table(path)
    if "slide" not in table:
        refuse(path, [Problem(1, "slide", "no such column")])
    unknown = [name for name in table.columns if name not in (*_TABLE_COLUMNS, "row")]
    if unknown:
        refuse(
            path, [Problem(1, name, f"unknown; known are {', '.join(_TABLE_COLUMNS)}") for name in unknown]
        )
    if table.empty:
        refuse(path, [Problem(0, "", "there is no row below the header")])
    problems, entries = [], []
    for row in table.to_dict("records"):
        number = int(row["row"])
        slide = Path(os.path.normpath((path.parent / row["slide"]).absolute()))
        subject, split, stated = (row.get(name, "").strip() for name in _TABLE_COLUMNS[1:])
        if not row["slide"]:
            problems.append(Problem(number, "slide", "is empty"))
        elif not slide.is_file():
            problems.append(Problem(number, "slide", f"{row['slide']}: no such file"))
        if split and split not in SPLITS:
            problems.append(Problem(number, "split", f"{split!r} is not one of {', '.join(SPLITS)}"))
        microns = microns_per_pixel
        if stated:
            try:
                microns = float(stated)
            except ValueError:
                microns = -1.0
            if not 0 < microns < float("inf"):
                problems.append(
                    Problem(number, "microns_per_pixel", f"must be a number above 0, got {stated}")
                )
        entries.append(SlideEntry(slide, subject or patient_of(slide.stem, pattern), split, microns))
    if problems:
        refuse(path, problems)
    return sorted(entries, key=lambda entry: entry.path)
