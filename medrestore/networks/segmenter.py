"""The lesion segmenter: a small U-Net that says for every pixel whether it lies in a lesion."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medrestore import rng
from medrestore.checks import require_in_range, require_in_set
from medrestore.networks.blocks import (
    NORMS,
    ImageNetwork,
    require_channels,
    require_image_batch,
    require_stride_multiple,
)

__all__ = ["LesionSegmenter"]


class LesionSegmenter(ImageNetwork):
    """MONAI's residual U-Net in two dimensions with one output: the logit of lesion.

    Further parameters, attributes and errors are those of
    :class:`~medrestore.networks.blocks.ImageNetwork`.

    Parameters
    ----------
    in_channels
        Channels of the slice.
    channels
        Width of each level, outermost first; from each to the next the image is halved.
    residual_units
        Convolutions in each level's residual block.

    Attributes
    ----------
    stride_multiple : int
        H and W must be positive multiples of it: 2 ** (len(channels) - 1).

    Notes
    -----
    It judges restored images by what it finds in them, so it is trained on true images alone. One that is
    part of a generator's loss is another, of another seed: its word on that generator is no evidence. Layers
    and initialization are MONAI's (``monai.networks.nets.UNet``).

    Examples
    --------
    >>> segmenter = LesionSegmenter(channels=(4, 8, 8))
    >>> segmenter(torch.zeros(2, 1, 32, 40)).shape, segmenter.stride_multiple
    (torch.Size([2, 1, 32, 40]), 4)
    """

    def __init__(
        self,
        in_channels: int = 1,
        *,
        channels: Sequence[int] = (16, 32, 64, 128),
        residual_units: int = 2,
        norm: str = "batch",
        seed: int = 0,
    ) -> None:
        super().__init__(locals())
        require_channels("channels", channels)
        require_in_range("levels of channels", len(channels), 2, float("inf"))
        require_in_range("residual_units", residual_units, 0, 100)
        require_in_set("norm", norm, NORMS)
        self.stride_multiple = 2 ** (len(channels) - 1)
        from monai.networks.nets.unet import UNet

        with rng.forked(seed, "LesionSegmenter"):
            self.unet = UNet(
                spatial_dims=2,
                in_channels=in_channels,
                out_channels=1,
                channels=tuple(channels),
                strides=(2,) * (len(channels) - 1),
                num_res_units=residual_units,
                norm=(norm, {"affine": True}),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logit of lesion of every pixel.

        Parameters
        ----------
        x : (B, in_channels, H, W) float
            True or restored slices of the contrast that the segmenter was trained on.

        Returns
        -------
        (B, 1, H, W) float
            Logits.

        Raises
        ------
        InputError
            When the channels differ or H or W is no positive multiple of ``stride_multiple``.
        """
        require_image_batch(x, self.in_channels)
        require_stride_multiple(x, self.stride_multiple)
        logits: Tensor = self.unet(x)
        return logits

    def probability(self, x: Tensor) -> Tensor:
        """Return the probability of lesion of every pixel, (B, 1, H, W)."""
        return torch.sigmoid(self(x).float())

    def error(self, x: Tensor, masks: Tensor) -> Tensor:
        """Return how wrong each image is: 1 - Dice of the probabilities, softened by a pixel.

        An image without lesion, in which none is seen, has 0.

        Parameters
        ----------
        x : (B, in_channels, H, W) float
        masks : (B, 1, H, W)
            1 in a lesion.

        Returns
        -------
        (B,) float32, in [0, 1]
        """
        seen, truth = self.probability(x).flatten(1), masks.float().flatten(1)
        return 1 - (2 * (seen * truth).sum(1) + 1) / (seen.sum(1) + truth.sum(1) + 1)
