"""Power and sample size of a study, from the variance components of a pilot (Hillis 2011)."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

import medrestore
from medrestore.checks import InputError, counted, require_in_range, require_in_set
from medrestore.files import atomic_path, require_empty_folder
from medrestore.study.measures import MEASURES
from medrestore.study.statistics.merit import figure_of_merit
from medrestore.study.statistics.obuchowski_rockette import Components, components
from medrestore.study.statistics.reads import ReadTable
from medrestore.study.statistics.results import Entry
from medrestore.study.statistics.summary import aligned

__all__ = ["Pilot", "Power", "pilot_of", "power", "power_of_table", "smallest_cases"]

Array: TypeAlias = npt.NDArray[Any]

READERS = (3, 4, 5, 6, 8, 10, 12, 15, 20)
CASES = (25, 50, 75, 100, 150, 200, 300, 500, 1000)
MOST_CASES = 100_000
LEAST_CASES = 4
CERTAIN = 1e12
"""A noncentrality of this or more is found for sure; its distribution cannot be computed."""


@dataclass(frozen=True)
class Pilot:
    """Variance components of a pilot.

    Parameters
    ----------
    readers, methods
        Their numbers.
    cases
        K*: cases that entered the metric.
    var_tr
        ``max(Var(TR), 0)``: what more cases do not lessen.
    error
        ``var - Cov1``.
    between
        ``max(Cov2 - Cov3, 0)``.
    """

    readers: int
    methods: int
    cases: int
    var_tr: float
    error: float
    between: float


def pilot_of(parts: Components, cases: int) -> Pilot:
    """Return the components that power is computed from.

    Raises
    ------
    InputError
        When there is one reader or one method.
    """
    if parts.var_tr is None or parts.cov1 is None:
        raise InputError(
            f"power needs a pilot of two readers and two methods or more, got {parts.readers} and "
            f"{parts.methods}. Remedy: let a second reader read, or take the components of a published "
            "study like yours"
        )
    return Pilot(
        parts.readers,
        parts.methods,
        cases,
        float(max(parts.var_tr, Fraction(0))),
        float(parts.var - parts.cov1),
        float(parts.between_readers),
    )


def power(
    pilot: Pilot, difference: float, *, readers: int, cases: Array | float, alpha: float = 0.05
) -> Array:
    """Return the power to find a difference between two methods, random readers and cases.

    Parameters
    ----------
    pilot
        Variance components.
    difference
        d, in the metric's unit.
    readers
        J, 2 or more.
    cases
        K, scalar or array; infinity is allowed and gives the power that no number of cases exceeds by far.
    alpha
        Level of the two-sided test.

    Returns
    -------
    array, float
        In the shape of ``cases``.

    Notes
    -----
    Hillis 2011: ``D = Var(TR) + (K*/K) [var - Cov1 + (J-1) (Cov2 - Cov3)]``, ``lambda = J d^2 / (2 D)``,
    ``ddf = D^2 / {[Var(TR) + (K*/K) (var - Cov1 - (Cov2 - Cov3))]^2 / (J - 1)}``, and
    ``P(F'(1, ddf, lambda) > F_alpha)``. Where nothing varies, any difference is found.
    """
    from scipy import stats

    share = pilot.cases / np.asarray(cases, dtype=np.float64)
    d = pilot.var_tr + share * (pilot.error + (readers - 1) * pilot.between)
    own = pilot.var_tr + share * (pilot.error - pilot.between)
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.where(d > 0, readers * difference**2 / (2 * d), np.inf)
        ddf = np.where(own != 0, d**2 * (readers - 1) / own**2, np.inf)
    found = np.ones(np.shape(shift))
    finite = shift < CERTAIN
    normal = finite & (ddf > 1e9)  # closer to the normal distribution than its functions are to F
    other = finite & ~normal
    found[normal] = stats.ncx2.sf(stats.chi2.isf(alpha, 1), 1, shift[normal])
    found[other] = stats.ncf.sf(stats.f.isf(alpha, 1, ddf[other]), 1, ddf[other], shift[other])
    return found


def smallest_cases(
    pilot: Pilot, difference: float, *, readers: int, target: float, alpha: float = 0.05
) -> int | None:
    """Return the smallest number of cases that reaches a power; None where up to 100,000 do not.

    Power need not rise with every case, since ddf falls while D does; so it is looked for upwards, not by
    halving.
    """
    low = LEAST_CASES
    while low <= MOST_CASES:
        block = np.arange(low, min(2 * low, MOST_CASES) + 1)
        step = max(1, len(block) // 64)
        coarse = block[::step]
        reached = np.flatnonzero(
            power(pilot, difference, readers=readers, cases=coarse, alpha=alpha) >= target
        )
        if len(reached):
            end = int(coarse[reached[0]])
            near = np.arange(max(end - step, low), end + 1)
            fine = power(pilot, difference, readers=readers, cases=near, alpha=alpha) >= target
            return int(near[np.flatnonzero(fine)[0]])
        low = 2 * low + 1
    return None


@dataclass(frozen=True)
class PlanPower:
    """Power of a plan: of these readers and cases."""

    readers: int
    cases: int
    power: float


@dataclass(frozen=True)
class SampleSize:
    """Cases that reach the wanted power; None where no number does, and the power of endless ones."""

    readers: int
    cases: int | None
    power_of_endless_cases: float


@dataclass(frozen=True)
class Power(Entry):
    """Power of planned studies, as power.json holds it; settings are those of :func:`power_of_table`."""

    metric: str
    covariance: str
    positive_from: float | None
    difference: float
    alpha: float
    target: float
    pilot: Pilot
    power: Sequence[PlanPower]
    sizes: Sequence[SampleSize]
    notes: Sequence[str]
    software: str

    @property
    def table(self) -> pd.DataFrame:
        """``readers, cases, power``, one row a plan."""
        return pd.DataFrame(self.power)

    @property
    def summary(self) -> str:
        """Power by readers and cases, and the smallest sizes, as text."""
        wide = self.table.pivot_table(index="readers", columns="cases", values="power")
        kind = MEASURES[self.metric]
        noun = {None: "case", 1: "positive case", 0: "negative case"}[kind.entering]
        size = {row.readers: row.cases for row in self.sizes}
        header = (
            "readers",
            *(counted(int(cases), noun) if not i else str(cases) for i, cases in enumerate(wide.columns)),
        )
        rows = [
            (
                str(readers),
                *(f"{value:.3f}" for value in row),
                "not reachable" if size[readers] is None else str(size[readers]),
            )
            for readers, row in zip(wide.index, wide.to_numpy(), strict=True)
        ]
        title = (
            f"Power to find a difference of {self.difference:g} in {kind.title}, two-sided at "
            f"{self.alpha:g}, random readers and cases"
        )
        pilot = self.pilot
        lines = [
            aligned(title, (*header, f"{noun}s for {self.target:g}"), rows),
            "",
            f"Pilot: {counted(pilot.readers, 'reader')}, {counted(pilot.methods, 'method')}, "
            f"{counted(pilot.cases, noun)}; "
            f"covariance by {self.covariance}; Var(TR) {pilot.var_tr:.4g}, var - Cov1 "
            f"{pilot.error:.4g}, Cov2 - Cov3 {pilot.between:.4g} (Hillis 2011).",
            *(f"- {note}" for note in self.notes),
        ]
        return "\n".join(lines)

    def write(self, folder: str | os.PathLike[str]) -> Path:
        """Write ``power.json`` and ``power.csv``; return the folder."""
        output = require_empty_folder(folder, belongs="power computation", marker="power.json")
        # First what the folder is known by: whatever stops the rest, the next call knows it again.
        with atomic_path(output / "power.json") as path:
            path.write_text(self.json_text, encoding="utf-8")
        with atomic_path(output / "power.csv") as path:
            self.table.to_csv(path, index=False)
        return output


def power_of_table(
    table: ReadTable,
    *,
    difference: float,
    metric: str = "auc",
    positive_from: float | None = None,
    covariance: str = "jackknife",
    readers: Sequence[int] = (),
    cases: Sequence[int] = (),
    target: float = 0.8,
    alpha: float = 0.05,
) -> Power:
    """Return the power of planned studies from the reads of a pilot.

    Parameters
    ----------
    table
        Reads of the pilot; with more than two methods, its components are means over all pairs of them.
    difference
        Difference between two methods that is to be found, in the metric's unit.
    metric, positive_from, covariance
        As of :func:`~medrestore.study.statistics.analyze.analyze_table`.
    readers, cases
        Numbers to compute for; a usual range when empty. Cases are those that enter the metric.
    target
        Power that the sample size is to reach.
    alpha
        Level of the two-sided test.

    Raises
    ------
    InputError
        When a setting is out of range, or the pilot has one reader or one method.
    """
    require_in_set("metric", metric, tuple(MEASURES))
    require_in_range("difference", abs(difference), 0, math.inf, include_low=False, include_high=False)
    require_in_range("alpha", alpha, 0, 1, include_low=False, include_high=False)
    require_in_range("target", target, alpha, 1, include_low=False, include_high=False)
    for count in readers:
        require_in_range("readers", count, 2, 10_000)
    for count in cases:
        require_in_range("cases", count, LEAST_CASES, 10**9)
    used = table.resolve("refuse")
    merit = figure_of_merit(used, metric, positive_from=positive_from, covariance=covariance)
    parts = components(merit.theta, merit.covariance, merit.unit)
    pilot = pilot_of(parts, merit.cases)
    counts = sorted(set(readers or (*READERS, len(used.readers))) - {1})
    sizes = sorted(set(cases or (*CASES, merit.cases)))
    rows, needed = [], []
    for j in counts:
        found = power(pilot, difference, readers=j, cases=np.array(sizes, dtype=float), alpha=alpha)
        rows += [PlanPower(j, k, float(value)) for k, value in zip(sizes, found, strict=True)]
        smallest = smallest_cases(pilot, difference, readers=j, target=target, alpha=alpha)
        limit = float(power(pilot, difference, readers=j, cases=math.inf, alpha=alpha))
        needed.append(SampleSize(j, smallest, limit))
    return Power(
        metric=metric,
        covariance=covariance,
        positive_from=positive_from,
        difference=difference,
        alpha=alpha,
        target=target,
        pilot=pilot,
        power=rows,
        sizes=needed,
        notes=_notes(parts, metric, needed, target, len(used.methods)),
        software=f"medrestore {medrestore.__version__}",
    )


def _notes(
    parts: Components, metric: str, needed: Sequence[SampleSize], target: float, methods: int
) -> list[str]:
    notes = []
    entering = MEASURES[metric].entering
    if MEASURES[metric].counts is None:
        notes.append("The planned cases are taken to have the pilot's share of positives.")
    elif entering is not None:
        notes.append(f"Cases are {'positive' if entering else 'negative'} ones: only those enter {metric}.")
    if methods > 2:
        notes.append(f"Components are means over the pilot's {methods} methods; power is that of one pair.")
    if parts.var_tr is not None and parts.var_tr <= 0:
        notes.append(
            "Var(TR) of the pilot is not above 0 and taken as 0: readers are taken to prefer methods alike, "
            "so the number of cases may be too low."
        )
    if parts.cov2 is not None and parts.cov3 is not None and parts.cov2 < parts.cov3:
        notes.append("Cov2 - Cov3 of the pilot is below 0 and taken as 0.")
    if any(row.cases is None for row in needed):
        notes.append(
            f"Not reachable: no number of cases up to {MOST_CASES:,} gives a power of {target:g} with so "
            "few readers; readers differ too much in what the methods do for them. Remedy: more readers."
        )
    return notes
