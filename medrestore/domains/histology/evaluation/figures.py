"""The figure of an evaluation of tiles: tiles of three patients with a close look, and the numbers of all."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medrestore.domains.histology.domain import DOMAIN
from medrestore.evaluation.drawing import (
    INK,
    QUARTILES,
    Columns,
    Page,
    at_quartiles,
    at_share,
    draw_intervals,
    frame,
    height_of_intervals,
    wrapped,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["INPUT", "TRUE", "ZOOM", "Place", "TilePanel", "choose_tiles", "draw_tiles", "window_of"]

INPUT, TRUE = "input", "true"
SHOWN = len(QUARTILES)
"""Tiles."""

ZOOM, MARGIN = 4, 8
"""The close look shows a window of a quarter of the tile's side, so many pixels off its border."""

CHART = {"rrmse": "RRMSE ↓", "ms_mssim": "MS-mSSIM ↑", "qilv": "QILV ↑", "nuclei_f1": "Nuclei, F1 ↑"}
"""Metrics of the chart; arrows point to better."""

MARK = "#ffd400"

# Inches. At 150 dots an inch a tile of 256 pixels is shown nearly one to one.
COLUMN, GAP, LEFT, HEADER, NUMBER, BETWEEN, RIGHT = 1.72, 0.06, 0.52, 0.4, 0.26, 0.12, 0.12
LEAST_WIDTH = 7.6
CAPTION_LINE = 0.16


class Place(NamedTuple):
    """Where a tile lies: its slide, its top left corner and its side in pixels of level 0."""

    slide: str
    x: int
    y: int
    side: float


def choose_tiles(per_subject: pd.DataFrame, *, place: Callable[[str], Place]) -> dict[str, str]:
    """Choose the tiles that the figure shows, by the true tiles alone: no result of a method has a say in it.

    Of patients in the order of their mean density of nuclei those at the lower quartile, median and upper
    quartile, of each the tile of its median density (the lower of two). With fewer than three patients all of
    them are shown, and more tiles of the first, next to the quartiles of its densities, of those that overlap
    what is shown least.

    Parameters
    ----------
    per_subject
        One row per tile and method, those of the true tile among them.
    place
        Where a tile lies, by its name.

    Returns
    -------
    dict
        Title by the tile's name, few nuclei first. Where nuclei were not counted the order is that of names.
    """
    true = per_subject[per_subject["method"] == TRUE]
    known = "nuclei_density" in true
    densities = true["nuclei_density"] if known else [0.0] * len(true)
    by_patient: dict[str, list[tuple[float, str]]] = {}
    for patient, tile, density in zip(true["subject_id"], true["session_id"], densities, strict=True):
        by_patient.setdefault(str(patient), []).append((float(density), str(tile)))
    for tiles in by_patient.values():
        tiles.sort()
    means = {name: float(np.mean([density for density, _ in tiles])) for name, tiles in by_patient.items()}
    patients = sorted(by_patient, key=lambda name: (means[name], name))
    chosen = [at_share(by_patient[name], 0.5) for name in at_quartiles(patients)]
    tiles = by_patient[patients[0]]
    for share in (QUARTILES[0], QUARTILES[-1]):
        left = [item for item in tiles if item not in chosen]
        if len(chosen) < SHOWN and left:
            shared = [max(_overlap(place(name), place(other)) for _, other in chosen) for _, name in left]
            wanted = share * (len(tiles) - 1)
            ranks = [(area, abs(tiles.index(item) - wanted)) for area, item in zip(shared, left, strict=True)]
            chosen.append(left[ranks.index(min(ranks))])
    return {tile: f"{density:,.0f} nuclei / mm²" if known else "" for density, tile in sorted(chosen)}


def _overlap(first: Place, second: Place) -> float:
    """Return the area that two tiles share, in pixels of level 0."""
    if first.slide != second.slide:
        return 0.0
    width, height = (first.side - abs(a - b) for a, b in ((first.x, second.x), (first.y, second.y)))
    return max(width, 0.0) * max(height, 0.0)


def window_of(labels: NDArray[np.integer], *, size: int) -> tuple[int, int]:
    """Return the top left corner (row, column) of the square window that holds most outline of nuclei.

    Parameters
    ----------
    labels : (H, W) int
        Of the nuclei in the true tile; 0 is no nucleus.
    size
        Of the window, pixels.

    Notes
    -----
    Windows keep a margin to the tile's border, where nuclei are cut. Of equal ones the most central is taken.
    """
    from skimage.segmentation import find_boundaries

    outline = find_boundaries(labels, mode="inner").astype(np.int64)
    total = np.pad(outline.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    sums = total[size:, size:] - total[:-size, size:] - total[size:, :-size] + total[:-size, :-size]
    margin = min(MARGIN, (min(sums.shape) - 1) // 2)
    inner = sums[margin : sums.shape[0] - margin, margin : sums.shape[1] - margin]
    best = np.argwhere(inner == inner.max())
    center = (np.array(inner.shape) - 1) / 2
    row, column = best[np.abs(best - center).sum(axis=1).argmin()] + margin
    return int(row), int(column)


@dataclass(frozen=True, eq=False)
class TilePanel:
    """One tile as every method has it.

    Parameters
    ----------
    title
        What is said of it at its side.
    images : (H, W, 3) uint8 by method
        The low-resolution input first, smaller; the true tile last.
    corner
        Row and column of the window that is shown enlarged.
    microns_per_pixel
        Of the true tile.
    rrmse
        By method.
    """

    title: str
    images: Mapping[str, NDArray[np.uint8]]
    corner: tuple[int, int]
    microns_per_pixel: float
    rrmse: Mapping[str, float]


def draw_tiles(panels: Sequence[TilePanel], summary: pd.DataFrame, *, path: str | os.PathLike[str]) -> None:
    """Draw the figure of an evaluation of tiles into a PNG file.

    Parameters
    ----------
    panels
        Of the chosen tiles, all of the same methods.
    summary
        Of :func:`~medrestore.evaluation.tables.summary_table`, for the chart.
    path
        Of the file.
    """
    names = list(panels[0].images)
    drawn = [name for name in dict.fromkeys(summary["method"]) if name != TRUE]
    shown = {name: title for name, title in CHART.items() if (summary["metric"] == name).any()}
    block = 2 * COLUMN + GAP + NUMBER + BETWEEN
    chart = height_of_intervals(drawn) if shown and drawn else 0.0
    images = LEFT + len(names) * (COLUMN + GAP) - GAP + RIGHT
    width = max(images, LEAST_WIDTH)
    columns = Columns(names, (width - images) / 2 + LEFT, COLUMN, GAP)
    patients = int(summary["subjects"].max()) if len(summary) else 1
    caption = wrapped(_caption(patients=patients, chart=bool(chart)), width)
    height = HEADER + len(panels) * block + chart + CAPTION_LINE * len(caption) + 0.14
    page = Page.blank(width, height, dpi=150)
    titles = {name: DOMAIN.metrics.label_of(name) for name in names} | {INPUT: "Low resolution"}
    columns.write_titles(page, titles, top=HEADER - 0.12, size=12)
    for number, panel in enumerate(panels):
        _draw_panel(page, panel, top=HEADER + number * block, columns=columns)
    if chart:
        top = HEADER + len(panels) * block
        draw_intervals(page, summary, shown, drawn, metrics=DOMAIN.metrics, top=top)
    page.write_caption(caption)
    page.save(path)


def _caption(*, patients: int, chart: bool) -> str:
    if patients > SHOWN:
        where = "patients at lower quartile, median and upper quartile, of each the tile of its median"
    elif patients == SHOWN:
        where = "of each patient the tile of its median"
    else:
        where = "near the quartiles and at the median of a patient's tiles"
    parts = [
        f"Tiles chosen by the density of nuclei in the true tiles alone: {where}.",
        "Second rows: the marked part, pixel by pixel, where the true tile has most outline of nuclei.",
        "Below: RRMSE of the whole tile, the lowest in bold.",
    ]
    if chart:
        interval = " and 95 % bootstrap interval" * (patients > 1)
        parts.append(f"Chart: mean over patients{interval}; arrows point to better.")
    return " ".join(parts)


def _draw_panel(page: Page, panel: TilePanel, *, top: float, columns: Columns) -> None:
    """Draw a tile by every method, below it the marked part enlarged, below that the error."""
    true = panel.images[TRUE]
    size = true.shape[0] // ZOOM
    corner = panel.corner
    best = min(panel.rrmse.values(), default=float("nan"))
    for number, (name, image) in enumerate(panel.images.items()):
        left = columns.at(number)
        scale = true.shape[0] // image.shape[0]
        whole = page.axes(left, top, COLUMN, COLUMN)
        part = page.axes(left, top + COLUMN + GAP, COLUMN, COLUMN)
        # Both in the true tile's pixels, so that the low-resolution one shows the same part.
        extent = (0, true.shape[1], true.shape[0], 0)
        smooth = "nearest" if scale > 1 else "antialiased"
        whole.imshow(image, extent=extent, interpolation=smooth)
        part.imshow(image, extent=extent, interpolation="nearest")
        part.set_xlim(corner[1], corner[1] + size)
        part.set_ylim(corner[0] + size, corner[0])
        _mark(whole, corner, size)
        frame(whole)
        frame(part, color=MARK, width=1.6)
        if number == 0:
            whole.set_ylabel(panel.title, fontsize=10.5, fontweight="bold", labelpad=6)
            part.set_ylabel(f"{size * panel.microns_per_pixel:.0f} µm wide", fontsize=9.5, labelpad=6)
            # Out of the way of the mark.
            marked = corner[1] + size / 2 < true.shape[1] / 2
            _scale_bar(whole, true.shape[0], panel.microns_per_pixel, right=marked)
        if name in panel.rrmse:
            value = panel.rrmse[name]
            weight = "bold" if value == best and len(panel.rrmse) > 1 else "normal"
            below = top + 2 * COLUMN + GAP + NUMBER - 0.05
            page.write(left + COLUMN / 2, below, f"RRMSE {value:.4f}", size=10, weight=weight)


def _mark(axes: Axes, corner: tuple[int, int], size: int) -> None:
    from matplotlib.patches import Rectangle

    for color, width in ((INK, 2.6), (MARK, 1.3)):
        axes.add_patch(
            Rectangle((corner[1], corner[0]), size, size, fill=False, edgecolor=color, linewidth=width)
        )


def _scale_bar(axes: Axes, side: int, microns_per_pixel: float, *, right: bool) -> None:
    """Draw a bar of a round length, about a third of the tile, on a light ground."""
    from matplotlib.patches import Rectangle

    extent = side * microns_per_pixel
    length = max(value for value in (1, 2, 5, 10, 20, 50, 100, 200, 500) if value <= max(0.4 * extent, 1))
    pixels = length / microns_per_pixel
    left, bottom = (0.955 * side - pixels if right else 0.045 * side), 0.955 * side
    ground = (left - 0.02 * side, bottom - 0.125 * side)
    axes.add_patch(
        Rectangle(ground, pixels + 0.04 * side, 0.145 * side, facecolor="white", alpha=0.85, linewidth=0)
    )
    axes.add_patch(Rectangle((left, bottom - 0.025 * side), pixels, 0.025 * side, facecolor="black"))
    axes.text(left + pixels / 2, bottom - 0.035 * side, f"{length} µm", ha="center", va="bottom", fontsize=8)
