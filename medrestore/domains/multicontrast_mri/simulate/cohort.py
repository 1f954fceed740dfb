"""Simulated multi-contrast MRI cohorts: an MDME acquisition and six contrasts a subject, with their truth."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from medrestore.data.phantoms import tissues
from medrestore.data.phantoms.anatomy import load_template
from medrestore.data.phantoms.folder import named_size, simulated_cohort, write_participants
from medrestore.data.phantoms.head import ventricle_distance_mm
from medrestore.domains.multicontrast_mri.simulate.design import (
    SIZES,
    MriCohortSize,
    MriSubjectPlan,
    plan_mdme_cohort,
)
from medrestore.domains.multicontrast_mri.simulate.lesions import LESION_KINDS
from medrestore.domains.multicontrast_mri.simulate.session import MriSettings
from medrestore.domains.multicontrast_mri.simulate.subject import LESION_FRACTION, simulate_mdme_subject
from medrestore.operators.mr_sequences import CONTRASTS

__all__ = ["SIZES", "MriCohortSize", "simulate_mdme_cohort"]


def simulate_mdme_cohort(
    output: str | os.PathLike[str],
    *,
    size: str | MriCohortSize = "demo",
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
    settings: MriSettings | None = None,
) -> Path:
    """Simulate a cohort of patients and controls with multi-contrast MRI into a folder.

    Parameters
    ----------
    output : path
        A new or empty folder, or one that an interrupted run with the same settings left: finished subjects
        are kept.
    size : str or MriCohortSize
        A name of :data:`SIZES`, or other numbers of subjects and another grid.
    seed : int
        Names every random stream: the same seed gives the same bytes, however many workers there are.
    workers : int or None
        Processes; one per core when None.
    progress : bool
        Show a progress bar with the time left.
    settings : MriSettings or None
        Scanner and session.

    Returns
    -------
    Path
        ``manifest.csv``: a row per subject with its MDME acquisition, contrasts and lesion mask. The
        contrasts are as the scanner gave them: on the grid of the MDME acquisition, but of a head that
        moved. Beside it ``participants.csv`` (lesions and generating parameters), ``cohort.json`` (all
        settings) and ``subjects/``.

    Raises
    ------
    InputError
        When the folder holds other things or a cohort of other settings, or a parameter is out of its range.
    """
    size = named_size(size, SIZES)
    settings = settings or MriSettings()
    grid = size.grid

    def shared() -> tuple[Any, ...]:
        template = load_template()
        return template, ventricle_distance_mm(template), grid, settings

    return simulated_cohort(
        output,
        _description(size, seed, settings),
        plan_mdme_cohort(size, seed=seed),
        grid=grid,
        simulate=partial(simulate_mdme_subject, seed=seed),
        shared=shared,
        write_tables=_write_tables,
        workers=workers,
        progress=progress,
    )


def _description(size: MriCohortSize, seed: int, settings: MriSettings) -> dict[str, Any]:
    """Return all that determines a cohort."""
    return {
        "seed": seed,
        "size": asdict(size),
        "session": asdict(settings),
        "contrasts": {name: asdict(sequence) for name, sequence in CONTRASTS.items()},  # type: ignore[call-overload]
        "tissues": {name: asdict(tissue) for name, tissue in tissues.TISSUES.items()},
        "lesion_kinds": {name: asdict(kind) for name, kind in LESION_KINDS.items()},
        "lesion_fraction": LESION_FRACTION,
        "subject_log_sd": asdict(tissues.SUBJECT_LOG_SD),
        "smooth_log_sd": asdict(tissues.SMOOTH_LOG_SD),
        "sources": list(tissues.SOURCES),
    }


def _write_tables(folder: Path, subjects: Sequence[tuple[MriSubjectPlan, dict[str, Any]]]) -> Path:
    """Write participants and manifest; return the manifest."""
    import pandas as pd

    from medrestore.domains.multicontrast_mri.schema import contrast_schema

    rows: list[dict[str, Any]] = []
    participants: list[dict[str, Any]] = []
    for plan, record in subjects:
        place, digest = f"subjects/{plan.subject_id}", record["sha256"]
        files = {
            "input": "mdme.nii.gz",
            **{name: f"{name}.nii.gz" for name in CONTRASTS},
            "lesions": "lesions.nii.gz",
        }
        rows.append(
            {
                "subject_id": plan.subject_id,
                "session_id": "ses-01",
                "split": plan.split,
                "group": plan.group,
                **{column: f"{place}/{name}" for column, name in files.items()},
                **{f"{column}_sha256": digest[name] for column, name in files.items()},
            }
        )
        participants.append(
            {
                "subject_id": plan.subject_id,
                "group": plan.group,
                "split": plan.split,
                **{f"lesions_{kind}": count for kind, count in record["lesions"].items()},
                **{name: record[name] for name in ("lesion_volume_ml", "lesion_voxels", "lesion_slices")},
                **record["parameters"],
            }
        )
    write_participants(participants, folder)
    # The manifest last: whoever finds it finds everything.
    return contrast_schema(tuple(CONTRASTS)).write(pd.DataFrame(rows), folder / "manifest.csv")
