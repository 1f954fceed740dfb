"""The generator G: pix2pix's U-Net, in any number of levels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medrestore import rng
from medrestore.checks import require_in_range, require_in_set
from medrestore.networks.blocks import (
    ImageNetwork,
    initialize_normal,
    normalization,
    require_channels,
    require_image_batch,
    require_stride_multiple,
)

__all__ = ["OUTPUT_ACTIVATIONS", "UNetGenerator"]

OUTPUT_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "identity": nn.Identity,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
}
"""What may follow the output layer: nothing, (-1, 1), or positive values only."""


class UNetGenerator(ImageNetwork):
    """U-Net of 4 x 4 convolutions with stride 2 and a skip connection at every level: degraded -> restored.

    Further parameters, attributes and errors are those of
    :class:`~medrestore.networks.blocks.ImageNetwork`.

    Parameters
    ----------
    in_channels
        Channels of the degraded input; 2 k + 1 neighboring slices in 2.5D.
    out_channels
        Channels of the restored image.
    channels
        Width of each encoder level, outermost first; the decoder mirrors it.
    dropout_levels
        Number of decoder levels, innermost first, that drop activations: the paper's noise z.
    dropout
        Probability with which an activation is dropped there.
    output_activation
        ``identity`` | ``tanh`` | ``softplus``.

    Attributes
    ----------
    stride_multiple : int
        H and W must be positive multiples of it: 2 ** len(channels).

    Notes
    -----
    Task-GAN, section "Networks", after pix2pix: encoder C64-C128-C256-C512-C512-C512-C512-C512,
    LeakyReLU(0.2); decoder CD512-CD512-CD512-C512-C512-C256-C128-C64, ReLU; no normalization in the first and
    the innermost encoder level.

    The decoder's eight entries are read as the widths that ENTER its eight transposed convolutions, without
    the skip connections' share: the innermost code of 512, then 512, 512, 512, 512, 256, 128, 64, each beside
    as many channels of its skip connection. This is pix2pix's own U-Net list
    (CD512-CD1024-CD1024-C1024-C1024-C512-C256-C128) with the skipped half left out. Read as widths that leave
    a transposed convolution, it would need a ninth level. So seven transposed convolutions give 512, 512, 512
    (the three with dropout), 512, 256, 128, 64 channels, and the eighth gives ``out_channels``.

    A convolution has a bias where no normalization follows it: first, innermost and output level. pix2pix's
    code leaves it out of the first two, 576 parameters of 54.4 million.

    Examples
    --------
    >>> generator = UNetGenerator(3, channels=(8, 16, 16), dropout_levels=1)
    >>> generator(torch.zeros(2, 3, 32, 40)).shape, generator.stride_multiple
    (torch.Size([2, 1, 32, 40]), 8)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 1,
        *,
        channels: Sequence[int] = (64, 128, 256, 512, 512, 512, 512, 512),
        dropout_levels: int = 3,
        dropout: float = 0.5,
        norm: str = "batch",
        output_activation: str = "identity",
        seed: int = 0,
    ) -> None:
        super().__init__(locals())
        require_in_range("out_channels", out_channels, 1, float("inf"))
        require_channels("channels", channels)
        require_in_range("dropout_levels", dropout_levels, 0, len(channels) - 1)
        require_in_range("dropout", dropout, 0, 1, include_high=False)
        require_in_set("output_activation", output_activation, OUTPUT_ACTIVATIONS)
        self.stride_multiple = 2 ** len(channels)
        with rng.forked(seed, "UNetGenerator"):
            self.encoder = nn.ModuleList(
                _down(before, width, norm=norm if 0 < level < len(channels) - 1 else None)
                for level, (before, width) in enumerate(
                    zip([in_channels, *channels[:-1]], channels, strict=True)
                )
            )
            self.decoder = nn.ModuleList(
                _up(
                    channels[level] * (1 if level == len(channels) - 1 else 2),
                    channels[level - 1],
                    norm=norm,
                    dropout=dropout if len(channels) - 1 - level < dropout_levels else None,
                )
                for level in range(len(channels) - 1, 0, -1)
            )
            self.output = nn.ConvTranspose2d(
                channels[0] * (2 if len(channels) > 1 else 1), out_channels, 4, 2, 1
            )
            initialize_normal(self)
        self.output_activation = OUTPUT_ACTIVATIONS[output_activation]()

    def forward(self, x: Tensor) -> Tensor:
        """Restore a batch.

        Parameters
        ----------
        x : (B, in_channels, H, W) float
            Degraded slices.

        Returns
        -------
        (B, out_channels, H, W) float
            Restored slices.

        Raises
        ------
        InputError
            When the channels differ or H or W is no positive multiple of ``stride_multiple``.
        """
        require_image_batch(x, self.in_channels)
        require_stride_multiple(x, self.stride_multiple)
        skipped = []
        for down in self.encoder:
            # In place: the skip connection passes through a ReLU later, and ReLU(LeakyReLU(a)) = ReLU(a).
            x = nn.functional.leaky_relu(down(x), 0.2, inplace=True)
            skipped.append(x)
        x = nn.functional.relu(skipped.pop())
        for up in self.decoder:
            x = nn.functional.relu(torch.cat([skipped.pop(), up(x)], dim=1), inplace=True)
        restored: Tensor = self.output_activation(self.output(x))
        return restored


def _down(in_channels: int, out_channels: int, *, norm: str | None) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, 4, 2, 1, bias=norm is None)
    return (
        nn.Sequential(convolution)
        if norm is None
        else nn.Sequential(convolution, normalization(norm, out_channels))
    )


def _up(in_channels: int, out_channels: int, *, norm: str, dropout: float | None) -> nn.Sequential:
    layers = [
        nn.ConvTranspose2d(in_channels, out_channels, 4, 2, 1, bias=False),
        normalization(norm, out_channels),
    ]
    return nn.Sequential(*layers) if dropout is None else nn.Sequential(*layers, nn.Dropout(dropout))
