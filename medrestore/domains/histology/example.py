"""Pictures for a first try, from one that scikit-image brings: nothing is downloaded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import typer

from medrestore.checks import InputError, fail
from medrestore.domains.histology.tiles import make_tiles
from medrestore.files import atomic_path, require_empty_folder

__all__ = ["EXAMPLE_MICRONS_PER_PIXEL", "EXAMPLE_TILES", "make_tiles_or_example", "write_example"]

EXAMPLE_MICRONS_PER_PIXEL = 0.5
"""Assumed: the picture has no resolution, and its nuclei, 12 to 16 pixels wide, are then 6 to 8 um wide."""

EXAMPLE_TILES: dict[str, Any] = {
    "tile_size": 176,
    "stride": 32,
    "microns_per_pixel": EXAMPLE_MICRONS_PER_PIXEL,
    "minimum_tissue": 0.2,
}
"""Arguments of :func:`~medrestore.domains.histology.tiles.make_tiles` that suit the example: tiles as
small as five scales of structural similarity allow, closely set, glands with much lumen among them."""

_TABLE = "slides.csv"
_REGIONS = {
    "train": (slice(0, 336), slice(0, 336)),
    "validation": (slice(336, 512), slice(0, 336)),
    "test": (slice(0, 512), slice(336, 512)),
}


def write_example(folder: str | os.PathLike[str]) -> Path:
    """Write three regions of one picture, that do not overlap, and a table of them with splits.

    Parameters
    ----------
    folder : path
        A new or empty folder, or that of an earlier call, which is written again alike.

    Returns
    -------
    Path
        ``slides.csv``, for :func:`~medrestore.domains.histology.tiles.make_tiles`; beside it the PNG
        regions of 336 x 336 (train), 336 x 176 (validation) and 176 x 512 pixels (test).

    Raises
    ------
    InputError
        When the folder holds other files, or a table of other slides.

    Notes
    -----
    The picture is scikit-image's ``immunohistochemistry``: colonic glands, FHL2 stained with DAB, hematoxylin
    counterstain. Its regions are of ONE specimen, so a result on the test region says how software runs, not
    how well it restores the tissue of another patient; ``subject_id`` names regions. Its resolution is an
    assumption, :data:`EXAMPLE_MICRONS_PER_PIXEL`.
    """
    from PIL import Image
    from skimage.data import immunohistochemistry

    place = require_empty_folder(folder, belongs="example", marker=_TABLE)
    rows = [
        {
            "slide": f"region-{split}.png",
            "subject_id": f"region-{split}",
            "split": split,
            "microns_per_pixel": EXAMPLE_MICRONS_PER_PIXEL,
        }
        for split in _REGIONS
    ]
    text = pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")
    table = place / _TABLE
    if table.exists() and table.read_bytes() != text.encode():
        fail("is a table of other slides; nothing is overwritten", path=table, remedy="name another folder")
    # The table first: a folder that holds it and was left half written is known again.
    with atomic_path(table) as temporary:
        temporary.write_text(text, encoding="utf-8")
    picture = immunohistochemistry()
    for row, region in zip(rows, _REGIONS.values(), strict=True):
        with atomic_path(place / str(row["slide"])) as temporary:
            Image.fromarray(picture[region]).save(temporary, format="PNG")
    return table


def make_tiles_or_example(
    slides: Sequence[Path] = (), *, output: Path, manifest: Path | None = None, **settings: Any
) -> Path:
    """Make tiles of slides by settings, or those of the example where there are none; tell what was found.

    Raises
    ------
    InputError
        As in :func:`~medrestore.domains.histology.tiles.make_tiles`; for a manifest of the example.
    """
    if slides:
        named = slides if len(slides) > 1 else slides[0]
        return make_tiles(named, output=output, manifest=manifest, report=typer.echo, **settings)
    if manifest is not None:
        raise InputError("--manifest needs SLIDES; the example's manifest is OUTPUT/manifest.csv")
    example = write_example(output.with_name(f"{output.name}_slides"))
    return make_tiles(example, output=output, report=typer.echo, **EXAMPLE_TILES)
