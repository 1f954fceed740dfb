"""Random changes of training pairs, applied alike to degraded and target image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from medrestore import rng
from medrestore.checks import InputError, require_in_range, require_same_shape
from medrestore.data.processes import own_share

__all__ = ["ChannelDropout", "DrawnAugmentation", "InTurn", "PairAugmentation", "PatchAugmentation"]


class DrawnAugmentation:
    """Draws for the pairs of a batch, from its class's stream.

    Parameters
    ----------
    seed
        Of the stream: what happens in an iteration depends on it, the epoch and the iteration alone.
    rank, world_size
        Draws are made for the batches of all processes together, of which this one takes every
        ``world_size``-th, as :class:`~medrestore.data.slices.BalancedBatchSampler` does with the pairs; those
        that it runs in when not given.

    Raises
    ------
    InputError
        When the rank is not one of the world.
    """

    stream: ClassVar[str] = "augmentation"

    def __init__(self, *, seed: int, rank: int | None = None, world_size: int | None = None) -> None:
        self.seed, self.share = seed, own_share(rank, world_size)

    def uniform(
        self, count: int, numbers: int, *, epoch: int, iteration: int, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Return ``numbers`` in [0, 1) for each of ``count`` pairs."""
        generator = rng.torch_generator(self.seed, self.stream, epoch, iteration)
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
    masks
        Further keys of the batch, mirrored as the images are, their values left as they are.
    scaled_channels
        The factor is for so many of the image's channels, the first ones: those that show the degraded image.
        All when not given.
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
        masks: Sequence[str] = (),
        scaled_channels: int | None = None,
        seed: int,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        require_in_range("flip_probability", flip_probability, 0, 1)
        require_in_range("intensity_jitter", intensity_jitter, 0, 1, include_high=False)
        super().__init__(seed=seed, rank=rank, world_size=world_size)
        self.flip_probability = flip_probability
        self.intensity_jitter = intensity_jitter
        self.masks = tuple(masks)
        self.scaled_channels = scaled_channels

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
        for name in ("image", "label", *self.masks):
            images = batch[name]
            images = torch.where(flip, images.flip(2), images) if self.flip_probability > 0 else images
            jittered = self.intensity_jitter > 0 and name not in self.masks
            changed[name] = self._scaled(images, factor.to(images.dtype)) if jittered else images
        return changed

    def _scaled(self, images: Tensor, factor: Tensor) -> Tensor:
        """Return images times their factors, further channels as they are."""
        if self.scaled_channels is None or self.scaled_channels >= images.shape[1]:
            return images * factor
        return torch.cat(
            [images[:, : self.scaled_channels] * factor, images[:, self.scaled_channels :]], dim=1
        )

    def draw(self, count: int, *, epoch: int, iteration: int) -> tuple[Tensor, Tensor]:
        """Return which of ``count`` pairs are mirrored (bool) and their factors, both (B, 1, 1, 1)."""
        uniform = self.uniform(count, 2, epoch=epoch, iteration=iteration)
        flip = uniform[:, 0] < self.flip_probability
        factor = 1 + self.intensity_jitter * (2 * uniform[:, 1] - 1)
        return flip[:, None, None, None], factor[:, None, None, None]


class PatchAugmentation(DrawnAugmentation):
    """Cut a patch out of each slice: around a place that its mask marks, or anywhere where none is marked.

    Parameters
    ----------
    size
        In-plane size (X, Y) of the patches; a slice that is not larger stays whole along that axis.
    mask
        Key of (B, 1, X, Y) in the batch: places other than 0 are those that patches are centered at, each as
        often as the other, as far as the slice's edge allows. Anywhere when not given.
    others
        Further keys of the batch that are cut with image and label.
    seed, rank, world_size
        Of :class:`DrawnAugmentation`; the stream is ``patches``.

    Raises
    ------
    InputError
        When a size is no positive number.
    """

    stream = "patches"

    def __init__(
        self,
        *,
        size: Sequence[int],
        mask: str | None = None,
        others: Sequence[str] = (),
        seed: int,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        if len(size) != 2:
            raise InputError(f"patch_size must be two numbers (X, Y), got {tuple(size)}")
        for axis, length in enumerate(size):
            require_in_range(f"patch_size[{axis}]", length, 1, 65535)
        super().__init__(seed=seed, rank=rank, world_size=world_size)
        self.size = (int(size[0]), int(size[1]))
        self.mask = mask
        self.cut = ("image", "label", *others)

    def __call__(self, batch: Mapping[str, Tensor], *, epoch: int, iteration: int) -> dict[str, Tensor]:
        """Return the batch with its images cut; the given tensors stay as they are.

        Parameters
        ----------
        batch
            ``image`` (B, C, X, Y), ``label`` and the others (B, 1, X, Y), on one device; further entries are
            passed on.
        epoch, iteration
            Name the draws.
        """
        count, _, *shape = batch["image"].shape
        drawn = self.uniform(count, 3, epoch=epoch, iteration=iteration, dtype=torch.float64)
        marked = batch[self.mask][:, 0].cpu() != 0 if self.mask is not None else torch.zeros(count, *shape)
        size = [min(length, room) for length, room in zip(self.size, shape, strict=True)]
        corners = [self._corner(*pair, size, shape) for pair in zip(drawn.tolist(), marked, strict=True)]
        changed = dict(batch)
        for name in self.cut:
            changed[name] = torch.stack(
                [
                    image[:, x : x + size[0], y : y + size[1]]
                    for image, (x, y) in zip(batch[name], corners, strict=True)
                ]
            )
        return changed

    def _corner(
        self, drawn: Sequence[float], marked: Tensor, size: Sequence[int], shape: Sequence[int]
    ) -> list[int]:
        """Return the first pixel of a patch."""
        places = marked.nonzero()
        free = [room - length for length, room in zip(size, shape, strict=True)]
        if not len(places):
            return [int(part * (most + 1)) for part, most in zip(drawn[:2], free, strict=True)]
        center = places[int(drawn[2] * len(places))].tolist()
        return [
            min(max(at - length // 2, 0), most) for at, length, most in zip(center, size, free, strict=True)
        ]


class ChannelDropout(DrawnAugmentation):
    """Take groups of channels away from some of the images, as if what they show were missing.

    A network that met both restores with and without.

    Parameters
    ----------
    groups
        Channels of ``image`` that come and go together; each group is drawn for itself.
    probability
        Of a group to be set to 0, for each image.
    seed, rank, world_size
        Of :class:`DrawnAugmentation`; the stream is ``channel dropout``.

    Raises
    ------
    InputError
        When a number is out of range.
    """

    stream = "channel dropout"

    def __init__(
        self,
        groups: Sequence[Sequence[int]],
        *,
        probability: float,
        seed: int,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        require_in_range("probability", probability, 0, 1)
        super().__init__(seed=seed, rank=rank, world_size=world_size)
        self.groups = [list(group) for group in groups]
        self.probability = probability

    def __call__(self, batch: Mapping[str, Tensor], *, epoch: int, iteration: int) -> dict[str, Tensor]:
        """Return the batch with ``image`` (B, C, X, Y) changed; the given tensor stays as it is."""
        image = batch["image"].clone()
        drawn = self.uniform(len(image), len(self.groups), epoch=epoch, iteration=iteration)
        for group, numbers in zip(self.groups, drawn.T, strict=True):
            taken = torch.nonzero(numbers < self.probability).ravel().to(image.device)
            image[taken[:, None], torch.tensor(group, device=image.device)] = 0
        return {**batch, "image": image}


class InTurn:
    """One augmentation after another.

    Parameters
    ----------
    augmentations
        Each called with a batch, ``epoch`` and ``iteration``.
    """

    def __init__(self, *augmentations: Callable[..., Mapping[str, Tensor]]) -> None:
        self.augmentations = augmentations

    def __call__(self, batch: Mapping[str, Tensor], *, epoch: int, iteration: int) -> Mapping[str, Tensor]:
        """Return the batch that the last one returns."""
        for augmentation in self.augmentations:
            batch = augmentation(batch, epoch=epoch, iteration=iteration)
        return batch
