"""VGG19's features: torchvision's order of layers, its file of weights, and what a checkpoint keeps of it."""

import hashlib
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from medrestore.checks import InputError
from medrestore.networks import vgg
from medrestore.networks.vgg import VGG19Features
from medrestore.networks.weights import describe

# torchvision's vgg19().features as it prints itself: each convolution's index and channels, and the pools.
CONVOLUTIONS = {
    **{0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256)},
    **{16: (256, 256), 19: (256, 512), 21: (512, 512), 23: (512, 512), 25: (512, 512), 28: (512, 512)},
    **{30: (512, 512), 32: (512, 512), 34: (512, 512)},
}
POOLS = (4, 9, 18, 27, 36)


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def sequence(count: int) -> nn.Sequential:
    """The same layers as modules, under torchvision's indices."""
    layers: list[nn.Module] = []
    for index in range(count):
        if index in CONVOLUTIONS:
            layers.append(nn.Conv2d(*CONVOLUTIONS[index], 3, padding=1))
        else:
            layers.append(nn.MaxPool2d(2, 2) if index in POOLS else nn.ReLU())
    return nn.Sequential(*layers)


def write_weights(path: Path, layers: nn.Sequential, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write as torchvision does: keys ``features.N.kind`` beside a classifier; take its checksum as right."""
    state = {f"features.{name}": value for name, value in layers.state_dict().items()}
    torch.save({**state, "classifier.0.weight": torch.zeros(2)}, path)
    monkeypatch.setattr(vgg, "CHECKSUM_START", hashlib.sha256(path.read_bytes()).hexdigest()[:8])
    return path


@pytest.mark.parametrize("layer", [1, 4, 9, 14, 19])
def test_file_of_weights_gives_torchvisions_features(layer, tmp_path, monkeypatch):
    reference = sequence(layer)
    features = VGG19Features(layer=layer, weights=write_weights(tmp_path / "w.pth", reference, monkeypatch))
    x = images(2, 3, 24, 16)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = reference((x - mean[:, None, None]) / deviation[:, None, None])
    torch.testing.assert_close(features.encode(x), expected)
    torch.testing.assert_close(features(x), expected)


def test_all_layers_are_those_of_vgg19():
    shapes = {
        int(name.removeprefix("weight_")): (value.shape[1], value.shape[0])
        for name, value in VGG19Features(layer=37, seed=0).named_buffers()
        if name.startswith("weight_")
    }
    assert shapes == CONVOLUTIONS
    assert [index for kind, index in vgg._layers(37) if kind == "pool"] == list(POOLS)


def test_layer_36_is_after_the_activation_and_before_the_last_pooling():
    encoding = VGG19Features(seed=0).encode(images(1, 3, 32, 48))
    assert encoding.shape == (1, 512, 2, 3)
    assert encoding.min() == 0
    assert encoding.max() > 0
    assert VGG19Features(layer=35, seed=0).encode(images(1, 3, 32, 48)).min() < 0


def test_never_trains_moves_with_the_module_and_is_in_no_checkpoint():
    features = VGG19Features(layer=4, seed=0)
    assert list(features.parameters()) == []
    assert describe(features)["state"] == {}
    assert describe(features)["architecture"] == {"layer": 4, "seed": 0}
    assert all(buffer.dtype == torch.float64 for buffer in features.double().buffers())
    x = images(1, 3, 8, 8).double().requires_grad_()
    features.encode(x).sum().backward()  # gradients pass through to the image
    assert x.grad is not None
    assert x.grad.any()


def test_architecture_holds_no_path(tmp_path, monkeypatch):
    features = VGG19Features(layer=4, weights=write_weights(tmp_path / "w.pth", sequence(4), monkeypatch))
    assert features.architecture == {"layer": 4, "seed": None}


def test_missing_file_says_what_from_where_and_where_to(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    expected = (
        f"{tmp_path}/checkpoints/vgg19-dcbb9e9d.pth: the weights of VGG19 are not here, and nothing is "
        "downloaded. Remedy: fetch https://download.pytorch.org/models/vgg19-dcbb9e9d.pth and put it there"
    )
    with pytest.raises(InputError, match=re.escape(expected)):
        VGG19Features()
    with pytest.raises(InputError, match=re.escape(f"{tmp_path}/other.pth: the weights of VGG19")):
        VGG19Features(weights=tmp_path / "other.pth")


def test_found_in_torchs_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    reference = sequence(4)
    write_weights(tmp_path / "checkpoints" / "vgg19-dcbb9e9d.pth", reference, monkeypatch)
    assert torch.equal(VGG19Features(layer=4).weight_0, reference[0].weight)


def test_files_that_are_not_vgg19(tmp_path, monkeypatch):
    path = tmp_path / "w.pth"
    path.write_bytes(b"not weights")
    with pytest.raises(InputError, match=r"its SHA-256 starts with [0-9a-f]{8}, expected dcbb9e9d"):
        VGG19Features(weights=path)
    monkeypatch.setattr(vgg, "CHECKSUM_START", hashlib.sha256(b"not weights").hexdigest()[:8])
    with pytest.raises(InputError, match=re.escape("w.pth: does not load (")):
        VGG19Features(weights=path)
    write_weights(path, nn.Sequential(nn.Conv2d(3, 8, 3)), monkeypatch)
    with pytest.raises(
        InputError,
        match=re.escape("features.0.weight must be of shape (64, 3, 3, 3), got (8, 3, 3, 3)"),
    ):
        VGG19Features(layer=2, weights=path)
    write_weights(path, sequence(2), monkeypatch)
    with pytest.raises(
        InputError, match=re.escape("features.2.weight must be of shape (64, 64, 3, 3), got none")
    ):
        VGG19Features(layer=4, weights=path)


def test_settings_and_images_that_do_not_fit():
    with pytest.raises(InputError, match="give seed or weights, not both"):
        VGG19Features(weights="w.pth", seed=0)
    features = VGG19Features(layer=9, seed=0)
    with pytest.raises(InputError, match="image must be at least 2 x 2"):
        features.encode(images(1, 3, 1, 8))
