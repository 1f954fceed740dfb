"""Segmentation: one network that learns to mark lesions, for judging what restorations keep of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from medrestore.methods.base import Minimizer, Step

__all__ = ["Segmentation"]


class Segmentation(Step):
    """A segmenter trained by itself on true images.

    Parameters
    ----------
    networks
        ``segmenter``: (B, 1, H, W) slices -> (B, 1, H, W) logits.
    optimizers
        Under the same name.
    loss
        Called with logits and mask, both (B, 1, H, W) float; returns a scalar. ``monai.losses.DiceCELoss``:
        Dice and cross-entropy together.

    Notes
    -----
    A batch's ``image`` is the true image and its ``label`` the mask, 0 or 1: no degraded image is seen here.
    """

    method = "segmentation"
    averaged = "segmenter"

    def __init__(
        self,
        *,
        networks: Mapping[str, nn.Module],
        optimizers: Mapping[str, torch.optim.Optimizer],
        loss: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        super().__init__(networks=networks, optimizers=optimizers)
        self.loss = loss

    def step(self, engine: Minimizer, batch: Mapping[str, Tensor]) -> dict[str, float | Tensor]:
        """Let the segmenter step; return its loss."""
        loss = self.loss(self.networks["segmenter"](batch["image"]).float(), batch["label"].float())
        engine.minimize("segmenter", loss)
        return {"segmenter": loss.detach()}
