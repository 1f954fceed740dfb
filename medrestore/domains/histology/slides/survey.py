"""Slides looked over before tiles are cut from them: which can serve, and which are one."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from medrestore.checks import Setbacks, fail
from medrestore.data.identity import id_problem
from medrestore.domains.histology.slides.parts import slide_identity
from medrestore.domains.histology.slides.scan import TileRules, grid_positions
from medrestore.domains.histology.slides.slide_list import SlideEntry, merge_copies

__all__ = ["usable_slides"]

_LARGEST = 10**6
"""Pixels, of which no position in a slide has more digits."""
_PICTURES = (".png", ".jpg", ".jpeg")

_logger = logging.getLogger(__name__)


def usable_slides(entries: Sequence[SlideEntry], rules: TileRules, setbacks: Setbacks) -> list[SlideEntry]:
    """Return the slides that tiles can be cut from, one entry for each slide whatever copies there are.

    Parameters
    ----------
    entries
        Of :func:`~medrestore.domains.histology.slides.slide_list.find_slides`.
    rules
        What is to be cut.
    setbacks
        Gets the others with the reason: a fault of name or place, a file that cannot be read, no or too
        coarse a resolution, less than a tile, the same slide under two patients or in two splits.
    """
    opened = []
    for entry in entries:
        with setbacks.set_aside(entry.path):
            _require_usable(entry, rules)
            opened.append(entry)
    usable = []
    for entry in merge_copies(opened, _identities(opened)):
        with setbacks.set_aside(entry.path):
            if entry.fault:
                fail(entry.fault, path=entry.path)
            usable.append(entry)
    return usable


def _require_usable(entry: SlideEntry, rules: TileRules) -> None:
    if entry.fault:
        fail(entry.fault, path=entry.path)
    if reason := id_problem(f"{entry.name}_x{_LARGEST}_y{_LARGEST}"):
        fail(f"its tiles cannot be called after it: {reason}", path=entry.path, remedy="rename the slide")
    with rules.open(entry) as slide:
        for note in slide.notes:
            _logger.warning("%s: %s", entry.path, note)
        step = slide.step(rules.microns_per_pixel)
        width, height = slide.bounds[2:]
        shortest = min(width, height)
        if not len(grid_positions(shortest, tile_size=rules.tile_size, stride=rules.stride, step=step)):
            fail(
                f"is smaller than a tile: {width} x {height} pixels, and a tile of "
                f"{rules.tile_size} at {rules.microns_per_pixel:g} um/pixel spans "
                f"{rules.tile_size * step:.0f}",
                path=entry.path,
                remedy="cut smaller tiles (--tile-size), or leave the slide out",
            )


def _identities(entries: Sequence[SlideEntry]) -> dict[Path, str]:
    """Return what copies of a slide have in common; a picture of a length of its own is not read for it."""
    lengths = {entry.path: entry.path.stat().st_size for entry in entries}
    number = Counter(lengths.values())
    return {
        path: slide_identity(path)
        for path, length in lengths.items()
        if number[length] > 1 or path.suffix.lower() not in _PICTURES
    }
