"""Stacked bars of a study: ratings of quality, and what images were taken for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pandas as pd

from medrestore.data.tables import records_of
from medrestore.study.analysis.guessed import BANG_LIMIT
from medrestore.study.analysis.guessed import UNKNOWN as NOT_TOLD
from medrestore.study.labels import ALL, arm_label, reader_label
from medrestore.study.report.figure_style import (
    DARK,
    GRAY,
    WIDTH,
    clean_axis,
    new_figure,
    svg_of,
    top_legend,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Patch

    from medrestore.study.analysis.reader_group import ReaderGroup

__all__ = ["draw_guesses", "draw_quality"]

QUALITY = ("#8c3d16", "#d8823f", "#d9d9d9", "#6aaed6", "#1f5f99")
"""Colors of five ratings, worst to best, told apart with every kind of color vision."""

KINDS = ("#4b4b4b", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00")
NOT_TOLD_COLOR = "#dddddd"


def draw_quality(group: ReaderGroup) -> bytes | None:
    """Draw how often each arm got each rating, all readers together and each by themselves."""
    table = group.tables.quality
    if table.empty:
        return None
    arms = [arm for arm in group.arms if arm in set(table["arm"])]
    levels = records_of(table.drop_duplicates("rating").sort_values("rating")[["rating", "label"]])
    colors = _level_colors(len(levels))
    readers = [ALL, *group.readers] if len(group.readers) > 1 else [ALL]
    bar, head, gap = 0.21, 0.3, 0.22
    columns = 2
    lines = 1 + math.ceil((len(readers) - 1) / columns)
    panel = bar * len(arms) + head
    top, bottom = 0.3, 0.45
    height = top + bottom + lines * panel + gap * (lines > 1)
    with new_figure(WIDTH, height) as figure:
        for number, reader in enumerate(readers):
            line, column = (0, 0) if number == 0 else (1 + (number - 1) // columns, (number - 1) % columns)
            left = 0.155 + column * 0.43
            width = 0.825 if number == 0 else 0.395
            lower = height - top - line * panel - panel - gap * (line > 0)
            axes = figure.add_axes((left, lower / height, width, bar * len(arms) / height))
            held = table[table["reader"] == reader]
            _quality_bars(axes, held, arms, levels, colors, counts=number == 0)
            axes.set_yticks(
                range(len(arms)), [wrapped(arm_label(arm)) for arm in arms] if column == 0 else []
            )
            weight = "bold" if number == 0 else "normal"
            axes.set_title(reader_label(reader, group.kind), pad=3, loc="left", fontweight=weight)
            axes.tick_params(labelbottom=number == 0 or number + columns >= len(readers))
        handles = [
            _patch(color, f"{level['rating']:g} {level['label']}")
            for level, color in zip(levels, colors, strict=True)
        ]
        top_legend(figure, handles, ncols=len(handles), handlelength=1, columnspacing=1.2, gap=0.01)
        figure.text(0.57, 0.06 / height, "Share of reads (%)", ha="center")
        return svg_of(figure)


def _quality_bars(
    axes: Axes,
    held: pd.DataFrame,
    arms: list[str],
    levels: list[dict[str, Any]],
    colors: list[str],
    *,
    counts: bool,
) -> None:
    number_of = {(row["arm"], row["rating"]): int(row["reads"]) for row in records_of(held)}
    for place, arm in enumerate(arms):
        total = sum(number_of.get((arm, level["rating"]), 0) for level in levels)
        parts = []
        for level, color in zip(levels, colors, strict=True):
            number = number_of.get((arm, level["rating"]), 0)
            share = number / total if total else 0
            shown = counts and share >= 0.012 * (1 + len(str(number)))
            parts.append((share, color, str(number) if shown else ""))
        _stacked_bar(axes, place, parts, height=0.78)
    _percent_axes(axes, len(arms))


def _stacked_bar(axes: Axes, place: int, parts: Iterable[tuple[float, str, str]], *, height: float) -> None:
    """Draw shares one behind the other, each with its color and text."""
    start = 0.0
    for share, color, text in parts:
        axes.barh(place, share, left=start, height=height, color=color, edgecolor="white", linewidth=0.6)
        if text:
            middle = start + share / 2
            axes.text(middle, place, text, ha="center", va="center", fontsize=7.5, color=_ink(color))
        start += share


def _percent_axes(axes: Axes, bars: int) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(bars - 0.5, -0.5)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100"])
    clean_axis(axes)


def _level_colors(count: int) -> list[str]:
    from matplotlib.colors import LinearSegmentedColormap, to_hex

    if count == len(QUALITY):
        return list(QUALITY)
    ramp = LinearSegmentedColormap.from_list("quality", list(QUALITY))
    return [to_hex(ramp(place / max(count - 1, 1))) for place in range(count)]


def draw_guesses(group: ReaderGroup) -> bytes | None:
    """Draw what images were taken for, and Bang's index of each kind; None when nobody was asked."""
    if group.guessed is None:
        return None
    counts, indices = group.guessed.counts, group.guessed.indices
    kinds = [name for name in counts.columns if name not in ("arm", "kind", "reads")]
    colors = dict(zip(kinds, [*KINDS[: len(kinds) - 1], NOT_TOLD_COLOR], strict=False))
    colors[NOT_TOLD] = NOT_TOLD_COLOR
    height = 0.85 + 0.27 * max(len(counts), len(indices))
    with new_figure(WIDTH, height) as figure:
        left = figure.add_axes((0.135, 0.45 / height, 0.4, 1 - 0.8 / height))
        for place, row in enumerate(records_of(counts)):
            parts = []
            for kind in kinds:
                share = row[kind] / row["reads"] if row["reads"] else 0
                text = f"{row[kind]}{' ✓' if kind == row['kind'] else ''}"
                parts.append((share, colors[kind], text if share >= 0.05 else ""))
            _stacked_bar(left, place, parts, height=0.74)
        left.set_yticks(range(len(counts)), [wrapped(arm_label(arm)) for arm in counts["arm"]])
        left.set_xlabel("Taken for (% of reads; ✓ right)")
        _percent_axes(left, len(counts))
        axes = figure.add_axes((0.72, 0.45 / height, 0.26, 1 - 0.8 / height))
        axes.axvspan(-BANG_LIMIT, BANG_LIMIT, color="#eeeeee", zorder=0)
        axes.axvline(0, color=GRAY, linewidth=0.8, zorder=1)
        for place, row in enumerate(records_of(indices)):
            axes.plot([row["low"], row["high"]], [place, place], color=DARK, linewidth=1.3)
            axes.plot(row["index"], place, "s", color=DARK, markersize=5)
        axes.set_yticks(range(len(indices)), [wrapped(kind) for kind in indices["kind"]])
        axes.set_ylim(len(indices) - 0.5, -0.5)
        axes.set_xlim(min(-0.6, float(indices["low"].min()) - 0.05), 1)
        axes.set_xlabel("Bang's blinding index")
        clean_axis(axes)
        handles = [_patch(colors[kind], kind) for kind in kinds]
        top_legend(figure, handles, ncols=min(len(handles), 4), handlelength=1, columnspacing=1.4, gap=0.01)
        return svg_of(figure)


def _ink(color: str) -> str:
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(color)
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else DARK


def _patch(color: str, label: str) -> Patch:
    from matplotlib.patches import Patch

    return Patch(facecolor=color, label=label)
