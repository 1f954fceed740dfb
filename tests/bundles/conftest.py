"""Trainings of a bundle on the tiny cohort, each done once and shared."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from manifest import write_manifest

BUNDLES = Path(__file__).parents[2] / "bundles"
Training = Callable[..., tuple[Path, dict[str, Any]]]

TINY: dict[str, Any] = {
    "device": "cpu",
    "precision": "fp32",
    "spatial_size": [32, 32],
    "generator_channels": [4, 8, 8],
    "discriminator_channels": [4, 8, 8],
    "task_widen_factor": 0.125,
    "batch_size": 4,
    "batches_per_epoch": 2,
    "pretrain_epochs": 1,
    "joint_epochs": 1,
    "validation_interval": 1,
    "workers": 0,
}
"""Overrides that make a training end in a second."""

TINY_MRI_CONTRASTS = {"t1w": (30, -10), "t2_flair": (-20, 40), "pdw": (0, 20)}
"""What is added to 50 in the core and in a lesion."""

TINY_MRI_SUBJECTS = (
    ("train", "patient"),
    ("train", "control"),
    ("train", "patient"),
    ("validation", "patient"),
    ("test", "patient"),
)

TINY_MRI: dict[str, Any] = {
    **{key: value for key, value in TINY.items() if key not in ("task_widen_factor", "joint_epochs")},
    "contrasts": list(TINY_MRI_CONTRASTS),
    "saturation_delays_ms": [150, 600, 2000],
    "echo_times_ms": [20, 90],
    "task_channels": [4, 4, 4, 4, 4],
    "segmenter_channels": [4, 8],
    "contrast_epochs": 3,
    "mixed_epochs": 1,
    "segmenter_epochs": 1,
}
"""The same for multi-contrast MRI."""


TINY_HISTOLOGY: dict[str, Any] = {
    **{
        key: TINY[key]
        for key in ("device", "precision", "discriminator_channels", "validation_interval", "workers")
    },
    "generator_channels": 4,
    "generator_blocks": 1,
    "encoder_channels": [4, 4],
    "encoder_blocks": 0,
    "crop_size": 32,
    "batch_size": 4,
    "batches_per_epoch": 2,
    "autoencoder_epochs": 1,
    "warm_up_epochs": 1,
    "adversarial_epochs": 1,
}
"""The same for histopathology."""


@pytest.fixture(scope="session")
def tiny_overrides(tiny_cohort: Path) -> dict[str, Any]:
    """Return :data:`TINY`, with the place of the cohort."""
    return {**TINY, "dataset_dir": str(tiny_cohort)}


def make_training(bundle: str, common: Mapping[str, Any], folder: Path) -> Training:
    """Return a function that trains an overlay of a bundle in this process, once."""
    from medrestore.engines.bundle import open_bundle

    done: dict[str, tuple[Path, dict[str, Any]]] = {}

    def train(overlay: str, *before: str, **overrides: Any) -> tuple[Path, dict[str, Any]]:
        name = "-".join([bundle, *before, overlay, *sorted(overrides)])
        if name not in done:
            workflow = open_bundle(
                BUNDLES / bundle,
                "train",
                variants=["demo", *before, overlay],
                overrides={
                    **common,
                    "output_dir": str(folder / name),
                    "tracking_uri": f"sqlite:///{folder}/mlflow.db",
                    **overrides,
                },
            )
            threads = torch.get_num_threads()
            torch.set_num_threads(1)  # sums are then of one order, here and in a process of its own
            workflow.initialize()
            step = workflow.parser.get_parsed_content("step")
            initial = {
                network: {key: value.clone() for key, value in step.bare(network).state_dict().items()}
                for network in step.networks
            }
            workflow.run()
            workflow.finalize()
            torch.set_num_threads(threads)
            done[name] = (folder / name, initial)
        return done[name]

    return train


@pytest.fixture(scope="session")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of all trainings; they share an MLflow store, which takes seconds to make."""
    return tmp_path_factory.mktemp("trainings")


@pytest.fixture(scope="session")
def tiny_training(tiny_overrides: dict[str, Any], trainings: Path) -> Training:
    """Train an overlay of the amyloid bundle in this process, once; return its folder and the step before."""
    return make_training("amyloid_pet_taskgan", tiny_overrides, trainings)


@pytest.fixture(scope="session")
def tiny_mri_overrides(tiny_mri_cohort: Path) -> dict[str, Any]:
    """Return :data:`TINY_MRI`, with the place of the cohort."""
    return {**TINY_MRI, "dataset_dir": str(tiny_mri_cohort)}


@pytest.fixture(scope="session")
def tiny_mri_training(tiny_mri_overrides: dict[str, Any], trainings: Path) -> Training:
    """Train an overlay of the MRI bundle in this process, once; return its folder and the step before."""
    return make_training("multicontrast_mri_taskgan", tiny_mri_overrides, trainings)


@pytest.fixture(scope="session")
def tiny_mri_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write five subjects of 30 x 28 x 8 voxels, six complex channels, three contrasts; return the folder.

    A head with a core that is bright or dark as the contrast wills, on an oblique grid in LPS order. Patients
    have a bright lesion; sub-0002 has no proton density image.
    """
    from medrestore.data.volumes import SourceGrid, write_channels, write_volume
    from medrestore.domains.multicontrast_mri.schema import contrast_schema

    folder = tmp_path_factory.mktemp("tiny_mri") / "cohort"
    shape = (30, 28, 8)
    turn = np.deg2rad(7)
    affine = np.eye(4)
    affine[:2, :2] = [[-np.cos(turn), np.sin(turn)], [-np.sin(turn), -np.cos(turn)]]
    affine[:3, :3] *= (6.0, 6.0, 8.0)
    affine[:3, 3] = (60.0, 55.0, -20.0)
    grid = SourceGrid.from_affine(shape, affine)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    head, core = x**2 + y**2 + (z / 1.2) ** 2 < 0.8, x**2 + y**2 < 0.2
    rows = []
    for index, (split, group) in enumerate(TINY_MRI_SUBJECTS):
        random = np.random.default_rng(index)
        below = f"subjects/sub-{index:04}"
        lesion = head & ((x + 0.5) ** 2 + y**2 < 0.04) & (group == "patient")
        # Delay after delay, within each the two echoes: inverted, then recovered; each echo loses half.
        weights = np.array([-0.4, -0.2, 0.3, 0.15, 1.0, 0.5])[:, None, None, None]
        channels = weights * (100.0 * head + 40.0 * core + 30.0 * lesion) * np.exp(1j * 0.5 * x)
        noise = random.normal(0, 2, (2, *channels.shape))
        channels = channels + noise[0] + 1j * noise[1]
        write_channels(channels, grid, folder / below / "mdme.nii.gz", dtype="complex64")
        sidecar = {
            "SaturationDelay": [0.15, 0.15, 0.6, 0.6, 2.0, 2.0],
            "EchoTime": [0.02, 0.09] * 3,
            "RepetitionTime": 4.5,
            "ComplexComponent": "complex",
        }
        (folder / below / "mdme.json").write_text(json.dumps(sidecar))
        row = {"subject_id": f"sub-{index:04}", "session_id": "ses-01", "split": split, "group": group}
        row["input"] = f"{below}/mdme.nii.gz"
        for contrast, (of_core, of_lesion) in TINY_MRI_CONTRASTS.items():
            row[contrast] = "" if (index, contrast) == (2, "pdw") else f"{below}/{contrast}.nii.gz"
            image = 50 * head + of_core * core * head + of_lesion * lesion + random.normal(0, 1, shape)
            if row[contrast]:
                write_volume(np.abs(image).astype(np.float32), grid, folder / row[contrast])
        row["lesions"] = f"{below}/lesions.nii.gz"
        write_volume(lesion, grid, folder / row["lesions"], dtype="uint8")
        rows.append(row)
    write_manifest(contrast_schema(tuple(TINY_MRI_CONTRASTS)), rows, folder)
    return folder


@pytest.fixture(scope="session")
def tiny_tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cut the example picture into tiles of 64 x 64 pixels; return the folder of the manifest."""
    from medrestore.domains.histology.example import EXAMPLE_TILES, write_example
    from medrestore.domains.histology.tiles import make_tiles

    folder = tmp_path_factory.mktemp("tiny_histology")
    settings = {**EXAMPLE_TILES, "tile_size": 64, "stride": 64}
    return make_tiles(
        write_example(folder / "slides"), output=folder / "tiles", progress=False, **settings
    ).parent


@pytest.fixture(scope="session")
def tiny_histology_overrides(tiny_tiles: Path) -> dict[str, Any]:
    """Return :data:`TINY_HISTOLOGY`, with the place of the tiles."""
    return {**TINY_HISTOLOGY, "dataset_dir": str(tiny_tiles)}


@pytest.fixture(scope="session")
def tiny_histology_training(tiny_histology_overrides: dict[str, Any], trainings: Path) -> Training:
    """Train an overlay of the histology bundle in this process, once."""
    return make_training("histology_srgan", tiny_histology_overrides, trainings)


@pytest.fixture
def one_thread() -> dict[str, str]:
    """Return an environment in which a process computes with one thread."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}
