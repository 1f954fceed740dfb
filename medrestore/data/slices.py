"""Batches of axial slices with their neighbors, drawn label-balanced from a stack."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, SequentialSampler

from medrestore import rng
from medrestore.checks import InputError, require_in_range, require_in_set
from medrestore.data.processes import own_share
from medrestore.data.slice_maps import SliceMaps
from medrestore.data.slice_stack import SliceStack, center_window

__all__ = [
    "BalancedBatchSampler",
    "SliceDataset",
    "SliceStack",
    "StackDataset",
    "center_window",
    "make_sequential_loader",
    "make_slice_loader",
    "slices_in_range",
]

BATCHES = ("mixed", "one_class")
"""How :class:`BalancedBatchSampler` shares out an epoch's batches among the classes."""

T = TypeVar("T")


class IndexedSlices(Protocol):
    """What a stack says of its slices: the volume and the number of each, and where volumes begin."""

    @property
    def first_slice(self) -> NDArray[np.int64]:
        """(V + 1,): volume v holds the slices ``first_slice[v]`` to ``first_slice[v + 1] - 1``."""
        ...

    @property
    def volume_index(self) -> NDArray[np.int64]:
        """(N,): the volume that each slice is of."""
        ...

    @property
    def slice_index(self) -> NDArray[np.int64]:
        """(N,): the number of each slice."""
        ...


class StackDataset(Dataset[dict[str, Tensor]], ABC):
    """Slices of a stack, loaded in whole batches.

    Parameters
    ----------
    stack
        All slices of a split.
    slices : (M,) int64
        The slice of the stack that each item is of.
    labels : (M,)
        Class of each item, for balanced batches.

    Attributes
    ----------
    shown_channel : int
        Channel of ``image`` that a picture shows.
    """

    shown_channel = 0

    def __init__(self, stack: IndexedSlices, *, slices: NDArray[np.int64], labels: NDArray[Any]) -> None:
        self.chosen = slices
        self.labels = labels
        self.volume = stack.volume_index[slices]
        self.slice_index = stack.slice_index[slices]
        self._bounds = stack.first_slice[self.volume], stack.first_slice[self.volume + 1] - 1

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one item: the batch of :meth:`__getitems__` without its first axis."""
        return {key: value[0] for key, value in self.__getitems__([index]).items()}

    @abstractmethod
    def __getitems__(self, indices: Sequence[int] | NDArray[np.integer]) -> dict[str, Tensor]:
        """Return the batch of items, 0 to ``len(self) - 1``: along the first axis of every tensor."""

    def with_neighbors(self, neighbors: int) -> NDArray[np.int64]:
        """Return the slices (M, 2k + 1) of every item and its k neighbors on each side.

        Beyond a volume's first and last slice these are repeated.
        """
        offsets = np.arange(-neighbors, neighbors + 1)
        first, last = self._bounds
        around: NDArray[np.int64] = np.clip(self.chosen[:, None] + offsets, first[:, None], last[:, None])
        return around


class SliceDataset(StackDataset):
    """Slices of a stack, each with its neighbors, the stack's further channels and its subject's label.

    Parameters
    ----------
    stack
        All slices of a split.
    neighbors
        k, degraded slices on each side of the one restored: 2k + 1 channels, the slice itself in channel k.
        Beyond a volume's first and last slice these are repeated.
    label_column
        Column of the manifest with the class label y; also the batch's key. When None, every volume is a
        class of its own, and batches have no y.
    slice_range
        (first, last) as parts of a volume from bottom (0) to top (1): only slices whose center lies in it are
        drawn; their neighbors may lie outside. All slices when not given.

    Attributes
    ----------
    labels : (N,)
        y of every slice, float32, or its volume.
    shown_channel : int
        Channel of ``image`` that a picture shows: the slice itself.

    Raises
    ------
    InputError
        When k is negative, the label is missing, or no slice lies in the range.
    """

    def __init__(
        self,
        stack: SliceStack,
        *,
        neighbors: int,
        label_column: str | None,
        slice_range: tuple[float, float] | None = None,
    ) -> None:
        require_in_range("neighbors", neighbors, 0, 1000)
        labels: NDArray[Any] = np.arange(len(stack.volumes))
        if label_column is not None:
            if label_column not in stack.volumes:
                known = ", ".join(map(str, stack.volumes.columns))
                raise InputError(
                    f"label_column {label_column!r} is not a column of the manifest, which has {known}"
                )
            labels = stack.volumes[label_column].to_numpy(dtype=np.float32)
            if not np.isfinite(labels).all():
                raise InputError(f"label_column {label_column!r} holds values that are no numbers")
        chosen = slices_in_range(stack, slice_range)
        super().__init__(stack, slices=chosen, labels=labels[stack.volume_index[chosen]])
        self.stack = stack
        self.neighbors = self.shown_channel = int(neighbors)
        self.label_column = label_column
        self._channels = self.with_neighbors(self.neighbors)
        count = len(stack.channels)
        planes = [
            self.with_neighbors(channel.neighbors) * count + index
            for index, channel in enumerate(stack.channels)
        ]
        self._further = np.concatenate(planes, axis=1) if planes else None

    def __getitems__(self, indices: Sequence[int] | NDArray[np.integer]) -> dict[str, Tensor]:
        """Return a batch.

        Returns
        -------
        dict
            ``image`` (B, 2k + 1, X, Y) and ``label`` (B, 1, X, Y) float32, both over the degraded volume's
            scale; of a stack with further channels, 2n + 1 slices of each follow in ``image``. The class
            label (B,) float32 under the name of its column; ``volume_index`` (row of ``stack.volumes``) and
            ``slice_index`` (from the bottom) (B,) int64.
        """
        wanted = np.asarray(indices, dtype=np.int64)
        y = {self.label_column: torch.from_numpy(self.labels[wanted])} if self.label_column else {}
        image = self.stack.degraded[self._channels[wanted]]
        if self._further is not None:
            planes = self.stack.further.reshape(-1, *self.stack.spatial_size)
            image = np.concatenate([image, planes[self._further[wanted]]], axis=1)
        return {
            "image": torch.from_numpy(image),
            "label": torch.from_numpy(self.stack.target[self.chosen[wanted]])[:, None],
            **y,
            "volume_index": torch.from_numpy(self.volume[wanted]),
            "slice_index": torch.from_numpy(self.slice_index[wanted]),
        }


def slices_in_range(stack: SliceMaps, slice_range: tuple[float, float] | None) -> NDArray[np.int64]:
    """Return the slices of a stack whose center lies in a part of its volume, from bottom (0) to top (1).

    Raises
    ------
    InputError
        When the range is none, or holds no slice.
    """
    if slice_range is None:
        return np.arange(len(stack))
    first, last = slice_range
    require_in_range("slice_range[0]", first, 0, 1)
    require_in_range("slice_range[1]", last, first, 1)
    depth = np.diff(stack.first_slice)[stack.volume_index]
    center = (stack.slice_index + 0.5) / depth
    chosen = np.flatnonzero((center >= first) & (center <= last))
    if chosen.size == 0:
        raise InputError(f"slice_range {slice_range} holds no slice of the volumes")
    return chosen


class BalancedBatchSampler(Sampler[list[int]]):
    """Batches with equally many slices of every class, a function of the seed and the epoch alone.

    Parameters
    ----------
    labels : (N,)
        Class of every slice.
    batch_size
        Slices per batch and process.
    batches_per_epoch
        Length of an epoch; slices are drawn without replacement until a class is used up, then anew.
    seed
        Of the stream ``sampler``.
    rank, world_size
        Of ``batch_size * world_size`` slices drawn together, process ``rank`` takes every ``world_size``-th:
        several processes see together what one with the larger batch would see. The processes that it runs
        in when not given.
    least_classes
        Fewest classes that make sense: 2 where a class is something to be told from another, 1 where it is
        a patient.
    favored : (N,) bool
        Slices that a share of every class's places is kept for; all slices are alike when not given.
    favored_share
        That share, from 0 to 1. A class whose slices are all favored, or none of them, is drawn from as it
        is.

    Notes
    -----
    Where the classes do not divide the batch, the classes that get one slice more change from batch to batch;
    where the share does not divide a class's places, the batches that get one favored slice more do.

    Raises
    ------
    InputError
        When there are fewer classes, or numbers are out of range.
    """

    def __init__(
        self,
        labels: Sequence[float] | NDArray[Any],
        *,
        batch_size: int,
        batches_per_epoch: int,
        seed: int,
        rank: int | None = None,
        world_size: int | None = None,
        least_classes: int = 2,
        favored: NDArray[np.bool_] | None = None,
        favored_share: float = 0.5,
    ) -> None:
        require_in_range("favored_share", favored_share, 0, 1)
        require_in_range("batch_size", batch_size, 1, 10**9)
        require_in_range("batches_per_epoch", batches_per_epoch, 1, 10**9)
        require_in_range("least_classes", least_classes, 1, 2)
        classes, inverse = np.unique(np.asarray(labels), return_inverse=True)
        if len(classes) == 0:
            raise InputError("the training set holds no slices. Remedy: add subjects to the split")
        if len(classes) < least_classes:
            raise InputError(
                f"the training set holds only class {classes[0]:g}: label-balanced batches need two classes. "
                "Remedy: add subjects of the other class to the split, or check the label column"
            )
        rank_of = np.zeros(len(inverse), dtype=bool) if favored is None else np.asarray(favored, dtype=bool)
        self._classes = len(classes)
        self._members = {
            (index, kept): np.flatnonzero((inverse == index) & (rank_of == kept))
            for index in range(len(classes))
            for kept in (False, True)
        }
        self.favored_share = favored_share
        self.batch_size = int(batch_size)
        self.batches_per_epoch = int(batches_per_epoch)
        self.seed = seed
        self.share = own_share(rank, world_size)
        self.batches = BATCHES[0]
        self.epoch = 0
        self.position = 0

    def __len__(self) -> int:
        return self.batches_per_epoch

    def set_epoch(self, epoch: int, *, batches: str = "mixed") -> None:
        """Choose the epoch to draw; a new one starts at its first batch.

        Parameters
        ----------
        epoch
            Number of the epoch.
        batches
            ``mixed``: equally many slices of every class in every batch. ``one_class``: the whole epoch of
            one class; the classes take turns in an order that the seed shuffles, so that as many epochs in a
            row as there are classes hold every class once, wherever they begin.
        """
        require_in_set("batches", batches, BATCHES)
        self.batches = batches
        if epoch != self.epoch:
            self.epoch, self.position = int(epoch), 0

    def __iter__(self) -> Iterator[list[int]]:
        batches = self.draw(self.epoch, batches=self.batches)[:, self.share].tolist()
        start = self.position if self.position < self.batches_per_epoch else 0
        for index in range(start, self.batches_per_epoch):
            self.position = index + 1  # before the yield: a loop that stops early never comes back here
            yield batches[index]

    def draw(self, epoch: int, *, batches: str = "mixed") -> NDArray[np.int64]:
        """Return the slices that all processes see in an epoch, a row (batch_size * world_size) per batch."""
        random = rng.generator(self.seed, "sampler", epoch)
        size, classes = self.batch_size * self.share.step, self._classes
        if batches == "one_class":
            turns = rng.generator(self.seed, "sampler", "turns").permutation(classes)
            kind = np.full(self.batches_per_epoch * size, turns[epoch % classes])
        else:
            # Taking classes in turn across batches shares out the surplus; sorted by class within a batch,
            # every world_size-th place holds all classes alike.
            kind = np.arange(self.batches_per_epoch * size) % classes
        # Favored slices stand behind the others of their class, for the same reason.
        part = 2 * kind + self._favored_places(kind)
        part = np.sort(part.reshape(self.batches_per_epoch, size), axis=1).reshape(-1)
        order = np.empty(part.shape, dtype=np.int64)
        for (index, kept), members in self._members.items():
            places = np.flatnonzero(part == 2 * index + kept)
            passes = math.ceil(len(places) / max(len(members), 1))
            drawn = [random.permutation(members) for _ in range(passes)]
            order[places] = np.concatenate([*drawn, members[:0]])[: len(places)]
        return order.reshape(self.batches_per_epoch, size)

    def _favored_places(self, kind: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return 1 at the places of an epoch, each of a class, that favored slices take, and 0 elsewhere."""
        taken = np.zeros(kind.shape, dtype=np.int64)
        for index in range(self._classes):
            places = np.flatnonzero(kind == index)
            others, favored = (len(self._members[index, kept]) for kept in (False, True))
            share = self.favored_share if others and favored else float(favored > 0)
            # As many of the first n places as n times the share, rounded down: the share in every batch.
            until = np.floor(np.arange(len(places) + 1) * share + 1e-9)
            taken[places] = np.diff(until)
        return taken

    def state_dict(self) -> dict[str, int]:
        """Return the position: the epoch and the batches of it that were handed out.

        Loader processes fetch batches ahead; with them the position is that of the training at an epoch's end
        only.
        """
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue at the position of :meth:`state_dict`."""
        self.epoch, self.position = int(state["epoch"]), int(state["position"])


def _unchanged(batch: T) -> T:
    return batch


def make_slice_loader(
    dataset: StackDataset, sampler: BalancedBatchSampler, *, workers: int = 0, pin_memory: bool = False
) -> DataLoader[dict[str, Tensor]]:
    """Load whole batches of a dataset in the sampler's order.

    Parameters
    ----------
    dataset, sampler
        What is drawn, and in which order.
    workers
        Loader processes; they share the memory map. 0 is fastest where reading takes less time than a step.
    pin_memory
        Copy batches to page-locked memory, for a GPU.
    """
    require_in_range("workers", workers, 0, 1024)
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=_unchanged,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
        generator=rng.torch_generator(sampler.seed, "loader"),  # else it draws from torch's global state
    )


def make_sequential_loader(dataset: StackDataset, *, batch_size: int) -> DataLoader[dict[str, Tensor]]:
    """Load every slice of a dataset once, in order, in whole batches."""
    require_in_range("batch_size", batch_size, 1, 10**9)
    batches = BatchSampler(SequentialSampler(dataset), batch_size, drop_last=False)
    return DataLoader(
        dataset, batch_sampler=batches, collate_fn=_unchanged, generator=rng.torch_generator(0, "loader")
    )
