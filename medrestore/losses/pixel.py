"""Losses that compare images pixel by pixel."""

from __future__ import annotations

from torch import Tensor

from medrestore.checks import require_same_shape

__all__ = ["l1_loss", "l2_loss"]


def l1_loss(restored: Tensor, target: Tensor) -> Tensor:
    r"""Return the mean absolute error, :math:`E\|G(\tilde x, z) - x\|_1` per pixel (Task-GAN, eq. 1).

    Parameters
    ----------
    restored, target : (B, C, H, W) float
        Restored images and their targets.

    Returns
    -------
    () float32

    Raises
    ------
    InputError
        When the shapes differ: broadcasting would compare what does not belong together.

    Examples
    --------
    >>> import torch
    >>> l1_loss(torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, -3.0]]]]))
    tensor(2.)
    """
    require_same_shape(restored=restored.shape, target=target.shape)
    return (restored.float() - target.float()).abs().mean()


def l2_loss(restored: Tensor, target: Tensor) -> Tensor:
    r"""Return the mean squared error, :math:`E\|G(\tilde x) - x\|_2^2` per pixel.

    Parameters
    ----------
    restored, target : (B, C, H, W) float
        Restored images and their targets.

    Returns
    -------
    () float32

    Raises
    ------
    InputError
        When the shapes differ.

    Examples
    --------
    >>> import torch
    >>> l2_loss(torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, -3.0]]]]))
    tensor(5.)
    """
    require_same_shape(restored=restored.shape, target=target.shape)
    return (restored.float() - target.float()).square().mean()
