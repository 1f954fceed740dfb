"""Forest plots of a study: differences between arms, estimates of each reader, coefficients of agreement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from medrestore.study.labels import ALL, arm_label, reader_label
from medrestore.study.measures import Measure
from medrestore.study.report.figure_style import (
    DARK,
    GRAY,
    LEGEND_LINE,
    LIGHT,
    WIDTH,
    arm_styles,
    clean_axis,
    legend_lines,
    legend_of_arms,
    new_figure,
    svg_of,
    wrapped,
)
from medrestore.study.statistics.results import DifferenceRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from medrestore.study.analysis.reader_group import ReaderGroup

__all__ = ["draw_agreement", "draw_differences", "draw_readers"]

ROW = 0.2
"""Height of a row in inches."""


def draw_differences(group: ReaderGroup) -> bytes | None:
    """Draw the difference of every arm to the reference, measure by measure; None when there is none.

    The primary comparison comes first, with its margin.
    """
    blocks = _blocks(group)
    if not blocks:
        return None
    # Differences in ratings and in shares of them are far larger than those in decisions: axes of their own.
    scales = dict.fromkeys(block.scale for block in blocks)
    parts = [[block for block in blocks if block.scale == scale] for scale in scales]
    reference = next((block.reference for block in blocks if block.reference), "")
    heights = [sum(1.25 + len(block.rows) for block in part) * ROW for part in parts]
    gap, top = 0.5, 0.22
    height = sum(heights) + gap * len(parts) + top
    with new_figure(WIDTH, height) as figure:
        start = top
        for part, size in zip(parts, heights, strict=True):
            axes = figure.add_axes((0.31, 1 - (start + size) / height, 0.34, size / height))
            _difference_axes(axes, part, reference)
            start += size + gap
        if reference:
            title = f"Difference to {arm_label(reference)}"
            figure.text(0.005, 1 - 0.12 / height, title, fontsize=8, color=GRAY)
        figure.text(0.665, 1 - 0.12 / height, "Difference (interval)", fontsize=8, color=GRAY)
        figure.text(0.985, 1 - 0.12 / height, "p", fontsize=8, color=GRAY, ha="right", style="italic")
        return svg_of(figure)


@dataclass(frozen=True)
class _Block:
    """Differences in one measure; those of one ``scale`` share an axis.

    ``reference`` is empty where all pairs are shown; ``bound`` is what the interval of the primary endpoint
    must not reach.
    """

    measure: Measure
    rows: Sequence[DifferenceRow]
    reference: str
    primary: bool = False
    bound: float | None = None

    @property
    def title(self) -> str:
        return f"{'Primary: ' if self.primary else ''}{self.measure.title}"

    @property
    def better(self) -> str:
        return f"{self.measure.direction} is better"

    @property
    def scale(self) -> str:
        return "" if self.measure.judged else self.measure.name


def _blocks(group: ReaderGroup) -> list[_Block]:
    blocks = []
    verdict = group.verdict
    if verdict is not None and group.primary is not None and verdict.difference.low is not None:
        bound = group.primary.margin
        if bound is not None and verdict.measure.higher_is_better:
            bound = -bound
        rows = [verdict.difference]
        blocks.append(_Block(verdict.measure, rows, verdict.reference, primary=True, bound=bound))
    for measure in group.measured:
        if not measure.complement_of:
            found = group.measures[measure.name]
            shown = [
                row for row in found.differences_from_reference or found.differences if row.low is not None
            ]
            if shown:
                blocks.append(_Block(measure, shown, found.reference or ""))
    return blocks


def _difference_axes(axes: Axes, blocks: Sequence[_Block], reference: str) -> None:
    place = 0.0
    reach = 0.0
    text = axes.get_yaxis_transform()
    for block in blocks:
        heading = place + 0.55
        axes.text(-0.9, heading, block.title, transform=text, fontweight="bold", va="center")
        axes.text(
            -0.02,
            heading,
            block.better,
            transform=text,
            va="center",
            ha="right",
            color=GRAY,
            fontsize=7.5,
        )
        place += 1.1
        digits = block.measure.digits
        if block.bound is not None:
            bound = float(block.bound)
            axes.plot(
                [bound, bound],
                [place - 0.45, place + len(block.rows) - 0.05],
                color="#D55E00",
                linewidth=1,
                linestyle=(0, (3, 2)),
            )
            side = "left" if bound > 0 else "right"
            axes.text(
                bound,
                place - 0.5,
                f"margin {bound:+g}".replace("-", "−"),
                color="#D55E00",
                fontsize=7.5,
                ha=side,
            )
            reach = max(reach, abs(bound))
        for row in block.rows:
            y = place + 0.35
            ends = [end for end in (row.low, row.high) if end is not None]
            axes.plot(ends, [y] * len(ends), color=DARK, linewidth=1.3, solid_capstyle="butt")
            axes.plot(row.difference, y, "s", color=DARK, markersize=5)
            name = arm_label(row.first)
            if row.second != reference:
                name = f"{name} − {arm_label(row.second)}"
            size = 8.5 * min(1.0, 34 / len(name))  # long names get smaller rather than longer
            axes.text(-0.87, y, name, transform=text, va="center", fontsize=size)
            cell = f"{row.difference:+.{digits}f} ({row.low:+.{digits}f}, {row.high:+.{digits}f})"
            axes.text(1.045, y, cell.replace("-", "−"), transform=text, va="center")
            axes.text(1.985, y, _short_p(row.p_adjusted), transform=text, va="center", ha="right")
            reach = max(reach, *map(abs, ends))
            place += 1
        place += 0.15
    axes.axvline(0, color=GRAY, linewidth=0.8, zorder=0)
    reach = reach or 1.0  # identical arms: differences of 0 without any spread
    axes.set_xlim(-1.08 * reach, 1.08 * reach)
    axes.set_ylim(place, 0)
    axes.set_yticks([])
    axes.locator_params(axis="x", nbins=6)
    clean_axis(axes)
    axes.set_xlabel("Difference in rating" if blocks[0].measure.bounds is None else "Difference")


STEP = 0.13
"""Height of an arm within a line of a chart, in inches."""


class _Mark(NamedTuple):
    """An estimate with its interval, in a line of a panel; ``low`` is None where there is no interval."""

    line: int
    arm: str
    value: float
    low: float | None
    high: float | None


class _Chart:
    """Intervals of every arm, line by line, in panels beside one another below a legend of the arms.

    ``lines`` is the most that a panel has, ``gap`` the inches between one line's arms and the next one's.
    """

    bottom = 0.42

    def __init__(self, group: ReaderGroup, arms: Sequence[str], *, lines: int, gap: float) -> None:
        self.arms, self.styles = list(arms), arm_styles(group.arms)
        self.line = STEP * len(arms) + gap
        self.edge = (gap + STEP) / 2
        self.labels = {arm: arm_label(arm) for arm in group.arms}
        self.top = 0.45 + LEGEND_LINE * legend_lines(self.labels)
        self.height = self.top + self.bottom + self.line * lines

    def panel(
        self,
        figure: Figure,
        box: tuple[float, float, float, float],
        title: str,
        marks: Iterable[_Mark],
        names: Sequence[str],
        *,
        looks: tuple[tuple[float, float], tuple[float, float]],
    ) -> Axes:
        """Draw a panel; ``looks`` are width and size of the marks in the first line, and in the others."""
        axes = figure.add_axes(box)
        for mark in marks:
            y = mark.line * self.line + self.arms.index(mark.arm) * STEP
            style, (width, marker) = self.styles[mark.arm], looks[mark.line > 0]
            if mark.low is not None and mark.high is not None:
                axes.plot([mark.low, mark.high], [y, y], color=style.color, linewidth=width)
            axes.plot(mark.value, y, style.marker, color=style.color, markersize=marker, clip_on=False)
        for place in range(1, len(names)):
            axes.axhline(place * self.line - self.edge, color=LIGHT, linewidth=0.6, zorder=0)
        axes.set_ylim(len(names) * self.line - 0.1, -0.12)
        middle = STEP * (len(self.arms) - 1) / 2
        axes.set_yticks([place * self.line + middle for place in range(len(names))], names)
        axes.set_title(title, pad=5)
        axes.grid(axis="x", color="#eeeeee", linewidth=0.6)
        axes.set_axisbelow(True)
        clean_axis(axes)
        return axes

    def finished(self, figure: Figure) -> bytes:
        """Return the figure with its legend."""
        legend_of_arms(figure, self.labels)
        return svg_of(figure)


def draw_readers(group: ReaderGroup, measures: Sequence[Measure]) -> bytes | None:
    """Draw the estimates of each reader and of all together, one panel a measure; None when there is none.

    Parameters
    ----------
    group
        Of the readers.
    measures
        Of those that were analyzed.
    """
    if not measures:
        return None
    arms = [arm for arm in group.arms if any(arm in _methods(group, measure) for measure in measures)]
    readers = [ALL, *group.readers]
    names = [
        reader_label(ALL, group.kind),
        *(wrapped(reader_label(name, group.kind)) for name in group.readers),
    ]
    chart = _Chart(group, arms, lines=len(readers), gap=0.14)
    left = 0.155
    with new_figure(WIDTH, chart.height) as figure:
        width = (0.985 - left) / len(measures)
        tall = (chart.height - chart.top - chart.bottom) / chart.height
        for column, measure in enumerate(measures):
            found = group.measures[measure.name]
            marks = [_Mark(0, row.method, row.mean, row.low, row.high) for row in found.methods] + [
                _Mark(readers.index(row.reader), row.method, row.estimate, row.low, row.high)
                for row in found.per_reader
                if row.reader in readers
            ]
            box = (left + column * width, chart.bottom / chart.height, width * 0.9, tall)
            axes = chart.panel(figure, box, measure.title, marks, names, looks=((1.8, 5.5), (1.0, 4)))
            if column:
                axes.set_yticklabels([])
            else:
                axes.get_yticklabels()[0].set_fontweight("bold")
            axes.locator_params(axis="x", nbins=5)
        return chart.finished(figure)


def _methods(group: ReaderGroup, measure: Measure) -> list[str]:
    return [row.method for row in group.measures[measure.name].methods]


def draw_agreement(group: ReaderGroup, titles: Mapping[str, str]) -> bytes | None:
    """Draw the coefficients of agreement between all readers, one panel a question; None when there is none.

    Parameters
    ----------
    group
        Of the readers.
    titles
        Question -> title of its panel.
    """
    table = group.tables.agreement_between_readers
    if table.empty:
        return None
    table = table[(table["readers"] == ALL) & table["value"].notna()]
    parts = {question: table[table["question"] == question] for question in titles}
    parts = {question: held for question, held in parts.items() if len(held)}
    if not parts:
        return None
    most = max(held["coefficient"].nunique() for held in parts.values())
    chart = _Chart(group, group.arms, lines=most, gap=0.13)
    with new_figure(WIDTH, chart.height) as figure:
        width = 1 / len(parts)
        for column, (question, held) in enumerate(parts.items()):
            coefficients = list(held["coefficient"].unique())
            marks = [
                _Mark(
                    coefficients.index(row["coefficient"]),
                    *(row[name] for name in ("arm", "value", "low", "high")),
                )
                for row in held.to_dict("records")
            ]
            tall = chart.line * len(coefficients) / chart.height
            box = (column * width + 0.21, 1 - chart.top / chart.height - tall, width - 0.235, tall)
            names = [_coefficient(name) for name in coefficients]
            axes = chart.panel(figure, box, titles[question], marks, names, looks=((1.2, 4.5), (1.2, 4.5)))
            lowest = min(float(pd.to_numeric(held[name]).min()) for name in ("value", "low"))
            axes.set_xlim(min(0.0, lowest - 0.03), 1.0)
        return chart.finished(figure)


def _coefficient(name: str) -> str:
    """Return a coefficient's name in two lines."""
    text = name[0].upper() + name[1:]
    return (
        text.replace(" alpha, ", "\nalpha, ")
        .replace(", quadratic", ",\nquadratic")
        .replace("Percent ", "Percent\n")
    )


def _short_p(p: float | None) -> str:
    if p is None:
        return "–"
    return "<0.001" if p < 0.001 else f"{p:.3f}"
