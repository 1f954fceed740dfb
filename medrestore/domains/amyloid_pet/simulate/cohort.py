"""Simulated amyloid PET cohorts: low and standard dose of the very same counts, with truth and manifest."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from medrestore.checks import require_in_range
from medrestore.data.phantoms import tissues
from medrestore.data.phantoms.anatomy import REGIONS, CohortGrid, load_template
from medrestore.data.phantoms.folder import named_size, simulated_cohort, write_participants
from medrestore.data.phantoms.head import ventricle_distance_mm
from medrestore.domains.amyloid_pet.schema import CUT_OFF_SUVR
from medrestore.domains.amyloid_pet.simulate import amyloid
from medrestore.domains.amyloid_pet.simulate.design import (
    DOSE_SERIES,
    SIZES,
    CohortSize,
    SubjectGroup,
    plan_cohort,
)
from medrestore.domains.amyloid_pet.simulate.mr import SEQUENCES, MrSettings, require_sequences
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
    mr: Sequence[str] = ("t1",),
    workers: int | None = None,
    progress: bool = True,
    settings: ScanSettings | None = None,
    grid: CohortGrid | None = None,
    mr_settings: MrSettings | None = None,
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
    mr : sequence of str
        MR of each subject, names of :data:`~medrestore.domains.amyloid_pet.simulate.mr.SEQUENCES`.
    workers : int or None
        Processes; one per core when None.
    progress : bool
        Show a progress bar with the time left.
    settings : ScanSettings or None
        Scanner and reconstruction.
    grid : CohortGrid or None
        Grid of the PET volumes; None for 128 x 128 x 50 voxels of 2 x 2 x 3 mm.
    mr_settings : MrSettings or None
        MR scanner and session.

    Returns
    -------
    Path
        ``manifest.csv``: rows of degraded and target images of all splits. Beside it ``dose_series.csv`` (the
        test subjects at other doses), ``departures.csv`` (further test subjects whose uptake departs from the
        tissue map that MR shows), ``participants.csv`` (status, true composite SUVR and generating
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
    grid, mr, mr_settings = grid or CohortGrid(), require_sequences(mr), mr_settings or MrSettings()

    def shared() -> tuple[Any, ...]:
        template = load_template()
        return template, ventricle_distance_mm(template), grid, settings, mr_settings

    return simulated_cohort(
        output,
        _description(size, seed, dose_fraction, further, settings, grid) | _mr_description(mr, mr_settings),
        plan_cohort(size, seed=seed, dose_fraction=dose_fraction, training_doses=further),
        grid=grid,
        simulate=partial(simulate_subject, seed=seed, mr=mr),
        shared=shared,
        write_tables=partial(_write_tables, dose_fraction=dose_fraction, joined=bool(further), mr=mr),
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
        **({"training_doses": list(training_doses)} if training_doses else {}),
        "dose_series": list(DOSE_SERIES),
        "size": asdict(size),
        "grid": asdict(grid),
        "scan": asdict(settings),
        "counts_per_suv_mm": {"median": COUNTS_PER_SUV_MM, "log_sd": DOSE_LOG_SD},
        "regions": REGIONS,
        "uptake": {
            "cut_off_suvr": CUT_OFF_SUVR,
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


def _mr_description(mr: Sequence[str], settings: MrSettings) -> dict[str, Any]:
    """Return all that determines the MR of a cohort."""
    if not mr:
        return {"mr": {}}
    sequences = {name: asdict(SEQUENCES[name]) for name in mr}  # type: ignore[call-overload]
    return {"mr": {"sequences": sequences, "session": asdict(settings), "sources": list(tissues.SOURCES)}}


def _write_tables(
    folder: Path,
    subjects: Sequence[tuple[AmyloidPlan, dict[str, Any]]],
    *,
    dose_fraction: float,
    joined: bool,
    mr: Sequence[str],
) -> Path:
    """Write manifest, dose series, departures and participants; return the manifest.

    It has all doses of a subject where they are ``joined``.
    """
    import pandas as pd

    from medrestore.domains.amyloid_pet.schema import COLUMNS, pair_schema

    rows: dict[str, list[dict[str, Any]]] = {
        "manifest.csv": [],
        "dose_series.csv": [],
        "departures.csv": [],
        "participants.csv": [],
    }
    for plan, record in subjects:
        place, digest = f"subjects/{plan.subject_id}", record["sha256"]
        further = {name: f"{place}/{name}.nii.gz" for name in mr}
        further |= {f"{name}_sha256": digest[f"{name}.nii.gz"] for name in mr}
        if plan.departure:
            further |= {
                "group": plan.departure,
                "departure": f"{place}/truth_departure.nii.gz",
                "departure_sha256": digest["truth_departure.nii.gz"],
            }
        for fraction in plan.dose_fractions:
            tables = ["manifest.csv"] if joined or fraction == dose_fraction else []
            tables += ["dose_series.csv"] if plan.split == "test" and fraction != dose_fraction else []
            if plan.departure:
                tables = ["departures.csv"]
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
                        **further,
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
                "departure": plan.departure,
                **{name: record[name] for name in ("white_lesions", "white_lesion_volume_ml") if mr},
            }
        )
    write_participants(rows["participants.csv"], folder)
    # The manifest last: whoever finds it finds everything.
    for name in ("dose_series.csv", "departures.csv", "manifest.csv"):
        of_departures = ("group", "departure", "departure_sha256") if name == "departures.csv" else ()
        of_mr = [column for name in mr for column in (name, f"{name}_sha256")]
        content = pd.DataFrame(rows[name], columns=[*COLUMNS, *of_mr, *of_departures])
        pair_schema().write(content, folder / name)
    return folder / "manifest.csv"
