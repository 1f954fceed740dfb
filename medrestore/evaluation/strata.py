"""Tables of an evaluation with several contrasts: one a metric, methods as rows, contrasts as columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from medrestore.evaluation.markdown import interval_text, markdown_table
from medrestore.evaluation.titles import (
    LESIONS,
    MEAN,
    MetricKey,
    contrast_title,
    in_order,
    in_order_of_contrasts,
    label_of,
    title_of,
)

__all__ = ["FIRST", "contrast_tables", "difference_rows"]

FIRST = ("t1w", "t2_flair")
"""Contrasts whose paired differences come first: that of the paper's table 2, and the hardest one."""

APART = ("psnr", "ssim", "observer_slice_accuracy", "observer_1_slice_accuracy")
"""Metrics that are shown for each group of subjects."""

Cells = dict[tuple[str, MetricKey], str]


def contrast_tables(summary: pd.DataFrame) -> list[str]:
    """Return titles and tables of the metrics of contrasts, as Markdown.

    Parameters
    ----------
    summary
        Of :func:`~medrestore.evaluation.tables.summary_table`, rows of metrics of a contrast alone.
    """
    cells: Cells = {}
    for row in summary.to_dict("records"):
        key = MetricKey.parse(row["metric"])
        digits = title_of(key.name).digits
        cells[row["method"], key] = interval_text(row["mean"], row["low"], row["high"], digits=digits)
    methods = list(summary["method"].unique())
    shown = in_order(key.name for _, key in cells if title_of(key.name).shown)
    parts: list[str] = []
    for name in shown:
        if title_of(name).table != LESIONS:
            parts += _table(title_of(name).title, cells, methods, _keys(cells, name))
    lesions = [key for name in shown if title_of(name).table == LESIONS for key in _keys(cells, name)]
    parts += _table("Lesions, segmented independently", cells, methods, lesions, several=True)
    groups = sorted({key.group for _, key in cells if key.group})
    for name in shown:
        if name in APART and groups:
            parts += _apart(name, groups, cells, methods)
    return parts


def _keys(cells: Cells, name: str, group: str = "") -> list[MetricKey]:
    contrasts = {key.contrast for _, key in cells if key.name == name and key.group == group}
    return [MetricKey(name, contrast, group) for contrast in in_order_of_contrasts(contrasts)]


def _table(
    title: str, cells: Cells, methods: Sequence[str], keys: Sequence[MetricKey], *, several: bool = False
) -> list[str]:
    """Return a title and a table with a column for each key; nothing without keys."""
    body = [
        [label_of(method), *(cells.get((method, key), "n/a") for key in keys)]
        for method in methods
        if any((method, key) in cells for key in keys)
    ]
    if not body:
        return []
    heads = [
        f"{contrast_title(key.contrast)}: {title_of(key.name).title}"
        if several
        else contrast_title(key.contrast)
        for key in keys
    ]
    return [f"### {title}", markdown_table(["Method", *heads], body)]


def _apart(name: str, groups: Sequence[str], cells: Cells, methods: Sequence[str]) -> list[str]:
    """Return a table with a row for each method and group."""
    columns = {group: _keys(cells, name, group) for group in groups}
    contrasts = in_order_of_contrasts(key.contrast for keys in columns.values() for key in keys)
    body = [
        [
            f"{label_of(method)}, {group}",
            *(cells.get((method, MetricKey(name, contrast, group)), "n/a") for contrast in contrasts),
        ]
        for method in methods
        for group in groups
        if any((method, key) in cells for key in columns[group])
    ]
    head = ["Method, group", *(contrast_title(contrast) for contrast in contrasts)]
    return [f"### {title_of(name).title}: {' and '.join(groups)} apart", markdown_table(head, body)]


def difference_rows(keys: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return the metrics whose paired differences are shown: name and title by key, in the table's order.

    Those of all subjects; of a classifier's accuracies that of slices. T1w and T2-FLAIR come first.

    >>> difference_rows(["t2w/psnr", "patient/t1w/psnr", "t1w/psnr"])
    {'t1w/psnr': ('psnr', 'T1w, PSNR (dB)'), 't2w/psnr': ('psnr', 'T2w, PSNR (dB)')}
    """
    parsed = {key: MetricKey.parse(key) for key in keys}
    held = {
        key: item
        for key, item in parsed.items()
        if not item.group and title_of(item.name).shown and not item.name.endswith("_patch_accuracy")
    }
    contrasts = in_order_of_contrasts(item.contrast for item in held.values())
    contrasts.sort(key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name == MEAN))
    names = in_order(item.name for item in held.values())
    order = sorted(held, key=lambda key: (contrasts.index(held[key].contrast), names.index(held[key].name)))
    return {
        key: (held[key].name, f"{contrast_title(held[key].contrast)}, {title_of(held[key].name).title}")
        for key in order
    }
