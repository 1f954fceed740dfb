"""Batches of contrasts: against a loop over slices, channels and planes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from medrestore.checks import InputError
from medrestore.data.slices import BalancedBatchSampler, make_sequential_loader, make_slice_loader
from medrestore.domains.multicontrast_mri.acquisition.acquisition import Acquisition
from medrestore.domains.multicontrast_mri.schema import contrast_schema
from medrestore.domains.multicontrast_mri.training.dataset import ContrastDataset, LesionDataset
from medrestore.domains.multicontrast_mri.training.stack import ContrastStack, SyntheticStack

CONTRASTS = ("t1w", "t2w", "t2_flair")
DEPTHS = (5, 6, 7, 8)
HAS = ((0, 1, 2), (0, 1), (0, 1, 2), (1, 2))  # contrasts of each subject


@pytest.fixture
def stack(make_cohort: Callable[..., Path], acquisition: Acquisition, tmp_path: Path) -> ContrastStack:
    table = contrast_schema(CONTRASTS).read(make_cohort())
    return ContrastStack.build(
        table[table["split"] == "train"],
        tmp_path / "cache",
        contrasts=CONTRASTS,
        acquisition=acquisition,
        spatial_size=(16, 12),
        progress=False,
    )


@pytest.fixture
def synthetic(stack: ContrastStack, acquisition: Acquisition, tmp_path: Path) -> SyntheticStack:
    return SyntheticStack.build(
        stack.volumes,
        tmp_path / "cache",
        contrasts=CONTRASTS,
        acquisition=acquisition,
        spatial_size=(16, 12),
        progress=False,
    )


# ---------------------------------------------------------------- contrasts
def test_items_are_the_slices_of_the_contrasts_that_are_there(stack):
    dataset = ContrastDataset(stack, neighbors=0)
    expected = [
        (volume * 3 + contrast, z, contrast)
        for volume, depth in enumerate(DEPTHS)
        for contrast in HAS[volume]
        for z in range(depth)
    ]
    batch = dataset.__getitems__(range(len(dataset)))
    keys = ("volume_index", "slice_index", "contrast")
    found = list(zip(*(batch[key].tolist() for key in keys), strict=True))
    assert found == expected
    assert dataset.labels.tolist() == [contrast for *_, contrast in expected]
    assert len(dataset) == 3 * 5 + 2 * 6 + 3 * 7 + 2 * 8


@pytest.mark.parametrize("neighbors", [0, 1, 9])
def test_batch_is_what_a_loop_over_slices_channels_and_planes_gives(stack, neighbors):
    dataset = ContrastDataset(stack, neighbors=neighbors)
    starts = np.cumsum([0, *DEPTHS])
    wanted = [0, len(dataset) - 1, 14, 15, 30, 14]  # first and last, out of order, one twice
    batch = dataset.__getitems__(wanted)
    assert batch["image"].shape == (6, (2 * neighbors + 1) * 6 + 3, 16, 12)
    for place in range(6):
        volume, contrast = divmod(int(batch["volume_index"][place]), 3)
        z = int(batch["slice_index"][place])
        image = batch["image"][place].numpy()
        for step in range(2 * neighbors + 1):
            other = min(max(z + step - neighbors, 0), DEPTHS[volume] - 1)
            for c in range(6):
                np.testing.assert_array_equal(image[6 * step + c], stack.input[starts[volume] + other, c])
        for k in range(3):
            np.testing.assert_array_equal(image[-3 + k], np.full((16, 12), float(k == contrast)))
        np.testing.assert_array_equal(batch["label"][place, 0], stack.target[starts[volume] + z, contrast])
        assert int(batch["contrast"][place]) == contrast
    assert {name: value.dtype for name, value in batch.items()} == {
        "image": torch.float32,
        "label": torch.float32,
        "contrast": torch.int64,
        "volume_index": torch.int64,
        "slice_index": torch.int64,
    }
    assert batch["label"].shape == (6, 1, 16, 12)


def test_shown_channel_is_the_slice_in_the_reference_channel(stack):
    dataset = ContrastDataset(stack, neighbors=2)
    batch = dataset.__getitems__([40])
    volume = int(batch["volume_index"][0]) // 3
    position = stack.first_slice[volume] + int(batch["slice_index"][0])
    np.testing.assert_array_equal(batch["image"][0, dataset.shown_channel], stack.input[position, 4])


def test_last_channel_is_the_synthetic_image_of_the_wanted_contrast(stack, synthetic):
    plain, dataset = (
        ContrastDataset(stack, neighbors=1),
        ContrastDataset(stack, neighbors=1, synthetic=synthetic),
    )
    wanted = [0, len(dataset) - 1, 14, 15, 30, 14]
    before, batch = plain.__getitems__(wanted), dataset.__getitems__(wanted)
    assert batch["image"].shape == (6, 3 * 6 + 3 + 1, 16, 12)
    assert torch.equal(batch["image"][:, :-1], before["image"])
    for place in range(6):
        volume, contrast = divmod(int(batch["volume_index"][place]), 3)
        position = stack.first_slice[volume] + int(batch["slice_index"][place])
        np.testing.assert_array_equal(batch["image"][place, -1], synthetic.synthetic[position, contrast])


def test_lesions_are_known_on_their_contrast_of_marked_volumes(stack):
    dataset = ContrastDataset(stack, neighbors=0, lesions_of="t2_flair")
    batch = dataset.__getitems__(range(len(dataset)))
    assert (batch["lesions"].shape, batch["lesions"].dtype) == ((len(dataset), 1, 16, 12), torch.float32)
    volume, contrast = np.divmod(batch["volume_index"].numpy(), 3)
    # Volumes 0 and 2 have masks; t2_flair is the third contrast.
    expected = (contrast == 2) & np.isin(volume, (0, 2))
    np.testing.assert_array_equal(batch["lesions_known"], expected)
    position = stack.first_slice[volume] + batch["slice_index"].numpy()
    np.testing.assert_array_equal(batch["lesions"][:, 0], stack.lesions[position])
    # Their masks lie in slices 2 and 3.
    holds = np.isin(volume, (0, 2)) & np.isin(batch["slice_index"], (2, 3))
    np.testing.assert_array_equal(dataset.holds_lesion, holds)
    with pytest.raises(InputError, match="lesions_of must be one of 't1w', 't2w', 't2_flair', got 'stir'"):
        ContrastDataset(stack, neighbors=0, lesions_of="stir")


def test_batch_may_be_changed_without_touching_the_maps(stack):
    before = np.array(stack.input), np.array(stack.target)
    batch = ContrastDataset(stack, neighbors=1).__getitems__([3, 4])
    batch["image"].zero_()
    batch["label"].zero_()
    np.testing.assert_array_equal(stack.input, before[0])
    np.testing.assert_array_equal(stack.target, before[1])


def test_slice_range_restricts_centers_not_neighbors(stack):
    dataset = ContrastDataset(stack, neighbors=1, slice_range=(0.25, 0.75))
    # Centers (z + .5) / depth within [.25, .75]: of 5 slices 1 to 3, of 6 1 to 4, of 7 2 to 4, of 8 2 to 5.
    batch = dataset.__getitems__(range(len(dataset)))
    expected = [[1, 2, 3] * 3, [1, 2, 3, 4] * 2, [2, 3, 4] * 3, [2, 3, 4, 5] * 2]
    assert batch["slice_index"].tolist() == [z for slices in expected for z in slices]
    np.testing.assert_array_equal(batch["image"][0, :6], stack.input[0])  # z = 0 of the first volume
    with pytest.raises(InputError, match="holds no slice"):
        ContrastDataset(stack, neighbors=1, slice_range=(0.501, 0.502))
    with pytest.raises(InputError, match=r"neighbors must be in \[0, 1000\], got -1"):
        ContrastDataset(stack, neighbors=-1)


def test_one_item_is_the_batch_without_its_first_axis(stack):
    dataset = ContrastDataset(stack, neighbors=1)
    batch = dataset.__getitems__([7])
    assert all(torch.equal(value, batch[name][0]) for name, value in dataset[7].items())


@pytest.mark.parametrize("workers", [0, 1])
def test_loader_mixes_contrasts_or_takes_one_for_an_epoch(stack, workers):
    dataset = ContrastDataset(stack, neighbors=0)
    sampler = BalancedBatchSampler(dataset.labels, batch_size=6, batches_per_epoch=4, seed=0)
    loader = make_slice_loader(dataset, sampler, workers=workers)
    sampler.set_epoch(1)
    assert all(set(Counter(batch["contrast"].tolist()).values()) == {2} for batch in loader)
    seen = []
    for epoch in (2, 3, 4):
        sampler.set_epoch(epoch, batches="one_class")
        (contrast,) = {int(value) for batch in loader for value in batch["contrast"]}
        seen.append(contrast)
    assert sorted(seen) == [0, 1, 2]


def test_sequential_loader_yields_volume_after_volume(stack):
    dataset = ContrastDataset(stack, neighbors=0)
    volumes = torch.cat([batch["volume_index"] for batch in make_sequential_loader(dataset, batch_size=9)])
    assert volumes.tolist() == sorted(volumes.tolist())
    assert len(volumes) == len(dataset)


# ---------------------------------------------------------------- lesions
def test_lesions_come_with_the_true_contrast_of_volumes_that_have_both(stack):
    dataset = LesionDataset(stack, contrast="t2_flair")
    assert len(dataset) == 5 + 7  # subjects 0 and 2 have masks; subject 1 has neither, subject 3 no mask
    batch = dataset.__getitems__(range(12))
    positions = [*range(5), *range(11, 18)]
    np.testing.assert_array_equal(batch["image"][:, 0], stack.target[positions, 2])
    np.testing.assert_array_equal(batch["label"][:, 0], stack.lesions[positions])
    assert batch["lesion"].tolist() == [0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0]  # slices 2 and 3 of each
    assert dataset.labels.tolist() == batch["lesion"].tolist()
    assert batch["volume_index"].tolist() == [0] * 5 + [2] * 7
    assert batch["slice_index"].tolist() == [*range(5), *range(7)]
    assert {batch[name].dtype for name in ("image", "label", "lesion")} == {torch.float32}
    assert dataset.shown_channel == 0
    assert len(LesionDataset(stack, contrast="t1w", slice_range=(0.25, 0.75))) == 3 + 3


def test_lesions_of_what_is_not_there_are_refused(stack):
    with pytest.raises(InputError, match="contrast must be one of 't1w', 't2w', 't2_flair', got 'stir'"):
        LesionDataset(stack, contrast="stir")
    stack.marked[:] = False
    with pytest.raises(InputError, match="no volume of the split has both t1w and a lesion mask"):
        LesionDataset(stack, contrast="t1w")
