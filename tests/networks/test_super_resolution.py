"""SRResNet against a layer-by-layer formulation of SRGAN's description."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from medrestore.checks import InputError
from medrestore.networks.super_resolution import SRResNet, _convolve_unshuffled, sharpness

SMALL = {"channels": 6, "blocks": 2}


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def reference_forward(net: SRResNet, x: torch.Tensor) -> torch.Tensor:
    """The layers one after the other, every enlargement and the last convolution at their full size."""

    def convolve(layer: nn.Conv2d, value: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(value, layer.weight, layer.bias, padding=layer.weight.shape[-1] // 2)

    def normalize(layer: nn.Module, value: torch.Tensor) -> torch.Tensor:
        if isinstance(layer, nn.BatchNorm2d):
            shape = (1, -1, 1, 1)
            mean, variance = layer.running_mean.view(shape), layer.running_var.view(shape)
        else:
            mean = value.mean((2, 3), keepdim=True)
            variance = value.var((2, 3), unbiased=False, keepdim=True)
        scaled = (value - mean) / torch.sqrt(variance + 1e-5)
        return scaled * layer.weight.view(1, -1, 1, 1) + layer.bias.view(1, -1, 1, 1)

    def prelu(layer: nn.Module, value: torch.Tensor) -> torch.Tensor:
        return torch.where(value > 0, value, layer.weight * value)

    normed = net.norm != "none"
    first = prelu(net.head[1], convolve(net.head[0], 2 * x - 1))
    value = first
    for block in net.blocks:
        before = value
        layers = list(block.body)
        value = convolve(layers.pop(0), value)
        value = normalize(layers.pop(0), value) if normed else value
        value = prelu(layers.pop(0), value)
        value = convolve(layers.pop(0), value)
        value = (normalize(layers.pop(0), value) if normed else value) + before
    value = convolve(net.trunk[0], value)
    value = (normalize(net.trunk[1], value) if normed else value) + first
    for convolution, _, activation in net.enlargement:
        value = prelu(activation, functional.pixel_shuffle(convolve(convolution, value), 2))
    return (convolve(net.output, value) + 1) / 2


def test_paper_size_has_the_parameters_counted_by_hand():
    net = SRResNet()
    convolutions = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == 1 + 2 * 16 + 1 + 2 + 1
    head = 3 * 64 * 81 + 64
    normed = 64 * 64 * 9 + 2 * 64  # no bias; weight and bias of the batch norm
    enlargement = 64 * 256 * 9 + 256
    output = 64 * 3 * 81 + 3
    slopes = 1 + 16 + 2
    assert sum(parameter.numel() for parameter in net.parameters()) == (
        head + 33 * normed + 2 * enlargement + output + slopes
    )


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_forward_equals_the_layers_one_by_one(norm, scale):
    net = SRResNet(**SMALL, norm=norm, scale=scale)
    net(images(4, 3, 9, 11, seed=1))  # running statistics other than 0 and 1
    net.eval()
    nn.init.normal_(net.output.weight, generator=torch.Generator().manual_seed(2))  # beyond its small start
    x = images(2, 3, 7, 5)
    restored = net(x)
    assert restored.shape == (2, 3, 7 * scale, 5 * scale)
    # float32: sums of 486 products in another order, through up to 10 layers.
    torch.testing.assert_close(restored, reference_forward(net, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel", [1, 3, 5, 7, 9, 11])
def test_last_convolution_at_half_size_equals_that_at_full_size(kernel):
    layer = nn.Conv2d(2, 3, kernel, padding=kernel // 2).double()
    x = torch.randn(2, 8, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x.requires_grad_()
    leaves = [x, *layer.parameters()]
    expected = layer(functional.pixel_shuffle(x, 2))
    got = functional.pixel_shuffle(_convolve_unshuffled(x, layer.weight, layer.bias), 2)
    torch.testing.assert_close(got, expected)  # float64: torch's tolerance of 1e-7 is far above rounding
    weights = torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad((got * weights).sum(), leaves),
        torch.autograd.grad((expected * weights).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_bicubic_skip_starts_near_pillows_enlargement():
    # Middle grays: Pillow would cut off what overshoots 0 and 255 between its two passes.
    picture = (80 + images(1, 3, 12, 10)[0] * 90).round().to(torch.uint8)
    enlarged = Image.fromarray(picture.permute(1, 2, 0).numpy()).resize((40, 48), Image.Resampling.BICUBIC)
    expected = torch.from_numpy(np.array(enlarged)).permute(2, 0, 1) / 255
    net = SRResNet(**SMALL, norm="none", enlargement_skip="bicubic")
    nn.init.zeros_(net.output.weight)
    restored = net(picture[None] / 255)[0].detach()
    # Pillow rounds to 8 bits after each pass, by half a step; the second pass's weights sum to at most 1.3.
    assert (restored - expected).abs().max() < (0.5 + 1.3 * 0.5) / 255 + 1e-3
    fresh = SRResNet(**SMALL, norm="none", enlargement_skip="bicubic")(picture[None] / 255)[0].detach()
    assert 0 < (fresh - restored).abs().max() < 0.1


def test_skip_adds_to_what_the_network_makes():
    """The same weights with and without the skip differ by the enlargement, less the middle gray."""
    plain = SRResNet(**SMALL, norm="none")
    skipping = SRResNet(**SMALL, norm="none", enlargement_skip="bicubic")
    skipping.load_state_dict(plain.state_dict())
    x = images(2, 3, 6, 6)
    enlarged = functional.interpolate(x, scale_factor=4, mode="bicubic", antialias=True)
    # float32 sums of numbers around 1: a few 2^-24.
    torch.testing.assert_close(skipping(x), plain(x) - 0.5 + enlarged, rtol=0, atol=1e-6)


def test_new_network_gives_no_checkerboard():
    """Kernels that pixel shuffling sets side by side start alike: a flat image stays flat inside."""
    net = SRResNet(channels=4, blocks=1, norm="none", kernel=1)
    restored = net(torch.full((1, 3, 12, 12), 0.8)).detach()[..., 20:28, 20:28]
    # float32, sums of 36 products in another order for each sub-pixel.
    assert (restored - restored[..., :1, :1]).abs().max() < 1e-6
    assert (restored[0, :, 0, 0] - 0.5).abs().max() > 1e-4  # the network is not dead


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (33, 2)])
def test_any_size(norm, size):
    net = SRResNet(**SMALL, norm=norm, enlargement_skip="bicubic").eval()
    assert net(images(1, 3, *size)).shape == (1, 3, 4 * size[0], 4 * size[1])


@pytest.mark.parametrize("skip", ["none", "bicubic"])
def test_short_weights_restore_in_single_precision(skip):
    """Convolutions in bfloat16, input in float32: the enlargement keeps its precision."""
    net = SRResNet(**SMALL, norm="none", enlargement_skip=skip).eval()
    x = images(1, 3, 8, 8)
    expected = net(x)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.to(torch.bfloat16)
    restored = net(x)
    assert restored.dtype == torch.float32
    # The network's own part is below 0.1 at first, and bfloat16 holds it to 2^-8 per layer (about 10).
    assert (restored - expected).abs().max() < 0.1 * 10 / 256


def test_input_that_does_not_fit():
    net = SRResNet(**SMALL)
    with pytest.raises(InputError, match="must hold more than one pixel for batch norm"):
        net(images(1, 3, 1, 1))
    with pytest.raises(InputError, match="must hold more than one pixel for instance norm"):
        SRResNet(**SMALL, norm="instance").eval()(images(2, 3, 1, 1))


def test_conditioning_on_sharpness_starts_near_the_network_without_and_tells_blurs_apart():
    plain = SRResNet(**SMALL, norm="none")
    conditioned = SRResNet(**SMALL, norm="none", blur_conditioning=True)
    noise = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before = conditioned(noise)
    # s and t of a hundredth, behind a last convolution that starts at a hundredth.
    torch.testing.assert_close(plain(noise), before, atol=1e-2, rtol=0)
    smooth = torch.nn.functional.avg_pool2d(noise, 3, 1, 1)
    fine, _, deviation = sharpness(torch.cat([noise, smooth])).T
    assert fine[0] > fine[1] + 0.5
    # By hand: the mean of 9 independent values has a third of their deviation, a detail sqrt(8 / 9) of it.
    # Of three channels' mean that is 255 sqrt(1 / 12 / 3 * 8 / 9) = 40.1; borders, where fewer are averaged,
    # and 1,024 values: within a twentieth.
    assert deviation[0].exp() == pytest.approx(40.1, rel=0.05)
    with torch.no_grad():
        conditioned.modulation[-1].bias.fill_(0.1)
    assert not torch.equal(before, conditioned(noise))
    alone = conditioned(torch.cat([noise, smooth]))[1:]
    # The sharpness is each image's own; sums of float32 in another order.
    torch.testing.assert_close(alone, conditioned(smooth), atol=1e-5, rtol=0)
