"""What an evaluation of tiles refuses, by name; and how tiles are read."""

from __future__ import annotations

import shutil
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medrestore.checks import InputError
from medrestore.data.tables import records_of
from medrestore.domains.histology import schema
from medrestore.domains.histology.evaluation.evaluate import evaluate_tiles
from medrestore.domains.histology.evaluation.measures import TrueTile, measure_tile
from medrestore.domains.histology.evaluation.pictures import picture_problem, read_picture
from medrestore.domains.histology.schema import TILES, TileReader
from medrestore.domains.histology.slides.reader import Slide

if TYPE_CHECKING:
    from conftest import TileCohort


def run(cohort: TileCohort, tmp_path: Path, **settings: Any) -> Any:
    given: dict[str, Any] = {"methods": cohort.methods, "progress": False}
    return evaluate_tiles(cohort.manifest, output=tmp_path / "out", **given | settings)


def copied(cohort: TileCohort, tmp_path: Path) -> Path:
    folder = tmp_path / "e"
    shutil.copytree(cohort.methods["e"], folder)
    return folder


def test_all_faults_of_restorations_are_named_at_once(tile_cohort, tmp_path):
    folder = copied(tile_cohort, tmp_path)
    names = [folder / f"{tile}_restored.png" for tile in tile_cohort.tiles]
    names[0].unlink()
    Image.open(names[1]).resize((88, 176)).save(names[1])
    Image.open(names[2]).convert("RGBA").save(names[2])
    names[3].write_bytes(b"no picture")
    shutil.copy(tile_cohort.methods["sqe"] / names[0].name, folder / "P9_A_x0_y0_restored.png")
    methods = {"e": folder, "bicubic": folder, "true": folder, "a/b": folder, "gone": tmp_path / "gone"}
    with pytest.raises(InputError) as caught:
        run(tile_cohort, tmp_path, methods=methods)
    message = str(caught.value)
    for expected in (
        "method 'bicubic': the name is taken",
        "method 'true': the name is taken",
        "method 'a/b': a name is made of letters",
        f"method 'gone': {tmp_path / 'gone'} is no folder",
        "P1_A_x0_y0_restored.png is missing",
        "P9_A_x0_y0_restored.png belongs to no tile of the manifest",
        "P1_A_x176_y0_restored.png: must be 176 x 176 pixels as the true tile, is 88 x 176",
        "P2_A_x0_y0_restored.png: must be RGB with 8 bits a channel, is RGB with transparency with 8",
        "P3_A_x0_y0_restored.png: is no PNG file",
    ):
        assert expected in message
    assert not (tmp_path / "out").exists()


def test_restorations_of_other_splits_may_lie_beside(tile_cohort, tmp_path):
    folder = copied(tile_cohort, tmp_path)
    shutil.copy(folder / "P1_A_x0_y0_restored.png", folder / "P0_A_x0_y0_restored.png")
    methods = {"e": folder}
    result = run(tile_cohort, tmp_path, methods=methods, baselines=())
    assert set(result.per_subject["method"]) == {"e", "true"}
    assert "P0" not in set(result.per_subject["subject_id"])


def test_the_true_tile_given_as_a_method_is_found_out(tile_cohort, tmp_path):
    folder = copied(tile_cohort, tmp_path)
    Image.fromarray(tile_cohort.tiles["P2_A_x0_y0"]).save(folder / "P2_A_x0_y0_restored.png")
    with pytest.raises(
        InputError, match=r"tile P2_A_x0_y0, method 'e': .*_restored\.png: the image is the true tile itself"
    ):
        run(tile_cohort, tmp_path, methods={"e": folder})


def test_a_flat_tile_that_came_out_exact_has_no_psnr():
    white = np.full((176, 176, 3), 250, dtype=np.uint8)
    measured = measure_tile(white.copy(), TrueTile(white, microns_per_pixel=0.5))
    assert np.isnan(measured["psnr"])
    assert (measured["rrmse"], measured["qilv"], measured["nuclei"]) == (0, 1, 0)
    assert np.isfinite(measure_tile(white - np.uint8(1), TrueTile(white, microns_per_pixel=0.5))["psnr"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": 5}, r"manifest\.csv: tiles of 176 pixels are no multiple of the scale 5"),
        ({"scale": 1}, r"scale must be in \[2, 64\], got 1"),
        ({"baselines": ["nearest"]}, "baselines must be one of 'bicubic', 'lanczos', got 'nearest'"),
        ({"split": "validation"}, "no row of split 'validation'; it holds test, train"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tile_cohort, tmp_path, settings, message):
    with pytest.raises(InputError, match=message):
        run(tile_cohort, tmp_path, **settings)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("mode", "kind"), [("L", "gray"), ("P", "palette"), ("LA", "gray with transparency"), ("I;16", "gray")]
)
def test_pictures_of_other_kinds_are_named(tmp_path, mode, kind):
    path = tmp_path / "a.png"
    (Image.new("I;16", (8, 8)) if mode == "I;16" else Image.new("RGBA", (8, 8)).convert(mode)).save(path)
    assert picture_problem(path, size=8).startswith(
        f"{path}: must be RGB with 8 bits a channel, is {kind} with"
    )


def test_sixteen_bits_are_told_from_eight(tmp_path):
    # Pillow writes no RGB of 16 bits, and reads it as 8: the header is made by hand.
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path)
    content = bytearray(path.read_bytes())
    assert picture_problem(path, size=8) == ""
    content[24] = 16
    path.write_bytes(bytes(content))
    assert picture_problem(path, size=8).endswith("is RGB with 16")
    with pytest.raises(InputError, match="is RGB with 16"):
        read_picture(path, size=8)
    assert "cannot be read (No such file" in picture_problem(tmp_path / "none.png", size=8)


def test_damaged_data_are_named(tmp_path):
    path = tmp_path / "a.png"
    random = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(random).save(path)
    np.testing.assert_array_equal(read_picture(path, size=64), random)
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(
        InputError, match=r"a\.png: its data cannot be read \(.*\)\. Remedy: restore the tile"
    ):
        read_picture(path, size=64)


def test_a_reader_holds_few_slides_open(tile_cohort, monkeypatch):
    opened: list[weakref.ref[Slide]] = []

    def open_counted(*args: Any, real: Any = schema.open_slide, **options: Any) -> Slide:
        slide: Slide = real(*args, **options)
        opened.append(weakref.ref(slide))
        return slide

    monkeypatch.setattr(schema, "open_slide", open_counted)
    rows = records_of(TILES.read(tile_cohort.manifest))
    rows = [row for row in rows if row["split"] == "test"]
    reader = TileReader(1)
    for row in rows:
        np.testing.assert_array_equal(reader.read(row), tile_cohort.tiles[row["tile"]])
    assert len(opened) == 3  # three slides, the first of which has two tiles
    assert [slide() is not None for slide in opened] == [False, False, True]
    other = threading.Thread(target=reader.read, args=(rows[-1],))
    other.start()
    other.join()
    assert len(opened) == 3


def test_a_manifest_that_lacks_a_slide_is_refused(tile_cohort, tmp_path):
    table = pd.read_csv(tile_cohort.manifest)
    table["slide"] = [f"{tmp_path}/none.png"] * len(table)
    table["slide_sha256"] = ["0" * 64] * len(table)
    table["subject_id"] = table["subject_id"].iloc[1]
    table["split"] = "test"
    table["y"] = range(len(table))
    path = tmp_path / "manifest.csv"
    table.to_csv(path, index=False)
    with pytest.raises(InputError, match=r"none\.png"):
        evaluate_tiles(path, methods={}, output=tmp_path / "out", progress=False)
