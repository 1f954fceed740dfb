"""The look of a study's figures: one palette, markers that tell arms apart in print, bytes that repeat."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "DARK",
    "GRAY",
    "LEGEND_LINE",
    "LIGHT",
    "WIDTH",
    "ArmStyle",
    "arm_styles",
    "clean_axis",
    "legend_lines",
    "legend_of_arms",
    "new_figure",
    "svg_of",
    "top_legend",
    "wrapped",
]

WIDTH = 7.2
"""Inches: the text width of a journal's page."""

LEGEND_CHARACTERS, LEGEND_LINE = 104, 0.17
"""Characters that fit into a line of a legend, and its height in inches."""

DARK, GRAY, LIGHT = "#222222", "#666666", "#cccccc"

# Okabe & Ito 2008: told apart with every kind of color vision; the reference is nearly black.
COLORS = (DARK, "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.8)),
    (0, (1.2, 1.2)),
    (0, (7, 1.5, 1.2, 1.5)),
    (0, (3, 1)),
    "-",
    "-",
)

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.labelsize": 8.5,
    "axes.edgecolor": "#444444",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "text.color": DARK,
    "axes.labelcolor": DARK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.fonttype": "path",
    "svg.hashsalt": "medrestore",
}


class ArmStyle:
    """How an arm is drawn: color, marker, dashes."""

    def __init__(self, place: int) -> None:
        self.color = COLORS[place % len(COLORS)]
        self.marker = MARKERS[place % len(MARKERS)]
        self.dashes = DASHES[place % len(DASHES)]


def arm_styles(arms: Sequence[str]) -> dict[str, ArmStyle]:
    """Return how each arm is drawn, the first one (the reference) in nearly black."""
    return {arm: ArmStyle(place) for place, arm in enumerate(arms)}


@contextmanager
def new_figure(width: float, height: float) -> Iterator[Figure]:
    """Give an empty figure in the style of the report; sizes in inches."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        yield Figure(figsize=(width, height), facecolor="white")


def svg_of(figure: Figure) -> bytes:
    """Return a figure as SVG without date or program: the same drawing is the same bytes."""
    stream = io.BytesIO()
    figure.savefig(
        stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    return stream.getvalue()


def top_legend(
    figure: Figure, handles: Sequence[Artist], *, ncols: int, gap: float = 0.0, **look: Any
) -> None:
    """Put a legend at the top of a figure, ``gap`` inches below its edge."""
    place = (0.5, 1 - gap / figure.get_figheight())
    figure.legend(handles=handles, loc="upper center", ncols=ncols, bbox_to_anchor=place, **look)


def legend_of_arms(figure: Figure, labels: dict[str, str]) -> None:
    """Put one legend of all arms, label by arm in the order of :func:`arm_styles`, at the top of a figure."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle="", marker=style.marker, color=style.color, markersize=5, label=labels[arm])
        for arm, style in arm_styles(list(labels)).items()
    ]
    columns = math.ceil(len(handles) / legend_lines(labels))
    top_legend(figure, handles, ncols=columns, gap=0.02, handlelength=1.2, columnspacing=1.6)


def legend_lines(labels: dict[str, str]) -> int:
    """Return the lines that the legend of all arms takes; each is LEGEND_LINE inches high."""
    wide = max(len(label) for label in labels.values()) + 7
    return math.ceil(len(labels) / max(1, LEGEND_CHARACTERS // wide))


def clean_axis(axes: Axes) -> None:
    """Take the vertical axis of a forest plot away."""
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def wrapped(label: str, width: int = 15) -> str:
    r"""Return a label in lines that fit beside a plot; a word too long for one is cut.

    >>> wrapped("A restored low-dose scan")
    'A restored\nlow-dose scan'
    """
    from textwrap import wrap

    return "\n".join(wrap(label, width, max_lines=3, placeholder=" …", break_on_hyphens=False)) or label
