"""The figure of a corruption study: quality against the level of corruption, as in the paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from medrestore.evaluation.drawing import GRAY, SOFT, bare
from medrestore.experiments.corruption_results import StudyResults
from medrestore.experiments.description import methods_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["corruption_figure"]

# Okabe and Ito's colors, told apart by readers who are color-blind too; markers tell them apart in print.
STYLES = (
    *(("#D55E00", "o"), ("#E69F00", "s"), ("#0072B2", "D"), ("#009E73", "^")),
    *(("#CC79A7", "v"), ("#56B4E9", "P"), ("#000000", "X"), ("#8C6D31", "*")),
)

FARTHEST = 1.5
"""The reference line is drawn where the panel becomes at most this much higher by it; else its value is
written at the edge, so that the variants can still be told apart."""


class _Limits(NamedTuple):
    low: float
    high: float
    reference_inside: bool


def corruption_figure(found: StudyResults) -> Figure:
    """Return the figure of a study: a panel for each metric, a line for each variant.

    Metrics without numbers are left out; a method of the study has the same color whichever others are there.

    Notes
    -----
    Bands are 95 % bootstrap intervals over patients, faint points right of the markers the means of single
    seeds; the dashed line is the reference.
    """
    from matplotlib.figure import Figure

    panels, methods = found.study.panels, methods_of(found.study.runs)
    measured = list(found.results["metric"].unique())
    shown = [name for name in panels if name in measured] or measured[:3]
    figure = Figure(figsize=(4.1 * len(shown), 4.3), dpi=150, facecolor="white")
    places = figure.subplots(1, len(shown), squeeze=False)[0]
    others = [name for name in found.variants if name not in methods]
    styles = {name: STYLES[place % len(STYLES)] for place, name in enumerate([*methods, *others])}
    for axes, metric in zip(places, shown, strict=True):
        _draw_panel(axes, found, metric, styles)
        title = found.metrics.title_of(metric).title
        axes.set_title(f"{title} ({panels[metric]})" if metric in panels else title, fontsize=12)
    handles, labels = places[0].get_legend_handles_labels()
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


def _draw_panel(axes: Axes, found: StudyResults, metric: str, styles: Mapping[str, tuple[str, str]]) -> None:
    from matplotlib.transforms import ScaledTranslation

    rows = found.results[found.results["metric"] == metric]
    points = found.by_seed[found.by_seed["metric"] == metric]
    several = found.seeds > 1
    levels = 100 * np.asarray(found.levels)
    width = float(np.ptp(levels)) or 10.0
    for place, variant in enumerate(found.variants):
        color, marker = styles[variant]
        held = rows[rows["variant"] == variant].sort_values("level")
        at = 100 * held["level"].to_numpy()
        axes.fill_between(at, held["low"], held["high"], color=color, alpha=0.13, linewidth=0)
        label = found.metrics.label_of(variant)
        axes.plot(at, held["mean"], color=color, marker=marker, markersize=6, linewidth=2, label=label)
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
    trained = rows.dropna(subset=["level"])
    reference = rows.loc[rows["level"].isna(), "mean"]
    limits = _limits(trained, points if several else points.iloc[:0], reference)
    axes.set_ylim(limits.low, limits.high)
    if len(reference):
        label, digits = found.metrics.label_of(found.study.reference), found.metrics.title_of(metric).digits
        _draw_reference(axes, float(reference.iloc[0]), label, limits, digits)
    axes.set_xlim(levels[0] - 0.03 * width, levels[-1] + 0.07 * width)
    axes.set_xticks(levels if len(levels) <= 6 else levels[::2])
    axes.set_xlabel("Corrupted training pairs (%)", fontsize=11)
    axes.tick_params(labelsize=10)
    bare(axes, grid="y")


def _limits(trained: pd.DataFrame, points: pd.DataFrame, reference: pd.Series[float]) -> _Limits:
    """Return the ends of the axis, and whether the reference line lies between them."""
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


def _draw_reference(axes: Axes, value: float, label: str, limits: _Limits, digits: int) -> None:
    style: dict[str, Any] = {"color": GRAY, "linestyle": "--", "linewidth": 1.5}
    if limits.reference_inside:
        axes.axhline(value, label=label, **style)
        return
    axes.plot([], [], label=label, **style)
    above = value > limits.high
    axes.text(
        0.98,
        0.97 if above else 0.03,
        f"{label} {value:.{digits}f} {'↑' if above else '↓'}",
        transform=axes.transAxes,
        ha="right",
        va="top" if above else "bottom",
        fontsize=9.5,
        color=GRAY,
    )
