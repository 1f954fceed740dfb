"""Manifests of tiles, and each fault that they can have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from manifest import cells, edit, tile_row, write_manifest

from medrestore.checks import InputError
from medrestore.domains.histology.schema import TILES, open_tile_slide, read_tile
from medrestore.files import sha256_file


@pytest.fixture
def cohort(tmp_path: Path, draw_slide: Callable[..., Path]) -> Path:
    """Write three slides of three patients, beside the manifest's folder, and four tiles."""
    rows = []
    for index, split in enumerate(("train", "validation", "test")):
        draw_slide(tmp_path / "slides" / f"p{index}_a.png", seed=index)
        for x in (0, 128) if split == "train" else (0,):
            row = tile_row(f"p{index}", f"../slides/p{index}_a.png", split, x=x, y=0, size=64, microns=0.5)
            rows.append({**row, "slide_microns_per_pixel": 0.25, "focus": 0.5})
    (tmp_path / "tables").mkdir()
    return write_manifest(TILES, rows, tmp_path / "tables")


def test_a_sound_manifest(cohort):
    assert TILES.check(cohort) == []
    table = TILES.read(cohort)
    assert tuple(table.columns) == (*TILES.order, "row", "slide_path")
    assert table["row"].tolist() == [2, 3, 4, 5]
    assert [table[name].dtype for name in ("x", "y", "tile_size")] == [np.int64] * 3
    assert [table[name].dtype for name in ("microns_per_pixel", "tissue_fraction", "focus")] == [
        np.float64
    ] * 3
    assert table["slide_path"][0] == str(cohort.parents[1] / "slides" / "p0_a.png")


def test_subjects_stay_text(cohort):
    for row in (2, 3):
        edit(cohort, row, subject_id="007")
    assert TILES.read(cohort)["subject_id"][0] == "007"


def test_all_of_twelve_broken_rows_are_told_at_once(cohort):
    table = cells(cohort).iloc[[0] * 40].reset_index(drop=True)
    table["tile"] = [f"p0_a_x{number}_y0" for number in range(40)]
    table["x"] = [str(number) for number in range(40)]
    table.to_csv(cohort, index=False)
    assert TILES.check(cohort) == []
    broken = {
        2: {"split": "Train"},
        5: {"subject_id": "P00"},
        8: {"tile": "a/b"},
        11: {"tile": "p0_a_x0_y0"},
        14: {"x": "1.5"},
        17: {"y": "0"} | {"x": "3"},
        20: {"tile_size": "64,0"},
        23: {"microns_per_pixel": "0"},
        26: {"tissue_fraction": "120"},
        29: {"focus": "sharp"},
        32: {"slide": f"{'x' * 300}.svs"},
        35: {"slide_sha256": ""},
    }
    for row, values in broken.items():
        edit(cohort, row, **values)
    lines = cohort.read_text().splitlines()
    cohort.write_text("\n".join([*lines[:39], f"{lines[39]},more", *lines[40:]]) + "\n")
    assert broken.keys() | {40} <= {problem.row for problem in TILES.check(cohort)}


def test_what_is_read_is_written_again_alike_with_other_columns(cohort, tmp_path):
    again = TILES.write(TILES.read(cohort), tmp_path / "tables" / "again.csv")
    assert again.read_bytes() == cohort.read_bytes()
    table = TILES.write(TILES.read(cohort).assign(hospital="A"), again)
    assert TILES.read(table)["hospital"].tolist() == ["A"] * 4


def test_tiles_are_read_at_the_stated_resolution(cohort):
    row = TILES.read(cohort).to_dict("records")[1]
    with open_tile_slide(row) as slide:
        assert slide.microns_per_pixel == 0.25
        tile = read_tile(slide, row)
        expected = slide.read(128, 0, width=64, height=64, microns_per_pixel=0.5)
    np.testing.assert_array_equal(tile, expected)


def test_slides_may_state_their_own_resolution(cohort, tmp_path, write_pyramid):
    slide = write_pyramid(tmp_path / "slides" / "s.tiff", [np.full((256, 256, 3), 90, np.uint8)])
    edit(cohort, 5, slide="../slides/s.tiff", slide_microns_per_pixel="", slide_sha256=sha256_file(slide))
    assert TILES.check(cohort) == []
    row = TILES.read(cohort).to_dict("records")[3]
    with open_tile_slide(row) as opened:
        assert opened.microns_per_pixel == pytest.approx(0.25, rel=1e-6)


def test_the_column_of_slide_resolutions_may_be_left_out(cohort):
    table = pd.read_csv(cohort).drop(columns="slide_microns_per_pixel")
    table.to_csv(cohort, index=False)
    assert TILES.read(cohort)["slide_microns_per_pixel"].isna().all()
    assert "has no resolution" in str(TILES.check(cohort)[0])


@pytest.mark.parametrize(
    ("row", "values", "expected"),
    [
        (3, {"split": "test"}, "row 3 split: patient p0 in two splits, train (row 2) and test"),
        (4, {"split": "val"}, "row 4 split: 'val' is not one of train, validation, test"),
        (4, {"split": "Train"}, "is not one of train, validation, test; did you mean 'train'?"),
        (5, {"subject_id": "p0 ", "split": "test"}, "patient p0 in two splits, train (row 2) and test"),
        (5, {"subject_id": "P00"}, "row 5 subject_id: 'P00' and 'p0' of row 2 look like one subject"),
        (5, {"subject_id": "1.2E+10"}, "row 5 subject_id: '1.2E+10' is a long number that a spreadsheet"),
        (4, {"tile": "a/b"}, "row 4 tile: 'a/b' can be no part of a file name: it holds '/'"),
        (4, {"focus": "0,5"}, "row 4 focus: '0,5' is no number: write it with a decimal point"),
        (3, {"tile": "p0_a_x0_y0"}, "row 3 tile: is the same tile as row 2"),
        (3, {"x": 0}, "row 3 slide: is the same tile as row 2"),
        (3, {"tile_size": 32}, "row 3 tile_size: tiles must have one size, got 32 and 64"),
        (4, {"x": -1}, "row 4 x: must be a whole number, at least 0, got -1"),
        (4, {"x": "1e20"}, "row 4 x: must be a whole number, at least 0 and at most 2147483647, got 1e20"),
        (4, {"y": 0.5}, "row 4 y: must be a whole number, at least 0, got 0.5"),
        (4, {"focus": "sharp"}, "row 4 focus: 'sharp' is no number"),
        (4, {"tissue_fraction": 1.2}, "row 4 tissue_fraction: must be in [0, 1], got 1.2"),
        (4, {"microns_per_pixel": 0}, "row 4 microns_per_pixel: must be above 0, got 0"),
        (4, {"subject_id": ""}, "row 4 subject_id: is empty"),
        (3, {"slide_sha256": "0" * 64}, "another checksum than in row 2"),
        (3, {"slide_microns_per_pixel": 0.3}, "another resolution than in row 2"),
    ],
)
def test_faults_that_reading_refuses(cohort, row, values, expected):
    edit(cohort, row, **values)
    with pytest.raises(InputError) as caught:
        TILES.read(cohort)
    assert expected in str(caught.value)
    assert expected in "\n".join(map(str, TILES.check(cohort)))


def test_one_slide_under_two_patients_is_a_leak(cohort):
    copy = cohort.parents[1] / "slides" / "p2_a.png"
    source = cohort.parents[1] / "slides" / "p0_a.png"
    copy.write_bytes(source.read_bytes())
    edit(cohort, 5, slide_sha256=sha256_file(copy))
    with pytest.raises(
        InputError, match=r"row 5 subject_id: one slide under two patients, p0 \(row 2\) and p2"
    ):
        TILES.read(cohort)


@pytest.mark.parametrize("copied", ["link", "hardlink", "copy"])
def test_one_slide_under_two_names_is_found(cohort, write_pyramid, copied):
    """A copy with other bytes, or a link; in another split, and of the same patient in the same one."""
    slides = cohort.parents[1] / "slides"
    levels = [np.random.default_rng(3).integers(0, 255, (256, 256, 3), dtype=np.uint8)]
    first = write_pyramid(slides / "p1_b.tiff", levels)
    second = slides / "p2_b.tiff"
    if copied == "copy":
        second.write_bytes(first.read_bytes() + b"trailing")
    else:
        (second.symlink_to if copied == "link" else second.hardlink_to)(first)
    for row, path in ((4, first), (5, second)):
        edit(cohort, row, slide=f"../slides/{path.name}", slide_sha256=sha256_file(path))
    found = "\n".join(map(str, TILES.check(cohort)))
    assert "row 5 slide: ../slides/p2_b.tiff: is the same slide as ../slides/p1_b.tiff (row 4)" in found
    assert "in split validation, and this one in split test" in found
    edit(cohort, 5, subject_id="p1", split="validation")
    found = "\n".join(map(str, TILES.check(cohort)))
    assert found == "row 5 slide: ../slides/p2_b.tiff: is the same slide as ../slides/p1_b.tiff (row 4)"


@pytest.mark.parametrize("subject", ["S19-1000 B", "s19.01000", "S19-1000"])
def test_a_patient_in_two_splits_is_found_in_any_writing(cohort, subject):
    for row, name in ((2, "S19-1000 A1"), (3, "S19-1000 A1"), (4, "other"), (5, subject)):
        edit(cohort, row, subject_id=name)
    found = [str(problem) for problem in TILES.check(cohort)]
    assert found == [
        f"row 5 subject_id: one patient in two splits: S19-1000 A1 in train (row 2) and {subject} in test"
    ]


@pytest.mark.parametrize(
    ("row", "values", "expected"),
    [
        (4, {"slide": "../slides/none.png"}, "row 4 slide: ../slides/none.png: no such file"),
        (3, {"x": 129}, "row 3 tile: p0_a_x128_y0 leaves its slide of 256 x 256 pixels"),
        (5, {"y": 140}, "row 5 tile: p2_a_x0_y0 leaves its slide"),
        (5, {"microns_per_pixel": 0.2}, "asked for 0.2, which is finer"),
    ],
)
def test_faults_that_only_the_slides_tell(cohort, row, values, expected):
    edit(cohort, row, **values)
    TILES.read(cohort)  # does not open slides
    problems = TILES.check(cohort)
    assert len(problems) == 1
    assert expected in str(problems[0])


def test_a_slide_that_changed(cohort, draw_slide):
    draw_slide(cohort.parents[1] / "slides" / "p1_a.png", seed=9)
    assert [str(problem) for problem in TILES.check(cohort)] == [
        "row 4 slide_sha256: ../slides/p1_a.png: the file has changed"
    ]


def test_tables_that_are_no_manifest(tmp_path, cohort):
    with pytest.raises(InputError, match="no such file"):
        TILES.read(tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("subject_id,slide\na,b.svs\n")
    with pytest.raises(InputError, match="row 1 split: no such column"):
        TILES.read(tmp_path / "other.csv")
    table = TILES.read(cohort)
    with pytest.raises(InputError, match="the table lacks the columns tile, focus"):
        TILES.write(table.drop(columns=["tile", "focus"]), tmp_path / "new.csv")
