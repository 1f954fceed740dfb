"""The U-Net generator against pix2pix's description of it."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from medrestore.networks.unet import UNetGenerator

SMALL = {"channels": (4, 8, 8), "dropout_levels": 2}


def degraded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def reference_forward(net: UNetGenerator, x: torch.Tensor, level: int = 0) -> torch.Tensor:
    """pix2pix's own formulation in evaluation mode: a level wraps the level below it."""
    innermost = level == len(net.encoder) - 1
    down = net.encoder[level]
    x = functional.conv2d(x, down[0].weight, down[0].bias, stride=2, padding=1)
    if level > 0 and not innermost:
        x = functional.batch_norm(x, down[1].running_mean, down[1].running_var, down[1].weight, down[1].bias)
    if not innermost:
        below = reference_forward(net, torch.where(x > 0, x, 0.2 * x), level + 1)
        x = torch.cat([x, below], dim=1)
    x = x.clamp_min(0)
    if level == 0:
        return functional.conv_transpose2d(x, net.output.weight, net.output.bias, stride=2, padding=1)
    up = net.decoder[len(net.encoder) - 1 - level]
    x = functional.conv_transpose2d(x, up[0].weight, None, stride=2, padding=1)
    return functional.batch_norm(x, up[1].running_mean, up[1].running_var, up[1].weight, up[1].bias)


def test_paper_size_has_the_parameters_counted_by_hand():
    with torch.device("meta"):
        net = UNetGenerator(3, 3)
    encoder = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 4 * 512 * 512)
    decoder = 16 * (512 * 512 + 3 * 1024 * 512 + 1024 * 256 + 512 * 128 + 256 * 64 + 128 * 3)
    norms = 2 * (128 + 256 + 4 * 512) + 2 * (4 * 512 + 256 + 128 + 64)
    biases = 64 + 512 + 3
    count = sum(parameter.numel() for parameter in net.parameters())
    assert count == encoder + decoder + norms + biases
    # junyanz's pix2pix prints 54.414 M for the same network without the first and the innermost bias.
    assert round((count - 64 - 512) / 1e6, 3) == 54.414


def test_paper_size_enters_transposed_convolutions_as_the_paper_lists():
    with torch.device("meta"):
        net = UNetGenerator(3)
    transposed = [up[0] for up in net.decoder] + [net.output]
    skips = [0, 512, 512, 512, 512, 256, 128, 64]
    entering = [layer.in_channels - skip for layer, skip in zip(transposed, skips, strict=True)]
    assert entering == [512, 512, 512, 512, 512, 256, 128, 64]
    assert [any(isinstance(m, nn.Dropout) for m in up) for up in net.decoder] == [True] * 3 + [False] * 4
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(convolutions) == 16
    assert {(m.kernel_size, m.stride) for m in convolutions} == {((4, 4), (2, 2))}


def test_first_and_innermost_encoder_level_are_not_normalized():
    net = UNetGenerator(1, channels=(4, 8, 8, 8), dropout_levels=0)
    normalized = [any(isinstance(m, nn.BatchNorm2d) for m in down) for down in net.encoder]
    assert normalized == [False, True, True, False]


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_forward_equals_the_recursive_formulation(levels):
    net = UNetGenerator(3, 2, channels=(4, 8, 6, 10)[:levels], dropout_levels=0)
    net(degraded(4, 3, 32, 32, seed=1))  # running statistics other than 0 and 1
    net.eval()
    x = degraded(2, 3, 32, 48)
    # float32, at most 16 layers: 16 * 2^-23 of values around 1.
    torch.testing.assert_close(net(x), reference_forward(net, x), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_smallest_image_trains(norm):
    # A 1 x 1 code in the innermost level, 2 x 2 maps in the first that is normalized.
    net = UNetGenerator(1, channels=(4, 8, 8), dropout_levels=1, norm=norm)
    net(degraded(1, 1, 8, 8)).square().mean().backward()
    gradients = [parameter.grad for parameter in net.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    assert all(gradient.abs().sum() > 0 for down in net.encoder for gradient in [down[0].weight.grad])


def test_dropout_is_the_noise_and_evaluation_has_none():
    net = UNetGenerator(1, **SMALL)
    x = degraded(2, 1, 16, 16)
    net.eval()
    assert torch.equal(net(x), net(x))
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    assert not torch.equal(net(x), net(x))


def test_initial_weights_are_normal_as_in_pix2pix():
    net = UNetGenerator(1, channels=(32, 64, 64), dropout_levels=0)
    weight = net.encoder[2][0].weight
    # 65,536 draws: the standard error of the mean is 0.02 / 256, of the deviation 0.02 / sqrt(2 * 65,536);
    # five of each.
    assert weight.mean().item() == pytest.approx(0, abs=5 * 0.02 / 256)
    assert weight.std().item() == pytest.approx(0.02, abs=5 * 0.02 / 362)
    norm = net.decoder[0][1].weight
    assert norm.mean().item() == pytest.approx(1, abs=5 * 0.02 / 8)
    assert norm.std().item() == pytest.approx(0.02, abs=5 * 0.02 / 11)
    assert all(not module.bias.any() for module in net.modules() if getattr(module, "bias", None) is not None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("identity", lambda x: x), ("tanh", torch.tanh), ("softplus", lambda x: (1 + x.exp()).log())],
)
def test_output_activation(name, expected):
    x = degraded(2, 1, 8, 8)
    linear = UNetGenerator(1, **SMALL).eval()(x)
    # log(1 + e^x) by hand loses about 2^-23 to rounding.
    torch.testing.assert_close(
        UNetGenerator(1, **SMALL, output_activation=name).eval()(x), expected(linear), rtol=1e-5, atol=1e-6
    )


def test_bf16_and_channels_last_stay_near_fp32():
    net = UNetGenerator(3, channels=(8, 16, 16), dropout_levels=0).eval()
    x = degraded(2, 3, 32, 32)
    expected = net(x)
    net.to(memory_format=torch.channels_last)
    x = x.contiguous(memory_format=torch.channels_last)
    # Another memory layout changes the order of sums only.
    torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        restored = net(x)
    # bfloat16 rounds by 2^-9 on average; six convolutions and as many norms: about sqrt(12) 2^-9 = 0.7 %;
    # twice that.
    assert (restored.float() - expected).norm() / expected.norm() < 0.014
