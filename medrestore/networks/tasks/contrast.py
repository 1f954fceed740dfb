"""The task network T of multi-contrast MRI: which contrast is this axial slice of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medrestore import rng
from medrestore.checks import require_in_range
from medrestore.networks.blocks import (
    ImageNetwork,
    initialize_normal,
    normalization,
    require_channels,
    require_image_batch,
    require_minimum_size,
)

__all__ = ["ContrastClassifier"]


class ContrastClassifier(ImageNetwork):
    """Patch classifier: 4 x 4 convolutions, the last of which gives each patch a logit per contrast.

    Further parameters, attributes and errors are those of
    :class:`~medrestore.networks.blocks.ImageNetwork`.

    Parameters
    ----------
    in_channels
        Channels of the slice.
    classes
        Number of contrasts.
    channels
        Width of each layer but the last, which has ``classes``.
    strided_layers
        Of these layers the first so many have stride 2, the others and the last have stride 1.

    Attributes
    ----------
    receptive_field : int
        Side of the patch that one logit depends on, pixels.

    Notes
    -----
    Task-GAN, appendix: "6-layer patch-based classifier derived from the discriminator in" pix2pix. Read as
    pix2pix's PatchGAN with one layer more: C64-C128-C256-C512 with stride 2, C512 and the output with stride
    1, padding 1, LeakyReLU(0.2), no normalization in the first layer and a bias where none follows: patches
    of 142 x 142 pixels. The paper's softmax regression is in :func:`medrestore.losses.task.contrast_loss`.

    Examples
    --------
    >>> classifier = ContrastClassifier(classes=3, channels=(4, 8, 8), strided_layers=2)
    >>> classifier(torch.zeros(2, 1, 32, 40)).shape, classifier.receptive_field
    (torch.Size([2, 3, 6, 8]), 34)
    """

    def __init__(
        self,
        in_channels: int = 1,
        *,
        classes: int = 6,
        channels: Sequence[int] = (64, 128, 256, 512, 512),
        strided_layers: int = 4,
        norm: str = "batch",
        seed: int = 0,
    ) -> None:
        super().__init__(locals())
        require_in_range("classes", classes, 2, float("inf"))
        require_channels("channels", channels)
        require_in_range("strided_layers", strided_layers, 0, len(channels))
        strides = [2] * strided_layers + [1] * (len(channels) - strided_layers + 1)
        self.receptive_field = 1
        # Each convolution of stride 1 takes one pixel from a side.
        self.minimum_size = (strides.count(1) + 1) * 2**strided_layers
        for stride in reversed(strides):
            self.receptive_field = (self.receptive_field - 1) * stride + 4
        with rng.forked(seed, "ContrastClassifier"):
            layers: list[nn.Module] = []
            for level, (before, width, stride) in enumerate(
                zip([in_channels, *channels[:-1]], channels, strides[:-1], strict=True)
            ):
                convolution = nn.Conv2d(before, width, 4, stride, 1, bias=level == 0)
                tail = [] if level == 0 else [normalization(norm, width)]
                layers.append(nn.Sequential(convolution, *tail, nn.LeakyReLU(0.2, inplace=True)))
            self.layers = nn.Sequential(*layers)
            self.classifier = nn.Conv2d(channels[-1], classes, 4, 1, 1)
            initialize_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logit of every contrast for each patch.

        Parameters
        ----------
        x : (B, in_channels, H, W) float
            Target or restored slices.

        Returns
        -------
        (B, classes, h, w) float
            Logits.

        Raises
        ------
        InputError
            When the channels differ or no whole patch is left.
        """
        require_image_batch(x, self.in_channels)
        require_minimum_size(
            x, self.minimum_size, reason=f"for {len(self.layers) + 1} layers of 4 x 4 convolutions"
        )
        logits: Tensor = self.classifier(self.layers(x))
        return logits

    def patch_probability(self, x: Tensor) -> Tensor:
        """Return the probability of every contrast for each patch, (B, classes, h, w)."""
        return torch.softmax(self(x).float(), dim=1)

    def probability(self, x: Tensor) -> Tensor:
        """Return the probability of every contrast, (B, classes), the mean over the slice's patches."""
        return self.patch_probability(x).mean(dim=(2, 3))

    def error(self, x: Tensor, labels: Tensor) -> Tensor:
        """Return 1 - the probability of the true contrast of each slice, (B,); ``labels`` are its indices."""
        return 1 - self.probability(x).gather(1, labels.long()[:, None]).squeeze(1)
