"""Simulated amyloid PET cohorts: low and standard dose of the very same counts, with truth and manifest."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from medrestore.checks import require_in_range
from medrestore.data.phantoms.anatomy import REGIONS, CohortGrid, load_template
from medrestore.data.phantoms.folder import named_size, simulated_cohort, write_participants
from medrestore.domains.amyloid_pet.simulate import amyloid
from medrestore.domains.amyloid_pet.simulate.design import (
    DOSE_SERIES,
    SIZES,
    CohortSize,
    SubjectGroup,
    plan_cohort,
)
from medrestore.domains.amyloid_pet.simulate.subject import (
    COUNTS_PER_SUV_MM,
    DOSE_LOG_SD,
    AmyloidPlan,
    degraded_name,
    simulate_subject,
)
from medrestore.operators.pet_scan import ScanSettings

__all__ = ["DOSE_SERIES", "SIZES", "CohortSize", "SubjectGroup", "plan_cohort", "simulate_cohort"]


def simulate_cohort(
    output: str | os.PathLike[str],
    *,
    size: str | CohortSize = "demo",
    seed: int = 0,
    dose_fraction: float = 0.01,
    training_doses: Sequence[float] = (),
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
    training_doses : sequence of float
        Further ones of training subjects, thinned from the same counts, for one network at several doses; see
        :func:`plan_cohort`. With some, the manifest has a row for each dose of a subject.
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
    size = named_size(size, SIZES)
    further = tuple(dict.fromkeys(float(dose) for dose in training_doses if dose != dose_fraction))
    for name, doses in (("dose_fraction", (dose_fraction,)), ("training_doses", further)):
        for dose in doses:
            require_in_range(name, dose, 0.0, 1.0, include_low=False, include_high=False)
    settings = settings or ScanSettings()
    grid = grid or CohortGrid()
    return simulated_cohort(
        output,
        _description(size, seed, dose_fraction, further, settings, grid),
        plan_cohort(size, seed=seed, dose_fraction=dose_fraction, training_doses=further),
        grid=grid,
        simulate=partial(simulate_subject, seed=seed),
        shared=lambda: (load_template(), grid, settings),
        write_tables=partial(_write_tables, dose_fraction=dose_fraction, joined=bool(further)),
        workers=workers,
        progress=progress,
    )


def _description(
    size: CohortSize,
    seed: int,
    dose_fraction: float,
    training_doses: Sequence[float],
    settings: ScanSettings,
    grid: CohortGrid,
) -> dict[str, Any]:
    """Return all that determines a cohort."""
    return {
        "seed": seed,
        "dose_fraction": dose_fraction,
        # A cohort of one training dose is claimed as ever: one that was begun before is continued.
        **({"training_doses": list(training_doses)} if training_doses else {}),
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


def _write_tables(
    folder: Path,
    subjects: Sequence[tuple[AmyloidPlan, dict[str, Any]]],
    *,
    dose_fraction: float,
    joined: bool,
) -> Path:
    """Write manifest, dose series and participants; return the manifest, ``joined`` if it has all doses."""
    import pandas as pd

    from medrestore.domains.amyloid_pet.schema import COLUMNS, pair_schema

    rows: dict[str, list[dict[str, Any]]] = {
        "manifest.csv": [],
        "dose_series.csv": [],
        "participants.csv": [],
    }
    for plan, record in subjects:
        place, digest = f"subjects/{plan.subject_id}", record["sha256"]
        for fraction in plan.dose_fractions:
            tables = ["manifest.csv"] if joined or fraction == dose_fraction else []
            tables += ["dose_series.csv"] if plan.split == "test" and fraction != dose_fraction else []
            for table in tables:
                rows[table].append(
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
    write_participants(rows["participants.csv"], folder)
    # The manifest last: whoever finds it finds everything.
    for name in ("dose_series.csv", "manifest.csv"):
        pair_schema().write(pd.DataFrame(rows[name], columns=list(COLUMNS)), folder / name)
    return folder / "manifest.csv"
