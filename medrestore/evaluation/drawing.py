"""What the figures of evaluations share: pages laid out in inches, slices as radiologists look at them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medrestore.data.grid import steps_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Page", "head_box", "show_slice"]

MARGIN_MM = 12.0


@dataclass
class Page:
    """A figure laid out in inches from its top left corner."""

    figure: Figure
    width: float
    height: float

    def axes(self, left: float, top: float, width: float, height: float, **settings: Any) -> Axes:
        """Add axes whose top left corner and size are given."""
        box = (
            left / self.width,
            1 - (top + height) / self.height,
            width / self.width,
            height / self.height,
        )
        return self.figure.add_axes(box, **settings)


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
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_linewidth(0.5)
        spine.set_color("#bbbbbb")
    x, y = voxel_size_mm[:2]
    return axes.imshow(image[::-1].T, origin="lower", aspect=y / x, interpolation="nearest", **settings)
