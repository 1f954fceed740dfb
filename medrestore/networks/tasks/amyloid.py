"""The task network T of amyloid PET: is the subject of this axial slice amyloid-positive."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medrestore import rng
from medrestore.checks import require_in_range, require_in_set
from medrestore.networks.blocks import (
    NORMS,
    ImageNetwork,
    normalization,
    require_image_batch,
    require_minimum_size,
)
from medrestore.networks.precision import NARROWEST_STRIDED_CONVOLUTION

__all__ = ["NARROWEST", "AmyloidClassifier"]

NARROWEST = NARROWEST_STRIDED_CONVOLUTION / 64
"""Smallest ``widen_factor``: the first shortcut has 64 times as many input channels."""


class AmyloidClassifier(ImageNetwork):
    """ResNet18 in two dimensions with one output: the logit of amyloid positivity.

    Further parameters, attributes and errors are those of
    :class:`~medrestore.networks.blocks.ImageNetwork`.

    Parameters
    ----------
    in_channels
        Channels of the slice.
    widen_factor
        Multiplies the width of every layer (64, 128, 256, 512 at 1); at least 1/8, since gradients of
        narrower strided shortcuts are wrong on some processors
        (:func:`~medrestore.networks.precision.require_sound_gradients`).
    conv1_stride
        Stride of the first convolution; 2 is the published ResNet18.

    Notes
    -----
    Task-GAN, section "Networks": T = ResNet18 pretrained on the standard-dose images. Layers and
    initialization are MONAI's; its ``norm`` argument reaches the first layer alone, so the normalizations are
    exchanged here.

    Examples
    --------
    >>> classifier = AmyloidClassifier(widen_factor=0.125).eval()
    >>> classifier(torch.zeros(2, 1, 64, 64)).shape
    torch.Size([2])
    """

    def __init__(
        self,
        in_channels: int = 1,
        *,
        widen_factor: float = 1.0,
        conv1_stride: int = 2,
        norm: str = "batch",
        seed: int = 0,
    ) -> None:
        super().__init__(locals())
        require_in_range("widen_factor", widen_factor, NARROWEST, float("inf"))
        require_in_range("conv1_stride", conv1_stride, 1, 2)
        require_in_set("norm", norm, NORMS)
        self.norm = norm
        # The first convolution, the pooling and three of the four stages halve the image; instance norm
        # cannot normalize over a single value.
        self.minimum_size = 1 if norm == "batch" else 16 * conv1_stride + 1
        from monai.networks.nets.resnet import resnet18

        with rng.forked(seed, "AmyloidClassifier"):
            self.resnet = resnet18(
                spatial_dims=2,
                n_input_channels=in_channels,
                num_classes=1,
                conv1_t_stride=conv1_stride,
                widen_factor=widen_factor,
            )
            if norm != "batch":
                _exchange_normalizations(self.resnet, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logit of positivity of each slice.

        Parameters
        ----------
        x : (B, in_channels, H, W) float
            Target or restored slices.

        Returns
        -------
        (B,) float
            Logits.

        Raises
        ------
        InputError
            When the channels differ or the image is too small to normalize.
        """
        require_image_batch(x, self.in_channels)
        require_minimum_size(x, self.minimum_size, reason=f"for {self.norm} norm in the last layers")
        logits: Tensor = self.resnet(x)
        return logits.squeeze(1)

    def probability(self, x: Tensor) -> Tensor:
        """Return the probability of positivity of each slice, (B,), in [0, 1]."""
        return torch.sigmoid(self(x).float())

    def error(self, x: Tensor, labels: Tensor) -> Tensor:
        """Return the absolute error of each slice's probability, (B,); ``labels`` are 0 or 1."""
        return (self.probability(x) - labels).abs()


def _exchange_normalizations(network: nn.Module, norm: str) -> None:
    for name, child in network.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(network, name, normalization(norm, child.num_features))
        else:
            _exchange_normalizations(child, norm)
