"""Where the images, subjects and truth of a study come from: folders, manifests and plain CSV tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from medrestore.checks import InputError, fail
from medrestore.data.identity import id_problems, likeness_problems, scan_name
from medrestore.data.schema import at_dose, split_rows
from medrestore.data.tables import located, read_text_table, require_column
from medrestore.data.texts import plain_text
from medrestore.data.volumes import nifti_stem
from medrestore.domains.base import schema_of_table
from medrestore.files import is_file

__all__ = ["ArmImages", "find_images", "listed", "read_cases", "read_truth", "subjects_of"]

ENDINGS = {3: (".nii", ".nii.gz"), 2: (".png", ".tif", ".tiff")}
"""File names of images by dimension."""

RESTORED = "_restored"
POSITIVE, NEGATIVE = 1, 0


@dataclass(frozen=True)
class ArmImages:
    """The images of one arm.

    Parameters
    ----------
    files
        Case -> path.
    subjects
        Case -> subject, where a table says so.
    beyond
        Case -> path of those that the arm's split leaves out: training may take them.
    """

    files: Mapping[str, Path]
    subjects: Mapping[str, str]
    beyond: Mapping[str, Path]

    def path(self, case: str) -> Path | None:
        """Return the image of a case, of any split; None where there is none."""
        return self.files.get(case) or self.beyond.get(case)


def listed(names: Iterable[str], most: int = 20) -> str:
    """Return names for a message.

    >>> listed(["c", "a", "b"], most=2)
    'a, b and 1 more'
    """
    names = sorted(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def find_images(arm: Mapping[str, Any], *, dimensions: int) -> ArmImages:
    """Find the images of an arm.

    Parameters
    ----------
    arm
        Normal form of the plan: ``images`` is ``folder`` (with ``folder``) or ``manifest`` (with
        ``manifest``, ``column``, ``split``, ``dose_fraction``).
    dimensions
        3 for NIfTI, 2 for PNG and TIFF.

    Raises
    ------
    InputError
        When there is no such folder, table, column or file, or a case has two files.
    """
    if arm["images"] == "folder":
        return ArmImages(_of_folder(Path(arm["folder"]), ENDINGS[dimensions]), {}, {})
    path = Path(arm["manifest"])
    table = read_cases(path)
    column = require_column(table[table.attrs["columns"]], arm["column"], path)
    for name in ("dose_fraction", "split"):
        if arm[name] is not None and name not in table:
            fail(f"has no column {name!r}", path=path)
    try:
        table = at_dose(split_rows(table, None), arm["dose_fraction"])
        kept = split_rows(table, arm["split"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    files = _of_table(kept, column, path, ENDINGS[dimensions], strict=True)
    beyond = _of_table(table, column, path, ENDINGS[dimensions], strict=False)
    subjects = {
        case: subject for case, subject in zip(table["case"], table["subject"], strict=True) if subject
    }
    return ArmImages(files, subjects, {case: file for case, file in beyond.items() if case not in files})


@lru_cache(maxsize=16)
def _read_cases(path: Path, _stamp: tuple[int, int]) -> pd.DataFrame:
    table = read_text_table(path, what="a manifest or a CSV table of cases")
    columns = [name for name in table.columns if name != "row"]
    if {"subject_id", "session_id"} <= set(table.columns):
        schema = schema_of_table(table)
        if schema is not None:
            table = schema.read(path)
        table["case"] = [
            scan_name(*ids) for ids in zip(table["subject_id"], table["session_id"], strict=True)
        ]
        table["subject"] = table["subject_id"]
    elif "case" not in table:
        meant_so = [name for name in columns if name.casefold() in ("case", "subject_id", "session_id")]
        fail(
            "has neither a column 'case' nor the columns 'subject_id' and 'session_id'",
            path=path,
            remedy=f"write {listed(map(repr, meant_so))} in lower case" if meant_so else "",
        )
    elif "subject" not in table:
        table["subject"] = table.get("subject_id", "")
    for row, case in zip(table["row"], table["case"], strict=True):
        if not case:
            fail("case is empty", path=path, row=row)
    ids = [name for name in ("subject_id", "case", "subject") if name in columns]
    problems = id_problems(table, ids, files=False)
    for name in ids:
        problems += likeness_problems(table, name)
    for problem in problems:
        fail(f"{problem.column} {problem.message}", path=path, row=problem.row)
    if "dose_fraction" in table:
        table["dose_fraction"] = pd.to_numeric(table["dose_fraction"], errors="coerce")
    table.attrs["columns"] = columns
    owners = table[table["subject"] != ""].drop_duplicates(["case", "subject"])
    for row, case in owners.loc[owners["case"].duplicated(), ["row", "case"]].itertuples(index=False):
        fail(f"case {case} belongs to another subject in an earlier row", path=path, row=row)
    return table


def read_cases(path: Path) -> pd.DataFrame:
    """Read a manifest, or any CSV table of cases.

    A table with ``subject_id`` and ``session_id`` names its cases as restored files are named; one that has
    all columns that manifests of a kind of image must have is read, and checked, as such. Any other table
    names them in a column ``case``, and may have a column ``subject``.

    Returns
    -------
    pandas.DataFrame
        The table's columns, and ``row`` (as a spreadsheet shows it), ``case``, ``subject`` (empty where the
        table does not say).

    Raises
    ------
    InputError
        When the table has a fault.
    """
    try:
        status = path.stat()
    except OSError:  # which the reading names
        return _read_cases(path, (0, 0))
    return _read_cases(path, (status.st_mtime_ns, status.st_size)).copy()


def read_truth(truth: Mapping[str, Any], cases: Sequence[str]) -> dict[str, int]:
    """Return the truth of cases, 0 or 1.

    Parameters
    ----------
    truth
        Normal form of the plan: ``file``, or ``manifest`` and ``column``.
    cases
        Those that need one.

    Raises
    ------
    InputError
        When a case has no truth, two, or one that is neither 0 nor 1.
    """
    path = Path(truth.get("file") or truth["manifest"])
    table = read_cases(path)
    column = require_column(table[table.attrs["columns"]], truth.get("column") or "truth", path)
    wanted = set(cases)
    found: dict[str, int] = {}
    problems = []
    for row, case, value in table[["row", "case", column]].itertuples(index=False):
        if case not in wanted:
            continue
        number = pd.to_numeric(value, errors="coerce")
        if number not in (NEGATIVE, POSITIVE):
            problems.append(f"row {row}: {column} of {case} must be 0 or 1, got {str(value)!r}")
        elif found.setdefault(case, int(number)) != number:
            problems.append(f"row {row}: {column} of {case} contradicts an earlier row")
    unknown = wanted - set(table["case"])
    if unknown:
        problems.append(f"has no truth of {listed(unknown)}")
    if problems:
        raise InputError(f"{path}: {'; '.join(problems[:20])}")
    return found


def subjects_of(
    cases: Sequence[str], *, known: Mapping[str, str], one_per_case: bool = False
) -> dict[str, str]:
    """Return the subject of each case.

    Parameters
    ----------
    cases
        Names.
    known
        Subjects that a table names; others follow from the name: what stands before the last ``_ses-``, or
        the whole name.
    one_per_case
        Every case is a subject of its own.

    Raises
    ------
    InputError
        When names without ``_ses-`` agree up to their last ``_``: two scans of a subject, or two subjects.

    >>> subjects_of(["sub-01_ses-a", "sub-01_ses-b", "x_1"], known={})
    {'sub-01_ses-a': 'sub-01', 'sub-01_ses-b': 'sub-01', 'x_1': 'x_1'}
    """
    if one_per_case:
        return {case: case for case in cases}
    subjects: dict[str, str] = {}
    unclear: dict[str, list[str]] = {}
    for case in cases:
        if case in known:
            subjects[case] = known[case]
        elif "_ses-" in case:
            subjects[case] = case.rpartition("_ses-")[0]
        else:
            subjects[case] = case
            unclear.setdefault(case.rpartition("_")[0], []).append(case)
    for stem, same in unclear.items():
        if stem and len(same) > 1:
            raise InputError(
                f"are {same[0]} and {same[1]} two scans of one subject, or two subjects? Remedy: say so by "
                "'subjects: {file: subjects.csv}' (columns case, subject), or by 'subjects: one_per_case'"
            )
    return subjects


def _of_folder(folder: Path, endings: tuple[str, ...]) -> dict[str, Path]:
    try:
        entries = sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        fail("no such folder", path=folder)
    except OSError as error:
        fail(f"cannot be read ({error.strerror})", path=folder)
    found = {
        path: plain_text(_stem(path, endings))  # as cells of a table are read
        for path in entries
        if is_file(path) and not path.name.startswith(".") and path.name.lower().endswith(endings)
    }
    # Beside restorations lie maps of their standard deviation: these are no images of the arm.
    if any(stem.endswith(RESTORED) for stem in found.values()):
        found = {path: stem for path, stem in found.items() if stem.endswith(RESTORED)}
    if not found:
        fail(f"holds no file that ends in {', '.join(endings)}", path=folder)
    files: dict[str, Path] = {}
    for path, stem in found.items():
        case = stem.removesuffix(RESTORED)
        if case in files:
            fail(f"has two files of {case}: {files[case].name} and {path.name}", path=folder)
        files[case] = _resolved(path)
    return files


def _of_table(
    table: pd.DataFrame, column: str, path: Path, endings: tuple[str, ...], *, strict: bool
) -> dict[str, Path]:
    files: dict[str, Path] = {}
    problems = []
    for row, case, value in table[["row", "case", column]].itertuples(index=False):
        file = _resolved(located(path.parent, str(value)))
        if not value:
            problems.append(f"row {row}: {column} of {case} is empty")
        elif not str(value).lower().endswith(endings):
            problems.append(
                f"row {row}: {column} of {case} must end in {' or '.join(endings)}, got {value!r}"
            )
        elif files.setdefault(case, file) != file:
            problems.append(
                f"row {row}: {column} of {case} names another file than an earlier row; choose by split or "
                "dose_fraction"
            )
        elif not is_file(file):
            files.pop(case)
            problems.append(f"row {row}: {column} of {case}: no such file ({file})")
    if strict and problems:
        raise InputError(f"{path}: {'; '.join(problems[:20])}")
    return files


def _resolved(path: Path) -> Path:
    """Return where links lead; of links in a circle, the path itself."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return path


def _stem(path: Path, endings: tuple[str, ...]) -> str:
    return nifti_stem(path) if ".nii" in endings else path.stem
