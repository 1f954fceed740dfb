"""Tiles from slides to manifest, with what must stop and what must be told."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medrestore.checks import InputError
from medrestore.domains.histology.example import EXAMPLE_TILES, write_example
from medrestore.domains.histology.schema import TILES, open_tile_slide, read_tile
from medrestore.domains.histology.tiles import make_tiles

SMALL = {
    "tile_size": 64,
    "slide_microns_per_pixel": 0.5,
    "microns_per_pixel": 0.5,
    "progress": False,
    "workers": 1,
}
ONE = {**SMALL, "fractions": {"test": 1.0}}


@pytest.fixture
def slides(tmp_path: Path, draw_slide: Callable[..., Path]) -> Path:
    """Write five slides of four patients whose right half is tissue."""
    for index, name in enumerate(("p0_a", "p0_b", "p1_a", "p2_a", "p3_a")):
        draw_slide(tmp_path / "slides" / f"{name}.png", tissue=(128, 0, 256, 256), seed=index)
    return tmp_path / "slides"


def test_tiles_lie_where_the_tissue_is(slides, tmp_path):
    fractions = {"train": 0.5, "validation": 0.25, "test": 0.25}
    manifest = make_tiles(slides, output=tmp_path / "tiles", fractions=fractions, **SMALL)
    assert manifest == tmp_path / "tiles" / "manifest.csv"
    assert TILES.check(manifest) == []
    table = TILES.read(manifest)
    corners = [(x, y) for y in range(0, 256, 64) for x in (128, 192)]
    for _, rows in table.groupby("slide"):
        assert list(zip(rows["x"], rows["y"], strict=True)) == corners
    assert table["tile"][0] == "p0_a_x128_y0"
    assert table["slide"][0] == "../slides/p0_a.png"
    assert (table["tissue_fraction"] == 1).all()
    patients = table.groupby("subject_id")["split"].agg(["nunique", "first"])
    assert (patients["nunique"] == 1).all()
    assert sorted(patients["first"]) == ["test", "train", "train", "validation"]


def test_slide_table_and_overviews(slides, tmp_path):
    make_tiles(slides / "p1_a.png", output=tmp_path / "tiles", **ONE)
    row = pd.read_csv(tmp_path / "tiles" / "slides.csv").iloc[0]
    assert (row["slide"], row["subject_id"], row["split"]) == ("p1_a.png", "p1", "test")
    assert (row["width"], row["height"], row["slide_microns_per_pixel"]) == (256, 256, 0.5)
    assert row["tissue_area_mm2"] == pytest.approx(
        0.128 * 0.064, rel=0.2
    )  # smoothing by 10 um widens its edge
    assert row[["tiles", "dropped_tissue", "dropped_pen", "dropped_focus"]].tolist() == [8, 8, 0, 0]
    with Image.open(tmp_path / "tiles" / "overview" / "p1_a.png") as picture:
        pixels = np.asarray(picture)
    zoom = 1200 // 256
    assert pixels.shape[0] == 256 * zoom + 26
    assert pixels[0, 130 * zoom : 250 * zoom].tolist() == [[0, 90, 200]] * (
        120 * zoom
    )  # tiles of the first row
    assert pixels[0, 1].tolist() == [243, 242, 244]  # glass


def test_ink_and_blur_are_dropped_and_counted(tmp_path, draw_slide):
    from scipy.ndimage import gaussian_filter

    path = draw_slide(tmp_path / "p0.png")
    pixels = np.array(Image.open(path))
    pixels[86:122, 0:128] = (30, 150, 90)  # ink on the tiles (0, 64) and (64, 64)
    pixels[128:, 128:] = gaussian_filter(pixels[128:, 128:].astype(float), (12, 12, 0))
    pixels[128:, 128:] += np.linspace(0, 60, 128).astype(np.uint8)[:, None]  # not flat, not sharp
    Image.fromarray(pixels).save(path)
    manifest = make_tiles(path, output=tmp_path / "tiles", **ONE)
    row = pd.read_csv(tmp_path / "tiles" / "slides.csv").iloc[0]
    assert row[["tiles", "dropped_tissue", "dropped_pen", "dropped_focus"]].tolist() == [10, 0, 2, 4]
    kept = set(TILES.read(manifest)["tile"])
    assert not {"p0_x0_y64", "p0_x64_y64", "p0_x128_y128", "p0_x192_y192"} & kept
    every = make_tiles(path, output=tmp_path / "all", check_pen=False, minimum_focus=0.0, **ONE)
    assert len(TILES.read(every)) == 16


def test_tiles_at_a_coarser_resolution(slides, tmp_path):
    settings = {**ONE, "tile_size": 32, "microns_per_pixel": 1.5, "stride": 16}
    table = TILES.read(make_tiles(slides / "p1_a.png", output=tmp_path / "tiles", **settings))
    # A pixel spans three of level 0; tiles of 96 at steps of 48, half of them at least over 128 to 256.
    assert sorted(set(table["x"])) == [96, 144]
    assert sorted(set(table["y"])) == [0, 48, 96, 144]
    row = table.to_dict("records")[0]
    with open_tile_slide(row) as slide:
        assert read_tile(slide, row).shape == (32, 32, 3)


def test_a_table_gives_patients_splits_and_resolutions(slides, tmp_path):
    table = slides / "slides.csv"
    table.write_text("slide,subject_id,split,microns_per_pixel\np0_a.png,A,train,0.5\np1_a.png,B,test,0.25\n")
    settings = {**SMALL, "slide_microns_per_pixel": None}
    read = TILES.read(make_tiles(table, output=tmp_path / "tiles", **settings))
    assert set(zip(read["subject_id"], read["split"], read["slide_microns_per_pixel"], strict=True)) == {
        ("A", "train", 0.5),
        ("B", "test", 0.25),
    }


def test_a_patient_in_two_splits_stops(slides, tmp_path):
    (slides / "slides.csv").write_text("slide,split\np0_a.png,train\np0_b.png,test\n")
    with pytest.raises(
        InputError, match=r"patient p0 is in two splits: .*p0_a\.png in train, .*p0_b\.png in test"
    ):
        make_tiles(slides / "slides.csv", output=tmp_path / "tiles", **SMALL)
    assert not (tmp_path / "tiles").exists()


def test_a_slide_without_tissue_is_told_by_name(slides, tmp_path, draw_slide, caplog):
    draw_slide(slides / "glass_1.png", tissue=None)
    with caplog.at_level(logging.WARNING):
        manifest = make_tiles(slides, output=tmp_path / "tiles", **ONE)
    assert [record.getMessage() for record in caplog.records] == [
        "glass_1.png gives no tile: no tissue was found (see overview)"
    ]
    assert "glass_1" not in set(TILES.read(manifest)["subject_id"])
    assert (tmp_path / "tiles" / "overview" / "glass_1.png").exists()


def test_no_tissue_at_all_stops(tmp_path, draw_slide):
    path = draw_slide(tmp_path / "glass.png", tissue=None)
    with pytest.raises(
        InputError, match=r"slides\.csv: no tile is left of 1 slide\..*Remedy: look at overview"
    ):
        make_tiles(path, output=tmp_path / "tiles", **ONE)
    assert not (tmp_path / "tiles" / "manifest.csv").exists()


def test_a_split_that_loses_its_tiles_is_told(tmp_path, draw_slide, caplog):
    draw_slide(tmp_path / "a.png")
    draw_slide(tmp_path / "b.png", tissue=None)
    (tmp_path / "slides.csv").write_text("slide,split\na.png,train\nb.png,test\n")
    with caplog.at_level(logging.WARNING):
        make_tiles(tmp_path / "slides.csv", output=tmp_path / "tiles", **SMALL)
    assert "split test has no tile: none is left of its slides" in caplog.text


def test_all_slides_that_cannot_serve_are_named_at_once(tmp_path, draw_slide):
    draw_slide(tmp_path / "slides" / "small.png", side=48, tissue=None)
    Image.new("CMYK", (256, 256)).save(tmp_path / "slides" / "ink.jpg")
    (tmp_path / "slides" / "words.svs").write_text("no slide")
    draw_slide(tmp_path / "slides" / "fine.png")
    with pytest.raises(InputError) as caught:
        make_tiles(tmp_path / "slides", output=tmp_path / "tiles", **ONE)
    message = str(caught.value)
    assert message.startswith("3 of 4 slides could not be cut into tiles, the others were:")
    assert (
        "small.png: is smaller than a tile: 48 x 48 pixels, and a tile of 64 at 0.5 um/pixel spans 64"
        in message
    )
    assert "ink.jpg: is CMYK, expected RGB" in message
    assert "words.svs: is no slide" in message
    table = TILES.read(tmp_path / "tiles" / "manifest.csv")
    assert set(table["slide"]) == {"../slides/fine.png"}


def test_missing_resolution_stops(slides, tmp_path):
    settings = {**ONE, "slide_microns_per_pixel": None}
    with pytest.raises(
        InputError, match=r"^[^\n]*p1_a\.png: has no resolution.*Remedy: state its micrometers"
    ):
        make_tiles(slides / "p1_a.png", output=tmp_path / "tiles", **settings)


def test_transparency_found_late_stops_and_the_rest_is_kept(slides, tmp_path):
    rgba = np.array(Image.open(slides / "p1_a.png").convert("RGBA"))
    rgba[5, 5, 3] = 0
    Image.fromarray(rgba).save(slides / "p1_a.png")
    with pytest.raises(InputError, match=r"p1_a\.png: has transparent pixels"):
        make_tiles(slides, output=tmp_path / "tiles", **ONE)
    (slides / "p1_a.png").unlink()
    records = sorted((tmp_path / "tiles" / "slides").iterdir())
    assert len(records) == 4
    before = [record.stat().st_mtime_ns for record in records]
    make_tiles(slides, output=tmp_path / "tiles", **ONE)
    assert [record.stat().st_mtime_ns for record in records] == before


def test_a_finished_folder_is_kept_and_other_settings_are_refused(slides, tmp_path):
    manifest = make_tiles(slides, output=tmp_path / "tiles", **ONE)
    before = manifest.stat().st_mtime_ns
    assert make_tiles(slides, output=tmp_path / "tiles", **ONE) == manifest
    assert manifest.stat().st_mtime_ns == before
    with pytest.raises(InputError, match="tiles: holds tiles of other slides or settings"):
        make_tiles(slides, output=tmp_path / "tiles", **{**ONE, "tile_size": 32})
    (slides / "p3_a.png").unlink()
    with pytest.raises(InputError, match="tiles: holds tiles of other slides or settings"):
        make_tiles(slides, output=tmp_path / "tiles", **ONE)


def test_a_folder_without_a_tile_takes_other_rules(tmp_path, draw_slide):
    slide = draw_slide(tmp_path / "a.png", tissue=(128, 0, 256, 256))
    with pytest.raises(InputError, match=r"no tile is left of 1 slide.*lower --minimum-tissue"):
        make_tiles(slide, output=tmp_path / "tiles", **ONE, minimum_focus=1e9)
    manifest = make_tiles(slide, output=tmp_path / "tiles", **ONE)
    assert len(TILES.read(manifest))
    with pytest.raises(InputError, match=r"\(rules\.minimum_focus .* -> 0"):
        make_tiles(slide, output=tmp_path / "tiles", **ONE, minimum_focus=0)


def test_a_manifest_that_a_killed_run_wrote_is_ours(slides, tmp_path):
    settings = tmp_path / "tiles" / "tiles.json"
    manifest = make_tiles(slides, output=tmp_path / "tiles", **ONE)
    record = json.loads(settings.read_text())
    killed = {**record, "finished": [], "begun": record["finished"][0], "complete": False}
    settings.write_text(json.dumps(killed))
    assert make_tiles(slides, output=tmp_path / "tiles", **ONE) == manifest


def test_a_changed_slide_is_scanned_anew(slides, tmp_path, draw_slide):
    make_tiles(slides, output=tmp_path / "tiles", **ONE)
    (tmp_path / "tiles" / "manifest.csv").unlink()
    draw_slide(slides / "p1_a.png", tissue=(0, 0, 256, 256), seed=7)
    manifest = make_tiles(slides, output=tmp_path / "tiles", **ONE)
    assert (TILES.read(manifest)["subject_id"] == "p1").sum() == 16
    assert TILES.check(manifest) == []


@pytest.mark.parametrize("content", [None, "", "a;b\n1;2\n"])
def test_a_table_of_slides_that_is_gone_or_changed_is_written_anew(content, slides, tmp_path):
    manifest = make_tiles(slides, output=tmp_path / "out", **ONE)
    table = tmp_path / "out" / "slides.csv"
    held = manifest.read_bytes(), table.read_bytes()
    table.unlink()
    if content is not None:
        table.write_text(content)
    make_tiles(slides, output=tmp_path / "out", report=lambda _: None, **ONE)
    assert (manifest.read_bytes(), table.read_bytes()) == held


@pytest.mark.parametrize(
    "changed",
    [
        {"slides": "none"},
        {"slides": [1]},
        {"slides": [{"path": "p0_a.png"}]},
        {"slides": [{"subject_id": "p0", "split": "exam"}]},
        {"finished": 5},
    ],
)
def test_a_record_that_was_changed_is_named(changed, slides, tmp_path):
    make_tiles(slides, output=tmp_path / "out", **ONE)
    (tmp_path / "out" / "manifest.csv").unlink()
    record = tmp_path / "out" / "tiles.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), **changed}))
    with pytest.raises(InputError, match=r"tiles.json: was changed, and is no record of tiles"):
        make_tiles(slides, output=tmp_path / "out", **ONE)


@pytest.mark.parametrize("changed", [{"tiles": "none"}, {"tiles": [[1]]}, {"figures": {}}, {"figures": 1}])
def test_a_slide_whose_record_was_changed_is_scanned_anew(changed, slides, tmp_path):
    manifest = make_tiles(slides, output=tmp_path / "out", **ONE)
    held = manifest.read_bytes()
    manifest.unlink()
    left = tmp_path / "out" / "slides" / ".partial-7-p0_b.json"
    left.touch()
    record = tmp_path / "out" / "slides" / "p0_a.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), **changed}))
    assert make_tiles(slides, output=tmp_path / "out", **ONE).read_bytes() == held
    assert not left.exists()


def test_folders_with_other_things_are_refused(slides, tmp_path):
    (tmp_path / "tiles").mkdir()
    (tmp_path / "tiles" / "letter.txt").touch()
    with pytest.raises(InputError, match="holds other files and no tiles"):
        make_tiles(slides, output=tmp_path / "tiles", **ONE)
    (tmp_path / "mine.csv").write_text("precious")
    with pytest.raises(InputError, match=r"mine\.csv: exists, and nothing is overwritten"):
        make_tiles(slides, output=tmp_path / "new", manifest=tmp_path / "mine.csv", **ONE)
    assert (tmp_path / "mine.csv").read_text() == "precious"


def test_the_manifest_may_lie_elsewhere(slides, tmp_path):
    target = tmp_path / "tables" / "deep" / "cohort.csv"
    for _ in range(2):  # the second call keeps it
        assert make_tiles(slides, output=tmp_path / "tiles", manifest=target, **ONE) == target
    assert TILES.read(target)["slide"][0] == "../../slides/p0_a.png"
    assert TILES.check(target) == []
    settings = json.loads((tmp_path / "tiles" / "tiles.json").read_text())
    assert settings["finished"] == ["../tables/deep/cohort.csv"]
    assert str(tmp_path) not in (tmp_path / "tiles" / "tiles.json").read_text()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tile_size": 4}, "tile_size must be in"),
        ({"stride": 0}, "stride must be in"),
        ({"microns_per_pixel": 0}, "microns_per_pixel must be in"),
        ({"minimum_tissue": 1.5}, "minimum_tissue must be in"),
        ({"minimum_focus": -1}, "minimum_focus must be in"),
        ({"workers": 0}, "workers must be in"),
        ({"microns_per_pixel": 0.25}, "asked for 0.25, which is finer"),
    ],
)
def test_settings_out_of_range(slides, tmp_path, settings, words):
    with pytest.raises(InputError, match=words):
        make_tiles(slides, output=tmp_path / "tiles", **{**ONE, **settings})


@pytest.mark.slow
def test_workers_do_not_change_the_tiles(slides, tmp_path):
    one = make_tiles(slides, output=tmp_path / "one", **ONE)
    two = make_tiles(slides, output=tmp_path / "two", **{**ONE, "workers": 2})
    assert one.read_bytes() == two.read_bytes()


def test_example_gives_tiles_of_every_split(tmp_path):
    table = write_example(tmp_path / "slides")
    manifest = make_tiles(table, output=tmp_path / "tiles", progress=False, workers=1, **EXAMPLE_TILES)
    assert TILES.check(manifest) == []
    read = TILES.read(manifest)
    assert read.groupby("split")["tile"].count().to_dict() == {"test": 11, "train": 36, "validation": 6}


def test_example_regions_are_of_the_picture_and_do_not_overlap(tmp_path):
    from skimage.data import immunohistochemistry

    write_example(tmp_path)
    picture = immunohistochemistry()
    areas = {"train": np.s_[:336, :336], "validation": np.s_[336:, :336], "test": np.s_[:, 336:]}
    covered = np.zeros((512, 512), dtype=int)
    for name, area in areas.items():
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / f"region-{name}.png")), picture[area])
        covered[area] += 1
    assert (covered == 1).all()


def test_real_pictures_without_resolution(shared_data, tmp_path):
    folder = shared_data("histology/monuseg_train")
    names = sorted(folder.iterdir())[:4]
    fractions = {"train": 0.5, "validation": 0.25, "test": 0.25}
    manifest = make_tiles(
        names,
        output=tmp_path,
        slide_microns_per_pixel=0.25,
        fractions=fractions,
        progress=False,
        workers=1,
    )
    table = TILES.read(manifest)
    assert len(table) == 4 * 9  # each picture is filled with tissue in focus
    assert set(table["subject_id"]) == {"TCGA-18-5592", "TCGA-38-6178", "TCGA-A7-A13E", "TCGA-AR-A1AS"}


def test_real_slide(shared_data, tmp_path):
    path = shared_data("histology/cmu_1_small_region.svs")
    manifest = make_tiles(
        path, output=tmp_path, microns_per_pixel=1.0, fractions={"test": 1.0}, progress=False, workers=1
    )
    row = pd.read_csv(tmp_path / "slides.csv").iloc[0]
    total = (2220 // 513) * (2967 // 513)  # 256 pixels of 1 um are 513 of 0.499 um
    assert row[["tiles", "dropped_tissue", "dropped_pen", "dropped_focus"]].sum() == total
    assert 0.5 < row["tissue_area_mm2"] < 0.75  # by eye a third of 1.64 mm2, and its frayed border
    assert TILES.check(manifest) == []
