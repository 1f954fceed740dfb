"""Pairs of volumes of whatever kind: what a training and its validation get of a manifest and numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from training_case import build_trainer

from medrestore.checks import InputError
from medrestore.data.channels import GaussianChannel
from medrestore.engines.validation import Validation
from medrestore.engines.volume_data import PairData
from medrestore.inference.volume_files import VolumeFileRestorer
from medrestore.methods.supervised import Supervised
from medrestore.networks.unet import UNetGenerator
from medrestore.networks.weights import load_file, save_file

NUMBERS = {"seed": 0, "batch_size": 4, "batches_per_epoch": 2, "neighbors": 1, "spatial_size": [16, 16]}


class SiteData(PairData):
    restorer = "site.VolumeFileRestorer"


def written(information: dict[str, Any], path: Path) -> dict[str, Any]:
    save_file(information, path)
    return load_file(path)


@pytest.fixture
def given(tiny_cohort: Path, tmp_path: Path) -> dict[str, Any]:
    return {"manifest": tiny_cohort / "manifest.csv", "cache_dir": tmp_path / "cache"}


def test_pairs_without_labels_train_and_are_validated(given, tmp_path):
    data = SiteData.of({**NUMBERS, "learning_rate": 0.1}, **given)
    network = UNetGenerator(3, channels=(2, 4), dropout_levels=0)
    optimizers = {"generator": torch.optim.Adam(network.parameters())}
    step = Supervised(networks={"generator": network}, optimizers=optimizers, loss=torch.nn.L1Loss())
    stages = [{"name": "l1", "epochs": 1, "train": ["generator"]}]
    validation = Validation(data)
    trainer = build_trainer(tmp_path / "run", step=step, data=data, stages=stages, handlers=[validation])
    trainer.run()
    assert {"validation_psnr", "validation_l1"} <= set(trainer.state.metrics)
    volumes = len(data.rows("validation"))
    assert len(validation.panel(trainer).axes) == 4 * volumes  # a slice of each volume
    model = load_file(tmp_path / "run" / "model.pt")
    assert "channels" not in model  # as files of before: they are restored by the same
    assert model["restorer"] == "site.VolumeFileRestorer"
    assert model["neighbors"] == 1
    assert "relative_noise" in model["training_range"]["features"]


def test_weights_say_what_the_network_is_shown_beside_the_slices(given, tmp_path):
    data = SiteData.of({**NUMBERS, "context_sigmas_mm": [4, 9]}, **given)
    assert data.in_channels == 3 + 2
    assert data.candidates == [1, 3, 4]  # the slice between its neighbors, and the two behind them
    assert data.training.__getitems__([0, 1])["image"].shape[1] == 5
    model = written(data.model_information, tmp_path / "model.pt")
    restorer = VolumeFileRestorer.build(UNetGenerator(5, channels=(2, 4), dropout_levels=0), model, {})
    assert restorer.channels == (GaussianChannel(sigma_mm=4), GaussianChannel(sigma_mm=9))


def test_volumes_without_labels_share_a_batch_alike(given):
    data = SiteData.of(NUMBERS, **given)
    batch = next(iter(data.loader(pin_memory=False)))
    assert set(batch) == {"image", "label", "volume_index", "slice_index"}
    assert len(batch["volume_index"].unique()) == min(4, len(data.rows("train")))


def test_number_that_is_lacking_is_named(given):
    numbers = {name: value for name, value in NUMBERS.items() if name not in ("neighbors", "seed")}
    with pytest.raises(InputError, match="parameters must hold seed, neighbors, which SiteData needs"):
        SiteData.of(numbers, **given)
