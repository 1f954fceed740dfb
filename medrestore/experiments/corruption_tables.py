"""The tables of a corruption study as Markdown: a row for each variant, a column for each level."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from medrestore.evaluation.markdown import interval_text, markdown_table
from medrestore.experiments.corruption_results import StudyResults

__all__ = ["percent", "tables_text"]

NOT_KNOWN = "n/a"


def percent(level: float) -> str:
    """Return a level as a percentage.

    >>> percent(0.3), percent(0.125)
    ('30 %', '12.5 %')
    """
    return f"{100 * level:g} %"


def tables_text(found: StudyResults, *, notes: Sequence[str] = ()) -> str:
    """Return all tables of a study, readable on a terminal too.

    Parameters
    ----------
    found
        The numbers.
    notes
        Sentences that say below the tables how they came about.

    Returns
    -------
    str
        For every metric: the means, their change from the lowest level, the ratio of this change to that of
        the first variant, paired differences between variants, and the standard deviation over seeds.
    """
    parts = []
    for metric in found.metrics.in_order(found.results["metric"].unique()):
        parts += [f"## {found.metrics.title_of(metric).title}", *_of_metric(found, metric)]
    return "\n\n".join(parts) + "\n\n" + "".join(f"- {line}\n" for line in notes)


def _of_metric(found: StudyResults, metric: str) -> list[str]:
    digits, label_of = found.metrics.title_of(metric).digits, found.metrics.label_of
    levels, variants, untrained = found.levels, found.variants, found.study.reference
    means = _cells(found.results, metric, "variant", lambda row: _text(row, "mean", digits))
    reference = means.get((untrained, None))
    for level in levels if reference else ():
        means[untrained, level] = reference or ""
    names = [*variants, *([untrained] if reference else [])]
    parts = [_table("Method", names, levels, means, label_of)]
    changed = _cells(found.changes, metric, "variant", lambda row: _text(row, "change", digits, sign="+"))
    if changed:
        parts += [
            f"Change from {percent(levels[0])}:",
            _table("Method", variants, levels[1:], changed, label_of),
        ]
        ratios = _cells(found.changes, metric, "variant", _ratio)
        if len(variants) > 1:
            parts += [
                f"Ratio of this change to that of {label_of(variants[0])}:",
                _table("Method", variants[1:], levels[1:], ratios, label_of),
            ]
    pairs = _cells(found.differences, metric, "pair", lambda row: _text(row, "mean", digits, sign="+"))
    if pairs:
        labels = {pair: " - ".join(map(label_of, pair)) for pair, _ in pairs}
        table = _table("Methods", list(labels), levels, pairs, labels.__getitem__)
        parts += ["Paired differences at each level:", table]
    if found.seeds > 1:
        spread = found.by_seed[found.by_seed["metric"] == metric].groupby(["variant", "level"])["mean"].std()
        texts = {key: f"{value:.{digits + 1}f}" for key, value in spread.items()}
        parts += [
            "Standard deviation over seeds:",
            _table("Method", variants, levels, texts, label_of),
        ]
    return parts


def _cells(
    table: pd.DataFrame, metric: str, key: str, text: Callable[[Mapping[Any, Any]], str]
) -> dict[Any, str]:
    """Return the texts of a metric's cells by row and level; None is the level of what has none."""
    cells = {}
    for row in table[table["metric"] == metric].to_dict("records"):
        name = (row["first"], row["second"]) if key == "pair" else row[key]
        cells[name, None if math.isnan(row["level"]) else row["level"]] = text(row)
    return cells


def _table(
    head: str,
    names: Sequence[Any],
    levels: Sequence[float],
    cells: Mapping[Any, str],
    label: Callable[[Any], str],
) -> str:
    body = [[label(name), *(cells.get((name, level), NOT_KNOWN) for level in levels)] for name in names]
    return markdown_table([head, *(percent(level) for level in levels)], body)


def _text(row: Mapping[Any, Any], name: str, digits: int, *, sign: str = "") -> str:
    return interval_text(row[name], row["low"], row["high"], digits=digits, sign=sign)


def _ratio(row: Mapping[Any, Any]) -> str:
    if math.isnan(row["ratio"]):
        return NOT_KNOWN
    return interval_text(row["ratio"], row["ratio_low"], row["ratio_high"], digits=2)
