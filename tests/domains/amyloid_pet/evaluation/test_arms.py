from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from medrestore.checks import InputError
from medrestore.data.schema import split_rows
from medrestore.data.volumes import SourceGrid, read_volume, write_volume
from medrestore.domains.amyloid_pet.schema import pair_schema
from medrestore.evaluation.arms import read_on_grid
from medrestore.evaluation.volumes import find_arms

if TYPE_CHECKING:
    from conftest import Cohort


def find(rows: pd.DataFrame, methods: dict[str, Path], **known: Any) -> dict[str, dict[str, Path]]:
    return find_arms(rows, methods, reserved=("input", "nlm"), beside=["regions"], **known)


@pytest.fixture
def rows(cohort: Cohort) -> pd.DataFrame:
    return split_rows(pair_schema().read(cohort.manifest), "test")


def test_every_scan_has_a_file_of_every_method(cohort, rows):
    arms = find(rows, cohort.methods)
    assert list(arms) == [f"sub-{index:02}_ses-01" for index in (1, 2, 3, 4)]
    assert arms["sub-03_ses-01"] == {
        name: folder / "sub-03_ses-01_restored.nii.gz" for name, folder in cohort.methods.items()
    }


def test_all_faults_are_named_at_once(cohort, rows, tmp_path):
    folder = tmp_path / "gan"
    shutil.copytree(cohort.methods["gan"], folder)
    (folder / "sub-01_ses-01_restored.nii.gz").unlink()
    shutil.copy(folder / "sub-02_ses-01_restored.nii.gz", folder / "sub-99_ses-01_restored.nii.gz")
    grid = SourceGrid.from_affine((32, 32, 8), np.diag([4.0, 4.0, 6.5, 1.0]))
    write_volume(np.zeros((32, 32, 8)), grid, folder / "sub-03_ses-01_restored.nii.gz")
    (folder / "sub-02_ses-01_restored.nii.gz").write_bytes(b"no volume")
    small = SourceGrid.from_affine((32, 32, 7), np.diag([4.0, 4.0, 6.0, 1.0]))
    write_volume(np.zeros((32, 32, 7)), small, folder / "sub-04_ses-01_restored.nii.gz")
    methods = {
        "gan": folder,
        "nlm": folder,
        "a/b": folder,
        "gone": tmp_path / "gone",
    }
    with pytest.raises(InputError) as caught:
        find(rows, methods)
    message = str(caught.value)
    for expected in (
        "method 'nlm': the name is taken",
        "method 'a/b': a name is made of letters",
        "method 'gone':",
        "sub-01_ses-01_restored.nii.gz is missing",
        "sub-99_ses-01_restored.nii.gz belongs to no scan",
        "sub-03_ses-01_restored.nii.gz: is not on the grid of",
        "sub-02_ses-01_restored.nii.gz: cannot be read as NIfTI",
        "corners up to 3.5 mm apart",  # 7 steps of half a millimeter
        "shape (32, 32, 7) against (32, 32, 8)",
    ):
        assert expected in message


def test_restorations_of_other_splits_may_lie_beside(cohort, rows, tmp_path):
    folder = tmp_path / "gan"
    shutil.copytree(cohort.methods["gan"], folder)
    shutil.copy(folder / "sub-01_ses-01_restored.nii.gz", folder / "sub-00_ses-01_restored.nii.gz")
    with pytest.raises(InputError, match=r"sub-00_ses-01_restored\.nii\.gz belongs to no scan"):
        find(rows, {"gan": folder})
    assert len(find(rows, {"gan": folder}, known=["sub-00_ses-01"])) == 4


def test_two_arms_of_one_scan_are_refused(cohort, rows):
    twice = pd.concat([rows, rows.head(1)])
    with pytest.raises(InputError, match="sub-01_ses-01: is in the manifest's split more than once"):
        find(twice, cohort.methods)


def test_many_faults_are_cut_short(rows, tmp_path):
    methods = {f"method{number}": tmp_path for number in range(20)}
    with pytest.raises(InputError, match=r"80 problems in what is compared\n(.*\n)*  and 30 more"):
        find(rows, methods)


def test_read_on_grid_refuses_another_grid(cohort, tmp_path):
    target = read_volume(cohort.folder / "subjects" / "sub-00" / "target.nii.gz")
    other = SourceGrid.from_affine((32, 32, 8), np.diag([4.0, 4.0, 7.0, 1.0]))
    path = write_volume(np.zeros((32, 32, 8)), other, tmp_path / "other.nii.gz")
    with pytest.raises(InputError, match=r"other\.nii\.gz: is not on the grid of .*target\.nii\.gz"):
        read_on_grid(path, target)
