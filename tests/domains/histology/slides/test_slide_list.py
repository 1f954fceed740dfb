"""Slides, patients and splits from names and tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from medrestore.checks import InputError
from medrestore.domains.histology.slides.slide_list import (
    SlideEntry,
    find_slides,
    require_patients,
    require_splits,
)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_folders_and_files(tmp_path):
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
    assert [entry.path.name for entry in entries] == ["a.png", "b.SVS", "c.png", "d.weird"]
    assert {entry.microns_per_pixel for entry in entries} == {0.5}


def test_a_file_named_twice_is_taken_once(tmp_path):
    touch(tmp_path, "a.png")
    assert len(find_slides([tmp_path, tmp_path / "a.png"])) == 1


def test_equal_names_in_different_folders_are_two_slides(tmp_path):
    touch(tmp_path, "one/a.png", "two/A.svs", "two/b.svs", "three/x/b.svs", "four/x/b.svs")
    found = {entry.path.relative_to(tmp_path).as_posix(): entry.name for entry in find_slides(tmp_path)}
    assert found == {
        "one/a.png": "one_a",
        "two/A.svs": "two_A",
        "two/b.svs": "two_b",
        "three/x/b.svs": "three_x_b",
        "four/x/b.svs": "four_x_b",
    }


def test_names_stay_apart_when_a_folder_makes_them_alike(tmp_path):
    touch(tmp_path, "P1/a.png", "P2/a.png", "P2/P1_a.png")
    names = [entry.name.casefold() for entry in find_slides(tmp_path)]
    assert len(set(names)) == 3


def test_one_name_in_one_folder_is_a_fault_of_both(tmp_path):
    touch(tmp_path, "P1/a.png", "P1/A.svs", "P1/b.png")
    faults = {entry.path.name: entry.fault for entry in find_slides(tmp_path)}
    assert faults["b.png"] == ""
    assert faults["a.png"].startswith("has the name of A.svs")
    assert faults["A.svs"].startswith("has the name of a.png")


def test_nothing_to_find(tmp_path):
    touch(tmp_path, "empty/notes.txt")
    with pytest.raises(InputError, match=r"empty: holds no slide \(\.svs"):
        find_slides(tmp_path / "empty")
    with pytest.raises(InputError, match="none: no such file or folder"):
        find_slides(tmp_path / "none")
    with pytest.raises(InputError, match="list of folders and files is empty"):
        find_slides([])


def test_table_with_all_columns(tmp_path):
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


def test_table_of_slides_only(tmp_path):
    touch(tmp_path, "p1_a.svs")
    (tmp_path / "slides.csv").write_text("slide\np1_a.svs\n")
    assert find_slides(tmp_path / "slides.csv") == [SlideEntry(tmp_path / "p1_a.svs", "p1")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path\na.png\n", "slide: no such column"),
        ("slide\n", "there is no row below the header"),
        ("slide,hospital\na.png,1\n", "hospital: unknown; known are slide, subject_id"),
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
def test_faults_of_a_table(tmp_path, text, words):
    touch(tmp_path, "a.png")
    (tmp_path / "slides.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        find_slides(tmp_path / "slides.csv")


def entries(*rows: tuple[str, str]) -> list[SlideEntry]:
    return [
        SlideEntry(Path(f"/{subject}_{index}.svs"), subject, split)
        for index, (subject, split) in enumerate(rows)
    ]


def test_splits_are_by_patient_and_depend_on_the_seed_alone():
    slides = entries(*((f"p{index % 10}", "") for index in range(30)))
    first = require_splits(slides, fractions=None, seed=0)
    split_of = {entry.subject_id: entry.split for entry in first}
    assert sorted(split_of.values()) == ["test"] * 2 + ["train"] * 7 + ["validation"]
    assert all(entry.split == split_of[entry.subject_id] for entry in first)
    again = require_splits(slides[::-1], fractions=None, seed=0)
    assert {entry.subject_id: entry.split for entry in again} == split_of
    others = [require_splits(slides, fractions=None, seed=seed) for seed in range(1, 4)]
    assert any({entry.subject_id: entry.split for entry in other} != split_of for other in others)


def test_splits_of_a_table_are_kept():
    slides = entries(("a", "train"), ("a", "train"), ("b", "test"))
    assert require_splits(slides, fractions=None, seed=0) == slides


def test_a_patient_in_two_splits_is_named_with_both_slides():
    slides = entries(("a", "train"), ("b", "test"), ("a", "test"))
    with pytest.raises(
        InputError, match=r"patient a is in two splits: /a_0\.svs in train, /a_2\.svs in test"
    ):
        require_splits(slides, fractions=None, seed=0)


def test_splits_that_cannot_be_made():
    with pytest.raises(InputError, match=r"/b_1\.svs: has no split, others have"):
        require_splits(entries(("a", "train"), ("b", "")), fractions=None, seed=0)
    with pytest.raises(InputError, match="no fractions can be given"):
        require_splits(entries(("a", "train")), fractions={"train": 1.0}, seed=0)
    with pytest.raises(InputError, match="a split in fractions must be one of 'train'"):
        require_splits(entries(("a", "")), fractions={"training": 1.0}, seed=0)
    with pytest.raises(InputError, match=r"2 subjects leave split .* empty.*Remedy: take more patients"):
        require_splits(entries(("a", ""), ("b", "")), fractions=None, seed=0)


def subjects(found: list[SlideEntry]) -> dict[str, str]:
    return {entry.path.name: entry.subject_id for entry in found}


LABORATORY = tuple(f"S19-{case} {block}.svs" for case in range(1000, 1010) for block in ("A1", "A2", "B1"))
"""Three slides of each of ten patients, as a laboratory names them."""


def test_blocks_of_a_laboratory_are_one_patient(tmp_path):
    touch(tmp_path, *LABORATORY)
    found = require_splits(find_slides(tmp_path), fractions=None, seed=0)
    places = {(entry.subject_id, entry.split) for entry in found}
    assert sorted(subject for subject, _ in places) == [f"S19-{case}" for case in range(1000, 1010)]


def test_writings_of_a_patient_are_made_one(tmp_path):
    touch(tmp_path, "a/S19-1000 A1.svs", "b/s19.01000_B.svs", "c/19S1000.svs")
    assert set(subjects(find_slides(tmp_path)).values()) == {"S19-1000"}


def test_folder_per_patient(tmp_path):
    touch(tmp_path, "P1/HE.svs", "P1/deep/KI67.svs", "P2/HE.svs")
    touch(tmp_path, "P2/.DS_Store", "P2/._HE.svs", "P2/~$HE.svs", "__MACOSX/P1/HE.svs", ".cache/HE.svs")
    touch(tmp_path, "P1/tiles/tiles.json", "P1/tiles/overview/HE.png")
    found = [(entry.name, entry.subject_id) for entry in find_slides(tmp_path)]
    assert found == [("P1_HE", "P1"), ("KI67", "P1"), ("P2_HE", "P2")]
    files = find_slides(sorted(tmp_path.glob("P*/HE.svs")))
    assert [entry.subject_id for entry in files] == ["P1", "P2"]


def test_a_pattern_with_a_slash_sees_folders(tmp_path):
    touch(tmp_path, "site/P1/HE.svs", "site/P2/HE.svs")
    found = find_slides(tmp_path, patient_pattern="^site/(P[0-9])/")
    assert [entry.subject_id for entry in found] == ["P1", "P2"]


def test_a_pattern_that_finds_no_patient_at_all_is_refused(tmp_path):
    touch(tmp_path, "tumor_001.svs", "tumor_002.svs", "normal_001.svs")
    with pytest.raises(InputError, match=r"finds no patient in any of 3 slides.*'normal_001'\. Remedy"):
        find_slides(tmp_path, patient_pattern="case([0-9]+)")
    found = require_patients(find_slides(tmp_path, patient_pattern="(tumor_[0-9]+)"), fractions=None)
    assert [bool(entry.fault) for entry in found] == [True, False, False]


def test_slides_whose_patients_nobody_tells_are_refused(tmp_path, caplog):
    touch(tmp_path, *(f"{letter}.svs" for letter in "abcd"))
    with pytest.raises(InputError) as caught:
        require_patients(find_slides(tmp_path), fractions=None)
    assert "4 slides, 4 patients: nothing tells the patients (a.svs, b.svs, c.svs, ...)" in str(caught.value)
    assert all(words in str(caught.value) for words in ("--patient-pattern", "--cases", "a folder for each"))
    each = require_patients(find_slides(tmp_path, patient_pattern="^(.+)$"), fractions=None)
    assert [entry.subject_id for entry in each] == list("abcd")
    one_split = require_patients(find_slides(tmp_path), fractions={"test": 1.0})
    assert not any(entry.fault for entry in one_split)
    touch(tmp_path, "p1_a.svs")
    some = require_patients(find_slides(tmp_path), fractions=None)
    assert [entry.path.name for entry in some if not entry.fault] == ["p1_a.svs"]
    assert "Remedy: name a rule" in some[0].fault
    (tmp_path / "slides.csv").write_text("slide,split\na.svs,train\nb.svs,test\n")
    require_patients(find_slides(tmp_path / "slides.csv"), fractions=None)
    assert "nothing tells the patient of 2 slides (a.svs, b.svs)" in caplog.text


def test_cases_tell_the_patients(tmp_path, caplog):
    touch(tmp_path, "slides/x.svs", "slides/Y.svs", "slides/P1/z.svs", "slides/P2/z.svs", "slides/lost.svs")
    table = tmp_path / "cases.csv"
    table.write_text("slide,patient\nx,A\ny.svs,a\nP1/z.svs,B\nz,C\ngone.svs,D\n")
    found = find_slides(tmp_path / "slides", cases=table)
    told = {entry.path.relative_to(tmp_path / "slides").as_posix(): entry.subject_id for entry in found}
    assert told == {"x.svs": "a", "Y.svs": "a", "P1/z.svs": "B", "P2/z.svs": "C", "lost.svs": "lost"}
    assert [entry.fault[:12] for entry in found if entry.fault] == ["is not in /t"]
    assert "1 slide not found (gone.svs)" in caplog.text


def test_a_slide_that_two_rows_of_cases_name_is_of_one_patient(tmp_path):
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "a.svs").touch()
    table = tmp_path / "cases.csv"
    table.write_text("slide,patient\na,P1\na.svs,p-1\n")
    assert [entry.subject_id for entry in find_slides(tmp_path / "slides", cases=table)] == ["p-1"]
    table.write_text("slide,patient\na,P1\na.svs,P2\n")
    with pytest.raises(InputError, match=r"row 3 slide: a.svs is the slide of row 2 too, and the"):
        find_slides(tmp_path / "slides", cases=table)


def test_a_table_is_given_alone(tmp_path):
    (tmp_path / "a.svs").touch()
    with pytest.raises(InputError, match=r"t.csv: is a table, and is given with other.*--cases"):
        find_slides([tmp_path / "t.csv", tmp_path / "a.svs"])


def test_a_folder_is_known_by_its_own_name_whatever_links_lead_to_it(tmp_path):
    for folder in ("P1", "P9"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "HE.svs").write_bytes(folder.encode())
    (tmp_path / "P9" / "all").symlink_to(tmp_path / "P1")
    (tmp_path / "P5").symlink_to(tmp_path / "P1")
    found = find_slides(tmp_path)
    assert [(entry.path.parent.name, entry.subject_id) for entry in found] == [("P1", "P1"), ("P9", "P9")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("slide,subject_id\nb.svs,1\n", "names none of 1 slide, for instance not a.svs. Remedy"),
        ("slide,subject_id\na.svs,1\nA.svs,2\n", "row 3 slide: is that of row 2"),
        ("slide,subject_id\na.svs,\n", "row 2 subject_id: is empty"),
        ("slide\na.svs\n", "row 2 subject_id: is empty"),
        ("slide,subject_id,split\na.svs,1,val\n", "row 2 split: 'val' is not one of"),
    ],
)
def test_faults_of_cases(tmp_path, text, words):
    touch(tmp_path, "a.svs")
    (tmp_path / "cases.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        find_slides(tmp_path / "a.svs", cases=tmp_path / "cases.csv")
    assert words in str(caught.value)


def test_links_to_one_file_are_one_slide(tmp_path, caplog):
    touch(tmp_path, "p1_a.svs")
    (tmp_path / "a copy.svs").symlink_to("p1_a.svs")
    (tmp_path / "z.svs").hardlink_to(tmp_path / "p1_a.svs")
    found = find_slides(tmp_path)
    assert [entry.path.name for entry in found] in (["p1_a.svs"], ["z.svs"])
    assert found[0].subject_id == "p1"
    assert caplog.text.count("is the same slide as") == 2


def test_links_under_two_patients_are_a_fault_of_both(tmp_path):
    touch(tmp_path, "p1_a.svs", "p3_a.svs")
    (tmp_path / "p2_a.svs").symlink_to("p1_a.svs")
    faults = {entry.path.name: entry.fault for entry in find_slides(tmp_path)}
    assert "p2_a.svs, which is of patient p2, and this one of p1" in faults["p1_a.svs"]
    assert "p1_a.svs, which is of patient p1" in faults["p2_a.svs"]
    assert faults["p3_a.svs"] == ""


def test_a_link_to_nothing_and_loops_of_folders(tmp_path):
    touch(tmp_path, "P1/a.svs")
    (tmp_path / "P1" / "gone.svs").symlink_to("nowhere.svs")
    (tmp_path / "P1" / "loop").symlink_to(tmp_path)
    (tmp_path / "P2").symlink_to(tmp_path / "P1")
    assert [entry.path.name for entry in find_slides(tmp_path)] == ["a.svs", "gone.svs"]


def test_a_folder_of_several_accession_numbers_is_asked_about(tmp_path):
    """It may be a patient who came twice, or a diagnosis."""
    touch(tmp_path, *(f"P{number}/S19-{number}00{case} A.svs" for number in range(1, 5) for case in (1, 2)))
    with pytest.raises(InputError, match=r"8 slides, 8 patients: folder P1 holds slides of S19-1001, S19"):
        require_patients(find_slides(tmp_path), fractions=None)
    by_folder = find_slides(tmp_path, patient_pattern="^P([^/]+)/")
    assert {entry.subject_id for entry in require_patients(by_folder, fractions=None)} == set("1234")
    by_number = find_slides(tmp_path, patient_pattern="([A-Z]+[0-9]+-[0-9]+)")
    assert len({entry.subject_id for entry in require_patients(by_number, fractions=None)}) == 8
    for folder in (tmp_path / "P1", tmp_path / "P2", tmp_path / "P3"):
        (folder / f"S19-{folder.name[1]}002 A.svs").unlink()
    some = require_patients(find_slides(tmp_path), fractions=None)
    assert [bool(entry.fault) for entry in some] == [False] * 3 + [True] * 2


def test_a_folder_that_cannot_be_read_is_a_finding(tmp_path, monkeypatch):
    touch(tmp_path, "P1/a.svs", "P2/a.svs")
    read = Path.iterdir

    def iterdir(self: Path) -> Iterator[Path]:
        if self.name == "P2":
            raise PermissionError(13, "Permission denied", str(self))
        return read(self)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    faults = {entry.path.name: entry.fault for entry in find_slides(tmp_path)}
    assert faults == {"a.svs": "", "P2": "cannot be looked into (Permission denied)"}
