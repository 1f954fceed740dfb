"""Volumes restored by a network of slices: one image in, the same image without its degradation out."""

from __future__ import annotations

import torch
from torch import nn

from medrestore.data.intensity import foreground_scale
from medrestore.data.volumes import Volume
from medrestore.inference.slices import Restoration, SliceRestorer

__all__ = ["Restoration", "VolumeRestorer"]


class VolumeRestorer(SliceRestorer):
    """Restore volumes slice by slice with their neighbors, in batches.

    Parameters
    ----------
    generator
        (B, 2k + 1, H, W) -> (B, 2m + 1, H, W).
    neighbors, batch_size, device, precision, samples, seed
        As in :class:`~medrestore.inference.slices.SliceRestorer`.

    Raises
    ------
    InputError
        As in :class:`~medrestore.inference.slices.SliceRestorer`.
    """

    def __init__(
        self,
        generator: nn.Module,
        *,
        neighbors: int,
        batch_size: int = 8,
        device: str | torch.device = "cpu",
        precision: str = "fp32",
        samples: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            generator,
            neighbors=neighbors,
            in_channels=2 * neighbors + 1,
            batch_size=batch_size,
            device=device,
            precision=precision,
            samples=samples,
            seed=seed,
        )

    def restore(self, volume: Volume) -> Restoration:
        """Restore a volume of any size, in its own unit.

        Parameters
        ----------
        volume
            (X, Y, Z) float32 in canonical axes.

        Raises
        ------
        InputError
            When the volume has no foreground to scale by, or the result is not finite or of another size.
        """
        scale = foreground_scale(volume.data, voxel_size_mm=volume.voxel_size_mm)
        return self._restorations(volume.data[None], [scale], {"": ()}, scale=scale)[""]
