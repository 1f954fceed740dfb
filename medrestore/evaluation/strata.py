"""Tables of an evaluation with strata: one a metric, methods as rows, strata as columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pandas as pd

from medrestore.evaluation.markdown import interval_text, markdown_table
from medrestore.evaluation.titles import MEAN, MetricKey, Metrics, Strata

__all__ = ["difference_rows", "stratum_tables"]

Cells = dict[tuple[str, MetricKey], str]


def stratum_tables(summary: pd.DataFrame, metrics: Metrics) -> list[str]:
    """Return titles and tables of the metrics of strata, as Markdown.

    Parameters
    ----------
    summary
        Of :func:`~medrestore.evaluation.tables.summary_table`, rows of metrics of a stratum alone.
    metrics
        Of the kind of image.
    """
    cells: Cells = {}
    beyond = {f"{name}_beyond": name for name in metrics.bounded}
    past: list[tuple[str, MetricKey]] = []
    for row in summary.to_dict("records"):
        key = MetricKey.parse(row["metric"])
        if key.name in beyond:
            past += [(row["method"], replace(key, name=beyond[key.name]))] if row["mean"] > 0 else []
            continue
        digits = metrics.title_of(key.name).digits
        cells[row["method"], key] = interval_text(row["mean"], row["low"], row["high"], digits=digits)
    cells |= {place: f"≥ {cells[place]}" for place in past}
    methods, strata = list(summary["method"].unique()), metrics.strata
    labels = {method: metrics.label_of(method) for method in methods}
    shown = metrics.in_order(key.name for _, key in cells if metrics.title_of(key.name).shown)
    titles = {name: metrics.title_of(name) for name in shown}
    parts: list[str] = []
    for name, title in titles.items():
        if title.table not in strata.joined:
            heads = {key: strata.title_of(key.stratum) for key in _keys(cells, name, strata)}
            parts += _table(title.title, cells, labels, heads)
    for table, title_of_all in strata.joined.items():
        heads = {
            key: f"{strata.title_of(key.stratum)}: {title.title}"
            for name, title in titles.items()
            if title.table == table
            for key in _keys(cells, name, strata)
        }
        parts += _table(title_of_all, cells, labels, heads)
    groups = sorted({key.group for _, key in cells if key.group})
    for name, title in titles.items():
        if name in strata.apart and groups:
            keys = {(key.stratum, key.group) for _, key in cells if key.name == name and key.group}
            columns = strata.in_order(stratum for stratum, _ in keys)
            body = [
                [
                    f"{labels[method]}, {group}",
                    *(cells.get((method, MetricKey(name, stratum, group)), "n/a") for stratum in columns),
                ]
                for method in methods
                for group in groups
                if any((method, MetricKey(name, stratum, group)) in cells for stratum in columns)
            ]
            head = ["Method, group", *(strata.title_of(stratum) for stratum in columns)]
            parts += [f"### {title.title}: {' and '.join(groups)} apart", markdown_table(head, body)]
    return parts


def _keys(cells: Cells, name: str, strata: Strata) -> list[MetricKey]:
    held = {key.stratum for _, key in cells if key.name == name and not key.group}
    return [MetricKey(name, stratum) for stratum in strata.in_order(held)]


def _table(title: str, cells: Cells, labels: Mapping[str, str], heads: dict[MetricKey, str]) -> list[str]:
    """Return a title and a table with a column for each key; nothing without keys."""
    body = [
        [label, *(cells.get((method, key), "n/a") for key in heads)]
        for method, label in labels.items()
        if any((method, key) in cells for key in heads)
    ]
    return [f"### {title}", markdown_table(["Method", *heads.values()], body)] if body else []


def difference_rows(keys: Iterable[str], metrics: Metrics) -> dict[str, tuple[str, str]]:
    """Return the metrics whose paired differences are shown: name and title by key, in the table's order.

    Those of all subjects; of a classifier's accuracies that of slices. The kind of image says
    which strata come first.
    """
    strata = metrics.strata
    parsed = {key: MetricKey.parse(key) for key in keys}
    held = {
        key: item
        for key, item in parsed.items()
        if not item.group and metrics.title_of(item.name).shown and not item.name.endswith("_patch_accuracy")
    }
    order = strata.in_order(item.stratum for item in held.values())
    first = list(strata.first)
    order.sort(key=lambda name: (first.index(name) if name in first else len(first), name == MEAN))
    names = metrics.in_order(item.name for item in held.values())
    ranked = sorted(held, key=lambda key: (order.index(held[key].stratum), names.index(held[key].name)))
    return {
        key: (
            held[key].name,
            f"{strata.title_of(held[key].stratum)}, {metrics.title_of(held[key].name).title}",
        )
        for key in ranked
    }
