"""Folders in which some slides cannot serve: the others are cut into tiles, and all that failed are named."""

from __future__ import annotations

import io
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medrestore.checks import InputError
from medrestore.domains.histology.schema import TILES
from medrestore.domains.histology.tiles import make_tiles

SMALL = {
    "tile_size": 64,
    "slide_microns_per_pixel": 0.5,
    "microns_per_pixel": 0.5,
    "progress": False,
    "workers": 1,
}
HALF = {**SMALL, "fractions": {"train": 0.5, "validation": 0.25, "test": 0.25}}


def tissue(seed: int, side: int = 128) -> np.ndarray:
    random = np.random.default_rng(seed)
    stained = np.array([190, 110, 160]) + random.normal(0, 25, (side, side, 3))
    return np.clip(stained, 0, 255).astype(np.uint8)


def write_good(folder: Path, cases: int) -> list[str]:
    """Write slides of as many patients, as a laboratory names them; two of each of all but the last two."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"S19-{1000 + case} {block}.png" for case in range(cases) for block in ("A1", "B1")][:-2]
    for seed, name in enumerate(names):
        Image.fromarray(tissue(seed)).save(folder / name)
    return names


def damage(folder: Path, svs: Path, write_pyramid: Callable[..., Path]) -> dict[str, str]:
    """Write twelve slides that cannot serve, in twelve ways; return what is said of each."""
    png = io.BytesIO()
    Image.fromarray(tissue(90)).save(png, format="PNG")
    opaque = np.full((128, 128, 1), 255, np.uint8)
    opaque[3, 3] = 0
    (folder / "S19-2000 empty.svs").touch()
    (folder / "S19-2001 text.tiff").write_text("no slide")
    (folder / "S19-2002 cut.svs").write_bytes(svs.read_bytes()[: svs.stat().st_size // 2])
    (folder / "S19-2003 cut.png").write_bytes(png.getvalue()[: len(png.getvalue()) // 2])
    Image.new("CMYK", (128, 128)).save(folder / "S19-2004 ink.jpg")
    Image.fromarray(np.zeros((128, 128), np.uint16)).save(folder / "S19-2005 deep.png")
    Image.fromarray(np.dstack([tissue(91), opaque])).save(folder / "S19-2006 hole.png")
    Image.fromarray(tissue(92, 32)).save(folder / "S19-2007 small.png")
    (folder / "S19-2008 link.svs").symlink_to("gone.svs")
    (folder / "S19-2009 alone.mrxs").write_bytes(b"\xff\xd8")
    tiles = write_pyramid(folder / "S19-2010 tile.tiff", [tissue(93, 256)], microns_per_pixel=0.5)
    content = bytearray(tiles.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 9000] = bytes(9000)
    tiles.write_bytes(content)
    Image.fromarray(tissue(94)).save(folder / "nobody.png")
    return {
        "S19-2000 empty.svs": "is empty",
        "S19-2001 text.tiff": "is no slide",
        "S19-2002 cut.svs": "is no slide",
        "S19-2003 cut.png": "truncated",
        "S19-2004 ink.jpg": "is CMYK",
        "S19-2005 deep.png": "expected RGB",
        "S19-2006 hole.png": "has transparent pixels",
        "S19-2007 small.png": "is smaller than a tile",
        "S19-2008 link.svs": "is a link that leads nowhere",
        "S19-2009 alone.mrxs": "lacks its folder",
        "S19-2010 tile.tiff": "cannot be read",
        "nobody.png": "nothing tells its patient",
    }


def test_twelve_of_forty_slides_are_bad_in_twelve_ways(call, tmp_path, write_pyramid, shared_data):
    slides, output = tmp_path / "slides", tmp_path / "tiles"
    good = write_good(slides, 15)
    bad = damage(slides, shared_data("histology/cmu_1_small_region.svs"), write_pyramid)
    assert (len(good), len(bad)) == (28, 12)
    options = [
        "--tile-size",
        64,
        "--slide-microns-per-pixel",
        0.5,
        "--microns-per-pixel",
        0.5,
        "--workers",
        1,
    ]
    cut = call("histology", "tiles", slides, "--output", output, *options)
    assert cut.code == 2
    assert "Traceback" not in cut.err
    assert "12 of 40 slides could not be cut into tiles, the others were:" in cut.err
    lines = cut.err.splitlines()
    for name, words in bad.items():
        assert any(name in line and words in line for line in lines), name
    table = TILES.read(output / "manifest.csv")
    assert {Path(slide).name for slide in table["slide"]} == set(good)
    assert TILES.check(output / "manifest.csv") == []
    assert "patients of 28 slides by accession number, as S19-1000 A1.png: S19-1000" in cut.out
    for split, rows in table.groupby("split"):
        patients, tiles = rows["subject_id"].nunique(), len(rows)
        told = next(line for line in cut.out.splitlines() if line.startswith(f"{split}: "))
        assert f", {patients} patient" in told
        assert told.endswith(f", {tiles} tiles")
    assert sorted(path.stem for path in (output / "slides").iterdir()) == sorted(
        Path(name).stem for name in good
    )
    again = call("histology", "tiles", slides, "--output", output, *options)
    assert (again.code, again.err.splitlines()[-13:]) == (2, lines[-13:])


def test_mended_and_removed_slides_join_and_patients_keep_their_splits(tmp_path):
    slides, output = tmp_path / "slides", tmp_path / "tiles"
    write_good(slides, 5)
    for name in ("S19-3000 A.svs", "S19-3001 A.svs"):
        (slides / name).write_text("no slide")
    with pytest.raises(InputError, match=r"^2 of 10 slides could not"):
        make_tiles(slides, output=output, **HALF)
    before = TILES.read(output / "manifest.csv")
    records = {path: path.stat().st_mtime_ns for path in (output / "slides").iterdir()}
    (slides / "S19-3000 A.svs").unlink()
    (slides / "S19-3001 A.svs").unlink()
    Image.fromarray(tissue(80)).save(slides / "S19-3001 A.png")
    make_tiles(slides, output=output, **HALF)
    after = TILES.read(output / "manifest.csv")
    assert {path: path.stat().st_mtime_ns for path in records} == records
    kept = after[after["subject_id"] != "S19-3001"].drop(columns="row").reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, before.drop(columns="row"))
    assert (after["subject_id"] == "S19-3001").sum() == 4
    assert TILES.check(output / "manifest.csv") == []
    Image.fromarray(tissue(81)).save(slides / "S19-3002 A.png")
    with pytest.raises(InputError, match="holds tiles of other slides or settings"):
        make_tiles(slides, output=output, **HALF)  # it is complete now


def test_other_splits_are_no_continuation(tmp_path):
    write_good(tmp_path / "slides", 5)
    (tmp_path / "slides" / "S19-3000 A.svs").write_text("no slide")
    with pytest.raises(InputError, match=r"1 of 9 slides could not"):
        make_tiles(tmp_path / "slides", output=tmp_path / "tiles", **HALF)
    with pytest.raises(InputError, match="holds tiles of other slides or settings"):
        make_tiles(tmp_path / "slides", output=tmp_path / "tiles", seed=1, **HALF)


def test_a_slide_that_is_damaged_later_is_named_and_the_manifest_stays(tmp_path):
    write_good(tmp_path / "slides", 5)
    manifest = make_tiles(tmp_path / "slides", output=tmp_path / "tiles", **HALF)
    before = manifest.read_bytes()
    (tmp_path / "slides" / "S19-1003 A1.png").write_text("no slide")
    with pytest.raises(InputError, match=r"S19-1003 A1\.png: is no slide"):
        make_tiles(tmp_path / "slides", output=tmp_path / "tiles", **HALF)
    assert manifest.read_bytes() == before


def test_too_few_that_are_left_are_told_with_those_that_are_not(tmp_path):
    write_good(tmp_path / "slides", 4)
    for case in (3, 4, 5, 6, 7):
        (tmp_path / "slides" / f"S19-100{case} A.svs").write_text("no slide")
    with pytest.raises(InputError) as caught:
        make_tiles(tmp_path / "slides", output=tmp_path / "tiles", **SMALL)
    assert "leave split 'validation' empty" in str(caught.value)
    assert str(caught.value).count("is no slide") == 5
    assert not (tmp_path / "tiles").exists()


def test_copies_are_one_entry_or_named(tmp_path, write_pyramid, caplog):
    slides = tmp_path / "slides"
    write_good(slides, 6)
    shutil.copy(slides / "S19-1000 A1.png", slides / "S19-1000 copy.png")
    shutil.copy(slides / "S19-1001 A1.png", slides / "S19-1002 wrong.png")
    first = write_pyramid(slides / "S19-1003 P.tiff", [tissue(70)], microns_per_pixel=0.5)
    (slides / "S19-1004 P.tiff").write_bytes(first.read_bytes() + b"trailing")
    with caplog.at_level(logging.WARNING), pytest.raises(InputError) as caught:
        make_tiles(slides, output=tmp_path / "tiles", **HALF)
    message = str(caught.value)
    assert message.startswith("4 of 14 slides could not be cut into tiles")
    for one, other in (("S19-1001 A1.png", "S19-1002 wrong.png"), ("S19-1003 P.tiff", "S19-1004 P.tiff")):
        assert f"{one}: is the same slide as {slides / other}, which is of patient" in message
    assert "S19-1000 copy.png is the same slide as" in caplog.text
    kept = set(TILES.read(tmp_path / "tiles" / "manifest.csv")["slide"])
    assert "../slides/S19-1000 A1.png" in kept
    assert len(kept) == 9
    assert TILES.check(tmp_path / "tiles" / "manifest.csv") == []


def test_a_dicom_series_is_cut_once_and_nothing_tells_where_it_lay(tmp_path, write_dicom):
    for index in range(3):
        pixels, series = tissue(index), {"series": f"1.2.{index}", "patient": f"MRN {index}"}
        folder = tmp_path / "archive" / f"1.2.840.10008.5.1.4.1.1.77.{index}"
        write_dicom(folder / "1.dcm", pixels, **series)
        write_dicom(folder / "2.dcm", pixels[::2, ::2], downsample=2, **series)
        write_dicom(folder / "3.dcm", pixels[:64, :64], flavor="LABEL", **series)
    thirds = {"train": 0.34, "validation": 0.33, "test": 0.33}
    settings = {**SMALL, "slide_microns_per_pixel": None, "fractions": thirds}
    manifest = make_tiles(tmp_path / "archive", output=tmp_path / "tiles", **settings)
    table = TILES.read(manifest)
    assert len(table) == 3 * 4
    assert table.groupby("subject_id")["split"].nunique().tolist() == [1, 1, 1]
    assert all(name.startswith("patient-") for name in table["subject_id"])
    assert TILES.check(manifest) == []
    for file in (tmp_path / "tiles").rglob("*"):
        if file.suffix in (".json", ".csv"):
            assert str(tmp_path) not in file.read_text()
            assert "MRN" not in file.read_text()
    listed = json.loads((tmp_path / "tiles" / "tiles.json").read_text())["slides"]
    assert listed[0]["path"].startswith("../archive/1.2.840")
