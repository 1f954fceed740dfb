"""Folders of simulated cohorts: claimed for their settings, filled by subject, continued when interrupted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray

from medrestore import __version__
from medrestore.checks import require_in_set
from medrestore.claims import claimed
from medrestore.data.grid import SourceGrid
from medrestore.data.phantoms.anatomy import CohortGrid
from medrestore.data.volumes import write_channels, write_volume
from medrestore.data.workers import run_tasks, worker_count
from medrestore.files import atomic_path, sha256_file, write_json

__all__ = [
    "COHORT_NAME",
    "RECORD_NAME",
    "SubjectFolder",
    "SubjectPlan",
    "is_finished",
    "named_size",
    "simulated_cohort",
    "write_participants",
]

COHORT_NAME = "cohort.json"
"""File of a cohort's folder that holds all its settings; written first."""

RECORD_NAME = "subject.json"
"""File of a subject's folder that lists all its others; written last, so that a subject with it is whole."""

MNI_SPACE = 4
"""NIfTI's code of coordinates in MNI152 space."""


@dataclass(frozen=True)
class SubjectPlan:
    """What is decided about a subject before it is simulated.

    Attributes
    ----------
    number : int
        1 for the first subject; names the random streams.
    group : str
        Part of the cohort it belongs to.
    split : str
        train, validation or test.
    """

    number: int
    group: str
    split: str

    @property
    def subject_id(self) -> str:
        """Name of the subject and of its folder."""
        return f"sub-{self.number:04d}"


Plan = TypeVar("Plan", bound=SubjectPlan)
Size = TypeVar("Size")


def _read_record(folder: Path) -> dict[str, Any]:
    """Return the record of a finished subject."""
    record: dict[str, Any] = json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))
    return record


def is_finished(folder: Path, plan: SubjectPlan, fingerprint: str) -> bool:
    """Return whether a folder holds this subject, whole, from the same settings."""
    try:
        record = _read_record(folder)
        return bool(
            record["fingerprint"] == fingerprint
            and record["subject_id"] == plan.subject_id
            and all(sha256_file(folder / name) == digest for name, digest in record["sha256"].items())
        )
    except (OSError, ValueError, KeyError):
        return False


def named_size(size: str | Size, sizes: Mapping[str, Size]) -> Size:
    """Return the size of a cohort that is given or named.

    Raises
    ------
    InputError
        When there is none of this name.
    """
    if not isinstance(size, str):
        return size
    require_in_set("size", size, tuple(sizes))
    return sizes[size]


def simulated_cohort(
    output: str | os.PathLike[str],
    description: Mapping[str, Any],
    plans: Sequence[Plan],
    *,
    grid: CohortGrid,
    simulate: Callable[..., Mapping[str, Any]],
    shared: Callable[[], tuple[Any, ...]],
    write_tables: Callable[[Path, Sequence[tuple[Plan, dict[str, Any]]]], Path],
    workers: int | None,
    progress: bool,
) -> Path:
    """Keep a folder for one cohort, simulate the subjects that are not finished in it, and write its tables.

    Parameters
    ----------
    output : path
        New, empty, or of this cohort.
    description : mapping
        All that determines the cohort; what JSON can hold.
    plans : sequence of plans
        All subjects of the cohort.
    grid : CohortGrid
        Grid of the volumes.
    simulate : callable
        Makes one subject: called with its plan, its :class:`SubjectFolder` and what is shared, in other
        processes; returns what its record says beside group and split.
    shared : callable
        Returns what all subjects are made of; called where there is one to be made.
    write_tables : callable
        Writes the tables into the cohort's folder, of the plans and records of its subjects; returns the
        manifest.
    workers : int or None
        Processes; one per core when None.
    progress : bool
        Show a progress bar with the time left.

    Raises
    ------
    InputError
        As :func:`~medrestore.claims.claimed`.

    Notes
    -----
    Linear algebra is kept to one thread: subjects run in parallel, and results do not depend on a thread
    count.
    """
    from medrestore.progress import progress_bar

    count = worker_count(workers)
    claim = claimed(
        output,
        {"simulated": True, "version": __version__, **description},
        record=COHORT_NAME,
        belongs="simulated cohort",
        other="a cohort of other settings",
        has_results=lambda folder: any(folder.glob(f"subjects/*/{RECORD_NAME}")),
        remains=("subjects",),
    )
    with claim as held:
        places = [(plan, held.folder / "subjects" / plan.subject_id) for plan in plans]
        waiting = [(plan, place) for plan, place in places if not is_finished(place, plan, held.fingerprint)]
        if waiting:
            common = shared()
            tasks = [(simulate, plan, place, grid, held.fingerprint, common) for plan, place in waiting]
            finished = run_tasks(_simulate, tasks, workers=count)
            done = len(plans) - len(tasks)
            with progress_bar(
                total=len(plans), initial=done, desc="simulate", unit="subject", disable=not progress
            ) as bar:
                for subject_id in finished:
                    bar.set_postfix_str(subject_id, refresh=False)
                    bar.update()
        return write_tables(held.folder, [(plan, _read_record(place)) for plan, place in places])


def _simulate(
    simulate: Callable[..., Mapping[str, Any]],
    plan: SubjectPlan,
    folder: Path,
    grid: CohortGrid,
    fingerprint: str,
    shared: tuple[Any, ...],
) -> str:
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    files = SubjectFolder(folder, plan.subject_id, grid)
    with threadpool_limits(limits=1):
        record = simulate(plan, files, *shared)
    files.finish({"group": plan.group, "split": plan.split, **record}, fingerprint=fingerprint)
    return plan.subject_id


def write_participants(rows: Sequence[Mapping[str, Any]], folder: Path) -> Path:
    """Write ``participants.csv``: one row per subject, numbers with nine digits."""
    import pandas as pd

    path = folder / "participants.csv"
    with atomic_path(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False, lineterminator="\n", float_format="%.9g")
    return path


class SubjectFolder:
    """A subject's folder while it is filled: volumes with their sidecars, then the record of them all.

    What an interrupted run left is written again.

    Parameters
    ----------
    folder : Path
        The subject's folder.
    subject_id : str
        The subject, as sidecars and record name it.
    grid : CohortGrid
        Of the cohort's volumes.
    """

    def __init__(self, folder: Path, subject_id: str, grid: CohortGrid) -> None:
        self.folder = folder
        self.subject_id = subject_id
        self.grid = grid
        self.digests: dict[str, str] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for left in (folder / RECORD_NAME, *folder.glob(".partial-*")):
            left.unlink(missing_ok=True)

    def write(
        self,
        name: str,
        data: NDArray[Any],
        description: str,
        *,
        dtype: str = "float32",
        facts: Mapping[str, Any] | None = None,
        grid: CohortGrid | None = None,
    ) -> None:
        """Write a volume, or channels of it first in ``data``, and its sidecar.

        Parameters
        ----------
        name : str
            File name, ``.nii.gz``.
        data : (X, Y, Z) or (C, X, Y, Z)
            Voxels in canonical axes.
        description : str
            What they are.
        dtype : str
            Voxel type in the file.
        facts : mapping or None
            What else the sidecar says.
        grid : CohortGrid or None
            Grid of the volume; the cohort's when not given.
        """
        grid = grid or self.grid
        source = SourceGrid.from_affine(grid.shape, grid.affine, code=MNI_SPACE)
        write = write_channels if data.ndim == 4 else write_volume
        write(data, source, self.folder / name, dtype=dtype)
        sidecar = name.removesuffix(".nii.gz") + ".json"
        write_json(
            self.folder / sidecar,
            {
                "simulated": True,
                "subject_id": self.subject_id,
                "description": description,
                **(facts or {}),
            },
        )
        for file in (name, sidecar):
            self.digests[file] = sha256_file(self.folder / file)

    def finish(self, record: Mapping[str, Any], *, fingerprint: str) -> None:
        """Write the record: what was decided and drawn, and the checksums of all files."""
        write_json(
            self.folder / RECORD_NAME,
            {
                "simulated": True,
                "version": __version__,
                "fingerprint": fingerprint,
                "subject_id": self.subject_id,
                **record,
                "sha256": self.digests,
            },
        )
