"""Further channels: a Gaussian against sums by hand, the same in training's maps as at restoration."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

from medrestore.checks import InputError
from medrestore.data.channels import GaussianChannel, PresenceChannel, Shown, VolumeChannel, channel_of
from medrestore.data.intensity import foreground_scale
from medrestore.data.slice_stack import SliceStack
from medrestore.data.slices import SliceDataset
from medrestore.data.volumes import read_volume
from medrestore.domains.amyloid_pet.schema import pair_schema
from medrestore.files import sha256_file
from medrestore.inference.slices import VolumeRestorer

CONTEXT = (GaussianChannel(sigma_mm=3.0), GaussianChannel(sigma_mm=8.0))
BESIDE = VolumeChannel(name="t1w", neighbors=1)


def rows_of(path: Path) -> pd.DataFrame:
    table = pair_schema().read(path)
    return table[table["split"] == "train"]


def shown(image: np.ndarray, scale: float = 2.0, **beside: object) -> Shown:
    return Shown(image, scale, (2.0, 2.0, 4.0), beside)


class Watched(nn.Module):
    """Restores nothing and keeps what it was shown."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.in_channels = channels

    def forward(self, x: Tensor) -> Tensor:
        batches.append(x.clone())
        return x[:, :1]


batches: list[Tensor] = []  # a restorer copies its network


def given_to_the_network(restorer: VolumeRestorer, *given, **beside) -> Tensor:
    batches.clear()
    restorer.restore(*given, **beside)
    return torch.cat(batches)


def test_gaussian_is_in_millimeters_along_each_axis():
    point = np.zeros((25, 25, 25), np.float32)
    point[12, 12, 12] = 1
    smooth, scale = GaussianChannel(sigma_mm=4.0).of(shown(point))
    assert (smooth.dtype, scale) == (np.float32, 2.0)
    # exp(-d^2 / 2 sigma^2) at 4 mm, two voxels along x and one along z; float32.
    expected = math.exp(-0.5)
    assert smooth[14, 12, 12] / smooth[12, 12, 12] == pytest.approx(expected, rel=1e-5)
    assert smooth[12, 12, 13] / smooth[12, 12, 12] == pytest.approx(expected, rel=1e-5)
    assert smooth.sum() == pytest.approx(1, rel=1e-5)


def test_missing_volume_is_zero_and_one_that_is_there_has_its_own_scale(make_cohort):
    image = np.ones((12, 10, 5), np.float32)
    missing, scale = BESIDE.of(shown(image))
    assert scale == 1
    np.testing.assert_array_equal(missing, np.zeros_like(image))
    volume = read_volume(rows_of(make_cohort())["target_path"].iloc[0])
    same, scale = BESIDE.of(shown(image, t1w=volume))
    assert same is volume.data
    assert scale == foreground_scale(volume.data, voxel_size_mm=volume.voxel_size_mm)


@pytest.mark.parametrize("channel", [*CONTEXT, BESIDE, PresenceChannel(name="t1w")])
def test_plain_values_make_a_channel_again(channel):
    assert channel_of(channel.plain) == channel


@pytest.mark.parametrize("name", ["Channel", "Shown", "Path", "gaussian", ""])
def test_what_is_no_channel_is_refused(name):
    with pytest.raises(InputError, match=f"no channel of images is called '{name}'. Remedy"):
        channel_of({"class": name})


def test_numbers_out_of_range_are_refused():
    with pytest.raises(InputError, match="sigma_mm must be in"):
        GaussianChannel(sigma_mm=0.0)
    with pytest.raises(InputError, match="neighbors must be in"):
        VolumeChannel(name="t1w", neighbors=-1)


@pytest.mark.parametrize("neighbors", [0, 2])
def test_network_is_shown_the_same_at_restoration_as_in_training(make_cohort, tmp_path, neighbors):
    """The maps of a training against what a restorer computes of the file, bit for bit."""
    rows = rows_of(make_cohort()).reset_index(drop=True)
    # The first volume has another image beside it, which here is the second arm; the others have none.
    rows["t1w_path"] = ["" if index else path for index, path in enumerate(rows["target_path"])]
    channels = (*CONTEXT, BESIDE)
    stack = SliceStack.build(rows, tmp_path / "cache", spatial_size=(12, 10), channels=channels)
    dataset = SliceDataset(stack, neighbors=neighbors, label_column=None)
    assert dataset.shown_channel == neighbors
    in_channels = 2 * neighbors + 1 + 1 + 1 + 3
    restorer = VolumeRestorer(Watched(in_channels), neighbors=neighbors, channels=channels, batch_size=4)
    for index, row in rows.iterrows():
        volume = read_volume(row["degraded_path"])
        beside = {"t1w": read_volume(row["t1w_path"])} if row["t1w_path"] else {}
        own = np.flatnonzero(dataset.volume == index)
        trained = dataset.__getitems__(own)["image"]
        assert trained.shape == (volume.data.shape[2], in_channels, 12, 10)
        assert torch.equal(given_to_the_network(restorer, volume, beside=beside), trained)
        assert trained[:, -3:].any() == (index == 0)
        # Worked out apart: the last smoothed channel of every slice, and the neighbors of what lies beside.
        smooth = ndimage.gaussian_filter(volume.data, [8 / 4, 8 / 4, 8 / 5]) / np.float32(stack.scale[index])
        np.testing.assert_array_equal(trained[:, 2 * neighbors + 2].permute(1, 2, 0), smooth)
        if beside:
            last = beside["t1w"].data.shape[2] - 1
            scale = foreground_scale(beside["t1w"].data, voxel_size_mm=(4, 4, 5))
            for z, offset in ((0, -1), (0, 0), (0, 1), (last, 1)):
                slice_ = beside["t1w"].data[:, :, min(max(z + offset, 0), last)] / np.float32(scale)
                np.testing.assert_array_equal(trained[z, -2 + offset], slice_)


def test_stack_is_named_by_channels_and_their_files_and_without_any_as_ever(make_cohort, tmp_path):
    rows = rows_of(make_cohort()).reset_index(drop=True)

    def folder(rows: pd.DataFrame, *channels) -> Path:
        return SliceStack.build(rows, tmp_path / "cache", spatial_size=(16, 16), channels=channels).folder

    plain = folder(rows)
    assert not (plain / "further.npy").exists()
    copy = tmp_path / "beside.nii.gz"
    shutil.copy(rows["target_path"][0], copy)
    with_file = rows.assign(t1w_path=[str(copy), "", "", ""])
    assert folder(with_file) == plain  # nothing asks for the file
    folders = [plain, folder(rows, *CONTEXT), folder(rows, CONTEXT[0]), folder(rows, BESIDE)]
    folders += [folder(with_file, BESIDE), folder(with_file, VolumeChannel(name="t1w"))]
    assert len(set(folders)) == len(folders)
    wrong = with_file.assign(t1w_sha256=[sha256_file(rows["degraded_path"][0]), "", "", ""])
    with pytest.raises(InputError, match=r"beside.nii.gz: has checksum .*, the manifest says"):
        folder(wrong, BESIDE)
    other = rows.assign(t1w_path=[rows["target_path"][1], "", "", ""])
    with pytest.raises(InputError, match="is on another grid than"):
        folder(other, BESIDE)


def test_presence_is_one_where_a_volume_is_there(make_cohort):
    volume = read_volume(rows_of(make_cohort())["target_path"].iloc[0])
    channel = PresenceChannel(name="t1w")
    assert channel.column == "t1w"
    for beside, value in (({}, 0), ({"t1w": volume}, 1), ({"t2w": volume}, 0)):
        plane, scale = channel.of(shown(volume.data, **beside))
        assert scale == 1
        np.testing.assert_array_equal(plane, np.full_like(volume.data, value))
