"""Batches of tiles: types, ranges, which patient they are of, and balance over patients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from medrestore.data.slices import BalancedBatchSampler, make_sequential_loader, make_slice_loader
from medrestore.domains.histology.training.dataset import TileDataset
from medrestore.domains.histology.training.stack import TileStack
from medrestore.files import sha256_file

COUNTS = {"p1": 1, "p2": 6, "p3": 3}


@pytest.fixture
def dataset(tmp_path: Path) -> TileDataset:
    """Tiles of 8 x 8 pixels side by side, one strip for each patient."""
    rows = []
    for index, (patient, count) in enumerate(COUNTS.items()):
        path = tmp_path / f"{patient}.png"
        pixels = np.random.default_rng(index).integers(0, 256, (8, 8 * count, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path)
        checksum = sha256_file(path)
        rows += [
            {"subject_id": patient, "tile": f"{patient}_{x}", "x": 8 * x, "y": 0, "slide_sha256": checksum}
            | {"slide_path": str(path)}
            for x in range(count)
        ]
    table = pd.DataFrame(rows).assign(tile_size=8, microns_per_pixel=0.5, slide_microns_per_pixel=0.5)
    return TileDataset(TileStack.build(table, cache_dir=tmp_path / "cache", progress=False))


def test_batch(dataset):
    batch = dataset.__getitems__([7, 0, 3])
    assert {name: (tuple(value.shape), value.dtype) for name, value in batch.items()} == {
        "image": ((3, 3, 2, 2), torch.float32),
        "label": ((3, 3, 8, 8), torch.float32),
        "volume_index": ((3,), torch.int64),
        "slice_index": ((3,), torch.int64),
    }
    images, targets = dataset.stack.pairs([7, 0, 3])
    np.testing.assert_array_equal(batch["image"], images.astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(batch["label"], targets.astype(np.float32) / np.float32(255))
    assert batch["volume_index"].tolist() == [2, 0, 1]
    assert batch["slice_index"].tolist() == [7, 0, 3]
    assert [dataset.stack.subjects[patient] for patient in (2, 0, 1)] == ["p3", "p1", "p2"]


def test_labels_are_patients(dataset):
    assert len(dataset) == 10
    assert dataset.labels.tolist() == dataset.volume.tolist() == [0, 1, 1, 1, 1, 1, 1, 2, 2, 2]
    assert dataset[4]["image"].shape == (3, 2, 2)


@pytest.mark.parametrize("workers", [0, 2])
def test_patients_are_drawn_alike(dataset, workers):
    sampler = BalancedBatchSampler(dataset.labels, batch_size=6, batches_per_epoch=4, seed=0, least_classes=1)
    for batch in make_slice_loader(dataset, sampler, workers=workers):
        assert np.bincount(batch["volume_index"]).tolist() == [2, 2, 2]
        expected = dataset.__getitems__(batch["slice_index"].numpy())
        assert torch.equal(batch["label"], expected["label"])


def test_every_tile_once(dataset):
    batches = list(make_sequential_loader(dataset, batch_size=4))
    assert torch.cat([batch["slice_index"] for batch in batches]).tolist() == list(range(10))
