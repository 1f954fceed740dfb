"""Simulated amyloid PET cohorts: low and standard dose of the very same counts, with truth and manifest."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medrestore import __version__, rng
from medrestore.checks import fail, require_in_range, require_in_set
from medrestore.data.phantoms import amyloid
from medrestore.data.phantoms.anatomy import REGIONS, CohortGrid, Template, load_template
from medrestore.data.phantoms.subject import (
    COUNTS_PER_SUV_MM,
    DOSE_LOG_SD,
    SubjectPlan,
    degraded_name,
    is_finished,
    read_record,
    simulate_subject,
    write_json,
)
from medrestore.files import atomic_path, require_empty_folder
from medrestore.operators.pet_scan import ScanSettings

__all__ = ["DOSE_SERIES", "SIZES", "CohortSize", "SubjectGroup", "plan_cohort", "simulate_cohort"]

DOSE_SERIES: tuple[float, ...] = (0.02, 0.05, 0.1, 0.25, 0.5)
"""Dose fractions at which test subjects are reconstructed too, to say which dose a restoration is worth."""

COHORT_NAME = "cohort.json"


@dataclass(frozen=True)
class SubjectGroup:
    """Some subjects of a cohort.

    Attributes
    ----------
    name : str
        What they are there for.
    split : str
        train, validation or test.
    negatives, positives : int
        Number of subjects by amyloid status.
    """

    name: str
    split: str
    negatives: int
    positives: int


@dataclass(frozen=True)
class CohortSize:
    """How many subjects a cohort has.

    Attributes
    ----------
    name : str
        Name of the size.
    groups : tuple of SubjectGroup
        Its parts.
    border_share : float
        Share of border cases in each class of each group, rounded up.
    """

    name: str
    groups: tuple[SubjectGroup, ...]
    border_share: float = 0.25

    def __post_init__(self) -> None:
        require_in_range("border_share", self.border_share, 0.0, 1.0)
        for group in self.groups:
            require_in_set("split", group.split, ("train", "validation", "test"))
            if min(group.negatives, group.positives) < 0:
                fail(f"group {group.name} must not have a negative number of subjects")
        if not sum(group.negatives + group.positives for group in self.groups):
            fail("a cohort must have at least one subject")


SIZES: dict[str, CohortSize] = {
    "demo": CohortSize(
        "demo",
        (
            SubjectGroup("demo", "train", negatives=24, positives=24),
            SubjectGroup("demo", "validation", negatives=4, positives=4),
            SubjectGroup("demo", "test", negatives=12, positives=12),
        ),
    ),
    "large": CohortSize(
        "large",
        (
            SubjectGroup("large", "train", negatives=30, positives=30),
            SubjectGroup("large", "validation", negatives=12, positives=12),
            SubjectGroup("large", "test", negatives=40, positives=40),
        ),
    ),
    "reference": CohortSize(
        "reference",
        (
            SubjectGroup("paper", "train", negatives=19, positives=5),
            SubjectGroup("paper", "validation", negatives=4, positives=2),
            SubjectGroup("paper", "test", negatives=7, positives=3),
            SubjectGroup("further", "test", negatives=30, positives=30),
        ),
    ),
}
"""``large``: enough subjects to choose weights on and to compare methods by. ``reference``: the paper's 40 subjects (10 positive; 10 for test), and 60 more for test, half positive."""


def plan_cohort(size: CohortSize, *, seed: int, dose_fraction: float) -> list[SubjectPlan]:
    """Decide status, split and doses of every subject; the order of subjects is random.

    Parameters
    ----------
    size : CohortSize
        How many subjects of which kind.
    seed : int
        The cohort's seed.
    dose_fraction : float
        Dose of the degraded images.

    Returns
    -------
    list of SubjectPlan

    Examples
    --------
    >>> plan = plan_cohort(SIZES["reference"], seed=0, dose_fraction=0.01)
    >>> len(plan), sum(subject.amyloid_status for subject in plan if subject.group == "paper")
    (100, 10)
    """
    kinds = [
        (group, status, index < _rounded_up(size.border_share * count))
        for group in size.groups
        for status, count in ((0, group.negatives), (1, group.positives))
        for index in range(count)
    ]
    order = rng.generator(seed, "order").permutation(len(kinds))
    plans = []
    for number, kind in enumerate(order, start=1):
        group, status, border = kinds[kind]
        series = (fraction for fraction in DOSE_SERIES if fraction != dose_fraction)
        doses = (dose_fraction, *series) if group.split == "test" else (dose_fraction,)
        plans.append(SubjectPlan(number, group.name, group.split, status, border, doses))
    return plans


def _rounded_up(value: float) -> int:
    return int(-(-round(value, 9) // 1))


def simulate_cohort(
    output: str | os.PathLike[str],
    *,
    size: str | CohortSize = "demo",
    seed: int = 0,
    dose_fraction: float = 0.01,
    workers: int | None = None,
    progress: bool = True,
    settings: ScanSettings | None = None,
    grid: CohortGrid | None = None,
) -> Path:
    """Simulate a cohort of amyloid PET subjects into a folder.

    Parameters
    ----------
    output : path
        A new or empty folder, or one that an interrupted run with the same settings left: finished subjects
        are kept.
    size : str or CohortSize
        A name of :data:`SIZES`, or other numbers of subjects.
    seed : int
        Names every random stream: the same seed gives the same bytes, however many workers there are.
    dose_fraction : float
        Part of the standard-dose counts that the degraded images keep, in (0, 1).
    workers : int or None
        Processes; one per core when None.
    progress : bool
        Show a progress bar with the time left.
    settings : ScanSettings or None
        Scanner and reconstruction.
    grid : CohortGrid or None
        Grid of the volumes; None for 128 x 128 x 50 voxels of 2 x 2 x 3 mm.

    Returns
    -------
    Path
        ``manifest.csv``: rows of degraded and target images of all splits. Beside it ``dose_series.csv`` (the
        test subjects at other doses), ``participants.csv`` (status, true composite SUVR and generating
        parameters), ``cohort.json`` (all settings) and ``subjects/``.

    Raises
    ------
    InputError
        When the folder holds other things or a cohort of other settings, or a parameter is out of its range.
    """
    if isinstance(size, str):
        require_in_set("size", size, tuple(SIZES))
        size = SIZES[size]
    require_in_range("dose_fraction", dose_fraction, 0.0, 1.0, include_low=False, include_high=False)
    if workers is not None:
        require_in_range("workers", workers, 1, 1024)
    settings = settings or ScanSettings()
    grid = grid or CohortGrid()
    folder = require_empty_folder(output, belongs="simulated cohort", marker=COHORT_NAME)
    fingerprint = _claim(folder, _description(size, seed, dose_fraction, settings, grid))
    plans = plan_cohort(size, seed=seed, dose_fraction=dose_fraction)
    waiting = [plan for plan in plans if not is_finished(_subject_folder(folder, plan), plan, fingerprint)]
    if waiting:
        tasks = [
            (plan, _subject_folder(folder, plan), load_template(), grid, settings, seed, fingerprint)
            for plan in waiting
        ]
        _show_progress(
            _run(tasks, workers or _cores()), total=len(plans), done=len(plans) - len(waiting), show=progress
        )
    return _write_tables(folder, plans, dose_fraction)


def _subject_folder(folder: Path, plan: SubjectPlan) -> Path:
    return folder / "subjects" / plan.subject_id


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _description(
    size: CohortSize, seed: int, dose_fraction: float, settings: ScanSettings, grid: CohortGrid
) -> dict[str, Any]:
    """Return all that determines a cohort, in plain types."""
    description = {
        "simulated": True,
        "version": __version__,
        "seed": seed,
        "dose_fraction": dose_fraction,
        "dose_series": list(DOSE_SERIES),
        "size": asdict(size),
        "grid": asdict(grid),
        "scan": asdict(settings),
        "counts_per_suv_mm": {"median": COUNTS_PER_SUV_MM, "log_sd": DOSE_LOG_SD},
        "regions": REGIONS,
        "uptake": {
            "cut_off_suvr": amyloid.CUT_OFF_SUVR,
            "control_suvr": amyloid.CONTROL_SUVR,
            "disease_suvr": amyloid.DISEASE_SUVR,
            "border_width_suvr": amyloid.BORDER_WIDTH_SUVR,
            "control_ratio": amyloid.CONTROL_RATIO,
            "load_ratio": amyloid.LOAD_RATIO,
            "white_matter_ratio": amyloid.WHITE_MATTER_RATIO,
            "cerebellum_suv": amyloid.CEREBELLUM_SUV,
        },
        "sources": list(amyloid.SOURCES),
    }
    plain: dict[str, Any] = json.loads(json.dumps(description))
    return plain


def _claim(folder: Path, description: dict[str, Any]) -> str:
    """Write the cohort's settings, or require that those there are the same; return their fingerprint."""
    path = folder / COHORT_NAME
    if path.exists():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            fail("is not readable JSON", path=path, remedy="name a new folder")
        if not isinstance(found, dict) or found != description:
            differing = sorted(
                key
                for key in description
                if not isinstance(found, dict) or found.get(key) != description[key]
            )
            fail(
                f"holds a cohort of other settings ({', '.join(differing) or 'unknown keys'} differ)",
                path=folder,
                remedy="name a new folder, or give the settings in cohort.json",
            )
    else:
        write_json(path, description)
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def _task(
    plan: SubjectPlan,
    folder: Path,
    template: Template,
    grid: CohortGrid,
    settings: ScanSettings,
    seed: int,
    fingerprint: str,
) -> str:
    simulate_subject(plan, folder, template, grid, settings, seed=seed, fingerprint=fingerprint)
    return plan.subject_id


def _run(tasks: Sequence[tuple[Any, ...]], workers: int) -> Iterator[str]:
    """Simulate the subjects, in this process or in several, and yield each name as it is finished."""
    if min(workers, len(tasks)) == 1:
        for task in tasks:
            yield _task(*task)
        return
    # Not forked: a fork of a process in which torch or BLAS run threads can hang. loky starts clean ones, and
    # needs no __main__ guard in the caller's script.
    from joblib import Parallel, delayed, parallel_config  # type: ignore[import-untyped]

    with parallel_config(backend="loky", inner_max_num_threads=1):
        yield from Parallel(
            n_jobs=min(workers, len(tasks)), return_as="generator_unordered", pre_dispatch="all"
        )(delayed(_task)(*task) for task in tasks)


def _show_progress(finished: Iterator[str], *, total: int, done: int, show: bool) -> None:
    from tqdm import tqdm

    with tqdm(total=total, initial=done, desc="simulate", unit="subject", disable=not show) as bar:
        for subject_id in finished:
            bar.set_postfix_str(subject_id, refresh=False)
            bar.update()


def _write_tables(folder: Path, plans: Sequence[SubjectPlan], dose_fraction: float) -> Path:
    """Write manifest, dose series and participants, from the subjects' records; return the manifest."""
    import pandas as pd

    from medrestore.data.manifest import COLUMNS, write_manifest

    rows: dict[str, list[dict[str, Any]]] = {
        "manifest.csv": [],
        "dose_series.csv": [],
        "participants.csv": [],
    }
    for plan in plans:
        record = read_record(_subject_folder(folder, plan))
        place, digest = f"subjects/{plan.subject_id}", record["sha256"]
        for fraction in plan.dose_fractions:
            rows["manifest.csv" if fraction == dose_fraction else "dose_series.csv"].append(
                {
                    "subject_id": plan.subject_id,
                    "session_id": "ses-01",
                    "split": plan.split,
                    "degraded": f"{place}/{degraded_name(fraction)}",
                    "target": f"{place}/target.nii.gz",
                    "regions": f"{place}/truth_regions.nii.gz",
                    "amyloid_status": plan.amyloid_status,
                    "dose_fraction": fraction,
                    "tracer": "florbetaben",
                    "units": "SUV",
                    "degraded_sha256": digest[degraded_name(fraction)],
                    "target_sha256": digest["target.nii.gz"],
                    "regions_sha256": digest["truth_regions.nii.gz"],
                }
            )
        rows["participants.csv"].append(
            {
                "subject_id": plan.subject_id,
                "amyloid_status": plan.amyloid_status,
                "truth_suvr": record["truth_suvr"],
                "split": plan.split,
                "group": plan.group,
                "recorded_counts": record["recorded_counts"],
                **record["parameters"],
            }
        )
    with atomic_path(folder / "participants.csv") as temporary:
        pd.DataFrame(rows["participants.csv"]).to_csv(
            temporary, index=False, lineterminator="\n", float_format="%.9g"
        )
    # The manifest last: whoever finds it finds everything.
    for name in ("dose_series.csv", "manifest.csv"):
        write_manifest(pd.DataFrame(rows[name], columns=list(COLUMNS)), folder / name)
    return folder / "manifest.csv"
