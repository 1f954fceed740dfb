"""A picture of a slide that shows where tissue was found and which tiles were kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from medrestore.domains.histology.slides.reader import Slide
from medrestore.files import atomic_path

__all__ = ["Region", "write_overview"]

_LONGEST = 1200  # pixels
_LEGEND = {
    "kept": ((0, 90, 200), "kept"),
    "focus": ((230, 120, 0), "out of focus"),
    "pen": ((200, 0, 160), "under ink"),
}
_OUTLINE = (0, 130, 60)
_BAR_HEIGHT = 26


class Region(NamedTuple):
    """A square of the grid by its corner in pixels of level 0, and what became of it."""

    x: int
    y: int
    fate: str


def write_overview(
    slide: Slide, tissue: npt.NDArray[np.bool_], regions: Sequence[Region], *, path: Path, extent: float
) -> Path:
    """Draw the outline of the tissue and the tiles on a small picture of a slide.

    Parameters
    ----------
    slide : Slide
        Of known resolution.
    tissue : array (h, w), bool
        Of the whole slide, at any resolution.
    regions : sequence of Region
        Tiles; those dropped for lack of tissue are not drawn.
    path : Path
        PNG file.
    extent : float, pixels of level 0
        Side of a tile.

    Raises
    ------
    InputError
        When the slide cannot be read.
    """
    from PIL import Image, ImageDraw, ImageFont

    base = slide.require_resolution()
    microns = max(base, max(slide.width, slide.height) * base / _LONGEST)
    pixels = slide.thumbnail(microns)
    zoom = max(_LONGEST // max(pixels.shape), 1)  # lines would hide what is in a small picture
    pixels = pixels.repeat(zoom, axis=0).repeat(zoom, axis=1)
    height, width = pixels.shape[:2]
    mask = np.asarray(Image.fromarray(tissue).resize((width, height), Image.Resampling.NEAREST))
    pixels[_outline(mask)] = _OUTLINE
    canvas = Image.new("RGB", (max(width, 560), height + _BAR_HEIGHT), "white")
    canvas.paste(Image.fromarray(pixels), (0, 0))
    draw = ImageDraw.Draw(canvas)
    scale_x, scale_y = width / slide.width, height / slide.height
    for fate in ("kept", "focus", "pen"):  # what is dropped lies on top
        for region in regions:
            if region.fate == fate:
                left, top = region.x * scale_x, region.y * scale_y
                corner = (left + extent * scale_x - 1, top + extent * scale_y - 1)
                draw.rectangle((left, top, *corner), outline=_LEGEND[fate][0])
    font, left = ImageFont.load_default(14), 6.0
    entries = [(_OUTLINE, "outline of tissue")]
    for fate, (color, words) in _LEGEND.items():
        entries.append((color, f"{words}: {sum(region.fate == fate for region in regions)}"))
    for color, text in entries:
        draw.rectangle((left, height + 7, left + 12, height + 19), outline=color, width=2)
        draw.text((left + 17, height + 4), text, fill="black", font=font)
        left += 17 + draw.textlength(text, font=font) + 18
    with atomic_path(path) as temporary:
        canvas.save(temporary, format="PNG", compress_level=1)  # five times as fast as 6
    return path


def _outline(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the pixels of a mask that border on others, and those beside them, two pixels wide."""
    from scipy.ndimage import binary_dilation, binary_erosion

    border: npt.NDArray[np.bool_] = binary_dilation(mask) & ~binary_erosion(mask, border_value=1)
    return border
