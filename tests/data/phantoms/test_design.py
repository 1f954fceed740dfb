"""The design of the reference cohort that the repository lists is the one that is simulated."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from medrestore.data.phantoms.cohort import SIZES, plan_cohort

DESIGN = Path(__file__).parents[3] / "data_manifests" / "amyloid_pet_simulated.csv"


def test_design_of_the_reference_cohort() -> None:
    rows = [
        {
            "subject_id": plan.subject_id,
            "group": plan.group,
            "split": plan.split,
            "amyloid_status": plan.amyloid_status,
            "border": int(plan.border),
        }
        for plan in plan_cohort(SIZES["reference"], seed=0, dose_fraction=0.01)
    ]
    assert DESIGN.read_text() == pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")
