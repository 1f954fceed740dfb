"""The design of cohorts: numbers as stated, and the reference cohort as the repository lists it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medrestore.checks import InputError
from medrestore.domains.amyloid_pet.simulate.departure import DEPARTURES
from medrestore.domains.amyloid_pet.simulate.design import (
    DEPARTURE,
    SIZES,
    CohortSize,
    SubjectGroup,
    plan_cohort,
)

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
        departures = {"demo": (2, 2), "reference": (0, 0), "large": (10, 10)}[name]
        assert counted == Counter(
            {
                (*place, status): numbers[status]
                for place, numbers in {**expected, (DEPARTURE, "test"): departures}.items()
                for status in (0, 1)
                if numbers[status]
            }
        )

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
        assert [plan.number for plan in plans] == list(range(1, 85))
        assert plans == plan_cohort(SIZES["demo"], seed=0, dose_fraction=0.01)
        assert plans != plan_cohort(SIZES["demo"], seed=1, dose_fraction=0.01)
        status = np.array([plan.amyloid_status for plan in plans[:80]])
        # A random order of 40 and 40: the correlation with the number has a standard error of 0.11.
        assert abs(np.corrcoef(np.arange(80), status)[0, 1]) < 0.44

    def test_only_test_subjects_have_the_dose_series(self):
        for plan in plan_cohort(SIZES["demo"], seed=0, dose_fraction=0.05):
            with_series = plan.split == "test" and not plan.departure
            series = (0.05, 0.02, 0.1, 0.25, 0.5) if with_series else (0.05,)
            assert plan.dose_fractions == series

    def test_departures_come_behind_and_change_nothing_before_them(self):
        without = replace(SIZES["large"], departures=0)
        plans = plan_cohort(SIZES["large"], seed=1, dose_fraction=0.01)
        before, behind = plans[:164], plans[164:]
        assert before == plan_cohort(without, seed=1, dose_fraction=0.01)
        assert [plan.number for plan in behind] == list(range(165, 185))
        # Four kinds, five subjects each, of which two or three are positive.
        positive = Counter(plan.departure for plan in behind if plan.amyloid_status)
        assert Counter(plan.departure for plan in behind) == dict.fromkeys(DEPARTURES, 5)
        assert set(positive.values()) == {2, 3}

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
