"""A network of slices run over whole volumes: padding, windows, precision, samples; whatever is restored."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medrestore import rng
from medrestore.checks import InputError, require_in_range
from medrestore.data.channels import Channel, Shown
from medrestore.data.intensity import RELATIVE, Intensity
from medrestore.data.slice_stack import center_window
from medrestore.data.volumes import Volume
from medrestore.inference.network import NetworkRestorer, RunningSettings, SampledSettings

__all__ = ["Restoration", "SliceRestorer", "VolumeRestorer"]


@dataclass(frozen=True, eq=False)
class Restoration:
    """A restored volume.

    Parameters
    ----------
    mean : (X, Y, Z) float32
        The restored image: the mean of the samples where there are any.
    standard_deviation : (X, Y, Z) float32 or None
        Of the samples, voxel by voxel, in the unit of the mean: where the network guesses.
    scale
        By which the network's output was multiplied: the input's foreground scale where the restored image is
        in the input's unit, 1 where it is in relative units.
    input_scale
        By which each channel of the input was divided.
    """

    mean: NDArray[np.float32]
    standard_deviation: NDArray[np.float32] | None
    scale: float
    input_scale: tuple[float, ...]


class SliceRestorer(NetworkRestorer):
    """Run a generator over the slices of volumes, with their neighbors, in batches.

    Restorers of several channels or conditions add where the volume, its scale and the conditions come from.

    Parameters
    ----------
    generator
        (B, (2k + 1) C + S + K + E, H, W) -> (B, 2m + 1, H, W): slices -k to k, each with its C channels, then
        S slices of further channels, then K constant planes, then E images that go with the condition. Its
        attribute ``stride_multiple``, where it has
        one, is what H and W must be a multiple of.
    neighbors
        k, slices on each side that the network sees; beyond the first and last slice these are repeated.
    channels
        C, of the volume.
    further
        n of each further channel, whose slices -n to n follow: those of a channel side by side, so S is the
        sum of 2n + 1.
    planes
        K, which tell the network under what condition it restores.
    beside
        E, images that each condition brings, of the slice itself alone.
    samples
        0: evaluation mode, one pass. Otherwise, at least 2: dropout is on (the paper's noise z), and mean and
        standard deviation (ddof 1) over so many passes are returned.
    seed
        Of the streams ``restore``: a sample of a volume under one condition is a function of it and of the
        batch size, whatever other conditions are asked for.
    batch_size, device, precision
        As in :class:`~medrestore.inference.network.NetworkRestorer`; a batch is of slices under one
        condition.

    Notes
    -----
    Slices are centered in the smallest size that is a multiple of ``stride_multiple``, padded with zeros as
    in training, and cropped back. A network with m > 0 also predicts a slice's m neighbors on each side: all
    predictions of a slice are averaged.

    Raises
    ------
    InputError
        When a number is out of range, samples are asked of a network without dropout, or the generator says
        that it takes another number of channels.
    """

    def __init__(
        self,
        generator: nn.Module,
        *,
        neighbors: int,
        channels: int = 1,
        further: Sequence[int] = (),
        planes: int = 0,
        beside: int = 0,
        samples: int = 0,
        seed: int = 0,
        **running: Unpack[RunningSettings],
    ) -> None:
        for count in (neighbors, *further):
            require_in_range("neighbors", count, 0, 1000)
        if samples != 0:
            require_in_range("samples (other than 0)", samples, 2, 10**6)
        further_slices = sum(2 * count + 1 for count in further)
        in_channels = (2 * neighbors + 1) * channels + further_slices + planes + beside
        taken = getattr(generator, "in_channels", in_channels)
        if taken != in_channels:
            raise InputError(
                f"the generator takes {taken} channels, the slices of this acquisition have {in_channels}. "
                "Remedy: restore with the bundle and the settings that it was trained with"
            )
        super().__init__(generator, **running)
        self.neighbors = int(neighbors)
        self.further = tuple(further)
        self.samples = int(samples)
        self.seed = seed
        self.stride_multiple = int(getattr(generator, "stride_multiple", 1))
        dropouts = [
            module for module in self.network.modules() if isinstance(module, nn.modules.dropout._DropoutNd)
        ]
        if samples and not any(module.p > 0 for module in dropouts):
            raise InputError(
                "samples need a generator with dropout, this one has none. Remedy: use samples 0"
            )
        for module in dropouts:
            module.train(samples > 0)

    @property
    def provenance(self) -> dict[str, Any]:
        """What a restoration depends on beside the weights and the source, as plain values."""
        return {"samples": self.samples, "seed": self.seed if self.samples else None, **super().provenance}

    def restorations(
        self,
        channels: Sequence[NDArray[np.float32]],
        input_scale: Sequence[float],
        conditions: Mapping[str, Sequence[float]],
        *,
        scale: float,
        beside: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> dict[str, Restoration]:
        """Restore a volume of channels, (X, Y, Z) each, the further ones last, once for each condition.

        ``conditions`` hold the values (K,) of the constant planes that follow the slices, by name, ``beside``
        the images (E, X, Y, Z) that follow the planes, as the network sees them; ``input_scale`` divides the
        channels, a number each; ``scale`` multiplies the output.
        """
        with torch.inference_mode():
            slices = self._padded_slices(channels, input_scale, margin=self._margin)
            images = {
                name: self._padded_slices(list(own), [1.0] * len(own), margin=0)
                for name, own in (beside or {}).items()
            }
            mean, deviation = self._pass(slices, conditions, images, 0), None
            if self.samples:
                squares = torch.zeros_like(mean)
                for sample in range(1, self.samples):
                    restored = self._pass(slices, conditions, images, sample)
                    # Welford's update: no difference of large sums, whatever the number of samples.
                    change = restored - mean
                    mean += change / (sample + 1)
                    squares += change * (restored - mean)
                deviation = squares.div_(self.samples - 1).sqrt_()
            shape = channels[0].shape[:2]
            return {
                name: Restoration(
                    self._unpadded(mean[index], shape, scale),
                    None if deviation is None else self._unpadded(deviation[index], shape, scale),
                    scale,
                    tuple(float(value) for value in input_scale),
                )
                for index, name in enumerate(conditions)
            }

    @property
    def _margin(self) -> int:
        """Slices that a volume's end is repeated by: what the widest window needs."""
        return max(self.neighbors, *self.further, 0)

    def _padded_slices(
        self, channels: Sequence[NDArray[np.float32]], input_scale: Sequence[float], *, margin: int
    ) -> Tensor:
        """Return the channels over their scales, end slices repeated by a margin: (m + Z + m, C, H, W)."""
        x, y, z = channels[0].shape
        size, k = self._padded_size(x, y), margin
        inside, place = center_window((x, y), size)
        # Channels last, as the network's batches are: a window is then copied in runs of C numbers.
        # Cast once: autocast would do it at the first convolution, for each of a slice's 2k + 1 appearances.
        padded = torch.empty(
            (z + 2 * k, len(channels), *size),
            dtype=self.autocast or torch.float32,
            device=self.device,
            memory_format=torch.channels_last,
        ).zero_()
        for channel, (image, divisor) in enumerate(zip(channels, input_scale, strict=True)):
            given = torch.from_numpy(np.require(image, np.float32, ["C", "W"])).to(self.device)
            # As a matrix of pixels by slices: torch transposes matrices in blocks, several times faster than
            # 3D arrays.
            slices = given.view(x * y, z).t().contiguous().view(z, x, y)
            out = padded[k : k + z, channel][(slice(None), *place)]
            torch.div(slices[(slice(None), *inside)], float(divisor), out=out)
        padded[:k], padded[k + z :] = padded[k], padded[k + z - 1]
        return padded

    def _padded_size(self, x: int, y: int) -> tuple[int, int]:
        multiple = self.stride_multiple
        return math.ceil(x / multiple) * multiple, math.ceil(y / multiple) * multiple

    def _unpadded(self, slices: Tensor, shape: tuple[int, ...], scale: float) -> NDArray[np.float32]:
        """Return slices (Z, H, W) as a volume (X, Y, Z) in its own unit."""
        x, y = shape
        z = len(slices)
        _, place = center_window((x, y), tuple(slices.shape[1:]))
        kept = slices[(slice(None), *place)].reshape(z, x * y).t().contiguous().mul_(scale)
        restored: NDArray[np.float32] = kept.view(x, y, z).cpu().numpy()
        self.require_finite(bool(np.isfinite(restored).all()), what="volume")
        return restored

    def _pass(
        self,
        slices: Tensor,
        conditions: Mapping[str, Sequence[float]],
        beside: Mapping[str, Tensor],
        sample: int,
    ) -> Tensor:
        """Run the network over all slices, (m + Z + m, C, H, W) -> (conditions, Z, H, W) float32."""
        # Windows of slices for each one restored: views, from which each batch is copied once, whatever the
        # number of conditions. A batch has one condition: what is restored under it, and its rounding, then
        # does not depend on which others are asked for.
        windows = list(self._windows(slices))
        depth, *_, height, width = windows[0].shape
        counts = [math.prod(window.shape[1:3]) for window in windows]
        shown, planes = sum(counts), len(next(iter(conditions.values())))
        total = torch.zeros((len(conditions), depth, height, width), device=slices.device)
        spread = 0
        images = max((own.shape[1] for own in beside.values()), default=0)
        room = torch.empty(
            (min(self.batch_size, depth), shown + planes + images, height, width),
            dtype=slices.dtype,
            device=slices.device,
            memory_format=torch.channels_last,
        )
        for first in range(0, depth, self.batch_size):
            batch = room[: min(self.batch_size, depth - first)]
            for window, part in zip(windows, batch[:, :shown].split(counts, dim=1), strict=True):
                part.unflatten(1, window.shape[1:3]).copy_(window[first : first + self.batch_size])
            held: list[float | None] = [None] * planes
            for index, (name, values) in enumerate(conditions.items()):
                for plane, value in enumerate(values):
                    if held[plane] != value:  # of a one-hot condition, two planes change from the last one
                        batch[:, shown + plane] = value
                held = list(values)
                if images:
                    batch[:, shown + planes :] = beside[name][first : first + self.batch_size]
                output = self._forward(batch, name, first, sample)
                spread = output.shape[1] // 2
                for channel in range(output.shape[1]):
                    start = first + channel - spread  # slice that output 0 restores
                    low, high = max(start, 0), min(start + len(output), depth)
                    if low < high:
                        total[index, low:high] += output[low - start : high - start, channel]
        if spread:
            places = torch.arange(depth, device=slices.device)
            predictions = (places + spread).clamp_max(depth - 1) - (places - spread).clamp_min(0) + 1
            total /= predictions[:, None, None]
        return total

    def _windows(self, slices: Tensor) -> Iterator[Tensor]:
        """Yield views (Z, 2n + 1, c, H, W): of the channels with neighbors, then of each further one."""
        given, margin = slices.shape[1] - len(self.further), self._margin
        parts = [(slice(0, given), self.neighbors)]
        parts += [(slice(given + index, given + index + 1), n) for index, n in enumerate(self.further)]
        for channels, neighbors in parts:
            inside = slices[margin - neighbors : len(slices) - (margin - neighbors), channels]
            yield inside.unfold(0, 2 * neighbors + 1, 1).permute(0, 4, 1, 2, 3)

    def _forward(self, batch: Tensor, name: str, first: int, sample: int) -> Tensor:
        stream = (
            rng.forked(self.seed, "restore", sample, name, first, device=self.device)
            if self.samples
            else nullcontext()
        )
        with stream:
            output = self.forward(batch)
        expected = (len(batch), *batch.shape[2:])
        if output.ndim != 4 or (len(output), *output.shape[2:]) != expected or output.shape[1] % 2 == 0:
            raise InputError(
                f"the generator gave {tuple(output.shape)} for {tuple(batch.shape)}, "
                "expected slices of the same size and an odd number of channels"
            )
        return output


class VolumeRestorer(SliceRestorer):
    """Restore volumes of one channel under no condition: the same image without its degradation comes out.

    Parameters
    ----------
    generator, neighbors, settings
        As in :class:`SliceRestorer`.
    intensity
        How the network sees the volumes.
    channels
        Further ones that the network was trained with.
    """

    def __init__(
        self,
        generator: nn.Module,
        *,
        neighbors: int,
        intensity: Intensity = RELATIVE,
        channels: Sequence[Channel] = (),
        **settings: Unpack[SampledSettings],
    ) -> None:
        further = [channel.neighbors for channel in channels]
        super().__init__(generator, neighbors=neighbors, further=further, **settings)
        self.intensity = intensity
        self.channels = tuple(channels)

    def restore(self, volume: Volume, *, beside: Mapping[str, Volume] | None = None) -> Restoration:
        """Restore a volume of any size, in its own unit.

        Parameters
        ----------
        volume
            (X, Y, Z) float32 in canonical axes.
        beside
            Further volumes on its grid by their column of the manifest, for channels that are of one.

        Raises
        ------
        InputError
            When the volume has no foreground to scale by, or the result is not finite or of another size.
        """
        image = self.intensity.above_nothing(volume.data)
        scale = self.intensity.scale_of(image, voxel_size_mm=volume.voxel_size_mm)
        shown = Shown(image, scale, volume.voxel_size_mm, beside or {})
        images, scales = zip((image, scale), *(channel.of(shown) for channel in self.channels), strict=True)
        restored = self.restorations(images, scales, {"": ()}, scale=scale)[""]
        return replace(restored, mean=self.intensity.back(restored.mean))
