"""Weights tell by what they restore; those written before they did are known by what else they say."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from medrestore import kinds
from medrestore.checks import InputError
from medrestore.domains.amyloid_pet.restoration import VolumeFileRestorer
from medrestore.domains.histology.restoration import ImageFileRestorer
from medrestore.domains.histology.restoration.super_resolver import SuperResolver
from medrestore.domains.multicontrast_mri.acquisition.acquisition import make_acquisition
from medrestore.domains.multicontrast_mri.restoration import ContrastFileRestorer, ContrastRestorer
from medrestore.inference.restorer import file_restorer_of, load_restorer, restore_files
from medrestore.inference.slices import VolumeRestorer
from medrestore.networks.super_resolution import SRResNet
from medrestore.networks.unet import UNetGenerator
from medrestore.networks.weights import describe, save_model

ACQUISITION = make_acquisition(saturation_delays_ms=(150, 580), echo_times_ms=(22, 95))
VOLUMES = ({"neighbors": 1}, lambda: UNetGenerator(3, channels=(4, 8), dropout_levels=1))
CONTRASTS = (
    {"neighbors": 0, "contrasts": ["t1w", "stir"], "acquisition": ACQUISITION.as_plain()},
    lambda: UNetGenerator(6, channels=(4, 8), dropout_levels=1),
)
IMAGES = ({"scale": 4, "sigma": 2.0}, lambda: SRResNet(channels=4, blocks=1))


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def make(information: dict[str, Any], network: Callable[[], Any], **more: Any) -> Path:
        path = tmp_path / "model.pt"
        said = {"method": "taskgan", "domain": {}, **information, **more}
        save_model(said, {"generator": describe(network())}, path)
        return path

    return make


@pytest.mark.parametrize(
    ("kind", "name", "restores"),
    [
        (VOLUMES, "amyloid_pet.VolumeFileRestorer", VolumeRestorer),
        (CONTRASTS, "multicontrast_mri.ContrastFileRestorer", ContrastRestorer),
        (IMAGES, "histology.ImageFileRestorer", SuperResolver),
    ],
)
def test_weights_are_known_by_name_or_by_what_they_say(kind, name, restores, write):
    for said in ({"restorer": name}, {}):
        assert type(load_restorer(write(*kind, **said), device="cpu")) is restores


def test_names_lead_to_restorers_of_domains_alone():
    for name, kind in (
        ("amyloid_pet.VolumeFileRestorer", VolumeFileRestorer),
        ("multicontrast_mri.ContrastFileRestorer", ContrastFileRestorer),
        ("histology.ImageFileRestorer", ImageFileRestorer),
    ):
        assert file_restorer_of({"restorer": name}, weights="model.pt") is kind
    for name in (
        "ct.VolumeFileRestorer",
        "amyloid_pet.NiftiRestorer",
        "amyloid_pet.find_volumes",
        "os.system",
    ):
        with pytest.raises(InputError, match=rf"model\.pt: is for the restorer '{name}', which is not inst"):
            file_restorer_of({"restorer": name}, weights="model.pt")
    with pytest.raises(InputError, match=r"model\.pt: names no restorer.*Remedy"):
        file_restorer_of({"method": "supervised"}, weights="model.pt")


def test_domain_of_another_package_is_found(monkeypatch):
    class ScanRestorer(VolumeFileRestorer):
        needs = ("neighbors", "window")

    module = ModuleType("site_ct.restoration")
    module.__dict__["ScanRestorer"] = ScanRestorer
    monkeypatch.setitem(sys.modules, "site_ct", ModuleType("site_ct"))
    monkeypatch.setitem(sys.modules, "site_ct.restoration", module)
    entries = [EntryPoint("ct", "site_ct.domain:DOMAIN", "medrestore.domains")]
    monkeypatch.setattr(kinds, "entry_points", lambda group: entries if group == "medrestore.domains" else [])
    for said in ({"restorer": "ct.ScanRestorer"}, {"neighbors": 1, "window": [0, 80]}):
        assert file_restorer_of(said, weights="model.pt") is ScanRestorer


def test_weights_of_another_restorer_than_a_bundle_names_are_refused(write):
    facts = {"restorer": "amyloid_pet.VolumeFileRestorer"}
    with pytest.raises(InputError, match=r"'ct\.ScanRestorer', not for 'amyloid_pet\.Vol.*Remedy"):
        load_restorer(write(*VOLUMES, restorer="ct.ScanRestorer"), facts=facts, device="cpu")
    for said in ({}, facts):
        assert type(load_restorer(write(*VOLUMES, **said), facts=facts, device="cpu")) is VolumeRestorer


def test_domain_that_is_gone_is_none(monkeypatch):
    entries = [EntryPoint("ct", "site_ct.domain:DOMAIN", "medrestore.domains")]
    monkeypatch.setattr(kinds, "entry_points", lambda group: entries)
    assert file_restorer_of({"neighbors": 1}, weights="model.pt") is VolumeFileRestorer
    with pytest.raises(InputError, match=r"'ct\.ScanRestorer', which is not installed here"):
        file_restorer_of({"restorer": "ct.ScanRestorer"}, weights="model.pt")


def test_package_that_is_broken_does_not_stop_weights_of_before_that_name_none(monkeypatch, tmp_path, caplog):
    (tmp_path / "site_broken").mkdir()
    (tmp_path / "site_broken" / "restoration.py").write_text("import no_such_module")
    monkeypatch.syspath_prepend(tmp_path)
    entries = [EntryPoint("ct", "site_broken.domain:DOMAIN", "medrestore.domains")]
    monkeypatch.setattr(kinds, "entry_points", lambda group: entries)
    assert file_restorer_of({"neighbors": 1}, weights="model.pt") is VolumeFileRestorer
    assert "site_broken.restoration cannot be loaded (ModuleNotFoundError: " in caplog.text


def test_options_that_mean_nothing_to_the_weights_are_refused(write, tmp_path):
    weights = write(*VOLUMES)
    with pytest.raises(InputError, match="a training on volumes, which knows no contrasts, overlap"):
        restore_files(
            tmp_path, weights=weights, output_dir=tmp_path / "out", contrasts=["stir"], overlap=8, split=None
        )
    with pytest.raises(InputError, match="no samples are drawn of images"):
        load_restorer(write(*IMAGES), device="cpu", samples=4)


def test_what_a_bundle_began_is_taken_up_by_the_command(call, write, tiny_cohort, tmp_path):
    manifest, weights, output = tiny_cohort / "manifest.csv", write(*VOLUMES), tmp_path / "out"
    more = {"precision": "fp32", "split": "test", "samples": 2, "dose_fraction": 0.01}
    written = restore_files(
        manifest, weights=weights, output_dir=output, bundle="amyloid_pet_taskgan", **more
    )
    before = {path: path.stat().st_mtime_ns for path in output.iterdir()}
    words = [word for key, value in more.items() for word in (f"--{key.replace('_', '-')}", value)]
    done = call("restore", manifest, "--weights", weights, *words, "--output", output)
    assert done.code == 0, done.err
    assert f"{len(written)} files restored to {output}" in done.out
    assert {path: path.stat().st_mtime_ns for path in output.iterdir()} == before


def test_slides_are_restored_without_a_bundle(call, write, tmp_path, monkeypatch):
    loaded, load = [], torch.load
    monkeypatch.setattr(torch, "load", lambda *path, **how: loaded.append(how["mmap"]) or load(*path, **how))
    picture = np.random.default_rng(0).integers(0, 255, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    words = ["--weights", write(*IMAGES), "--output", tmp_path / "out", "--background", "white"]
    done = call("restore", tmp_path / "a.png", "--microns-per-pixel", 2, *words)
    assert done.code == 0, done.err
    record = json.loads((tmp_path / "out" / "a_restored.json").read_text())
    assert (record["size"], record["background"]) == ([96, 80], "white")
    assert loaded == [True, False]  # what kind they are of is known without the tensors


def test_what_and_by_what_must_be_said(call, tmp_path):
    weights, output = ["--weights", tmp_path / "model.pt"], ["--output", tmp_path / "out"]
    call("restore", "a.nii", *weights, *output).refused("there are no weights here. Remedy: train first")
    save_model({"restorer": "amyloid_pet.VolumeFileRestorer"}, {}, tmp_path / "model.pt")
    for words, lacking in ((["a.nii"], "--weights"), (weights, "INPUT")):
        ended = call("restore", *words, *output)
        assert (ended.code, lacking in ended.err) == (2, True)
