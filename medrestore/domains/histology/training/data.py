"""What trainings on histopathology learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from medrestore.checks import InputError
from medrestore.data.schema import Schema
from medrestore.domains.histology.consistency import range_of, recording_of
from medrestore.domains.histology.degradation import (
    TileDegradation,
    degradation_facts,
    reductions_of,
)
from medrestore.domains.histology.schema import TILES
from medrestore.domains.histology.training.augmentation import TileAugmentation
from medrestore.domains.histology.training.dataset import TileDataset
from medrestore.domains.histology.training.stack import TileStack
from medrestore.domains.histology.training.validation import TileMeasures
from medrestore.engines.training_data import TrainingData
from medrestore.operators.corruption import Corruption
from medrestore.operators.recording import DegradationRange

__all__ = ["TileData"]

MEASURED_TILES = 256
"""Training tiles at most, spread evenly, whose sharpness and JPEG are measured."""


@dataclass(kw_only=True, eq=False)
class TileData(TrainingData):
    """Tiles of low and high resolution, balanced over patients.

    Parameters
    ----------
    degradation
        Makes the low-resolution tiles. Of a range, validation tiles draw one by their names, training pairs
        another each time.
    corruption_fraction, corruption_kinds
        What is done to targets in training, of :class:`~medrestore.operators.corruption.Corruption`.
    crop_size, flips, stain_jitter
        Of :class:`~medrestore.domains.histology.training.augmentation.TileAugmentation`.
    """

    degradation: TileDegradation
    corruption_fraction: float = 0.0
    corruption_kinds: Sequence[str] = ("noise", "blur", "contrast")
    crop_size: int | None = None
    flips: bool = True
    stain_jitter: float = 0.0

    validation_batch_size = 8

    def __post_init__(self) -> None:
        if self.corruption_fraction and isinstance(self.degradation, DegradationRange):
            raise InputError(
                "corruption_fraction must be 0 with a range of degradations: they are made of targets, and "
                "low-resolution tiles are those of clean ones. Remedy: train with one degradation"
            )

    @property
    def least_classes(self) -> int:
        """A patient is a class."""
        return 1

    @property
    def schema(self) -> Schema:
        """Of tiles."""
        return TILES

    def dataset(self, split: str) -> TileDataset:
        """Return the tiles of a split; targets are corrupted in training alone."""
        corruption = Corruption(self.corruption_fraction, self.corruption_kinds, seed=self.seed)
        return TileDataset(
            TileStack.build(
                self.rows(split),
                cache_dir=self.cache_dir,
                degradation=self.degradation,
                corruption=corruption if split == "train" else None,
            )
        )

    @property
    def augmentation(self) -> TileAugmentation:
        """Crops, flips, quarter turns and stains."""
        return TileAugmentation(
            crop_size=self.crop_size,
            scale=self.degradation.scale,
            flips=self.flips,
            stain_jitter=self.stain_jitter,
            degradation=self.degradation if isinstance(self.degradation, DegradationRange) else None,
            seed=self.seed,
        )

    @property
    def measures(self) -> TileMeasures:
        """Fidelity over each patient's tiles."""
        return TileMeasures(reductions_of(self.degradation))

    @property
    def model_information(self) -> dict[str, Any]:
        """The degradation, and the range of the low-resolution tiles: resolution, sharpness, JPEG."""
        stack = cast("TileDataset", self.training).stack
        chosen = np.unique(np.linspace(0, len(stack) - 1, MEASURED_TILES).astype(np.int64))
        recorded = [recording_of(np.moveaxis(image, 0, -1)) for image in stack.images(chosen)]
        microns = self.rows("train")["microns_per_pixel"] * self.degradation.scale
        return {
            "restorer": "histology.ImageFileRestorer",
            **degradation_facts(self.degradation),
            "training_range": {
                "microns_per_pixel": [float(microns.min()), float(microns.max())],
                **range_of(recorded),
            },
        }
