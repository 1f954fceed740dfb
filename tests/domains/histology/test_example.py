"""The example can be written again, and its tiles are those of its data sheet."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from medrestore.checks import InputError
from medrestore.domains.histology.example import EXAMPLE_TILES, write_example
from medrestore.domains.histology.tiles import make_tiles

SHEET = Path(__file__).parents[3] / "data_manifests" / "histology_example.csv"


def test_written_again_alike_and_nothing_else_overwritten(tmp_path):
    first = write_example(tmp_path / "slides")
    before = {path.name: path.read_bytes() for path in first.parent.iterdir()}
    write_example(tmp_path / "slides")
    assert {path.name: path.read_bytes() for path in first.parent.iterdir()} == before
    (tmp_path / "mine").mkdir()
    for name in ("notes.txt", "slides.csv"):  # a table of the user's own, beside which nothing is written
        (tmp_path / "mine" / name).write_text("mine")
        with pytest.raises(InputError, match="nothing is overwritten"):
            write_example(tmp_path / "mine")
    assert {path.name: path.read_text() for path in (tmp_path / "mine").iterdir()} == {
        "notes.txt": "mine",
        "slides.csv": "mine",
    }


def test_tiles_are_those_of_the_data_sheet(tmp_path):
    manifest = make_tiles(
        write_example(tmp_path / "slides"), output=tmp_path / "tiles", progress=False, **EXAMPLE_TILES
    )
    tiles = pd.read_csv(manifest)[["tile", "split", "x", "y", "tile_size"]]
    pd.testing.assert_frame_equal(tiles, pd.read_csv(SHEET))
