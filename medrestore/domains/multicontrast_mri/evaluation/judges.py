"""Networks that judge MR images: which contrast is it, and where are lesions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from medrestore.checks import fail
from medrestore.evaluation.observers import NETWORKS, Judge, load_judge

__all__ = ["ContrastObserver", "LesionReader", "load_contrast_observer", "load_lesion_reader"]

SEGMENTERS = ("segmenter",)


@dataclass(frozen=True, eq=False)
class ContrastObserver(Judge):
    """A classifier of contrasts, whose ``patch_probability`` is (B, K, h, w).

    Parameters
    ----------
    contrasts
        Names of its K classes.
    """

    contrasts: tuple[str, ...] = ()

    def reading(
        self, slices: NDArray[np.floating], head: NDArray[np.bool_], *, contrast: str
    ) -> dict[str, float]:
        """Say how well a contrast is told from the others.

        Parameters
        ----------
        slices : (N, X, Y)
            Slice-first, in units of the head's mean.
        head : (N, X, Y) bool
            Where the head is: patches that lie at least half in it count. Of air no contrast can be told.
        contrast
            That the slices are, or should be.

        Returns
        -------
        dict
            ``NAME_patch_accuracy``: share of patches whose most probable contrast is the right one;
            ``NAME_slice_accuracy``: share of slices where it is so of the mean probability over patches;
            ``NAME_mae``: 1 - mean probability of the right contrast, over patches, then slices.
        """
        probabilities = self.outputs(slices, of="patch_probability").double()
        size, inside, place = self.window(head.shape[1:])
        centered = np.zeros((len(head), 1, *size), dtype=np.float32)
        centered[:, 0, place[0], place[1]] = head[:, inside[0], inside[1]]
        patches = (probabilities.shape[2], probabilities.shape[3])
        share = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(centered), patches)
        # A small head may fill no patch by half: the patches that it fills most then count.
        least = share.amax(dim=(1, 2, 3), keepdim=True).clamp(max=0.5)
        counts = (share >= least).double()
        index = self.contrasts.index(contrast)
        right = (probabilities.argmax(dim=1, keepdim=True) == index).double()
        means = (probabilities * counts).sum(dim=(2, 3)) / counts.sum(dim=(2, 3))
        return {
            f"{self.name}_patch_accuracy": float((right * counts).sum() / counts.sum()),
            f"{self.name}_slice_accuracy": float((means.argmax(dim=1) == index).double().mean()),
            f"{self.name}_mae": float(1 - means[:, index].mean()),
        }


@dataclass(frozen=True, eq=False)
class LesionReader(Judge):
    """A segmenter of lesions, whose ``probability`` is (B, 1, H, W).

    Parameters
    ----------
    contrast
        That it was trained on.
    """

    contrast: str = ""

    def segment(self, slices: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return the pixels whose probability of lesion exceeds one half.

        Parameters
        ----------
        slices : (N, X, Y)
            Slice-first, in units of the head's mean.

        Returns
        -------
        (N, X, Y) bool
        """
        _, inside, place = self.window(slices.shape[1:])
        found = self.outputs(slices)[:, 0].numpy() > 0.5
        marked = np.zeros(slices.shape, dtype=bool)
        marked[:, inside[0], inside[1]] = found[:, place[0], place[1]]
        return marked


def load_contrast_observer(
    path: str | os.PathLike[str],
    *,
    name: str,
    contrasts: Sequence[str],
    device: str | torch.device = "cpu",
) -> ContrastObserver:
    """Load the contrast classifier of a ``model.pt``; nothing in the file is executed.

    Parameters
    ----------
    path
        File with a network ``observer`` or ``task``, and the names of its ``contrasts``.
    name
        What its columns are called.
    contrasts
        That it must know.
    device
        Where it runs.

    Raises
    ------
    InputError
        When the file is missing or damaged, holds no classifier, or one of other contrasts.
    """
    fields, payload = load_judge(path, NETWORKS, device=device)
    known = tuple(payload.get("contrasts") or ())
    strangers = [contrast for contrast in contrasts if contrast not in known]
    if not known or strangers:
        held = f"those of {', '.join(known)}" if known else "none"
        fail(
            f"its classifier must tell the contrasts {', '.join(contrasts)} apart, it tells {held}",
            path=path,
            remedy="name the model.pt of a run on these contrasts, or evaluate contrasts that it knows",
        )
    return ContrastObserver(name=name, contrasts=known, **fields)


def load_lesion_reader(
    path: str | os.PathLike[str], *, contrasts: Sequence[str], device: str | torch.device = "cpu"
) -> LesionReader:
    """Load the lesion segmenter of a ``model.pt``; nothing in the file is executed.

    Parameters
    ----------
    path
        File with a network ``segmenter``, and in ``contrasts`` the one that it was trained on.
    contrasts
        That are evaluated.
    device
        Where it runs.

    Raises
    ------
    InputError
        When the file is missing or damaged, holds no segmenter, or one of a contrast that is not evaluated.
    """
    remedy = "name the model.pt of a run that trained one"
    fields, payload = load_judge(path, SEGMENTERS, what="segmenter", remedy=remedy, device=device)
    known = tuple(payload.get("contrasts") or ())
    if len(known) != 1 or known[0] not in contrasts:
        fail(
            f"its segmenter must be of one of the contrasts {', '.join(contrasts)}, it is of "
            f"{', '.join(known) or 'none that is named'}",
            path=path,
            remedy="leave the segmenter out, or evaluate the contrast that it was trained on",
        )
    return LesionReader(name="segmenter", contrast=known[0], **fields)
