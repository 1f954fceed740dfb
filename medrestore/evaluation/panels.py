"""Scans as every method has them: a slice of each image, and below it the difference to the true one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medrestore.evaluation.drawing import INK, Columns, Page, head_box, wrapped
from medrestore.evaluation.titles import Metrics

__all__ = ["Panel", "draw_panels"]

DIFFERENCE_PART = 0.3
"""Window of difference images as a part of the images' window."""

CAPTION = "Axial slices, subject's right on the left; each subject in one window. dB: PSNR of the volume."

# Inches.
COLUMN, GAP, LEFT, SIDE, HEADER, TITLE, BETWEEN, FOOT = 1.7, 0.07, 0.8, 0.95, 0.3, 0.24, 0.16, 0.5


@dataclass(frozen=True, eq=False)
class Panel:
    """One axial slice of one scan as every method has it.

    Parameters
    ----------
    title
        Of the scan, at its side.
    images : (X, Y) by method
        The true one last.
    voxel_size_mm
        Of X and Y.
    texts
        What stands above an image, by method.
    colors
        Of these texts; black where not given.
    """

    title: str
    images: Mapping[str, NDArray[np.float32]]
    voxel_size_mm: Sequence[float]
    texts: Mapping[str, str]
    colors: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def cut(
        cls,
        images: Mapping[str, NDArray[np.float32]],
        position: int,
        foreground: NDArray[np.bool_],
        voxel_size_mm: Sequence[float],
        *,
        title: str,
        texts: Mapping[str, str],
        colors: Mapping[str, str] | None = None,
    ) -> Panel:
        """Cut an axial slice of images (X, Y, Z) to their foreground."""
        box = head_box(foreground[:, :, position], voxel_size_mm=voxel_size_mm)
        cut = {name: image[box[0], box[1], position].copy() for name, image in images.items()}
        return cls(title, cut, voxel_size_mm[:2], texts, colors or {})

    @property
    def height(self) -> float:
        """Of an image on the page, in inches."""
        x, y = next(iter(self.images.values())).shape
        return float(COLUMN * y * self.voxel_size_mm[1] / (x * self.voxel_size_mm[0]))


def draw_panels(
    panels: Sequence[Panel],
    *,
    metrics: Metrics,
    unit: str,
    colors: str = "gray",
    caption: str = "",
    below: float = 0.0,
) -> tuple[Page, Columns, float]:
    """Draw scans one below the other on a page.

    Parameters
    ----------
    panels
        At least one; all of the same methods.
    metrics
        Of the kind of image: names of its methods.
    unit
        Of the images, beside their color bars.
    colors
        Of the images: a color map of matplotlib.
    caption
        What is said at the bottom, behind what is said of all such figures.
    below : float, inches
        What is left free below the images.

    Returns
    -------
    tuple
        Page, its columns, and where the free part begins.
    """
    columns = Columns(list(panels[0].images), LEFT, COLUMN, GAP)
    blocks = [TITLE + 2 * panel.height + GAP + BETWEEN for panel in panels]
    page = Page.blank(columns.right + SIDE, HEADER + sum(blocks) + FOOT + below)
    labels = {name: metrics.label_of(name) for name in columns.names}
    columns.write_titles(page, labels, top=0.21, size=12)
    top = HEADER
    for panel, block in zip(panels, blocks, strict=True):
        _draw_panel(page, columns, panel, top=top + TITLE, labels=labels, unit=unit, colors=colors)
        top += block
    page.write_caption(wrapped(CAPTION + caption, page.width))
    return page, columns, top


def _draw_panel(
    page: Page,
    columns: Columns,
    panel: Panel,
    *,
    top: float,
    labels: Mapping[str, str],
    unit: str,
    colors: str,
) -> None:
    *methods, true = columns.names
    first, peak = methods[0], float(np.quantile(panel.images[true], 0.998))
    limit = DIFFERENCE_PART * peak
    window = {"cmap": colors, "vmin": 0.0, "vmax": peak}
    around_zero = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    slices = {name: (image, window) for name, image in panel.images.items()}
    differences = {name: (panel.images[name] - panel.images[true], around_zero) for name in methods}
    height = panel.height
    shown = columns.show(page, slices, panel.voxel_size_mm, top=top, height=height)
    beneath = top + height + GAP
    below = columns.show(page, differences, panel.voxel_size_mm, top=beneath, height=height)
    for name, image in shown.items():
        color = panel.colors.get(name, INK)
        image.axes.set_title(panel.texts.get(name, ""), fontsize=9.5, color=color, pad=3)
    shown[first].axes.set_ylabel(panel.title, fontsize=11.5, fontweight="bold", labelpad=8)
    below[first].axes.set_ylabel(f"Difference to\n{labels[true].lower()}", fontsize=10, labelpad=8)
    beside = columns.right + 0.04
    for place, image, name in ((top, shown[first], unit), (beneath, below[first], f"Δ {unit}".strip())):
        bar = page.figure.colorbar(image, cax=page.axes(beside, place, 0.11, height))
        bar.set_label(name, fontsize=9.5)
        bar.ax.tick_params(labelsize=8.5)
