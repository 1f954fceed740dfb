"""The tables of an evaluation as text: a metric is a column, or with strata a table of its own."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pandas as pd

from medrestore.evaluation.markdown import interval_text, markdown_table
from medrestore.evaluation.strata import difference_rows, stratum_tables
from medrestore.evaluation.titles import DIAGNOSIS, QUALITY, Metrics

__all__ = ["render"]


def render(
    summary: pd.DataFrame,
    differences: pd.DataFrame,
    metrics: Metrics,
    *,
    verdicts: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return the tables as aligned Markdown, readable on a terminal too.

    Parameters
    ----------
    summary
        Of :func:`~medrestore.evaluation.tables.summary_table`.
    differences
        Of :func:`~medrestore.evaluation.tables.difference_table`.
    metrics
        Of the kind of image.
    verdicts
        Sentence of each restoration, of :func:`~medrestore.evaluation.verdict.verdict_sentences`: they stand
        first.
    """
    stratified = summary["metric"].astype(str).str.contains("/")
    said = [f"**{metrics.label_of(method)}**: {text}" for method, text in verdicts.items()]
    parts = ["### Verdict", *said] if said else []
    parts += _plain_tables(summary[~stratified], metrics) + stratum_tables(summary[stratified], metrics)
    if len(differences):
        parts += ["### Paired differences", _difference_table(differences, metrics)]
    return "\n\n".join(parts) + "\n"


def _plain_tables(summary: pd.DataFrame, metrics: Metrics) -> list[str]:
    """Return tables with metrics as columns."""
    parts = []
    cells = {
        (row["method"], row["metric"]): _cell(row["metric"], row, metrics)
        for row in summary.to_dict("records")
    }
    beyond = {f"{name}_beyond": name for name in metrics.bounded}
    for row in summary[summary["metric"].isin(list(beyond))].to_dict("records"):
        if row["mean"] > 0:
            place = row["method"], beyond[row["metric"]]
            cells[place] = f"≥ {cells[place]}"
    shown = [name for name in summary["metric"].unique() if name not in beyond]
    tables = dict.fromkeys([QUALITY, DIAGNOSIS, *(title.table for title in metrics.titles.values())])
    for table in tables:
        names = metrics.in_order([name for name in shown if metrics.title_of(name).table == table])
        body = [
            [metrics.label_of(method), *(cells.get((method, name), "n/a") for name in names)]
            for method in summary["method"].unique()
            if any((method, name) in cells for name in names)
        ]
        if names:
            head = ["Method", *(metrics.title_of(name).title for name in names)]
            parts += [f"### {table}", markdown_table(head, body)]
    return parts


def _difference_table(differences: pd.DataFrame, metrics: Metrics) -> str:
    keys = differences["metric"].unique()
    rows = (
        difference_rows(keys, metrics)
        if differences["metric"].str.contains("/").any()
        else {name: (name, metrics.title_of(name).title) for name in metrics.in_order(keys)}
    )
    cells = {
        ((row["first"], row["second"]), row["metric"]): _cell(rows[row["metric"]][0], row, metrics, sign="+")
        for row in differences.to_dict("records")
        if row["metric"] in rows
    }
    pairs = list(dict.fromkeys(pair for pair, _ in cells))
    body = [[title, *(cells.get((pair, key), "n/a") for pair in pairs)] for key, (_, title) in rows.items()]
    head = ["Metric", *(f"{metrics.label_of(first)} - {metrics.label_of(second)}" for first, second in pairs)]
    return markdown_table(head, body)


def _cell(metric: str, row: Mapping[Any, Any], metrics: Metrics, *, sign: str = "") -> str:
    digits = metrics.title_of(metric).digits
    return interval_text(row["mean"], row["low"], row["high"], digits=digits, sign=sign)
