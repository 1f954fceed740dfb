"""Volumes restored by a network of slices."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medrestore import rng
from medrestore.checks import InputError, require_in_range
from medrestore.data.intensity import foreground_scale
from medrestore.data.slice_stack import center_window
from medrestore.data.volumes import Volume
from medrestore.networks.precision import autocast_dtype

__all__ = ["Restoration", "VolumeRestorer"]


@dataclass(frozen=True, eq=False)
class Restoration:
    """A restored volume.

    Parameters
    ----------
    mean : (X, Y, Z) float32
        The restored image, in the unit of the input: the mean of the samples where there are any.
    standard_deviation : (X, Y, Z) float32 or None
        Of the samples, voxel by voxel, in the unit of the input: where the network guesses.
    scale
        Foreground scale of the input, by which the network's input was divided and its output multiplied.
    """

    mean: NDArray[np.float32]
    standard_deviation: NDArray[np.float32] | None
    scale: float


class VolumeRestorer:
    """Restore volumes slice by slice with their neighbors, in batches.

    Parameters
    ----------
    generator
        (B, 2k + 1, H, W) -> (B, 2m + 1, H, W). Copied: later changes to its weights have no effect here. Its
        attribute ``stride_multiple``, where it has one, is what H and W must be a multiple of.
    neighbors
        k, slices on each side that the network sees; beyond the first and last slice these are repeated.
    batch_size
        Slices at a time.
    device
        Where the network runs.
    precision
        Of :func:`~medrestore.networks.precision.autocast_dtype`: ``auto`` | ``fp32`` | ``bf16`` | ``fp16``.
        In the 16-bit ones, convolutions and linear layers are of that type, statistics of normalization
        float32.
    samples
        0: evaluation mode, one pass. Otherwise, at least 2: dropout is on (the paper's noise z), and mean and
        standard deviation (ddof 1) over so many passes are returned.
    seed
        Of the streams ``restore``: sample s of a volume is a function of it and of the batch size.

    Notes
    -----
    Slices are centered in the smallest size that is a multiple of ``stride_multiple``, padded with zeros as
    in training, and cropped back. A network with m > 0 also predicts a slice's m neighbors on each side: all
    predictions of a slice are averaged. Normalization layers use their running statistics, so a result does
    not depend on what else is in the batch.

    Raises
    ------
    InputError
        When a number is out of range, or samples are asked of a network without dropout.
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
        require_in_range("neighbors", neighbors, 0, 1000)
        require_in_range("batch_size", batch_size, 1, 10**6)
        if samples != 0:
            require_in_range("samples (other than 0)", samples, 2, 10**6)
        self.neighbors = int(neighbors)
        self.batch_size = int(batch_size)
        self.device = torch.device(device)
        self.autocast = autocast_dtype(precision, self.device)
        self.samples = int(samples)
        self.seed = seed
        self.stride_multiple = int(getattr(generator, "stride_multiple", 1))
        network: Any = copy.deepcopy(generator).eval().requires_grad_(False)
        network = network.to(device=self.device, memory_format=torch.channels_last)
        if self.autocast is not None:  # what autocast would do at every batch, once
            for module in network.modules():
                if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
                    module.to(self.autocast)
        dropouts = [
            module for module in network.modules() if isinstance(module, nn.modules.dropout._DropoutNd)
        ]
        if samples and not any(module.p > 0 for module in dropouts):
            raise InputError(
                "samples need a generator with dropout, this one has none. Remedy: use samples 0"
            )
        for module in dropouts:
            module.train(samples > 0)
        self.network: nn.Module = network

    def restore(self, volume: Volume) -> Restoration:
        """Restore a volume of any size.

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
        with torch.inference_mode():
            slices = self._padded_slices(volume.data, scale)
            if self.samples == 0:
                return Restoration(self._unpadded(self._pass(slices), volume, scale), None, scale)
            mean, squares = torch.zeros(()), torch.zeros(())
            for sample in range(self.samples):
                with rng.forked(self.seed, "restore", sample, device=self.device):
                    restored = self._pass(slices)
                # Welford's update: no difference of large sums, whatever the number of samples.
                change = restored - mean
                mean = mean + change / (sample + 1)
                squares = squares + change * (restored - mean)
            deviation = (squares / (self.samples - 1)).sqrt()
            return Restoration(
                self._unpadded(mean, volume, scale), self._unpadded(deviation, volume, scale), scale
            )

    def _padded_slices(self, data: NDArray[np.float32], scale: float) -> Tensor:
        """Return the volume over its scale with end slices repeated, slice-first: (k + Z + k, H, W)."""
        x, y, z = data.shape
        size, k = self._padded_size(x, y), self.neighbors
        inside, place = center_window((x, y), size)
        given = torch.from_numpy(np.require(data, np.float32, ["C", "W"])).to(self.device)
        # As a matrix of pixels by slices: torch transposes matrices in blocks, several times faster than 3D
        # arrays.
        slices = given.view(x * y, z).t().contiguous().view(z, x, y)
        padded = torch.zeros((z + 2 * k, *size), device=self.device)
        torch.div(slices[(slice(None), *inside)], scale, out=padded[(slice(k, k + z), *place)])
        padded[:k], padded[k + z :] = padded[k], padded[k + z - 1]
        # Cast once: autocast would do it at the first convolution, for each of a slice's 2k + 1 appearances.
        return padded if self.autocast is None else padded.to(self.autocast)

    def _padded_size(self, x: int, y: int) -> tuple[int, int]:
        multiple = self.stride_multiple
        return math.ceil(x / multiple) * multiple, math.ceil(y / multiple) * multiple

    def _unpadded(self, slices: Tensor, volume: Volume, scale: float) -> NDArray[np.float32]:
        """Return slices (Z, H, W) as a volume (X, Y, Z) in its own unit."""
        x, y, z = volume.data.shape
        _, place = center_window((x, y), tuple(slices.shape[1:]))
        kept = slices[(slice(None), *place)].reshape(z, x * y).t().contiguous().mul_(scale)
        restored: NDArray[np.float32] = kept.view(x, y, z).cpu().numpy()
        if not np.isfinite(restored).all():
            remedy = "check the weights" + ", or use precision fp32" * (self.autocast is not None)
            raise InputError(f"the restored volume is not finite. Remedy: {remedy}")
        return restored

    def _pass(self, slices: Tensor) -> Tensor:
        """Run the network over all slices: (k + Z + k, H, W) -> (Z, H, W) float32."""
        channels = 2 * self.neighbors + 1
        # A window of slices for each one restored: a view, from which each batch is copied once.
        windows = slices.unfold(0, channels, 1).permute(0, 3, 1, 2)
        depth = len(windows)
        total = torch.zeros((depth, *slices.shape[1:]), device=slices.device)
        counts = torch.zeros(depth, device=slices.device)
        for first in range(0, depth, self.batch_size):
            batch = windows[first : first + self.batch_size].contiguous(memory_format=torch.channels_last)
            with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
                output = self.network(batch)
            self._require_restored_slices(output, batch)
            for channel in range(output.shape[1]):
                start = first + channel - output.shape[1] // 2  # slice that output 0 restores
                low, high = max(start, 0), min(start + len(output), depth)
                if low < high:
                    total[low:high] += output[low - start : high - start, channel]
                    counts[low:high] += 1
        return total.div_(counts[:, None, None]) if output.shape[1] > 1 else total

    @staticmethod
    def _require_restored_slices(output: Tensor, batch: Tensor) -> None:
        expected = (len(batch), *batch.shape[2:])
        if output.ndim != 4 or (len(output), *output.shape[2:]) != expected or output.shape[1] % 2 == 0:
            raise InputError(
                f"the generator gave {tuple(output.shape)} for {tuple(batch.shape)}, "
                "expected slices of the same size and an odd number of channels"
            )
