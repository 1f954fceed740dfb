"""Manifests of multi-contrast MRI: one CSV row for each input and the contrasts that were acquired with it.

The input is one 4D file or several 3D files joined by ``;``; an empty cell says that a contrast is missing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from medrestore.checks import InputError
from medrestore.data.manifest import SPLITS, add_paths, with_checksums, write_table
from medrestore.data.manifest_checks import (
    FileColumn,
    empty_split_problems,
    file_problems,
    require_foreground,
    require_whole_numbers,
    row_problems,
)
from medrestore.data.tables import Problem, parse_text_table, refuse, table_problems
from medrestore.data.volumes import Volume
from medrestore.domains.multicontrast_mri.acquisition.acquisition import (
    Acquisition,
    input_scale,
    read_channels,
)
from medrestore.domains.multicontrast_mri.acquisition.channel_files import read_files
from medrestore.evaluation.titles import MEAN

__all__ = [
    "SEPARATOR",
    "availability",
    "check_contrast_manifest",
    "contrast_columns",
    "file_columns",
    "group_problems",
    "read_contrast_manifest",
    "require_contrasts",
    "with_contrast_checksums",
    "write_contrast_manifest",
]

SEPARATOR = ";"
"""Between the files of an input, one for each channel."""

_KEY = {"subject_id": "subject", "session_id": "session"}
_REQUIRED = ("subject_id", "session_id", "split", "input", "input_sha256")
_OPTIONAL = ("group", "lesions", "lesions_sha256")
_NO_CONTRASTS = (*_REQUIRED, *_OPTIONAL, "row", "volumes")
_REMEDY = "medrestore mri coregister"


def require_contrasts(contrasts: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the contrasts: lower case, digits and underscores, each once.

    Raises
    ------
    InputError
        When there is none, one comes twice, or one cannot be the name of a contrast's column.
    """
    names = (contrasts,) if isinstance(contrasts, str) else tuple(contrasts)
    if not names:
        raise InputError("contrasts must name one contrast at least, got none")
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
            raise InputError(f"contrasts must be names like t1w or t2_flair, got {name!r}")
        if name in _NO_CONTRASTS or name.endswith(("_sha256", "_path", "_paths")):
            raise InputError(f"contrasts: {name!r} is a column of another meaning")
        if names.count(name) > 1:
            raise InputError(f"contrasts must be different, got {name!r} twice")
    return names


def file_columns(contrasts: Sequence[str], acquisition: Acquisition | None = None) -> tuple[FileColumn, ...]:
    """Return the columns of a manifest that name files, and how they are checked."""
    return (
        FileColumn(
            "input",
            read=partial(_read_input, acquisition=acquisition),
            separator=SEPARATOR,
        ),
        *(FileColumn(name, examine=require_foreground) for name in contrasts),
        FileColumn("lesions", examine=require_whole_numbers),
    )


def read_contrast_manifest(path: str | os.PathLike[str], *, contrasts: Sequence[str]) -> pd.DataFrame:
    """Read a manifest of multi-contrast MRI; the images themselves are not opened.

    Parameters
    ----------
    path
        CSV file, UTF-8, separated by commas; paths in it are relative to its folder.
    contrasts
        Names of the columns of contrasts.

    Returns
    -------
    pandas.DataFrame
        The columns of the file as text, and ``row``, ``input_paths`` (tuple of absolute paths),
        ``<contrast>_path`` and ``lesions_path``: empty where there is none.

    Raises
    ------
    InputError
        When the table has a fault; names all of them.
    """
    table, problems = _parse(Path(path), require_contrasts(contrasts))
    if problems:
        refuse(Path(path), problems)
    table["input_paths"] = [tuple(cell.split(SEPARATOR)) for cell in table.pop("input_path")]
    return table


def check_contrast_manifest(
    path: str | os.PathLike[str],
    *,
    contrasts: Sequence[str],
    acquisition: Acquisition | None = None,
    require_splits: Sequence[str] = SPLITS,
    workers: int | None = None,
    progress: bool = False,
) -> list[Problem]:
    """Report all faults of a manifest of multi-contrast MRI and of its files at once.

    Parameters
    ----------
    path, contrasts
        As in :func:`read_contrast_manifest`.
    acquisition
        What the channels of the inputs should be; any when not given, which leaves their number and order
        unchecked.
    require_splits
        Splits that must not be empty.
    workers
        Threads that read files; as many as there are cores when not given.
    progress
        Show a bar.

    Returns
    -------
    list of Problem
        By row; empty when all is well. Faults found: a missing or empty column, ids as in
        :func:`~medrestore.data.manifest.check_manifest`, an unknown or empty split, a subject in two splits,
        a duplicate row (subject, session), a subject without any contrast to learn from, a contrast that no
        training subject has, one file content under two subjects or two contrasts, a path that leaves the
        folder, a missing, unreadable or truncated file, another checksum, an input that is not the
        acquisition's, voxels that are not finite, an image without foreground, a contrast or lesion mask on
        another grid than the input, lesion codes that are no whole numbers, a contrast or group that no
        evaluation can name apart.

    Raises
    ------
    InputError
        When there is no such file or it is no CSV table.
    """
    names = require_contrasts(contrasts)
    table, problems = _parse(Path(path), names)
    problems += empty_split_problems(table, require_splits)
    if MEAN in names:
        message = "an evaluation names the mean over contrasts so: rename the column"
        problems.append(Problem(1, MEAN, message))
    if "input_path" in table:
        problems += group_problems(table)
        if "train" in require_splits:
            problems += _training_problems(table, names)
        problems += file_problems(
            table,
            columns=file_columns(names, acquisition),
            grid="input",
            contents=("input", *names),
            remedy=_REMEDY,
            workers=workers,
            progress=progress,
        )
    return sorted(set(problems))


def with_contrast_checksums(
    table: pd.DataFrame, folder: str | os.PathLike[str], *, contrasts: Sequence[str]
) -> pd.DataFrame:
    """Return the table with the checksums of all its files, read from ``folder``.

    Raises
    ------
    InputError
        When a file is missing.
    """
    return with_checksums(table, folder, columns=file_columns(require_contrasts(contrasts)))


def write_contrast_manifest(
    table: pd.DataFrame, path: str | os.PathLike[str], *, contrasts: Sequence[str]
) -> Path:
    """Write a manifest of multi-contrast MRI, whole or not at all; same table, same bytes.

    Columns that :func:`read_contrast_manifest` derives are left out, unknown ones follow the known.

    Raises
    ------
    InputError
        When a required column is missing, or a path is absolute or leaves the manifest's folder.
    """
    names = require_contrasts(contrasts)
    derived = ("row", "input_path", "input_paths", *(f"{name}_path" for name in (*names, "lesions")))
    return write_table(
        table,
        path,
        known=contrast_columns(names),
        required=(*_REQUIRED, *_both(names)),
        derived=derived,
        files=file_columns(names),
    )


def contrast_columns(contrasts: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of a manifest in the order in which they are written; others follow.

    >>> contrast_columns(["t1w"])[:6]
    ('subject_id', 'session_id', 'split', 'group', 'input', 't1w')
    """
    sums = (f"{name}_sha256" for name in ("input", *contrasts, "lesions"))
    return ("subject_id", "session_id", "split", "group", "input", *contrasts, "lesions", *sums)


def group_problems(table: pd.DataFrame) -> list[Problem]:
    """Report groups that no evaluation can name apart.

    Parameters
    ----------
    table
        Of :func:`read_contrast_manifest`.
    """
    return [
        Problem(
            row,
            "group",
            f"{group!r}: the name of a group that is evaluated apart is made of letters, digits, spaces, "
            "'.', '_' and '-'",
        )
        for row, group in zip(table["row"], table["group"], strict=True)
        if not re.fullmatch(r"[\w .\-]*", group)
    ]


def availability(table: pd.DataFrame, contrasts: Sequence[str]) -> pd.DataFrame:
    """Count the rows of every split, and how many of them have each contrast.

    Parameters
    ----------
    table
        Of :func:`read_contrast_manifest`.
    contrasts
        Columns to count.

    Returns
    -------
    pandas.DataFrame
        A row per split that occurs; columns ``volumes`` and the contrasts, int64.
    """
    names = list(require_contrasts(contrasts))
    held = table[[f"{name}_path" for name in names]] != ""
    held.columns = pd.Index(names)
    held.insert(0, "volumes", True)
    counts = held.groupby(table["split"]).sum().astype("int64")
    return counts.reindex([split for split in SPLITS if split in counts.index])


def _both(names: Sequence[str]) -> list[str]:
    return [column for name in names for column in (name, f"{name}_sha256")]


def _parse(path: Path, contrasts: Sequence[str]) -> tuple[pd.DataFrame, list[Problem]]:
    table, faulty = parse_text_table(path)
    known = [name for name in table if f"{name}_sha256" in table and name not in ("input", "lesions")]
    problems = table_problems(table, required=(*_REQUIRED, *_both(contrasts)), optional=_OPTIONAL)
    if problems and problems[0].row == 1:
        held = f"; the manifest has the contrasts {', '.join(map(str, known))}" if known else ""
        return table, faulty + [
            Problem(1, problem.column, problem.message + held * (problem.column in contrasts))
            for problem in problems
        ]
    if problems:
        return table, faulty + problems
    problems = faulty + [
        Problem(row, name, "is empty")
        for name in _REQUIRED
        for row, value in zip(table["row"], table[name], strict=True)
        if value == ""
    ]
    problems += [
        Problem(row["row"], f"{name}_sha256", "is empty")
        for row in table.to_dict("records")
        for name in (*contrasts, "lesions")
        if row[name] and not row[f"{name}_sha256"]
    ]
    problems += row_problems(table, key=_KEY, contents=("input", *contrasts))
    problems += add_paths(table, path.parent, file_columns(contrasts))
    for row in table.to_dict("records"):
        held_files = {name: str(row[f"{name}_sha256"]).lower() for name in contrasts if row[name]}
        for name, checksum in held_files.items():
            twin = next(other for other, value in held_files.items() if value == checksum)
            if checksum and twin != name:
                message = f"same file content as {twin} of this row"
                problems.append(Problem(row["row"], f"{name}_sha256", message))
        if not held_files and row["split"] in ("train", "validation"):
            message = (
                f"no contrast is there ({', '.join(contrasts)}): nothing to learn from or to compare with"
            )
            problems.append(Problem(row["row"], "", message))
        problems += _channel_problems(row["row"], str(row["input"]), str(row["input_sha256"]))
    return table, sorted(problems)


def _channel_problems(row: int, cell: str, checksums: str) -> list[Problem]:
    files = [name.strip() for name in cell.split(SEPARATOR)]
    sums = checksums.lower().split(SEPARATOR) if checksums else []
    problems = []
    if "" in files and cell:
        problems.append(Problem(row, "input", f"{cell!r} names an empty file between two {SEPARATOR!r}"))
    if sums and len(sums) != len(files):
        problems.append(
            Problem(row, "input_sha256", f"has {len(sums)} checksums for {len(files)} files of the input")
        )
    if len(set(sums)) < len(sums):
        problems.append(Problem(row, "input_sha256", "two channels of the input are the same file content"))
    return problems


def _training_problems(table: pd.DataFrame, contrasts: Sequence[str]) -> list[Problem]:
    training = table[table["split"] == "train"]
    return [
        Problem(0, name, "no subject of split 'train' has this contrast")
        for name in contrasts
        if len(training) and (training[name] == "").all()
    ]


def _read_input(files: Sequence[str], *, acquisition: Acquisition | None) -> Volume:
    """Read an input to check it: its channels, and that their scale can be found."""
    if acquisition is None:
        data, source = read_files([Path(file) for file in files])
        return Volume(data=data[0], affine=source.canonical_affine(), source=source)
    volume = read_channels(files, acquisition)
    input_scale(volume, acquisition)
    return volume.channel(acquisition.reference)
