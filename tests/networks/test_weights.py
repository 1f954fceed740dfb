"""Files of weights: they load without running code, and say what is wrong when they do not load."""

from pathlib import Path

import pytest
import torch

from medrestore.checks import InputError
from medrestore.networks.unet import UNetGenerator
from medrestore.networks.weights import FORMAT, describe, load_file, load_network, load_state, save_file


def small(**settings) -> UNetGenerator:
    return UNetGenerator(3, channels=(4, 8), dropout_levels=1, **settings)


def test_network_comes_back_with_architecture_and_weights(tmp_path):
    network = small(norm="instance", output_activation="softplus", seed=4)
    save_file({"networks": {"generator": describe(network)}}, tmp_path / "model.pt")
    loaded = load_network(tmp_path / "model.pt", "generator")
    assert type(loaded) is UNetGenerator
    assert loaded.architecture == network.architecture
    assert not loaded.training
    image = torch.rand(1, 3, 8, 8)
    assert torch.equal(loaded(image), network.eval()(image))


def test_same_values_give_the_same_bytes_and_replace_the_file(tmp_path):
    payload = {"networks": {"generator": describe(small())}, "neighbors": 1}
    for name in ("a.pt", "longer_name.pt", "a.pt"):
        save_file(payload, tmp_path / name)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "longer_name.pt").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pt", "longer_name.pt"]
    assert load_file(tmp_path / "a.pt")["format"] == FORMAT


def test_nothing_in_a_file_is_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"format": FORMAT, "networks": Bomb()}, tmp_path / "model.pt")
    with pytest.raises(InputError, match="holds more than weights"):
        load_file(tmp_path / "model.pt")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_truncated_file_is_refused(kept, tmp_path):
    path = tmp_path / "model.pt"
    save_file({"networks": {"generator": describe(small())}}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(InputError, match=r"model\.pt: is damaged .* Remedy"):
        load_file(path)


def test_text_in_place_of_weights_is_refused(tmp_path):
    file = tmp_path / "model.pt"
    file.write_text("batch_size: 4\n")
    with pytest.raises(InputError, match=r"model\.pt: is damaged or holds more than weights"):
        load_file(file)


def test_file_of_another_program_or_none_is_refused(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"other\.pt: was not written by medrestore"):
        load_file(tmp_path / "other.pt")
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    with pytest.raises(InputError, match="was not written by medrestore"):
        load_file(tmp_path / "tensor.pt")
    with pytest.raises(InputError, match=r"none\.pt: there are no weights here"):
        load_file(tmp_path / "none.pt")


def test_full_disk_keeps_the_file_from_before(tmp_path):
    """The temporary file leads to /dev/full, where the kernel says that no space is left."""
    import os

    path = tmp_path / "checkpoint.pt"
    save_file({"epoch": 1, "weights": torch.ones(3)}, path)
    (tmp_path / f".partial-{os.getpid()}-checkpoint.pt").symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"checkpoint\.pt: the disk is full; the file from before is kept"):
        save_file({"epoch": 2, "weights": torch.ones(10**6)}, path)
    assert load_file(path)["epoch"] == 1
    assert [item.name for item in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_state_of_another_network_is_refused_by_key_and_shape():
    network = small()
    state = describe(network)["state"]
    with pytest.raises(
        InputError, match=r"x\.pt: is the checkpoint of another generator .*output\.bias is missing"
    ):
        load_state(
            network, {k: v for k, v in state.items() if k != "output.bias"}, path="x.pt", name="generator"
        )
    with pytest.raises(InputError, match="head is not known"):
        load_state(network, {**state, "head": torch.zeros(1)}, path="x.pt")
    with pytest.raises(InputError, match=r"output\.bias has shape \(2,\), expected \(1,\)"):
        load_state(network, {**state, "output.bias": torch.zeros(2)}, path="x.pt")
    with pytest.raises(InputError, match=r"and \d+ more\)"):
        load_state(network, {}, path="x.pt")


@pytest.mark.parametrize("name", ["os.system", "weights.load_file", "unet.torch", "nowhere.Net", ""])
def test_class_outside_of_our_networks_is_refused(name, tmp_path):
    entry = {**describe(small()), "class": name}
    save_file({"networks": {"generator": entry}}, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"which is not in medrestore\.networks"):
        load_network(tmp_path / "model.pt", "generator")


def test_network_that_the_file_has_not(tmp_path):
    save_file({"networks": {"task": describe(small())}}, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"has no network 'generator'; it holds task"):
        load_network(tmp_path / "model.pt", "generator")
