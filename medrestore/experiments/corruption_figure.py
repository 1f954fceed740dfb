"""The figure of a corruption study: quality against the level of corruption, as in the paper."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from medrestore.domains.histology.domain import DOMAIN
from medrestore.evaluation.drawing import GRAY, SOFT, bare
from medrestore.experiments.corruption_results import REFERENCE, StudyResults
from medrestore.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

label_of = DOMAIN.metrics.label_of

__all__ = ["METRICS", "corruption_figure", "draw_corruption"]

METRICS = ("rrmse", "ms_mssim", "qilv")
"""The panels of the paper's Figure 3."""

BETTER = {"rrmse": "lower is better", "ms_mssim": "higher is better", "qilv": "higher is better"}

# Okabe and Ito's colors, told apart by readers who are color-blind too; markers tell them apart in print.
STYLES = {
    "srgan": ("#D55E00", "o"),
    "e": ("#E69F00", "s"),
    "qe": ("#0072B2", "D"),
    "sqe": ("#009E73", "^"),
}
OTHERS = (("#CC79A7", "v"), ("#56B4E9", "P"), ("#000000", "X"), ("#8C6D31", "*"))

FARTHEST = 1.5
"""The reference line is drawn where the panel becomes at most this much higher by it; else its value is
written at the edge, so that the variants can still be told apart."""


class _Limits(NamedTuple):
    low: float
    high: float
    reference_inside: bool


def draw_corruption(found: StudyResults, *, path: str | os.PathLike[str]) -> None:
    """Draw the figure of :func:`corruption_figure` into a PNG file."""
    with atomic_path(path) as temporary:
        corruption_figure(found).savefig(temporary, format="png")


def corruption_figure(found: StudyResults, *, metrics: Sequence[str] = METRICS) -> Figure:
    """Return the figure of a study: a panel for each metric, a line for each variant.

    Parameters
    ----------
    found
        The numbers.
    metrics
        Of the panels; those without numbers are left out.

    Notes
    -----
    Bands are 95 % bootstrap intervals over patients, faint points right of the markers the means of single
    seeds; the dashed line is bicubic enlargement.
    """
    from matplotlib.figure import Figure

    measured = list(found.results["metric"].unique())
    shown = [name for name in metrics if name in measured] or measured[:3]
    figure = Figure(figsize=(4.1 * len(shown), 4.3), dpi=150, facecolor="white")
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    for axes, metric in zip(panels, shown, strict=True):
        _draw_panel(axes, found, metric)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="upper center", ncols=len(labels), frameon=False, fontsize=11, handlelength=2.6
    )
    figure.text(0.5, 0.015, _caption(found), ha="center", fontsize=9, color=SOFT)
    figure.tight_layout(rect=(0, 0.045, 1, 0.92), w_pad=2.0)
    return figure


def _caption(found: StudyResults) -> str:
    patients = int(found.results["patients"].max())
    several = found.seeds > 1
    over = [f"{patients} test patients"] * (patients > 1) + [f"{found.seeds} seeds"] * several
    parts = [f"Lines: mean over {' and '.join(over)}."] if over else []
    parts += ["Bands: 95 % interval over patients."] if patients > 1 else ["One test patient: no intervals."]
    return " ".join([*parts, *["Faint points: single seeds."] * several])


def _draw_panel(axes: Axes, found: StudyResults, metric: str) -> None:
    from matplotlib.transforms import ScaledTranslation

    rows = found.results[found.results["metric"] == metric]
    points = found.by_seed[found.by_seed["metric"] == metric]
    variants, several = found.variants, found.seeds > 1
    levels = 100 * np.asarray(found.levels)
    width = float(np.ptp(levels)) or 10.0
    spare = list(OTHERS)
    for place, variant in enumerate(variants):
        color, marker = STYLES[variant] if variant in STYLES else spare.pop(0) if spare else OTHERS[0]
        held = rows[rows["variant"] == variant].sort_values("level")
        at = 100 * held["level"].to_numpy()
        axes.fill_between(at, held["low"], held["high"], color=color, alpha=0.13, linewidth=0)
        axes.plot(
            at, held["mean"], color=color, marker=marker, markersize=6, linewidth=2, label=label_of(variant)
        )
        if several:
            one = points[points["variant"] == variant]
            # In points, right of the markers, which would cover them.
            beside = ScaledTranslation((6 + 2 * place) / 72, 0, axes.figure.dpi_scale_trans)
            axes.scatter(
                100 * one["level"],
                one["mean"],
                s=14,
                color=color,
                alpha=0.5,
                linewidths=0,
                transform=axes.transData + beside,
            )
    reference = rows.loc[rows["variant"] == REFERENCE, "mean"]
    limits = _limits(rows, points if several else points.iloc[:0], reference)
    axes.set_ylim(limits.low, limits.high)
    if len(reference):
        _draw_reference(axes, float(reference.iloc[0]), limits, DOMAIN.metrics.title_of(metric).digits)
    axes.set_xlim(levels[0] - 0.03 * width, levels[-1] + 0.07 * width)
    axes.set_xticks(levels if len(levels) <= 6 else levels[::2])
    axes.set_xlabel("Corrupted training pairs (%)", fontsize=11)
    title = DOMAIN.metrics.title_of(metric).title
    axes.set_title(f"{title} ({BETTER[metric]})" if metric in BETTER else title, fontsize=12)
    axes.tick_params(labelsize=10)
    bare(axes, grid="y")


def _limits(rows: pd.DataFrame, points: pd.DataFrame, reference: pd.Series[float]) -> _Limits:
    """Return the ends of the axis, and whether the reference line lies between them."""
    trained = rows[rows["variant"] != REFERENCE]
    values = pd.concat([trained["mean"], trained["low"], trained["high"], points["mean"]]).dropna()
    low, high = float(values.min()), float(values.max())
    inside = False
    if len(reference):
        line = float(reference.iloc[0])
        wider_low, wider_high = min(low, line), max(high, line)
        inside = wider_high - wider_low <= FARTHEST * (high - low)
        if inside:
            low, high = wider_low, wider_high
    margin = 0.08 * (high - low) or 0.05 * abs(high) or 0.05
    return _Limits(low - margin, high + margin, inside)


def _draw_reference(axes: Axes, value: float, limits: _Limits, digits: int) -> None:
    style: dict[str, Any] = {"color": GRAY, "linestyle": "--", "linewidth": 1.5}
    if limits.reference_inside:
        axes.axhline(value, label=label_of(REFERENCE), **style)
        return
    axes.plot([], [], label=label_of(REFERENCE), **style)
    above = value > limits.high
    axes.text(
        0.98,
        0.97 if above else 0.03,
        f"{label_of(REFERENCE)} {value:.{digits}f} {'↑' if above else '↓'}",
        transform=axes.transAxes,
        ha="right",
        va="top" if above else "bottom",
        fontsize=9.5,
        color=GRAY,
    )
