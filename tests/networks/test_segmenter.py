"""The lesion segmenter: MONAI's U-Net behind the package's interface."""

import json

import pytest
import torch
from torch import nn

from medrestore.checks import InputError
from medrestore.networks.segmenter import LesionSegmenter
from medrestore.networks.weights import build_network, describe


def slices(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_logits_lie_on_the_image() -> None:
    net = LesionSegmenter(channels=(4, 8, 8)).eval()
    x = slices(2, 1, 24, 16)
    assert net(x).shape == (2, 1, 24, 16)
    assert net.stride_multiple == 4
    # Both in float32, rounded differently.
    torch.testing.assert_close(net.probability(x), 1 / (1 + torch.exp(-net(x))), rtol=1e-5, atol=1e-7)


def test_learns_to_mark_bright_squares() -> None:
    net = LesionSegmenter(channels=(4, 8))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    mask = torch.zeros(4, 1, 16, 16)
    for index in range(4):
        mask[index, 0, 2 + index : 7 + index, 8 - index : 13 - index] = 1
    x = mask + 0.2 * slices(4, 1, 16, 16)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(net(x), mask).backward()
        optimizer.step()
    assert ((net(x) > 0) == mask.bool()).float().mean() > 0.97  # marking nothing: 0.90


def test_weights_rebuild_it_and_seed_names_them() -> None:
    before = torch.get_rng_state()
    net = LesionSegmenter(2, channels=(4, 8), residual_units=1, norm="instance", seed=5)
    json.dumps(net.architecture)  # plain values
    again = build_network({"networks": {"segmenter": describe(net)}}, "segmenter", path="model.pt")
    assert torch.equal(torch.get_rng_state(), before)
    assert str(again) == str(net.eval())
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))
    assert any(isinstance(module, nn.InstanceNorm2d) for module in net.modules())
    other = LesionSegmenter(2, channels=(4, 8), residual_units=1, norm="instance", seed=6)
    assert any(not torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


def test_bf16_and_channels_last_train() -> None:
    net = LesionSegmenter(channels=(4, 8)).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = net(slices(2, 1, 16, 16).contiguous(memory_format=torch.channels_last))
    logits.float().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"channels": (8,)}, r"levels of channels must be in \[2, inf\], got 1"),
        ({"channels": (8, 0)}, "channels must list one positive width"),
        ({"residual_units": -1}, "residual_units must be in"),
        ({"norm": "group"}, "norm must be one of 'batch', 'instance', got 'group'"),
    ],
)
def test_parameter_out_of_range_is_refused(parameters: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        LesionSegmenter(**parameters)


def test_other_sizes_are_refused() -> None:
    net = LesionSegmenter(channels=(4, 8, 8))
    with pytest.raises(InputError, match="positive multiples of 4, got 24 x 18"):
        net(torch.zeros(1, 1, 24, 18))
    with pytest.raises(InputError, match=r"of shape \(B, 1, H, W\), got \(1, 2, 24, 16\)"):
        net(torch.zeros(1, 2, 24, 16))
