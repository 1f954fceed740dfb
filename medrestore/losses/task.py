"""Losses through the task network T."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from medrestore.checks import InputError, require_in_set, require_same_shape

__all__ = ["CONTRAST_CRITERIA", "contrast_loss", "lesion_loss", "task_regression_loss"]

CONTRAST_CRITERIA = ("cross_entropy", "squared_error")
"""What T learns the contrast of a patch by."""


def task_regression_loss(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Return one term of Task-GAN's eq. 3, :math:`E(T(\cdot) - y)^2`, where T is the sigmoid of the logits.

    Parameters
    ----------
    logits : (B,) float
        What T says of each image.
    labels : (B,) float
        The property y of each image, 0 or 1.

    Returns
    -------
    () float32

    Raises
    ------
    InputError
        When the shapes differ.

    Examples
    --------
    >>> task_regression_loss(torch.zeros(2), torch.tensor([0.0, 1.0]))
    tensor(0.2500)
    """
    require_same_shape(logits=logits.shape, labels=labels.shape)
    return (torch.sigmoid(logits.float()) - labels.float()).square().mean()


def contrast_loss(logits: Tensor, labels: Tensor, *, criterion: str = "cross_entropy") -> Tensor:
    r"""Return one term of Task-GAN's eq. 3 for a patch classifier T, the softmax p of its logits.

    With the true contrast y of the image and the mean over images and their patches:

    - ``cross_entropy``: :math:`-E\log p_y`, softmax regression
    - ``squared_error``: :math:`E\sum_c (p_c - [c = y])^2`, eq. 3 with the one-hot vector of y

    Parameters
    ----------
    logits : (B, K, H, W) float
        What T says of each patch.
    labels : (B,) integer
        Index of the contrast of each image.
    criterion
        One of :data:`CONTRAST_CRITERIA`.

    Returns
    -------
    () float32

    Raises
    ------
    InputError
        For an unknown criterion, or when there is not one label for each image.

    Notes
    -----
    Task-GAN names softmax regression for the MRI contrasts and the squared error in eq. 3. The squared error
    of a patch is at most 2; the cross-entropy has no bound, and its gradient does not fade where T is
    certain of another contrast.

    Examples
    --------
    >>> contrast_loss(torch.zeros(2, 6, 3, 3), torch.tensor([0, 5]))  # log 6
    tensor(1.7918)
    """
    require_in_set("criterion", criterion, CONTRAST_CRITERIA)
    if logits.ndim != 4 or labels.shape != logits.shape[:1]:
        raise InputError(
            "logits must be (B, K, H, W) and labels (B,), "
            f"got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    patches = labels.long()[:, None, None].expand(-1, *logits.shape[2:])
    if criterion == "cross_entropy":
        return functional.cross_entropy(logits.float(), patches)
    truth = functional.one_hot(patches, logits.shape[1]).movedim(-1, 1)
    return (torch.softmax(logits.float(), dim=1) - truth).square().sum(1).mean()


def lesion_loss(logits: Tensor, masks: Tensor) -> Tensor:
    r"""Return what a lesion segmenter learns by: one minus Dice, and the binary cross-entropy.

    .. math::
        1 - \frac{2 \sum p y + \epsilon}{\sum p + \sum y + \epsilon} - E[y \log p + (1 - y) \log(1 - p)]

    with the sigmoid p of the logits, sums and mean over all pixels of all images together.

    Parameters
    ----------
    logits : (B, 1, H, W) float
        What the segmenter says of each pixel.
    masks : (B, 1, H, W)
        1 in a lesion, 0 elsewhere.

    Returns
    -------
    () float32

    Raises
    ------
    InputError
        When the shapes differ.

    Notes
    -----
    ``monai.losses.DiceCELoss``, epsilon 1e-5. Sums over images together: a slice without lesion has no Dice
    of its own.

    Examples
    --------
    >>> mask = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    >>> lesion_loss(torch.zeros(1, 1, 1, 2), mask)  # 1 - 1 / 2 + log 2
    tensor(1.1931)
    """
    from monai.losses.dice import DiceCELoss

    require_same_shape(logits=logits.shape, masks=masks.shape)
    loss: Tensor = DiceCELoss(sigmoid=True, batch=True)(logits.float(), masks.float())
    return loss
