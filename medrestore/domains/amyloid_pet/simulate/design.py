"""Design of simulated cohorts: how many subjects of which kind, decided before any is simulated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medrestore import rng
from medrestore.checks import fail, require_in_range, require_in_set
from medrestore.domains.amyloid_pet.simulate.departure import DEPARTURES
from medrestore.domains.amyloid_pet.simulate.subject import AmyloidPlan

__all__ = ["DEPARTURE", "DOSE_SERIES", "SIZES", "CohortSize", "SubjectGroup", "plan_cohort"]

DOSE_SERIES: tuple[float, ...] = (0.02, 0.05, 0.1, 0.25, 0.5)
"""Dose fractions at which test subjects are reconstructed too, to say which dose a restoration is worth."""

DEPARTURE = "departure"
"""Group of the further test subjects whose uptake departs from the tissue map."""


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
    departures : int
        Further test subjects whose uptake departs from the tissue map: each kind in turn, half positive.
    """

    name: str
    groups: tuple[SubjectGroup, ...]
    border_share: float = 0.25
    departures: int = 0

    def __post_init__(self) -> None:
        require_in_range("border_share", self.border_share, 0.0, 1.0)
        for group in self.groups:
            require_in_set("split", group.split, ("train", "validation", "test"))
            if min(group.negatives, group.positives) < 0:
                fail(f"group {group.name} must not have a negative number of subjects")
        require_in_range("departures", self.departures, 0, 10_000)
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
        departures=4,
    ),
    "large": CohortSize(
        "large",
        (
            SubjectGroup("large", "train", negatives=30, positives=30),
            SubjectGroup("large", "validation", negatives=12, positives=12),
            SubjectGroup("large", "test", negatives=40, positives=40),
        ),
        departures=20,
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
"""``large``: enough subjects to choose weights on and to compare methods by. ``reference``: the paper's 40
subjects (10 positive; 10 for test), and 60 more for test, half positive."""


def plan_cohort(
    size: CohortSize, *, seed: int, dose_fraction: float, training_doses: Sequence[float] = ()
) -> list[AmyloidPlan]:
    """Decide status, split and doses of every subject; their order is random, departures come behind.

    Parameters
    ----------
    size : CohortSize
        How many subjects of which kind.
    seed : int
        The cohort's seed.
    dose_fraction : float
        Dose of the degraded images.
    training_doses : sequence of float
        Further doses of training subjects. With some, validation subjects have all doses that test subjects
        have, which are these and :data:`DOSE_SERIES`.

    Returns
    -------
    list of AmyloidPlan

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
    trained = (dose_fraction, *training_doses)
    whole = tuple(dict.fromkeys((dose_fraction, *sorted({*training_doses, *DOSE_SERIES}))))
    doses = {"train": trained, "validation": whole if training_doses else trained, "test": whole}
    plans = []
    for number, kind in enumerate(order, start=1):
        group, status, border = kinds[kind]
        plans.append(AmyloidPlan(number, group.name, group.split, status, border, doses[group.split]))
    kinds_of_departure = list(DEPARTURES)
    for index in range(size.departures):
        turn, kind = divmod(index, len(kinds_of_departure))
        plans.append(
            AmyloidPlan(
                number=len(plans) + 1,
                group=DEPARTURE,
                split="test",
                amyloid_status=(turn + kind) % 2,
                border=False,
                dose_fractions=(dose_fraction,),
                departure=kinds_of_departure[kind],
            )
        )
    return plans


def _rounded_up(value: float) -> int:
    return int(-(-round(value, 9) // 1))
