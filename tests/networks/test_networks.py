"""One contract over all networks, those that are found in the package."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any, NamedTuple

import pytest
import torch
from defined import defined_classes
from torch import Tensor, nn

from medrestore import networks
from medrestore.checks import InputError
from medrestore.networks.blocks import ImageNetwork
from medrestore.networks.precision import require_sound_gradients
from medrestore.networks.weights import build_network, describe


class Case(NamedTuple):
    """A small network of every argument other than its default, and the narrowest there is."""

    shape: tuple[int, int, int, int]
    settings: dict[str, Any]
    narrowest: dict[str, Any]
    refused: list[tuple[dict[str, Any], str]]


CHANNELS = "channels must list one positive width"
NORM = ({"norm": "group"}, "norm must be one of 'batch', 'instance', got 'group'")
IN_CHANNELS = ({"in_channels": 0}, "in_channels must be in")

CASES = {
    "AmyloidClassifier": Case(
        (3, 2, 48, 40),
        {"in_channels": 2, "widen_factor": 0.25, "conv1_stride": 1, "norm": "instance", "seed": 5},
        {"widen_factor": 1 / 8},
        [
            ({"widen_factor": 0.0}, "widen_factor must be in"),
            ({"conv1_stride": 4}, r"conv1_stride must be in \[1, 2\], got 4"),
            NORM,
            IN_CHANNELS,
        ],
    ),
    "BlendGenerator": Case(
        (3, 5, 16, 24),
        {
            **{"in_channels": 5, "candidates": [1, 3, 4], "seed": 5},
            "base": {"network": "unet.UNetGenerator", "channels": [4, 8, 8], "dropout_levels": 1},
        },
        {
            **{"in_channels": 2, "candidates": [0, 1]},
            "base": {"network": "unet.UNetGenerator", "channels": [1, 1], "dropout_levels": 1},
        },
        [
            ({"candidates": [1]}, r"number of candidates must be in \[2, inf\], got 1"),
            ({"candidates": [1, 5]}, r"candidates must be in \[0, 4\], got 5"),
            (
                {"base": {"network": "os.system", "channels": [4]}},
                "base must name a network below medrestore.networks",
            ),
            ({"base": {"channels": [4, 8]}}, "base must name a network below medrestore.networks"),
            IN_CHANNELS,
        ],
    ),
    "ContrastClassifier": Case(
        (3, 2, 32, 24),
        {
            **{"in_channels": 2, "classes": 4, "channels": [4, 8], "strided_layers": 1},
            **{"norm": "instance", "seed": 5},
        },
        {"classes": 2, "channels": (1, 1), "strided_layers": 1},
        [
            ({"classes": 1}, r"classes must be in \[2, inf\], got 1"),
            ({"strided_layers": 6}, r"strided_layers must be in \[0, 2\], got 6"),
            ({"channels": ()}, CHANNELS),
            NORM,
            IN_CHANNELS,
        ],
    ),
    "FullResolutionGenerator": Case(
        (3, 3, 16, 24),
        {
            **{"in_channels": 3, "widths": [5], "skip": -2, "seed": 3},
            "base": {
                **{"network": "unet.UNetGenerator", "channels": [4, 8, 8], "dropout_levels": 2},
                **{"dropout": 0.25, "norm": "instance", "output_activation": "softplus"},
            },
        },
        {
            "in_channels": 1,
            "base": {"network": "unet.UNetGenerator", "channels": (1, 1), "dropout_levels": 1},
            "widths": (1,),
        },
        [
            IN_CHANNELS,
            ({"skip": 3}, r"skip must be in \[-3, 2\], got 3"),
            ({"widths": ()}, "widths must list one positive width"),
            ({"base": {"channels": [4]}}, "base must name a network below medrestore.networks"),
        ],
    ),
    "ImageDiscriminator": Case(
        (3, 2, 16, 24),
        {"in_channels": 2, "channels": [4, 8], "norm": "instance", "seed": 3},
        {"in_channels": 1, "channels": (1, 1)},
        [NORM, IN_CHANNELS],
    ),
    "LesionSegmenter": Case(
        (3, 2, 16, 24),
        {"in_channels": 2, "channels": [4, 8], "residual_units": 1, "norm": "instance", "seed": 5},
        {"channels": (1, 1)},
        [
            ({"channels": (8,)}, r"levels of channels must be in \[2, inf\], got 1"),
            ({"channels": (8, 0)}, CHANNELS),
            ({"residual_units": -1}, "residual_units must be in"),
            NORM,
        ],
    ),
    "SRResNet": Case(
        (3, 1, 8, 5),
        {
            **{"in_channels": 1, "channels": 5, "blocks": 3, "scale": 2, "norm": "instance"},
            **{"enlargement_skip": "bicubic", "kernel": 5, "seed": 3, "blur_conditioning": True},
        },
        {"channels": 1, "blocks": 1},
        [
            ({"scale": 3}, "scale must be one of 2, 4, 8, 16, got 3"),
            ({"norm": "layer"}, "norm must be one of 'batch', 'instance', 'none', got 'layer'"),
            (
                {"enlargement_skip": "nearest"},
                "enlargement_skip must be one of 'none', 'bicubic', got 'nearest'",
            ),
            ({"kernel": 4}, "kernel must be odd, got 4"),
            ({"blocks": 0}, "blocks must be in"),
            ({"channels": 0}, "channels must be in"),
        ],
    ),
    "TextureAutoencoder": Case(
        (3, 1, 8, 12),
        {"in_channels": 1, "channels": [4, 6], "blocks": 1, "seed": 3},
        {"channels": (1, 1), "blocks": 1},
        [({"channels": ()}, CHANNELS), ({"blocks": -1}, "blocks must be in")],
    ),
    "UNetGenerator": Case(
        (3, 3, 16, 24),
        {
            **{"in_channels": 3, "out_channels": 2, "channels": [4, 8, 8], "dropout_levels": 2},
            **{"dropout": 0.25, "norm": "instance", "output_activation": "softplus", "seed": 7},
        },
        {"in_channels": 1, "channels": (1, 1), "dropout_levels": 1},
        [
            ({"dropout_levels": 3}, r"dropout_levels must be in \[0, 2\], got 3"),
            ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
            NORM,
            ({"output_activation": "relu"}, "output_activation must be one of 'identity'"),
            ({"channels": ()}, CHANNELS),
            ({"channels": (8, 0, 8)}, CHANNELS),
            ({"out_channels": 0}, "out_channels must be in"),
        ],
    ),
    "VGG19Features": Case(
        (3, 3, 8, 12),
        {"layer": 4, "seed": 1},
        {"layer": 1, "seed": 0},
        [({"layer": 38}, r"layer must be in \[1, 37\], got 38")],
    ),
}

FOUND = [kind for kind in defined_classes(networks, nn.Module) if kind is not ImageNetwork]
NETWORKS = pytest.mark.parametrize("kind", FOUND, ids=lambda kind: kind.__name__)


def images(kind: type[nn.Module]) -> Tensor:
    return torch.randn(CASES[kind.__name__].shape, generator=torch.Generator().manual_seed(0))


def tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


def output(network: nn.Module, x: Tensor) -> Tensor:
    """Return what a network says of each image: of a discriminator, its logits."""
    result = network(x)
    return result if isinstance(result, Tensor) else result[0]


@NETWORKS
def test_architecture_rebuilds_the_network_and_seed_names_its_weights(kind):
    settings = CASES[kind.__name__].settings
    before = torch.get_rng_state()
    network = kind(**settings)
    assert torch.equal(torch.get_rng_state(), before)
    assert json.loads(json.dumps(network.architecture)) == settings
    defaults = inspect.signature(kind).parameters
    assert all(value != defaults[name].default for name, value in settings.items())
    again = build_network({"networks": {"any": describe(network)}}, "any", path="model.pt")
    assert str(again) == str(network.eval())
    assert again.architecture == network.architecture
    assert all(torch.equal(a, b) for a, b in zip(tensors(network), tensors(again), strict=True))
    same, other = kind(**settings), kind(**{**settings, "seed": 6})
    assert all(torch.equal(a, b) for a, b in zip(tensors(network), tensors(same), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(tensors(network), tensors(other), strict=True))
    if "norm" in settings:
        assert any(isinstance(module, nn.InstanceNorm2d) for module in network.modules())
        assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@NETWORKS
def test_an_image_is_judged_by_itself(kind):
    network, x = kind(**CASES[kind.__name__].settings).eval(), images(kind)
    found = output(network, x)
    assert (len(found), found.dtype) == (3, torch.float32)
    assert found.isfinite().all()
    assert torch.equal(output(network, x), found)
    # float32: another batch size may sum in another order.
    torch.testing.assert_close(output(network, x[1:2]), found[1:2], rtol=1e-4, atol=1e-5)


@NETWORKS
def test_bf16_and_channels_last_train(kind):
    network = kind(**CASES[kind.__name__].settings).to(memory_format=torch.channels_last)
    x = images(kind).contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = output(network, x)
    found.float().square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
    assert x.grad.isfinite().all()
    assert x.grad.any()


@NETWORKS
def test_every_weight_learns(kind):
    network = kind(**CASES[kind.__name__].settings)
    output(network, images(kind).requires_grad_()).square().sum().backward()
    still = [
        name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()
    ]
    assert still == []


@NETWORKS
def test_no_network_of_ours_has_gradients_that_depend_on_the_processor(kind):
    require_sound_gradients("any", kind(**CASES[kind.__name__].narrowest))


@NETWORKS
def test_other_channels_and_sizes_are_refused(kind):
    case = CASES[kind.__name__]
    network, (count, channels, height, width) = kind(**case.settings), case.shape
    assert network.in_channels == channels
    for shape in ((count, channels + 1, height, width), (channels, height, width)):
        expected = f"image must be of shape (B, {channels}, H, W), got {shape}"
        with pytest.raises(InputError, match=re.escape(expected)):
            network(torch.zeros(shape))
    multiple = getattr(network, "stride_multiple", 1)
    for size in ((height, width + multiple // 2), (height + 1, width), (0, width)) if multiple > 1 else ():
        expected = f"height and width must be positive multiples of {multiple}, got {size[0]} x {size[1]}"
        with pytest.raises(InputError, match=expected):
            network(torch.zeros(count, channels, *size))


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [(kind, *refused) for kind in FOUND for refused in CASES[kind.__name__].refused],
)
def test_parameter_out_of_range_is_refused(kind, parameters, message):
    with pytest.raises(InputError, match=message):
        kind(**{**CASES[kind.__name__].settings, **parameters})
