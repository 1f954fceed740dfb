"""Tiles a second: drawn from memory maps, against copying the same bytes, and from the slides themselves.

Batches of 16 tiles of 256 x 256 pixels with their 64 x 64 reductions, and what their augmentation adds.
Run: ``python benchmarks/tiles.py [SLIDE]``; without a slide, pictures of noise. Targets: 5 ms a batch from
memory maps, 50 ms for its augmentation with stains on one thread, or less.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from timing import interleaved, machine

from medrestore.data.slices import BalancedBatchSampler, make_slice_loader
from medrestore.domains.histology.slides.reader import open_slide
from medrestore.domains.histology.training.augmentation import TileAugmentation
from medrestore.domains.histology.training.dataset import TileDataset
from medrestore.domains.histology.training.stack import TileStack
from medrestore.files import sha256_file
from medrestore.operators.corruption import Corruption
from medrestore.operators.resampling import GaussianSubsampling

SIDE = 256
BATCH = 16
TARGET_BATCH_S = 0.005
TARGET_AUGMENTATION_S = 0.05


def make_table(folder: Path, slide: Path | None, count: int) -> pd.DataFrame:
    """Name the first tiles of a slide, or of pictures of noise of 1024 x 1024 pixels."""
    slides = [slide] if slide else []
    for index in range(0 if slide else -(-count // 16)):
        pixels = np.random.default_rng(index).integers(0, 256, (1024, 1024, 3)).astype(np.uint8)
        slides.append(folder / f"{index}.png")
        Image.fromarray(pixels).save(slides[-1], compress_level=1)
    rows = []
    for path in slides:
        with open_slide(path) as opened:
            places = [
                (x, y)
                for y in range(0, opened.height - SIDE + 1, SIDE)
                for x in range(0, opened.width - SIDE + 1, SIDE)
            ]
        checksum = sha256_file(path)
        rows += [
            {"subject_id": path.stem, "slide_path": str(path), "slide_sha256": checksum, "x": x, "y": y}
            | {"tile": f"{path.stem}_x{x}_y{y}"}
            for x, y in places
        ]
    table = pd.DataFrame(rows[:count])
    # The slide's level 0, whatever its resolution.
    return table.assign(tile_size=SIDE, microns_per_pixel=0.25, slide_microns_per_pixel=0.25)


def main() -> None:
    """Build the stacks, time batches, print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slide", type=Path, nargs="?")
    parser.add_argument("--tiles", type=int, default=256)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    print(machine(torch.get_num_threads()))
    with tempfile.TemporaryDirectory() as name:
        table = make_table(Path(name), options.slide, options.tiles)
        corruption = Corruption(0.5)
        stacks = {}
        for what, given in (("clean", None), ("corrupted by half", corruption)):
            start = time.perf_counter()
            stacks[what] = TileStack.build(
                table, cache_dir=Path(name) / "cache", corruption=given, progress=False
            )
            print(f"{len(table)} tiles, {what}: built in {time.perf_counter() - start:.2f} s, once")
        stacks["from the slides"] = TileStack.build(table, cache_dir=None, progress=False)
        report_batches(stacks, options.repetitions)
        report_augmentation(stacks["clean"], options.repetitions)
        tile = np.moveaxis(stacks["clean"].targets([0])[0], 0, -1)
        seconds = interleaved(
            {"reduce": lambda: [GaussianSubsampling(scale=4, sigma=2.0).picture(tile) for _ in range(20)]},
            repetitions=options.repetitions,
        )
        print(f"a tile reduced to {SIDE // 4} x {SIDE // 4}: {1e3 * seconds['reduce'] / 20:.2f} ms")


def report_batches(stacks: dict[str, TileStack], repetitions: int) -> None:
    """Time batches of each stack through the loader, and the same bytes copied tile by tile."""
    target, image = np.empty((3, SIDE, SIDE), np.float32), np.empty((3, SIDE // 4, SIDE // 4), np.float32)
    jobs = {}
    batches = 8
    for what, stack in stacks.items():
        dataset = TileDataset(stack)
        sampler = BalancedBatchSampler(
            dataset.labels, batch_size=BATCH, batches_per_epoch=batches, seed=0, least_classes=1
        )
        loader = make_slice_loader(dataset, sampler)
        jobs[what] = lambda loader=loader: sum(float(batch["label"][0, 0, 0, 0]) for batch in loader)
    targets, images = stacks["clean"].pairs(np.arange(min(BATCH, len(stacks["clean"]))))[::-1]

    def copy() -> None:
        for _ in range(batches):
            for index in range(len(targets)):
                np.copyto(target, targets[index])
                np.copyto(image, images[index])

    seconds = interleaved({**jobs, "copy": copy}, repetitions=repetitions)
    for what, took in seconds.items():
        batch_s = took / batches
        met = ""
        if what in ("clean", "corrupted by half"):
            verdict = "met" if batch_s <= TARGET_BATCH_S else "MISSED"
            met = f" (target {1e3 * TARGET_BATCH_S:.0f} ms: {verdict})"
        print(
            f"batches of {BATCH}, {what}: {1e3 * batch_s:.1f} ms{met}, {BATCH / batch_s:.0f} tiles a second"
        )


def report_augmentation(stack: TileStack, repetitions: int) -> None:
    """Time what is done to a batch."""
    batch = TileDataset(stack).__getitems__(np.arange(BATCH) % len(stack))
    settings = {
        "flips and turns": {"crop_size": None},
        "crops, flips and turns": {"crop_size": SIDE // 2},
        "flips, turns and stains": {"crop_size": None, "stain_jitter": 0.1},
    }
    jobs = {}
    for what, setting in settings.items():
        augmentation = TileAugmentation(scale=4, seed=0, **setting)
        jobs[what] = lambda change=augmentation: change(batch, epoch=0, iteration=0)
    for what, took in interleaved(jobs, repetitions=repetitions).items():
        met = ""
        if "stains" in what:
            verdict = "met" if took <= TARGET_AUGMENTATION_S else "MISSED"
            met = f" (target {1e3 * TARGET_AUGMENTATION_S:.0f} ms: {verdict})"
        print(f"{what}: {1e3 * took:.1f} ms a batch{met}")


if __name__ == "__main__":
    main()
