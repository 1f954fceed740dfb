"""The image discriminator: shapes and counts by hand, features that feature matching can use."""

import pytest
import torch
from torch import nn

from medrestore.checks import InputError
from medrestore.networks.discriminators import ImageDiscriminator


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_paper_size_has_the_parameters_counted_by_hand():
    with torch.device("meta"):
        net = ImageDiscriminator(1)
    convolutions = 16 * (64 + 64 * 128 + 128 * 256 + 256 * 512 + 2 * 512 * 512)
    norms, first_bias, linear = 2 * (128 + 256 + 3 * 512), 64, 512 + 1
    assert (
        sum(parameter.numel() for parameter in net.parameters()) == convolutions + norms + first_bias + linear
    )


def test_paper_size_shapes():
    with torch.device("meta"):
        output = ImageDiscriminator(1)(torch.zeros(2, 1, 256, 192))
    assert output.logits.shape == (2, 1)
    assert [tuple(feature.shape) for feature in output.features] == [
        (2, 64, 128, 96),
        (2, 128, 64, 48),
        (2, 256, 32, 24),
        (2, 512, 16, 12),
        (2, 512, 8, 6),
        (2, 512, 4, 3),
    ]


def test_features_follow_the_activation_and_logits_the_pooled_last_layer():
    net = ImageDiscriminator(1, channels=(4, 8)).eval()
    x = images(3, 1, 16, 16)
    logits, features = net(x)
    linear = nn.functional.conv2d(x, net.layers[0][0].weight, net.layers[0][0].bias, stride=2, padding=1)
    torch.testing.assert_close(features[0], torch.where(linear > 0, linear, 0.2 * linear))
    pooled = features[1].sum(dim=(2, 3)) / 16
    # Sums of 16 and 8 numbers in float32, in another order.
    torch.testing.assert_close(
        logits, pooled @ net.classifier.weight.T + net.classifier.bias, rtol=1e-5, atol=1e-7
    )


def test_gradient_reaches_the_image_through_logits_and_every_feature():
    net = ImageDiscriminator(1, channels=(4, 8, 8))
    for index in range(4):
        x = images(2, 1, 16, 16).requires_grad_()
        logits, features = net(x)
        [*features, logits][index].square().sum().backward()
        assert x.grad is not None
        assert x.grad.abs().sum() > 0


def test_only_the_first_layer_is_not_normalized():
    net = ImageDiscriminator(1, channels=(4, 8, 8), norm="instance")
    assert [any(isinstance(m, nn.InstanceNorm2d) for m in layer) for layer in net.layers] == [
        False,
        True,
        True,
    ]


def test_bf16_and_channels_last_stay_near_fp32():
    net = ImageDiscriminator(1, channels=(8, 16)).to(memory_format=torch.channels_last)
    x = images(2, 1, 32, 32).contiguous(memory_format=torch.channels_last)
    expected = net(x).logits
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = net(x).logits
    # Logits are sums of 16 products of about 0.02 * 0.5: bfloat16's 2^-9 of their magnitude 0.04, times two
    # layers and the linear one.
    torch.testing.assert_close(logits.float(), expected, rtol=0, atol=3e-4)


def test_image_smaller_than_the_strides_is_refused():
    with pytest.raises(InputError, match=r"at least 8 x 8 \(3 layers of stride 2\), got \(16, 4\)"):
        ImageDiscriminator(1, channels=(4, 8, 8))(torch.zeros(2, 1, 16, 4))


def test_single_value_per_channel_is_refused_where_it_cannot_be_normalized():
    tiny = torch.zeros(1, 1, 8, 8)
    with pytest.raises(InputError, match="at least 16 long on one side for instance norm in 3 layers"):
        ImageDiscriminator(1, channels=(4, 8, 8), norm="instance").eval()(tiny)
    batch = ImageDiscriminator(1, channels=(4, 8, 8))
    with pytest.raises(InputError, match="one value per channel in layer 3"):
        batch(tiny)
    assert batch(torch.zeros(2, 1, 8, 8)).logits.shape == (2, 1)
    assert batch.eval()(tiny).logits.shape == (1, 1)
    longer = ImageDiscriminator(1, channels=(4, 8, 8), norm="instance")(torch.zeros(1, 1, 8, 16))
    assert longer.features[-1].shape == (1, 8, 1, 2)
