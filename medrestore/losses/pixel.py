"""Losses that compare images pixel by pixel."""

from __future__ import annotations

import torch
from torch import Tensor

from medrestore.checks import InputError, require_in_range, require_same_shape

__all__ = ["l1_loss", "l2_loss", "quasi_norm_loss"]


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

    It takes, gives and refuses what :func:`l1_loss` does.

    Examples
    --------
    >>> import torch
    >>> l2_loss(torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, -3.0]]]]))
    tensor(5.)
    """
    require_same_shape(restored=restored.shape, target=target.shape)
    return (restored.float() - target.float()).square().mean()


def quasi_norm_loss(restored: Tensor, target: Tensor, *, exponent: float, epsilon: float) -> Tensor:
    r"""Return the robust error :math:`E (a^2 + \epsilon)^{q/2}` of the residuals a = restored - target.

    Parameters
    ----------
    restored, target : any one shape, float
        Restored images and their targets, or their encodings.
    exponent
        q, in (0, 2]: 2 is the squared error, less of it gives large residuals less weight.
    epsilon
        Added to each squared residual; positive for q < 2.

    Returns
    -------
    () float32 (float64 for float64 input)

    Raises
    ------
    InputError
        When the shapes differ or a parameter is out of its range.

    Notes
    -----
    L_F and L_M of SRGAN_SQE, section 2.2: the q-th power of the epsilon-regularized q-quasi-norm. Here the
    mean over elements takes the place of the sum, so that weights depend neither on the image's size nor on
    the encoder's width.

    A residual's gradient is :math:`q a (a^2 + \epsilon)^{q/2 - 1}` (over the number of elements): the squared
    error's, scaled down where the residual is large. It is at most :math:`q |a|^{q-1}`, which for q < 1 grows
    without bound as a vanishes; epsilon bounds it. For q < 1 it is largest at
    :math:`|a| = \sqrt{\epsilon / (1 - q)}`, where it is

    .. math::
        q\, \epsilon^{(q-1)/2}\, (1 - q)^{(1-q)/2}\, (2 - q)^{(q-2)/2},

    for q = 1 it stays below 1, and for all q it is at most :math:`q \epsilon^{q/2-1} |a|`, so it passes
    through zero with a finite slope. Residuals well below :math:`\sqrt\epsilon` are treated as by the squared
    error: choose it near the noise of good images.

    Examples
    --------
    >>> quasi_norm_loss(torch.zeros(2), torch.tensor([3.0, 0.0]), exponent=1.0, epsilon=16.0)  # (5 + 4) / 2
    tensor(4.5000)
    """
    require_same_shape(restored=restored.shape, target=target.shape)
    require_in_range("exponent", exponent, 0, 2, include_low=False)
    require_in_range("epsilon", epsilon, 0, float("inf"), include_high=False)
    if exponent < 2 and epsilon == 0:
        raise InputError(
            f"epsilon must be positive for exponent {exponent}: the gradient has no bound at 0. "
            "Remedy: set it near the squared noise of good images, such as 1e-4"
        )
    double = torch.float64 in (restored.dtype, target.dtype)
    residual = restored - target if double else restored.float() - target.float()
    squared = residual.square()
    if exponent == 2:
        return squared.mean() + epsilon
    return (squared + epsilon).pow(exponent / 2).mean()
