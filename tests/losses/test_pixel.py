"""Pixel losses against NumPy."""

import numpy as np
import pytest
import torch

from medrestore.checks import InputError
from medrestore.losses.pixel import l1_loss, l2_loss


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 4, 5, generator=generator), torch.randn(2, 3, 4, 5, generator=generator)


def test_equal_numpy(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    a, b = (tensor.numpy().astype(np.float64) for tensor in pair)
    # float32 mean of 120 numbers: a few 2^-24.
    assert l1_loss(*pair).item() == pytest.approx(np.abs(a - b).mean(), rel=1e-6)
    assert l2_loss(*pair).item() == pytest.approx(((a - b) ** 2).mean(), rel=1e-6)


def test_gradients_by_hand(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    restored, target = pair[0].requires_grad_(), pair[1]
    (gradient,) = torch.autograd.grad(l1_loss(restored, target), restored)
    torch.testing.assert_close(gradient, torch.sign(restored - target) / 120)
    (gradient,) = torch.autograd.grad(l2_loss(restored, target), restored)
    torch.testing.assert_close(gradient, 2 * (restored - target) / 120)


@pytest.mark.parametrize("loss", [l1_loss, l2_loss])
def test_half_precision_is_summed_in_single(loss) -> None:
    # 4,096 differences of one: in bfloat16 a running sum would stop at 256.
    restored, target = torch.ones(1, 1, 64, 64, dtype=torch.bfloat16), torch.zeros(1, 1, 64, 64)
    value = loss(restored, target)
    assert value.dtype == torch.float32
    assert value.item() == 1.0


@pytest.mark.parametrize("loss", [l1_loss, l2_loss])
def test_shapes_that_would_broadcast_are_refused(loss) -> None:
    with pytest.raises(
        InputError, match=r"shapes must be equal, got restored \(2, 1, 4, 4\), target \(2, 4, 4\)"
    ):
        loss(torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4))
