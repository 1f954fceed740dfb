"""Sections of an analysis as they are written to analysis.json: plain numbers, null where there is none."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, TypeAlias

from medrestore.checks import require_in_set
from medrestore.study.measures import CORRECTIONS, Measure
from medrestore.study.statistics import obuchowski_rockette as engine
from medrestore.study.statistics.merit import Merit

__all__ = ["Findings", "adjusted", "listing", "number", "wilson"]

Section: TypeAlias = dict[str, Any]


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

    def components(self) -> Section:
        """Return the variance components; those of readers are not truncated at 0."""
        names = ("var", "cov1", "cov2", "cov3", "ms_t", "ms_r", "ms_tr", "var_r", "var_tr")
        return {name: number(getattr(self.parts, name)) for name in names}

    def analysis(self, name: str) -> Section:
        """Return test, differences and means of one of :data:`obuchowski_rockette.ANALYSES`."""
        term = engine.error_term(name, self.parts)
        test = None if term is None else engine.equality(self.parts, term)
        f, p = (None, None) if test is None else (number(test.f), number(test.p))
        df1 = None if test is None else test.df1
        ddf = None if test is None else number(test.ddf)
        section: Section = {"f": f, "df1": df1, "ddf": ddf, "p": p}
        if name == engine.FIXED_READERS:
            section = {"chi2": None if f is None or df1 is None else f * df1, "df": df1, "p": p}
        return {**section, "differences": self.differences(name), "methods": self.estimates(name)}

    def differences(self, name: str, *, reference: str | None = None) -> list[Section]:
        """Return differences of all pairs, first minus second; with a reference, of all others minus it."""
        term = engine.error_term(name, self.parts)
        if term is None:
            return []
        chosen = engine.pairs(len(self.methods))
        if reference is not None:
            second = self.methods.index(reference)
            chosen = [(first, second) for first in range(len(self.methods)) if first != second]
        rows: list[Section] = []
        for a, b in chosen:
            found = engine.difference(self.means[a] - self.means[b], term, alpha=self.alpha)
            rows.append(
                {"first": self.methods[a], "second": self.methods[b], **_plain(found)}
                | {"distribution": _distribution(term.df)}
            )
        return adjusted(rows, self.correction)

    def estimates(self, name: str) -> list[Section]:
        """Return each method's mean over readers with the interval of that method by itself."""
        rows = []
        for i, method in enumerate(self.methods):
            own = self.merit.covariance[i, :, i, :]
            term = engine.method_error_term(name, self.merit.theta[i], own, self.merit.unit)
            if term is None:
                nothing = dict.fromkeys(("se", "df", "low", "high", "distribution"))
                rows.append({"method": method, "mean": number(self.means[i]), **nothing})
                continue
            found = engine.estimate(self.means[i], term, alpha=self.alpha, bounds=self.measure.bounds)
            rows.append({"method": method, **_plain(found), "distribution": _distribution(term.df)})
        return rows

    def non_inferiority(self, name: str, *, reference: str, margin: float) -> list[Section]:
        """Return the test of each other method against the reference, with its verdict in words."""
        term = engine.error_term(name, self.parts)
        if term is None:
            return []
        second = self.methods.index(reference)
        better = self.measure.higher_is_better
        side, other = ("lower", "above") if better else ("upper", "below")
        rows: list[Section] = []
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
                {"method": method, "reference": reference, "margin": margin, **_plain(found)}
                | {"limit_side": side, "level": self.alpha / 2, "non_inferior": shown, "verdict": verdict}
                | {"distribution": _distribution(term.df)}
            )
        return adjusted(rows, self.correction)

    def per_reader(self) -> list[Section]:
        """Return every reader's own estimates; Wilson intervals where they are proportions."""
        from scipy import stats

        merit, rows = self.merit, []
        for j, reader in enumerate(self.readers):
            for i, method in enumerate(self.methods):
                theta, n = float(merit.theta[i, j]), int(merit.counts[i, j])
                se = _root(merit.covariance[i, j, i, j] * merit.unit)
                row = {"reader": reader, "method": method, "estimate": theta, "se": se, "n": n}
                if merit.events is not None:
                    events = int(merit.events[i, j])
                    ends = dict(zip(("low", "high"), wilson(events, n, alpha=self.alpha), strict=True))
                    rows.append({**row, **ends, "interval": "wilson", "events": events})
                    continue
                df = math.inf if self.measure.bounds else n - 1
                kind = "normal" if self.measure.bounds else "t"
                low: float | None = None
                high: float | None = None
                if se:
                    half = float(stats.t.ppf(1 - self.alpha / 2, df)) * se
                    least, most = self.measure.bounds or (-math.inf, math.inf)
                    low, high = max(theta - half, least), min(theta + half, most)
                rows.append({**row, "low": low, "high": high, "interval": kind, "events": None})
        return rows

    def per_reader_differences(self) -> list[Section]:
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
                names = {"reader": reader, "first": self.methods[a], "second": self.methods[b]}
                rows.append({**names, **_plain(found), "distribution": "normal"})
        return rows


def adjusted(rows: list[Section], correction: str) -> list[Section]:
    """Return the rows with ``p_adjusted`` behind ``p``; the family is all rows that have a p value."""
    require_in_set("correction", correction, tuple(CORRECTIONS))
    tested = [row for row in rows if row["p"] is not None]
    values = [row["p"] for row in tested]
    if len(values) > 1 and correction != "none":
        values = _corrected(values, correction)
    by_row = {id(row): value for row, value in zip(tested, values, strict=True)}
    complete = []
    for row in rows:
        place = list(row).index("p") + 1
        items = list(row.items())
        items.insert(place, ("p_adjusted", by_row.get(id(row))))
        complete.append(dict(items))
    return complete


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


def _plain(found: Any) -> Section:
    return {name: number(value) for name, value in found._asdict().items()}


def _distribution(df: float) -> str:
    return "normal" if math.isinf(df) else "t"


def _root(variance: Fraction) -> float | None:
    return math.sqrt(variance) if variance >= 0 else None


def listing(names: Iterable[str], most: int = 10) -> str:
    """Return names for a sentence, cut off behind ``most``."""
    found = list(names)
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")
