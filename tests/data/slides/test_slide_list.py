"""Slides, patients and splits from names and tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from medrestore.checks import InputError
from medrestore.data.slides.slide_list import SlideEntry, find_slides, patient_of, require_splits


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(
    ("stem", "patient"),
    [
        ("TCGA-18-5592-01Z-00-DX1.0f2c", "TCGA-18-5592"),
        ("TCGA-18-5592", "TCGA-18-5592"),
        ("TCGA-18-55921-01Z", "TCGA-18-55921-01Z"),  # no barcode: its third field has five characters
        ("patient007_node1_a", "patient007"),
        ("tumor-12", "tumor-12"),
        ("_odd", "_odd"),
    ],
)
def test_patient_of_a_name(stem: str, patient: str) -> None:
    assert patient_of(stem) == patient


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (r"case(\d+)", r"finds no patient in 'a_1'"),
        (r"a_\d", "must have one group, got 0"),
        (r"(a)_(\d)", "must have one group, got 2"),
        (r"(a", "is no regular expression"),
        (r"(x*)a", "finds no patient"),
    ],
)
def test_patterns_that_do_not_serve(pattern: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        patient_of("a_1", pattern)


def test_folders_and_files(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "one/b.SVS",
        "one/a.png",
        "one/notes.txt",
        "one/.hidden.png",
        "one/below/c.png",
        "two/d.weird",
    )
    entries = find_slides([tmp_path / "one", tmp_path / "two/d.weird"], microns_per_pixel=0.5)
    assert [entry.path.name for entry in entries] == ["a.png", "b.SVS", "d.weird"]
    assert {entry.microns_per_pixel for entry in entries} == {0.5}


def test_a_file_named_twice_is_taken_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    assert len(find_slides([tmp_path, tmp_path / "a.png"])) == 1


def test_two_slides_of_one_name_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "one/a.png", "two/A.svs")
    with pytest.raises(InputError, match=r"two/A\.svs: has the name of .*one/a\.png.*rename one"):
        find_slides([tmp_path / "one", tmp_path / "two"])


def test_nothing_to_find(tmp_path: Path) -> None:
    touch(tmp_path, "empty/notes.txt")
    with pytest.raises(InputError, match=r"empty: holds no slide \(\.svs"):
        find_slides(tmp_path / "empty")
    with pytest.raises(InputError, match="none: no such file or folder"):
        find_slides(tmp_path / "none")
    with pytest.raises(InputError, match="list of folders and files is empty"):
        find_slides([])


def test_table_with_all_columns(tmp_path: Path) -> None:
    touch(tmp_path, "slides/b.svs", "a.png")
    table = tmp_path / "tables" / "slides.csv"
    touch(tmp_path, "tables/slides.csv")
    table.write_text(
        "slide,subject_id,split,microns_per_pixel\n../slides/b.svs,P1,test,\n../a.png,P2,train,0.5\n"
    )
    entries = find_slides(table, microns_per_pixel=0.25)
    assert entries == [
        SlideEntry(tmp_path / "a.png", "P2", "train", 0.5),
        SlideEntry(tmp_path / "slides/b.svs", "P1", "test", 0.25),
    ]


def test_table_of_slides_only(tmp_path: Path) -> None:
    touch(tmp_path, "p1_a.svs")
    (tmp_path / "slides.csv").write_text("slide\np1_a.svs\n")
    assert find_slides(tmp_path / "slides.csv") == [SlideEntry(tmp_path / "p1_a.svs", "p1")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path\na.png\n", "slide: no such column"),
        ("slide\n", "there is no row below the header"),
        ("slide,patient\na.png,1\n", "patient: unknown; known are slide, subject_id"),
        ("slide\nmissing.png\n", r"row 2 slide: missing\.png: no such file"),
        ("slide,split\na.png,val\n", "row 2 split: 'val' is not one of train, validation, test"),
        (
            "slide,microns_per_pixel\na.png,fine\n",
            "row 2 microns_per_pixel: must be a number above 0, got fine",
        ),
        ("slide,microns_per_pixel\na.png,0\n", "must be a number above 0, got 0"),
        ("slide\na.png\na.png\n", "name it once"),
    ],
)
def test_faults_of_a_table(tmp_path: Path, text: str, words: str) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "slides.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        find_slides(tmp_path / "slides.csv")


def entries(*rows: tuple[str, str]) -> list[SlideEntry]:
    return [
        SlideEntry(Path(f"/{subject}_{index}.svs"), subject, split)
        for index, (subject, split) in enumerate(rows)
    ]


def test_splits_are_by_patient_and_depend_on_the_seed_alone() -> None:
    slides = entries(*((f"p{index % 10}", "") for index in range(30)))
    first = require_splits(slides, fractions=None, seed=0)
    split_of = {entry.subject_id: entry.split for entry in first}
    assert sorted(split_of.values()) == ["test"] * 2 + ["train"] * 7 + ["validation"]
    assert all(entry.split == split_of[entry.subject_id] for entry in first)
    again = require_splits(slides[::-1], fractions=None, seed=0)
    assert {entry.subject_id: entry.split for entry in again} == split_of
    others = [require_splits(slides, fractions=None, seed=seed) for seed in range(1, 4)]
    assert any({entry.subject_id: entry.split for entry in other} != split_of for other in others)


def test_splits_of_a_table_are_kept() -> None:
    slides = entries(("a", "train"), ("a", "train"), ("b", "test"))
    assert require_splits(slides, fractions=None, seed=0) == slides


def test_a_patient_in_two_splits_is_named_with_both_slides() -> None:
    slides = entries(("a", "train"), ("b", "test"), ("a", "test"))
    with pytest.raises(
        InputError, match=r"patient a is in two splits: /a_0\.svs in train, /a_2\.svs in test"
    ):
        require_splits(slides, fractions=None, seed=0)


def test_splits_that_cannot_be_made() -> None:
    with pytest.raises(InputError, match=r"/b_1\.svs: has no split, others have"):
        require_splits(entries(("a", "train"), ("b", "")), fractions=None, seed=0)
    with pytest.raises(InputError, match="no fractions can be given"):
        require_splits(entries(("a", "train")), fractions={"train": 1.0}, seed=0)
    with pytest.raises(InputError, match="a split in fractions must be one of 'train'"):
        require_splits(entries(("a", "")), fractions={"training": 1.0}, seed=0)
    with pytest.raises(InputError, match=r"2 subjects leave split .* empty.*Remedy: take more patients"):
        require_splits(entries(("a", ""), ("b", "")), fractions=None, seed=0)
