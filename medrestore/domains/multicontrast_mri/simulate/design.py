"""Design of simulated MRI cohorts: patients and controls, their lesions and splits, decided beforehand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medrestore import rng
from medrestore.checks import fail, require_in_set
from medrestore.data.phantoms.anatomy import CohortGrid
from medrestore.data.phantoms.folder import SubjectPlan

__all__ = ["SIZES", "MriCohortSize", "MriSubjectGroup", "MriSubjectPlan", "plan_mdme_cohort"]

DEMO_GRID = CohortGrid(shape=(96, 112, 24), voxel_size_mm=(2.0, 2.0, 5.0), origin_mm=(-95.0, -127.0, -45.5))
REFERENCE_GRID = CohortGrid(
    shape=(192, 224, 26), voxel_size_mm=(1.0, 1.0, 5.0), origin_mm=(-95.5, -127.5, -50.5)
)

MEDIAN_PLAQUES = 18.0
PLAQUES_LOG_SD = 0.5
PLAQUES = (5, 40)
"""Plaques of a patient: median, standard deviation of the logarithm, bounds."""

OEDEMA_SHARE = 0.3
"""Share of patients with one or two areas of oedema, rounded up in every split."""


@dataclass(frozen=True)
class MriSubjectGroup:
    """Some subjects of a cohort.

    Attributes
    ----------
    split : str
        train, validation or test.
    patients, controls : int
        How many of each.
    """

    split: str
    patients: int
    controls: int


@dataclass(frozen=True)
class MriCohortSize:
    """How many subjects a cohort has, and the grid of its volumes.

    Attributes
    ----------
    name : str
        Name of the size.
    groups : tuple of MriSubjectGroup
        Its parts.
    grid : CohortGrid
        Of MDME acquisition and contrasts.
    """

    name: str
    groups: tuple[MriSubjectGroup, ...]
    grid: CohortGrid = DEMO_GRID

    def __post_init__(self) -> None:
        for group in self.groups:
            require_in_set("split", group.split, ("train", "validation", "test"))
            if min(group.patients, group.controls) < 0:
                fail(f"split {group.split} must not have a negative number of subjects")
        if not sum(group.patients + group.controls for group in self.groups):
            fail("a cohort must have at least one subject")


@dataclass(frozen=True)
class MriSubjectPlan(SubjectPlan):
    """What is decided about a patient or control; further attributes are those of `SubjectPlan`.

    Attributes
    ----------
    plaques, oedemas : int
        Number of lesions; 0 for controls.
    """

    plaques: int
    oedemas: int


SIZES: dict[str, MriCohortSize] = {
    "demo": MriCohortSize(
        "demo",
        (
            MriSubjectGroup("train", patients=12, controls=6),
            MriSubjectGroup("validation", patients=3, controls=1),
            MriSubjectGroup("test", patients=8, controls=4),
        ),
    ),
    "large": MriCohortSize(
        "large",
        (
            MriSubjectGroup("train", patients=40, controls=20),
            MriSubjectGroup("validation", patients=6, controls=4),
            MriSubjectGroup("test", patients=24, controls=16),
        ),
    ),
    "reference": MriCohortSize(
        "reference",
        (
            MriSubjectGroup("train", patients=30, controls=15),
            MriSubjectGroup("validation", patients=4, controls=2),
            MriSubjectGroup("test", patients=10, controls=6),
        ),
        REFERENCE_GRID,
    ),
}
"""``reference``: the paper's 67 subjects at a resolution as in the clinic. ``large``: enough subjects to
compare methods by, on the grid of ``demo``."""


def plan_mdme_cohort(size: MriCohortSize, *, seed: int) -> list[MriSubjectPlan]:
    """Decide group, split and number of lesions of every subject; the order of subjects is random.

    Parameters
    ----------
    size : MriCohortSize
        How many subjects of which kind.
    seed : int
        The cohort's seed.

    Returns
    -------
    list of MriSubjectPlan

    Examples
    --------
    >>> plan = plan_mdme_cohort(SIZES["reference"], seed=0)
    >>> len(plan), sum(subject.group == "patient" for subject in plan)
    (67, 44)
    """
    kinds = [
        (group.split, name, name == "patient" and index < -(-round(OEDEMA_SHARE * count, 9) // 1))
        for group in size.groups
        for name, count in (("patient", group.patients), ("control", group.controls))
        for index in range(count)
    ]
    plans = []
    for number, kind in enumerate(rng.generator(seed, "order").permutation(len(kinds)), start=1):
        split, name, oedema = kinds[kind]
        random = rng.generator(seed, "subject", number, "plan")
        plaques = MEDIAN_PLAQUES * np.exp(PLAQUES_LOG_SD * random.standard_normal())
        plans.append(
            MriSubjectPlan(
                number=number,
                split=split,
                group=name,
                plaques=int(np.clip(round(plaques), *PLAQUES)) if name == "patient" else 0,
                oedemas=int(random.integers(1, 3)) if oedema else 0,
            )
        )
    return plans
