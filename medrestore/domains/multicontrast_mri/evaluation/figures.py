"""The figure of an evaluation with several contrasts: a patient's slice, PSNR by contrast and method."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medrestore.data.identity import scan_name
from medrestore.domains.multicontrast_mri.domain import DOMAIN
from medrestore.evaluation.arms import INPUT
from medrestore.evaluation.drawing import (
    Columns,
    Page,
    draw_intervals,
    head_box,
    height_of_intervals,
    wrapped,
)
from medrestore.evaluation.titles import MetricKey

__all__ = ["Showcase", "draw_contrasts"]

STRATA = DOMAIN.metrics.strata
TRUE, DIFFERENCE = "true", "difference"
DIFFERENCE_PART = 0.5
"""Window of differences as a part of the images' window."""

# Inches.
COLUMN, GAP, LEFT, HEADER, CAPTION = 1.45, 0.06, 0.95, 0.42, 0.5


@dataclass(frozen=True, eq=False)
class Showcase:
    """One axial slice of one scan, as the input, every method and the true image have it.

    Parameters
    ----------
    row
        Of the manifest.
    position
        Index of the slice.
    head : (X, Y) bool
        What is cut out.
    voxel_size_mm
        Of X and Y.
    lesions
        Whether the slice was chosen by its lesions.
    """

    row: Mapping[str, Any]
    position: int
    head: NDArray[np.bool_]
    voxel_size_mm: tuple[float, float]
    lesions: bool

    @property
    def scan(self) -> str:
        """``SUBJECT_SESSION``."""
        return scan_name(self.row["subject_id"], self.row["session_id"])

    def cut(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the slice of an image (X, Y, Z)."""
        box = head_box(self.head, voxel_size_mm=self.voxel_size_mm)
        return image[box[0], box[1], self.position].copy()


Slices: TypeAlias = Mapping[str, NDArray[np.float32]]


def draw_contrasts(
    showcase: Showcase,
    channels: Slices,
    images: Mapping[str, Slices],
    summary: pd.DataFrame,
    *,
    path: str | os.PathLike[str],
    favorite: str = "taskgan",
) -> None:
    """Draw the figure of an evaluation with several contrasts into a PNG file.

    Parameters
    ----------
    showcase
        What is shown.
    channels : (X, Y) by name
        Of the input.
    images : (X, Y) by contrast and method
        Each in units of its mean over the head.
    summary
        Of :func:`~medrestore.evaluation.tables.summary_table`, for the chart.
    path
        Of the file.
    favorite
        Method whose difference to the true image is shown; the last one where it is not there.
    """
    contrasts = STRATA.in_order(images)
    held = dict.fromkeys(name for contrast in contrasts for name in images[contrast])
    methods = [name for name in held if name != TRUE]
    differing = favorite if favorite in methods else (methods[-1] if methods else "")
    titles = {name: DOMAIN.metrics.label_of(name) for name in (INPUT, *methods, TRUE)}
    titles[INPUT] = "Input channel"
    if differing:
        titles[DIFFERENCE] = f"|{titles[differing]} - true|"
    columns = Columns(list(titles), LEFT, COLUMN, GAP)
    x, y = next(iter(images[contrasts[0]].values())).shape
    row = COLUMN * y * showcase.voxel_size_mm[1] / (x * showcase.voxel_size_mm[0])
    psnr = {str(MetricKey("psnr", name)): STRATA.title_of(name) for name in contrasts}
    psnr = {key: title for key, title in psnr.items() if (summary["metric"] == key).any()}
    chart = height_of_intervals(methods) if psnr and methods else 0.0
    width = max(columns.right + 0.1, 7.0)
    page = Page.blank(width, HEADER + len(contrasts) * (row + GAP) + CAPTION + chart)
    columns.write_titles(page, titles, top=0.3, size=10.5)
    top = HEADER
    for contrast, channel in zip(contrasts, _spread(list(channels), len(contrasts)), strict=True):
        slices = _slices(images[contrast], channels.get(channel), differing)
        shown = columns.show(page, slices, showcase.voxel_size_mm, top=top, height=row)
        top += row + GAP
        if INPUT in shown:
            axes = shown[INPUT].axes
            axes.set_ylabel(STRATA.title_of(contrast), fontsize=11.5, fontweight="bold", labelpad=6)
            note = axes.text(0.03, 0.03, channel, transform=axes.transAxes, fontsize=6.5, color="white")
            note.set_bbox({"facecolor": "black", "alpha": 0.6, "linewidth": 0, "pad": 1})
    if chart:
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


def _slices(
    images: Slices, channel: NDArray[np.float32] | None, differing: str
) -> dict[str, tuple[NDArray[np.float32], dict[str, Any]]]:
    """Return what stands in the columns of a contrast, with its window."""
    peak = float(np.quantile(images[TRUE], 0.995))
    slices: dict[str, tuple[NDArray[np.float32], dict[str, Any]]] = {
        name: (image, {"cmap": "gray", "vmin": 0.0, "vmax": peak}) for name, image in images.items()
    }
    if channel is not None:
        window = {"cmap": "gray", "vmin": 0.0, "vmax": float(np.quantile(channel, 0.995))}
        slices[INPUT] = channel, window
    if differing in images:
        window = {"cmap": "magma", "vmin": 0.0, "vmax": DIFFERENCE_PART * peak}
        slices[DIFFERENCE] = np.abs(images[differing] - images[TRUE]), window
    return slices
