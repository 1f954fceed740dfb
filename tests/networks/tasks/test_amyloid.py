"""The amyloid classifier: ResNet18 with one logit."""

import pytest
import torch
from torch import nn

from medrestore.checks import InputError
from medrestore.networks.tasks.amyloid import AmyloidClassifier


def slices(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_full_size_has_resnet18s_parameters():
    with torch.device("meta"):
        net = AmyloidClassifier()
    # Published ResNet18: 11,689,512 with three color channels and 1,000 classes. Here one channel, one output
    # and MONAI's bias in the three convolutions beside a downsampling block.
    expected = 11_689_512 - 2 * 64 * 7 * 7 - (512 * 1000 + 1000) + (512 + 1) + (128 + 256 + 512)
    assert sum(parameter.numel() for parameter in net.parameters()) == expected


@pytest.mark.parametrize(("stride", "size"), [(1, 8), (2, 4)])
def test_stride_of_the_first_convolution_sets_the_last_map(stride, size):
    net = AmyloidClassifier(widen_factor=0.125, conv1_stride=stride).eval()
    seen: list[torch.Size] = []
    net.resnet.layer4.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    net(slices(2, 1, 128, 128))
    assert seen == [torch.Size([2, 64, size, size])]


def test_logits_are_one_per_slice_and_probability_their_sigmoid():
    net = AmyloidClassifier(widen_factor=0.125).eval()
    for count in (1, 3):
        x = slices(count, 1, 64, 64)
        logits = net(x)
        assert logits.shape == (count,)
        # Both in float32, rounded differently.
        torch.testing.assert_close(net.probability(x), 1 / (1 + torch.exp(-logits)), rtol=1e-6, atol=1e-7)


def test_instance_norm_replaces_every_normalization():
    net = AmyloidClassifier(widen_factor=0.125, norm="instance")
    assert not any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    assert (
        sum(isinstance(module, nn.InstanceNorm2d) for module in net.modules()) == 20
    )  # as many as convolutions
    x = slices(3, 1, 48, 40)
    # What it says of a slice, in training too, is independent of the others; kernels may differ.
    torch.testing.assert_close(net(x)[1:2], net(x[1:2]), rtol=1e-4, atol=1e-5)


def test_smallest_image_under_instance_norm():
    net = AmyloidClassifier(widen_factor=0.125, norm="instance")
    assert net(slices(1, 1, 33, 33)).isfinite().all()
    with pytest.raises(
        InputError, match=r"at least 33 x 33 \(for instance norm in the last layers\), got \(32, 64\)"
    ):
        net(slices(1, 1, 32, 64))
    finer = AmyloidClassifier(widen_factor=0.125, norm="instance", conv1_stride=1)
    assert finer(slices(1, 1, 17, 17)).isfinite().all()
    with pytest.raises(InputError, match="at least 17 x 17"):
        finer(slices(1, 1, 16, 16))
