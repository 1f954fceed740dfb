"""Real multi-contrast volumes on the way from a manifest to batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from manifest import cells, write_manifest

from medrestore.checks import InputError
from medrestore.data.intensity import foreground_scale
from medrestore.data.slices import BalancedBatchSampler, make_slice_loader
from medrestore.data.volumes import read_volume, write_volume
from medrestore.domains.multicontrast_mri.acquisition.acquisition import Acquisition, make_acquisition
from medrestore.domains.multicontrast_mri.schema import contrast_schema
from medrestore.domains.multicontrast_mri.training.data import ContrastData
from medrestore.domains.multicontrast_mri.training.stack import ContrastStack

CONTRASTS = ("t2w", "t2_flair")


@pytest.fixture
def two_in() -> Acquisition:
    return make_acquisition(component="any", channels=2)


@pytest.fixture
def glioma(shared_data: Callable[[str], Path], tmp_path: Path) -> Path:
    """Link the four volumes of one real patient into a cohort: T1 with and without contrast medium in."""
    folder = tmp_path / "glioma"
    folder.mkdir()
    for name in ("t1", "t1c", "t2", "fla"):
        (folder / f"{name}.nii.gz").symlink_to(shared_data(f"mri/tcga_du_7294_{name}.nii.gz"))
    row = {
        "subject_id": "tcga-du-7294",
        "session_id": "01",
        "split": "train",
        "group": "patient",
        "input": "t1.nii.gz;t1c.nii.gz",
        "t2w": "t2.nii.gz",
        "t2_flair": "fla.nii.gz",
    }
    return write_manifest(contrast_schema(CONTRASTS), [row], folder)


def test_linked_files_are_where_the_manifest_says(glioma, two_in):
    assert contrast_schema(CONTRASTS, acquisition=two_in).check(glioma, require_splits=("train",)) == []


def test_real_volumes_become_batches(glioma, tmp_path):
    data = ContrastData(
        manifest=glioma,
        cache_dir=tmp_path / "cache",
        seed=0,
        batch_size=1,
        batches_per_epoch=1,
        contrasts=CONTRASTS,
        component="any",
        input_channels=2,
        neighbors=1,
        spatial_size=(192, 224),
        slice_range=(0.3, 0.7),
    )
    stack = data.stack("train")
    assert stack.input.shape == (155, 2, 192, 224)
    volumes = [read_volume(glioma.parent / f"{name}.nii.gz") for name in ("t1", "t1c", "t2", "fla")]
    held = [stack.input[:, 0], stack.input[:, 1], stack.target[:, 0], stack.target[:, 1]]
    for volume, slices in zip(volumes, held, strict=True):
        assert volume.data.shape == (240, 240, 155)
        own = foreground_scale(volume.data, voxel_size_mm=volume.voxel_size_mm)
        expected = volume.data[24:216, 8:232, 77] / np.float32(own)
        np.testing.assert_array_equal(slices[77], expected)
    assert not stack.marked.any()

    dataset = data.training
    sampler = BalancedBatchSampler(dataset.labels, batch_size=4, batches_per_epoch=3, seed=0)
    for batch in make_slice_loader(dataset, sampler):
        assert batch["image"].shape == (4, 3 * 2 + 2, 192, 224)
        assert torch.isfinite(batch["image"]).all()
        assert batch["contrast"].tolist() == [0, 0, 1, 1]
        # Over its own foreground scale, the head has mean 1, and no slice of its middle is far from it.
        head = batch["label"][batch["label"] > 0.2]
        assert 0.5 < float(head.mean()) < 1.5

    restored = write_volume(volumes[2].data, volumes[0].source, tmp_path / "restored.nii.gz")
    np.testing.assert_array_equal(
        nibabel.load(restored).affine, nibabel.load(glioma.parent / "t1.nii.gz").affine
    )
    assert data.model_information["training_range"]["features"]["voxel_size_x_mm"] == [1.0, 1.0]


def test_real_volume_on_another_grid_is_sent_to_co_registration(glioma, two_in, tmp_path):
    moved = nibabel.load(glioma.parent / "t2.nii.gz")
    affine = np.array(moved.affine)
    affine[:3, 3] += (3.0, 0.0, 0.0)
    data = np.asarray(moved.dataobj)[::2, ::2, ::2]
    (glioma.parent / "t2.nii.gz").unlink()
    nibabel.save(nibabel.Nifti1Image(data, affine), glioma.parent / "t2.nii.gz")
    write_manifest(contrast_schema(CONTRASTS), cells(glioma), glioma.parent)
    with pytest.raises(
        InputError, match=r"t2.nii.gz: is on another grid .*Remedy: medrestore mri coregister"
    ):
        ContrastStack.build(
            contrast_schema(CONTRASTS).read(glioma),
            tmp_path / "cache",
            contrasts=CONTRASTS,
            acquisition=two_in,
            spatial_size=(192, 224),
            progress=False,
        )
