"""Augmentation of tiles: pairs alike and aligned, a function of seed, epoch and iteration."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medrestore.checks import InputError
from medrestore.domains.histology.training.augmentation import SHIFT_PER_JITTER, TileAugmentation
from medrestore.operators.recording import DegradationRange, degraded_batch
from medrestore.operators.resampling import GaussianSubsampling
from medrestore.operators.stains import stain_jitter


def batch_of(count: int = 24, side: int = 8) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return {
        "image": torch.rand(count, 3, side, side, generator=random),
        "label": torch.rand(count, 3, 4 * side, 4 * side, generator=random),
        "volume_index": torch.arange(count),
    }


def augmentation_of(**options: object) -> TileAugmentation:
    return TileAugmentation(**{"crop_size": None, "scale": 4, "seed": 1, **options})  # type: ignore[arg-type]


def test_pair_is_changed_as_a_loop_over_samples_would():
    augmentation = augmentation_of(crop_size=12, stain_jitter=0.3)
    batch = batch_of()
    changed = augmentation(batch, epoch=2, iteration=7)
    changes = augmentation.draw(24, epoch=2, iteration=7)
    corners, ways = set(), set()
    for index in range(24):
        row, column = (int(part * 6) for part in changes.corner[index])  # 8 - 3 + 1 places
        corners.add((row, column))
        flags = [bool(flag[index]) for flag in _flags(changes)]
        ways.add(tuple(flags))
        for name, scale in (("image", 1), ("label", 4)):
            expected = batch[name][index].numpy()
            top, left, side = scale * row, scale * column, scale * 3
            expected = expected[:, top : top + side, left : left + side]
            if flags[0]:
                expected = expected[:, ::-1, :]
            if flags[1]:
                expected = expected[:, :, ::-1]
            if flags[2]:
                expected = expected.transpose(0, 2, 1)
            restained = stain_jitter(
                torch.from_numpy(expected.copy())[None],
                scale=changes.stain_scale[index][None],
                shift=changes.stain_shift[index][None],
            )
            # float32 products of three terms, summed in another order in a batch.
            torch.testing.assert_close(changed[name][index], restained[0], atol=2e-6, rtol=0)
    assert changed["volume_index"] is batch["volume_index"]
    assert len(corners) > 10
    assert len(ways) == 8


def _flags(changes: object) -> tuple[torch.Tensor, ...]:
    return tuple(getattr(changes, name) for name in ("mirrored_rows", "mirrored_columns", "transposed"))


@pytest.mark.parametrize("crop_size", [None, 24])
def test_changed_pair_is_still_a_pair(crop_size):
    label = batch_of(16, side=16)["label"]
    operator = GaussianSubsampling()
    batch = {"image": operator(label), "label": label}
    changed = augmentation_of(crop_size=crop_size)(batch, epoch=0, iteration=0)
    again = operator(changed["label"])
    inside = slice(None) if crop_size is None else slice(2, -2)  # the crop's border is mirrored elsewhere
    torch.testing.assert_close(
        changed["image"][..., inside, inside], again[..., inside, inside], atol=1e-5, rtol=0
    )


def test_low_resolution_is_made_of_the_changed_target_by_what_is_drawn():
    wanted = DegradationRange(jpeg_fraction=0.5, seed=4)
    batch = batch_of(16, side=16)
    augmentation = augmentation_of(crop_size=32, stain_jitter=0.2, degradation=wanted)
    changed = augmentation(batch, epoch=3, iteration=5)
    plain = augmentation_of(crop_size=32, stain_jitter=0.2)(batch, epoch=3, iteration=5)
    torch.testing.assert_close(changed["label"], plain["label"], atol=0, rtol=0)
    expected = degraded_batch(plain["label"], wanted.drawn(16, epoch=3, iteration=5))
    torch.testing.assert_close(changed["image"], expected, atol=0, rtol=0)
    assert changed["image"].shape == (16, 3, 8, 8)
    shares = [
        augmentation_of(rank=rank, world_size=2, flips=False, degradation=wanted)(part, epoch=3, iteration=5)
        for rank in (0, 1)
        for part in [{name: values[rank::2] for name, values in batch.items()}]
    ]
    whole = augmentation_of(flips=False, degradation=wanted)(batch, epoch=3, iteration=5)
    for rank in (0, 1):  # processes take every second draw, as they do pairs
        torch.testing.assert_close(shares[rank]["image"], whole["image"][rank::2], atol=0, rtol=0)


def test_nothing_asked_is_nothing_done():
    batch = batch_of()
    changed = augmentation_of(flips=False)(batch, epoch=0, iteration=0)
    assert all(changed[name] is batch[name] for name in batch)


def test_given_batch_is_left_alone():
    batch = batch_of()
    before = {name: value.clone() for name, value in batch.items()}
    augmentation_of(crop_size=12, stain_jitter=0.3)(batch, epoch=0, iteration=0)
    assert all(torch.equal(batch[name], before[name]) for name in batch)


def test_draws_depend_on_seed_epoch_and_iteration_alone():
    first = augmentation_of().draw(64, epoch=1, iteration=1).corner
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert torch.equal(
        augmentation_of(flips=False, stain_jitter=0.5).draw(64, epoch=1, iteration=1).corner, first
    )
    assert torch.equal(torch.get_rng_state(), state)
    for epoch, iteration, seed in ((2, 1, 1), (1, 2, 1), (1, 1, 2)):
        other = augmentation_of(seed=seed).draw(64, epoch=epoch, iteration=iteration).corner
        assert not torch.equal(other, first)


def test_draws_have_the_stated_distribution():
    changes = augmentation_of(stain_jitter=0.2).draw(10_000, epoch=0, iteration=0)
    ways = sum(2**place * flag.long() for place, flag in enumerate(_flags(changes)))
    # Deviation of a share of 10,000: sqrt(1/8 * 7/8 / 10^4) = .0033; three of it.
    np.testing.assert_allclose(np.bincount(ways) / 10_000, 1 / 8, atol=0.01)
    for drawn, center, half in (
        (changes.corner, 0.5, 0.5),
        (changes.stain_scale, 1.0, 0.2),
        (changes.stain_shift, 0.0, 0.2 * SHIFT_PER_JITTER),
    ):
        assert drawn.min() >= center - half
        assert drawn.max() <= center + half
        # Uniform: the deviation of a mean of 10,000 is half / sqrt(3 * 10^4) = .0058 half; four of it.
        assert (drawn.mean(dim=0) - center).abs().max() < 0.023 * half
        assert drawn.max() - drawn.min() > 1.99 * half


def test_processes_share_one_draw():
    whole = augmentation_of().draw(8, epoch=0, iteration=3)
    for rank in range(2):
        part = augmentation_of(rank=rank, world_size=2).draw(4, epoch=0, iteration=3)
        assert torch.equal(part.corner, whole.corner[rank::2])
        assert torch.equal(part.stain_scale, whole.stain_scale[rank::2])


def test_wrong_input_is_refused():
    for options, message in (
        ({"crop_size": 10}, "crop_size must be a multiple of the scale 4, got 10"),
        ({"crop_size": 0}, "crop_size must be a multiple of the scale 4, got 0"),
        ({"stain_jitter": 1.0}, r"stain_jitter must be in \[0, 1\), got 1.0"),
        ({"rank": 1}, "rank must be"),
        ({"scale": 0}, "scale must be"),
    ):
        with pytest.raises(InputError, match=message):
            augmentation_of(**options)
    batch = batch_of(2)
    with pytest.raises(InputError, match="crop_size must be at most the tiles' 32 pixels, got 36"):
        augmentation_of(crop_size=36)(batch, epoch=0, iteration=0)
    with pytest.raises(InputError, match="shapes must be equal, got label"):
        augmentation_of(scale=2)(batch, epoch=0, iteration=0)
    oblong = {"image": torch.rand(2, 3, 4, 5), "label": torch.rand(2, 3, 16, 20)}
    with pytest.raises(InputError, match="must be squares, got 4 x 5 pixels"):
        augmentation_of()(oblong, epoch=0, iteration=0)
    assert augmentation_of(crop_size=16)(oblong, epoch=0, iteration=0)["label"].shape == (2, 3, 16, 16)
