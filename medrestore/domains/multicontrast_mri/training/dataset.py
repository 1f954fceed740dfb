"""Batches of multi-contrast MRI: slices with their neighbors and the contrast that is wanted of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrestore.checks import InputError, require_in_range, require_in_set
from medrestore.data.slices import StackDataset, slices_in_range
from medrestore.domains.multicontrast_mri.training.stack import ContrastStack, SyntheticStack

__all__ = ["ContrastDataset", "LesionDataset"]


class ContrastDataset(StackDataset):
    """Slices of a stack, each once for every contrast that its subject has.

    Parameters
    ----------
    stack
        All slices of a split.
    synthetic
        Of the same rows: what the fit says of the wanted contrast is then a further channel.
    lesions_of
        Contrast whose images come with their lesion mask, where there is one; None for none.
    neighbors, slice_range
        As in :class:`~medrestore.data.slices.SliceDataset`.

    Attributes
    ----------
    labels : (M,) int64
        Contrast of every item; volume after volume, of each contrast after contrast.
    shown_channel : int
        Channel of ``image`` that a picture shows: the slice itself in the acquisition's reference channel.

    Raises
    ------
    InputError
        When k is negative or no slice lies in the range.
    """

    def __init__(
        self,
        stack: ContrastStack,
        *,
        neighbors: int,
        synthetic: SyntheticStack | None = None,
        lesions_of: str | None = None,
        slice_range: tuple[float, float] | None = None,
    ) -> None:
        require_in_range("neighbors", neighbors, 0, 1000)
        chosen = slices_in_range(stack, slice_range)
        place, contrast = np.nonzero(stack.available[stack.volume_index[chosen]])
        order = np.lexsort((chosen[place], contrast, stack.volume_index[chosen[place]]))
        super().__init__(stack, slices=chosen[place[order]], labels=contrast[order].astype(np.int64))
        self.stack = stack
        self.synthetic = synthetic
        if lesions_of is not None:
            require_in_set("lesions_of", lesions_of, stack.contrasts)
        self._with_lesions = None if lesions_of is None else stack.contrasts.index(lesions_of)
        self.neighbors = int(neighbors)
        self.shown_channel = self.neighbors * stack.acquisition.channels + stack.acquisition.reference
        self._slices = self.with_neighbors(self.neighbors)

    @property
    def holds_lesion(self) -> NDArray[np.bool_]:
        """Whether the slice of each item is known to hold lesion, (M,)."""
        holds = np.asarray(self.stack.lesions.any(axis=(1, 2)))
        known: NDArray[np.bool_] = holds[self.chosen] & self.stack.marked[self.volume]
        return known

    def __getitems__(self, indices: Sequence[int] | NDArray[np.integer]) -> dict[str, Tensor]:
        """Return a batch.

        Returns
        -------
        dict
            ``image`` (B, (2k + 1) C + K, X, Y) float32: slices -k to k with their C channels each, then K
            planes, 1 in that of the wanted contrast and 0 in the others, and, given ``synthetic``, its image
            of the wanted contrast; ``label`` (B, 1, X, Y) float32, the true contrast over its scale;
            ``contrast`` (B,) int64; ``volume_index`` (row of ``stack.volumes`` times K plus the contrast) and
            ``slice_index`` (from the bottom) (B,) int64. Given ``lesions_of``: ``lesions`` (B, 1, X, Y)
            float32, 1 in a lesion, and ``lesions_known`` (B,) bool, where the image is of that contrast and
            its subject has a mask.
        """
        wanted = np.asarray(indices, dtype=np.int64)
        contrast, kinds = self.labels[wanted], len(self.stack.contrasts)
        channels = self.stack.acquisition.channels
        read = self._slices.shape[1] * channels
        # One read straight into the batch, plane by plane. The planes of contrasts are first filled with
        # whatever: overwriting them is faster than leaving them out, which reads elsewhere and copies.
        planes = np.zeros((len(wanted), read + kinds + (self.synthetic is not None)), dtype=np.int64)
        planes[:, :read] = (self._slices[wanted, :, None] * channels + np.arange(channels)).reshape(-1, read)
        image = np.take(self.stack.input.reshape(-1, *self.stack.spatial_size), planes, axis=0)
        image[:, read : read + kinds] = np.eye(kinds, dtype=np.float32)[contrast][:, :, None, None]
        if self.synthetic is not None:
            image[:, -1] = self.synthetic.synthetic[self.chosen[wanted], contrast]
        lesions = {}
        if self._with_lesions is not None:
            masks = self.stack.lesions[self.chosen[wanted]].astype(np.float32)
            known = (contrast == self._with_lesions) & self.stack.marked[self.volume[wanted]]
            lesions = {"lesions": torch.from_numpy(masks)[:, None], "lesions_known": torch.from_numpy(known)}
        return {
            "image": torch.from_numpy(image),
            "label": torch.from_numpy(self.stack.target[self.chosen[wanted], contrast])[:, None],
            **lesions,
            "contrast": torch.from_numpy(contrast),
            "volume_index": torch.from_numpy(self.volume[wanted] * kinds + contrast),
            "slice_index": torch.from_numpy(self.slice_index[wanted]),
        }


class LesionDataset(StackDataset):
    """Slices of one true contrast with their lesion mask, of the volumes that have both.

    Parameters
    ----------
    stack
        All slices of a split.
    contrast
        One of the stack's.
    slice_range
        As in :class:`ContrastDataset`.

    Attributes
    ----------
    labels : (M,) float32
        1 where the slice holds lesion.

    Raises
    ------
    InputError
        When the stack has no such contrast, or no volume has both it and a mask.
    """

    def __init__(
        self, stack: ContrastStack, *, contrast: str, slice_range: tuple[float, float] | None = None
    ) -> None:
        require_in_set("contrast", contrast, stack.contrasts)
        self.stack = stack
        self.contrast = stack.contrasts.index(contrast)
        chosen = slices_in_range(stack, slice_range)
        usable = stack.marked & stack.available[:, self.contrast]
        chosen = chosen[usable[stack.volume_index[chosen]]]
        if chosen.size == 0:
            raise InputError(f"no volume of the split has both {contrast} and a lesion mask")
        holds = np.asarray(stack.lesions.any(axis=(1, 2)), dtype=np.float32)
        super().__init__(stack, slices=chosen, labels=holds[chosen])

    def __getitems__(self, indices: Sequence[int] | NDArray[np.integer]) -> dict[str, Tensor]:
        """Return a batch.

        Returns
        -------
        dict
            ``image`` (B, 1, X, Y) float32, the true contrast over its scale; ``label`` (B, 1, X, Y) float32,
            1 in a lesion; ``lesion`` (B,) float32, 1 where there is one; ``volume_index`` (row of
            ``stack.volumes``) and ``slice_index`` (from the bottom) (B,) int64.
        """
        wanted = np.asarray(indices, dtype=np.int64)
        slices = self.chosen[wanted]
        return {
            "image": torch.from_numpy(self.stack.target[slices, self.contrast])[:, None],
            "label": torch.from_numpy(self.stack.lesions[slices].astype(np.float32))[:, None],
            "lesion": torch.from_numpy(self.labels[wanted]),
            "volume_index": torch.from_numpy(self.volume[wanted]),
            "slice_index": torch.from_numpy(self.slice_index[wanted]),
        }
