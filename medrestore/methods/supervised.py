"""Supervised learning: one network that learns what its images are to give, with no other beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from medrestore.checks import InputError
from medrestore.methods.base import Minimizer, Step

__all__ = ["Supervised"]


class Supervised(Step):
    """A segmenter, a classifier or an autoencoder, trained by itself; its loss has the network's name.

    Parameters
    ----------
    networks
        The one that learns, by its name: ``image`` -> what ``loss`` compares with ``label``.
    optimizers
        Under the same name.
    loss
        Called with the network's output and the label, both float; returns a scalar.
    method
        Name of what is learned, in checkpoints and provenance.

    Raises
    ------
    InputError
        When there is not exactly one network.

    Notes
    -----
    A segmenter's ``image`` is the true image, its ``label`` the mask, 0 or 1, and its loss Dice and
    cross-entropy together (``monai.losses.DiceCELoss``): no degraded image is seen here.
    """

    def __init__(
        self,
        *,
        networks: Mapping[str, nn.Module],
        optimizers: Mapping[str, torch.optim.Optimizer],
        loss: Callable[[Tensor, Tensor], Tensor],
        method: str = "supervised",
    ) -> None:
        super().__init__(networks=networks, optimizers=optimizers)
        if len(networks) != 1:
            raise InputError(f"networks must hold one network, got {sorted(networks)}")
        (self.averaged,) = networks
        self.loss = loss
        self.method = method

    def step(self, engine: Minimizer, batch: Mapping[str, Tensor]) -> dict[str, float | Tensor]:
        """Let the network step; return its loss."""
        loss = self.loss(self.networks[self.averaged](batch["image"]).float(), batch["label"].float())
        engine.minimize(self.averaged, loss)
        return {self.averaged: loss.detach()}
