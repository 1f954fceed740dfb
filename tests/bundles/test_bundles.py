"""What every bundle must be; bundles are found, not listed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, verify_metadata, verify_net_in_out
from trained import monai_bundle

from medrestore.checks import InputError
from medrestore.engines.bundle import bundle_configuration, open_bundle
from medrestore.engines.values import by_short_names

BUNDLES = Path(__file__).parents[2] / "bundles"
FOUND = sorted(path.parents[1] for path in BUNDLES.glob("*/configs/metadata.json"))
OVERLAYS = sorted(BUNDLES.glob("*/variants/*.yaml"))
SCHEMA = BUNDLES / "metadata_schema.json"
OWN_TO_EACH = {"network_def", "output_dir", "initialize", "run", "contrasts"}
"""Keys that train.yaml and inference.yaml share with meanings of their own: the first four by MONAI's rules;
contrasts are those trained and those asked for."""


def every_bundle(function: Any) -> Any:
    return pytest.mark.parametrize("bundle", FOUND, ids=lambda path: path.name)(function)


def test_there_are_bundles():
    assert "amyloid_pet_taskgan" in [path.name for path in FOUND]


@pytest.mark.filterwarnings("ignore:No hash value provided")  # the schema is in the repository
@every_bundle
def test_metadata_are_valid(bundle, monkeypatch):
    meta_file = bundle / "configs" / "metadata.json"
    monai_bundle(monkeypatch, "verify_metadata", "--meta_file", meta_file, "--filepath", SCHEMA)


@pytest.mark.filterwarnings("ignore:No hash value provided")
def test_metadata_check_finds_a_fault(tmp_path):
    metadata = json.loads((FOUND[0] / "configs" / "metadata.json").read_text())
    del metadata["network_data_format"]["inputs"]["image"]["num_channels"]
    (tmp_path / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match="'num_channels' is a required property"):
        verify_metadata(meta_file=str(tmp_path / "metadata.json"), filepath=str(SCHEMA))


@every_bundle
@pytest.mark.parametrize("config", ["train", "inference"])
def test_network_takes_and_gives_what_the_metadata_say(bundle, config, monkeypatch):
    folder = bundle / "configs"
    arguments = ["--meta_file", folder / "metadata.json", "--config_file", folder / f"{config}.yaml"]
    monai_bundle(monkeypatch, "verify_net_in_out", "network_def", *arguments, "--device", "cpu")


def test_network_check_finds_a_fault():
    folder = FOUND[0] / "configs"
    files = {"meta_file": str(folder / "metadata.json"), "config_file": str(folder / "inference.yaml")}
    change = {"generator_channels": [2] * 8, "_meta_::network_data_format::outputs::pred::num_channels": 2}
    with pytest.raises(ValueError, match="output channel number `1` doesn't match: `2`"):
        verify_net_in_out(net_id="network_def", device="cpu", **files, **change)


@every_bundle
@pytest.mark.parametrize(
    ("network", "form"), [("discriminator", "discriminator_data_format"), ("task", "task_data_format")]
)
def test_other_networks_take_and_give_what_the_metadata_say(bundle, network, form):
    parser = ConfigParser(ConfigParser.load_config_file(bundle / "configs" / "train.yaml"))
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    if network not in parser:
        assert form not in metadata
        return
    image, pred = metadata[form]["inputs"]["image"], metadata[form]["outputs"]["pred"]
    smallest = [int(size.removesuffix("*n")) for size in image["spatial_shape"]]
    with torch.inference_mode():
        output = parser.get_parsed_content(network).eval()(torch.zeros(1, image["num_channels"], *smallest))
    logits = output if isinstance(output, torch.Tensor) else output.logits
    assert logits.numel() == pred["num_channels"]
    assert logits.dtype == getattr(torch, pred["dtype"])


@every_bundle
def test_training_and_inference_agree(bundle):
    train, inference = (bundle_configuration(bundle, name) for name in ("train", "inference"))
    assert not set(train) & set(train["parameters"])  # a number is named by itself
    train = by_short_names(train)
    shared = (set(train) & set(inference)) - OWN_TO_EACH
    assert {"bundle_root", "device", "dataset_dir", "seed"} <= shared
    assert {key: train[key] for key in shared} == {key: inference[key] for key in shared}
    built = dict(train[train["network_def"].removeprefix("@")])
    built.pop("seed")
    built = {name: str(value).replace("@parameters::", "@") for name, value in built.items()}
    # Input channels may follow from other keys; the metadata are compared with both networks.
    given = {name: str(value) for name, value in inference["network_def"].items()}
    given["in_channels"] = built["in_channels"]
    assert given == built


@every_bundle
@pytest.mark.parametrize("config", ["train", "inference"])
def test_configuration_holds_no_code_and_no_foreign_component(bundle, config):
    text = (bundle / "configs" / f"{config}.yaml").read_text()
    assert "lambda " not in text
    targets = re.findall(r"_target_: ([\w.]+)", text)
    assert targets
    assert {name.split(".")[0] for name in targets} <= {"medrestore", "torch", "monai"}
    assert not (bundle / "scripts").exists()


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: f"{path.parents[1].name}/{path.stem}")
def test_overlay_has_keys_of_the_training_only(overlay):
    known = ConfigParser.load_config_file(overlay.parents[1] / "configs" / "train.yaml")
    given = ConfigParser.load_config_file(overlay)
    assert given
    assert {key.removeprefix("+").split("::")[0] for key in given} <= set(known)
    assert set(given.get("+parameters", ())) <= set(known["parameters"])


@every_bundle
@pytest.mark.parametrize(
    ("config", "key"), [("train", "device"), ("train", "dataset_dir"), ("inference", "network_def")]
)
def test_missing_required_key_is_found(bundle, config, key, tmp_path):
    content = ConfigParser.load_config_file(bundle / "configs" / f"{config}.yaml")
    del content[key]
    (tmp_path / "configs").mkdir()
    ConfigParser.export_config_file(content, str(tmp_path / "configs" / f"{config}.yaml"), fmt="yaml")
    for name in ("metadata.json", "logging.conf"):
        (tmp_path / "configs" / name).write_text((bundle / "configs" / name).read_text())
    # What other keys refer to is missed at once. Required properties are looked up in the order of MONAI's
    # table; what stands before this one needs no files.
    with pytest.raises((KeyError, InputError), match=key):
        workflow = open_bundle(tmp_path, config)
        workflow.initialize()
        workflow._get_property(key, workflow.properties[key])


@every_bundle
def test_key_that_is_not_known_is_refused_in_overlay_and_override(bundle, tmp_path):
    with pytest.raises(InputError, match=r"train\.yaml has no key 'sed'; did you mean 'seed'\?"):
        open_bundle(bundle, "train", overrides={"sed": 1})
    (tmp_path / "mine.yaml").write_text("outputdir: somewhere\n")
    with pytest.raises(InputError, match=r"mine\.yaml: has no key 'outputdir'; did you mean 'output_dir'\?"):
        open_bundle(bundle, "train", variants=[str(tmp_path / "mine.yaml")])


@every_bundle
def test_license_and_documents_are_there(bundle):
    for name in ("LICENSE", "docs/README.md", "docs/data_license.txt"):
        assert (bundle / name).stat().st_size > 200, name
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert metadata["version"] in metadata["changelog"]
