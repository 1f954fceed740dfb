"""A generator that keeps what is small: any network, and beside it a branch at full resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from medrestore import rng
from medrestore.checks import InputError, require_in_range
from medrestore.networks.blocks import ImageNetwork, require_channels, require_image_batch
from medrestore.networks.weights import network_class

__all__ = ["FullResolutionGenerator"]


class FullResolutionGenerator(ImageNetwork):
    r"""A base network plus a branch of 1 x 1 convolutions over the same input, pixel by pixel.

    .. math:: G(x) = B(x) + F(x) + x_s

    with the base network B, the branch F (convolutions of 1 x 1 with LeakyReLU(0.2) between them) and, where
    there is a skip, the input's channel s, which B and F then correct.

    Further parameters, attributes and errors are those of
    :class:`~medrestore.networks.blocks.ImageNetwork`.

    Parameters
    ----------
    base
        The network of images: its class under ``network``, a name below ``medrestore.networks`` as
        ``unet.UNetGenerator``, and its arguments but for the channels of the input and the seed. It gives
        one channel.
    widths
        Channels between the branch's convolutions.
    skip
        s, as an index of the input's channels, of which negative ones count from the last; None for none.

    Attributes
    ----------
    stride_multiple : int
        Of the base network; 1 where it asks for none.

    Notes
    -----
    A U-Net whose first level halves the image has no path of full resolution, and the median, which L1
    learns, ignores what is rare: lesions are lost. The branch sees all channels of a pixel: enough to tell
    tissues apart, as the voxel-wise fit of relaxation times does. Its weights are drawn as torch draws those
    of convolutions; N(0, .02) of pix2pix would let next to nothing through rows as short as these.

    Examples
    --------
    >>> import torch
    >>> base = {"network": "unet.UNetGenerator", "channels": [8, 16], "dropout_levels": 1}
    >>> generator = FullResolutionGenerator(3, base=base, skip=-1)
    >>> generator(torch.zeros(2, 3, 32, 40)).shape, generator.stride_multiple
    (torch.Size([2, 1, 32, 40]), 4)
    """

    def __init__(
        self,
        in_channels: int,
        *,
        base: Mapping[str, Any],
        widths: Sequence[int] = (32, 32),
        skip: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(locals())
        require_channels("widths", widths)
        if skip is not None:
            require_in_range("skip", skip, -in_channels, in_channels - 1)
        self.skip = skip
        settings = dict(base)
        kind = network_class(str(settings.pop("network", "")))
        if kind is None:
            raise InputError(
                f"base must name a network below medrestore.networks under 'network', got {dict(base)}"
            )
        self.base: nn.Module = kind(in_channels=in_channels, **settings, seed=seed)
        self.stride_multiple = int(getattr(self.base, "stride_multiple", 1))
        with rng.forked(seed, "FullResolutionGenerator"):
            layers: list[nn.Module] = []
            for before, width in zip([in_channels, *widths[:-1]], widths, strict=True):
                layers += [nn.Conv2d(before, width, 1), nn.LeakyReLU(0.2, inplace=True)]
            self.branch = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Restore a batch.

        Parameters
        ----------
        x : (B, in_channels, H, W) float
            Degraded slices and what goes with them.

        Returns
        -------
        (B, 1, H, W) float
            Restored slices.

        Raises
        ------
        InputError
            When the channels differ or H or W is no positive multiple of ``stride_multiple``.
        """
        require_image_batch(x, self.in_channels)
        # The base first: it checks the size.
        restored: Tensor = self.base(x) + self.branch(x)
        skip = self.skip
        if skip is not None:
            channel = skip if skip >= 0 else skip + self.in_channels
            restored = restored + x[:, channel : channel + 1]
        return restored
