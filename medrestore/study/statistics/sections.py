"""What the engine finds in a figure of merit, as the sections of an analysis."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, TypeVar

from medrestore.checks import require_in_set
from medrestore.study.measures import CORRECTIONS, Measure
from medrestore.study.statistics import obuchowski_rockette as engine
from medrestore.study.statistics.merit import Merit
from medrestore.study.statistics.results import (
    ChiSquaredTest,
    DifferenceRow,
    FTest,
    MeanRow,
    NonInferiorityRow,
    ReaderDifferenceRow,
    ReaderRow,
    VarianceComponents,
)

__all__ = ["Findings", "adjusted", "listing", "number", "wilson"]

Tested = TypeVar("Tested", DifferenceRow, NonInferiorityRow)


@dataclass(frozen=True)
class Findings:
    """What the engine finds in one figure of merit, section by section.

    Parameters
    ----------
    merit
        Figures of merit and their covariance.
    measure
        What the figure is.
    methods, readers
        Names.
    alpha
        Level of two-sided tests and intervals.
    correction
        One of :data:`CORRECTIONS`.
    """

    merit: Merit
    measure: Measure
    methods: Sequence[str]
    readers: Sequence[str]
    alpha: float
    correction: str

    @cached_property
    def parts(self) -> engine.Components:
        """Mean squares and mean covariances."""
        return engine.components(self.merit.theta, self.merit.covariance, self.merit.unit)

    @cached_property
    def means(self) -> list[Fraction]:
        """Mean over readers of each method."""
        return [Fraction(total) / len(self.readers) for total in self.merit.theta.sum(axis=1)]

    def components(self) -> VarianceComponents:
        """Return the variance components; those of readers are not truncated at 0."""
        return VarianceComponents(
            **{field.name: number(getattr(self.parts, field.name)) for field in fields(VarianceComponents)}
        )

    def _equality(self, name: str) -> engine.Equality | None:
        term = engine.error_term(name, self.parts)
        return None if term is None else engine.equality(self.parts, term)

    def f_test(self, name: str) -> FTest:
        """Return test, differences and means of an analysis with random readers or fixed cases."""
        f, df1, ddf, p = self._equality(name) or (None, None, None, None)
        return FTest(number(f), df1, number(ddf), number(p), self.differences(name), self.estimates(name))

    def chi_squared_test(self) -> ChiSquaredTest:
        """Return test, differences and means of the analysis with fixed readers."""
        name = engine.FIXED_READERS
        f, df, _, p = self._equality(name) or (None, None, None, None)
        chi2 = None if f is None or df is None else number(f) * df
        return ChiSquaredTest(chi2, df, number(p), self.differences(name), self.estimates(name))

    def differences(self, name: str, *, reference: str | None = None) -> list[DifferenceRow]:
        """Return differences of all pairs, first minus second; with a reference, of all others minus it."""
        term = engine.error_term(name, self.parts)
        if term is None:
            return []
        chosen = engine.pairs(len(self.methods))
        if reference is not None:
            second = self.methods.index(reference)
            chosen = [(first, second) for first in range(len(self.methods)) if first != second]
        rows = [
            DifferenceRow(
                first=self.methods[a],
                second=self.methods[b],
                **_plain(engine.difference(self.means[a] - self.means[b], term, alpha=self.alpha)),
                p_adjusted=None,
                distribution=_distribution(term.df),
            )
            for a, b in chosen
        ]
        return adjusted(rows, self.correction)

    def estimates(self, name: str) -> list[MeanRow]:
        """Return each method's mean over readers with the interval of that method by itself."""
        rows = []
        for i, method in enumerate(self.methods):
            own = self.merit.covariance[i, :, i, :]
            term = engine.method_error_term(name, self.merit.theta[i], own, self.merit.unit)
            if term is None:
                rows.append(MeanRow(method, number(self.means[i])))
                continue
            found = engine.estimate(self.means[i], term, alpha=self.alpha, bounds=self.measure.bounds)
            rows.append(MeanRow(method, **_plain(found), distribution=_distribution(term.df)))
        return rows

    def non_inferiority(self, name: str, *, reference: str, margin: float) -> list[NonInferiorityRow]:
        """Return the test of each other method against the reference, with its verdict in words."""
        term = engine.error_term(name, self.parts)
        if term is None:
            return []
        second = self.methods.index(reference)
        better = self.measure.higher_is_better
        side, other = ("lower", "above") if better else ("upper", "below")
        rows = []
        for a, method in enumerate(self.methods):
            if a == second:
                continue
            found = engine.non_inferiority(
                self.means[a] - self.means[second],
                term,
                margin=margin,
                higher_is_better=better,
                alpha=self.alpha,
            )
            shown = None if found.p is None else found.p < self.alpha / 2
            verdict = "cannot be tested: nothing varies between readers or cases"
            if found.limit is not None:
                level = f"{100 * (1 - self.alpha):g} %"
                end = f"{side} {level} limit of {method} - {reference}, {found.limit:+.4g},"
                verdict = (
                    f"non-inferior: the {end} is {other} {found.bound:+g}"
                    if shown
                    else f"non-inferiority is not shown: the {end} is not {other} {found.bound:+g}"
                )
            rows.append(
                NonInferiorityRow(
                    method=method,
                    reference=reference,
                    margin=margin,
                    **_plain(found),
                    p_adjusted=None,
                    limit_side=side,
                    level=self.alpha / 2,
                    non_inferior=shown,
                    verdict=verdict,
                    distribution=_distribution(term.df),
                )
            )
        return adjusted(rows, self.correction)

    def per_reader(self) -> list[ReaderRow]:
        """Return every reader's own estimates; Wilson intervals where they are proportions."""
        from scipy import stats

        merit, rows = self.merit, []
        for j, reader in enumerate(self.readers):
            for i, method in enumerate(self.methods):
                theta, n = float(merit.theta[i, j]), int(merit.counts[i, j])
                se = _root(merit.covariance[i, j, i, j] * merit.unit)
                low, high, events = None, None, None
                kind = "normal" if self.measure.bounds else "t"
                if merit.events is not None:
                    kind, events = "wilson", int(merit.events[i, j])
                    low, high = wilson(events, n, alpha=self.alpha)
                elif se:
                    df = math.inf if self.measure.bounds else n - 1
                    half = float(stats.t.ppf(1 - self.alpha / 2, df)) * se
                    least, most = self.measure.bounds or (-math.inf, math.inf)
                    low, high = max(theta - half, least), min(theta + half, most)
                rows.append(ReaderRow(reader, method, theta, se, n, low, high, kind, events))
        return rows

    def per_reader_differences(self) -> list[ReaderDifferenceRow]:
        """Return every reader's own differences between methods, over cases, by the normal distribution."""
        covariance, rows = self.merit.covariance, []
        for j, reader in enumerate(self.readers):
            for a, b in engine.pairs(len(self.methods)):
                value = Fraction(self.merit.theta[a, j] - self.merit.theta[b, j])
                variance = (
                    covariance[a, j, a, j] + covariance[b, j, b, j] - covariance[a, j, b, j] * 2
                ) * self.merit.unit
                term = engine.ErrorTerm(Fraction(variance) / 2, math.inf, 1)
                found = engine.difference(value, term, alpha=self.alpha)
                names = (reader, self.methods[a], self.methods[b])
                rows.append(ReaderDifferenceRow(*names, **_plain(found), distribution="normal"))
        return rows


def adjusted(rows: Sequence[Tested], correction: str) -> list[Tested]:
    """Return the rows with ``p_adjusted``; the family is all rows that have a p value."""
    require_in_set("correction", correction, tuple(CORRECTIONS))
    values = [row.p for row in rows if row.p is not None]
    if len(values) > 1 and correction != "none":
        values = _corrected(values, correction)
    left = iter(values)
    return [replace(row, p_adjusted=None if row.p is None else next(left)) for row in rows]


def _corrected(values: list[float], correction: str) -> list[float]:
    from statsmodels.stats.multitest import multipletests

    # multipletests collects garbage, which takes long beside large libraries: keep them out of its sight.
    frozen = gc.get_freeze_count()
    if not frozen:
        gc.freeze()
    try:
        corrected: list[float] = multipletests(values, method=correction)[1].tolist()
    finally:
        if not frozen:
            gc.unfreeze()
    return corrected


def wilson(events: int, n: int, *, alpha: float) -> tuple[float, float]:
    """Return the Wilson interval of a proportion (Newcombe 1998); exactly 0 or 1 at its ends.

    >>> [round(end, 6) for end in wilson(81, 263, alpha=0.05)]
    [0.255289, 0.36621]
    """
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(events, n, alpha=alpha, method="wilson")
    return (0.0 if events == 0 else float(low)), (1.0 if events == n else float(high))


def number(value: Any) -> Any:
    """Return a number as JSON holds it: null for infinity, and for what is not there."""
    if value is None or isinstance(value, (bool, str)):
        return value
    plain = float(value)
    return plain if math.isfinite(plain) else None


def _plain(found: Any) -> dict[str, Any]:
    return {name: number(value) for name, value in found._asdict().items()}


def _distribution(df: float) -> str:
    return "normal" if math.isinf(df) else "t"


def _root(variance: Fraction) -> float | None:
    return math.sqrt(variance) if variance >= 0 else None


def listing(names: Iterable[str], most: int = 10) -> str:
    """Return names for a sentence, cut off behind ``most``."""
    found = list(names)
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")
