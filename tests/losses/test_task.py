"""The task loss by hand."""

import math

import pytest
import torch

from medrestore.checks import InputError
from medrestore.losses.task import task_regression_loss


def test_value_by_hand() -> None:
    # sigmoid(log 3) = 3/4, sigmoid(-log 4) = 1/5: (1/4)^2 and (1/5)^2.
    value = task_regression_loss(torch.tensor([math.log(3), -math.log(4)]), torch.tensor([1.0, 0.0]))
    assert value.item() == pytest.approx((1 / 16 + 1 / 25) / 2, rel=1e-6)  # float32


def test_gradient_pulls_the_logit_toward_the_label() -> None:
    logits = torch.zeros(2, requires_grad=True)
    task_regression_loss(logits, torch.tensor([1.0, 0.0])).backward()
    # d/ds (sigmoid(s) - y)^2 / 2 at s = 0: (1/2 - y) * 1/4.
    torch.testing.assert_close(logits.grad, torch.tensor([-0.125, 0.125]))


def test_half_precision_logits_are_compared_in_single() -> None:
    logits = torch.tensor([1.0], dtype=torch.bfloat16)
    value = task_regression_loss(logits, torch.ones(1))
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx((1 - 1 / (1 + math.exp(-1))) ** 2, rel=1e-6)


def test_column_of_logits_is_refused() -> None:
    with pytest.raises(InputError, match=r"logits \(4, 1\), labels \(4,\)"):
        task_regression_loss(torch.zeros(4, 1), torch.zeros(4))
