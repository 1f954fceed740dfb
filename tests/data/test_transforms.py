"""Augmentation: pairs alike, sample by sample, a function of seed, epoch and iteration."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medrestore.checks import InputError
from medrestore.data.transforms import ChannelDropout, InTurn, PairAugmentation, PatchAugmentation


def batch_of(count: int = 6) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return {
        "image": torch.rand(count, 3, 4, 5, generator=random),
        "label": torch.rand(count, 1, 4, 5, generator=random),
        "amyloid_status": torch.arange(count, dtype=torch.float32),
    }


def test_pair_is_changed_as_a_loop_over_samples_would():
    augmentation = PairAugmentation(flip_probability=0.5, intensity_jitter=0.2, seed=1)
    batch = batch_of()
    changed = augmentation(batch, epoch=2, iteration=7)
    flips, factors = augmentation.draw(6, epoch=2, iteration=7)
    assert 0 < int(flips.sum()) < 6
    for index in range(6):
        for name in ("image", "label"):
            expected = batch[name][index].numpy()
            if flips[index]:
                expected = expected[:, ::-1, :]  # X is the first in-plane axis
            np.testing.assert_array_equal(changed[name][index].numpy(), expected * factors[index].numpy()[0])
    assert changed["amyloid_status"] is batch["amyloid_status"]


def test_given_batch_is_left_alone():
    batch = batch_of()
    before = {name: value.clone() for name, value in batch.items()}
    PairAugmentation(flip_probability=1.0, intensity_jitter=0.5, seed=1)(batch, epoch=0, iteration=1)
    assert all(torch.equal(batch[name], before[name]) for name in batch)


def test_draws_depend_on_seed_epoch_and_iteration_alone():
    augmentation = PairAugmentation(flip_probability=0.5, intensity_jitter=0.2, seed=1)
    first = augmentation.draw(64, epoch=1, iteration=1)[1]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert torch.equal(augmentation.draw(64, epoch=1, iteration=1)[1], first)
    assert torch.equal(torch.get_rng_state(), state)
    for epoch, iteration, seed in ((2, 1, 1), (1, 2, 1), (1, 1, 2)):
        other = PairAugmentation(flip_probability=0.5, intensity_jitter=0.2, seed=seed)
        assert not torch.equal(other.draw(64, epoch=epoch, iteration=iteration)[1], first)


def test_draws_have_the_stated_distribution():
    flip, factor = PairAugmentation(flip_probability=0.3, intensity_jitter=0.2, seed=0).draw(
        10_000, epoch=0, iteration=0
    )
    # Deviation of a share of 10,000: sqrt(.3 * .7 / 10^4) = .0046; of the mean factor: .2 / sqrt(3 * 10^4) =
    # .0012.
    assert float(flip.float().mean()) == pytest.approx(0.3, abs=4 * 0.0046)
    assert float(factor.mean()) == pytest.approx(1.0, abs=4 * 0.0012)
    assert 0.8 <= float(factor.min()) < 0.801
    assert 1.199 < float(factor.max()) <= 1.2
    assert abs(float(torch.corrcoef(torch.stack([flip.flatten().float(), factor.flatten()]))[0, 1])) < 0.04


def test_several_processes_draw_what_one_with_the_joint_batch_does():
    options = {"flip_probability": 0.5, "intensity_jitter": 0.2, "seed": 1}
    whole = PairAugmentation(**options)(batch_of(6), epoch=1, iteration=2)
    for rank in range(2):
        part = {name: value[rank::2] for name, value in batch_of(6).items()}
        changed = PairAugmentation(**options, rank=rank, world_size=2)(part, epoch=1, iteration=2)
        assert torch.equal(changed["image"], whole["image"][rank::2])
        assert torch.equal(changed["label"], whole["label"][rank::2])


def test_nothing_to_do_changes_nothing():
    batch = batch_of()
    changed = PairAugmentation(flip_probability=0.0, intensity_jitter=0.0, seed=1)(
        batch, epoch=0, iteration=1
    )
    assert torch.equal(changed["image"], batch["image"])
    assert torch.equal(changed["label"], batch["label"])


def test_memory_order_and_type_are_kept():
    batch = batch_of()
    batch["image"] = batch["image"].to(torch.bfloat16, memory_format=torch.channels_last)
    changed = PairAugmentation(flip_probability=0.5, intensity_jitter=0.2, seed=1)(
        batch, epoch=0, iteration=1
    )
    assert changed["image"].dtype == torch.bfloat16
    assert changed["image"].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flip_probability": 1.5}, r"flip_probability must be in \[0, 1\], got 1.5"),
        ({"intensity_jitter": 1.0}, r"intensity_jitter must be in \[0, 1\), got 1.0"),
        ({"rank": 2, "world_size": 2}, r"rank must be in \[0, 1\], got 2"),
        ({"world_size": 0}, "world_size must be in"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        PairAugmentation(**{"flip_probability": 0.5, "intensity_jitter": 0.1, "seed": 0, **options})  # type: ignore[arg-type]


def test_pair_of_different_shape_is_refused():
    batch = batch_of()
    batch["label"] = batch["label"][:, :, :, :4]
    augmentation = PairAugmentation(flip_probability=0.5, intensity_jitter=0.1, seed=0)
    with pytest.raises(InputError, match=r"shapes must be equal, got image \(6, 4, 5\), label \(6, 4, 4\)"):
        augmentation(batch, epoch=0, iteration=1)


def test_masks_are_mirrored_and_their_values_left():
    batch = batch_of() | {"lesions": batch_of()["label"].round()}
    options = {"flip_probability": 0.5, "intensity_jitter": 0.2, "seed": 1}
    changed = PairAugmentation(**options, masks=["lesions"])(batch, epoch=2, iteration=7)
    plain = PairAugmentation(**options)(batch, epoch=2, iteration=7)
    flips, _ = PairAugmentation(**options).draw(6, epoch=2, iteration=7)
    assert 0 < int(flips.sum()) < 6
    assert torch.equal(changed["image"], plain["image"])
    for index in range(6):
        mask = batch["lesions"][index]
        assert torch.equal(changed["lesions"][index], mask.flip(1) if flips[index] else mask)


# ---------------------------------------------------------------------------- patches
def marked_batch() -> dict[str, torch.Tensor]:
    """Images whose value names their pixel, 9 x 8; masks of one pixel, of none, in a corner, and of two."""
    place = torch.arange(72, dtype=torch.float32).view(1, 1, 9, 8)
    masks = torch.zeros(4, 1, 9, 8)
    masks[0, 0, 5, 3] = masks[2, 0, 0, 7] = masks[3, 0, 2, 2] = masks[3, 0, 7, 6] = 1
    return {"image": place.repeat(4, 2, 1, 1), "label": place.repeat(4, 1, 1, 1), "lesions": masks}


def corners(changed: dict[str, torch.Tensor]) -> list[tuple[int, int]]:
    return [divmod(int(first), 8) for first in changed["label"][:, 0, 0, 0]]


def test_patches_are_centered_at_what_is_marked_as_far_as_the_edge_allows():
    patches = PatchAugmentation(size=(4, 5), mask="lesions", others=["lesions"], seed=0)
    batch, found = marked_batch(), []
    for iteration in range(40):
        changed = patches(batch, epoch=0, iteration=iteration)
        assert {name: value.shape[1:] for name, value in changed.items()} == {
            "image": (2, 4, 5),
            "label": (1, 4, 5),
            "lesions": (1, 4, 5),
        }
        found.append(corners(changed))
        for index, (x, y) in enumerate(found[-1]):
            for name in ("image", "label", "lesions"):
                expected = batch[name][index, :, x : x + 4, y : y + 5]
                assert torch.equal(changed[name][index], expected)
    first, nowhere, corner, two = ({place[index] for place in found} for index in range(4))
    assert first == {(5 - 2, 3 - 2)}
    assert corner == {(0, 8 - 5)}  # (-2, 5), moved inside
    assert two == {(0, 0), (5, 3)}  # (2 - 2, 2 - 2) and (7 - 2, 6 - 2), the last moved inside
    assert len(nowhere) > 10  # of 6 x 4 corners
    assert {x for x, _ in nowhere} == set(range(6))
    assert {y for _, y in nowhere} == set(range(4))


def test_patches_are_a_function_of_seed_epoch_and_iteration_for_all_processes_together():
    batch = marked_batch()
    whole = corners(PatchAugmentation(size=(4, 5), seed=1)(batch, epoch=1, iteration=2))
    for rank in range(2):
        part = {name: value[rank::2] for name, value in batch.items()}
        own = PatchAugmentation(size=(4, 5), seed=1, rank=rank, world_size=2)(part, epoch=1, iteration=2)
        assert corners(own) == whole[rank::2]
    others = [
        corners(PatchAugmentation(size=(4, 5), seed=seed)(batch, epoch=epoch, iteration=iteration))
        for epoch, iteration, seed in ((2, 2, 1), (1, 3, 1), (1, 2, 2))
    ]
    assert all(other != whole for other in others)


def test_slices_that_are_not_larger_stay_whole():
    batch = marked_batch()
    changed = PatchAugmentation(size=(20, 8), mask="lesions", seed=0)(batch, epoch=0, iteration=0)
    assert torch.equal(changed["image"], batch["image"])
    assert changed["lesions"] is batch["lesions"]


@pytest.mark.parametrize(
    ("size", "message"),
    [((4,), r"patch_size must be two numbers \(X, Y\), got"), ((4, 0), r"patch_size\[1\] must be in")],
)
def test_patches_without_a_size_are_refused(size, message):
    with pytest.raises(InputError, match=message):
        PatchAugmentation(size=size, seed=0)


class TestChannelDropout:
    GROUPS = ((1, 2), (4,))

    def changed(self, count=64, *, epoch=1, iteration=1, probability=0.5, seed=3, **share):
        dropout = ChannelDropout(self.GROUPS, probability=probability, seed=seed, **share)
        batch = {"image": torch.ones(count, 5, 2, 2), "label": torch.ones(count, 1, 2, 2)}
        after = dropout(batch, epoch=epoch, iteration=iteration)
        assert torch.equal(batch["image"], torch.ones(count, 5, 2, 2))  # the given one stays
        assert after["label"] is batch["label"]
        return after["image"]

    def test_groups_go_as_a_whole_each_for_itself_and_nothing_else(self):
        image = self.changed(1000)
        gone = image == 0
        assert torch.equal(gone, gone[:, :, :1, :1].expand_as(gone))  # whole planes
        gone = gone[:, :, 0, 0]
        assert not gone[:, [0, 3]].any()
        assert torch.equal(gone[:, 1], gone[:, 2])
        # Shares of 1000 draws at .5 deviate by .016 (SD), that of both at .25 by .014: four of each.
        assert float(gone[:, 1].float().mean()) == pytest.approx(0.5, abs=0.064)
        assert float((gone[:, 1] & gone[:, 4]).float().mean()) == pytest.approx(0.25, abs=0.056)

    def test_probability_of_none_and_all(self):
        assert bool((self.changed(probability=0.0) == 1).all())
        assert not self.changed(probability=1.0)[:, [1, 2, 4]].any()
        with pytest.raises(InputError, match="probability must be in"):
            self.changed(probability=1.5)

    def test_draws_depend_on_seed_epoch_and_iteration_alone_and_are_no_others(self):
        first = self.changed()
        assert torch.equal(self.changed(), first)
        for other in ({"epoch": 2}, {"iteration": 2}, {"seed": 4}):
            assert not torch.equal(self.changed(**other), first)
        flips = PairAugmentation(flip_probability=0.5, intensity_jitter=0.0, seed=3)
        drawn = flips.draw(64, epoch=1, iteration=1)[0].ravel()
        assert not torch.equal(drawn, first[:, 1, 0, 0] == 0)

    def test_processes_share_the_draws_of_one(self):
        together = self.changed(8)
        for rank in (0, 1):
            assert torch.equal(self.changed(4, rank=rank, world_size=2), together[rank::2])


def test_factor_is_for_the_first_channels_alone_where_so_many_are_named():
    batch = batch_of()
    whole, some = (
        PairAugmentation(flip_probability=0.5, intensity_jitter=0.2, scaled_channels=count, seed=1)(
            batch, epoch=0, iteration=1
        )
        for count in (None, 2)
    )
    assert torch.equal(some["label"], whole["label"])
    assert torch.equal(some["image"][:, :2], whole["image"][:, :2])
    flip, _ = PairAugmentation(flip_probability=0.5, intensity_jitter=0.2, seed=1).draw(
        6, epoch=0, iteration=1
    )
    expected = torch.where(flip, batch["image"].flip(2), batch["image"])[:, 2]
    assert torch.equal(some["image"][:, 2], expected)
    assert not torch.equal(whole["image"][:, 2], expected)


def test_augmentations_follow_one_another():
    flip = PairAugmentation(flip_probability=1.0, intensity_jitter=0.0, seed=0)
    batch = batch_of()
    assert torch.equal(InTurn(flip, flip)(batch, epoch=0, iteration=0)["image"], batch["image"])
