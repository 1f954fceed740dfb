"""What MONAI's model zoo asks of a bundle: each is put on its shelf with weights, and checked as there."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from torch import nn
from trained import monai_bundle

from medrestore.checks import InputError
from medrestore.engines.bundle import open_bundle
from medrestore.inference.restorer import load_restorer
from medrestore.networks.weights import load_file, load_model

BUNDLES = Path(__file__).parents[2] / "bundles"
FOUND = sorted(path.parents[1] for path in BUNDLES.glob("*/configs/metadata.json"))
LARGEST_FILE = 25 * 2**20
"""Bytes: the zoo takes larger files by their address alone."""

SECTIONS = [
    "### **Authors**",
    "### **Tags**",
    "## **Model Description**",
    "## **Data**",
    "#### **Preprocessing**",
    "## **Performance**",
    "## **Additional Usage Steps**",
    "## **System Configuration**",
    "## **Limitations**",
    "## **Citation Info**",
    "## **References**",
]
"""Of the zoo's template of a README, in its order."""

TINY_GENERATORS: dict[str, dict[str, Any]] = {
    "UNetGenerator": {"generator_channels": [4] * 8},
    "SRResNet": {"generator_channels": 4, "generator_blocks": 1},
}

pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit:DeprecationWarning", "ignore:No hash value provided", "ignore:parsing config_file"
)


def every_bundle(function: Any) -> Any:
    return pytest.mark.parametrize("bundle", FOUND, ids=lambda path: path.name)(function)


def tiny_generator(bundle: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Return the bundle's network as narrow as it goes, and the overrides that make it so."""
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.yaml"))
    overrides = TINY_GENERATORS[parser["network_def"]["_target_"].rpartition(".")[2]]
    for key, value in overrides.items():
        parser[key] = value
    return parser.get_parsed_content("network_def").eval(), overrides


@pytest.fixture
def shelve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], dict[str, Any]]:
    """Copy a bundle to the zoo's shelf, with made-up weights as the zoo keeps them, and go there."""

    def shelve(bundle: Path) -> dict[str, Any]:
        place = tmp_path / "models" / bundle.name
        shutil.copytree(bundle, place)
        network, overrides = tiny_generator(bundle)
        (place / "models").mkdir()
        torch.save(network.state_dict(), place / "models" / "model.pt")
        (place / "eval").mkdir()
        shutil.copy(BUNDLES / "metadata_schema.json", place / "eval" / "schema.json")
        monkeypatch.chdir(place)
        return overrides

    return shelve


def words(overrides: dict[str, Any]) -> list[str]:
    return [word for key, value in overrides.items() for word in (f"--{key}", str(value))]


@every_bundle
def test_files_are_there_and_small_and_the_version_has_its_change(bundle):
    for name in ("LICENSE", "configs/metadata.json", "configs/inference.yaml", "configs/train.yaml"):
        assert (bundle / name).is_file(), name
    assert all(path.stat().st_size <= LARGEST_FILE for path in bundle.rglob("*") if path.is_file())
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert metadata["version"] in metadata["changelog"]
    assert next(iter(metadata["changelog"])) == metadata["version"]  # the latest first
    assert metadata["name"]
    assert metadata["eval_metrics"]
    assert all(isinstance(value, float) for value in metadata["eval_metrics"].values())


@every_bundle
def test_readme_follows_the_template(bundle):
    text = (bundle / "docs" / "README.md").read_text(encoding="utf-8")
    headings = re.findall(r"^#.*$", text, re.MULTILINE)
    assert re.match(r"# \w", headings[0])
    assert [heading for heading in headings if heading in SECTIONS] == SECTIONS
    assert "**Research use only" in text


@every_bundle
def test_no_path_of_a_person_or_of_a_folder_above(bundle):
    for path in bundle.rglob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"/(home|Users|root|workspace)/", text), path
        if path.parent.name == "configs":
            assert ConfigParser.load_config_file(path)["bundle_root"] == "."


@every_bundle
def test_checks_of_the_zoo_pass_from_within_the_bundle(bundle, shelve, monkeypatch):
    """Each is the line that the zoo's guide gives, with no path but the bundle's own."""
    tiny = words(shelve(bundle))
    files = ["--meta_file", "configs/metadata.json", "--config_file", "configs/inference.yaml"]
    monai_bundle(monkeypatch, "verify_metadata", *files[:2], "--filepath", "eval/schema.json")
    monai_bundle(
        monkeypatch, "verify_net_in_out", "--net_id", "network_def", *files, "--device", "cpu", *tiny
    )
    monai_bundle(monkeypatch, "ckpt_export", "--net_id", "network_def", *files[2:], *tiny)
    exported = torch.jit.load("models/model.ts").eval()
    network, _ = tiny_generator(bundle)
    x = torch.rand(1, network.in_channels, 256, 256)
    with torch.inference_mode():
        torch.testing.assert_close(exported(x), network(x), rtol=0, atol=0)


@every_bundle
def test_required_properties_of_inference_are_there(bundle, shelve, tmp_path):
    """With a plain state dict of the generator in its place, and one image to restore."""
    overrides = shelve(bundle)
    image = tmp_path / "scan.nii.gz"
    if "slide" in (bundle / "configs" / "inference.yaml").read_text():
        from PIL import Image

        image = tmp_path / "tile.png"
        Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(image)
        overrides = {**overrides, "microns_per_pixel": 1.0}
    elif "contrasts" in (bundle / "configs" / "inference.yaml").read_text():
        nibabel.save(nibabel.Nifti1Image(np.ones((8, 8, 4, 8), np.complex64), np.diag([4, 4, 4, 1])), image)
    else:
        nibabel.save(nibabel.Nifti1Image(np.ones((8, 8, 4), np.float32), np.diag([4, 4, 4, 1])), image)
    places = {"input": str(image), "split": None, "device": "cpu", "output_dir": str(tmp_path / "out")}
    workflow = open_bundle(Path.cwd(), "inference", overrides={**overrides, **places})
    workflow.initialize()
    assert workflow.check_properties() == []


def test_trained_weights_are_exported_and_restore_as_a_plain_state_dict(
    tiny_training, tiny_cohort, shelve, monkeypatch, tmp_path
):
    weights = tiny_training("l1")[0] / "model.pt"
    model = load_file(weights)
    shelve(BUNDLES / "amyloid_pet_taskgan")
    tiny = {"generator_channels": [4, 8, 8], "generator_dropout_levels": 1}
    monai_bundle(
        monkeypatch,
        *("ckpt_export", "--net_id", "network_def", "--config_file", "configs/inference.yaml"),
        *("--ckpt_file", weights, "--key_in_ckpt", "generator"),
        *words(tiny),
    )
    exported = torch.jit.load("models/model.ts").state_dict()
    state = model["networks"]["generator"]["state"]
    assert all(torch.equal(value, exported[name]) for name, value in state.items())

    torch.save(model["generator"], "models/model.pt")
    common = {"dataset_dir": str(tiny_cohort), "device": "cpu", "precision": "fp32"}
    workflow = open_bundle(
        Path.cwd(),
        "inference",
        overrides={**common, "weights": str(weights), "output_dir": str(tmp_path / "trained")},
    )
    workflow.initialize()
    workflow.run()
    given = {**common, **tiny, "training_range": model["training_range"], "output_dir": tmp_path / "plain"}
    monai_bundle(monkeypatch, "run", "--config_file", "configs/inference.yaml", *words(given))
    restored = sorted(path.name for path in (tmp_path / "trained").iterdir())
    assert restored == sorted(path.name for path in (tmp_path / "plain").iterdir())
    assert len(restored) == 4  # two subjects
    for name in restored:
        plain, trained = (tmp_path / folder / name for folder in ("plain", "trained"))
        if name.endswith(".json"):
            records = [json.loads(path.read_text()) for path in (plain, trained)]
            differing = {key for key in records[0] if records[0][key] != records[1][key]}
            assert differing == {"weights_sha256"}
        else:
            assert plain.read_bytes() == trained.read_bytes()


def test_a_file_holds_each_tensor_once(tiny_training):
    path = tiny_training("l1")[0] / "model.pt"
    tensors = [value for entry in load_file(path)["networks"].values() for value in entry["state"].values()]
    assert path.stat().st_size < 1.5 * sum(t.numel() * t.element_size() for t in tensors) + 200_000


def test_weights_from_before_the_states_were_at_the_top_still_restore(tiny_training, tmp_path):
    model = load_file(tiny_training("l1")[0] / "model.pt")
    old = {key: value for key, value in model.items() if key not in model["networks"]}
    assert len(old) < len(model)
    torch.save(old, tmp_path / "model.pt")
    assert load_restorer(tmp_path / "model.pt", device="cpu").neighbors == 2


def test_plain_state_dict_is_refused_where_nothing_describes_it(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(InputError, match=r"model\.pt: is a plain state dict.*Remedy: name the model\.pt"):
        load_file(path)
    facts = {"generator": {"class": "unet.UNetGenerator", "architecture": {"in_channels": 5}}, "neighbors": 2}
    assert load_model(path, facts=facts)["training_range"] == {}
    with pytest.raises(InputError, match=r"is the checkpoint of another generator .*is missing"):
        load_restorer(path, facts=facts)


def test_weights_of_another_kind_of_image_are_refused(tiny_histology_training):
    weights = tiny_histology_training("e")[0] / "model.pt"
    with pytest.raises(InputError, match=r"names no neighbors: .* Remedy: restore with the bundle"):
        load_restorer(weights, facts={"restorer": "amyloid_pet.VolumeFileRestorer"})


def test_shelf_is_where_the_tests_ran():
    """Nothing above changes the bundles of the checkout."""
    assert not any((bundle / name).exists() for bundle in FOUND for name in ("models", "eval"))
