"""Slices a second, against copying the same bytes: pairs, and channels with their contrasts.

An epoch over 20 cached pairs of 256 x 256 x 89; batches of multi-contrast MRI of the demo's size, 8 channels
in and 6 contrasts out. Run: ``python benchmarks/loader.py``. Targets: 0.4 s an epoch of pairs, 2 ms a batch
of contrasts, or less.
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
from medrestore.data.volumes import SourceGrid, write_channels, write_volume
from medrestore.domains.multicontrast_mri.acquisition.acquisition import make_acquisition
from medrestore.domains.multicontrast_mri.training.dataset import ContrastDataset
from medrestore.domains.multicontrast_mri.training.stack import ContrastStack
from medrestore.operators.mr_sequences import CONTRASTS

SHAPE = (256, 256, 89)
TARGET_S = 0.4
DEMO_SHAPE = (96, 112, 24)
TARGET_BATCH_S = 0.002


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


def make_subjects(folder: Path, count: int) -> pd.DataFrame:
    """Write channels and contrasts of the demo's size, of noise; return a table as a manifest gives it."""
    grid = SourceGrid.from_affine(DEMO_SHAPE, np.diag([2.0, 2.0, 5.0, 1.0]))
    rows = []
    for index in range(count):
        random = np.random.default_rng(index)
        image = 0.5 + random.random((8, *DEMO_SHAPE), dtype=np.float32)
        row: dict[str, object] = {"input_paths": (str(write_channels(image, grid, folder / f"{index}.nii")),)}
        for name in CONTRASTS:
            volume = 0.5 + random.random(DEMO_SHAPE, dtype=np.float32)
            row[f"{name}_path"] = str(write_volume(volume, grid, folder / f"{index}_{name}.nii"))
        rows.append(row)
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
        contrasts = ContrastStack.build(
            make_subjects(Path(name), 10),
            Path(name) / "cache",
            contrasts=tuple(CONTRASTS),
            acquisition=make_acquisition(component="any", channels=8),
            spatial_size=DEMO_SHAPE[:2],
            progress=False,
        )
        for neighbors in (0, 1):
            report_contrasts(contrasts, neighbors, options.batch_size, options.repetitions)


def report(stack: SliceStack, neighbors: int, batch_size: int, repetitions: int) -> None:
    """Time an epoch through the loader, and the same bytes copied slice by slice into one buffer."""
    dataset = SliceDataset(stack, neighbors=neighbors, label_column="amyloid_status")
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


def report_contrasts(stack: ContrastStack, neighbors: int, batch_size: int, repetitions: int) -> None:
    """Time batches through the loader, and the same bytes copied slice by slice into one buffer."""
    dataset = ContrastDataset(stack, neighbors=neighbors)
    sampler = BalancedBatchSampler(dataset.labels, batch_size=batch_size, batches_per_epoch=100, seed=0)
    loader = make_slice_loader(dataset, sampler)
    order = sampler.draw(0).reshape(-1)
    offsets = range(-neighbors, neighbors + 1)
    planes = np.zeros((len(stack.contrasts), *stack.spatial_size), dtype=np.float32)
    buffers = [np.empty_like(stack.input[0]), np.empty_like(stack.target[0, 0]), np.empty_like(planes)]

    def epoch() -> float:
        return sum(float(batch["label"][0, 0, 0, 0]) for batch in loader)

    def copy() -> None:
        for index in order:
            for offset in offsets:
                np.copyto(
                    buffers[0], stack.input[min(max(dataset.chosen[index] + offset, 0), len(stack) - 1)]
                )
            np.copyto(buffers[1], stack.target[dataset.chosen[index], dataset.labels[index]])
            np.copyto(buffers[2], planes)

    seconds = interleaved({"loader": epoch, "copy": copy}, repetitions=repetitions)
    batch_s = seconds["loader"] / len(loader)
    megabytes = batch_size * sum(
        buffer.nbytes * times for buffer, times in zip(buffers, (len(offsets), 1, 1), strict=True)
    )
    met = "met" if batch_s <= TARGET_BATCH_S else "MISSED"
    print(
        f"contrasts, {neighbors} neighbors, batches of {batch_size}, {megabytes / 1e6:.1f} MB: loader "
        f"{1e3 * batch_s:.2f} ms a batch (target {1e3 * TARGET_BATCH_S:.0f} ms: {met}), bare copy "
        f"{1e3 * seconds['copy'] / len(loader):.2f} ms, ratio {seconds['loader'] / seconds['copy']:.2f}"
    )


if __name__ == "__main__":
    main()
