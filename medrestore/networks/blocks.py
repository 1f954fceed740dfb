"""What the convolutional networks share: normalization, initialization and checks on the input's size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]

from medrestore.checks import InputError, require_in_range, require_in_set

__all__ = [
    "NORMS",
    "ImageNetwork",
    "initialize_normal",
    "is_scripting",
    "normalization",
    "require_channels",
    "require_image_batch",
    "require_minimum_size",
    "require_stride_multiple",
]

NORMS = ("batch", "instance")
"""Names of the normalizations that a network can be built with."""


class ImageNetwork(nn.Module):
    """A network of images, which knows what it was built from.

    Parameters
    ----------
    given
        ``locals()`` at the beginning of the network's ``__init__``: its parameters. Of those that several
        networks have, ``in_channels`` is the number of channels of the image, ``norm`` is ``batch`` or
        ``instance``, and ``seed`` names the stream that the initial weights are drawn from.

    Attributes
    ----------
    architecture : dict
        Keyword arguments that rebuild the network, sequences as lists.
    in_channels : int
        As given.

    Raises
    ------
    InputError
        When a parameter is out of its range.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        super().__init__()
        self.architecture: Mapping[str, Any] = {
            name: list(value) if isinstance(value, list | tuple) else value
            for name, value in given.items()
            if name not in ("self", "__class__")
        }
        self.in_channels: int = given["in_channels"]
        require_in_range("in_channels", self.in_channels, 1, float("inf"))


def normalization(name: str, channels: int) -> nn.Module:
    """Return the normalization layer over ``channels`` feature maps, with a learned weight and bias.

    Notes
    -----
    The affine parameters of instance normalization depart from pix2pix, whose instance norm has none: both
    kinds then have the same capacity, and a convolution before either needs no bias.
    """
    require_in_set("norm", name, NORMS)
    return nn.BatchNorm2d(channels) if name == "batch" else nn.InstanceNorm2d(channels, affine=True)


def initialize_normal(network: nn.Module, *, deviation: float = 0.02) -> None:
    """Draw weights from N(0, deviation), those of normalizations from N(1, deviation); zero the biases.

    Draws from torch's global generator: call it inside :func:`medrestore.rng.forked`.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, deviation)
        elif isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d):
            nn.init.normal_(module.weight, 1.0, deviation)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def require_channels(name: str, channels: Sequence[int]) -> None:
    """Require at least one level and a positive whole width at each."""
    if not channels or any(not isinstance(width, int) or width < 1 for width in channels):
        raise InputError(
            f"{name} must list one positive width per level, whole numbers, got {list(channels)}"
        )


def require_image_batch(x: Tensor, in_channels: int) -> None:
    """Require a batch of two-dimensional images, (B, ``in_channels``, H, W).

    This check and those below are left out of a network that is exported to TorchScript, which knows no
    exceptions of ours.
    """
    if not is_scripting() and (x.ndim != 4 or x.shape[1] != in_channels):
        raise InputError(f"image must be of shape (B, {in_channels}, H, W), got {tuple(x.shape)}")


def require_minimum_size(x: Tensor, minimum: int, *, reason: str) -> None:
    """Require that the in-plane size of (B, C, H, W) is at least ``minimum`` in both directions."""
    if not is_scripting() and min(x.shape[-2:]) < minimum:
        raise InputError(
            f"image must be at least {minimum} x {minimum} ({reason}), got {tuple(x.shape[-2:])}"
        )


def require_stride_multiple(x: Tensor, multiple: int) -> None:
    """Require that the in-plane size of (B, C, H, W) can be halved and doubled back at every level."""
    if not is_scripting():
        height, width = x.shape[-2:]
        if min(height, width) == 0 or height % multiple or width % multiple:
            raise InputError(
                f"image height and width must be positive multiples of {multiple}, "
                f"got {height} x {width}. "
                "Remedy: pad the images (in training: spatial_size), or use fewer levels"
            )
