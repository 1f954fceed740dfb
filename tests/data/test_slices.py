"""Batches of slices: neighbors against a loop, balance counted, order a function of seed and epoch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from medrestore.checks import InputError
from medrestore.data.slices import (
    BalancedBatchSampler,
    SliceDataset,
    SliceStack,
    make_sequential_loader,
    make_slice_loader,
)
from medrestore.domains.amyloid_pet.schema import pair_schema

DEPTHS = (5, 6, 7, 8)


@pytest.fixture
def stack(make_cohort: Callable[..., Path], tmp_path: Path) -> SliceStack:
    table = pair_schema().read(make_cohort())
    return SliceStack.build(table[table["split"] == "train"], tmp_path / "cache", spatial_size=(16, 12))


# ---------------------------------------------------------------- dataset
@pytest.mark.parametrize("neighbors", [0, 1, 3, 9])
def test_batch_is_what_a_loop_over_slices_and_channels_gives(stack, neighbors):
    dataset = SliceDataset(stack, neighbors=neighbors, label_column="amyloid_status")
    assert len(dataset) == sum(DEPTHS)
    wanted = [0, 25, 4, 5, 10, 4]  # first and last slices of volumes, out of order, one twice
    batch = dataset.__getitems__(wanted)
    starts = np.cumsum([0, *DEPTHS])
    for place, index in enumerate(wanted):
        volume = int(np.searchsorted(starts, index, side="right")) - 1
        z = index - starts[volume]
        for channel in range(2 * neighbors + 1):
            other = min(max(z + channel - neighbors, 0), DEPTHS[volume] - 1)
            np.testing.assert_array_equal(
                batch["image"][place, channel], stack.degraded[starts[volume] + other]
            )
        np.testing.assert_array_equal(batch["label"][place, 0], stack.target[index])
        assert int(batch["volume_index"][place]) == volume
        assert int(batch["slice_index"][place]) == z
        assert float(batch["amyloid_status"][place]) == volume % 2
    assert batch["image"].shape == (6, 2 * neighbors + 1, 16, 12)
    assert {name: value.dtype for name, value in batch.items()} == {
        "image": torch.float32,
        "label": torch.float32,
        "amyloid_status": torch.float32,
        "volume_index": torch.int64,
        "slice_index": torch.int64,
    }


def test_one_item_is_the_batch_without_its_first_axis(stack):
    dataset = SliceDataset(stack, neighbors=1, label_column="amyloid_status")
    batch = dataset.__getitems__([7])
    assert all(torch.equal(value, batch[name][0]) for name, value in dataset[7].items())


def test_batch_may_be_changed_without_touching_the_map(stack):
    dataset = SliceDataset(stack, neighbors=1, label_column="amyloid_status")
    before = np.array(stack.degraded)
    dataset.__getitems__([3, 4])["image"].zero_()
    np.testing.assert_array_equal(stack.degraded, before)


def test_labels_are_those_of_the_subjects(stack):
    labels = SliceDataset(stack, neighbors=0, label_column="amyloid_status").labels
    assert labels.tolist() == [0] * 5 + [1] * 6 + [0] * 7 + [1] * 8


def test_slice_range_restricts_centers_not_neighbors(stack):
    dataset = SliceDataset(stack, neighbors=1, slice_range=(0.25, 0.75), label_column="amyloid_status")
    # Centers (z + .5) / depth within [.25, .75]: 5 -> .3 .5 .7; 6 -> .25 to .75; 7 -> .357 .5 .643; 8 ->
    # .3125 to .6875.
    chosen = [[1, 2, 3], [1, 2, 3, 4], [2, 3, 4], [2, 3, 4, 5]]
    batch = dataset.__getitems__(range(len(dataset)))
    assert batch["slice_index"].tolist() == [z for slices in chosen for z in slices]
    assert dataset.labels.tolist() == [0] * 3 + [1] * 4 + [0] * 3 + [1] * 4
    np.testing.assert_array_equal(batch["image"][0, 0], stack.degraded[0])  # z = 0 of the first volume
    assert torch.equal(
        SliceDataset(stack, neighbors=0, slice_range=(0, 1), label_column="amyloid_status").__getitems__(
            [25]
        )["label"][0, 0],
        torch.tensor(stack.target[25]),
    )


def test_other_label_column_names_the_key(stack):
    stack.volumes["contrast"] = [3, 1, 2, 0]
    dataset = SliceDataset(stack, neighbors=0, label_column="contrast")
    assert dataset[5]["contrast"] == 1
    assert "amyloid_status" not in dataset[5]


def test_shown_channel_is_the_slice_itself(stack):
    dataset = SliceDataset(stack, neighbors=2, label_column="amyloid_status")
    image = dataset.__getitems__([12])["image"]
    np.testing.assert_array_equal(image[0, dataset.shown_channel], stack.degraded[12])


def test_wrong_arguments_of_the_dataset_are_refused(stack):
    with pytest.raises(InputError, match=r"neighbors must be in \[0, 1000\], got -1"):
        SliceDataset(stack, neighbors=-1, label_column="amyloid_status")
    with pytest.raises(
        InputError, match="label_column 'status' is not a column of the manifest, which has subject_id"
    ):
        SliceDataset(stack, neighbors=0, label_column="status")
    with pytest.raises(InputError, match=r"slice_range\[1\] must be in \[0.6, 1\], got 0.4"):
        SliceDataset(stack, neighbors=0, slice_range=(0.6, 0.4), label_column="amyloid_status")
    with pytest.raises(InputError, match=r"slice_range \(0.501, 0.502\) holds no slice"):
        SliceDataset(stack, neighbors=0, slice_range=(0.501, 0.502), label_column="amyloid_status")
    stack.volumes["gap"] = [0.0, 1.0, np.nan, 1.0]
    with pytest.raises(InputError, match="'gap' holds values that are no numbers"):
        SliceDataset(stack, neighbors=0, label_column="gap")


# ---------------------------------------------------------------- sampler
LABELS = np.array([0] * 30 + [1] * 10)


def sampler_of(**options: int) -> BalancedBatchSampler:
    return BalancedBatchSampler(LABELS, **{"batch_size": 8, "batches_per_epoch": 10, "seed": 0, **options})


@pytest.mark.parametrize(("batch_size", "world_size"), [(8, 1), (4, 2), (2, 4), (1, 8), (6, 1)])
def test_every_batch_holds_half_of_each_class(batch_size, world_size):
    for batch in sampler_of(batch_size=batch_size, world_size=world_size).draw(3):
        assert LABELS[batch].sum() * 2 == len(batch)


def test_surplus_of_an_odd_batch_goes_round():
    ones = [int(LABELS[batch].sum()) for batch in sampler_of(batch_size=5).draw(0)]
    # Classes in turn over 10 batches of 5: positions 0-4 hold three 0s and two 1s, 5-9 two 0s and three 1s.
    assert ones == [2, 3] * 5


def test_three_classes_share_alike():
    labels = np.repeat([0, 1, 5], [4, 9, 30])
    sampler = BalancedBatchSampler(labels, batch_size=4, batches_per_epoch=9, seed=0)
    drawn = labels[sampler.draw(0)]
    assert all(set(Counter(batch).values()) == {1, 2} for batch in drawn.tolist())
    assert Counter(drawn.reshape(-1).tolist()) == {0: 12, 1: 12, 5: 12}


def test_no_slice_comes_twice_before_its_class_is_used_up():
    drawn = sampler_of().draw(0).reshape(-1)  # 40 of each class
    zeros, ones = (drawn[LABELS[drawn] == label] for label in (0, 1))
    assert sorted(zeros[:30]) == list(range(30))
    assert len(set(zeros[30:])) == 10
    for start in range(0, 40, 10):
        assert sorted(ones[start : start + 10]) == list(range(30, 40))


def test_order_is_a_function_of_seed_and_epoch():
    first = sampler_of()
    first.set_epoch(3)
    order = list(first)
    assert np.array_equal(order, sampler_of().draw(3))
    assert not np.array_equal(order, sampler_of().draw(4))
    assert not np.array_equal(order, sampler_of(seed=1).draw(3))
    assert list(first) == order  # a second pass over the same epoch


def test_processes_share_the_batch_of_one():
    whole = list(sampler_of(batch_size=8))
    parts = [list(sampler_of(batch_size=4, rank=rank, world_size=2)) for rank in range(2)]
    for batch, first, second in zip(whole, *parts, strict=True):
        assert batch[0::2] == first
        assert batch[1::2] == second
        assert LABELS[first].sum() == LABELS[second].sum() == 2  # each process is balanced by itself


def test_interrupted_epoch_continues_where_it_stopped():
    sampler = sampler_of()
    sampler.set_epoch(2)
    whole = list(sampler)
    sampler.set_epoch(1)
    sampler.set_epoch(2)
    batches = iter(sampler)
    begun = [next(batches) for _ in range(4)]
    state = sampler.state_dict()
    assert state == {"epoch": 2, "position": 4}
    resumed = sampler_of()
    resumed.load_state_dict(state)
    resumed.set_epoch(2)
    assert begun + list(resumed) == whole
    resumed.set_epoch(3)
    assert list(resumed) == sampler_of().draw(3).tolist()


def test_abandoned_iterator_has_no_effect_on_the_next_epoch():
    # An engine drops its iterator after the last batch and asks it once more in the next epoch.
    sampler = sampler_of()
    batches = iter(sampler)
    for _ in range(10):
        next(batches)
    sampler.set_epoch(1)
    with pytest.raises(StopIteration):
        next(batches)
    assert sampler.state_dict() == {"epoch": 1, "position": 0}
    assert len(list(sampler)) == len(sampler) == 10


def test_one_class_is_refused():
    with pytest.raises(
        InputError, match=r"only class 1: label-balanced batches need two classes. Remedy: add subjects"
    ):
        BalancedBatchSampler([1, 1, 1], batch_size=2, batches_per_epoch=1, seed=0)
    with pytest.raises(InputError, match="holds no slices"):
        BalancedBatchSampler([], batch_size=2, batches_per_epoch=1, seed=0)


def test_one_class_is_drawn_where_that_is_said():
    sampler = BalancedBatchSampler([7, 7, 7], batch_size=2, batches_per_epoch=3, seed=0, least_classes=1)
    assert sorted(sampler.draw(0).reshape(-1)) == [0, 0, 1, 1, 2, 2]  # all before any comes again
    with pytest.raises(InputError, match="holds no slices"):
        BalancedBatchSampler([], batch_size=2, batches_per_epoch=1, seed=0, least_classes=1)


# ---------------------------------------------------------------- favored slices
FAVORED = np.arange(40) % 5 == 0  # 6 of the class 0, 2 of the class 1


def favoring(**options: object) -> BalancedBatchSampler:
    return sampler_of(**{"favored": FAVORED, "favored_share": 0.5, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(("batch_size", "world_size"), [(8, 1), (4, 2), (2, 4)])
def test_favored_slices_have_their_share_of_each_class_in_every_batch(batch_size, world_size):
    for batch in favoring(batch_size=batch_size, world_size=world_size).draw(3):
        held = Counter(zip(LABELS[batch].tolist(), FAVORED[batch].tolist(), strict=True))
        assert held == {(label, kept): 2 for label in (0, 1) for kept in (False, True)}


def test_share_that_does_not_divide_a_batch_goes_round():
    drawn = favoring(favored_share=0.3).draw(0)  # 4 places of each class in 10 batches: 12 of 40 are favored
    for label in (0, 1):
        counts = [int(FAVORED[batch[LABELS[batch] == label]].sum()) for batch in drawn]
        assert sum(counts) == 12
        assert set(counts) == {1, 2}


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (1.0, 80)])
def test_share_may_be_none_or_all(share, expected):
    assert FAVORED[favoring(favored_share=share).draw(0)].sum() == expected


def test_class_without_favored_slices_is_drawn_as_it_is():
    only_ones = FAVORED & (LABELS == 1)
    drawn = favoring(favored=only_ones).draw(0)
    assert all(LABELS[batch].sum() == 4 and only_ones[batch].sum() == 2 for batch in drawn)


@pytest.mark.parametrize("favored", [np.zeros(40, bool), np.ones(40, bool)])
def test_where_all_slices_are_alike_the_order_is_that_without(favored):
    for epoch in (0, 3):
        for batches in ("mixed", "one_class"):
            expected = sampler_of().draw(epoch, batches=batches)
            np.testing.assert_array_equal(favoring(favored=favored).draw(epoch, batches=batches), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"favored_share": 1.5}, "favored_share must be in"),
        ({"batch_size": 0}, "batch_size must be in"),
        ({"batches_per_epoch": 0}, "batches_per_epoch must be in"),
        ({"world_size": 0}, "world_size must be in"),
        ({"rank": 1}, r"rank must be in \[0, 0\], got 1"),
    ],
)
def test_wrong_arguments_of_the_sampler_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        sampler_of(**options)


# ---------------------------------------------------------------- epochs of one class
CONTRASTS = np.repeat([0, 1, 2, 4], [9, 30, 5, 12])  # class 3 does not occur


def contrast_sampler(**options: int) -> BalancedBatchSampler:
    return BalancedBatchSampler(CONTRASTS, **{"batch_size": 4, "batches_per_epoch": 3, "seed": 0, **options})


def class_of_epoch(sampler: BalancedBatchSampler, epoch: int) -> int:
    (kind,) = set(CONTRASTS[sampler.draw(epoch, batches="one_class")].reshape(-1).tolist())
    return int(kind)


def test_as_many_epochs_as_classes_hold_every_class_once():
    orders = set()
    for seed in range(8):
        kinds = [class_of_epoch(contrast_sampler(seed=seed), epoch) for epoch in range(13)]
        for start in range(10):  # wherever the stage begins
            assert sorted(kinds[start : start + 4]) == [0, 1, 2, 4]
        orders.add(tuple(kinds[:4]))
    assert len(orders) > 1  # the seed's order, not the classes'


def test_epoch_of_one_class_uses_it_up_before_a_slice_comes_again():
    sampler = contrast_sampler(batches_per_epoch=5)
    epoch = next(epoch for epoch in range(4) if class_of_epoch(sampler, epoch) == 0)
    drawn = sampler.draw(epoch, batches="one_class").reshape(-1)  # 20 of 9 slices
    assert sorted(drawn[:9]) == sorted(drawn[9:18]) == list(range(9))
    again = sampler.draw(epoch + 4, batches="one_class").reshape(-1)  # the same class, in another order
    assert sorted(again[:9]) == list(range(9))
    assert again.tolist() != drawn.tolist()


def test_iteration_follows_the_kind_of_batches_of_its_epoch():
    sampler = contrast_sampler()
    sampler.set_epoch(5, batches="one_class")
    assert list(sampler) == sampler.draw(5, batches="one_class").tolist()
    sampler.set_epoch(6)
    assert list(sampler) == sampler.draw(6).tolist()
    assert all(len(set(CONTRASTS[batch])) == 4 for batch in sampler.draw(6))


def test_processes_share_an_epoch_of_one_class():
    samplers = [contrast_sampler(batch_size=8), *(contrast_sampler(rank=r, world_size=2) for r in range(2))]
    for sampler in samplers:
        sampler.set_epoch(3, batches="one_class")
    for batch, first, second in zip(*samplers, strict=True):
        assert batch[0::2] == first
        assert batch[1::2] == second


def test_interrupted_epoch_of_one_class_continues_where_it_stopped():
    sampler = contrast_sampler()
    sampler.set_epoch(2, batches="one_class")
    whole = list(sampler)
    sampler.set_epoch(1, batches="one_class")
    sampler.set_epoch(2, batches="one_class")
    begun = [next(iter(sampler))]
    resumed = contrast_sampler()
    resumed.load_state_dict(sampler.state_dict())
    resumed.set_epoch(2, batches="one_class")  # as the stage says
    assert begun + list(resumed) == whole


def test_unknown_kind_of_batches_is_refused():
    with pytest.raises(InputError, match="batches must be one of 'mixed', 'one_class', got 'one class'"):
        contrast_sampler().set_epoch(0, batches="one class")


# ---------------------------------------------------------------- loaders
@pytest.mark.parametrize("workers", [0, 2])
def test_loader_yields_the_samplers_batches_whole(stack, workers):
    dataset = SliceDataset(stack, neighbors=1, label_column="amyloid_status")
    sampler = BalancedBatchSampler(dataset.labels, batch_size=4, batches_per_epoch=3, seed=0)
    loader = make_slice_loader(dataset, sampler, workers=workers)
    state = torch.get_rng_state()
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        batches = list(loader)
        assert len(batches) == len(loader) == 3
        for batch, indices in zip(batches, sampler.draw(epoch), strict=True):
            expected = dataset.__getitems__(indices)
            assert all(torch.equal(batch[name], expected[name]) for name in expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_sequential_loader_yields_every_slice_once_in_order(stack):
    dataset = SliceDataset(stack, neighbors=0, label_column="amyloid_status")
    state = torch.get_rng_state()
    batches = list(make_sequential_loader(dataset, batch_size=8))
    assert [len(batch["label"]) for batch in batches] == [8, 8, 8, 2]
    np.testing.assert_array_equal(torch.cat([batch["label"][:, 0] for batch in batches]), stack.target)
    assert torch.equal(torch.get_rng_state(), state)


def test_negative_workers_are_refused(stack):
    dataset = SliceDataset(stack, neighbors=0, label_column="amyloid_status")
    sampler = BalancedBatchSampler(dataset.labels, batch_size=4, batches_per_epoch=3, seed=0)
    with pytest.raises(InputError, match="workers must be in"):
        make_slice_loader(dataset, sampler, workers=-1)
