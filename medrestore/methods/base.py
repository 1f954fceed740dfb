"""What a training method is: named networks, their optimizers, and one readable step."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from medrestore.checks import InputError, require_in_range, require_in_set, require_known_keys

__all__ = ["Minimizer", "Stage", "Step", "Task", "frozen", "make_stages"]


@dataclass(frozen=True)
class Stage:
    """A part of the training: which networks learn, for how long and on which learning-rate schedule.

    Parameters
    ----------
    name
        Shown in logs and used as the prefix of curves.
    epochs
        Number of epochs, at least 1.
    train
        Names of the networks that learn; all others stay bit-identical.
    schedule
        ``cosine``: the rate falls from the optimizer's own to 0 over the stage as (1 + cos(pi p)) / 2, with p
        the part of the stage that is done; ``constant``: it stays.
    batches
        ``mixed``: every batch holds all classes; ``one_class``: all batches of an epoch are of one class.

    Raises
    ------
    InputError
        For an empty stage, an unknown schedule or unknown batches.
    """

    name: str
    epochs: int
    train: tuple[str, ...]
    schedule: str = "cosine"
    batches: str = "mixed"

    def __post_init__(self) -> None:
        require_in_range(f"epochs of stage {self.name!r}", self.epochs, 1, 10**9)
        require_in_set(f"schedule of stage {self.name!r}", self.schedule, ("cosine", "constant"))
        require_in_set(f"batches of stage {self.name!r}", self.batches, ("mixed", "one_class"))
        if not self.train:
            raise InputError(f"stage {self.name!r} trains no network")
        object.__setattr__(self, "train", tuple(self.train))

    def learning_rate_factor(self, progress: float) -> float:
        """Return the factor on the optimizers' rates at ``progress`` (0 to 1) through the stage.

        >>> Stage("joint", 10, ("generator",)).learning_rate_factor(0.5)
        0.5
        """
        if self.schedule == "constant":
            return 1.0
        return round(0.5 * (1.0 + math.cos(math.pi * progress)), 12)


def make_stages(stages: Sequence[Mapping[str, Any]]) -> tuple[Stage, ...]:
    """Build stages from plain data, as a configuration holds them.

    >>> make_stages([{"name": "pretrain", "epochs": 2, "train": ["task"]}])[0].epochs
    2

    Raises
    ------
    InputError
        For an unknown key, one that is missing, or no stage at all.
    """
    if not stages:
        raise InputError("stages must hold at least one stage")
    built = []
    for stage in stages:
        if isinstance(stage, Mapping):
            require_known_keys("stage", stage, ("name", "epochs", "train", "schedule", "batches"))
        if not isinstance(stage, Mapping) or not {"name", "epochs", "train"} <= stage.keys():
            raise InputError(f"each of stages must have the keys name, epochs and train, got {stage!r}")
        built.append(Stage(**stage))
    if len({stage.name for stage in built}) < len(built):
        raise InputError(f"stages must have names of their own, got {[stage.name for stage in built]}")
    return tuple(built)


KNOWN = "_known"
"""After a label's key: key of which images of a batch have one; all have where a batch does not say."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a task network T reads in an image, and how its word counts.

    Parameters
    ----------
    weight
        mu of equation 4; 0 keeps T from G.
    label_column
        Key of y in the batch. Where the batch has ``<label_column>_known`` too, (B,) bool, images without it
        are not asked of T.
    loss
        Called with what T gives and y: one term of equation 3.
    update
        What T learns in a stage that trains it beside G. ``joint`` (the paper): both terms of equation 3;
        ``real_only``: (T(x) - y)^2 alone, so that T cannot learn to excuse a bad restoration.
    weights
        ``model.pt`` of a run that pretrained T; T starts from it. A stage that trains T alone
        falls away then.
    trained_as
        Name of the network in such files; T's own when not given.
    comes_trained
        Whether no stage trains it: it must have weights then, to judge G.
    """

    weight: float
    label_column: str
    loss: Callable[[Tensor, Tensor], Tensor]
    update: str = "joint"
    weights: str | os.PathLike[str] | None = None
    trained_as: str | None = None
    comes_trained: bool = False

    def known(self, batch: Mapping[str, Tensor]) -> Tensor | None:
        """Return which images of a batch T is asked about, (B,) bool; None for all."""
        return batch.get(self.label_column + KNOWN)


class Minimizer(Protocol):
    """What a step needs of the engine that runs it."""

    def minimize(self, name: str, loss: Tensor) -> None:
        """Propagate ``loss`` back to the parameters of network ``name`` and let its optimizer step."""


class Step(ABC):
    """One iteration of a published method.

    Parameters
    ----------
    networks
        By name; ``generator`` is the one that restores. An engine may wrap them (for several processes).
    optimizers
        One for each network that can learn, under the network's name.

    Attributes
    ----------
    method : str
        Name of the method in checkpoints and provenance.
    averaged : str
        Name of the network whose weights are kept as a moving average: the one that is used after training.
    given : frozenset of str
        Names of the networks that come with weights of an earlier run.
    tasks : Mapping
        What each task network is for, by its name.

    Raises
    ------
    InputError
        When an optimizer belongs to no network.
    """

    method: str = ""
    averaged: str = "generator"
    given: frozenset[str] = frozenset()
    tasks: Mapping[str, Task] = MappingProxyType({})

    def __init__(
        self, *, networks: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer]
    ) -> None:
        self.networks: dict[str, nn.Module] = dict(networks)
        self.optimizers: dict[str, torch.optim.Optimizer] = dict(optimizers)
        strangers = set(optimizers) - set(networks)
        if strangers:
            raise InputError(f"optimizers {sorted(strangers)} have no network; networks: {sorted(networks)}")
        self.stage: Stage | None = None

    @abstractmethod
    def step(self, engine: Minimizer, batch: Mapping[str, Tensor]) -> dict[str, float | Tensor]:
        """Do one iteration and return its losses by name, detached scalars."""

    def left(self, stages: Sequence[Mapping[str, Any]]) -> tuple[Stage, ...]:
        """Return the stages that there are to do: one that trains only networks that come trained falls away.

        Parameters
        ----------
        stages
            As :func:`make_stages` takes them.

        Raises
        ------
        InputError
            When none is left, beside those of :func:`make_stages`.
        """
        planned = make_stages(stages)
        left = tuple(stage for stage in planned if not self.given.issuperset(stage.train))
        if not left:
            names = ", ".join(sorted(self.given))
            raise InputError(
                f"there is nothing to train: {names} comes with weights, no stage trains another. "
                "Remedy: leave out these weights, or train further networks"
            )
        return left

    def epochs(self, stages: Sequence[Mapping[str, Any]]) -> int:
        """Return the number of epochs of the stages that there are to do."""
        return sum(stage.epochs for stage in self.left(stages))

    def learning(self, stage: Stage) -> tuple[str, ...]:
        """Return the names of the networks that learn in ``stage``; a method may hold some back."""
        return stage.train

    def enter(self, stage: Stage) -> None:
        """Start a stage: only its networks learn, the others are in evaluation mode and get no gradients."""
        unknown = [name for name in stage.train if name not in self.optimizers]
        if unknown:
            raise InputError(
                f"stage {stage.name!r} trains {unknown}, which have no optimizer; "
                f"known: {sorted(self.optimizers)}"
            )
        self.stage = stage
        learning = self.learning(stage)
        for name, network in self.networks.items():
            network.train(name in learning)
            network.requires_grad_(name in learning)

    def learns(self, name: str) -> bool:
        """Say whether network ``name`` learns in the present stage."""
        if self.stage is None:
            raise InputError("the step has entered no stage yet")
        return name in self.learning(self.stage)

    def bare(self, name: str) -> nn.Module:
        """Return network ``name`` without the wrapper of several processes."""
        network = self.networks[name]
        return network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network

    def state(self) -> dict[str, Any]:
        """Return all that a checkpoint must hold of the step: tensors and plain values."""
        return {
            "networks": {name: self.bare(name).state_dict() for name in self.networks},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
        }


@contextmanager
def frozen(*networks: nn.Module) -> Iterator[None]:
    """Keep gradients from the weights of ``networks`` in a block; they still pass through to the input."""
    learned = [
        parameter for network in networks for parameter in network.parameters() if parameter.requires_grad
    ]
    for parameter in learned:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)
