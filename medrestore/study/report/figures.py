"""Curves, boxes and points of a study: ROC curves, reading times, quantification."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from medrestore.study.analysis.roc import RocCurve, mean_roc
from medrestore.study.labels import arm_label
from medrestore.study.report.figure_style import (
    DARK,
    LIGHT,
    WIDTH,
    arm_styles,
    new_figure,
    svg_of,
    top_legend,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

    from medrestore.study.analysis.quantified import Quantified
    from medrestore.study.analysis.reader_group import ReaderGroup

__all__ = ["draw_quantified", "draw_roc", "draw_times"]

COLUMNS = 3

FASTEST_S, SLOWEST_S = 1.0, 3600.0
POSITIVE, NEGATIVE, UNKNOWN = "#c0392b", "#2c6fbb", "#888888"
"""As in the figure of an evaluation, whose module loads torch."""

TICKS_S = (0.5, 1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 60, 90, 120, 180, 300, 600, 1200, 3600)


def draw_roc(group: ReaderGroup) -> bytes | None:
    """Draw each reader's ROC curve and their mean, one panel an arm, then all means; None without scores."""
    arms = [arm for arm in group.arms if arm in group.curves]
    if not arms:
        return None
    styles = arm_styles(group.arms)
    means = {arm: mean_roc(list(group.curves[arm].values())) for arm in arms}
    panels = len(arms) + (len(arms) > 1)
    columns = min(COLUMNS, panels)
    lines = math.ceil(panels / columns)
    side = (WIDTH - 0.55 - 0.25 * columns) / COLUMNS
    width = 0.55 + columns * (side + 0.25)
    height = lines * (side + 0.62)
    with new_figure(width, height) as figure:
        for number in range(panels):
            row, column = divmod(number, columns)
            left, top = 0.5 + column * (side + 0.25), 0.25 + row * (side + 0.62)
            axes = figure.add_axes((left / width, 1 - (top + side) / height, side / width, side / height))
            _roc_axes(axes, first=column == 0, last=number + columns >= panels)
            if number < len(arms):
                arm = arms[number]
                for curve in group.curves[arm].values():
                    axes.plot(*curve, color=styles[arm].color, linewidth=0.7, alpha=0.45)
                axes.plot(*means[arm], color=styles[arm].color, linewidth=2.0)
                axes.set_title(arm_label(arm), pad=4)
                axes.text(0.97, 0.05, _areas(group.curves[arm], means[arm]), ha="right", fontsize=7.5)
                continue
            for arm in arms:
                axes.plot(
                    *means[arm],
                    color=styles[arm].color,
                    linestyle=styles[arm].dashes,
                    linewidth=1.6,
                    label=arm_label(arm),
                )
            axes.set_title("Means", pad=4)
            axes.legend(
                loc="lower right", handlelength=2.6, borderaxespad=0.2, fontsize=7.5, labelspacing=0.3
            )
        return svg_of(figure)


def _roc_axes(axes: Axes, *, first: bool, last: bool) -> None:
    axes.plot([0, 1], [0, 1], color=LIGHT, linewidth=0.7, zorder=0)
    axes.set(xlim=(-0.015, 1.0), ylim=(0, 1.015), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    axes.tick_params(labelleft=first)
    if first:
        axes.set_ylabel("Sensitivity")
    if last:
        axes.set_xlabel("1 − specificity")


def _areas(curves: Mapping[str, RocCurve], mean: RocCurve) -> str:
    areas = [curve.area for curve in curves.values()]
    text = f"mean AUC {mean.area:.3f}"
    return text if len(areas) == 1 else f"{text}\nreaders {min(areas):.3f} to {max(areas):.3f}"


def draw_times(group: ReaderGroup) -> bytes | None:
    """Draw reading times of each arm, and how they fell from session to session; None without times."""
    times = group.times
    if times.empty:
        return None
    arms = [arm for arm in group.arms if arm in set(times["arm"])]
    styles = arm_styles(group.arms)
    sessions = sorted(times["session"].unique())
    height = max(2.1, 0.8 + 0.32 * len(arms))
    with new_figure(WIDTH, height) as figure:
        left = figure.add_axes((0.135, 0.5 / height, 0.4, 1 - 0.75 / height))
        values = [
            times.loc[times["arm"] == arm, "seconds"].clip(FASTEST_S, SLOWEST_S).to_numpy() for arm in arms
        ]
        boxes = left.boxplot(
            values, orientation="horizontal", widths=0.55, patch_artist=True, whis=(5, 95), showfliers=False
        )
        for arm, box, median in zip(arms, boxes["boxes"], boxes["medians"], strict=True):
            box.set(facecolor="white", edgecolor=styles[arm].color, linewidth=1.1)
            median.set(color=styles[arm].color, linewidth=2)
        for part in ("whiskers", "caps"):
            for place, line in enumerate(boxes[part]):
                line.set(color=styles[arms[place // 2]].color, linewidth=0.9)
        left.set_yticks(range(1, len(arms) + 1), [wrapped(arm_label(arm)) for arm in arms])
        left.invert_yaxis()
        _seconds(left, "x", np.concatenate(values))
        left.set_xlabel("Reading time (s)")
        left.set_title("By condition", loc="left", pad=4)
        left.tick_params(axis="y", length=0)
        if len(sessions) > 1:
            right = figure.add_axes((0.63, 0.5 / height, 0.35, 1 - 0.75 / height))
            medians = times.pivot_table(
                index="reader", columns="session", values="seconds", aggfunc="median", sort=False
            )
            for _, row in medians.iterrows():
                right.plot(
                    sessions,
                    row.reindex(sessions),
                    color="#9a9a9a",
                    linewidth=0.9,
                    marker="o",
                    markersize=2.5,
                )
            whole = times.groupby("session")["seconds"].median().reindex(sessions)
            right.plot(sessions, whole, color=DARK, linewidth=2, marker="o", markersize=4)
            _seconds(right, "y", medians.to_numpy().ravel())
            right.set_xticks(sessions, [f"{session:g}" for session in sessions])
            right.set_xlabel("Session")
            right.set_ylabel("Median (s)")
            right.set_title("By session", loc="left", pad=4)
        return svg_of(figure)


def _seconds(axes: Axes, which: str, values: np.ndarray) -> None:
    """Show seconds on a logarithmic axis with plain numbers."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis = getattr(axes, f"{which}axis")
    getattr(axes, f"set_{which}scale")("log")
    held = values[np.isfinite(values)]
    low, high = float(np.quantile(held, 0.02)) / 1.3, float(np.quantile(held, 0.98)) * 1.3
    getattr(axes, f"set_{which}lim")(max(low, FASTEST_S / 2), high)
    ticks = [t for t in TICKS_S if low <= t <= high]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def draw_quantified(found: Quantified) -> bytes | None:
    """Draw Bland-Altman plots of a quantity, one panel an arm, all on the same axes."""
    if found.agreement.empty:
        return None
    rows = found.agreement.to_dict("records")
    columns = min(COLUMNS, len(rows))
    lines = math.ceil(len(rows) / columns)
    side, tall = (WIDTH - 0.65 - 0.2 * COLUMNS) / COLUMNS, 1.75
    width, height = 0.65 + columns * (side + 0.2), lines * (tall + 0.62) + 0.42
    held = found.per_case.dropna(subset=["difference"])
    middle = held[found.quantity.name] - held["difference"] / 2
    reach = max(
        1.15 * float(held["difference"].abs().max()),
        float(found.agreement[["lower", "upper"]].abs().max().max()) * 1.2,
    )
    reach = reach or 0.1  # images that are all the same
    kinds = [
        (1.0, POSITIVE, "o", "Positive"),
        (0.0, NEGATIVE, "^", "Negative"),
        (-1.0, UNKNOWN, "s", "Truth not known"),
    ]
    shown = [kind for kind in kinds if (held["truth"].fillna(-1) == kind[0]).any()]
    with new_figure(width, height) as figure:
        for number, row in enumerate(rows):
            line, column = divmod(number, columns)
            left, top = 0.62 + column * (side + 0.2), 0.64 + line * (tall + 0.62)
            axes = figure.add_axes((left / width, 1 - (top + tall) / height, side / width, tall / height))
            same = held["arm"] == row["arm"]
            axes.axhline(0, color="#bbbbbb", linewidth=0.7)
            axes.axhline(row["bias"], color=DARK, linewidth=1.2)
            for value in (row["lower"], row["upper"]):
                axes.axhline(value, color=DARK, linewidth=0.9, linestyle=(0, (4, 3)))
            for truth, color, marker, _ in shown:
                chosen = same & (held["truth"].fillna(-1) == truth)
                axes.scatter(
                    middle[chosen],
                    held.loc[chosen, "difference"],
                    s=15,
                    color=color,
                    marker=marker,
                    alpha=0.85,
                    linewidths=0,
                    zorder=3,
                )
            axes.set_title(f"{arm_label(row['arm'])}\n", pad=0)
            axes.text(
                0.5,
                1.02,
                f"{row['bias']:+.3f} ({row['lower']:+.3f}, {row['upper']:+.3f})".replace("-", "−"),
                transform=axes.transAxes,
                ha="center",
                fontsize=8,
            )
            axes.set_ylim(-reach, reach)
            axes.set_xlim(float(middle.min()) - 0.03, float(middle.max()) + 0.03)
            axes.tick_params(labelleft=column == 0)
            if column == 0:
                axes.set_ylabel(f"Difference in {found.quantity.title}")
            if number + columns >= len(rows):
                axes.set_xlabel(f"Mean {found.quantity.title}")
        handles = [_dot(color, marker, name) for _, color, marker, name in shown]
        top_legend(figure, handles, ncols=len(handles), handletextpad=0.2)
        return svg_of(figure)


def _dot(color: str, marker: str, label: str) -> Line2D:
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="", color=color, marker=marker, markersize=4.5, label=label)
