"""Simulated multi-contrast MRI cohorts: an MDME acquisition and six contrasts a subject, with their truth."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import require_in_range, require_in_set
from medrestore.data.phantoms.anatomy import CohortGrid, Template, load_template
from medrestore.data.phantoms.folder import (
    claimed_cohort,
    read_record,
    simulate_waiting,
    subject_folder,
    write_participants,
)
from medrestore.domains.multicontrast_mri.simulate import tissues
from medrestore.domains.multicontrast_mri.simulate.design import (
    SIZES,
    MriCohortSize,
    MriSubjectPlan,
    plan_mdme_cohort,
)
from medrestore.domains.multicontrast_mri.simulate.head import ventricle_distance_mm
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
    if isinstance(size, str):
        require_in_set("size", size, tuple(SIZES))
        size = SIZES[size]
    if workers is not None:
        require_in_range("workers", workers, 1, 1024)
    settings = settings or MriSettings()
    grid = size.grid
    with claimed_cohort(output, _description(size, seed, settings)) as claim:
        plans = plan_mdme_cohort(size, seed=seed)

        @lru_cache(maxsize=1)
        def maps() -> tuple[Template, NDArray[np.float32]]:
            template = load_template()
            return template, ventricle_distance_mm(template)

        simulate_waiting(
            _task,
            plans,
            claim.folder,
            fingerprint=claim.fingerprint,
            arguments=lambda plan, place: (plan, place, *maps(), grid, settings, seed, claim.fingerprint),
            workers=workers,
            progress=progress,
        )
        return _write_tables(claim.folder, plans)


def _description(size: MriCohortSize, seed: int, settings: MriSettings) -> dict[str, Any]:
    """Return all that determines a cohort."""
    return {
        "seed": seed,
        "size": asdict(size),
        "session": asdict(settings),
        "contrasts": {name: asdict(sequence) for name, sequence in CONTRASTS.items()},  # type: ignore[call-overload]
        "tissues": {name: asdict(tissue) for name, tissue in tissues.TISSUES.items()},
        "lesion_kinds": {name: asdict(kind) for name, kind in tissues.LESION_KINDS.items()},
        "lesion_fraction": LESION_FRACTION,
        "subject_log_sd": asdict(tissues.SUBJECT_LOG_SD),
        "smooth_log_sd": asdict(tissues.SMOOTH_LOG_SD),
        "sources": list(tissues.SOURCES),
    }


def _task(
    plan: MriSubjectPlan,
    folder: Path,
    template: Template,
    ventricle_mm: NDArray[np.float32],
    grid: CohortGrid,
    settings: MriSettings,
    seed: int,
    fingerprint: str,
) -> str:
    simulate_mdme_subject(
        plan, folder, template, ventricle_mm, grid, settings, seed=seed, fingerprint=fingerprint
    )
    return plan.subject_id


def _write_tables(folder: Path, plans: Sequence[MriSubjectPlan]) -> Path:
    """Write participants and manifest, from the subjects' records; return the manifest."""
    import pandas as pd

    from medrestore.domains.multicontrast_mri.schema import contrast_schema

    rows: list[dict[str, Any]] = []
    participants: list[dict[str, Any]] = []
    for plan in plans:
        record = read_record(subject_folder(folder, plan))
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
