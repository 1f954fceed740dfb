"""The histology bundle: every overlay learns, corruption and VGG are choices, runs survive being killed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from trained import differing, recorded, restored

from medrestore.checks import InputError, causes
from medrestore.engines.bundle import open_bundle
from medrestore.networks.weights import load_file
from medrestore.tracking.store import open_client

BUNDLE = Path(__file__).parents[2] / "bundles" / "histology_srgan"
SEEDED_VGG = {"_target_": "medrestore.networks.vgg.VGG19Features", "layer": 4, "seed": 0}


def test_terms_of_the_loss_are_those_of_the_variant(tiny_histology_training):
    terms = {}
    for overlay in ("e", "sqe"):
        folder, _ = tiny_histology_training(overlay, "demo", batches_per_epoch=10)
        terms[overlay] = {name.split("/")[1] for name in recorded(folder) if name.startswith("adversarial/")}
    common = {"fidelity", "manifold", "adversarial", "generator", "discriminator"}
    assert terms == {"e": common, "sqe": {*common, "structure"}}


def test_pretrained_encoder_is_kept(tiny_histology_training):
    weights = tiny_histology_training("autoencoder")[0] / "model.pt"
    folder, before = tiny_histology_training("qe", encoder_weights=str(weights))
    pretrained = load_file(weights)["networks"]["encoder"]["state"]
    after = load_file(folder / "model.pt")["networks"]["encoder"]["state"]
    assert all(torch.equal(value, before["encoder"][name]) for name, value in pretrained.items())
    assert all(torch.equal(value, after[name]) for name, value in pretrained.items())
    assert load_file(folder / "checkpoint.pt")["epoch"] == 2


def test_corruption_changes_what_is_learned_and_nothing_else(
    tiny_histology_training, tiny_histology_overrides, trainings
):
    clean, start = tiny_histology_training("sqe")
    folder, same_start = tiny_histology_training("sqe", "demo", "demo", corruption_fraction=0.5)
    assert all(torch.equal(v, same_start[n][k]) for n, net in start.items() for k, v in net.items())
    assert differing(clean / "model.pt", folder / "model.pt")
    run = json.loads((folder / "mlflow_run.json").read_text())["run_id"]
    recorded_run = open_client(f"sqlite:///{trainings}/mlflow.db").get_run(run)
    assert recorded_run.data.params["corruption_fraction"] == "0.5"


def test_srgan_learns_by_vgg_and_does_not_store_it(tiny_histology_training):
    folder, _ = tiny_histology_training("srgan", encoder=SEEDED_VGG)
    networks = load_file(folder / "checkpoint.pt")["step"]["networks"]
    assert networks["encoder"] == {}
    assert load_file(folder / "checkpoint.pt")["epoch"] == 2  # no stage of an autoencoder


def test_srgan_without_weights_says_how_to_get_them(tiny_histology_overrides, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "nothing"))
    overrides = {**tiny_histology_overrides, "output_dir": str(tmp_path / "run")}
    workflow = open_bundle(BUNDLE, "train", variants=["demo", "srgan"], overrides=overrides)
    with pytest.raises(Exception, match="instantiate") as raised:
        workflow.initialize()
        workflow.run()
    said = next(str(cause) for cause in causes(raised.value) if isinstance(cause, InputError))
    assert "vgg19-dcbb9e9d.pth" in said
    assert "https://download.pytorch.org/models/" in said


def test_restores_the_tiles_of_the_test_split(tiny_histology_training, tiny_tiles, tmp_path):
    weights = tiny_histology_training("sqe")[0] / "model.pt"
    written = restored(BUNDLE, weights, output=tmp_path / "restored", dataset_dir=str(tiny_tiles))
    assert len(written) > 4
    assert all(path.name.startswith("region-test_") for path in written)
    for path in written:
        picture = np.asarray(Image.open(path))
        assert picture.shape == (64, 64, 3)
        assert picture.dtype == np.uint8
        sidecar = json.loads(path.with_suffix(".json").read_text())
        assert sidecar["method"] == "srgan"


def test_any_blur_draws_degradations_and_says_so(tiny_histology_training, tiny_histology_overrides):
    numbers = {"sigma_range": [1.0, 2.5], "reductions": ["gaussian", "box"]}
    folder, _ = tiny_histology_training("sqe", "demo", "any_blur", **numbers)
    model = load_file(folder / "model.pt")
    assert "sigma" not in model
    assert model["degradation"]["sigma"] == [1.0, 2.5]
    assert model["degradation"]["reductions"] == ["gaussian", "box"]
    # Sharpness and JPEG are not told of low-resolution tiles of 16 pixels.
    assert set(model["training_range"]) == {"microns_per_pixel", "residual_rmse"}
    assert any("modulation" in name for name in model["networks"]["generator"]["state"])
