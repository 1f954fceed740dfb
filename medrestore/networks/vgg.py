"""The encoder of SRGAN: VGG19's features, learned from photographs (ImageNet)."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medrestore import rng
from medrestore.checks import InputError, fail, require_in_range
from medrestore.files import sha256_file
from medrestore.networks.blocks import require_image_batch, require_minimum_size

__all__ = ["VGG19Features", "weights_file"]

FILE_NAME = "vgg19-dcbb9e9d.pth"
ADDRESS = f"https://download.pytorch.org/models/{FILE_NAME}"
CHECKSUM_START = "dcbb9e9d"  # torchvision names its files by the first digits of their SHA-256

WIDTHS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512, 512, 512, 512, 0)
"""Output channels of VGG19's convolutions (its configuration E); 0 stands for a max pooling."""

LAYERS = 37
"""Layers in torchvision's ``vgg19().features``: a convolution and its ReLU count as two."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


def weights_file(weights: str | os.PathLike[str] | None = None) -> Path:
    """Return the file of VGG19's weights: the given one, or that in torch's folder of checkpoints.

    Raises
    ------
    InputError
        When there is none; says where to fetch it.
    """
    path = Path(torch.hub.get_dir(), "checkpoints", FILE_NAME) if weights is None else Path(weights)
    if not path.is_file():
        fail(
            "the weights of VGG19 are not here, and nothing is downloaded",
            path=path,
            remedy=f"fetch {ADDRESS} and put it there, or name its path by the key vgg_weights",
        )
    return path


class VGG19Features(nn.Module):
    """VGG19 up to one of its layers, never trained: an image's position in what classifies photographs.

    Parameters
    ----------
    layer
        Number of layers of torchvision's ``vgg19().features`` to run, from 1 to 37; 36 ends with the ReLU
        after the fourth convolution of the fifth block (relu5_4).
    weights
        torchvision's file of VGG19's weights; ``vgg19-dcbb9e9d.pth`` in torch's folder of checkpoints when
        not given. Nothing is downloaded.
    seed
        Draws random weights instead and reads no file: for tests.

    Attributes
    ----------
    architecture : dict
        Keyword arguments that rebuild the network, but for the path of the weights.

    Raises
    ------
    InputError
        When the file is missing or not torchvision's, or a parameter is out of its range.

    Notes
    -----
    SRGAN (Ledig et al. 2017) compares "VGG54": the fourth convolution, after its activation, before the fifth
    max pooling. SRGAN_SQE's baseline does too. The layers are built here, in torchvision's order, because
    torchvision's wheels demand one build of torch. SRGAN divides the features by 12.75; here the weight of
    the loss takes that up.

    Weights are buffers that no checkpoint stores: they move with the module to another device and memory
    format, no optimizer sees them, and a run's files do not hold 80 MB that never change.

    Examples
    --------
    >>> VGG19Features(layer=9, seed=0).encode(torch.zeros(2, 3, 32, 48)).shape
    torch.Size([2, 128, 16, 24])
    """

    in_channels = 3
    mean: Tensor
    deviation: Tensor

    def __init__(
        self, *, layer: int = 36, weights: str | os.PathLike[str] | None = None, seed: int | None = None
    ) -> None:
        super().__init__()
        require_in_range("layer", layer, 1, LAYERS)
        if seed is not None and weights is not None:
            raise InputError("seed draws random weights: give seed or weights, not both")
        self.architecture: Mapping[str, Any] = {"layer": layer, "seed": seed}
        self.layers = _layers(layer)
        convolutions = [index for name, index in self.layers if name == "convolution"]
        shapes = dict(zip(convolutions, _shapes(), strict=False))
        state = _read(weights, shapes) if seed is None else _draw(shapes, seed)
        for name, value in state.items():
            self.register_buffer(name, value, persistent=False)
        for name, numbers in {"mean": IMAGENET_MEAN, "deviation": IMAGENET_DEVIATION}.items():
            self.register_buffer(name, torch.tensor(numbers).reshape(1, 3, 1, 1), persistent=False)
        self.minimum_size: int = 2 ** sum(name == "pool" for name, _ in self.layers)

    def encode(self, x: Tensor) -> Tensor:
        """Return the features of a batch.

        Parameters
        ----------
        x : (B, 3, H, W) float
            RGB images, around [0, 1].

        Returns
        -------
        (B, C, H', W') float
            For layer 36: C = 512, H' = H // 16, W' = W // 16.

        Raises
        ------
        InputError
            When the images are not RGB, or so small that a pooling would leave nothing.
        """
        require_image_batch(x, self.in_channels)
        require_minimum_size(x, self.minimum_size, reason="poolings halve it")
        x = (x - self.mean) / self.deviation
        for name, index in self.layers:
            if name == "convolution":
                weight, bias = getattr(self, f"weight_{index}"), getattr(self, f"bias_{index}")
                x = functional.conv2d(x, weight, bias, padding=1)
            elif name == "relu":
                x = functional.relu(x, inplace=True)
            else:
                x = functional.max_pool2d(x, 2)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Return :meth:`encode` of ``x``."""
        return self.encode(x)


def _layers(count: int) -> list[tuple[str, int]]:
    """Return kind and torchvision's index of the first ``count`` layers."""
    kinds = [kind for width in WIDTHS for kind in (("convolution", "relu") if width else ("pool",))]
    return list(zip(kinds, range(count), strict=False))


def _shapes() -> list[tuple[int, int, int, int]]:
    widths = [width for width in WIDTHS if width]
    return [(width, before, 3, 3) for before, width in zip([3, *widths], widths, strict=False)]


def _draw(shapes: dict[int, tuple[int, int, int, int]], seed: int) -> dict[str, Tensor]:
    state = {}
    with rng.forked(seed, "VGG19Features"):
        for index, shape in shapes.items():
            state[f"weight_{index}"] = nn.init.kaiming_normal_(torch.empty(shape), nonlinearity="relu")
            state[f"bias_{index}"] = torch.zeros(shape[0])
    return state


def _read(
    weights: str | os.PathLike[str] | None, shapes: dict[int, tuple[int, int, int, int]]
) -> dict[str, Tensor]:
    path = weights_file(weights)
    checksum = sha256_file(path)
    if not checksum.startswith(CHECKSUM_START):
        fail(
            f"is not torchvision's {FILE_NAME}: its SHA-256 starts with {checksum[:8]}, expected "
            f"{CHECKSUM_START}",
            path=path,
            remedy=f"fetch {ADDRESS} again",
        )
    try:
        payload = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise InputError(
            f"{path}: does not load ({type(error).__name__}). Remedy: fetch {ADDRESS} again"
        ) from error
    state = {}
    for index, shape in shapes.items():
        for kind, expected in (("weight", shape), ("bias", shape[:1])):
            value = payload.get(f"features.{index}.{kind}")
            if value is None or tuple(value.shape) != expected:
                got = "none" if value is None else tuple(value.shape)
                fail(f"features.{index}.{kind} must be of shape {expected}, got {got}", path=path)
            # A copy, so that the file's other 490 MB are not kept in memory.
            state[f"{kind}_{index}"] = value.detach().float().clone()
    return state
