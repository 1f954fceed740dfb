"""What figures share: palette and style, pages laid out in inches, slices as radiologists look at them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from medrestore.data.grid import steps_in
from medrestore.evaluation.titles import Metrics

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

__all__ = [
    "BLUE",
    "GRAY",
    "INK",
    "QUARTILES",
    "RED",
    "SOFT",
    "Columns",
    "Page",
    "at_quartiles",
    "at_share",
    "bare",
    "colors_of",
    "draw_intervals",
    "frame",
    "head_box",
    "height_of_intervals",
    "show_slice",
    "wrapped",
]

INK, SOFT, GRAY, LINE, GRID = "#222222", "#444444", "#8a8a8a", "#bbbbbb", "#e3e3e3"
"""Titles and numbers, captions, what is not known or not trained, frames, lines behind charts."""

BLUE, ORANGE, GREEN, RED, VIOLET, TEAL = "#2c6fbb", "#d98c1f", "#4b8b3b", "#c0392b", "#7d4ba0", "#17868c"
METHOD_COLORS = (BLUE, ORANGE, GREEN, RED, VIOLET, TEAL)

QUARTILES = (0.25, 0.5, 0.75)

T = TypeVar("T")

# Inches.
CHART_TITLE, CHART_ROW, CHART_BELOW, CHART_NAMES = 0.45, 0.25, 0.3, 1.15

MARGIN_MM = 12.0
CAPTION_SIZE, CAPTION_PER_INCH = 8.5, 14
"""Points, and how many characters of this size fit an inch."""


@dataclass
class Page:
    """A figure laid out in inches from its top left corner."""

    figure: Figure
    width: float
    height: float

    @classmethod
    def blank(cls, width: float, height: float, *, dpi: int = 130) -> Page:
        """Return a white page of a size."""
        from matplotlib.figure import Figure

        return cls(Figure(figsize=(width, height), dpi=dpi, facecolor="white"), width, height)

    def axes(self, left: float, top: float, width: float, height: float, **settings: Any) -> Axes:
        """Add axes whose top left corner and size are given."""
        box = (
            left / self.width,
            1 - (top + height) / self.height,
            width / self.width,
            height / self.height,
        )
        return self.figure.add_axes(box, **settings)

    def write(self, x: float, top: float, text: str, *, size: float, **settings: Any) -> None:
        """Write a text, centered on x, that ends so far below the top."""
        place: dict[str, Any] = {"ha": "center", "va": "bottom", "color": INK, "fontsize": size} | settings
        self.figure.text(x / self.width, 1 - top / self.height, text, **place)

    def write_caption(self, lines: Sequence[str]) -> None:
        """Write lines, of :func:`wrapped`, at the bottom."""
        text = "\n".join(lines)
        self.write(self.width / 2, self.height - 0.08, text, size=CAPTION_SIZE, color=SOFT)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page into a PNG file."""
        self.figure.savefig(path, format="png")


@dataclass(frozen=True)
class Columns:
    """Pictures side by side, in inches.

    Parameters
    ----------
    names
        Of the columns.
    left, width, gap
        Where the first one begins, how wide each is, and what is between two.
    """

    names: Sequence[str]
    left: float
    width: float
    gap: float

    @property
    def right(self) -> float:
        """Where a further column would begin."""
        return self.at(len(self.names))

    def at(self, number: int) -> float:
        """Return where a column begins."""
        return self.left + number * (self.width + self.gap)

    def write_titles(self, page: Page, titles: Mapping[str, str], *, top: float, size: float) -> None:
        """Write a title above each column."""
        for number, name in enumerate(self.names):
            page.write(self.at(number) + self.width / 2, top, titles[name], size=size, weight="bold")

    def show(
        self,
        page: Page,
        slices: Mapping[str, tuple[NDArray[np.floating], Mapping[str, Any]]],
        voxel_size_mm: Sequence[float],
        *,
        top: float,
        height: float,
    ) -> dict[str, AxesImage]:
        """Show slices (X, Y) in their columns, each with its settings of :func:`show_slice`."""
        return {
            name: show_slice(
                page.axes(self.at(number), top, self.width, height),
                slices[name][0],
                voxel_size_mm,
                **slices[name][1],
            )
            for number, name in enumerate(self.names)
            if name in slices
        }


def at_quartiles(items: Sequence[T]) -> list[T]:
    """Return the items at lower quartile, median and upper quartile; of up to three all.

    >>> at_quartiles("abcdefgh")
    ['b', 'd', 'f']
    """
    if len(items) <= len(QUARTILES):
        return list(items)
    return [at_share(items, share) for share in QUARTILES]


def at_share(items: Sequence[T], share: float) -> T:
    """Return the item at a share of a sequence, the lower of two.

    >>> at_share("abcd", 0.5)
    'b'
    """
    return items[int(np.floor(share * (len(items) - 1)))]


def wrapped(text: str, width: float) -> list[str]:
    """Return a caption as lines that fit a width in inches; what the text has as lines remains lines."""
    return [part for line in text.split("\n") for part in wrap(line, int(CAPTION_PER_INCH * width))]


def colors_of(methods: Sequence[str], metrics: Metrics) -> dict[str, str]:
    """Return a color for each method; what was not trained is gray.

    >>> colors_of(["filter", "gan"], Metrics({}, baselines={"filter": "Filter"}))
    {'filter': '#8a8a8a', 'gan': '#2c6fbb'}
    """
    trained = [name for name in methods if name not in ("input", *metrics.baselines)]
    return {
        name: METHOD_COLORS[trained.index(name) % len(METHOD_COLORS)] if name in trained else GRAY
        for name in methods
    }


def bare(axes: Axes, *, grid: Literal["x", "y"] | None = None) -> None:
    """Leave axes without a box, with lines behind what is drawn along one of them."""
    axes.spines[["top", "right"]].set_visible(False)
    if grid:
        axes.grid(axis=grid, color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)


def height_of_intervals(methods: Sequence[str]) -> float:
    """Return how many inches :func:`draw_intervals` takes."""
    return CHART_TITLE + CHART_ROW * len(methods) + CHART_BELOW


def draw_intervals(
    page: Page,
    summary: pd.DataFrame,
    titles: Mapping[str, str],
    methods: Sequence[str],
    *,
    metrics: Metrics,
    top: float,
) -> None:
    """Draw means and intervals of a summary: a row for each method, a column for each metric by its title."""
    rows = {(row["method"], row["metric"]): row for row in summary.to_dict("records")}
    each = (page.width - CHART_NAMES) / len(titles)
    for number, (metric, title) in enumerate(titles.items()):
        place = CHART_NAMES + number * each, top + CHART_TITLE, each - 0.25, CHART_ROW * len(methods)
        axes = page.axes(*place)
        for position, (method, color) in enumerate(colors_of(methods, metrics).items()):
            row = rows.get((method, metric))
            if row is None:
                continue
            axes.plot([row["low"], row["high"]], [position] * 2, color=color, linewidth=2.4)
            axes.plot([row["mean"]], [position], "o", color=color, markersize=6)
        axes.set_ylim(len(methods) - 0.5, -0.5)
        labels = [metrics.label_of(name) for name in methods]
        axes.set_yticks(range(len(methods)), labels if number == 0 else [])
        axes.tick_params(axis="y", length=0, labelsize=10.5)
        axes.tick_params(axis="x", labelsize=8.5, length=2.5)
        axes.locator_params(axis="x", nbins=4 if each > 1.4 else 2)
        bare(axes, grid="x")
        axes.spines["left"].set_visible(False)
        axes.set_title(title, fontsize=11, fontweight="bold", pad=7)


def frame(axes: Axes, *, color: str = LINE, width: float = 0.5) -> None:
    """Put a thin frame around an image, without ticks."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_edgecolor(color)
        spine.set_linewidth(width)


def head_box(mask: NDArray[np.bool_], *, voxel_size_mm: Sequence[float]) -> tuple[slice, slice]:
    """Return the part of a slice (X, Y) that holds the head, with a margin; all of it without a head."""
    box = []
    for axis, size in enumerate(voxel_size_mm[:2]):
        held = np.flatnonzero(mask.any(axis=1 - axis))
        margin = math.ceil(steps_in(MARGIN_MM, size))
        first, last = (int(held[0]), int(held[-1])) if held.size else (0, mask.shape[axis] - 1)
        box.append(slice(max(first - margin, 0), last + margin + 1))
    return box[0], box[1]


def show_slice(
    axes: Axes, image: NDArray[np.floating], voxel_size_mm: Sequence[float], **settings: Any
) -> AxesImage:
    """Show a slice (X, Y) as radiologists look at it: from below, anterior up.

    Parameters
    ----------
    axes
        Where it is drawn.
    image : (X, Y)
        In canonical axes.
    voxel_size_mm
        Of X and Y.
    settings
        Of matplotlib's ``imshow``: window and color map.
    """
    frame(axes)
    x, y = voxel_size_mm[:2]
    return axes.imshow(image[::-1].T, origin="lower", aspect=y / x, interpolation="nearest", **settings)
