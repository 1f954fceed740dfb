"""Losses between generator and discriminator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from medrestore.checks import InputError, require_in_set, require_same_shape

__all__ = ["CRITERIA", "discriminator_loss", "feature_matching_loss", "generator_adversarial_loss"]

CRITERIA = ("bce", "least_squares", "hinge")
"""What D learns D(x) = 1, D(G(x~)) = 0 by."""


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor, *, criterion: str = "bce") -> Tensor:
    r"""Return D's loss: the target is real, the restored image is not.

    With logits :math:`r = D(x)`, :math:`s = D(G(\tilde x))` and means over the batch:

    - ``bce``: :math:`-E\log\sigma(r) - E\log(1 - \sigma(s))`
    - ``least_squares``: :math:`E(r - 1)^2 + E s^2` (Mao 2017)
    - ``hinge``: :math:`E\max(0, 1 - r) + E\max(0, 1 + s)` (Lim and Ye 2017)

    Parameters
    ----------
    real_logits, fake_logits : (B, 1) float
        D on targets and on detached restorations.
    criterion
        One of :data:`CRITERIA`.

    Returns
    -------
    () float32

    Raises
    ------
    InputError
        For an unknown criterion.

    Notes
    -----
    Task-GAN leaves the criterion open; it says D(x) = 1 and D(G(x~)) = 0. The two terms are added, not
    averaged.

    Examples
    --------
    >>> discriminator_loss(torch.zeros(2, 1), torch.zeros(2, 1))  # 2 log 2
    tensor(1.3863)
    """
    require_in_set("criterion", criterion, CRITERIA)
    real, fake = real_logits.float(), fake_logits.float()
    if criterion == "bce":
        return functional.softplus(-real).mean() + functional.softplus(fake).mean()
    if criterion == "least_squares":
        return (real - 1).square().mean() + fake.square().mean()
    return functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()


def generator_adversarial_loss(fake_logits: Tensor, *, criterion: str = "bce") -> Tensor:
    r"""Return G's loss on D's decision, in the non-saturating form.

    ``bce``: :math:`-E\log\sigma(s)`; ``least_squares``: :math:`E(s - 1)^2`; ``hinge``: :math:`-E s`.

    Parameters
    ----------
    fake_logits : (B, 1) float
        D on restorations, not detached.
    criterion
        One of :data:`CRITERIA`.

    Returns
    -------
    () float32

    Raises
    ------
    InputError
        For an unknown criterion.

    Examples
    --------
    >>> generator_adversarial_loss(torch.zeros(2, 1))  # log 2
    tensor(0.6931)
    """
    require_in_set("criterion", criterion, CRITERIA)
    fake = fake_logits.float()
    if criterion == "bce":
        return functional.softplus(-fake).mean()
    if criterion == "least_squares":
        return (fake - 1).square().mean()
    return -fake.mean()


def feature_matching_loss(
    real_features: Sequence[Tensor], fake_features: Sequence[Tensor], *, layers: Sequence[int] | None = None
) -> Tensor:
    r"""Return the distance between D's mean activations on targets and on restorations (Task-GAN, eq. 2).

    .. math::
        \frac1L \sum_l \frac{1}{\sqrt{N_l}} \left\| E_x f_l(x) - E_{\tilde x} f_l(G(\tilde x, z)) \right\|_2

    with :math:`N_l = C_l H_l W_l` activations in layer l, and means over the batch.

    Parameters
    ----------
    real_features, fake_features : L tensors of shape (B, C, H, W), float
        Activations of each layer; no gradient flows into ``real_features``.
    layers
        Which layers to compare; negative numbers count from the last. All when not given.

    Returns
    -------
    () float32

    Raises
    ------
    InputError
        When the layers' shapes differ, there are none, or ``layers`` names one that is not there.

    Notes
    -----
    The mean over layers and the division are not in the paper: with them lambda depends neither on D's depth
    nor on its width or the image's size. Under torch.distributed the batch is the joint batch of all
    processes, which must be equally large. Each process then holds the same loss, and gradients that are
    averaged over processes (DistributedDataParallel) are those of one process with the joint batch.

    Examples
    --------
    >>> real, fake = torch.ones(2, 3, 4, 4), torch.full((2, 3, 4, 4), 3.0)
    >>> feature_matching_loss([real], [fake])
    tensor(2.)
    """
    if len(real_features) != len(fake_features) or not real_features:
        raise InputError(
            f"features must be of equally many layers, got {len(real_features)} and {len(fake_features)}"
        )
    chosen = range(len(real_features)) if layers is None else layers
    if not chosen or any(not -len(real_features) <= layer < len(real_features) for layer in chosen):
        raise InputError(
            f"layers must name at least one of the {len(real_features)} layers, got {list(chosen)}"
        )
    for layer in chosen:
        require_same_shape(real=real_features[layer].shape[1:], fake=fake_features[layer].shape[1:])
    # Activations may be bfloat16, whose 8 bits would lose the small difference of two means.
    real = [real_features[layer].detach().mean(0, dtype=torch.float32).flatten() for layer in chosen]
    fake = [fake_features[layer].mean(0, dtype=torch.float32).flatten() for layer in chosen]
    difference = _mean_over_processes(torch.cat(fake) - torch.cat(real))
    parts = difference.split([part.numel() for part in fake])
    norms = [torch.linalg.vector_norm(part) / part.numel() ** 0.5 for part in parts]
    return torch.stack(norms).mean()


def _mean_over_processes(local: Tensor) -> Tensor:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return local
    if torch.distributed.get_world_size() == 1:
        return local
    averaged: Tensor = _MeanOverProcesses.apply(local)
    return averaged


class _MeanOverProcesses(torch.autograd.Function):
    """Mean of a tensor over processes, for a loss that every process computes alike from it.

    The exact gradient with respect to a process's share is the sum over processes of dL/dmean, divided by
    their number: as all of them are equal, that is the process's own dL/dmean, and nothing need be sent.
    """

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:  # noqa: ARG004 (the signature is torch's)
        mean = local.clone()
        torch.distributed.all_reduce(mean)
        return mean / torch.distributed.get_world_size()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        return gradients[0]
