"""Acquisitions from files: which are found, and what the network sees of them."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from manifest import write_manifest
from torch import Tensor, nn

from medrestore.checks import InputError
from medrestore.data.intensity import foreground_scale
from medrestore.domains.multicontrast_mri.acquisition.acquisition import make_acquisition
from medrestore.domains.multicontrast_mri.acquisition.channel_volume import read_channels
from medrestore.domains.multicontrast_mri.acquisition.synthetic import require_protocol
from medrestore.domains.multicontrast_mri.evaluation.classical import fitted_images, mdme_input
from medrestore.domains.multicontrast_mri.restoration import (
    ContrastFileRestorer,
    ContrastRestorer,
    InputFiles,
    find_inputs,
)
from medrestore.domains.multicontrast_mri.schema import contrast_schema
from medrestore.domains.multicontrast_mri.training.dataset import ContrastDataset
from medrestore.domains.multicontrast_mri.training.stack import ContrastStack, SyntheticStack
from medrestore.inference.network import Training

NAMES = ("t1w", "stir", "pdw")
ACQUISITION = make_acquisition(
    component="magnitude", saturation_delays_ms=[100, 2000], echo_times_ms=[20, 90]
)


# ---------------------------------------------------------------------------- what is found
def test_file_and_folder(mdme, write_mdme, tmp_path):
    assert find_inputs(mdme) == [InputFiles((mdme,), "secret_doe")]
    for name in ("b", "a"):
        write_mdme(tmp_path / f"{name}.nii.gz")  # the sidecars are no inputs
    assert [(item.name, len(item.paths)) for item in find_inputs(tmp_path)] == [("a", 1), ("b", 1)]


def manifest_of(folder: Path, cells: dict[str, str], **columns: list[str]) -> Path:
    table = {
        "subject_id": list(cells),
        "session_id": ["ses-01"] * len(cells),
        "split": ["test"] * len(cells),
        "group": [""] * len(cells),
        "input": list(cells.values()),
        "t1w": [""] * len(cells),
    }
    path = folder / "manifest.csv"
    pd.DataFrame({**table, **columns}).to_csv(path, index=False)
    return path


def test_manifest_with_a_list_of_files_and_no_contrast(write_mdme, tmp_path):
    (tmp_path / "b").mkdir()
    write_mdme(tmp_path / "a.nii.gz")
    for channel in range(4):
        write_mdme(tmp_path / "b" / f"{channel}.nii.gz", channel=channel)
    cells = {"sub-a": "a.nii.gz", "sub-b": "; ".join(f"b/{channel}.nii.gz" for channel in range(4))}
    manifest = manifest_of(tmp_path, cells, split=["train", "test"])
    first, second = find_inputs(manifest)
    assert first == InputFiles((tmp_path / "a.nii.gz",), "sub-a_ses-01")
    assert second.paths == tuple(tmp_path / "b" / f"{channel}.nii.gz" for channel in range(4))
    assert find_inputs(manifest, split="test") == [second]


@pytest.mark.parametrize(
    ("cells", "split", "message"),
    [
        ({"a": ""}, None, r"manifest\.csv, row 2: input is empty"),
        ({"a": "x.nii.gz;;y.nii.gz"}, None, "row 2: input has an empty name in its list"),
        ({"a": "../x.nii.gz"}, None, r"input '\.\./x\.nii\.gz' leaves the manifest's folder"),
        ({"": "x.nii.gz"}, None, "row 2: subject_id is empty"),
        ({"05/03/2021": "x.nii.gz"}, None, "row 2 subject_id: '05/03/2021' can be no part of a file name"),
        ({"a1": "x.nii.gz", "A01": "y.nii.gz"}, None, "row 3 subject_id: 'A01' and 'a1' of row 2 look like"),
        ({"a": "x.nii.gz"}, "train", "has no row of split 'train'; it holds test"),
        ({}, None, "there is no row below the header"),
    ],
)
def test_faults_of_a_manifest_are_named(cells, split, message, tmp_path):
    with pytest.raises(InputError, match=message):
        find_inputs(manifest_of(tmp_path, cells), split=split)


def test_manifest_of_another_kind_is_refused(tmp_path):
    (tmp_path / "pet.csv").write_text("subject_id,session_id,degraded\na,b,c.nii.gz\n")
    with pytest.raises(InputError, match=r"lacks the columns input$"):
        find_inputs(tmp_path / "pet.csv")
    with pytest.raises(InputError, match=r"lacks the columns input, split$"):
        find_inputs(tmp_path / "pet.csv", split="test")


@pytest.mark.parametrize(
    ("make", "split", "message"),
    [
        (lambda path: None, None, r"does not exist\. Remedy"),
        (lambda path: path.mkdir(), None, r"holds no \.nii or \.nii\.gz file"),
        (lambda path: path.mkdir(), "test", "a split is that of a manifest"),
    ],
    ids=["missing", "empty", "split"],
)
def test_nothing_to_restore_is_refused(make, split, message, tmp_path):
    make(tmp_path / "input")
    with pytest.raises(InputError, match=message):
        find_inputs(tmp_path / "input", split=split)


def test_network_sees_what_it_saw_in_training(write_mdme, tmp_path):
    write_mdme(tmp_path / "in.nii.gz", grid="slices first, backwards")
    for channel, name in enumerate(NAMES):
        write_mdme(tmp_path / f"{name}.nii.gz", grid="slices first, backwards", channel=channel)
    row = {"subject_id": "a", "session_id": "b", "split": "train", "group": "", "input": "in.nii.gz"}
    row |= {**{name: f"{name}.nii.gz" for name in NAMES}, "lesions": ""}
    write_manifest(contrast_schema(NAMES), [row], tmp_path)
    x, y, z = read_channels([tmp_path / "in.nii.gz"], ACQUISITION).data.shape[1:]
    size = (-(-x // 8) * 8, -(-y // 8) * 8)
    stack = ContrastStack.build(
        contrast_schema(NAMES).read(tmp_path / "manifest.csv"),
        tmp_path / "cache",
        contrasts=NAMES,
        acquisition=ACQUISITION,
        spatial_size=size,
        progress=False,
    )
    dataset = ContrastDataset(stack, neighbors=1)
    shown = dataset.__getitems__(range(len(dataset)))
    assert len(dataset) == z * len(NAMES)
    seen: list[Tensor] = []

    class Seen(nn.Module):
        stride_multiple = 8

        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.clone())
            return x[:, :1]

    restorer = ContrastRestorer(Seen(), neighbors=1, contrasts=NAMES, acquisition=ACQUISITION, batch_size=z)
    restorer.restore(read_channels([tmp_path / "in.nii.gz"], ACQUISITION))
    for image, contrast, index in zip(shown["image"], shown["contrast"], shown["slice_index"], strict=True):
        # One float32 division, by a scale that is float32 in the one and float64 in the other.
        torch.testing.assert_close(seen[int(contrast)][int(index)], image, rtol=2**-22, atol=0)


@pytest.fixture
def fitted(mdme_images, tmp_path: Path) -> Path:
    """An acquisition of six signed channels with all that a fit needs; return its folder."""
    images = mdme_images()
    channels = np.concatenate([images[..., :2], 1.5 * images[..., :2], images[..., 2:]], axis=-1)
    nibabel.save(nibabel.Nifti1Image(channels, np.diag([3.0, 3.5, 5.0, 1.0])), tmp_path / "in.nii.gz")
    said = {
        "SaturationDelay": [0.1, 0.1, 0.6, 0.6, 2.0, 2.0],
        "EchoTime": [0.02, 0.09] * 3,
        "RepetitionTime": 3.0,
        "ComplexComponent": "phase_corrected",
    }
    (tmp_path / "in.json").write_text(json.dumps(said))
    return tmp_path


SIX = make_acquisition(saturation_delays_ms=[100, 600, 2000], echo_times_ms=[20, 90])


def test_synthetic_channel_is_that_of_training_and_of_the_evaluation_bit_for_bit(fitted):
    row = {"subject_id": "a", "session_id": "b", "split": "train", "group": "", "input": "in.nii.gz"}
    row |= {**dict.fromkeys(NAMES, ""), "lesions": ""}
    paths = [str(fitted / "in.nii.gz")]
    volume = read_channels(paths, SIX)
    x, y, z = volume.data.shape[1:]
    size = (-(-x // 8) * 8, -(-y // 8) * 8)
    trained = SyntheticStack.build(
        pd.DataFrame([{**row, "input_paths": tuple(paths)}]),
        fitted / "cache",
        contrasts=NAMES,
        acquisition=SIX,
        spatial_size=size,
        progress=False,
    )
    seen: list[Tensor] = []

    class Seen(nn.Module):
        stride_multiple = 8

        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.clone())
            return x[:, -1:]

    settings = {"neighbors": 1, "contrasts": NAMES, "acquisition": SIX, "synthetic": True, "batch_size": z}
    restorer = ContrastRestorer(Seen(), **settings)
    restored = restorer.restore(volume, protocol=require_protocol(paths, SIX))
    source = mdme_input(paths)
    assert source is not None
    evaluated = fitted_images(source, NAMES)
    for index, name in enumerate(NAMES):
        assert seen[index].shape == (z, 3 * 6 + 3 + 1, *size)
        np.testing.assert_array_equal(seen[index][:, -1], trained.synthetic[:, index])
        scale = np.float32(foreground_scale(evaluated[name], voxel_size_mm=volume.voxel_size_mm))
        np.testing.assert_array_equal(restored[name].mean, evaluated[name] / scale)
    # What is asked for beside it changes nothing, batches neither.
    by_itself = ContrastRestorer(Seen(), **{**settings, "batch_size": 2}).restore(
        volume, contrasts=["stir"], protocol=require_protocol(paths, SIX)
    )
    np.testing.assert_array_equal(by_itself["stir"].mean, restored["stir"].mean)
    with pytest.raises(InputError, match=r"need the protocol.*Remedy: give protocol"):
        restorer.restore(volume)


def test_files_are_restored_with_their_own_synthetic_channel(fitted, mri_weights):
    restorer = ContrastRestorer(Last(), neighbors=0, contrasts=["t2w"], acquisition=SIX, synthetic=True)
    restorer.training = Training(mri_weights, "taskgan", {})
    inputs = InputFiles((fitted / "in.nii.gz",), "a")
    (written,) = ContrastFileRestorer([inputs], restorer, output_dir=fitted / "out", progress=False).run()
    source = mdme_input([str(fitted / "in.nii.gz")])
    assert source is not None
    image = fitted_images(source, ["t2w"])["t2w"]
    scale = np.float32(foreground_scale(image, voxel_size_mm=(3, 3.5, 5)))
    np.testing.assert_array_equal(nibabel.load(written).get_fdata(dtype=np.float32), image / scale)
    (fitted / "in.json").write_text('{"ComplexComponent": "phase_corrected"}')
    with pytest.raises(InputError, match="has no sidecar that states"):
        ContrastFileRestorer([inputs], restorer, output_dir=fitted / "other", progress=False).run()


class Last(nn.Module):
    """Gives its last channel."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, -1:]


def test_protocol_is_in_the_order_of_the_acquisition(fitted):
    paths = [str(fitted / "in.nii.gz")]
    turned = make_acquisition(saturation_delays_ms=[2000, 100, 600], echo_times_ms=[20, 90])
    assert require_protocol(paths, turned).saturation_delays_ms == (2000, 100, 600)
    with pytest.raises(InputError, match="its sidecar states 3 delays and 2 echo times, the acquisition"):
        require_protocol(paths, ACQUISITION)


@pytest.mark.parametrize(
    "names",
    [["mri/avg152_T1.nii", "mri/avg152_T2.nii", "mri/avg152_PD.nii"], ["mri/gre_3echo_magnitude.nii"]],
)
def test_real_images_are_restored_on_their_grid(names, shared_data, mri_weights, shown_channel, tmp_path):
    inputs = InputFiles(tuple(shared_data(name) for name in names), "a")
    images = make_acquisition(component="any", channels=3)
    restorer = ContrastRestorer(shown_channel(1), neighbors=0, contrasts=["t1c"], acquisition=images)
    restorer.training = Training(mri_weights, "taskgan", {})
    (written,) = ContrastFileRestorer([inputs], restorer, output_dir=tmp_path, progress=False).run()
    given = nibabel.load(inputs.paths[min(1, len(names) - 1)])
    voxels = given.get_fdata() if len(names) > 1 else given.get_fdata()[..., 1]
    restored = nibabel.load(written)
    np.testing.assert_array_equal(restored.affine, given.affine)
    scale = json.loads((tmp_path / "a_t1c_restored.json").read_text())["input_scale"][1]
    # One float32 division.
    np.testing.assert_allclose(restored.get_fdata(), voxels / scale, rtol=2**-23)
