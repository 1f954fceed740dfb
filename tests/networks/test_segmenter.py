"""The lesion segmenter: MONAI's U-Net behind the package's interface."""

import torch
from torch import nn

from medrestore.networks.segmenter import LesionSegmenter


def slices(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_logits_lie_on_the_image():
    net = LesionSegmenter(channels=(4, 8, 8)).eval()
    x = slices(2, 1, 24, 16)
    assert net(x).shape == (2, 1, 24, 16)
    assert net.stride_multiple == 4
    # Both in float32, rounded differently.
    torch.testing.assert_close(net.probability(x), 1 / (1 + torch.exp(-net(x))), rtol=1e-5, atol=1e-7)


def test_learns_to_mark_bright_squares():
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
