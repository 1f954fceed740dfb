"""The design of cohorts: numbers as stated, and the reference cohort as the repository lists it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medrestore.checks import InputError
from medrestore.domains.amyloid_pet.simulate.design import SIZES, CohortSize, SubjectGroup, plan_cohort

DESIGN = Path(__file__).parents[4] / "data_manifests" / "amyloid_pet_simulated.csv"


class TestPlan:
    @pytest.mark.parametrize("name", SIZES)
    def test_numbers(self, name):
        plans = plan_cohort(SIZES[name], seed=0, dose_fraction=0.01)
        counted = Counter((plan.group, plan.split, plan.amyloid_status) for plan in plans)
        expected = {
            "demo": {("demo", "train"): (24, 24), ("demo", "validation"): (4, 4), ("demo", "test"): (12, 12)},
            "reference": {
                ("paper", "train"): (19, 5),
                ("paper", "validation"): (4, 2),
                ("paper", "test"): (7, 3),
                ("further", "test"): (30, 30),
            },
            "large": {
                ("large", "train"): (30, 30),
                ("large", "validation"): (12, 12),
                ("large", "test"): (40, 40),
            },
        }[name]
        assert counted == {
            (*place, status): numbers[status] for place, numbers in expected.items() for status in (0, 1)
        }

    def test_border_cases_in_every_class_of_every_group(self):
        plans = plan_cohort(SIZES["reference"], seed=0, dose_fraction=0.01)
        border = Counter((plan.group, plan.split, plan.amyloid_status) for plan in plans if plan.border)
        # A quarter, rounded up: of 19, 5, 4, 2, 7, 3, 30, 30.
        assert [border["paper", "train", 0], border["paper", "train", 1]] == [5, 2]
        assert [border["paper", "validation", 0], border["paper", "validation", 1]] == [1, 1]
        assert [border["paper", "test", 0], border["paper", "test", 1]] == [2, 1]
        assert [border["further", "test", 0], border["further", "test", 1]] == [8, 8]

    def test_order_tells_nothing_and_follows_the_seed(self):
        plans = plan_cohort(SIZES["demo"], seed=0, dose_fraction=0.01)
        assert [plan.number for plan in plans] == list(range(1, 81))
        assert plans == plan_cohort(SIZES["demo"], seed=0, dose_fraction=0.01)
        assert plans != plan_cohort(SIZES["demo"], seed=1, dose_fraction=0.01)
        status = np.array([plan.amyloid_status for plan in plans])
        # A random order of 40 and 40: the correlation with the number has a standard error of 0.11.
        assert abs(np.corrcoef(np.arange(80), status)[0, 1]) < 0.44

    def test_only_test_subjects_have_the_dose_series(self):
        for plan in plan_cohort(SIZES["demo"], seed=0, dose_fraction=0.05):
            series = (0.05, 0.02, 0.1, 0.25, 0.5) if plan.split == "test" else (0.05,)
            assert plan.dose_fractions == series

    def test_refuses_impossible_sizes(self):
        with pytest.raises(InputError, match="split must be one of 'train', 'validation', 'test'"):
            CohortSize("x", (SubjectGroup("x", "training", 1, 1),))
        with pytest.raises(InputError, match="group x must not have a negative number"):
            CohortSize("x", (SubjectGroup("x", "train", -1, 1),))
        with pytest.raises(InputError, match="at least one subject"):
            CohortSize("x", ())
        with pytest.raises(InputError, match="border_share must be in"):
            CohortSize("x", (SubjectGroup("x", "train", 1, 1),), border_share=1.5)


def test_design_of_the_reference_cohort():
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
