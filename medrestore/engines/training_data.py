"""What a training learns from and is judged by: from a manifest and numbers to batches and facts."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from medrestore.checks import InputError
from medrestore.data.schema import Schema, split_rows
from medrestore.data.slices import (
    BalancedBatchSampler,
    StackDataset,
    make_sequential_loader,
    make_slice_loader,
)

__all__ = ["Measures", "Pair", "TrainingData"]

Pair = tuple[Mapping[str, Tensor], Tensor]
"""A batch, and what the network made of its ``image``, float32; both on the trainer's device."""


class Measures(Protocol):
    """What a kind of image has measured and shown of its validation."""

    caption: str
    """Ends the panel's title."""

    @property
    def information(self) -> Mapping[str, Any]:
        """What the last validation found that ``model.pt`` is to say of the training's range."""
        ...

    def measure(self, pairs: Iterable[Pair]) -> dict[str, float]:
        """Return numbers by name; none of no pairs at all."""
        ...

    def draw(self, data_loader: Any, restore: Callable[[Tensor], Tensor]) -> Any:
        """Return a figure of matplotlib; ``restore`` says what the network makes of images, on the CPU."""
        ...


@dataclass(kw_only=True, eq=False)
class TrainingData(ABC):
    """The images of a training; a kind of image says in a subclass what is its own.

    Nothing is read before a part is asked for.

    Parameters
    ----------
    manifest
        CSV table of the images, with the splits ``train`` and ``validation``.
    cache_dir
        Folder of memory maps, decoded once; None where a kind of image can do without.
    workers
        Loader processes.
    seed, batch_size, batches_per_epoch
        Of :class:`~medrestore.data.slices.BalancedBatchSampler`.
    label_column
        Key of the class y in batches; None where images have none.
    """

    manifest: str | os.PathLike[str]
    cache_dir: str | os.PathLike[str] | None
    workers: int = 0
    seed: int
    batch_size: int
    batches_per_epoch: int
    label_column: str | None = None

    restorer: ClassVar[str]
    """What restores with the network: ``DOMAIN.CLASS``, a class of the domain's ``restoration``."""

    validation_batch_size: ClassVar[int] = 16

    full_precision: ClassVar[bool] = False
    """Whether validation computes in float32, whatever the training's precision."""

    @classmethod
    def of(cls, parameters: Mapping[str, Any], **given: Any) -> Self:
        """Return the data of a training with these ``parameters``, of which it takes its own by their names.

        Raises
        ------
        InputError
            When one that it needs is not among them.
        """
        own = fields(cls)
        values = {field.name: parameters[field.name] for field in own if field.name in parameters} | given
        lacking = [field.name for field in own if field.default is MISSING and field.name not in values]
        if lacking:
            raise InputError(f"parameters must hold {', '.join(lacking)}, which {cls.__name__} needs")
        return cls(**values)

    # ------------------------------------------------------------------ what a kind of image says
    @property
    def least_classes(self) -> int:
        """Of :class:`~medrestore.data.slices.BalancedBatchSampler`."""
        return 2

    @property
    def favored(self) -> tuple[NDArray[np.bool_], float] | None:
        """Training pairs that a share of every batch is kept for, and the share; None where all are alike."""
        return None

    @property
    @abstractmethod
    def schema(self) -> Schema:
        """Of the manifest."""

    @abstractmethod
    def dataset(self, split: str) -> StackDataset:
        """Return the training pairs of a split."""

    @property
    @abstractmethod
    def augmentation(self) -> Callable[..., Mapping[str, Tensor]] | None:
        """What happens to training pairs: called with a batch, ``epoch`` and ``iteration``."""

    @property
    @abstractmethod
    def measures(self) -> Measures:
        """What validation measures and shows."""

    @property
    @abstractmethod
    def model_information(self) -> dict[str, Any]:
        """What inference must know of the training: plain values, kept in ``model.pt``."""

    # ------------------------------------------------------------------ what trainer and validation ask for
    @cached_property
    def table(self) -> pd.DataFrame:
        """The manifest."""
        return self.schema.read(self.manifest)

    def rows(self, split: str) -> pd.DataFrame:
        """Return the manifest's rows of a split."""
        return split_rows(self.table, split)

    @cached_property
    def training(self) -> StackDataset:
        """The pairs that networks learn from."""
        return self.dataset("train")

    @cached_property
    def sampler(self) -> BalancedBatchSampler:
        """Draws batches, and is the training's position in its data."""
        favored, share = self.favored or (None, 0.0)
        return BalancedBatchSampler(
            self.training.labels,
            batch_size=self.batch_size,
            batches_per_epoch=self.batches_per_epoch,
            seed=self.seed,
            least_classes=self.least_classes,
            favored=favored,
            favored_share=share,
        )

    def loader(self, *, pin_memory: bool) -> DataLoader[dict[str, Tensor]]:
        """Return what yields the sampler's batches; ``pin_memory`` speeds their way to a GPU."""
        return make_slice_loader(self.training, self.sampler, workers=self.workers, pin_memory=pin_memory)

    @cached_property
    def validation_loader(self) -> DataLoader[dict[str, Tensor]]:
        """Yields the validation pairs in order."""
        return make_sequential_loader(self.dataset("validation"), batch_size=self.validation_batch_size)
