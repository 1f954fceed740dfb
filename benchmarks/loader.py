"""Slices a second: one epoch over 20 cached pairs of 256 x 256 x 89, against copying the same bytes.

Run: ``python benchmarks/loader.py``. Target: 0.4 s an epoch or less.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from timing import interleaved, machine

from medrestore.data.slices import BalancedBatchSampler, SliceDataset, SliceStack, make_slice_loader
from medrestore.data.volumes import SourceGrid, write_volume

SHAPE = (256, 256, 89)
TARGET_S = 0.4


def make_pairs(folder: Path, count: int) -> pd.DataFrame:
    """Write pairs of smooth volumes and noise; return a table as a manifest gives it."""
    grid = SourceGrid.from_affine(SHAPE, np.diag([2.0, 2.0, 2.0, 1.0]))
    x, y, z = (np.linspace(-1, 1, length, dtype=np.float32) for length in SHAPE)
    head = (x[:, None, None] ** 2 + y[None, :, None] ** 2 + z[None, None, :] ** 2 < 0.7).astype(np.float32)
    rows = []
    for index in range(count):
        noise = np.random.default_rng(index).random(SHAPE, dtype=np.float32)
        paths = {}
        for arm, volume in (("degraded", head * noise * 2), ("target", head)):
            # The first voxel tells subjects apart: equal files are one file to the cache.
            volume[0, 0, 0] = index * 1e-3
            paths[f"{arm}_path"] = str(write_volume(volume, grid, folder / f"{index}_{arm}.nii"))
        rows.append({**paths, "amyloid_status": index % 2})
    return pd.DataFrame(rows)


def main() -> None:
    """Build the stack, time an epoch, print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        table = make_pairs(Path(name), options.pairs)
        start = time.perf_counter()
        stack = SliceStack.build(table, Path(name) / "cache", spatial_size=SHAPE[:2])
        built = time.perf_counter() - start
        print(machine(torch.get_num_threads()))
        size = 2 * stack.degraded.nbytes / 2**30
        print(f"stack of {len(stack)} pairs of slices, {size:.2f} GiB: decoded in {built:.1f} s, once")
        for neighbors in (0, 2):
            report(stack, neighbors, options.batch_size, options.repetitions)


def report(stack: SliceStack, neighbors: int, batch_size: int, repetitions: int) -> None:
    """Time an epoch through the loader, and the same bytes copied slice by slice into one buffer."""
    dataset = SliceDataset(stack, neighbors=neighbors)
    sampler = BalancedBatchSampler(
        dataset.labels, batch_size=batch_size, batches_per_epoch=len(dataset) // batch_size, seed=0
    )
    loader = make_slice_loader(dataset, sampler)
    order = sampler.draw(0).reshape(-1)
    offsets = range(-neighbors, neighbors + 1)
    buffer = np.empty(stack.degraded.shape[1:], dtype=np.float32)

    def epoch() -> float:
        return sum(float(batch["label"][0, 0, 0, 0]) for batch in loader)

    def copy() -> None:
        for index in order:
            for offset in offsets:
                np.copyto(buffer, stack.degraded[min(max(index + offset, 0), len(stack) - 1)])
            np.copyto(buffer, stack.target[index])

    seconds = interleaved({"loader": epoch, "copy": copy}, repetitions=repetitions)
    gigabytes = len(order) * (len(offsets) + 1) * buffer.nbytes / 1e9
    met = "met" if seconds["loader"] <= TARGET_S else "MISSED"
    print(
        f"{neighbors} neighbors, {len(order)} slices, {gigabytes:.2f} GB: loader {seconds['loader']:.3f} s "
        f"an epoch (target {TARGET_S} s: {met}), bare copy {seconds['copy']:.3f} s, "
        f"ratio {seconds['loader'] / seconds['copy']:.2f}"
    )


if __name__ == "__main__":
    main()
