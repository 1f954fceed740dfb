"""A generator that blends its own input: voxel by voxel, between the image as it is and smoothed ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medrestore.checks import InputError, require_in_range
from medrestore.networks.blocks import ImageNetwork, require_image_batch
from medrestore.networks.weights import network_class

__all__ = ["BlendGenerator"]

SHARPNESS, STRENGTH = 4.0, 10.0
"""Factors of the logits and of the residual's scale: both learn in steps of a size that is set for images,
about 1, and would lag behind. A residual that lags leaves very noisy images to the Gaussians."""


class BlendGenerator(ImageNetwork):
    r"""Convex blend of some input channels, and a residual, both by a network of images.

    .. math::
        G(x)_v = \sum_c \operatorname{softmax}_c\{4 l_{cv}(x)\}\, x_{cv} + 10 \rho\, r_v(x)

    The channels c are the image itself and Gaussians of it: how much is smoothed where is then a choice in
    each voxel, which holds at noise that training has not shown, and an image that is good already passes as
    it is. The base network gives logits l and residual r of all channels of x. rho is learned from 0 on: at
    the beginning the output is a blend, of nearly equal weights.

    Further attributes are those of :class:`~medrestore.networks.blocks.ImageNetwork`.

    Parameters
    ----------
    in_channels
        Channels of the input.
    candidates
        Those that are blended: channels of the input from 0, at least two.
    base
        The network of images: its class under ``network``, a name below ``medrestore.networks`` as
        ``unet.UNetGenerator``, and its arguments but for channels of input and output and the seed.
    seed
        Of the base network.

    Attributes
    ----------
    stride_multiple : int
        Of the base network.

    Raises
    ------
    InputError
        For candidates that are no channels of the input or too few, or a base that is no such network.

    Examples
    --------
    >>> base = {"network": "unet.UNetGenerator", "channels": [8, 16], "dropout_levels": 1}
    >>> generator = BlendGenerator(7, candidates=[2, 5, 6], base=base)
    >>> generator(torch.zeros(2, 7, 32, 40)).shape, generator.stride_multiple
    (torch.Size([2, 1, 32, 40]), 4)
    """

    def __init__(
        self, in_channels: int, *, candidates: Sequence[int], base: Mapping[str, Any], seed: int = 0
    ) -> None:
        super().__init__(locals())
        require_in_range("number of candidates", len(candidates), 2, float("inf"))
        for channel in candidates:
            require_in_range("candidates", channel, 0, in_channels - 1)
        settings = dict(base)
        kind = network_class(str(settings.pop("network", "")))
        if kind is None:
            raise InputError(
                f"base must name a network below medrestore.networks under 'network', got {dict(base)}"
            )
        self.base: nn.Module = kind(in_channels, len(candidates) + 1, **settings, seed=seed)
        self.stride_multiple = int(getattr(self.base, "stride_multiple", 1))
        self.residual_scale = nn.Parameter(torch.zeros(()))
        self.sharpness, self.strength = SHARPNESS, STRENGTH  # TorchScript knows no constants of a module
        self.candidates = [int(channel) for channel in candidates]

    def forward(self, x: Tensor) -> Tensor:
        """Restore a batch.

        Parameters
        ----------
        x : (B, in_channels, H, W) float
            Degraded slices and Gaussians of them.

        Returns
        -------
        (B, 1, H, W) float32
            Restored slices.

        Raises
        ------
        InputError
            When the channels differ, or as the base network.
        """
        require_image_batch(x, self.in_channels)
        found: Tensor = self.base(x).float()
        count = found.shape[1] - 1
        weights = torch.softmax(self.sharpness * found[:, :count], dim=1)
        shown = torch.stack([x[:, channel] for channel in self.candidates], dim=1).float()
        blended = (weights * shown).sum(1, keepdim=True)
        restored: Tensor = blended + self.strength * self.residual_scale * found[:, count:]
        return restored
