"""Trainings on slices of volumes: what kinds of image with a manifest of volumes share."""

from __future__ import annotations

import os
from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from medrestore.data.channels import Channel, GaussianChannel
from medrestore.data.intensity import RELATIVE, Intensity
from medrestore.data.pairs import pair_schema
from medrestore.data.schema import Schema
from medrestore.data.slice_stack import SliceStack
from medrestore.data.slices import SliceDataset
from medrestore.data.training_range import training_range
from medrestore.data.transforms import PairAugmentation
from medrestore.engines.training_data import Measures, TrainingData
from medrestore.engines.volume_measures import VolumeMeasures

__all__ = ["PairData", "VolumeData"]


@dataclass(kw_only=True, eq=False)
class VolumeData(TrainingData, ABC):
    """Slices of volumes; further parameters are those of :class:`TrainingData`.

    Parameters
    ----------
    neighbors
        Slices on each side of the one restored.
    spatial_size
        In-plane size (X, Y): slices are centered in it.
    slice_range, validation_slice_range
        The part of a volume that slices are drawn from, from bottom (0) to top (1); all of it when None.
    flip_probability, intensity_jitter
        Of :class:`~medrestore.data.transforms.PairAugmentation`.
    """

    cache_dir: str | os.PathLike[str]
    neighbors: int
    spatial_size: Sequence[int]
    slice_range: tuple[float, float] | None = None
    validation_slice_range: tuple[float, float] | None = None
    flip_probability: float = 0.0
    intensity_jitter: float = 0.0

    colors: ClassVar[str] = "gray_r"
    """Of pictures: a color map of matplotlib."""

    def range_of(self, split: str) -> tuple[float, float] | None:
        """Return the part of a volume that slices of a split are drawn from."""
        return self.slice_range if split == "train" else self.validation_slice_range

    @property
    def masks(self) -> tuple[str, ...]:
        """Keys of masks in batches, beside image and label."""
        return ()

    @property
    def augmentation(self) -> Callable[..., Mapping[str, Tensor]]:
        """Flips and factors of intensity."""
        return PairAugmentation(
            flip_probability=self.flip_probability,
            intensity_jitter=self.intensity_jitter,
            masks=self.masks,
            scaled_channels=self.scaled_channels,
            seed=self.seed,
        )

    @property
    def scaled_channels(self) -> int | None:
        """How many channels of the input show the degraded image, the first ones; None for all."""
        return None

    @property
    def measures(self) -> Measures:
        """PSNR of volumes and the mean absolute error."""
        return VolumeMeasures(colors=self.colors)


@dataclass(kw_only=True, eq=False)
class PairData(VolumeData):
    """Pairs of a degraded volume and its target; further parameters are those of :class:`VolumeData`.

    Without ``label_column``, batches are balanced over volumes.

    Parameters
    ----------
    label_values
        Labels that may occur.
    context_sigmas_mm
        Of Gaussians of the whole degraded volume that the network is shown too: channels of the slice that is
        restored, in this order.
    """

    label_values: Sequence[float] = (0, 1)
    context_sigmas_mm: Sequence[float] = ()

    intensity: ClassVar[Intensity] = RELATIVE
    """How networks see such images."""

    words: ClassVar[tuple[str, ...]] = ()
    """Columns of words that tell what a network was trained on."""

    @property
    def least_classes(self) -> int:
        """One volume alone is a class."""
        return 1 if self.label_column is None else 2

    @property
    def schema(self) -> Schema:
        """Of pairs."""
        return pair_schema(
            label_column=self.label_column, label_values=self.label_values, intensity=self.intensity
        )

    @property
    def channels(self) -> tuple[Channel, ...]:
        """What the network is shown beside the degraded slices, in the order of its input.

        A kind of image adds its own behind these, as ``(*super().channels, VolumeChannel(name="t1w"))``.
        """
        return tuple(GaussianChannel(sigma_mm=sigma) for sigma in self.context_sigmas_mm)

    @property
    def in_channels(self) -> int:
        """Channels of the generator's input: degraded slices, then those of the further channels."""
        return sum(2 * count + 1 for count in (self.neighbors, *(each.neighbors for each in self.channels)))

    @property
    def places(self) -> list[range]:
        """Where in the generator's input each of :attr:`channels` is."""
        places, first = [], 2 * self.neighbors + 1
        for channel in self.channels:
            count = 2 * channel.neighbors + 1
            places.append(range(first, first + count))
            first += count
        return places

    @property
    def scaled_channels(self) -> int | None:
        """Those of the degraded volume: further volumes of a row have scales of their own."""
        own = [bool(channel.column) for channel in self.channels]
        return self.places[own.index(True)].start if any(own) else None

    @property
    def candidates(self) -> list[int]:
        """Channels that a generator can blend: the slice itself, then the Gaussians."""
        first = 2 * self.neighbors + 1
        return [self.neighbors, *range(first, first + len(self.context_sigmas_mm))]

    def dataset(self, split: str) -> SliceDataset:
        """Return the slices of a split."""
        stack = SliceStack.build(
            self.rows(split),
            self.cache_dir,
            spatial_size=self.spatial_size,
            intensity=self.intensity,
            channels=self.channels,
        )
        return SliceDataset(
            stack,
            neighbors=self.neighbors,
            label_column=self.label_column,
            slice_range=self.range_of(split),
        )

    @property
    def model_information(self) -> dict[str, Any]:
        """The shape of the input, and the range of the training images."""
        channels = [channel.plain for channel in self.channels]
        return {
            "restorer": self.restorer,
            "neighbors": self.neighbors,
            **({"channels": channels} if channels else {}),
            "label_column": self.label_column,
            "spatial_size": list(self.spatial_size),
            "training_range": training_range(self.rows("train"), words=self.words, intensity=self.intensity),
        }
