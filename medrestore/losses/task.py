"""Losses through the task network T."""

from __future__ import annotations

import torch
from torch import Tensor

from medrestore.checks import require_same_shape

__all__ = ["task_regression_loss"]


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
