"""Classifiers that read restored images in the place of a radiologist."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from medrestore.checks import InputError
from medrestore.data.slice_stack import center_window
from medrestore.files import sha256_file
from medrestore.networks.weights import build_network, load_file

__all__ = ["Observer", "load_observer"]

NETWORKS = ("observer", "task")
"""Names under which a ``model.pt`` holds a classifier, the first that is there is taken."""


@dataclass(frozen=True, eq=False)
class Observer:
    """A trained classifier of axial slices.

    Parameters
    ----------
    name
        What its columns are called: ``task`` for T, ``observer`` for an independent one.
    network
        (B, 1, H, W) -> (B,) logits, in evaluation mode.
    spatial_size
        In-plane size (H, W) of the slices it was trained on, in which slices are centered (padded with zeros
        or cropped): its pooling takes the mean over all of it. None: slices are taken as they are.
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
            When the slices are not a stack, or a probability is not finite.
        """
        if slices.ndim != 3 or len(slices) == 0:
            raise InputError(f"slices must be of shape (N, X, Y) with N of 1 or more, got {slices.shape}")
        size = self.spatial_size or (slices.shape[1], slices.shape[2])
        inside, place = center_window(slices.shape[1:], size)
        centered = np.zeros((len(slices), 1, *size), dtype=np.float32)
        centered[:, 0, place[0], place[1]] = slices[:, inside[0], inside[1]]
        device = next(self.network.parameters()).device
        parts = []
        with torch.inference_mode():
            for batch in torch.from_numpy(centered).split(self.batch_size):
                parts.append(torch.sigmoid(self.network(batch.to(device)).float()).cpu())
        found: NDArray[np.float64] = torch.cat(parts).double().numpy()
        if not np.isfinite(found).all():
            raise InputError(f"{self.name} gave a probability that is not finite. Remedy: check its weights")
        return found


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
    payload = load_file(path)
    held = [entry for entry in NETWORKS if entry in payload.get("networks", {})]
    if not held:
        raise InputError(
            f"{path}: holds no classifier ({' or '.join(NETWORKS)}). "
            "Remedy: name the model.pt of a run that trained T"
        )
    size = payload.get("spatial_size")
    return Observer(
        name=name,
        network=build_network(payload, held[0], path=path, device=device),
        spatial_size=(int(size[0]), int(size[1])) if size else None,
        weights_sha256=sha256_file(Path(path)),
    )
