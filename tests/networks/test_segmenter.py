"""The lesion segmenter: MONAI's U-Net behind the package's interface."""

import pytest
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


def test_error_is_what_a_loop_over_pixels_gives():
    net = LesionSegmenter(channels=(4, 8)).eval()
    x, masks = slices(2, 1, 6, 4), torch.zeros(2, 1, 6, 4)
    masks[0, 0, 2:4, 1:3] = 1
    found = net.error(x, masks)
    for index in range(2):
        seen = net.probability(x)[index].flatten().tolist()
        truth = masks[index].flatten().tolist()
        both = sum(p * y for p, y in zip(seen, truth, strict=True))
        # float32 sums of 24 terms.
        expected = 1 - (2 * both + 1) / (sum(seen) + sum(truth) + 1)
        assert found[index].item() == pytest.approx(expected, rel=1e-5)


def test_error_is_0_where_nothing_is_and_nothing_is_seen():
    net = LesionSegmenter(channels=(4, 8)).eval()
    net.probability = torch.zeros_like
    assert net.error(slices(2, 1, 6, 4), torch.zeros(2, 1, 6, 4)).tolist() == [0, 0]
    whole = torch.ones(2, 1, 6, 4)
    net.probability = torch.ones_like
    assert net.error(whole, whole).tolist() == [0, 0]
