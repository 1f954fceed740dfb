"""Classifiers that read restored images in the place of a radiologist."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medrestore.checks import InputError
from medrestore.data.slice_stack import center_window
from medrestore.files import sha256_file
from medrestore.networks.weights import build_network, load_file

__all__ = [
    "Judge",
    "Observer",
    "load_judge",
    "load_observer",
    "named_observers",
]

NETWORKS = ("observer", "task")
"""Names under which a ``model.pt`` holds a classifier, the first that is there is taken."""


@dataclass(frozen=True, eq=False)
class Judge:
    """A trained network that judges axial slices.

    Parameters
    ----------
    name
        What its columns are called: ``task`` for T, ``observer`` for an independent one.
    network
        Has ``probability``, (B, 1, H, W) -> of what it tells in each slice; in evaluation mode.
    spatial_size
        In-plane size (H, W) of the slices it was trained on, in which slices are centered (padded with zeros
        or cropped). None: slices are taken as they are.
    weights_sha256
        Checksum of the file it was loaded from.
    batch_size
        Slices at a time.
    """

    name: str
    network: nn.Module
    spatial_size: tuple[int, int] | None = None
    weights_sha256: str = ""
    batch_size: int = 40

    def __post_init__(self) -> None:
        # Once and for all: several threads ask one network.
        self.network.register_forward_hook(lambda _network, _given, output: self._require_finite(output))

    def window(self, shape: Sequence[int]) -> tuple[tuple[int, int], tuple[slice, ...], tuple[slice, ...]]:
        """Return the size that the network sees, and where a slice of a shape (X, Y) and it overlap."""
        size = self.spatial_size or (int(shape[0]), int(shape[1]))
        return size, *center_window(shape, size)

    def outputs(self, slices: NDArray[np.floating], *, of: str = "probability") -> Tensor:
        """Return what the network says of each slice.

        Parameters
        ----------
        slices : (N, X, Y)
            Slice-first, in the relative units of training.
        of
            Name of the network's method that is asked.

        Returns
        -------
        (N, ...) float32
            On the CPU.

        Raises
        ------
        InputError
            When the slices are not a stack, or an output is not finite. An infinite logit is found too, whose
            probability is finite.
        """
        if slices.ndim != 3 or len(slices) == 0:
            raise InputError(f"slices must be of shape (N, X, Y) with N of 1 or more, got {slices.shape}")
        size, inside, place = self.window(slices.shape[1:])
        centered = np.zeros((len(slices), 1, *size), dtype=np.float32)
        centered[:, 0, place[0], place[1]] = slices[:, inside[0], inside[1]]
        device, ask = next(self.network.parameters()).device, getattr(self.network, of)
        with torch.inference_mode():
            parts = [
                ask(batch.to(device)).float().cpu()
                for batch in torch.from_numpy(centered).split(self.batch_size)
            ]
        found = torch.cat(parts)
        self._require_finite(found)
        return found

    def _require_finite(self, output: Tensor) -> None:
        if not torch.isfinite(output).all():
            raise InputError(f"{self.name} gave an output that is not finite. Remedy: check its weights")


@dataclass(frozen=True, eq=False)
class Observer(Judge):
    """A trained classifier of axial slices, whose ``probability`` of a positive is (B,)."""

    def probabilities(self, slices: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the probability of a positive for each slice.

        Parameters
        ----------
        slices : (N, X, Y)
            Slice-first, over the foreground scale of the degraded image, as in training.

        Returns
        -------
        (N,) float64
            In [0, 1].

        Raises
        ------
        InputError
            When the slices are not a stack, or an output is not finite.
        """
        found: NDArray[np.float64] = self.outputs(slices).double().numpy()
        return found


def named_observers(
    task: str | os.PathLike[str] | None, observers: Sequence[str | os.PathLike[str]]
) -> dict[str, str | os.PathLike[str]]:
    """Return the files of an evaluation's classifiers by the names of their columns.

    >>> named_observers("t.pt", ["a.pt"]), list(named_observers(None, ["a.pt", "b.pt"]))
    ({'task': 't.pt', 'observer': 'a.pt'}, ['observer_1', 'observer_2'])
    """
    named = {} if task is None else {"task": task}
    for number, path in enumerate(observers, start=1):
        named["observer" if len(observers) == 1 else f"observer_{number}"] = path
    return named


def load_judge(
    path: str | os.PathLike[str],
    networks: Sequence[str],
    *,
    what: str = "classifier",
    remedy: str = "name the model.pt of a run that trained T",
    device: str | torch.device = "cpu",
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Load the network of a ``model.pt`` that judges; nothing in the file is executed.

    Parameters
    ----------
    path
        Of the file.
    networks
        Names under which it may be held; the first that is there is taken.
    what, remedy
        For the error message.
    device
        Where it runs.

    Returns
    -------
    tuple
        ``network``, ``spatial_size`` and ``weights_sha256`` of a :class:`Judge`, and all that the file holds.

    Raises
    ------
    InputError
        When the file is missing or damaged, or holds none of the networks.
    """
    payload = load_file(path)
    held = [entry for entry in networks if entry in payload.get("networks", {})]
    if not held:
        raise InputError(f"{path}: holds no {what} ({' or '.join(networks)}). Remedy: {remedy}")
    size = payload.get("spatial_size")
    fields = {
        "network": build_network(payload, held[0], path=path, device=device),
        "spatial_size": (int(size[0]), int(size[1])) if size else None,
        "weights_sha256": sha256_file(Path(path)),
    }
    return fields, payload


def load_observer(path: str | os.PathLike[str], *, name: str, device: str | torch.device = "cpu") -> Observer:
    """Load the classifier of a ``model.pt``; nothing in the file is executed.

    Parameters
    ----------
    path
        File with a network ``observer`` or ``task``.
    name
        What its columns are called.
    device
        Where it runs.

    Raises
    ------
    InputError
        When the file is missing or damaged, or holds no classifier.
    """
    fields, _ = load_judge(path, NETWORKS, device=device)
    return Observer(name=name, **fields)
