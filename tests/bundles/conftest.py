"""Trainings of a bundle on the tiny cohort, each done once and shared."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

BUNDLES = Path(__file__).parents[2] / "bundles"

TINY: dict[str, Any] = {
    "device": "cpu",
    "precision": "fp32",
    "spatial_size": [32, 32],
    "generator_channels": [4, 8, 8],
    "discriminator_channels": [4, 8],
    "task_widen_factor": 0.0625,
    "batch_size": 4,
    "batches_per_epoch": 2,
    "pretrain_epochs": 1,
    "joint_epochs": 1,
    "validation_interval": 1,
    "workers": 0,
}
"""Overrides that make a training end in a second."""


@pytest.fixture(scope="session")
def tiny_overrides() -> dict[str, Any]:
    """Return :data:`TINY`."""
    return TINY


@pytest.fixture(scope="session")
def tiny_training(
    tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[Path, dict[str, Any]]]:
    """Train an overlay of the amyloid bundle in this process, once; return its folder and the step before."""
    from medrestore.engines.bundle import open_bundle

    folder = tmp_path_factory.mktemp("trainings")
    done: dict[str, tuple[Path, dict[str, Any]]] = {}

    def train(overlay: str, *before: str, **overrides: Any) -> tuple[Path, dict[str, Any]]:
        name = "-".join([*before, overlay])
        if name not in done:
            workflow = open_bundle(
                BUNDLES / "amyloid_pet_taskgan",
                "train",
                variants=["demo", *before, overlay],
                overrides={
                    **TINY,
                    "dataset_dir": str(tiny_cohort),
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


@pytest.fixture
def one_thread() -> dict[str, str]:
    """Return an environment in which a process computes with one thread."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}
