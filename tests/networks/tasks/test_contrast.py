"""The contrast classifier: pix2pix's patch classifier with six layers and a logit per contrast."""

import pytest
import torch
from torch import nn

from medrestore.checks import InputError
from medrestore.networks.tasks.contrast import ContrastClassifier


def slices(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_paper_size_has_six_convolutions_and_the_parameters_counted_by_hand():
    with torch.device("meta"):
        net = ContrastClassifier()
        logits = net(torch.zeros(2, 1, 256, 192))
    convolutions = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert [(c.kernel_size, c.stride[0]) for c in convolutions] == [((4, 4), s) for s in (2, 2, 2, 2, 1, 1)]
    weights = 16 * (64 + 64 * 128 + 128 * 256 + 256 * 512 + 512 * 512 + 512 * 6)
    norms, biases = 2 * (128 + 256 + 512 + 512), 64 + 6
    assert sum(parameter.numel() for parameter in net.parameters()) == weights + norms + biases
    # 256 -> 128 -> 64 -> 32 -> 16, then two convolutions that take a pixel each; 192 alike.
    assert logits.shape == (2, 6, 14, 10)


@pytest.mark.parametrize(("channels", "strided", "side"), [((2,) * 5, 4, 142), ((2,) * 5, 2, 58)])
def test_receptive_field_is_where_the_gradient_reaches(channels, strided, side):
    """The paper-size stride pattern sees 142 x 142 pixels, the demo's 58 x 58."""
    # In evaluation mode: batch norm in training mode lets every pixel reach every logit.
    net = ContrastClassifier(channels=channels, strided_layers=strided).eval()
    assert net.receptive_field == side
    x = slices(1, 1, 224, 224).requires_grad_()
    logits = net(x)
    logits[0, :, logits.shape[2] // 2, logits.shape[3] // 2].sum().backward()
    rows, columns = torch.nonzero(x.grad[0, 0], as_tuple=True)
    assert int(rows.max() - rows.min()) + 1 == side
    assert int(columns.max() - columns.min()) + 1 == side


def test_probability_and_error_are_means_over_patches():
    net = ContrastClassifier(classes=3, channels=(4, 4, 4), strided_layers=2).eval()
    x = slices(2, 1, 32, 24)
    logits = net(x).detach().double().numpy()
    labels = torch.tensor([2, 0])
    error = net.error(x, labels)
    for image, label in enumerate(labels.tolist()):
        patches = []
        for row in range(logits.shape[2]):
            for column in range(logits.shape[3]):
                odds = [2.718281828459045**value for value in logits[image, :, row, column]]
                patches.append([value / sum(odds) for value in odds])
        mean = [sum(patch[index] for patch in patches) / len(patches) for index in range(3)]
        # float32 softmax and mean of 24 patches.
        assert net.probability(x)[image].tolist() == pytest.approx(mean, abs=1e-6)
        assert error[image].item() == pytest.approx(1 - mean[label], abs=1e-6)
    assert torch.equal(net.error(x, labels.float()), error)


def test_learns_two_textures():
    """Stripes along one axis or the other: what tells them apart is in every patch."""
    net = ContrastClassifier(classes=2, channels=(4, 8), strided_layers=1)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    stripes = torch.arange(16).remainder(4).float().expand(16, 16)
    x = torch.stack([stripes, stripes.T]).repeat(4, 1, 1)[:, None] + 0.1 * slices(8, 1, 16, 16)
    labels = torch.tensor([0, 1] * 4)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x).mean((2, 3)), labels).backward()
        optimizer.step()
    assert net.error(x, labels).max() < 0.25  # chance is 0.5


def test_norms_and_biases_are_pix2pixs():
    net = ContrastClassifier(channels=(4, 8, 8), strided_layers=2, norm="instance")
    assert [any(isinstance(m, nn.InstanceNorm2d) for m in layer) for layer in net.layers] == [
        False,
        True,
        True,
    ]
    biases = [layer[0].bias is not None for layer in net.layers]
    assert biases == [True, False, False]
    assert net.classifier.bias is not None


def test_smallest_image_has_one_patch():
    net = ContrastClassifier(channels=(2,) * 5).eval()
    assert net(slices(1, 1, 48, 48)).shape == (1, 6, 1, 1)
    with pytest.raises(InputError, match=r"at least 48 x 48 \(for 6 layers of 4 x 4 .*\), got \(47, 64\)"):
        net(slices(1, 1, 47, 64))
