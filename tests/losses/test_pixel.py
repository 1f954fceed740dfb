"""Pixel losses against NumPy, by hand, and their derivatives."""

import math
import re

import numpy as np
import pytest
import torch

from medrestore.checks import InputError
from medrestore.losses.pixel import l1_loss, l2_loss, quasi_norm_loss

EXPONENTS = (0.25, 0.5, 1.0, 1.5)


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 4, 5, generator=generator), torch.randn(2, 3, 4, 5, generator=generator)


def test_equal_numpy(pair):
    a, b = (tensor.numpy().astype(np.float64) for tensor in pair)
    # float32 mean of 120 numbers: a few 2^-24.
    assert l1_loss(*pair).item() == pytest.approx(np.abs(a - b).mean(), rel=1e-6)
    assert l2_loss(*pair).item() == pytest.approx(((a - b) ** 2).mean(), rel=1e-6)


def test_gradients_by_hand(pair):
    restored, target = pair[0].requires_grad_(), pair[1]
    (gradient,) = torch.autograd.grad(l1_loss(restored, target), restored)
    torch.testing.assert_close(gradient, torch.sign(restored - target) / 120)
    (gradient,) = torch.autograd.grad(l2_loss(restored, target), restored)
    torch.testing.assert_close(gradient, 2 * (restored - target) / 120)


@pytest.mark.parametrize("loss", [l1_loss, l2_loss])
def test_half_precision_is_summed_in_single(loss):
    # 4,096 differences of one: in bfloat16 a running sum would stop at 256.
    restored, target = torch.ones(1, 1, 64, 64, dtype=torch.bfloat16), torch.zeros(1, 1, 64, 64)
    value = loss(restored, target)
    assert value.dtype == torch.float32
    assert value.item() == 1.0


@pytest.mark.parametrize("loss", [l1_loss, l2_loss])
def test_shapes_that_would_broadcast_are_refused(loss):
    with pytest.raises(
        InputError, match=r"shapes must be equal, got restored \(2, 1, 4, 4\), target \(2, 4, 4\)"
    ):
        loss(torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4))


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_exponent_2_without_epsilon_is_the_mean_squared_error():
    restored, target = normal(2, 3, 4, 5), normal(2, 3, 4, 5, seed=1)
    assert torch.equal(quasi_norm_loss(restored, target, exponent=2, epsilon=0), l2_loss(restored, target))


@pytest.mark.parametrize(
    ("exponent", "epsilon", "expected"),
    [
        (2.0, 1.0, (10 + 1) / 2),  # residuals 3 and 0
        (1.0, 16.0, (5 + 4) / 2),
        (0.5, 7.0, (2 + 7**0.25) / 2),
        (1.5, 7.0, (8 + 7**0.75) / 2),
    ],
)
def test_quasi_norm_by_hand(exponent, epsilon, expected):
    loss = quasi_norm_loss(
        torch.tensor([1.0, 2.0]), torch.tensor([-2.0, 2.0]), exponent=exponent, epsilon=epsilon
    )
    assert loss.item() == pytest.approx(expected, rel=1e-6)  # float32
    swapped = quasi_norm_loss(
        torch.tensor([-2.0, 2.0]), torch.tensor([1.0, 2.0]), exponent=exponent, epsilon=epsilon
    )
    assert torch.equal(swapped, loss)


def test_quasi_norm_does_not_depend_on_the_size():
    residual = normal(3, 5)
    one, many = (
        quasi_norm_loss(x, torch.zeros_like(x), exponent=0.5, epsilon=1e-3)
        for x in (residual, residual.repeat(4, 7))
    )
    torch.testing.assert_close(one, many)


@pytest.mark.parametrize("exponent", [*EXPONENTS, 2.0])
@pytest.mark.parametrize("scale", [0.0, 1e-4, 1e-2, 1.0])
def test_quasi_norm_gradient(exponent, scale):
    """Also at and near residuals of zero, where the plain quasi-norm has no derivative."""
    target = normal(3, 4, dtype=torch.float64)
    restored = (target + scale * normal(3, 4, seed=1, dtype=torch.float64)).requires_grad_()
    # Steps of 1e-6 are far below sqrt(epsilon) = 0.03, on which the loss bends.
    assert torch.autograd.gradcheck(
        lambda x: quasi_norm_loss(x, target, exponent=exponent, epsilon=1e-3), (restored,)
    )


def slopes(residual: torch.Tensor, *, exponent: float, epsilon: float) -> torch.Tensor:
    residual = residual.clone().requires_grad_()
    loss = quasi_norm_loss(residual, torch.zeros_like(residual), exponent=exponent, epsilon=epsilon)
    (gradient,) = torch.autograd.grad(loss * residual.numel(), residual)
    return gradient


@pytest.mark.parametrize("epsilon", [1e-6, 1e-4, 1e-2])
@pytest.mark.parametrize("exponent", EXPONENTS)
def test_quasi_norm_gradient_keeps_its_bounds(exponent, epsilon):
    q = exponent
    residual = torch.logspace(-8, 2, 20001, dtype=torch.float64)
    gradient = slopes(residual, exponent=q, epsilon=epsilon)
    more = 1 + 1e-12  # float64
    assert (gradient <= more * q * residual ** (q - 1)).all()
    assert (gradient <= more * q * epsilon ** (q / 2 - 1) * residual).all()
    if q < 1:
        bound = q * epsilon ** ((q - 1) / 2) * (1 - q) ** ((1 - q) / 2) * (2 - q) ** ((q - 2) / 2)
        peak = math.sqrt(epsilon / (1 - q))
        assert gradient.max() <= more * bound
        at_peak = slopes(torch.tensor([peak], dtype=torch.float64), exponent=q, epsilon=epsilon)
        assert at_peak.item() == pytest.approx(bound, rel=1e-12)
    if q == 1:
        assert gradient.max() < 1


def test_outlier_pulls_quasi_norm_less_than_by_the_squared_error():
    """One number for all observations: the outlier moves the mean, hardly the minimum of the quasi-norm."""
    observations = torch.tensor([0.50, 0.49, 0.51, 0.50, 0.50, 0.49, 0.51, 0.50, 0.50, 1.0])
    grid = torch.linspace(0, 1, 1001)
    best = {
        q: min(
            grid.tolist(),
            key=lambda value: quasi_norm_loss(
                torch.full_like(observations, value), observations, exponent=q, epsilon=1e-4
            ).item(),
        )
        for q in (2.0, 1.0, 0.5)
    }
    assert best[2.0] == pytest.approx(0.55, abs=1e-3)  # the mean
    assert best[1.0] == pytest.approx(0.50, abs=5e-3)
    assert abs(best[0.5] - 0.5) <= abs(best[1.0] - 0.5)


def test_quasi_norm_of_half_precision_is_computed_in_single():
    restored, target = torch.ones(64, 64, dtype=torch.bfloat16), torch.zeros(64, 64)
    loss = quasi_norm_loss(restored, target, exponent=1.0, epsilon=1e-6)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(1.0, rel=1e-6)
    both = quasi_norm_loss(
        torch.tensor([256.0], dtype=torch.bfloat16),
        torch.tensor([0.5], dtype=torch.bfloat16),
        exponent=2,
        epsilon=0,
    )
    assert both.item() == 255.5**2  # bfloat16 holds 255 and 256


def test_quasi_norm_of_what_does_not_fit():
    x = torch.zeros(2, 3)
    with pytest.raises(InputError, match="shapes must be equal"):
        quasi_norm_loss(x, torch.zeros(3), exponent=2, epsilon=0)
    for exponent in (0.0, 2.5, -1.0):
        with pytest.raises(InputError, match=re.escape("exponent must be in (0, 2], got")):
            quasi_norm_loss(x, x, exponent=exponent, epsilon=1e-4)
    with pytest.raises(InputError, match="epsilon must be in"):
        quasi_norm_loss(x, x, exponent=1, epsilon=-1e-4)
    with pytest.raises(InputError, match="epsilon must be positive for exponent 1"):
        quasi_norm_loss(x, x, exponent=1, epsilon=0)
