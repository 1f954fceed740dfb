"""The generator of super-resolution: SRGAN's residual network, from a small image to a larger one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from medrestore import rng
from medrestore.checks import InputError, require_in_range, require_in_set
from medrestore.networks.blocks import (
    NORMS,
    ImageNetwork,
    is_scripting,
    normalization,
    require_image_batch,
    require_minimum_size,
)

__all__ = ["ENLARGEMENT_SKIPS", "SRResNet", "sharpness"]

ENLARGEMENT_SKIPS = ("none", "bicubic")
"""What the network adds its output to: nothing, or the bicubic enlargement of its input."""

SCALES = (2, 4, 8, 16)

SHARPNESS, HIDDEN = 3, 32
"""Numbers of :func:`sharpness`, and width of the network that they go through."""


class SRResNet(ImageNetwork):
    """Residual network that works at the small size and enlarges at its end by pixel shuffling.

    Further parameters, attributes and errors are those of
    :class:`~medrestore.networks.blocks.ImageNetwork`.

    Parameters
    ----------
    in_channels
        Channels of the small image and of the restored one; 3 for RGB.
    channels
        Width of all layers.
    blocks
        Number of residual blocks.
    scale
        Enlargement: 2, 4, 8 or 16.
    norm
        ``batch`` | ``instance`` | ``none``.
    enlargement_skip
        ``none``: the network makes the whole image; ``bicubic``: it makes what is to be added to the bicubic
        enlargement of its input, and starts from that enlargement.
    blur_conditioning
        Let the sharpness of the whole input (:func:`sharpness`) scale and shift the features after each
        block: one network then serves images of different blur.
    kernel
        Size of the first and the last convolution's kernel, odd.

    Attributes
    ----------
    scale : int
        As given.

    Notes
    -----
    The generator of SRGAN_SQE (section 2.1, figure 1b) is SRGAN's (Ledig et al. 2017): 9 x 9 convolution
    with 64 channels and PReLU; 16 residual blocks (convolution, batch norm, PReLU, convolution, batch norm,
    sum); convolution, batch norm and the sum with what entered the first block; two times convolution, pixel
    shuffle by 2 and PReLU; 9 x 9 convolution. Departures:

    - Convolutions with a normalization behind them have no bias, which that would take away.
    - Intensities are taken to [-1, 1] inside the network: the zeros that pad a convolution are then middle
      gray rather than black beside a white background.
    - ``bicubic`` adds the enlargement of the input (kernel of Keys with a = -0.5, as Pillow's): a network
      that is trained briefly then starts from the baseline.
    - ``blur_conditioning``: features become (1 + s) f + t, with s and t of each block and channel from a
      small network of the sharpness (Perez et al. 2018, FiLM); it starts next to s = t = 0.
    - Weights are drawn as He et al. 2015; the kernels that pixel shuffling sets side by side start alike
      (Aitken et al. 2017), so that no checkerboard has to be unlearned; the last convolution starts at a
      hundredth of that width, so the network starts from middle gray or from the enlargement; without
      normalization, each block's second convolution starts at a tenth (Wang et al. 2018, ESRGAN).

    The input may be of finer precision than the weights (float32 beside bfloat16). What is added to the last
    convolution's output is made and added in float32: bfloat16 would round 8-bit intensities.

    Examples
    --------
    >>> generator = SRResNet(channels=8, blocks=1)
    >>> generator(torch.zeros(2, 3, 16, 20)).shape
    torch.Size([2, 3, 64, 80])
    """

    def __init__(
        self,
        in_channels: int = 3,
        *,
        channels: int = 64,
        blocks: int = 16,
        scale: int = 4,
        norm: str = "batch",
        enlargement_skip: str = "none",
        blur_conditioning: bool = False,
        kernel: int = 9,
        seed: int = 0,
    ) -> None:
        super().__init__(locals())
        require_in_range("channels", channels, 1, float("inf"))
        require_in_range("blocks", blocks, 1, float("inf"))
        require_in_set("scale", scale, SCALES)
        require_in_set("norm", norm, (*NORMS, "none"))
        require_in_set("enlargement_skip", enlargement_skip, ENLARGEMENT_SKIPS)
        require_in_range("kernel", kernel, 1, float("inf"))
        if kernel % 2 == 0:
            raise InputError(f"kernel must be odd, got {kernel}")
        self.scale = scale
        self.norm = norm
        self.enlargement_skip = enlargement_skip
        self.blur_conditioning = blur_conditioning
        with rng.forked(seed, "SRResNet"):
            self.head = nn.Sequential(_convolution(in_channels, channels, kernel=kernel), _PReLU())
            self.blocks = nn.Sequential(*(_ResidualBlock(channels, norm=norm) for _ in range(blocks)))
            self.trunk = nn.Sequential(*_normalized_convolution(channels, norm=norm))
            self.enlargement = nn.Sequential(
                *(
                    _Enlargement(_convolution(channels, 4 * channels), nn.PixelShuffle(2), _PReLU())
                    for _ in range(scale.bit_length() - 1)
                )
            )
            self.output = _convolution(channels, in_channels, kernel=kernel)
            self.modulation = nn.Sequential()
            if blur_conditioning:
                last = nn.Linear(HIDDEN, 2 * blocks * channels)
                nn.init.normal_(last.weight, std=0.01)
                nn.init.zeros_(last.bias)
                self.modulation = nn.Sequential(nn.Linear(SHARPNESS, HIDDEN), nn.Tanh(), last)
            self._initialize()

    def _initialize(self) -> None:
        with torch.no_grad():
            for level in self.enlargement:
                weight = level[0].weight  # type: ignore[index]
                weight.copy_(weight[::4].repeat_interleave(4, dim=0))
            self.output.weight.mul_(0.01)
            if self.norm == "none":
                for block in self.blocks:
                    block.body[-1].weight.mul_(0.1)  # type: ignore[union-attr,index]

    def forward(self, x: Tensor) -> Tensor:
        """Restore a batch at ``scale`` times its size.

        Parameters
        ----------
        x : (B, in_channels, h, w) float
            Small images, in [0, 1]; of any size from 1 x 1 on.

        Returns
        -------
        (B, in_channels, scale * h, scale * w) float32
            Restored images around [0, 1]: nothing cuts them off, so that gradients pass everywhere.

        Raises
        ------
        InputError
            When the channels differ, or the image leaves the normalization one value per channel.
        """
        require_image_batch(x, self.in_channels)
        require_minimum_size(x, 1, reason="it holds no pixel")
        self._require_values_to_normalize(x)
        features = self.head((2 * x - 1).to(self.output.weight.dtype))
        features = features + self.trunk(self._through_blocks(features, x))
        for index, level in enumerate(self.enlargement):
            last = index + 1 == len(self.enlargement)
            features = level.without_shuffle(features) if last else level(features)  # type: ignore[operator]
        # The last level's shuffle comes after the output.
        unshuffled = _convolve_unshuffled(features, self.output.weight, self.output.bias)
        restored: Tensor = functional.pixel_shuffle(unshuffled, 2).float()
        if self.enlargement_skip == "none":
            return (restored + 1) / 2
        enlarged = functional.interpolate(
            x.float(), scale_factor=float(self.scale), mode="bicubic", align_corners=False, antialias=True
        )
        return enlarged + restored / 2

    def _through_blocks(self, features: Tensor, x: Tensor) -> Tensor:
        if not self.blur_conditioning:
            through: Tensor = self.blocks(features)
            return through
        code = self.modulation(sharpness(x).to(self.output.weight.dtype))
        code = code.reshape(len(x), -1, 2, features.shape[1], 1, 1).to(features.dtype)
        for index, block in enumerate(self.blocks):
            features = (1 + code[:, index, 0]) * block(features) + code[:, index, 1]
        return features

    def _require_values_to_normalize(self, x: Tensor) -> None:
        if not is_scripting():
            values = x.shape[-2] * x.shape[-1] * (x.shape[0] if self.norm == "batch" else 1)
            if values == 1 and (self.norm == "instance" or (self.norm == "batch" and self.training)):
                raise InputError(
                    f"image must hold more than one pixel for {self.norm} norm, got {tuple(x.shape)}. "
                    "Remedy: a larger image, or norm none"
                )


def sharpness(images: Tensor) -> Tensor:
    """Return how sharp whole images are: blur takes the finest details first.

    Parameters
    ----------
    images : (B, C, h, w) float
        In [0, 1].

    Returns
    -------
    (B, 3) float32
        Of the mean over channels: natural logarithm of the deviation of details of about 2 pixels over that
        of details of about 4, of those over that of 8, and the logarithm of the first deviation, in gray
        levels of 255. A quarter is added to each variance: half a gray level is lost by rounding.

    Notes
    -----
    Details are what a mean over 3, 5 and 9 pixels takes away, one after another.

    Examples
    --------
    >>> sharpness(torch.zeros(1, 3, 16, 16)).round(decimals=2)
    tensor([[ 0.0000,  0.0000, -0.6900]])
    """
    left = 255 * images.float().mean(dim=1, keepdim=True)
    deviations: list[Tensor] = []
    for side in (3, 5, 9):
        smooth = functional.avg_pool2d(left, side, 1, side // 2, count_include_pad=False)
        deviations.append((left - smooth).square().mean(dim=(1, 2, 3)).add(0.25).sqrt())
        left = smooth
    logarithms = torch.stack(deviations, dim=1).log()
    fine, middle, coarse = logarithms.unbind(dim=1)
    return torch.stack([fine - middle, middle - coarse, fine], dim=1)


class _PReLU(nn.PReLU):
    """PReLU that also takes what convolutions in a shorter type give; torch's own refuses it."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.prelu(x, self.weight.to(x.dtype))


class _Enlargement(nn.Sequential):
    """Convolution, pixel shuffle, activation."""

    @torch.jit.export
    def without_shuffle(self, x: Tensor) -> Tensor:
        """Leave out the shuffle: one slope serves all channels, so it may come after the activation."""
        features: Tensor = self[2](self[0](x))
        return features


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int, *, norm: str) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_normalized_convolution(channels, norm=norm),
            _PReLU(),
            *_normalized_convolution(channels, norm=norm),
        )

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.body(x)
        return result


def _convolve_unshuffled(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``pixel_unshuffle(conv2d(pixel_shuffle(x, 2), weight, bias), 2)``, computed at the size of x.

    Three output channels leave most of a vector unit idle, and a 9 x 9 kernel at full size is then the most
    costly layer by far. At half the size it has 12 channels and a 5 x 5 kernel: a fourth more products, but
    the network as a whole (64 channels, one block, one CPU thread) restores 1.7 times as fast and learns 1.4
    times as fast. ``x``: (B, 4 C, h, w); returns (B, 4 outputs, h, w).
    """
    outputs, inputs, kernel, _ = weight.shape
    reach = kernel // 2
    half_reach = (reach + 1) // 2
    size = 2 * half_reach + 1
    # Row i of an output's 2 x 2 block sees the kernel i pixels further down; likewise its columns.
    margins = [[2 * half_reach - reach + i, 2 * half_reach - reach + 1 - i] for i in (0, 1)]
    blocks = []
    for rows in margins:  # TorchScript knows no comprehension with two loops
        for columns in margins:
            blocks.append(functional.pad(weight, columns + rows))
    weights = torch.stack(blocks, dim=1)
    weights = weights.reshape(outputs, 4, inputs, size, 2, size, 2).permute(0, 1, 2, 4, 6, 3, 5)
    bias = None if bias is None else bias.repeat_interleave(4)
    return functional.conv2d(
        x, weights.reshape(4 * outputs, 4 * inputs, size, size), bias, padding=half_reach
    )


def _convolution(in_channels: int, out_channels: int, *, kernel: int = 3, bias: bool = True) -> nn.Conv2d:
    convolution = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=bias)
    nn.init.kaiming_normal_(convolution.weight, a=0.25)  # the slope that PReLU starts with
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution


def _normalized_convolution(channels: int, *, norm: str) -> list[nn.Module]:
    convolution = _convolution(channels, channels, bias=norm == "none")
    return [convolution] if norm == "none" else [convolution, normalization(norm, channels)]
