"""The manifest of multi-contrast MRI: a CSV row for each input and the contrasts acquired with it.

The input is one 4D file or several 3D files joined by ``;``; an empty cell says that a contrast is missing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from medrestore.checks import InputError
from medrestore.data.columns import Column, FileColumn
from medrestore.data.file_checks import require_foreground, require_whole_numbers
from medrestore.data.row_checks import SPLITS, row_problems
from medrestore.data.schema import Schema
from medrestore.data.tables import Problem
from medrestore.data.volumes import Volume
from medrestore.domains.multicontrast_mri.acquisition.acquisition import Acquisition
from medrestore.domains.multicontrast_mri.acquisition.channel_files import read_files
from medrestore.domains.multicontrast_mri.acquisition.channel_volume import input_scale, read_channels
from medrestore.evaluation.titles import MEAN
from medrestore.operators.mr_sequences import CONTRASTS

__all__ = [
    "SEPARATOR",
    "availability",
    "contrast_columns",
    "contrast_schema",
    "group_problems",
    "require_contrasts",
    "schema_of_table",
]

SEPARATOR = ";"
"""Between the files of an input, one for each channel."""

_KEY = {"subject_id": "subject", "session_id": "session"}
_SCAN = ("subject_id", "session_id", "split")
_OWN = (*_SCAN, "group", "input", "input_sha256", "lesions", "lesions_sha256", "row", "volumes")
"""What no contrast can be called."""


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
        if name in _OWN or name.endswith(("_sha256", "_path", "_paths")):
            raise InputError(f"contrasts: {name!r} is a column of another meaning")
        if names.count(name) > 1:
            raise InputError(f"contrasts must be different, got {name!r} twice")
    return names


def contrast_schema(contrasts: Sequence[str], acquisition: Acquisition | None = None) -> Schema:
    """Return the schema of a manifest of multi-contrast MRI.

    A row is found faulty for a duplicate of subject and session, a subject without any contrast to learn
    from, one file content as two contrasts or channels, an input that is not the acquisition's, an image
    without foreground, a contrast or lesion mask on another grid than the input, lesion codes that are no
    whole numbers; a table also for a contrast that no training subject has, and a contrast or group that no
    evaluation can name apart.

    Parameters
    ----------
    contrasts
        Names of the columns of contrasts.
    acquisition
        What the channels of the inputs should be; any when not given, which leaves their number and order
        unchecked.

    Raises
    ------
    InputError
        When a contrast cannot be the name of a column.

    Examples
    --------
    >>> contrast_schema(["t1w"]).order[:6]
    ('subject_id', 'session_id', 'split', 'group', 'input', 't1w')
    """
    names = require_contrasts(contrasts)
    files = ("input", *names, "lesions")
    return Schema(
        columns=(
            *map(Column, _SCAN),
            FileColumn("input", read=partial(_read_input, acquisition=acquisition), separator=SEPARATOR),
            Column("input_sha256"),
            *(
                column
                for name in names
                for column in (
                    FileColumn(name, filled=False, examine=require_foreground),
                    Column(f"{name}_sha256", filled=False),
                )
            ),
            Column("group", required=False),
            FileColumn("lesions", required=False, examine=require_whole_numbers),
            Column("lesions_sha256", required=False),
        ),
        order=(*_SCAN, "group", *files, *(f"{name}_sha256" for name in files)),
        checks=(
            partial(row_problems, key=_KEY, contents=("input", *names)),
            partial(_contrast_problems, contrasts=names),
            _channel_problems,
        ),
        whole_checks=(partial(_use_problems, contrasts=names),),
        grid="input",
        contents=("input", *names),
        remedy="medrestore mri coregister",
        hint=partial(_held_contrasts, contrasts=names),
    )


def contrast_columns(table: pd.DataFrame) -> list[str]:
    """Return the contrasts of a manifest: its columns of files beside input and lesions."""
    return [str(name) for name in table if f"{name}_sha256" in table and name not in ("input", "lesions")]


def schema_of_table(table: pd.DataFrame) -> Schema:
    """Return the schema of a manifest by the contrasts that it has, or of the paper's where it has none."""
    named = contrast_columns(table) if "input" in table else []  # other kinds of image have other files
    return contrast_schema(named or tuple(CONTRASTS))


def group_problems(table: pd.DataFrame) -> list[Problem]:
    """Report groups that no evaluation can name apart.

    Parameters
    ----------
    table
        Of a manifest.
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
        Of a manifest, as :meth:`~medrestore.data.schema.Schema.read` returns it.
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


def _held_contrasts(table: pd.DataFrame, name: str, *, contrasts: Sequence[str]) -> str:
    """Say which contrasts a manifest has that lacks one."""
    known = contrast_columns(table)
    return f"; the manifest has the contrasts {', '.join(known)}" if known and name in contrasts else ""


def _contrast_problems(table: pd.DataFrame, *, contrasts: Sequence[str]) -> list[Problem]:
    """Report one file content as two contrasts, and rows to learn from that have no contrast."""
    problems = []
    for row in table.to_dict("records"):
        held = {name: str(row[f"{name}_sha256"]).lower() for name in contrasts if row[name]}
        for name, checksum in held.items():
            twin = next(other for other, value in held.items() if value == checksum)
            if checksum and twin != name:
                message = f"same file content as {twin} of this row"
                problems.append(Problem(row["row"], f"{name}_sha256", message))
        if not held and row["split"] in ("train", "validation"):
            message = (
                f"no contrast is there ({', '.join(contrasts)}): nothing to learn from or to compare with"
            )
            problems.append(Problem(row["row"], "", message))
    return problems


def _channel_problems(table: pd.DataFrame) -> list[Problem]:
    """Report lists of an input's files that have gaps, twins or another number of checksums."""
    problems = []
    for row, cell, checksums in table[["row", "input", "input_sha256"]].itertuples(index=False):
        files = [name.strip() for name in cell.split(SEPARATOR)]
        sums = checksums.lower().split(SEPARATOR) if checksums else []
        if "" in files and cell:
            problems.append(Problem(row, "input", f"{cell!r} names an empty file between two {SEPARATOR!r}"))
        if sums and len(sums) != len(files):
            message = f"has {len(sums)} checksums for {len(files)} files of the input"
            problems.append(Problem(row, "input_sha256", message))
        if len(set(sums)) < len(sums):
            message = "two channels of the input are the same file content"
            problems.append(Problem(row, "input_sha256", message))
    return problems


def _use_problems(table: pd.DataFrame, splits: Sequence[str], *, contrasts: Sequence[str]) -> list[Problem]:
    """Report contrasts that cannot be learned, and those and groups that no evaluation can name apart."""
    problems = []
    if MEAN in contrasts:
        message = "an evaluation names the mean over contrasts so: rename the column"
        problems.append(Problem(1, MEAN, message))
    if "input_path" not in table:
        return problems
    training = table[table["split"] == "train"]
    problems += [
        Problem(0, name, "no subject of split 'train' has this contrast")
        for name in contrasts
        if "train" in splits and len(training) and (training[name] == "").all()
    ]
    return problems + group_problems(table)


def _read_input(files: Sequence[str], *, acquisition: Acquisition | None) -> Volume:
    """Read an input to check it: its channels, and that their scale can be found."""
    if acquisition is None:
        data, source = read_files([Path(file) for file in files])
        return Volume(data=data[0], affine=source.canonical_affine(), source=source)
    volume = read_channels(files, acquisition)
    input_scale(volume, acquisition)
    return volume.channel(acquisition.reference)
