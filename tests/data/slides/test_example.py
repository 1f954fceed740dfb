"""The example: three regions of one picture that share no pixel, and the tiles that ship as its data sheet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from skimage.data import immunohistochemistry

from medrestore.checks import InputError
from medrestore.data.slides.example import EXAMPLE_MICRONS_PER_PIXEL, EXAMPLE_TILES, write_example
from medrestore.data.slides.tiles import make_tiles

SHEET = Path(__file__).parents[3] / "data_manifests" / "histology_example.csv"


def test_regions_are_those_of_the_picture_and_apart(tmp_path: Path) -> None:
    table = pd.read_csv(write_example(tmp_path / "slides"))
    assert table["split"].tolist() == ["train", "validation", "test"]
    assert (table["microns_per_pixel"] == EXAMPLE_MICRONS_PER_PIXEL).all()
    picture = immunohistochemistry()
    # Every pixel of the picture, told apart by its place, is in one region or in none.
    places = np.arange(512 * 512).reshape(512, 512)
    seen: list[np.ndarray] = []
    for row, (lines, columns) in zip(
        table.itertuples(),
        [((0, 336), (0, 336)), ((336, 512), (0, 336)), ((0, 512), (336, 512))],
        strict=True,
    ):
        region = np.asarray(Image.open(tmp_path / "slides" / row.slide))
        np.testing.assert_array_equal(region, picture[slice(*lines), slice(*columns)])
        seen.append(places[slice(*lines), slice(*columns)].ravel())
    joined = np.concatenate(seen)
    assert len(joined) == len(np.unique(joined)) == 512 * 512


def test_written_again_alike_and_nothing_else_overwritten(tmp_path: Path) -> None:
    first = write_example(tmp_path / "slides")
    before = {path.name: path.read_bytes() for path in first.parent.iterdir()}
    write_example(tmp_path / "slides")
    assert {path.name: path.read_bytes() for path in first.parent.iterdir()} == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="nothing is overwritten"):
        write_example(tmp_path / "mine")


def test_tiles_are_those_of_the_data_sheet(tmp_path: Path) -> None:
    manifest = make_tiles(
        write_example(tmp_path / "slides"), output=tmp_path / "tiles", progress=False, **EXAMPLE_TILES
    )
    tiles = pd.read_csv(manifest)[["tile", "split", "x", "y", "tile_size"]]
    pd.testing.assert_frame_equal(tiles, pd.read_csv(SHEET))
