"""Manifests: what is read, and every fault that is reported."""

from __future__ import annotations

import errno
import gzip
import shutil
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from manifest import append, cells, edit, sum_again

from medrestore.checks import InputError
from medrestore.data.schema import SPLITS, at_dose, split_rows
from medrestore.data.tables import Problem, read_text_table
from medrestore.data.volumes import SourceGrid, read_volume, write_volume
from medrestore.domains.amyloid_pet.schema import COLUMNS, pair_schema
from medrestore.files import sha256_file


def rewrite(path: Path, row: int, column: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change the voxels of one file and put its new checksum into the manifest."""
    file = path.parent / cells(path).loc[row - 2, column]
    volume = read_volume(file)
    image = nibabel.Nifti1Image(change(volume.data), volume.affine)
    nibabel.save(image, file)
    sum_again(path, row, column)


def shown(path: Path, require_splits: Sequence[str] = SPLITS, **options: Any) -> list[str]:
    return [str(problem) for problem in pair_schema(**options).check(path, require_splits=require_splits)]


# ---------------------------------------------------------------- reading and writing
def test_valid_manifest_has_no_problems_and_absolute_paths(make_cohort):
    path = make_cohort()
    assert pair_schema().check(path) == []
    table = pair_schema().read(path)
    assert list(table["row"]) == list(range(2, 10))
    assert list(table["subject_id"]) == [f"{index:04}" for index in range(8)]  # text: zeros in front are kept
    assert table["amyloid_status"].tolist() == [0, 1] * 4
    assert table["dose_fraction"].dtype == np.float64
    assert all(Path(file).is_file() for file in [*table["degraded_path"], *table["target_path"]])
    assert Path(table["degraded_path"][0]).is_absolute()
    assert [bool(file) for file in table["regions_path"]] == [False, True] * 4


def test_written_manifest_is_what_was_read(make_cohort, tmp_path):
    path = make_cohort()
    table = pair_schema().read(path)
    table["site"] = "A"
    copy = pair_schema().write(table, path.parent / "copy.csv")
    assert copy.read_text().splitlines()[0] == ",".join([*COLUMNS, "site"])
    again = pair_schema().read(copy)
    pd.testing.assert_frame_equal(again.drop(columns="site"), table.drop(columns="site"))
    assert pair_schema().write(again, path.parent / "third.csv").read_bytes() == copy.read_bytes()


def test_checksums_are_sha256(make_cohort):
    table = pair_schema().read(make_cohort())
    assert table["target_sha256"][3] == sha256_file(table["target_path"][3])
    assert table["regions_sha256"][0] == ""


def test_table_without_regions_is_complete(make_cohort):
    path = make_cohort()
    cells(path).drop(columns=["regions", "regions_sha256"]).to_csv(path, index=False)
    assert pair_schema().check(path) == []
    assert pair_schema().read(path)["regions_path"].tolist() == [""] * 8


def test_other_label_column_and_values(make_cohort):
    path = make_cohort()
    table = cells(path)
    table = table.rename(columns={"amyloid_status": "contrast"})
    table["contrast"] = ["1", "2", "3", "4"] * 2
    table.to_csv(path, index=False)
    assert pair_schema(label_column="contrast", label_values=(1, 2, 3, 4)).check(path) == []
    assert shown(path, label_column="contrast", label_values=(1, 2, 3)) == [
        "row 5 contrast: label 4 is not one of 1, 2, 3",
        "row 9 contrast: label 4 is not one of 1, 2, 3",
    ]


def test_spreadsheet_byte_order_mark_and_blank_lines_do_no_harm(make_cohort):
    path = make_cohort()
    lines = path.read_text().splitlines()
    lines.insert(3, "")
    lines += ["", "," * (len(COLUMNS) - 1)]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert pair_schema().check(path) == []
    assert list(pair_schema().read(path)["row"]) == [2, 3, 5, 6, 7, 8, 9, 10]  # row 4 is the blank one


def test_write_refuses_what_could_not_be_read(make_cohort, tmp_path):
    table = pair_schema().read(make_cohort())
    with pytest.raises(InputError, match="lacks the columns tracer, units"):
        pair_schema().write(table.drop(columns=["tracer", "units"]), tmp_path / "m.csv")
    absolute = table.assign(target=table["target_path"])
    with pytest.raises(InputError, match=r"m.csv, row 2: target .* is absolute"):
        pair_schema().write(absolute, tmp_path / "m.csv")
    assert not (tmp_path / "m.csv").exists()


def test_columns_that_are_not_there_get_no_checksum(make_cohort):
    path = make_cohort()
    table = pair_schema().read(path)
    bare = pair_schema().with_checksums(table.drop(columns=["regions", "regions_sha256"]), path.parent)
    assert "regions_sha256" not in bare
    assert bare["degraded_sha256"].tolist() == table["degraded_sha256"].tolist()


def test_checksum_of_a_missing_file_is_refused(make_cohort):
    path = make_cohort()
    table = pair_schema().read(path)
    with pytest.raises(InputError, match=r"degraded.nii.gz: no such file"):
        pair_schema().with_checksums(table, path.parent / "elsewhere")


def test_missing_manifest_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"m.csv: no such file, expected a manifest"):
        pair_schema().check(tmp_path / "m.csv")


def test_rows_of_a_split(make_cohort):
    table = pair_schema().read(make_cohort())
    assert split_rows(table, "test")["subject_id"].tolist() == ["0006", "0007"]
    with pytest.raises(InputError, match="no row of split 'validation'; it holds test, train"):
        split_rows(table[table["split"] != "validation"], "validation")


def test_rows_of_a_dose(make_cohort):
    table = pair_schema().read(make_cohort())
    doses = pd.concat([table, table.assign(dose_fraction=0.05)])
    assert at_dose(split_rows(doses, "test"), 0.05)["dose_fraction"].tolist() == [0.05, 0.05]
    assert len(at_dose(split_rows(doses, None), 0.01)) == 8
    with pytest.raises(InputError, match=r"no row of dose fraction 0.1; it holds 0.01, 0.05"):
        at_dose(split_rows(doses, "test"), 0.1)


def test_scan_for_test_may_have_no_label(make_cohort):
    path = make_cohort()
    edit(path, 8, amyloid_status="")
    assert pair_schema().check(path) == []
    assert np.isnan(pair_schema().read(path)["amyloid_status"][6])
    edit(path, 6, amyloid_status="")
    assert shown(path) == ["row 6 amyloid_status: is empty"]  # validation


# ---------------------------------------------------------------- faults of the table
@pytest.mark.parametrize(
    ("row", "column", "value", "problem"),
    [
        (3, "split", "training", "row 3 split: must be one of train, validation, test, got 'training'"),
        (3, "amyloid_status", "2", "row 3 amyloid_status: label 2 is not one of 0, 1"),
        (3, "amyloid_status", "positive", "row 3 amyloid_status: 'positive' is no number"),
        (3, "amyloid_status", "nan", "row 3 amyloid_status: 'nan' is no number"),
        (3, "amyloid_status", "", "row 3 amyloid_status: is empty"),
        (4, "dose_fraction", "0", "row 4 dose_fraction: must be in (0, 1], got 0"),
        (4, "dose_fraction", "1.5", "row 4 dose_fraction: must be in (0, 1], got 1.5"),
        (4, "dose_fraction", "1%", "row 4 dose_fraction: '1%' is no number"),
        (5, "subject_id", "", "row 5 subject_id: is empty"),
        (5, "target", "", "row 5 target: is empty"),
        (5, "target_sha256", "", "row 5 target_sha256: is empty"),
        (6, "units", "", "row 6 units: is empty"),
    ],
)
def test_faulty_cell_is_reported(make_cohort, row, column, value, problem):
    path = make_cohort()
    edit(path, row, **{column: value})
    assert problem in shown(path)
    with pytest.raises(InputError) as refused:
        pair_schema().read(path)
    assert problem in str(refused.value)


def test_missing_columns_are_all_named(make_cohort):
    path = make_cohort()
    cells(path).drop(columns=["target", "tracer", "amyloid_status"]).to_csv(path, index=False)
    assert shown(path) == [f"row 1 {name}: no such column" for name in ("amyloid_status", "target", "tracer")]
    with pytest.raises(InputError, match="3 problems"):
        pair_schema().read(path)


def test_empty_table_is_reported(make_cohort):
    path = make_cohort()
    path.write_text(path.read_text().splitlines()[0] + "\n")
    assert shown(path, require_splits=()) == ["there is no row below the header"]
    with pytest.raises(InputError, match="there is no row below the header"):
        pair_schema().read(path)


def test_empty_splits_are_reported_where_they_are_required(make_cohort):
    path = make_cohort()
    table = cells(path)
    table[table["split"] == "test"].to_csv(path, index=False)
    assert shown(path) == [
        "split: split 'train' is empty: no row has it",
        "split: split 'validation' is empty: no row has it",
    ]
    assert shown(path, require_splits=("test",)) == []


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        pytest.param(
            [(edit, 2, {"amyloid_status": "1"}), (edit, 4, {"amyloid_status": "1"})],
            ["amyloid_status: split 'train' holds one class only: all labels are 1"],
            id="one class",
        ),
        pytest.param(
            [(append, 2, {"split": "test", "session_id": "02"}), (append, 4, {})],
            [
                "row 10 split: subject 0000 is in 'test' here and in 'train' in row 2",
                "row 11: same subject, session and dose fraction as row 4 (duplicate)",
            ],
            id="two splits, duplicate",
        ),
        pytest.param([(append, 4, {"dose_fraction": "0.05"})], [], id="another dose"),
        pytest.param(
            [(append, 2, {"subject_id": "0099", "split": "test"})],
            [
                f"row 10 {name}_sha256: same file content as subject 0000's in row 2"
                for name in ("degraded", "target")
            ],
            id="two subjects",
        ),
        pytest.param(
            [(edit, 2, {"degraded": "subjects/sub-0001/../sub-0000/./degraded.nii.gz"})],
            [],
            id="path that turns back inside the folder",
        ),
        pytest.param(
            [
                (edit, 3, {"subject_id": "0000", "session_id": "1", "amyloid_status": "0"}),
                (edit, 4, {"session_id": "1"}),  # another subject's
            ],
            [
                "row 3 session_id: '1' and '01' of row 2 look like one session, written in two ways. Remedy: "
                "write it alike, or rename one of two"
            ],
            id="sessions alike",
        ),
        pytest.param(
            [
                (edit, 2, {"subject_id": "a", "session_id": "b_c"}),
                (edit, 9, {"subject_id": "a_b", "session_id": "c"}),
            ],
            ["row 9 subject_id: subject and session make the same name as in row 2: a_b_c"],
            id="one name",
        ),
        pytest.param(
            [
                (edit, 2, {"subject_id": "M\u00fcller"}),
                (edit, 9, {"subject_id": "Mu\u0308ller", "session_id": "02"}),
            ],
            ["row 9 split: subject M\u00fcller is in 'test' here and in 'train' in row 2"],
            id="composed and decomposed",
        ),
    ],
)
def test_rows_that_contradict_one_another_are_reported(make_cohort, changes, problems):
    path = make_cohort()
    for change, row, values in changes:
        change(path, row, **values)
    assert shown(path) == problems


# ---------------------------------------------------------------- identity
@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("degraded", "/data/scan.nii.gz", "is absolute"),
        ("degraded", "C:\\data\\scan.nii.gz", "is absolute"),
        ("degraded", "\\\\server\\scan.nii.gz", "is absolute"),
        ("degraded", "../scan.nii.gz", "leaves the manifest's folder"),
        ("degraded", "subjects/../../scan.nii.gz", "leaves the manifest's folder"),
        ("session_id", "05/03/2021", "can be no part of a file name: it holds '/'"),
        ("session_id", "10:30", "it holds ':'"),
        ("session_id", "a\nb", "it holds '\\n'"),
        ("session_id", "#NAME?", "is a spreadsheet's error"),
        ("session_id", "########", "is a spreadsheet's error"),
        ("subject_id", "1.23E+15", "a long number that a spreadsheet rounded"),
        ("subject_id", "..", "it begins with '.'"),
        ("subject_id", "-rf", "it begins with '-'"),
        ("subject_id", "con", "Windows keeps it"),
        ("subject_id", "sub.", "it ends in '.'"),
        ("subject_id", "x" * 101, "it has 101 bytes, at most 100"),
    ],
)
def test_what_names_no_file_is_reported(make_cohort, column, value, problem):
    path = make_cohort()
    edit(path, 9, **{column: value})
    found = shown(path)
    assert next(line for line in found if problem in line).startswith(f"row 9 {column}: {value!r} ")
    assert len(found) == 1 or column == "degraded"  # a path is not found either


@pytest.mark.parametrize("written", ["0000 ", " 0000", "0000\u00a0", "\u200b0000"])
def test_what_nobody_sees_hides_no_leak(make_cohort, written):
    path = make_cohort()
    edit(path, 9, subject_id=written)
    assert read_text_table(path)["subject_id"][7] == "0000"
    assert "row 9 split: subject 0000 is in 'test' here and in 'train' in row 2" in shown(path)


@pytest.mark.parametrize("written", ["sub-A1", "SUB-a1", "sub-a01", "sub_a1", "sub–a1"])
def test_ids_that_look_like_one_are_reported(make_cohort, written):
    path = make_cohort()
    edit(path, 2, subject_id="sub-a1")
    edit(path, 9, subject_id=written)
    (found,) = shown(path)
    assert found.startswith(
        f"row 9 subject_id: {written!r} and 'sub-a1' of row 2 look like one subject, written in two ways"
    )


def test_the_same_voxels_under_two_subjects_are_reported(make_cohort):
    path = make_cohort()
    for column in ("degraded", "target"):
        source = path.parent / f"subjects/sub-0000/{column}.nii.gz"
        copy = path.parent / f"subjects/sub-0007/{column}.nii.gz"
        copy.write_bytes(gzip.compress(gzip.decompress(source.read_bytes()), 1))
        sum_again(path, 9, column)
    edit(path, 9, regions="", regions_sha256="")
    assert shown(path) == [
        f"row 9 {column}: subjects/sub-0007/{column}.nii.gz has the same voxels as subject 0000's in row 2"
        for column in ("degraded", "target")
    ]


def test_a_pair_of_one_image_is_reported(make_cohort):
    path = make_cohort()
    table = read_text_table(path)
    edit(path, 2, degraded=table["target"][0], degraded_sha256=table["target_sha256"][0])
    rewrite(path, 4, "degraded", lambda _: read_volume(path.parent / table["target"][2]).data)
    assert shown(path) == [
        "row 2 target_sha256: same file content as degraded of this row",
        "row 4 target: subjects/sub-0002/target.nii.gz has the same voxels as degraded of this row",
    ]


def test_files_are_found_whose_names_look_the_same(make_cohort):
    path = make_cohort()
    folder = path.parent / "subjects" / unicodedata.normalize("NFD", "Müller\u00a0")
    (path.parent / "subjects" / "sub-0000").rename(folder)
    edit(path, 2, **{column: f"subjects/Müller/{column}.nii.gz" for column in ("degraded", "target")})
    assert shown(path) == []
    assert Path(pair_schema().read(path)["degraded_path"][0]).parent == folder


def test_doses_of_a_scan_that_contradict_each_other_are_reported(make_cohort):
    path = make_cohort()
    table = cells(path)
    dose = table.iloc[[3]].assign(dose_fraction="0.05", amyloid_status="0", regions=table["regions"][1])
    dose["regions_sha256"] = table["regions_sha256"][1]
    pd.concat([table, dose]).to_csv(path, index=False)
    found = [line for line in shown(path) if "grid" not in line]
    assert found[0] == "row 10 amyloid_status: differs from that of the same scan in row 5: 0.0 and 1.0"
    assert found[1].startswith("row 10 regions_sha256: differs from that of the same scan in row 5: ")
    assert len(found) == 2


def test_labels_are_left_alone_where_none_is_needed(make_cohort):
    path = make_cohort()
    table = cells(path)
    table.rename(columns={"amyloid_status": "contrast"}).to_csv(path, index=False)
    assert pair_schema(label_column=None).read(path)["contrast"].tolist() == ["0", "1"] * 4
    with pytest.raises(InputError, match="row 1 amyloid_status: no such column"):
        pair_schema().read(path)


def test_a_target_that_is_the_degraded_image_of_another_subject_is_reported(make_cohort):
    path = make_cohort(depth=5)
    target = read_volume(path.parent / "subjects/sub-0000/target.nii.gz")
    for column in ("degraded", "target"):
        data = target.data if column == "degraded" else target.data * 2
        write_volume(data, target.source, path.parent / f"subjects/sub-0006/{column}.nii.gz")
    sum_again(path, 8, "degraded", "target")
    (found,) = shown(path)
    assert found.startswith(
        "row 8 degraded: subjects/sub-0006/degraded.nii.gz has the same voxels as subject"
    )
    assert found.endswith("0000's in row 2 (target)")


# ---------------------------------------------------------------- faults of the files
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (np.zeros_like, "the region map names no region: it is 0 everywhere"),
        (lambda data: data - 1, "region codes must be from 0 to 32767, got -1 to 3"),
        (lambda data: data * 20_000.0, "region codes must be from 0 to 32767, got 0 to 80000"),
        (lambda data: np.where(data == 1, 0, data), "has no voxel of region 1, which the composite SUVR"),
        (lambda data: np.where(data > 2, 0, data), "has no voxel of region 3, 4, which"),
    ],
)
def test_region_maps_that_end_an_evaluation_are_reported(make_cohort, change, problem):
    path = make_cohort()
    assert shown(path, regions=(1, 2, 3, 4)) == []
    rewrite(path, 5, "regions", change)
    (found,) = shown(path, regions=(1, 2, 3, 4))
    assert found.startswith("row 5 regions: subjects/sub-0003/regions.nii.gz: ")
    assert problem in found


def test_reference_region_without_uptake_is_reported(make_cohort):
    path = make_cohort()
    reference = read_volume(path.parent / "subjects/sub-0003/regions.nii.gz").data == 1
    rewrite(path, 5, "target", lambda data: np.where(reference, 0, data))
    assert shown(path) == []
    (found,) = shown(path, regions=(1, 2))
    assert found.startswith(
        "row 5 regions: subjects/sub-0003/regions.nii.gz: the target's mean in the reference"
    )


def test_what_cannot_be_opened_is_a_finding(make_cohort):
    path = make_cohort()
    (path.parent / "loop").symlink_to("loop")
    edit(path, 2, degraded="loop/degraded.nii.gz")
    edit(path, 3, target="manifest.csv/target.nii.gz")
    edit(path, 4, target=f"{'x' * 300}.nii.gz")
    found = shown(path)
    assert [line.partition(": ")[0] for line in found] == ["row 2 degraded", "row 3 target", "row 4 target"]
    assert found[2].endswith("cannot be read (File name too long)")


def test_a_folder_without_permission_is_a_finding(make_cohort, monkeypatch):
    path = make_cohort()
    is_file = Path.is_file

    def closed(file: Path) -> bool:
        if "sub-0002" in str(file):
            raise PermissionError(errno.EACCES, "Permission denied", str(file))
        return is_file(file)

    monkeypatch.setattr(Path, "is_file", closed)
    assert shown(path) == [
        f"row 4 {column}: subjects/sub-0002/{column}.nii.gz: cannot be read (Permission denied)"
        for column in ("degraded", "target")
    ]


def test_twelve_rows_broken_in_twelve_ways(make_cohort):
    path = make_cohort()
    table = cells(path)
    table = pd.concat([table.assign(session_id=f"{session:02}") for session in range(1, 6)])
    table.to_csv(path, index=False)
    assert shown(path) == []
    for row, column, value in (
        (3, "split", "Train"),
        (5, "amyloid_status", "positive"),
        (8, "dose_fraction", "0,01"),
        (11, "session_id", "05/03/2021"),
        (14, "subject_id", "4"),
        (17, "target_sha256", "0" * 64),
        (20, "degraded", "absent.nii.gz"),
        (23, "target", "../target.nii.gz"),
        (26, "tracer", ""),
        (29, "target", "manifest.csv/x.nii.gz"),
        (32, "session_id", "#REF!"),
    ):
        edit(path, row, **{column: value})
    lines = path.read_text().splitlines()
    lines[35] += ",more"
    path.write_text("\n".join(lines) + "\n")
    found = {problem.row for problem in pair_schema().check(path)}
    assert found == {3, 5, 8, 11, 14, 17, 20, 23, 26, 29, 32, 36}


def test_missing_truncated_and_foreign_files_are_reported(make_cohort):
    path = make_cohort()
    (path.parent / "subjects/sub-0000/degraded.nii.gz").unlink()
    truncated = path.parent / "subjects/sub-0001/target.nii.gz"
    truncated.write_bytes(truncated.read_bytes()[:-50])
    (path.parent / "subjects/sub-0002/target.nii.gz").write_text("no image")
    found = shown(path)
    assert found[0] == "row 2 degraded: subjects/sub-0000/degraded.nii.gz: no such file"
    assert found[1].startswith("row 3 target: subjects/sub-0001/target.nii.gz: is truncated or damaged")
    assert found[2].startswith("row 3 target_sha256: subjects/sub-0001/target.nii.gz has checksum")
    assert found[3].startswith("row 4 target: subjects/sub-0002/target.nii.gz: cannot be read as NIfTI")
    assert found[4].startswith("row 4 target_sha256")
    assert len(found) == 5


def test_changed_file_is_reported_by_its_checksum(make_cohort):
    path = make_cohort()
    file = path.parent / "subjects/sub-0003/regions.nii.gz"
    shutil.copy(path.parent / "subjects/sub-0003/target.nii.gz", file)
    (found, other) = shown(path)
    assert found == "row 5 regions: subjects/sub-0003/regions.nii.gz: region codes are no whole numbers"
    assert other.startswith(
        f"row 5 regions_sha256: subjects/sub-0003/regions.nii.gz has checksum {sha256_file(file)}, the"
    )


@pytest.mark.parametrize(
    ("row", "column", "change", "problem"),
    [
        (4, "target", lambda data: np.where(data > 2, np.nan, data), "voxels are not finite"),
        (
            4,
            "degraded",
            lambda data: np.stack([data, data], axis=-1),
            "has 4 dimensions (12, 10, 7, 2), expected 3",
        ),
        (4, "degraded", np.zeros_like, "the image has no positive foreground"),
        (
            4,
            "degraded",
            lambda data: data[:, :, 1:],
            "on another grid than the target: shape (12, 10, 6) against",
        ),
        (5, "regions", lambda data: data[1:], "on another grid than the target: shape (11, 10, 8) against"),
        (5, "regions", lambda data: data + 0.5, "region codes are no whole numbers"),
    ],
)
def test_unusable_voxels_are_reported(make_cohort, row, column, change, problem):
    path = make_cohort()
    rewrite(path, row, column, change)
    found = shown(path)
    assert len(found) == 1
    assert found[0].startswith(f"row {row} {column}: subjects/sub-000{row - 2}/{column}.nii.gz")
    assert problem in found[0]


def test_pair_with_shifted_affine_is_reported(make_cohort):
    path = make_cohort()
    file = path.parent / "subjects/sub-0002/degraded.nii.gz"
    volume = read_volume(file)
    shifted = np.diag([-4.0, 4.0, 5.0, 1.0])
    shifted[2, 3] = 5.0  # by one slice
    write_volume(volume.data, SourceGrid.from_affine(volume.source.shape, shifted), file)
    sum_again(path, 4, "degraded")
    assert shown(path) == [
        "row 4 degraded: subjects/sub-0002/degraded.nii.gz is on another grid than the target: "
        "affine: corners up to 5 mm apart"
    ]


def test_pair_stored_in_other_axes_is_fine(make_cohort):
    path = make_cohort()
    file = path.parent / "subjects/sub-0002/degraded.nii.gz"
    volume = read_volume(file)
    write_volume(volume.data, SourceGrid.from_affine(volume.data.shape, volume.affine), file)
    assert nibabel.aff2axcodes(nibabel.load(file).affine) == ("R", "A", "S")
    sum_again(path, 4, "degraded")
    assert shown(path) == []


def test_file_without_orientation_is_reported_not_warned_of(make_cohort):
    path = make_cohort()
    file = path.parent / "subjects/sub-0002/target.nii.gz"
    image = nibabel.load(file)
    image = nibabel.Nifti1Image(image.get_fdata(), image.affine)
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nibabel.save(image, file)
    sum_again(path, 4, "target")
    assert "states no orientation (qform and sform codes are 0)" in shown(path)[0]


def test_all_faults_are_reported_at_once(make_cohort):
    path = make_cohort()
    rewrite(path, 6, "target", lambda data: np.full_like(data, np.inf))
    edit(path, 2, amyloid_status="7")
    edit(path, 3, dose_fraction="2")
    edit(path, 4, split="Train")
    edit(path, 5, target_sha256="0" * 64)
    edit(path, 7, degraded="none.nii.gz")
    edit(path, 8, target="/none.nii.gz")
    problems = pair_schema().check(path, workers=2)
    assert [(problem.row, problem.column) for problem in problems] == [
        (2, "amyloid_status"),
        (3, "dose_fraction"),
        (4, "split"),
        (5, "target_sha256"),
        (6, "target"),
        (7, "degraded"),
        (8, "target"),
        (8, "target"),  # absolute, and not there
    ]
    with pytest.raises(InputError, match=r"manifest.csv: 4 problems\n  row 2 amyloid_status: label 7 is not"):
        pair_schema().read(path)


def test_long_lists_are_cut_short_in_the_error_alone(make_cohort):
    path = make_cohort()
    table = cells(path)
    table = pd.concat([table.assign(split="x", session_id=str(index)) for index in range(7)])
    table.to_csv(path, index=False)
    with pytest.raises(InputError, match=r"56 problems\n(.*\n)+  and 6 more$"):
        pair_schema().read(path)


def test_every_file_is_read_once(make_cohort, monkeypatch):
    path = make_cohort()
    table = cells(path)
    pd.concat([table, table.assign(dose_fraction="0.05")]).to_csv(path, index=False)
    reads: list[str] = []

    def counting(file: str) -> object:
        reads.append(str(file))
        return read_volume(file)

    monkeypatch.setattr("medrestore.data.file_checks.read_volume", counting)
    assert pair_schema().check(path) == []
    assert len(reads) == len(set(reads)) == 8 + 8 + 4


def test_progress_is_shown_when_wanted(make_cohort, capsys):
    path = make_cohort()
    pair_schema().check(path)
    assert capsys.readouterr().err == ""
    pair_schema().check(path, progress=True)
    assert "checking volumes: 100%" in capsys.readouterr().err


def test_problem_names_row_and_column():
    assert str(Problem(3, "split", "is empty")) == "row 3 split: is empty"
    assert str(Problem(3, "", "is a duplicate")) == "row 3: is a duplicate"
    assert str(Problem(0, "split", "no row")) == "split: no row"
    assert str(Problem(0, "", "no row")) == "no row"


# ---------------------------------------------------------------- MR
def with_t1(path: Path, rows: Sequence[int], size_mm: float = 2.0) -> None:
    """Give rows of the table a T1 on a grid of its own."""
    table = cells(path)
    table["t1"] = ""
    for row in rows:
        name = f"subjects/{table.loc[row - 2, 'subject_id']}_t1.nii.gz"
        image = np.random.default_rng(row).gamma(4.0, 1.0, (9, 8, 7)).astype(np.float32)
        grid = SourceGrid.from_affine(image.shape, np.diag([size_mm, size_mm, size_mm, 1.0]))
        write_volume(image, grid, path.parent / name)
        table.loc[row - 2, "t1"] = name
    pair_schema().with_checksums(table, path.parent).to_csv(path, index=False)


def test_mr_is_there_for_some_rows_on_any_grid(make_cohort):
    path = make_cohort()
    assert (pair_schema().read(path)["t1_path"] == "").all()  # a table without the column
    with_t1(path, [2, 5])
    assert shown(path) == []
    assert [bool(file) for file in pair_schema().read(path)["t1_path"]] == [
        True,
        *[False] * 2,
        True,
        *[False] * 4,
    ]


def test_faults_of_mr_are_told(make_cohort):
    path = make_cohort()
    with_t1(path, [2, 3, 4])
    rewrite(path, 3, "t1", np.zeros_like)
    table = cells(path)
    table.loc[2, "t1_sha256"] = table.loc[0, "t1_sha256"]
    table.to_csv(path, index=False)
    problems = "\n".join(shown(path))
    assert "row 3 t1: subjects/0001_t1.nii.gz: the image has no positive foreground" in problems
    assert "same file content as subject 0000's in row 2" in problems
    (path.parent / table.loc[0, "t1"]).unlink()
    assert any(line.startswith("row 2 t1: ") and "no such file" in line for line in shown(path))
