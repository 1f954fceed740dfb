"""Manifests of multi-contrast MRI: what is read and counted, and every fault that is reported."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from manifest import append, cells, edit, sum_again

from medrestore.checks import InputError
from medrestore.data.volumes import read_series, read_volume, write_volume
from medrestore.domains.multicontrast_mri.acquisition.acquisition import Acquisition, make_acquisition
from medrestore.domains.multicontrast_mri.acquisition.channel_volume import read_protocol
from medrestore.domains.multicontrast_mri.schema import availability, contrast_schema, require_contrasts
from medrestore.files import sha256_file

CONTRASTS = ("t1w", "t2w", "t2_flair")


@pytest.fixture
def shown(acquisition: Acquisition) -> Callable[..., list[str]]:
    def show(path: Path, **options: Any) -> list[str]:
        schema = contrast_schema(options.pop("contrasts", CONTRASTS), options.pop("acquisition", acquisition))
        return [str(problem) for problem in schema.check(path, **options)]

    return show


# ---------------------------------------------------------------- reading, writing, counting
def test_valid_manifest_has_no_problems_and_absolute_paths(make_cohort, shown):
    path = make_cohort()
    assert shown(path) == []
    table = contrast_schema(CONTRASTS).read(path)
    assert list(table["row"]) == list(range(2, 10))
    folder = path.parent.resolve() / "subjects/sub-0001"
    row = table.iloc[1]
    assert row["input_paths"] == (str(folder / "mdme.nii.gz"),)
    assert (row["t1w_path"], row["t2_flair_path"]) == (str(folder / "t1w.nii.gz"), "")
    assert [bool(file) for file in table["lesions_path"]] == [True, False] * 4
    assert table["group"].tolist() == ["patient", "control"] * 4


def test_missing_contrasts_are_counted(make_cohort):
    table = contrast_schema(CONTRASTS).read(make_cohort())
    counts = availability(table, CONTRASTS)
    assert counts.index.tolist() == ["train", "validation", "test"]
    assert counts.to_dict("list") == {
        "volumes": [4, 2, 2],
        "t1w": [3, 2, 2],
        "t2w": [4, 2, 2],
        "t2_flair": [3, 2, 2],
    }
    assert availability(table[table["split"] == "test"], ["t2w"]).to_dict("list") == {
        "volumes": [2],
        "t2w": [2],
    }


def test_written_manifest_is_what_was_read_and_keeps_unknown_columns(make_cohort):
    path = make_cohort()
    table = contrast_schema(CONTRASTS).read(path).assign(site="A")
    copy = contrast_schema(CONTRASTS).write(table, path.parent / "copy.csv")
    assert copy.read_text().splitlines()[0] == (
        "subject_id,session_id,split,group,input,t1w,t2w,t2_flair,lesions,"
        "input_sha256,t1w_sha256,t2w_sha256,t2_flair_sha256,lesions_sha256,site"
    )
    again = contrast_schema(CONTRASTS).read(copy)
    assert again["site"].tolist() == ["A"] * 8
    pd.testing.assert_frame_equal(again[list(table.columns.drop("site"))], table.drop(columns="site"))


# ---------------------------------------------------------------- identity, spreadsheets
@pytest.mark.parametrize(
    ("row", "values", "problem"),
    [
        (
            9,
            {"split": "Test"},
            "row 9 split: must be one of train, validation, test, got 'Test'; did you",
        ),
        (9, {"group": "MS/CIS"}, "row 9 group: 'MS/CIS': the name of a group that is evaluated apart"),
    ],
)
def test_what_people_and_later_commands_stumble_over_is_found(make_cohort, shown, row, values, problem):
    path = make_cohort()
    edit(path, row, **values)
    assert any(line.startswith(problem) for line in shown(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace(",", ";"), "is separated by semicolons"),
        (lambda text: text.replace(",", "\t"), "is separated by tabs"),
        (lambda text: text.replace("t2w", "t1w"), "has two columns 't1w'"),
        (lambda text: text.replace("group", " SPLIT"), "has columns 'split' and 'SPLIT'"),
    ],
)
def test_tables_of_other_programs_are_refused_in_a_line(make_cohort, shown, change, message):
    path = make_cohort()
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=message) as refused:
        shown(path)
    assert "\n" not in str(refused.value)


def test_a_contrast_that_no_evaluation_can_name_is_reported(make_cohort, shown):
    path = make_cohort()
    path.write_text(path.read_text().replace("t2w", "mean", 2).replace("mean.nii", "t2w.nii"))
    names = [name for name in cells(path) if f"{name}_sha256" in cells(path)]
    assert shown(path, contrasts=[name for name in names if name not in ("input", "lesions")]) == [
        "row 1 mean: an evaluation names the mean over contrasts so: rename the column"
    ]


def test_table_without_groups_and_lesions_is_complete(make_cohort, shown):
    path = make_cohort()
    cells(path).drop(columns=["group", "lesions", "lesions_sha256"]).to_csv(path, index=False)
    assert shown(path) == []
    table = contrast_schema(CONTRASTS).read(path)
    assert set(table["group"]) == set(table["lesions_path"]) == {""}


def test_some_of_the_contrasts_can_be_read(make_cohort, shown):
    path = make_cohort()
    assert shown(path, contrasts=["t2w"]) == []
    table = contrast_schema(["t2w"]).read(path)
    assert "t2w_path" in table
    assert "t1w_path" not in table
    assert table["t1w"][0] == "subjects/sub-0000/t1w.nii.gz"


def test_input_may_be_a_list_of_files(make_cohort, shown, tmp_path):
    path = make_cohort()
    folder = path.parent / "subjects/sub-0000"
    data, source = read_series(folder / "mdme.nii.gz")
    names = []
    for index, channel in enumerate(data):
        image = nibabel.Nifti1Image(source.to_stored(channel), source.affine)
        nibabel.save(image, folder / f"mdme_{index}.nii.gz")
        names.append(f"subjects/sub-0000/mdme_{index}.nii.gz")
    edit(path, 2, input=";".join(names), input_sha256="")
    table = contrast_schema(CONTRASTS).with_checksums(cells(path), path.parent)
    assert table["input_sha256"][0] == ";".join(sha256_file(path.parent / name) for name in names)
    contrast_schema(CONTRASTS).write(table, path)
    assert shown(path) == []
    read = contrast_schema(CONTRASTS).read(path)["input_paths"][0]
    assert read == tuple(str((path.parent / name).resolve()) for name in names)

    (path.parent / names[3]).unlink()
    (found,) = shown(path)
    assert found.startswith("row 2 input: subjects/sub-0000/mdme_0.nii.gz;")
    assert found.endswith("mdme_3.nii.gz")
    edit(path, 2, input=";".join(names[:5]), input_sha256=";".join(table["input_sha256"][0].split(";")[:5]))
    names.pop(3)
    sums = ";".join(sha256_file(path.parent / name) for name in names)
    edit(path, 2, input=";".join(names), input_sha256=sums)
    (found,) = shown(path)
    assert "is the first of 5 files of one channel each, expected 6 = 3 delays x 2 echoes" in found
    edit(path, 2, input=";".join(names) + ";")
    assert any("names an empty file between two ';'" in line for line in shown(path))
    assert any("has 5 checksums for 6 files of the input" in line for line in shown(path))
    twice = [*names[:5], names[0]]
    edit(path, 2, input=";".join(twice), input_sha256=";".join(sha256_file(path.parent / n) for n in twice))
    assert "row 2 input_sha256: two channels of the input are the same file content" in shown(path)


def test_order_of_columns():
    assert contrast_schema(["pdw"]).order == (
        *("subject_id", "session_id", "split", "group", "input", "pdw", "lesions"),
        *("input_sha256", "pdw_sha256", "lesions_sha256"),
    )


@pytest.mark.parametrize(
    ("contrasts", "message"),
    [
        ([], "contrasts must name one contrast at least"),
        (["T1w"], "contrasts must be names like t1w or t2_flair, got 'T1w'"),
        (["t1w", 2], "contrasts must be names like t1w or t2_flair, got 2"),
        (["t1w", "t1w"], "contrasts must be different, got 't1w' twice"),
        (["lesions"], "contrasts: 'lesions' is a column of another meaning"),
        (["t1w_sha256"], "contrasts: 't1w_sha256' is a column of another meaning"),
    ],
)
def test_impossible_names_of_contrasts_are_refused(contrasts, message):
    with pytest.raises(InputError, match=message):
        require_contrasts(contrasts)


def test_write_refuses_what_could_not_be_read(make_cohort, tmp_path):
    table = contrast_schema(CONTRASTS).read(make_cohort())
    with pytest.raises(InputError, match="lacks the columns stir, stir_sha256"):
        contrast_schema([*CONTRASTS, "stir"]).write(table, tmp_path / "m.csv")
    with pytest.raises(InputError, match=r"m.csv, row 2: input '../b.nii' leaves the manifest's folder"):
        contrast_schema(CONTRASTS).write(table.assign(input="a.nii;../b.nii"), tmp_path / "m.csv")
    assert not (tmp_path / "m.csv").exists()


# ---------------------------------------------------------------- faults of the table
def test_unknown_contrast_is_named_with_the_known_ones(make_cohort, shown):
    path = make_cohort()
    expected = [
        f"row 1 {name}: no such column; the manifest has the contrasts t1w, t2w, t2_flair" * (name == "stir")
        or f"row 1 {name}: no such column"
        for name in ("stir", "stir_sha256")
    ]
    assert shown(path, contrasts=["t1w", "stir"]) == expected
    with pytest.raises(InputError, match="stir: no such column; the manifest has the contrasts t1w, t2w"):
        contrast_schema(["t1w", "stir"]).read(path)


@pytest.mark.parametrize(
    ("row", "values", "problem"),
    [
        (3, {"input": ""}, "row 3 input: is empty"),
        (3, {"input_sha256": ""}, "row 3 input_sha256: is empty"),
        (3, {"t1w_sha256": ""}, "row 3 t1w_sha256: is empty"),
        (2, {"lesions_sha256": ""}, "row 2 lesions_sha256: is empty"),
        (3, {"input": "a.nii;../b.nii"}, "row 3 input: '../b.nii' leaves the manifest's folder"),
        (
            5,
            {"t2w": "", "t2_flair": "", "t2w_sha256": "", "t2_flair_sha256": ""},
            "row 5: no contrast is there (t1w, t2w, t2_flair): nothing to learn from",
        ),
    ],
)
def test_faulty_cell_is_reported(make_cohort, shown, row, values, problem):
    path = make_cohort()
    edit(path, row, **values)
    assert any(line.startswith(problem) for line in shown(path))
    with pytest.raises(InputError) as refused:
        contrast_schema(CONTRASTS).read(path)
    assert problem in str(refused.value)


def test_subject_for_test_may_have_no_contrast(make_cohort, shown):
    path = make_cohort()
    nothing = {f"{name}{end}": "" for name in CONTRASTS for end in ("", "_sha256")}
    edit(path, 9, **nothing)
    assert shown(path) == []
    edit(path, 7, **nothing)
    assert shown(path) == [
        "row 7: no contrast is there (t1w, t2w, t2_flair): nothing to learn from or to compare with"
    ]


def test_contrast_that_no_training_subject_has_is_reported(make_cohort, shown):
    path = make_cohort()
    for row in range(2, 6):
        edit(path, row, t2_flair="", t2_flair_sha256="")
    assert shown(path) == ["t2_flair: no subject of split 'train' has this contrast"]
    assert shown(path, require_splits=("test",)) == []


def test_duplicates_are_reported(make_cohort, shown):
    path = make_cohort()
    append(path, 4)
    append(path, 2, subject_id="sub-0099")
    same = "same file content as subject sub-0000's in row 2"
    assert shown(path) == [
        "row 10: same subject and session as row 4 (duplicate)",
        *(f"row 11 {name}_sha256: {same}" for name in ("input", "t1w", "t2_flair", "t2w")),
    ]


def test_one_image_as_two_contrasts_is_reported(make_cohort, shown):
    path = make_cohort()
    row = cells(path).iloc[0]
    edit(path, 2, t2w=row["t1w"], t2w_sha256=row["t1w_sha256"])
    assert shown(path) == ["row 2 t2w_sha256: same file content as t1w of this row"]


# ---------------------------------------------------------------- faults of the files
def test_contrast_on_another_grid_is_reported_with_the_remedy(make_cohort, shown):
    path = make_cohort()
    for row, name in ((3, "t2w"), (4, "lesions")):
        file = path.parent / cells(path).loc[row - 2, name]
        volume = read_volume(file)
        moved = np.array(volume.affine)
        moved[2, 3] += 5.0
        nibabel.save(nibabel.Nifti1Image(volume.data, moved), file)
        sum_again(path, row, name)
    assert shown(path) == [
        f"row {row} {name}: subjects/sub-000{row - 2}/{name}.nii.gz is on another grid than the input: "
        "affine: corners up to 5 mm apart. Remedy: medrestore mri coregister"
        for row, name in ((3, "t2w"), (4, "lesions"))
    ]


def test_files_that_cannot_serve_are_reported_at_once(make_cohort, shown):
    path = make_cohort()
    subjects = path.parent / "subjects"
    (subjects / "sub-0000/mdme.nii.gz").unlink()
    shutil.copy(subjects / "sub-0001/t1w.nii.gz", subjects / "sub-0001/t2w.nii.gz")
    empty = read_volume(subjects / "sub-0002/t1w.nii.gz")
    write_volume(np.zeros_like(empty.data), empty.source, subjects / "sub-0002/t1w.nii.gz")
    sum_again(path, 4, "t1w")
    mask = read_volume(subjects / "sub-0004/lesions.nii.gz")
    write_volume(mask.data * 0.5, mask.source, subjects / "sub-0004/lesions.nii.gz")
    sum_again(path, 6, "lesions")
    found = shown(path)
    assert found[0] == "row 2 input: subjects/sub-0000/mdme.nii.gz: no such file"
    assert found[1].startswith("row 3 t2w_sha256: subjects/sub-0001/t2w.nii.gz has checksum")
    assert found[2] == (
        "row 4 t1w: subjects/sub-0002/t1w.nii.gz: the image has no positive foreground (zero everywhere, or "
        "negative)"
    )
    assert found[3].startswith("row 6 lesions: subjects/sub-0004/lesions.nii.gz: region codes are no whole")
    assert len(found) == 4


def test_input_of_another_acquisition_is_reported(make_cohort, shown):
    path = make_cohort()
    found = shown(path, acquisition=make_acquisition())
    assert len(found) == 8
    assert found[0] == (
        "row 2 input: subjects/sub-0000/mdme.nii.gz: has 6 channels, expected 8 = 4 delays x 2 echoes. "
        "Remedy: give all channels, or configure those that there are"
    )
    assert shown(path, acquisition=None) == []  # any channels will do


def test_sidecar_of_a_linked_file_is_the_one_beside_the_link(make_cohort, shown, tmp_path, acquisition):
    path = make_cohort()
    file = path.parent / "subjects/sub-0000/mdme.nii.gz"
    store = tmp_path / "objects" / "0a1b2c.nii.gz"  # as a data store names its files
    store.parent.mkdir()
    file.rename(store)
    file.symlink_to(store)
    assert shown(path) == []
    (read,) = contrast_schema(CONTRASTS).read(path)["input_paths"][0]
    assert Path(read) == file
    assert read_protocol(read) is not None
