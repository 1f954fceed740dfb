"""The tables of an evaluation as text: a metric is a column, or with several contrasts a table of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from medrestore.evaluation.markdown import interval_text, markdown_table
from medrestore.evaluation.strata import contrast_tables, difference_rows
from medrestore.evaluation.titles import (
    DIAGNOSIS,
    NUCLEI,
    QUALITY,
    QUANTIFICATION,
    in_order,
    label_of,
    title_of,
)

__all__ = ["render"]


def render(summary: pd.DataFrame, differences: pd.DataFrame) -> str:
    """Return the tables as aligned Markdown, readable on a terminal too.

    Parameters
    ----------
    summary
        Of :func:`~medrestore.evaluation.tables.summary_table`.
    differences
        Of :func:`~medrestore.evaluation.tables.difference_table`.
    """
    by_contrast = summary["metric"].astype(str).str.contains("/")
    parts = _plain_tables(summary[~by_contrast]) + contrast_tables(summary[by_contrast])
    if len(differences):
        parts += ["### Paired differences", _difference_table(differences)]
    return "\n\n".join(parts) + "\n"


def _plain_tables(summary: pd.DataFrame) -> list[str]:
    """Return tables with metrics as columns."""
    parts = []
    cells = {(row["method"], row["metric"]): _cell(row["metric"], row) for row in summary.to_dict("records")}
    _mark_beyond(summary, cells)
    shown = [name for name in summary["metric"].unique() if name != "dose_equivalent_beyond"]
    for table in (QUALITY, DIAGNOSIS, QUANTIFICATION, NUCLEI):
        metrics = in_order([name for name in shown if title_of(name).table == table])
        body = [
            [label_of(method), *(cells.get((method, name), "n/a") for name in metrics)]
            for method in summary["method"].unique()
            if any((method, name) in cells for name in metrics)
        ]
        if metrics:
            head = ["Method", *(title_of(name).title for name in metrics)]
            parts += [f"### {table}", markdown_table(head, body)]
    return parts


def _difference_table(differences: pd.DataFrame) -> str:
    by_contrast = differences["metric"].str.contains("/").any()
    rows = (
        difference_rows(differences["metric"].unique())
        if by_contrast
        else {name: (name, title_of(name).title) for name in in_order(differences["metric"].unique())}
    )
    cells = {
        ((row["first"], row["second"]), row["metric"]): _cell(rows[row["metric"]][0], row, sign="+")
        for row in differences.to_dict("records")
        if row["metric"] in rows
    }
    pairs = list(dict.fromkeys(pair for pair, _ in cells))
    body = [[title, *(cells.get((pair, key), "n/a") for pair in pairs)] for key, (_, title) in rows.items()]
    head = ["Metric", *(f"{label_of(first)} - {label_of(second)}" for first, second in pairs)]
    return markdown_table(head, body)


def _cell(metric: str, row: Mapping[Any, Any], *, sign: str = "") -> str:
    digits = title_of(metric).digits
    return interval_text(row["mean"], row["low"], row["high"], digits=digits, sign=sign)


def _mark_beyond(summary: pd.DataFrame, cells: dict[tuple[str, str], str]) -> None:
    """Put >= before a mean dose equivalent some of whose subjects lie beyond the dose series."""
    for row in summary[summary["metric"] == "dose_equivalent_beyond"].to_dict("records"):
        if row["mean"] > 0:
            cells[row["method"], "dose_equivalent"] = f"≥ {cells[row['method'], 'dose_equivalent']}"
