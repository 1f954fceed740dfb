"""The branch at full resolution: a sum by hand, one pixel at a time, of any base, in TorchScript."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medrestore.networks.full_resolution import FullResolutionGenerator

BASE = {"network": "unet.UNetGenerator", "channels": [4, 8], "dropout_levels": 1}


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))


def generator(**settings: object) -> FullResolutionGenerator:
    return FullResolutionGenerator(3, base=BASE, **settings).eval()


@pytest.mark.parametrize(("skip", "channel"), [(None, None), (0, 0), (-1, 2), (-2, 1)])
def test_output_is_base_plus_branch_plus_the_channel_that_is_corrected(x, skip, channel):
    network = generator(widths=(5, 4), skip=skip)
    first, _, second, _, last = network.branch
    hidden = x
    for layer in (first, second):
        hidden = torch.einsum("bchw,oc->bohw", hidden, layer.weight[..., 0, 0]) + layer.bias[:, None, None]
        hidden = torch.where(hidden > 0, hidden, 0.2 * hidden)
    expected = torch.einsum("bchw,oc->bohw", hidden, last.weight[..., 0, 0]) + last.bias
    expected = expected + network.base(x) + (0 if channel is None else x[:, channel, None])
    # float32 sums of five products in another order.
    torch.testing.assert_close(network(x), expected, rtol=1e-5, atol=1e-6)


def test_branch_sees_one_pixel(x):
    network = generator()
    other = x.clone()
    other[:, :, 3, 5] += 1
    changed = (network.branch(other) != network.branch(x)).any(1)
    assert changed[:, 3, 5].all()
    assert changed.sum() == 2  # one pixel of each image


@pytest.mark.parametrize(
    "base",
    [
        {"network": "blend.BlendGenerator", "candidates": [0, 1], "base": BASE},
        {"network": "segmenter.LesionSegmenter", "channels": [2, 4, 4], "residual_units": 0},
    ],
)
def test_any_network_of_images_is_a_base(x, base):
    network = FullResolutionGenerator(3, base=base).eval()
    torch.testing.assert_close(network(x), network.branch(x) + network.base(x))
    assert network.stride_multiple == 4


def test_torchscript_gives_the_same(x):
    network = generator(skip=-1)
    assert torch.equal(torch.jit.script(network)(x), network(x))
