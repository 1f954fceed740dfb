"""What an evaluation of contrasts refuses, by name."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from manifest import cells

from medrestore.checks import InputError
from medrestore.data.volumes import SourceGrid, read_volume, write_volume
from medrestore.domains.multicontrast_mri.evaluation.evaluate import evaluate_contrasts
from medrestore.networks.tasks.amyloid import AmyloidClassifier
from medrestore.networks.weights import describe, save_file

if TYPE_CHECKING:
    from conftest import ContrastCohort


def run(cohort: ContrastCohort, tmp_path: Path, **settings: Any) -> Any:
    given: dict[str, Any] = {"methods": cohort.methods, "classical": False, "progress": False}
    manifest = settings.pop("manifest", cohort.manifest)
    return evaluate_contrasts(manifest, output=tmp_path / "out", **given | settings)


def test_all_faults_of_restorations_are_named_at_once(contrast_cohort, tmp_path):
    folder = tmp_path / "gan"
    shutil.copytree(contrast_cohort.methods["gan"], folder)
    (folder / "sub-01_ses-01_t1w_restored.nii.gz").unlink()
    volume = read_volume(folder / "sub-02_ses-01_t1c_restored.nii.gz")
    write_volume(volume.data, volume.source, folder / "sub-99_ses-01_t1c_restored.nii.gz")
    shifted = np.diag([4.0, 4.0, 6.0, 1.0])
    shifted[0, 3] = 1.0
    grid = SourceGrid.from_affine(volume.data.shape, shifted)
    write_volume(volume.data, grid, folder / "sub-03_ses-01_t2_flair_restored.nii.gz")
    with pytest.raises(InputError) as caught:
        run(contrast_cohort, tmp_path, methods={"gan": folder, "classical": folder, "true": folder})
    message = str(caught.value)
    for expected in (
        "method 'classical': the name is taken",
        "method 'true': the name is taken",
        "sub-01_ses-01_t1w_restored.nii.gz is missing",
        "sub-99_ses-01_t1c_restored.nii.gz belongs to no scan",
        "sub-03_ses-01_t2_flair_restored.nii.gz: is not on the grid of",
        "mdme.nii.gz: affine: corners up to 1 mm apart",
    ):
        assert expected in message
    # A contrast that was not acquired may have been restored all the same.
    assert "sub-04_ses-01_t1w" not in message


def test_a_target_off_the_inputs_grid_is_refused(contrast_cohort, tmp_path):
    folder = tmp_path / "cohort"
    shutil.copytree(contrast_cohort.folder, folder)
    volume = read_volume(folder / "subjects" / "sub-02" / "t1c.nii.gz")
    grid = SourceGrid.from_affine(volume.data.shape, np.diag([4.0, 4.0, 6.1, 1.0]))
    write_volume(volume.data, grid, folder / "subjects" / "sub-02" / "t1c.nii.gz")
    with pytest.raises(InputError, match=r"t1c\.nii\.gz: is not on the grid of .*mdme\.nii\.gz"):
        run(contrast_cohort, tmp_path, manifest=folder / "manifest.csv")


def test_the_true_image_given_as_a_method_is_found_out(contrast_cohort, tmp_path):
    folder = tmp_path / "gan"
    shutil.copytree(contrast_cohort.methods["gan"], folder)
    shutil.copy(
        contrast_cohort.folder / "subjects" / "sub-02" / "t1c.nii.gz",
        folder / "sub-02_ses-01_t1c_restored.nii.gz",
    )
    with pytest.raises(
        InputError,
        match=r"sub-02_ses-01, t1c, method 'gan': .*_restored\.nii\.gz: the image is the target itself",
    ):
        run(contrast_cohort, tmp_path, methods={"gan": folder})


def test_an_image_without_signal_is_named(contrast_cohort, tmp_path):
    folder = tmp_path / "gan"
    shutil.copytree(contrast_cohort.methods["gan"], folder)
    path = folder / "sub-02_ses-01_t1w_restored.nii.gz"
    volume = read_volume(path)
    write_volume(np.zeros_like(volume.data), volume.source, path)
    with pytest.raises(InputError, match=r"sub-02_ses-01, t1w, method 'gan': .*mean over the head must be"):
        run(contrast_cohort, tmp_path, methods={"gan": folder})


def test_unknown_contrasts_and_groups_are_refused(contrast_cohort, tmp_path):
    with pytest.raises(InputError, match=r"t2w: no such column; the manifest has the contrasts t1w, t2_fla"):
        run(contrast_cohort, tmp_path, contrasts=["t2w"])
    with pytest.raises(InputError, match="a contrast cannot be named 'mean'"):
        run(contrast_cohort, tmp_path, contrasts=["mean"])
    with pytest.raises(InputError, match="data_range_percentile must be in"):
        run(contrast_cohort, tmp_path, data_range_percentile=0.5)
    table = cells(contrast_cohort.manifest)
    table["group"] = "MS/CIS"
    path = contrast_cohort.folder / "groups.csv"
    table.to_csv(path, index=False)
    with pytest.raises(InputError, match=r"groups\.csv, row 3: group 'MS/CIS': the name of a group"):
        run(contrast_cohort, tmp_path, manifest=path)
    (tmp_path / "none.csv").write_text("subject_id,session_id\na,b\n")
    with pytest.raises(InputError, match=r"none\.csv: has no column of a contrast"):
        run(contrast_cohort, tmp_path, manifest=tmp_path / "none.csv")


def test_judges_of_other_things_are_refused(contrast_cohort, tmp_path):
    strange = tmp_path / "model.pt"
    network = describe(AmyloidClassifier(widen_factor=1 / 8, seed=0))
    save_file({"networks": {"task": network}}, strange)
    with pytest.raises(InputError, match=r"model\.pt: its classifier must tell the contrasts t1w, .*none"):
        run(contrast_cohort, tmp_path, task=strange)
    save_file({"networks": {"task": network}, "contrasts": ["t1w", "t2w"]}, strange)
    with pytest.raises(InputError, match="it tells those of t1w, t2w"):
        run(contrast_cohort, tmp_path, observers=[strange])
    with pytest.raises(InputError, match=r"task\.pt: holds no segmenter \(segmenter\)"):
        run(contrast_cohort, tmp_path, segmenter=contrast_cohort.task)
    with pytest.raises(InputError, match="must be of one of the contrasts t1w, it is of t2_flair"):
        run(contrast_cohort, tmp_path, segmenter=contrast_cohort.segmenter, contrasts=["t1w"])
    assert not (tmp_path / "out").exists()


def test_a_split_without_images_is_refused(contrast_cohort, tmp_path):
    table = cells(contrast_cohort.manifest)
    table.loc[table["split"] == "test", ["t1w", "t1w_sha256"]] = ""
    path = contrast_cohort.folder / "empty.csv"
    table.to_csv(path, index=False)
    with pytest.raises(InputError, match=r"empty\.csv: split 'test' has no true image of t1w"):
        run(contrast_cohort, tmp_path, manifest=path, contrasts=["t1w"])
