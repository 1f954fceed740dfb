"""Whole slides restored window by window: overlaps blended, background not computed, little memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import InputError, require_in_range, require_in_set
from medrestore.domains.histology.consistency import measured_of
from medrestore.domains.histology.degradation import reductions_of
from medrestore.domains.histology.restoration.super_resolver import SuperResolver
from medrestore.domains.histology.slides.pyramid import PyramidWriter, require_compression
from medrestore.domains.histology.slides.reader import Slide, open_slide
from medrestore.domains.histology.slides.tissue import SATURATION_RANGE
from medrestore.domains.histology.slides.view import SlideView
from medrestore.operators.resampling import enlarge

__all__ = [
    "BACKGROUNDS",
    "SlideSettings",
    "description_of",
    "occupied_windows",
    "restore_slide",
    "window_measures",
]

BACKGROUNDS = ("bicubic", "white", "restored")
"""What windows of glass become: the enlargement of what was scanned, white, or as all others."""

IMAGE_PIXELS = 64 * 64
"""Pixels of an image that a batch size counts: a window is more than one."""

OVERVIEW_REDUCTION = 4
"""Pixels of the slide per pixel of the picture in which windows are looked at, along a side."""

GLASS = 0.9
"""Part of the slide's brightest tone that glass has at least."""


@dataclass(frozen=True)
class SlideSettings:
    """How a slide is cut into windows and written.

    Parameters
    ----------
    tile : int, pixels of the restored slide
        Side of a tile of the TIFF, a multiple of 16 and of the scale.
    overlap : int, pixels of the slide
        By which a window reaches into the next ones; at most a tile.
    background
        What windows of glass become: ``bicubic`` | ``white`` | ``restored``.
    compression, jpeg_quality
        Of :class:`~medrestore.domains.histology.slides.pyramid.PyramidWriter`.

    Raises
    ------
    InputError
        When a number is out of range or a word unknown.
    """

    tile: int = 512
    overlap: int = 24
    background: str = "bicubic"
    compression: str = "jpeg"
    jpeg_quality: int = 90

    def __post_init__(self) -> None:
        require_in_set("background", self.background, BACKGROUNDS)
        require_compression(self.compression, self.jpeg_quality)
        require_in_range("overlap", self.overlap, 0, self.tile)

    def stride(self, scale: int) -> int:
        """Return the pixels of the slide from one window to the next: what a tile is the enlargement of."""
        if self.tile % scale or self.tile % 16:
            raise InputError(f"tile must be a multiple of 16 and of the scale {scale}, got {self.tile}")
        require_in_range("overlap", self.overlap, 0, self.tile // scale)
        return self.tile // scale

    def as_plain(self) -> dict[str, Any]:
        """Return plain values for the provenance."""
        return asdict(self) | ({} if self.compression == "jpeg" else {"jpeg_quality": None})


def occupied_windows(slide: Slide | SlideView, *, stride: int, overlap: int) -> NDArray[np.bool_]:
    """Say which windows hold anything but glass, or have some beside them.

    Parameters
    ----------
    slide
        The slide; window (r, c) is rows r ``stride`` to (r + 1) ``stride`` + ``overlap`` of what was scanned
        (:attr:`~medrestore.domains.histology.slides.reader.Slide.bounds`) at its finest level, and columns
        alike.
    stride, overlap : int, pixels
        Of the windows.

    Returns
    -------
    (rows, columns) bool

    Notes
    -----
    More cautious than a mask of tissue, by which tiles for training are chosen: a few cells, a pale or a
    colorless piece count as well. Looked for in a picture with a quarter of the pixels along a side, row of
    windows by row of windows: glass has a saturation (of HSV) of at most 0.05, and at least 0.9 of the
    slide's brightest tone. On glass that is tinted more than that, all windows are occupied.
    """
    if slide.microns_per_pixel is None:  # any number does: only the ratio counts
        with open_slide(slide.path, microns_per_pixel=1.0) as relative:
            return occupied_windows(relative, stride=stride, overlap=overlap)
    reduced = slide.microns_per_pixel * OVERVIEW_REDUCTION
    step, (x, y, width, height) = slide.step(reduced), slide.bounds
    full = max(round(width / step), 1)
    rows, columns = -(-height // stride), -(-width // stride)
    reach = math.ceil((stride + overlap) / step) + 2
    stained = np.zeros((rows, columns), np.bool_)
    darkest = np.zeros((rows, columns), np.uint8)
    tones = np.zeros(256, np.int64)
    for row in range(rows):
        top = math.floor(row * stride / step) - 1
        low, high = max(top, 0), min(top + reach, math.ceil(height / step))
        corner = (x, y + round(low * step))
        strip = slide.read(*corner, width=full, height=high - low, microns_per_pixel=reduced)
        brightest, faintest = strip.max(axis=2), strip.min(axis=2)
        tones += np.bincount(brightest.ravel(), minlength=256)
        colored = (brightest - faintest > SATURATION_RANGE[0] * brightest.astype(np.float32)).any(axis=0)
        dark = brightest.min(axis=0)
        for column in range(columns):
            left = math.floor(column * stride / step) - 1
            beside = slice(max(left, 0), left + reach)
            stained[row, column], darkest[row, column] = colored[beside].any(), dark[beside].min()
    glass = np.searchsorted(np.cumsum(tones), 0.98 * tones.sum())
    occupied: NDArray[np.bool_] = stained | (darkest < GLASS * glass)
    return occupied


def restore_slide(
    slide: Slide | SlideView,
    enlarger: SuperResolver,
    *,
    output: Path,
    settings: SlideSettings,
    windows: NDArray[np.bool_],
    identity: Mapping[str, Any],
    advance: Callable[[int], object] = lambda _: None,
) -> Path:
    """Restore a slide to a pyramidal TIFF, in memory of a few rows of tiles.

    Parameters
    ----------
    slide
        Of low resolution; what was scanned of its finest level is restored.
    enlarger
        Restores the windows.
    output
        The TIFF file.
    settings
        How it is cut and written.
    windows : (rows, columns) bool
        Those to restore: of :func:`occupied_windows`, or all.
    identity
        Plain values that tell this restoration from others: what an interrupted run of other values left is
        not continued.
    advance
        Called with a number of tiles when they are written, or were found written.

    Returns
    -------
    Path
        ``output``.

    Notes
    -----
    Window (r, c) covers a tile and ``overlap`` pixels to its right and below. In a tile's leading margins
    the window before it fades into its own: of the overlap, the outer quarter of a window, which is nearest
    to what the network could not see, has weight 0, and the weights change linearly between. Outside of the
    slide, the image is mirrored. A row of windows needs of the row before it only the lowest margins; a run
    that was killed makes that row's windows again and goes on.
    """
    scale, stride = enlarger.scale, settings.stride(enlarger.scale)
    microns, (_, _, width, height) = slide.microns_per_pixel, slide.bounds
    with PyramidWriter(
        output,
        width=width * scale,
        height=height * scale,
        microns_per_pixel=None if microns is None else microns / scale,
        settings={**identity, "batch_size": enlarger.batch_size},
        tile=settings.tile,
        compression=settings.compression,
        quality=settings.jpeg_quality,
        icc_profile=slide.icc_profile,
        description=description_of(identity),
    ) as writer:
        rows = _Rows(slide, enlarger, stride=stride, settings=settings, windows=windows)
        first = writer.finished_rows
        advance(first * writer.columns)
        if 0 < first < writer.rows:
            for _ in rows.tiles(first - 1):
                pass
        for row in range(first, writer.rows):
            writer.write_row(rows.tiles(row))
            advance(writer.columns)
        return writer.finish()


class _Rows:
    """Rows of tiles from rows of windows, in turn from the first one asked for."""

    def __init__(
        self,
        slide: Slide | SlideView,
        enlarger: SuperResolver,
        *,
        stride: int,
        settings: SlideSettings,
        windows: NDArray[np.bool_],
    ) -> None:
        self.slide, self.enlarger, self.windows = slide, enlarger, windows
        self.stride, self.overlap = stride, settings.overlap
        self.white = settings.background == "white"
        self.margin = settings.overlap * enlarger.scale
        self.side = settings.tile
        self.ramp = _ramp(self.margin)
        self.batch = max(1, enlarger.batch_size * IMAGE_PIXELS // (stride + settings.overlap) ** 2)
        # The lowest margins of the row before, for each column: all that the next row needs of it.
        self.above: dict[int, NDArray[np.uint8]] = {}

    def tiles(self, row: int) -> Iterator[NDArray[np.uint8]]:
        left: NDArray[np.uint8] | None = None
        for column, window in enumerate(self._windows(row)):
            beside = window[:, : self.side].copy()
            if left is not None:
                beside[:, : self.margin] = _blend(left, beside[:, : self.margin], self.ramp[None, :, None])
            left = window[:, self.side :].copy()
            tile, below = beside[: self.side], beside[self.side :].copy()
            above = self.above.get(column)
            if above is not None:
                tile[: self.margin] = _blend(above, tile[: self.margin], self.ramp[:, None, None])
            self.above[column] = below
            yield tile

    def _windows(self, row: int) -> Iterator[NDArray[np.uint8]]:
        """Make the enlarged windows of a row; those to restore in batches, which never cross a row."""
        reach = self.stride + self.overlap
        columns = self.windows.shape[1]
        strip = self._strip(row, columns)
        ahead = np.flatnonzero(self.windows[row]).tolist()
        ready: dict[int, NDArray[np.uint8]] = {}
        for column in range(columns):
            if self.windows[row, column]:
                if column not in ready:
                    batch, ahead = ahead[: self.batch], ahead[self.batch :]
                    given = np.stack([strip[:, c * self.stride : c * self.stride + reach] for c in batch])
                    ready = dict(zip(batch, self.enlarger.restore(given), strict=True))
                yield ready.pop(column)
            elif self.white:
                yield np.full((self.side + self.margin, self.side + self.margin, 3), 255, np.uint8)
            else:
                window = strip[:, column * self.stride : column * self.stride + reach]
                yield enlarge(window, scale=self.enlarger.scale, method="bicubic")

    def _strip(self, row: int, columns: int) -> NDArray[np.uint8]:
        """Read the pixels of a row of windows, mirrored beyond the slide's right and lower end."""
        x, y, width, whole = self.slide.bounds
        top = row * self.stride
        height = min(self.stride + self.overlap, whole - top)
        strip = self.slide.read(x, y + top, width=width, height=height)
        beyond = (
            (0, self.stride + self.overlap - height),
            (0, columns * self.stride + self.overlap - width),
            (0, 0),
        )
        return np.pad(strip, beyond, mode="symmetric")


def description_of(identity: Mapping[str, Any]) -> str:
    """Return what a restored slide says of itself.

    >>> description_of({"bundle": "histology_srgan", "method": "sqe", "weights_sha256": "ab"})
    'Restored, research use only. bundle=histology_srgan|method=sqe|weights_sha256=ab'
    """
    told = [
        f"{name}={identity[name]}" for name in ("bundle", "method", "weights_sha256") if identity.get(name)
    ]
    return " ".join(["Restored, research use only.", "|".join(told)]).strip()


def window_measures(
    slide: Slide | SlideView,
    restored: Path,
    enlarger: SuperResolver,
    *,
    settings: SlideSettings,
    windows: NDArray[np.bool_],
) -> list[dict[str, float]]:
    """Measure what each restored window of a slide says of its input, from the file that was written.

    Parameters
    ----------
    slide
        That was restored.
    restored
        The TIFF file.
    enlarger, settings, windows
        As of :func:`restore_slide`.

    Returns
    -------
    list of dict
        Of each window that was restored: ``row``, ``column``, ``x`` and ``y`` (its corner in pixels of the
        slide's finest level), and the numbers of
        :func:`~medrestore.domains.histology.consistency.measured_of` over its tile.
    """
    scale, stride = enlarger.scale, settings.stride(enlarger.scale)
    reductions = reductions_of(enlarger.degradation)
    x, y, width, height = slide.bounds
    found: list[dict[str, float]] = []
    with open_slide(restored, microns_per_pixel=1.0, override=True) as written:
        for row, column in np.argwhere(windows).tolist():
            left, top = column * stride, row * stride
            wide, high = min(stride, width - left), min(stride, height - top)
            given = slide.read(x + left, y + top, width=wide, height=high)
            made = written.read(left * scale, top * scale, width=wide * scale, height=high * scale)
            corner = (x + left, y + top)
            if isinstance(slide, SlideView):
                corner = slide.source_place(*corner)
            place = {"row": row, "column": column, "x": corner[0], "y": corner[1]}
            found.append({**place, **measured_of(made, given, reductions)})
    return found


def _ramp(length: int) -> NDArray[np.uint16]:
    """Return weights 0 to 256 along an overlap: 0 for a quarter, then linear, 256 for the last quarter."""
    places = (np.arange(length) + 0.5) / max(length, 1)
    return np.rint(256 * np.clip(2 * places - 0.5, 0, 1)).astype(np.uint16)


def _blend(
    before: NDArray[np.uint8], after: NDArray[np.uint8], weights: NDArray[np.uint16]
) -> NDArray[np.uint8]:
    """Fade from one image to another; whole numbers, so that equal images stay as they are."""
    return ((after * weights + before * (256 - weights) + 128) >> 8).astype(np.uint8)
