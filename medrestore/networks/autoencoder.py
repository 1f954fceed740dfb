"""The autoencoder whose encoder says how alike the textures of two images are."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medrestore import rng
from medrestore.checks import require_in_range
from medrestore.networks.blocks import (
    ImageNetwork,
    require_channels,
    require_image_batch,
    require_stride_multiple,
)

__all__ = ["TextureAutoencoder"]


class TextureAutoencoder(ImageNetwork):
    """Encoder E of convolutions, ReLU and residual blocks, and a decoder that mirrors it.

    Further parameters, attributes and errors are those of
    :class:`~medrestore.networks.blocks.ImageNetwork`.

    Parameters
    ----------
    in_channels
        Channels of the image; 3 for RGB.
    channels
        Width of each level, outermost first; from each to the next the image is halved.
    blocks
        Residual blocks of each level.

    Attributes
    ----------
    stride_multiple : int
        H and W must be positive multiples of it: 2 ** len(channels).

    Notes
    -----
    SRGAN_SQE, section 2.1, figure 1c: convolutions, ReLU, residual blocks, "an analogous mirror-symmetric
    decoder". The paper gives neither widths nor strides. Here: a 3 x 3 convolution at full size, then in each
    level a 4 x 4 convolution with stride 2, ReLU and the residual blocks (convolution, ReLU, convolution,
    sum); in the decoder the same layers in reverse order, transposed convolutions for those with stride.
    Nothing is normalized: an encoding depends on its image alone, and keeps how strong a stain is.

    An image has 3 * 4 ** levels numbers for each position of the encoding: with fewer channels than that in
    the last level the encoding is smaller than the image.

    Weights are drawn as He et al. 2015, a block's second convolution at a tenth of that width, so that blocks
    start near the identity.

    Examples
    --------
    >>> import torch
    >>> autoencoder = TextureAutoencoder(channels=(4, 8), blocks=1)
    >>> images = torch.zeros(2, 3, 16, 24)
    >>> autoencoder.encode(images).shape, autoencoder(images).shape
    (torch.Size([2, 8, 4, 6]), torch.Size([2, 3, 16, 24]))
    """

    def __init__(
        self,
        in_channels: int = 3,
        *,
        channels: Sequence[int] = (64, 128, 256),
        blocks: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__(locals())
        require_channels("channels", channels)
        require_in_range("blocks", blocks, 0, float("inf"))
        self.stride_multiple = 2 ** len(channels)
        widths = [channels[0], *channels]
        with rng.forked(seed, "TextureAutoencoder"):
            self.encoder = nn.Sequential(nn.Conv2d(in_channels, channels[0], 3, padding=1), nn.ReLU())
            for before, width in zip(widths, channels, strict=False):
                self.encoder.extend([nn.Conv2d(before, width, 4, 2, 1), nn.ReLU()])
                self.encoder.extend([_ResidualBlock(width) for _ in range(blocks)])
            self.decoder = nn.Sequential()
            for level in range(len(channels), 0, -1):
                self.decoder.extend([_ResidualBlock(widths[level]) for _ in range(blocks)])
                self.decoder.extend(
                    [nn.ConvTranspose2d(widths[level], widths[level - 1], 4, 2, 1), nn.ReLU()]
                )
            self.decoder.append(nn.Conv2d(channels[0], in_channels, 3, padding=1))
            self._initialize()

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            elif isinstance(module, nn.ConvTranspose2d):
                # Each output pixel sees 2 x 2 of the 4 x 4 weights of every input channel.
                nn.init.normal_(module.weight, 0.0, (2 / (4 * module.in_channels)) ** 0.5)
            else:
                continue
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, _ResidualBlock):
                module.second.weight.data.mul_(0.1)

    def encode(self, x: Tensor) -> Tensor:
        """Return E(x), the position of each image on the manifold.

        Parameters
        ----------
        x : (B, in_channels, H, W) float
            Images, around [0, 1].

        Returns
        -------
        (B, channels[-1], H / stride_multiple, W / stride_multiple) float

        Raises
        ------
        InputError
            When the channels differ, or H or W is no positive multiple of ``stride_multiple``.
        """
        require_image_batch(x, self.in_channels)
        require_stride_multiple(x, self.stride_multiple)
        encoding: Tensor = self.encoder(2 * x - 1)
        return encoding

    def forward(self, x: Tensor) -> Tensor:
        """Encode and decode a batch: same shape as ``x``; raises what :meth:`encode` does."""
        reconstruction: Tensor = self.decoder(self.encode(x))
        return (reconstruction + 1) / 2


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.second(nn.functional.relu(self.first(x), inplace=True))
        return result
