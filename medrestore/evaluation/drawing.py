"""What figures share: palette and style, pages laid out in inches, slices as radiologists look at them."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from medrestore.data.grid import steps_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "BLUE",
    "GRAY",
    "INK",
    "RED",
    "SOFT",
    "Page",
    "bare",
    "colors_of",
    "frame",
    "head_box",
    "show_slice",
    "wrapped",
]

INK, SOFT, GRAY, LINE, GRID = "#222222", "#444444", "#8a8a8a", "#bbbbbb", "#e3e3e3"
"""Titles and numbers, captions, what is not known or not trained, frames, lines behind charts."""

BLUE, ORANGE, GREEN, RED, VIOLET, TEAL = "#2c6fbb", "#d98c1f", "#4b8b3b", "#c0392b", "#7d4ba0", "#17868c"
METHOD_COLORS = (BLUE, ORANGE, GREEN, RED, VIOLET, TEAL)
UNTRAINED = ("input", "gaussian", "nlm", "classical", "bicubic", "lanczos")

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


def wrapped(text: str, width: float) -> list[str]:
    """Return a caption as lines that fit a width in inches; what the text has as lines remains lines."""
    return [part for line in text.split("\n") for part in wrap(line, int(CAPTION_PER_INCH * width))]


def colors_of(methods: Sequence[str]) -> dict[str, str]:
    """Return a color for each method; what was not trained is gray.

    >>> colors_of(["bicubic", "srgan"])
    {'bicubic': '#8a8a8a', 'srgan': '#2c6fbb'}
    """
    trained = [name for name in methods if name not in UNTRAINED]
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
) -> Any:
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
