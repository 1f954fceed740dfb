"""Random changes of training pairs, applied alike to degraded and target image."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from medrestore import rng
from medrestore.checks import require_in_range, require_same_shape
from medrestore.data.processes import own_share

__all__ = ["DrawnAugmentation", "PairAugmentation"]


class DrawnAugmentation:
    """Draws for the pairs of a batch.

    Parameters
    ----------
    seed
        Of the stream ``augmentation``: what happens in an iteration depends on it, the epoch and the
        iteration alone.
    rank, world_size
        Draws are made for the batches of all processes together, of which this one takes every
        ``world_size``-th, as :class:`~medrestore.data.slices.BalancedBatchSampler` does with the pairs; those
        that it runs in when not given.

    Raises
    ------
    InputError
        When the rank is not one of the world.
    """

    def __init__(self, *, seed: int, rank: int | None = None, world_size: int | None = None) -> None:
        self.seed, self.share = seed, own_share(rank, world_size)

    def uniform(
        self, count: int, numbers: int, *, epoch: int, iteration: int, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Return ``numbers`` in [0, 1) for each of ``count`` pairs."""
        generator = rng.torch_generator(self.seed, "augmentation", epoch, iteration)
        drawn = torch.rand(count * self.share.step, numbers, generator=generator, dtype=dtype)
        return drawn[self.share]


class PairAugmentation(DrawnAugmentation):
    """Flip left and right and change the intensity, slice by slice, a pair's two images alike.

    Parameters
    ----------
    flip_probability
        Of mirroring a slice along its first in-plane axis: X, the subject's left and right.
    intensity_jitter
        Half width j of the factor on a pair's intensity, uniform in [1 - j, 1 + j]. The scale of an image is
        known from noisy data only; the network learns not to depend on it.
    seed, rank, world_size
        Of :class:`DrawnAugmentation`.

    Raises
    ------
    InputError
        When a number is out of range.
    """

    def __init__(
        self,
        *,
        flip_probability: float,
        intensity_jitter: float,
        seed: int,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        require_in_range("flip_probability", flip_probability, 0, 1)
        require_in_range("intensity_jitter", intensity_jitter, 0, 1, include_high=False)
        super().__init__(seed=seed, rank=rank, world_size=world_size)
        self.flip_probability = flip_probability
        self.intensity_jitter = intensity_jitter

    def __call__(self, batch: Mapping[str, Tensor], *, epoch: int, iteration: int) -> dict[str, Tensor]:
        """Return the batch with ``image`` and ``label`` changed; the given tensors stay as they are.

        Parameters
        ----------
        batch
            ``image`` (B, C, X, Y), ``label`` (B, 1, X, Y), on one device; other entries are passed on.
        epoch, iteration
            Name the draws.
        """
        image, label = batch["image"], batch["label"]
        require_same_shape(image=image.shape[:1] + image.shape[2:], label=label.shape[:1] + label.shape[2:])
        flip, factor = self.draw(len(image), epoch=epoch, iteration=iteration)
        flip, factor = flip.to(image.device), factor.to(image.device)
        changed = dict(batch)
        for name in ("image", "label"):
            images = batch[name]
            images = torch.where(flip, images.flip(2), images) if self.flip_probability > 0 else images
            changed[name] = images * factor.to(images.dtype) if self.intensity_jitter > 0 else images
        return changed

    def draw(self, count: int, *, epoch: int, iteration: int) -> tuple[Tensor, Tensor]:
        """Return which of ``count`` pairs are mirrored (bool) and their factors, both (B, 1, 1, 1)."""
        uniform = self.uniform(count, 2, epoch=epoch, iteration=iteration)
        flip = uniform[:, 0] < self.flip_probability
        factor = 1 + self.intensity_jitter * (2 * uniform[:, 1] - 1)
        return flip[:, None, None, None], factor[:, None, None, None]
