"""The texture autoencoder: shape, symmetry, and that it learns."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from medrestore.networks.autoencoder import TextureAutoencoder

SMALL = {"channels": (4, 6), "blocks": 1}


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_encoding_equals_the_layers_one_by_one():
    net = TextureAutoencoder(**SMALL)
    first, _, down, _, block, second_down, _, second_block = net.encoder
    x = images(2, 3, 8, 12)

    def residual(module: nn.Module, value: torch.Tensor) -> torch.Tensor:
        inner = functional.conv2d(value, module.first.weight, module.first.bias, padding=1).clamp_min(0)
        return value + functional.conv2d(inner, module.second.weight, module.second.bias, padding=1)

    value = functional.conv2d(2 * x - 1, first.weight, first.bias, padding=1).clamp_min(0)
    for stride, module in ((down, block), (second_down, second_block)):
        value = functional.conv2d(value, stride.weight, stride.bias, stride=2, padding=1).clamp_min(0)
        value = residual(module, value)
    torch.testing.assert_close(net.encode(x), value)


@pytest.mark.parametrize("blocks", [0, 1, 2])
@pytest.mark.parametrize("channels", [(4,), (4, 6), (4, 6, 8)])
def test_decoder_mirrors_the_encoder(channels, blocks):
    net = TextureAutoencoder(channels=channels, blocks=blocks)

    def widths(part: nn.Module) -> list[tuple[int, int, int]]:
        return [
            (module.in_channels, module.out_channels, module.stride[0])
            for module in part.modules()
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
        ]

    assert [(after, before, stride) for before, after, stride in reversed(widths(net.encoder))] == widths(
        net.decoder
    )
    stride = 2 ** len(channels)
    assert net.stride_multiple == stride
    x = images(2, 3, 2 * stride, 3 * stride)
    assert net.encode(x).shape == (2, channels[-1], 2, 3)
    assert net(x).shape == x.shape


def test_images_do_not_meet():
    """No normalization: an encoding depends on its image alone, in training too."""
    net = TextureAutoencoder(**SMALL).train()
    x = images(3, 3, 8, 8)
    # float32, another batch size may sum in another order.
    torch.testing.assert_close(net.encode(x)[1:2], net.encode(x[1:2]), rtol=1e-5, atol=1e-6)


def test_learns_to_reproduce():
    net = TextureAutoencoder(channels=(8,), blocks=1)
    x = functional.interpolate(images(4, 3, 4, 4), scale_factor=4, mode="bilinear")
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    errors = []
    for _ in range(150):
        optimizer.zero_grad()
        error = (net(x) - x).square().mean()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    # Predicting each image's mean would leave the variance.
    assert errors[-1] < 0.1 * x.var(dim=(2, 3)).mean().item()
    assert all(p.grad.any() for p in net.parameters())
