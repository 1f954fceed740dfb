"""Co-registration of a cohort: every contrast on its subject's input grid, resampled once.

Patients move between scans. A contrast that is off by a voxel teaches a network to blur, so each is brought
to the input rigidly before training, and a subject for whom that fails is left out by name.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrestore import __version__
from medrestore.checks import InputError, Setbacks, fail, require_in_range
from medrestore.claims import claimed
from medrestore.data.coregistered import FIGURES, write_rows
from medrestore.data.registration import MOST_MM
from medrestore.data.tables import Problem, refuse
from medrestore.data.volumes import nifti_stem
from medrestore.data.workers import named_results, worker_count
from medrestore.domains.multicontrast_mri.acquisition.acquisition import Acquisition
from medrestore.domains.multicontrast_mri.registration.subject_registration import (
    RegistrationRun,
    SubjectFiles,
    coregister_subject,
    has_registered,
    read_finished,
)
from medrestore.domains.multicontrast_mri.schema import SEPARATOR, contrast_schema, require_contrasts
from medrestore.files import is_file

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["coregister_manifest"]

SETTINGS_NAME = "coregistration.json"

_logger = logging.getLogger(__name__)


def coregister_manifest(
    manifest: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    contrasts: Sequence[str],
    acquisition: Acquisition,
    most_mm: float = MOST_MM,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Bring each contrast of a cohort to its subject's input.

    Parameters
    ----------
    manifest : path
        Manifest of multi-contrast MRI; contrasts on any grid, in the same scanner coordinates as the input.
    output : path
        A new or empty folder, or one that an interrupted run with the same settings left: subjects that are
        finished, and whose files are the same as then, are kept.
    contrasts : sequence of str
        Columns of the manifest.
    acquisition : Acquisition
        What the channels of the inputs are.
    most_mm : float, mm
        Displacement of the head above which a registration counts as failed.
    workers : int or None
        Processes; one per core when None.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Path
        ``manifest.csv``, of the subjects all of whose contrasts were registered. Beside it
        ``registration.csv`` (a row per subject and contrast), ``left_out.csv`` (subject, contrast and reason
        of those that failed; they are logged as warnings too) and ``subjects/``, with a picture each.

    Raises
    ------
    InputError
        When the manifest has a fault or a file is missing, the folder holds other things or a run of other
        settings, or no subject is left. When files cannot be used (damaged, changed, without orientation):
        all are named after the manifest of the other subjects is written.

    Notes
    -----
    Registered to the magnitude of the acquisition's reference channel, of MDME the longest delay and first
    echo: the most signal, no tissue nulled. In simulated subjects each contrast is found to 0.1 - 0.3 mm from
    it, on average over the head, with slices of 5 mm.

    Input, sidecars and lesion mask are not changed: the new folder holds hard links to them, copies where the
    file system has none. Their names are made anew, their content is as it was.
    """
    manifest, names = Path(manifest), require_contrasts(contrasts)
    require_in_range("most_mm", most_mm, 0, 1000, include_low=False)
    count = worker_count(workers)
    table = contrast_schema(names).read(manifest)
    subjects = _subjects(table, names, manifest)
    with claimed(
        output,
        {
            "version": __version__,
            "contrasts": names,
            "acquisition": acquisition.as_plain(),
            "most_mm": most_mm,
        },
        record=SETTINGS_NAME,
        belongs="co-registration",
        other="a co-registration of other settings",
        has_results=has_registered,
        remains=("subjects", "registration.csv", "left_out.csv"),
    ) as claim:
        run = RegistrationRun(
            claim.folder, manifest.parent.resolve(), acquisition, most_mm, claim.fingerprint
        )
        records = _records(run, subjects, workers=count, progress=progress)
        setbacks = Setbacks("used", unit="subject")
        written = _write_tables(run, table, subjects, records, names, setbacks)
    setbacks.raise_any(len(subjects))
    return written


def _subjects(table: pd.DataFrame, names: Sequence[str], manifest: Path) -> list[SubjectFiles]:
    """Return the rows as subjects; refuse missing files."""
    subjects, problems = [], list[Problem]()
    for row in table.to_dict("records"):
        files = {"input": row["input_paths"]}
        files |= {name: (row[f"{name}_path"],) for name in (*names, "lesions") if row[f"{name}_path"]}
        stated = {name: tuple(filter(None, row[f"{name}_sha256"].lower().split(SEPARATOR))) for name in files}
        subject = SubjectFiles(row["subject_id"], row["session_id"], files, stated)
        subjects.append(subject)
        for column, paths in files.items():
            problems += [
                Problem(row["row"], column, problem) for path in paths if (problem := _unusable(Path(path)))
            ]
    if problems:
        refuse(manifest, sorted(problems))
    return subjects


def _unusable(path: Path) -> str:
    """Say why a file cannot be an image, without opening it; empty where it can."""
    try:
        nifti_stem(path)
    except InputError:
        return f"{path.name} has no NIfTI name; name it .nii.gz or .nii"
    return "" if is_file(path) else f"{path.name}: no such file"


def _records(
    run: RegistrationRun, subjects: Sequence[SubjectFiles], *, workers: int, progress: bool
) -> dict[str, dict[str, Any]]:
    """Co-register the subjects that are not finished; return the records of all by name."""
    records = {
        subject.name: record for subject in subjects if (record := read_finished(run, subject)) is not None
    }
    waiting = [(run, subject) for subject in subjects if subject.name not in records]
    return named_results(
        coregister_subject,
        waiting,
        workers=workers,
        progress=progress,
        description="coregister",
        unit="subject",
        finished=records,
    )


def _write_tables(
    run: RegistrationRun,
    table: pd.DataFrame,
    subjects: Sequence[SubjectFiles],
    records: Mapping[str, Mapping[str, Any]],
    names: Sequence[str],
    setbacks: Setbacks,
) -> Path:
    """Write the registrations, what is left out, and the manifest of what is not; note files of no use."""
    quality, left_out, kept = [], [], list[dict[Any, Any]]()
    rows = table.astype(object).to_dict("records")
    for row, subject in zip(rows, subjects, strict=True):
        record = records[subject.name]
        key = {"subject_id": subject.subject_id, "session_id": subject.session_id}
        for name, found in record["registrations"].items():
            failed = name in record["failures"]
            status = "failed" if failed else "identity kept" if found["identity_kept"] else "registered"
            quality.append({**key, "contrast": name, "status": status, **{f: found[f] for f in FIGURES}})
        for name, reason in record["failures"].items():
            left_out.append({**key, "contrast": name, "reason": reason})
            if name not in record["unusable"]:
                _logger.warning("%s is left out: %s: %s", subject.name, name, reason)
        if record["unusable"]:
            reasons = [f"{name}: {record['failures'][name]}" for name in record["unusable"]]
            setbacks.note(subject.name, "; ".join(reasons))
        if not record["failures"]:
            kept.append({**row, **_cells(subject, record, names)})
    columns = ("subject_id", "session_id", "contrast")
    write_rows(quality, (*columns, "status", *FIGURES), run.folder / "registration.csv")
    write_rows(left_out, (*columns, "reason"), run.folder / "left_out.csv")
    path = run.folder / "manifest.csv"
    if not kept:
        path.unlink(missing_ok=True)
        if len(setbacks.reasons) == len(subjects):
            setbacks.raise_any(len(subjects))
        first = left_out[0]
        fail(
            f"no subject is left: the registration of all {len(subjects)} failed "
            f"({first['subject_id']}, {first['contrast']}: {first['reason']})",
            path=run.folder / "left_out.csv",
            remedy="look at the pictures: is it the same head, in the same coordinates?",
        )
    import pandas as pd

    return contrast_schema(names).write(pd.DataFrame(kept), path)


def _cells(subject: SubjectFiles, record: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    """Return a row's cells of files and checksums."""
    cells: dict[str, str] = {}
    for column in ("input", *names, "lesions"):
        held = record["files"].get(column, ())
        cells[column] = SEPARATOR.join(f"subjects/{subject.name}/{name}" for name in held)
        cells[f"{column}_sha256"] = SEPARATOR.join(record["sha256"][name] for name in held)
    return cells
