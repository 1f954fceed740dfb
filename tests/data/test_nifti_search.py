"""What a folder's images are: no litter, no work of our own; trees as BIDS has them."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from medrestore.checks import InputError
from medrestore.data.nifti_search import nifti_files

SIDECAR = {"medrestore_version": "1", "weights_sha256": "0"}


def put(folder: Path, *names: str, record: object = None) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("" if record is None else json.dumps(record))
    return folder


def names(folder: Path, datatype: str = "pet") -> list[str]:
    return [name for _, name in nifti_files(folder, datatype=datatype)]


def test_litter_and_own_work_are_passed_over(tmp_path):
    put(tmp_path, "s.nii.gz", "t.NII.GZ", "u.Nii", "s.json", "notes.txt", "~w.nii")
    put(tmp_path, "._s.nii.gz", ".hidden.nii", ".~lock.s.nii.gz#", ".DS_Store", "Thumbs.db", "desktop.ini")
    put(tmp_path, "@eaDir/s.nii.gz", ".partial-12-s.nii.gz")
    put(tmp_path, "s_restored.nii.gz", "s_standard_deviation.nii.gz")
    assert len(names(tmp_path)) == 6  # nothing says yet that the last two are ours
    put(tmp_path, "s_restored.json", record=SIDECAR)
    assert names(tmp_path) == ["s", "t", "u", "~w"]


@pytest.mark.parametrize("record", [{"Units": "SUV"}, [], "x", {"medrestore_version": "1"}])
def test_image_of_such_a_name_that_is_not_ours_is_an_image(record, tmp_path):
    put(tmp_path, "s_restored.nii.gz", "v_standard_deviation.nii")
    put(tmp_path, "s_restored.json", record=record)
    assert names(tmp_path) == ["s_restored", "v_standard_deviation"]


def test_folder_of_nothing_but_own_work_is_refused(tmp_path):
    put(tmp_path, "s_restored.nii.gz", "s_standard_deviation.nii.gz")
    put(tmp_path, "s_restored.json", record=SIDECAR)
    with pytest.raises(InputError, match=r"holds nothing but 2 images that this program made.*Remedy"):
        names(tmp_path)
    sidecar = tmp_path / "s_restored.json"
    sidecar.write_text(sidecar.read_text(encoding="utf-8"), encoding="utf-8-sig")  # as editors save it
    with pytest.raises(InputError, match=r"is a restoration itself.*Remedy: name the image"):
        names(tmp_path / "s_restored.nii.gz")


def test_bids_tree_gives_the_images_of_its_kind_under_names_of_their_own(tmp_path):
    for subject in ("sub-01", "sub-02"):
        for session in ("ses-a", "ses-b"):
            below = f"{subject}/{session}"
            put(
                tmp_path,
                f"{below}/pet/{subject}_{session}_pet.nii.gz",
                f"{below}/pet/{subject}_{session}_pet.json",
            )
            put(tmp_path, f"{below}/anat/{subject}_{session}_T1w.nii.gz", f"{below}/func/x_bold.nii.gz")
    put(tmp_path, "dataset_description.json", "derivatives/other/sub-01/pet/sub-01_pet.nii.gz")
    put(tmp_path, "sourcedata/sub-01/scan.nii", ".git/annex/a.nii")
    assert names(tmp_path) == [f"sub-0{n}_ses-{s}_pet" for n in (1, 2) for s in "ab"]
    assert names(tmp_path, "anat") == [f"sub-0{n}_ses-{s}_T1w" for n in (1, 2) for s in "ab"]


def test_folders_that_a_name_does_not_tell_come_before_it(tmp_path):
    put(tmp_path, "jane/scan.nii.gz", "john/day 1/scan.nii.gz", "john/day 1/other.nii")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert names(tmp_path) == ["jane_scan", "john_day 1_other", "john_day 1_scan"]
    put(tmp_path, "john_day 1/scan.nii.gz")
    assert names(tmp_path).count("john_day 1_scan") == 2


def test_images_below_those_of_a_folder_are_told_of(tmp_path, caplog):
    put(tmp_path, "s.nii.gz", "more/t.nii.gz")
    with caplog.at_level(logging.WARNING):
        assert names(tmp_path) == ["s"]
    assert "images in folders below it are not restored" in caplog.text


def test_what_is_no_file_stays_in_the_list_to_be_named(tmp_path):
    (tmp_path / "folder.nii.gz").mkdir()
    (tmp_path / "link.nii").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.nii")
    assert names(tmp_path) == ["folder", "link", "pipe"]
    assert names(tmp_path / "link.nii") == ["link"]


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (["a.hdr", "a.img"], r"but pairs .*python -c"),
        (["a.dcm"], "but DICOM .*dcm2niix"),
        (["a.mgz"], r"but MGH"),
        (["a.txt"], r"holds no \.nii or \.nii\.gz file, nor does any folder in it\. Remedy"),
        (["manifest.csv", "subjects/a/target.nii.gz"], r"but a manifest\. Remedy: name .*manifest\.csv"),
        (["Manifest.CSV", "subjects/a/target.nii.gz"], r"but a manifest\. Remedy: name .*Manifest\.CSV"),
        ([".nii.gz"], r"holds no \.nii"),
    ],
)
def test_folder_without_images_says_what_it_holds(held, message, tmp_path):
    put(tmp_path, *held)
    with pytest.raises(InputError, match=message):
        names(tmp_path)


def test_half_of_a_pair_is_refused_with_a_command(tmp_path):
    put(tmp_path, "a.img", "a.hdr")
    with pytest.raises(
        InputError, match=r"a\.img: is not a single-file NIfTI but one half of a pair.*python -c"
    ):
        names(tmp_path / "a.img")
