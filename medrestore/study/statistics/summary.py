"""An analysis as text: what was analyzed and under which conditions, then the tables."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from medrestore.checks import counted
from medrestore.study.measures import COVARIANCES, MEASURES
from medrestore.study.statistics import obuchowski_rockette as engine
from medrestore.study.statistics.results import (
    AgreementRow,
    ChiSquaredTest,
    DifferenceRow,
    MeanRow,
    NonInferiorityRow,
    ReaderRow,
    Results,
)

__all__ = ["aligned", "p_text", "summarize"]

WIDTH = 100
NONE = "-"
CONDITIONS = {
    engine.RANDOM: "other readers and cases like these, if both are random samples of those meant",
    engine.FIXED_READERS: "these readers alone, and other cases like these; not for other readers",
}


def summarize(results: Results) -> str:
    """Return an analysis as text."""
    blocks = [
        _heading(results),
        _means(results),
        _differences("Differences, first minus second", results.differences, results),
        _reference(results),
        _equality(results),
        _components(results),
        _per_reader(results),
        _agreement(results),
        _notes(results),
    ]
    return "\n\n".join(block for block in blocks if block)


def _heading(results: Results) -> str:
    measure, cases, readers = MEASURES[results.metric], results.cases, results.readers
    phrase = measure.phrase or measure.noun
    title = phrase[0].upper() + phrase[1:]
    if results.positive_from is not None:
        title += f", positive from {results.positive_from:g}"
    title += f" ({measure.direction} is better)"
    classes = ""
    if cases.positive is not None:
        classes = f" ({cases.positive} positive, {cases.negative} negative)"
    if cases.in_metric != cases.total:
        classes += f", of which {cases.in_metric} enter"
    missing = results.missing
    state = "no read missing"
    if missing.reads:
        state = f"{len(missing.reads)} missing reads declared ({missing.policy})"
    lines = [
        f"{title}: multi-reader multi-case analysis",
        "",
        f"Design      {counted(len(results.methods), 'method')} x {counted(readers.count, 'reader')} x "
        f"{counted(cases.total, 'case')}{classes}, fully crossed; {state}",
        "Analysis    Obuchowski-Rockette, degrees of freedom by Hillis; covariance over cases by "
        + COVARIANCES[results.covariance].title,
        f"Holds for   {CONDITIONS[results.conclusions_from]}",
        f"Level       {results.alpha:g} two-sided; correction of p values for several differences: "
        f"{results.correction}",
    ]
    return "\n".join(lines)


def _means(results: Results) -> str:
    rows = [
        (row.method, _value(row.mean), _value(row.se), _df(row), _interval(row)) for row in results.methods
    ]
    return aligned("Means over readers", ("method", "mean", "SE", "df", _level(results)), rows)


def _differences(title: str, found: Sequence[DifferenceRow], results: Results) -> str:
    if not found:
        return ""
    several = len(found) > 1
    rows = [
        (
            f"{row.first} - {row.second}",
            _signed(row.difference),
            _value(row.se),
            _df(row),
            _value(row.t, 3),
            p_text(row.p),
            *((p_text(row.p_adjusted),) if several else ()),
            _interval(row),
        )
        for row in found
    ]
    header = ("methods", "difference", "SE", "df", "t", "p", *(("p corrected",) if several else ()))
    return aligned(title, (*header, _level(results)), rows)


def _reference(results: Results) -> str:
    if results.reference is None:
        return ""
    if results.margin is None:
        title = f"Differences from the reference {results.reference!r}"
        return _differences(title, results.differences_from_reference, results)
    title = (
        f"Non-inferiority to {results.reference!r}, margin {results.margin:g}, one-sided at "
        f"{results.alpha / 2:g}"
    )
    rows = [
        (
            row.method,
            _signed(row.difference),
            f"{row.limit_side} {_signed(row.limit)}",
            _signed(row.bound),
            _value(row.t, 3),
            _df(row),
            p_text(row.p),
            p_text(row.p_adjusted),
        )
        for row in results.non_inferiority
    ]
    header = ("method", "difference", "limit", "bound", "T", "df", "p", "p corrected")
    verdicts = [f"  {row.method}: {row.verdict}." for row in results.non_inferiority]
    return "\n".join([aligned(title, header, rows), *verdicts])


def _equality(results: Results) -> str:
    if len(results.methods) < 2:
        return ""
    rows = []
    for name, test in results.tests.items():
        if isinstance(test, ChiSquaredTest):
            statistic, df = f"chi2 = {_value(test.chi2)}", f"{test.df}"
        else:
            infinite = NONE if test.df1 is None else f"{test.df1}, {_value(test.ddf, 2)}"
            statistic, df = f"F = {_value(test.f)}", infinite
        rows.append((engine.ANALYSES[name], statistic, df, p_text(test.p)))
    return aligned("Tests that all methods are equal", ("analysis", "statistic", "df", "p"), rows)


def _components(results: Results) -> str:
    names = {"var": "Var", "cov1": "Cov1", "cov2": "Cov2", "cov3": "Cov3"}
    names |= {"ms_t": "MS(T)", "ms_r": "MS(R)", "ms_tr": "MS(TR)", "var_r": "Var(R)", "var_tr": "Var(TR)"}
    header = tuple(names.values())
    values = [getattr(results.components, name) for name in names]
    row = tuple(NONE if value is None else f"{value:.4g}" for value in values)
    return aligned("Components", header, [row])


def _per_reader(results: Results) -> str:
    kinds = {"wilson": "Wilson", "normal": "normal", "t": "t"}
    kind = kinds[results.per_reader[0].interval]
    rows = [
        (
            row.reader,
            row.method,
            _value(row.estimate),
            NONE if row.events is None else f"{row.events}/{row.n}",
            _value(row.se),
            _interval(row),
        )
        for row in results.per_reader
    ]
    header = ("reader", "method", "estimate", "events", "SE", f"{_level(results)}, {kind}")
    return aligned("Each reader", header, rows, words=2)


def _agreement(results: Results) -> str:
    scale = results.agreement[0].scale if results.agreement else ""
    rows = [
        (row.method, row.coefficient, _value(row.value), _interval(row))
        for row in results.agreement
        if row.readers == "all" and row.scale == scale
    ]
    if not rows:
        return ""
    header = ("method", "coefficient", "value", _level(results))
    title = f"Agreement between readers in {scale}s (more in agreement.csv)"
    return aligned(title, header, rows, words=2)


def _notes(results: Results) -> str:
    if not results.notes:
        return ""
    lines = [
        textwrap.fill(note, WIDTH, initial_indent="- ", subsequent_indent="  ") for note in results.notes
    ]
    return "\n".join(["Notes", *lines])


def aligned(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1) -> str:
    """Return a table of text: the first columns, of words, to the left, the others to the right.

    >>> print(aligned("Ages", ("name", "years"), [("Ann", "7"), ("Bo", "12")]))
    Ages
      name  years
      Ann       7
      Bo       12
    """
    table = [tuple(header), *map(tuple, rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    lines = [title]
    for row in table:
        cells = [
            text.ljust(width) if column < words else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def p_text(p: float | None) -> str:
    """Return a p value as papers print it.

    >>> p_text(0.05166), p_text(0.00001), p_text(None)
    ('0.0517', '<0.0001', '-')
    """
    if p is None:
        return NONE
    return "<0.0001" if p < 0.0001 else f"{p:.4f}"


def _level(results: Results) -> str:
    return f"{100 * (1 - results.alpha):g} % interval"


def _value(value: float | None, digits: int = 4) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def _signed(value: float | None) -> str:
    return NONE if value is None else f"{value:+.4f}"


def _df(row: MeanRow | DifferenceRow | NonInferiorityRow) -> str:
    if row.df is None:
        return "inf" if row.distribution == "normal" else NONE
    return f"{row.df:.2f}"


def _interval(row: MeanRow | DifferenceRow | ReaderRow | AgreementRow) -> str:
    return NONE if row.low is None else f"{row.low:.4f} to {row.high:.4f}"
