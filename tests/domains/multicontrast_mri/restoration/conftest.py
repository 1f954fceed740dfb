"""A small MDME acquisition on disk, and weights that were trained on such ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from torch import Tensor, nn

from medrestore.domains.multicontrast_mri.training.data import ContrastData
from medrestore.networks.unet import UNetGenerator
from medrestore.networks.weights import describe, save_file

SHAPE = (21, 19, 7)
ANGLE = np.deg2rad(11)
OBLIQUE = np.array([[np.cos(ANGLE), -np.sin(ANGLE), 0], [np.sin(ANGLE), np.cos(ANGLE), 0], [0, 0, 1]])
GRIDS = {
    "RAS": np.diag([3.0, 3.5, 5.0]),
    "RAS of larger voxels": np.diag([4.0, 3.5, 5.0]),
    "LPS oblique": OBLIQUE @ np.diag([-3.0, -3.5, 5.0]),
    "slices first, backwards": OBLIQUE @ np.array([[0, 3.0, 0], [0, 0, -3.5], [-5.0, 0, 0]]),
}
DELAYS_S = [0.1, 0.1, 2.0, 2.0]
ECHOES_S = [0.02, 0.09, 0.02, 0.09]


@pytest.fixture(scope="session")
def mdme_images() -> Callable[..., NDArray[np.float32]]:
    """Make a head in noise, (X, Y, Z, 4): darker with the second echo, brighter with the second delay."""

    def make(seed: int = 0) -> NDArray[np.float32]:
        random = np.random.default_rng(seed)
        x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
        head = 400 * (x**2 + y**2 + (z / 1.3) ** 2 < 0.7)
        noise = random.normal(0, 4, (*SHAPE, 4))
        return np.abs(head[..., None] * np.array([0.4, 0.2, 1.0, 0.5]) + noise).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def write_mdme(mdme_images: Callable[..., NDArray[np.float32]]) -> Callable[..., Path]:
    """Write these images, or all channels or one of the head, on a grid of :data:`GRIDS`, with a sidecar."""

    def write(
        path: Path,
        images: NDArray[np.float32] | None = None,
        *,
        grid: str = "LPS oblique",
        channel: int | None = None,
    ) -> Path:
        if images is None:
            images = mdme_images() if channel is None else mdme_images()[..., channel]
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = GRIDS[grid], (41.0, -17.0, 8.5)
        image = nibabel.Nifti1Image(images, affine)
        image.set_sform(affine, 2)
        image.set_qform(affine, 1)
        image.header.set_xyzt_units("mm", "sec")
        image.header["descrip"] = b"Doe, Jane 1950"
        nibabel.save(image, path)
        chosen = slice(None) if channel is None else slice(channel, channel + 1)
        sidecar = {
            "SaturationDelay": DELAYS_S[chosen],
            "EchoTime": ECHOES_S[chosen],
            "RepetitionTime": 3.0,
            "ComplexComponent": "magnitude",
        }
        path.with_name(path.name.split(".")[0] + ".json").write_text(json.dumps(sidecar))
        return path

    return write


@pytest.fixture(scope="session")
def mdme(write_mdme: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write one acquisition, oblique and of odd sizes, under a name that must not be passed on."""
    return write_mdme(tmp_path_factory.mktemp("input") / "secret_doe.nii.gz")


@pytest.fixture(scope="session")
def mri_weights(mdme: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a model.pt of three contrasts with random weights, whose training range is that acquisition."""
    data = ContrastData(
        manifest="",
        cache_dir="",
        seed=0,
        batch_size=1,
        batches_per_epoch=1,
        component="magnitude",
        saturation_delays_ms=[100, 2000],
        echo_times_ms=[20, 90],
        contrasts=("t1w", "stir", "pdw"),
        neighbors=1,
        spatial_size=(24, 24),
    )
    data.table = pd.DataFrame({"input_paths": [(str(mdme),)], "split": ["train"]})
    networks = {"generator": describe(UNetGenerator(3 * 4 + 3, channels=(4, 8), dropout_levels=1))}
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    save_file({"method": "taskgan", **data.model_information, "networks": networks}, path)
    return path


class Shown(nn.Module):
    """Gives one of its input's channels."""

    def __init__(self, channel: int) -> None:
        super().__init__()
        self.channel = channel

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.channel : self.channel + 1]


@pytest.fixture(scope="session")
def shown_channel() -> Callable[[int], nn.Module]:
    """Make a network that gives one of its input's channels: tells where each one is."""
    return Shown
