"""Batches of tiles: low resolution in, high resolution out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrestore.data.slices import StackDataset
from medrestore.domains.histology.training.stack import TileStack

__all__ = ["TileDataset"]


class TileDataset(StackDataset):
    """The tiles of a stack as pairs of low and high resolution.

    Parameters
    ----------
    stack
        All tiles of a split.

    Attributes
    ----------
    labels, volume : (N,) int64
        Patient of every tile, by number: batches are balanced over patients, so that one with many tiles
        counts no more than one with few.
    """

    def __init__(self, stack: TileStack) -> None:
        super().__init__(stack, slices=np.arange(len(stack)), labels=stack.volume_index)
        self.stack = stack

    def __getitems__(self, indices: Sequence[int] | NDArray[np.integer]) -> dict[str, Tensor]:
        """Return a batch.

        Parameters
        ----------
        indices
            Of tiles, 0 to ``len(self) - 1``.

        Returns
        -------
        dict
            ``image`` (B, 3, h, w) and ``label`` (B, 3, H, W) float32 in [0, 1], low and high resolution;
            ``volume_index`` (patient, place in ``stack.subjects``) and ``slice_index`` (row of
            ``stack.volumes``) (B,) int64.
        """
        wanted = np.asarray(indices, dtype=np.int64)
        image, label = self.stack.pairs(wanted)
        return {
            "image": _unit_range(image),
            "label": _unit_range(label),
            "volume_index": torch.from_numpy(self.volume[wanted]),
            "slice_index": torch.from_numpy(self.slice_index[wanted]),
        }


def _unit_range(levels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(levels).float().div_(255)
