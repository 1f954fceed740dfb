"""The task losses by hand."""

import math

import pytest
import torch
from sklearn.metrics import log_loss
from sklearn.preprocessing import label_binarize

from medrestore.checks import InputError
from medrestore.losses.task import CONTRAST_CRITERIA, contrast_loss, lesion_loss, task_regression_loss


def test_value_by_hand():
    # sigmoid(log 3) = 3/4, sigmoid(-log 4) = 1/5: (1/4)^2 and (1/5)^2.
    value = task_regression_loss(torch.tensor([math.log(3), -math.log(4)]), torch.tensor([1.0, 0.0]))
    assert value.item() == pytest.approx((1 / 16 + 1 / 25) / 2, rel=1e-6)  # float32


def test_gradient_pulls_the_logit_toward_the_label():
    logits = torch.zeros(2, requires_grad=True)
    task_regression_loss(logits, torch.tensor([1.0, 0.0])).backward()
    # d/ds (sigmoid(s) - y)^2 / 2 at s = 0: (1/2 - y) * 1/4.
    torch.testing.assert_close(logits.grad, torch.tensor([-0.125, 0.125]))


def test_half_precision_logits_are_compared_in_single():
    logits = torch.tensor([1.0], dtype=torch.bfloat16)
    value = task_regression_loss(logits, torch.ones(1))
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx((1 - 1 / (1 + math.exp(-1))) ** 2, rel=1e-6)


def test_column_of_logits_is_refused():
    with pytest.raises(InputError, match=r"logits \(4, 1\), labels \(4,\)"):
        task_regression_loss(torch.zeros(4, 1), torch.zeros(4))


def patch_logits() -> torch.Tensor:
    """Two images of 1 x 2 patches over three contrasts, whose softmax is easy by hand."""
    odds = torch.tensor([[[1, 2], [1, 1], [2, 1]], [[3, 1], [1, 1], [1, 3]]])
    return odds[:, :, None].float().log()


def test_contrast_loss_by_hand():
    labels = torch.tensor([2, 0])
    # Probabilities of the true contrast: 2/4 and 1/4 in the first image, 3/5 and 1/5 in the second.
    cross_entropy = -(math.log(2 / 4) + math.log(1 / 4) + math.log(3 / 5) + math.log(1 / 5)) / 4
    squared = [(1 / 4) ** 2 + (1 / 4) ** 2 + (2 / 4) ** 2, (2 / 4) ** 2 + (1 / 4) ** 2 + (3 / 4) ** 2]
    squared += [(2 / 5) ** 2 + (1 / 5) ** 2 + (1 / 5) ** 2, (4 / 5) ** 2 + (1 / 5) ** 2 + (3 / 5) ** 2]
    value = contrast_loss(patch_logits(), labels)
    assert value.item() == pytest.approx(cross_entropy, rel=1e-6)  # float32
    value = contrast_loss(patch_logits(), labels, criterion="squared_error")
    assert value.item() == pytest.approx(sum(squared) / 4, rel=1e-6)


def test_contrast_loss_is_softmax_regression_over_patches():
    logits = torch.randn(3, 4, 2, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([3, 0, 1])
    probability = torch.softmax(logits.double(), 1).permute(0, 2, 3, 1).reshape(-1, 4).numpy()
    truth = labels.repeat_interleave(10).numpy()
    expected = log_loss(truth, probability, labels=range(4))
    # scikit-learn works in float64, the loss in float32.
    assert contrast_loss(logits, labels).item() == pytest.approx(expected, rel=1e-5)
    brier = ((probability - label_binarize(truth, classes=range(4))) ** 2).sum(1).mean()
    assert contrast_loss(logits, labels, criterion="squared_error").item() == pytest.approx(brier, rel=1e-5)


def test_gradient_of_cross_entropy_does_not_fade_where_t_is_certain_of_another_contrast():
    gradients = {}
    for criterion in CONTRAST_CRITERIA:
        logits = torch.tensor([20.0, 0.0]).reshape(1, 2, 1, 1).requires_grad_()
        contrast_loss(logits, torch.tensor([1]), criterion=criterion).backward()
        gradients[criterion] = logits.grad[0, 1, 0, 0].item()
    assert gradients["cross_entropy"] == pytest.approx(-1, abs=1e-6)  # p_1 - 1, p_1 = e^-20
    assert abs(gradients["squared_error"]) < 1e-7


def test_contrast_loss_of_half_precision_logits_is_single():
    value = contrast_loss(patch_logits().bfloat16(), torch.tensor([2, 0]))
    assert value.dtype == torch.float32


def test_faulty_contrast_logits_are_refused():
    with pytest.raises(InputError, match=r"got \(2, 3\) and \(2,\)"):
        contrast_loss(torch.zeros(2, 3), torch.zeros(2))
    with pytest.raises(InputError, match=r"got \(2, 3, 1, 1\) and \(3,\)"):
        contrast_loss(torch.zeros(2, 3, 1, 1), torch.zeros(3))
    with pytest.raises(InputError, match="criterion must be one of 'cross_entropy', 'squared_error'"):
        contrast_loss(torch.zeros(2, 3, 1, 1), torch.zeros(2), criterion="hinge")


# ---------------------------------------------------------------------------- lesions
def test_lesion_loss_is_dice_and_cross_entropy_over_all_pixels_together():
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 1, 4, 5, generator=random, requires_grad=True)
    masks = (torch.rand(3, 1, 4, 5, generator=random) > 0.7).float()
    masks[1] = 0  # a slice without lesion has no Dice of its own
    value = lesion_loss(logits, masks)
    probability = torch.sigmoid(logits.detach()).double().numpy().ravel()
    truth = masks.numpy().ravel()
    dice = (2 * (probability * truth).sum() + 1e-5) / (probability.sum() + truth.sum() + 1e-5)
    # float32 sums of sixty terms.
    assert value.item() == pytest.approx(1 - dice + log_loss(truth, probability), rel=1e-5)
    value.backward()
    assert (torch.sign(logits.grad) == 1 - 2 * masks).all()  # down outside of lesions, up inside
    with pytest.raises(InputError, match="masks"):
        lesion_loss(logits, masks[:2])
