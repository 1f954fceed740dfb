"""The figure of an evaluation with several contrasts: a patient's slice, PSNR by contrast and method."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medrestore.domains.multicontrast_mri.domain import DOMAIN
from medrestore.evaluation.drawing import (
    Page,
    draw_intervals,
    head_box,
    height_of_intervals,
    show_slice,
    wrapped,
)
from medrestore.evaluation.titles import MetricKey

__all__ = ["Showcase", "draw_contrasts"]

STRATA = DOMAIN.metrics.strata
TRUE = "true"
DIFFERENCE_PART = 0.5
"""Window of differences as a part of the images' window."""

# Inches.
COLUMN, GAP, LEFT, HEADER, CAPTION = 1.45, 0.06, 0.95, 0.42, 0.5


@dataclass(eq=False)
class Showcase:
    """One axial slice of one scan, as the input, every method and the true image have it.

    Parameters
    ----------
    scan
        ``SUBJECT_SESSION``.
    position
        Index of the slice.
    head : (X, Y) bool
        What is cut out.
    voxel_size_mm
        Of X and Y.
    lesions
        Whether the slice was chosen by its lesions.
    """

    scan: str
    position: int
    head: NDArray[np.bool_]
    voxel_size_mm: tuple[float, float]
    lesions: bool
    channels: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    images: dict[str, dict[str, NDArray[np.float32]]] = field(default_factory=dict)

    def add_input(self, channels: Mapping[str, NDArray[np.float32]]) -> None:
        """Keep the slice of each channel (X, Y, Z) of the input."""
        self.channels = {name: self._cut(image) for name, image in channels.items()}

    def add(self, contrast: str, method: str, image: NDArray[np.float32]) -> None:
        """Keep the slice of an image (X, Y, Z)."""
        self.images.setdefault(contrast, {})[method] = self._cut(image)

    def _cut(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        box = head_box(self.head, voxel_size_mm=self.voxel_size_mm)
        return image[box[0], box[1], self.position].copy()


def draw_contrasts(
    showcase: Showcase, summary: pd.DataFrame, *, path: str | os.PathLike[str], favorite: str = "taskgan"
) -> None:
    """Draw the figure of an evaluation with several contrasts into a PNG file.

    Parameters
    ----------
    showcase
        Filled.
    summary
        Of :func:`~medrestore.evaluation.tables.summary_table`, for the chart.
    path
        Of the file.
    favorite
        Method whose difference to the true image is shown; the last one where it is not there.
    """
    contrasts = STRATA.in_order(showcase.images)
    held = dict.fromkeys(name for contrast in contrasts for name in showcase.images[contrast])
    methods = [name for name in held if name != TRUE]
    differing = favorite if favorite in methods else (methods[-1] if methods else "")
    columns = ["input", *methods, TRUE, *(["difference"] if differing else [])]
    x, y = next(iter(showcase.images[contrasts[0]].values())).shape
    row = COLUMN * y * showcase.voxel_size_mm[1] / (x * showcase.voxel_size_mm[0])
    psnr = {str(MetricKey("psnr", name)): STRATA.title_of(name) for name in contrasts}
    psnr = {key: title for key, title in psnr.items() if (summary["metric"] == key).any()}
    chart = height_of_intervals(methods) if psnr and methods else 0.0
    width = max(LEFT + len(columns) * (COLUMN + GAP) + 0.1, 7.0)
    height = HEADER + len(contrasts) * (row + GAP) + CAPTION + chart
    page, label_of = Page.blank(width, height), DOMAIN.metrics.label_of
    for index, name in enumerate(columns):
        title = {"input": "Input channel", "difference": f"|{label_of(differing)} - true|"}.get(name)
        middle = LEFT + index * (COLUMN + GAP) + COLUMN / 2
        page.write(middle, 0.3, title or label_of(name), size=10.5, weight="bold")
    shown = _spread(list(showcase.channels), len(contrasts))
    for index, contrast in enumerate(contrasts):
        top = HEADER + index * (row + GAP)
        _draw_row(
            page, showcase, contrast, columns, differing=differing, channel=shown[index], top=top, height=row
        )
    if chart:
        top = HEADER + len(contrasts) * (row + GAP)
        draw_intervals(page, summary, psnr, methods, metrics=DOMAIN.metrics, top=top)
    chosen = (
        "Patient of median lesion volume, slice of its largest lesion area"
        if showcase.lesions
        else "Middle scan, middle slice of the head"
    )
    text = f"{chosen}; subject's right on the left; each contrast in one window, the difference in "
    text += f"{DIFFERENCE_PART:g} of it. Input: magnitudes of acquired channels, which belong to no row."
    text += " Below: mean PSNR (dB) over subjects, 95 % bootstrap intervals." * bool(chart)
    page.write_caption(wrapped(text, width))
    page.save(path)


def _spread(names: Sequence[str], count: int) -> list[str]:
    """Return as many of the names, evenly spaced, repeated where there are fewer."""
    if not names:
        return [""] * count
    return [names[position] for position in np.linspace(0, len(names) - 1, count).round().astype(int)]


def _draw_row(
    page: Page,
    showcase: Showcase,
    contrast: str,
    columns: Sequence[str],
    *,
    differing: str,
    channel: str,
    top: float,
    height: float,
) -> None:
    images = showcase.images[contrast]
    true = images[TRUE]
    peak = float(np.quantile(true, 0.995))
    for index, name in enumerate(columns):
        settings: dict[str, Any] = {"cmap": "gray", "vmin": 0.0, "vmax": peak}
        if name == "input":
            image = showcase.channels.get(channel)
            settings["vmax"] = float(np.quantile(image, 0.995)) if image is not None else 1.0
        elif name == "difference":
            image = np.abs(images[differing] - true) if differing in images else None
            settings = {"cmap": "magma", "vmin": 0.0, "vmax": DIFFERENCE_PART * peak}
        else:
            image = images.get(name)
        axes = page.axes(LEFT + index * (COLUMN + GAP), top, COLUMN, height)
        if image is None:
            axes.set_axis_off()
            continue
        show_slice(axes, image, showcase.voxel_size_mm, **settings)
        if name == "input":
            axes.set_ylabel(STRATA.title_of(contrast), fontsize=11.5, fontweight="bold", labelpad=6)
            note = axes.text(0.03, 0.03, channel, transform=axes.transAxes, fontsize=6.5, color="white")
            note.set_bbox({"facecolor": "black", "alpha": 0.6, "linewidth": 0, "pad": 1})
