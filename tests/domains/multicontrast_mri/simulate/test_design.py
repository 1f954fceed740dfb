"""The design of MRI cohorts: numbers as stated, and the reference cohort as the repository lists it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medrestore.checks import InputError
from medrestore.domains.multicontrast_mri.simulate.design import (
    SIZES,
    MriCohortSize,
    MriSubjectGroup,
    plan_mdme_cohort,
)

DESIGN = Path(__file__).parents[4] / "data_manifests" / "mdme_mri_simulated.csv"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("demo", {"train": (12, 6), "validation": (3, 1), "test": (8, 4)}),
        ("large", {"train": (40, 20), "validation": (6, 4), "test": (24, 16)}),
        ("reference", {"train": (30, 15), "validation": (4, 2), "test": (10, 6)}),
    ],
)
def test_numbers(name, expected):
    plans = plan_mdme_cohort(SIZES[name], seed=0)
    assert Counter((plan.split, plan.group) for plan in plans) == {
        (split, group): count
        for split, counts in expected.items()
        for group, count in zip(("patient", "control"), counts, strict=True)
    }
    assert [plan.number for plan in plans] == list(range(1, len(plans) + 1))


def test_reference_is_the_papers_cohort():
    size = SIZES["reference"]
    plans = plan_mdme_cohort(size, seed=0)
    assert Counter(plan.group for plan in plans) == {"patient": 44, "control": 23}
    assert size.grid.shape == (192, 224, 26)
    assert size.grid.voxel_size_mm == (1.0, 1.0, 5.0)
    assert SIZES["demo"].grid.shape == (96, 112, 24)


def test_grids_hold_the_same_head():
    for axis in range(3):
        faces = []
        for name in ("demo", "reference"):
            grid = SIZES[name].grid
            along, half = grid.axes_mm()[axis], grid.voxel_size_mm[axis] / 2
            faces.append((along[0] - half, along[-1] + half))
        if axis < 2:
            assert faces[0] == pytest.approx(faces[1])
        else:  # two slices more
            assert faces[1][0] <= faces[0][0]
            assert faces[1][1] >= faces[0][1]


def test_lesions_are_planned_for_patients_alone():
    plans = plan_mdme_cohort(SIZES["large"], seed=0)
    for plan in plans:
        if plan.group == "control":
            assert (plan.plaques, plan.oedemas) == (0, 0)
        else:
            assert 5 <= plan.plaques <= 40
            assert 0 <= plan.oedemas <= 2
    plaques = [plan.plaques for plan in plans if plan.group == "patient"]
    # 70 log-normal draws, SD of the logarithm 0.5: the median is known to 8 %.
    assert np.median(plaques) == pytest.approx(18, rel=0.25)
    oedema = Counter(plan.split for plan in plans if plan.oedemas)
    assert oedema == {"train": 12, "validation": 2, "test": 8}  # 30 %, rounded up


def test_order_tells_nothing_and_follows_the_seed():
    plans = plan_mdme_cohort(SIZES["large"], seed=0)
    assert plans == plan_mdme_cohort(SIZES["large"], seed=0)
    assert plans != plan_mdme_cohort(SIZES["large"], seed=1)
    is_patient = np.array([plan.group == "patient" for plan in plans])
    # A random order of 110: the correlation with the number has a standard error of 0.1.
    assert abs(np.corrcoef(np.arange(len(plans)), is_patient)[0, 1]) < 0.4


def test_refuses_impossible_sizes():
    with pytest.raises(InputError, match="split must be one of 'train', 'validation', 'test'"):
        MriCohortSize("x", (MriSubjectGroup("training", 1, 1),))
    with pytest.raises(InputError, match="split test must not have a negative number"):
        MriCohortSize("x", (MriSubjectGroup("test", -1, 1),))
    with pytest.raises(InputError, match="at least one subject"):
        MriCohortSize("x", ())


def test_design_of_the_reference_cohort():
    rows = [
        {
            "subject_id": plan.subject_id,
            "group": plan.group,
            "split": plan.split,
            "plaques": plan.plaques,
            "oedemas": plan.oedemas,
        }
        for plan in plan_mdme_cohort(SIZES["reference"], seed=0)
    ]
    assert DESIGN.read_text() == pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")
