"""The discriminator D: one decision per image, and the activations that feature matching compares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from medrestore import rng
from medrestore.checks import InputError
from medrestore.networks.blocks import (
    ImageNetwork,
    initialize_normal,
    is_scripting,
    normalization,
    require_channels,
    require_image_batch,
    require_minimum_size,
)

__all__ = ["DiscriminatorOutput", "ImageDiscriminator"]


class DiscriminatorOutput(NamedTuple):
    """What D says of a batch and what it looked at.

    ``logits`` (B, 1): above zero for images taken to be real; ``features``: activations f of each layer, each
    (B, C, H, W).
    """

    logits: Tensor
    features: list[Tensor]


class ImageDiscriminator(ImageNetwork):
    """Classifier of whole images: 4 x 4 convolutions with stride 2, global average pool, linear layer.

    Further parameters, attributes and errors are those of
    :class:`~medrestore.networks.blocks.ImageNetwork`.

    Parameters
    ----------
    in_channels
        Channels of the image.
    channels
        Width of each layer.

    Notes
    -----
    Task-GAN, section "Networks": image classifier C64-C128-C256-C512-C512-C512; the first layer has no
    normalization, as in pix2pix. Not given there, hence as pix2pix's: kernel, stride, LeakyReLU(0.2). The
    global average pool accepts any size.

    Examples
    --------
    >>> output = ImageDiscriminator(1, channels=(8, 16))(torch.zeros(2, 1, 32, 32))
    >>> output.logits.shape, [tuple(feature.shape) for feature in output.features]
    (torch.Size([2, 1]), [(2, 8, 16, 16), (2, 16, 8, 8)])
    """

    def __init__(
        self,
        in_channels: int,
        *,
        channels: Sequence[int] = (64, 128, 256, 512, 512, 512),
        norm: str = "batch",
        seed: int = 0,
    ) -> None:
        super().__init__(locals())
        require_channels("channels", channels)
        self.norm = norm
        with rng.forked(seed, "ImageDiscriminator"):
            layers: list[nn.Module] = []
            for level, (before, width) in enumerate(
                zip([in_channels, *channels[:-1]], channels, strict=True)
            ):
                convolution = nn.Conv2d(before, width, 4, 2, 1, bias=level == 0)
                tail = [] if level == 0 else [normalization(norm, width)]
                layers.append(nn.Sequential(convolution, *tail, nn.LeakyReLU(0.2, inplace=True)))
            self.layers = nn.ModuleList(layers)
            self.classifier = nn.Linear(channels[-1], 1)
            initialize_normal(self)

    def forward(self, x: Tensor) -> DiscriminatorOutput:
        """Judge a batch.

        Parameters
        ----------
        x : (B, in_channels, H, W) float
            Target or restored slices.

        Returns
        -------
        DiscriminatorOutput
            Logits (B, 1) and the activations of every layer.

        Raises
        ------
        InputError
            When the channels differ or the last layers would be left with nothing, or with one value per
            channel to normalize over.
        """
        require_image_batch(x, self.in_channels)
        if not is_scripting():
            self._require_enough_left(x)
        features = []
        for layer in self.layers:
            x = layer(x)
            features.append(x)
        return DiscriminatorOutput(self.classifier(torch.mean(x, dim=(-2, -1))), features)

    def _require_enough_left(self, x: Tensor) -> None:
        levels = len(self.layers)
        require_minimum_size(x, 2**levels, reason=f"{levels} layers of stride 2")
        if levels > 1 and max(x.shape[-2:]) < 2 ** (levels + 1):  # the last layer's maps are 1 x 1
            if self.norm == "instance":
                raise InputError(
                    f"image must be at least {2 ** (levels + 1)} long on one side for instance norm in "
                    f"{levels} layers, got {tuple(x.shape[-2:])}. Remedy: fewer layers or batch norm"
                )
            if self.training and x.shape[0] == 1:
                raise InputError(
                    f"a batch of one {tuple(x.shape[-2:])} image leaves batch norm one value per channel in "
                    f"layer {levels}. Remedy: a larger batch or fewer layers"
                )
