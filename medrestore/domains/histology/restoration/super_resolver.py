"""Images enlarged by a trained generator, in batches."""

from __future__ import annotations

from typing import Any, Unpack, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from medrestore.checks import InputError
from medrestore.domains.histology.degradation import TileDegradation
from medrestore.inference.network import NetworkRestorer, RunningSettings

__all__ = ["SuperResolver"]


class SuperResolver(NetworkRestorer):
    """Enlarge images by a generator, in batches.

    Parameters
    ----------
    generator
        (B, 3, h, w) in [0, 1] -> (B, 3, scale h, scale w).
    degradation
        Which the generator was trained to undo; its scale is the factor along each axis.
    batch_size, device, precision
        As in :class:`~medrestore.inference.network.NetworkRestorer`.

    Raises
    ------
    InputError
        When a number is out of range, or the generator says that it takes other channels or has another
        scale.
    """

    def __init__(
        self, generator: nn.Module, *, degradation: TileDegradation, **running: Unpack[RunningSettings]
    ) -> None:
        self.degradation = degradation
        self.scale = scale = int(degradation.scale)
        for name, expected in (("in_channels", 3), ("scale", scale)):
            found = getattr(generator, name, expected)
            if found != expected:
                raise InputError(f"the generator has {name} {found}, expected {expected}")
        super().__init__(generator, **running)

    @property
    def provenance(self) -> dict[str, Any]:
        """What a restoration depends on beside the weights and the source, as plain values."""
        return {"scale": self.scale, **super().provenance}

    def restore(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Enlarge images of one size.

        Parameters
        ----------
        images : (N, h, w, 3) uint8
            sRGB.

        Returns
        -------
        (N, scale h, scale w, 3) uint8
            Clipped to [0, 1] and rounded to the nearest of 256 levels.

        Raises
        ------
        InputError
            When the images are not (N, h, w, 3) uint8, or a result is not finite or of another size.
        """
        if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
            raise InputError(f"images must be (N, h, w, 3) uint8, got {images.shape} {images.dtype}")
        count, height, width, _ = images.shape
        restored = np.empty((count, height * self.scale, width * self.scale, 3), np.uint8)
        with torch.inference_mode():
            for first in range(0, count, self.batch_size):
                batch = slice(first, first + self.batch_size)
                restored[batch] = self._pass(np.ascontiguousarray(images[batch]))
        return restored

    def _pass(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        # (B, h, w, 3) in memory is (B, 3, h, w) of the format channels_last: nothing is copied.
        given = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2)
        output = self.forward(given.float().div_(255))
        expected = (len(images), 3, *(length * self.scale for length in images.shape[1:3]))
        if tuple(output.shape) != expected:
            raise InputError(f"the generator gave {tuple(output.shape)}, expected {expected}")
        levels = output.float().permute(0, 2, 3, 1).mul(255)
        self.require_finite(bool(torch.isfinite(levels).all()), what="image")
        return cast(
            "NDArray[np.uint8]", levels.round_().clamp_(0, 255).to(torch.uint8).contiguous().cpu().numpy()
        )
