"""Slides of low resolution made from slides of high resolution, by the operator that makes training tiles."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import fail
from medrestore.domains.histology.slides.parts import slide_checksum
from medrestore.domains.histology.slides.pyramid import PyramidWriter
from medrestore.domains.histology.slides.reader import Slide, open_slide
from medrestore.domains.histology.slides.resolution import require_given
from medrestore.files import require_file_place
from medrestore.operators.resampling import GaussianSubsampling
from medrestore.progress import progress_bar

__all__ = ["reduce_slide"]

_logger = logging.getLogger(__name__)

TILE = 512
"""Side of the tiles that are written, in pixels."""

BLOCK = 2048
"""Side of the part of the slide that is read at a time, in its pixels and without the halo."""


def reduce_slide(
    path: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str],
    degradation: GaussianSubsampling,
    microns_per_pixel: float | None = None,
    override_microns_per_pixel: bool = False,
    compression: str = "jpeg",
    quality: int = 90,
    progress: bool = True,
) -> Path:
    """Reduce a slide and write it as a pyramidal TIFF.

    Parameters
    ----------
    path
        A slide or picture.
    output
        The reduced slide, ``.tif`` or ``.tiff``.
    degradation
        From the slide to the reduced one.
    microns_per_pixel : float or None, um
        Resolution of a slide that states none. Where neither is known, the reduced slide has none.
    override_microns_per_pixel
        What is given holds, whatever the slide states.
    compression, quality
        Of :class:`~medrestore.domains.histology.slides.pyramid.PyramidWriter`.
    progress
        Show a progress bar.

    Returns
    -------
    Path
        ``output``.

    Raises
    ------
    InputError
        When the slide cannot be read or is smaller than a pixel of the reduced one, the output has another
        suffix or is there already, or a number is out of range.

    Notes
    -----
    Blocks are read with a halo as wide as the Gaussian, so the pixels are those of
    :meth:`~medrestore.operators.resampling.GaussianSubsampling.picture` of the whole, before compression.
    Columns on the right and rows below that fill no pixel are left out, and so is what was not scanned around
    :attr:`~medrestore.domains.histology.slides.reader.Slide.bounds`. A run that was interrupted is
    continued.
    """
    target = Path(output)
    if target.suffix.lower() not in (".tif", ".tiff"):
        fail("a reduced slide is a TIFF file", path=target, remedy="name it .tiff")
    require_file_place(target)
    if target.exists():
        fail("is there already; nothing is overwritten", path=target, remedy="name another file")
    require_given(microns_per_pixel, override=override_microns_per_pixel)
    scale = degradation.scale
    with open_slide(path, microns_per_pixel=microns_per_pixel, override=override_microns_per_pixel) as slide:
        for note in slide.notes:
            _logger.warning("%s: %s", path, note)
        width, height = (length // scale for length in slide.bounds[2:])
        if min(width, height) < 1:
            fail(f"has {slide.bounds[2]} x {slide.bounds[3]} pixels, fewer than the scale {scale}", path=path)
        microns = slide.microns_per_pixel
        with PyramidWriter(
            target,
            width=width,
            height=height,
            microns_per_pixel=None if microns is None else microns * scale,
            settings={"source": slide_checksum(path), **degradation.key},
            tile=TILE,
            compression=compression,
            quality=quality,
            icc_profile=slide.icc_profile,
        ) as writer:
            bar = progress_bar(
                total=writer.rows, initial=writer.finished_rows, unit="row", disable=not progress
            )
            with bar:
                for row in range(writer.finished_rows, writer.rows):
                    writer.write_row(_tiles(slide, row, degradation))
                    bar.update()
            return writer.finish()


def _tiles(slide: Slide, row: int, degradation: GaussianSubsampling) -> Iterator[NDArray[np.uint8]]:
    """Return a row of reduced tiles, each the part that lies in the image."""
    width, height = (length // degradation.scale for length in slide.bounds[2:])
    step = max(1, BLOCK // degradation.scale)
    top, bottom = row * TILE, min((row + 1) * TILE, height)
    for left in range(0, width, TILE):
        right = min(left + TILE, width)
        tile = np.empty((bottom - top, right - left, 3), np.uint8)
        for y in range(top, bottom, step):
            for x in range(left, right, step):
                box = (x, y, min(x + step, right), min(y + step, bottom))
                part = _reduced(slide, box, degradation)
                tile[y - top : y - top + part.shape[0], x - left : x - left + part.shape[1]] = part
        yield tile


def _reduced(
    slide: Slide, box: tuple[int, int, int, int], degradation: GaussianSubsampling
) -> NDArray[np.uint8]:
    """Return reduced pixels (left, top, right, bottom) of a slide."""
    scale, halo = degradation.scale, degradation.halo
    left, top = max(box[0] - halo, 0), max(box[1] - halo, 0)
    x, y, width, height = slide.bounds
    right, bottom = min(box[2] + halo, width // scale), min(box[3] + halo, height // scale)
    size = {"width": (right - left) * scale, "height": (bottom - top) * scale}
    block = slide.read(x + left * scale, y + top * scale, **size)
    inside = (slice(box[1] - top, box[3] - top), slice(box[0] - left, box[2] - left))
    if (block == block[0, 0]).all():  # glass: the weights sum to 1
        return np.broadcast_to(block[0, 0], (box[3] - box[1], box[2] - box[0], 3)).copy()
    return degradation.picture(block)[inside]
