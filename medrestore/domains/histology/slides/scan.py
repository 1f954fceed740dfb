"""One slide's tiles: where they lie, how much tissue they hold, and which are dropped."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medrestore.claims import any_record
from medrestore.domains.histology.slides.overview import Region, write_overview
from medrestore.domains.histology.slides.parts import slide_checksum, slide_parts
from medrestore.domains.histology.slides.reader import Slide, open_slide
from medrestore.domains.histology.slides.slide_list import SlideEntry
from medrestore.domains.histology.slides.tissue import focus_score, pen_mask, tissue_mask
from medrestore.files import write_json

__all__ = [
    "FIGURES",
    "MOST_PEN",
    "SMALLEST_UM2",
    "SMOOTHING_UM",
    "TileRules",
    "grid_positions",
    "has_tiles",
    "read_scan",
    "scan_slide",
]

FIGURES = (
    *("width", "height", "slide_microns_per_pixel", "tissue_area_mm2", "tiles"),
    *("dropped_tissue", "dropped_pen", "dropped_focus", "notes"),
)
"""What is counted of a slide, in the order of the table of slides."""

MOST_PEN = 0.01
"""A tile of which a larger part is under ink is dropped."""

SMALLEST_UM2 = 1000.0
"""Area, in square micrometers, below which tissue and ink are dirt, and gaps in tissue are filled."""

SMOOTHING_UM = 10.0
"""Standard deviation by which saturation is smoothed: about the distance of nuclei in a pale stroma."""

_MASK_PIXELS_PER_TILE = 8
_LEAST_MASK_SIDE = 256


@dataclass(frozen=True)
class TileRules:
    """Size of the tiles, and what makes one worth keeping: parameters of ``make_tiles``."""

    tile_size: int
    stride: int
    microns_per_pixel: float
    minimum_tissue: float
    minimum_focus: float
    check_pen: bool
    override_microns_per_pixel: bool = False

    def open(self, entry: SlideEntry) -> Slide:
        """Open a slide at the resolution that holds for it."""
        return open_slide(
            entry.path, microns_per_pixel=entry.microns_per_pixel, override=self.override_microns_per_pixel
        )


def grid_positions(length: int, *, tile_size: int, stride: int, step: float) -> npt.NDArray[np.int64]:
    """Return where tiles begin along an axis of a slide, in pixels of level 0.

    Parameters
    ----------
    length : int, pixels of level 0
        Of the slide.
    tile_size, stride : int, pixels of the tile
        Length of a tile, and from tile to tile.
    step : float
        Pixels of level 0 per pixel of the tile.

    Examples
    --------
    >>> grid_positions(1000, tile_size=256, stride=256, step=1.0).tolist()
    [0, 256, 512]
    """
    count = max(int((length / step - tile_size + 1e-6) // stride) + 1, 0)
    positions: npt.NDArray[np.int64] = np.rint(np.arange(count) * stride * step).astype(np.int64)
    return positions


def scan_slide(entry: SlideEntry, rules: TileRules, folder: Path, fingerprint: str) -> dict[str, Any]:
    """Find the tiles of one slide; write its record and overview, and return the record.

    Parameters
    ----------
    entry : SlideEntry
        The slide.
    rules : TileRules
        What is cut and kept.
    folder : Path
        Of all tiles; the record goes to ``slides/<name>.json``, the picture to ``overview/<name>.png``.
    fingerprint : str
        Of the settings, by which :func:`read_scan` knows the record again.

    Returns
    -------
    dict
        ``tiles`` (x, y, tissue_fraction, focus of each that is kept) and ``figures`` of the slide.

    Raises
    ------
    InputError
        When the slide cannot be read.
    """
    held = _held(entry)
    with rules.open(entry) as slide:
        step = slide.step(rules.microns_per_pixel)
        tissue, pen, mask_microns = _masks(slide, rules)
        candidates = _candidates(slide, rules, step)
        extent = rules.tile_size * step
        covered = _fractions(tissue, slide, candidates, extent)
        inked = _fractions(pen, slide, candidates, extent) if rules.check_pen else np.zeros(len(candidates))
        focus = np.full(len(candidates), np.nan)
        fate = np.where(covered < rules.minimum_tissue, "tissue", np.where(inked > MOST_PEN, "pen", "kept"))
        for index in np.flatnonzero(fate == "kept"):
            x, y = map(int, candidates[index])
            size = rules.tile_size
            tile = slide.read(x, y, width=size, height=size, microns_per_pixel=rules.microns_per_pixel)
            focus[index] = focus_score(tile)
        fate[(fate == "kept") & (focus < rules.minimum_focus)] = "focus"
        regions = [Region(int(x), int(y), why) for (x, y), why in zip(candidates, fate.tolist(), strict=True)]
        write_overview(slide, tissue, regions, path=folder / "overview" / f"{entry.name}.png", extent=extent)
        figures = {
            "width": slide.width,
            "height": slide.height,
            "slide_microns_per_pixel": slide.require_resolution(),
            "tissue_area_mm2": round(float((tissue & ~pen).sum()) * mask_microns**2 / 1e6, 6),
            "tiles": int((fate == "kept").sum()),
            **{f"dropped_{why}": int((fate == why).sum()) for why in ("tissue", "pen", "focus")},
            "notes": "; ".join(slide.notes),
        }
        given = slide.given_microns_per_pixel
    kept = np.flatnonzero(fate == "kept")
    record = {
        "fingerprint": fingerprint,
        "slide": held,
        "sha256": slide_checksum(entry.path),
        "figures": figures,
        "given_microns_per_pixel": given,
        "tiles": [
            [*map(int, candidates[index]), round(float(covered[index]), 4), round(float(focus[index]), 6)]
            for index in kept
        ],
    }
    write_json(_record_path(folder, entry), record)
    return record


def read_scan(entry: SlideEntry, folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """Return the record of a slide that was scanned with the same settings and has not changed, else None."""
    path = _record_path(folder, entry)
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        held = (record["fingerprint"], record["slide"])
        whole = (
            {"given_microns_per_pixel", "sha256"} <= record.keys()
            and record["figures"].keys() >= {*FIGURES}
            and all(len(tile) == 4 for tile in record["tiles"])
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return record if whole and held == (fingerprint, _held(entry)) else None


def has_tiles(folder: Path) -> bool:
    """Return whether a folder of :func:`scan_slide` holds a slide with a tile."""
    return any_record(folder, "slides/*.json", lambda record: record["tiles"])


def _record_path(folder: Path, entry: SlideEntry) -> Path:
    return folder / "slides" / f"{entry.name}.json"


def _held(entry: SlideEntry) -> dict[str, Any]:
    """Return by what a slide is known not to have changed, over all its files."""
    states = [part.stat() for part in slide_parts(entry.path)]
    return {
        "bytes": sum(state.st_size for state in states),
        "modified_ns": max(state.st_mtime_ns for state in states),
        "microns_per_pixel": entry.microns_per_pixel,
    }


def _masks(slide: Slide, rules: TileRules) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], float]:
    """Return where there is tissue and ink, and the resolution of both in micrometers per pixel.

    Eight pixels across a tile tell how much of it is tissue; small pictures get more, for Otsu's threshold
    needs many pixels.
    """
    base = slide.require_resolution()
    longest = max(slide.width, slide.height) * base
    tile = rules.tile_size * rules.microns_per_pixel
    microns = max(base, min(tile / _MASK_PIXELS_PER_TILE, longest / _LEAST_MASK_SIDE))
    picture = slide.thumbnail(microns)
    smallest = round(SMALLEST_UM2 / microns**2)
    tissue = tissue_mask(picture, smallest=smallest, smoothing=SMOOTHING_UM / microns)
    pen = pen_mask(picture, smallest=smallest) if rules.check_pen else np.zeros_like(tissue)
    return tissue, pen, base * slide.step(microns)


def _candidates(slide: Slide, rules: TileRules, step: float) -> npt.NDArray[np.int64]:
    """Return x and y of every tile of the grid over what was scanned, row by row: array (tiles, 2)."""
    left, top, width, height = slide.bounds
    columns, rows = (
        begin + grid_positions(length, tile_size=rules.tile_size, stride=rules.stride, step=step)
        for begin, length in ((left, width), (top, height))
    )
    y, x = np.meshgrid(rows, columns, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1)


def _fractions(
    mask: npt.NDArray[np.bool_], slide: Slide, corners: npt.NDArray[np.int64], extent: float
) -> npt.NDArray[np.float64]:
    """Return which part of each square is in the mask, by a summed-area table."""
    height, width = mask.shape
    sums = np.zeros((height + 1, width + 1), dtype=np.int64)
    sums[1:, 1:] = mask.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    scale = np.array([width / slide.width, height / slide.height])
    low = np.rint(corners * scale).astype(np.int64)
    high = np.maximum(np.rint((corners + extent) * scale).astype(np.int64), low + 1)
    (x0, y0), (x1, y1) = low.T, np.minimum(high, [width, height]).T
    inside = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
    fractions: npt.NDArray[np.float64] = inside / np.maximum((x1 - x0) * (y1 - y0), 1)
    return fractions
