"""A whole slide restored, and one reduced: peak memory and time of a process of its own.

Run: ``python benchmarks/slides.py``: a made-up slide of 10,000 x 10,000 pixels, mostly glass, is restored to
40,000 x 40,000 by a small network (some minutes on a CPU). With ``--size 4000`` a quarter of that along a
side; with ``--reduce`` the restored slide is then reduced again. Nothing stays behind. Target: a peak below
2 GB.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from timing import machine

from medrestore.domains.histology.restoration.slide_files import (
    SlideSettings,
    occupied_windows,
    restore_slide,
)
from medrestore.domains.histology.restoration.super_resolver import SuperResolver
from medrestore.domains.histology.slides.pyramid import PyramidWriter
from medrestore.domains.histology.slides.reader import open_slide
from medrestore.domains.histology.slides.reduce import reduce_slide
from medrestore.networks.super_resolution import SRResNet
from medrestore.operators.resampling import GaussianSubsampling

TARGET_GB = 2.0
TILE = 512
SCALE = 4


def make_slide(path: Path, *, size: int, tissue: float) -> Path:
    """Write a slide of glass with scanner noise, and a square of tissue that is this part of its area."""
    random = np.random.default_rng(0)
    glass = random.normal(244, 1, (TILE, TILE, 3)).round().astype(np.uint8)
    stain = random.integers((120, 60, 120), (230, 170, 210), (TILE // 8, TILE // 8, 3)).astype(np.uint8)
    stain = stain.repeat(8, axis=0).repeat(8, axis=1)

    def row_of_tiles(row: int, columns: int) -> Iterator[NDArray[np.uint8]]:
        side = max(1, round(tissue**0.5 * columns))
        for column in range(columns):
            inside = max(row, column) < columns // 10 + side and min(row, column) >= columns // 10
            yield stain if inside else glass

    with PyramidWriter(path, width=size, height=size, microns_per_pixel=1.0, settings={}) as writer:
        for row in range(writer.rows):
            writer.write_row(row_of_tiles(row, writer.columns))
        return writer.finish()


def restore(source: Path, output: Path, *, channels: int, blocks: int) -> None:
    """Restore a slide by a network of random weights."""
    generator = SRResNet(channels=channels, blocks=blocks, enlargement_skip="bicubic")
    resolver = SuperResolver(generator, degradation=GaussianSubsampling(SCALE, 2.0), precision="auto")
    settings = SlideSettings()
    with open_slide(source) as slide:
        windows = occupied_windows(slide, stride=settings.stride(SCALE), overlap=settings.overlap)
        print(f"{int(windows.sum())} of {windows.size} windows are no glass", flush=True)
        restore_slide(slide, resolver, output=output, settings=settings, windows=windows, identity={})


def measured(arguments: list[str]) -> tuple[float, float]:
    """Run this file with other arguments; return its seconds and its peak memory in GB."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, __file__, *arguments])  # noqa: S603
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the process ended with status {status}")
    return time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e9


def report(what: str, seconds: float, peak: float) -> None:
    """Print one line."""
    met = "met" if peak < TARGET_GB else "MISSED"
    print(f"{what}: {seconds:.0f} s, peak memory {peak:.2f} GB (target {TARGET_GB} GB: {met})", flush=True)


def main() -> None:
    """Make the slide, and time each job in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=10_000, help="pixels along a side of the given slide")
    parser.add_argument("--tissue", type=float, default=0.03, help="part of its area")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--reduce", action="store_true", help="reduce the restored slide, too")
    parser.add_argument("--job", nargs=3, metavar=("JOB", "SOURCE", "OUTPUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        job, source, output = options.job[0], Path(options.job[1]), Path(options.job[2])
        if job == "restore":
            restore(source, output, channels=options.channels, blocks=options.blocks)
        else:
            reduce_slide(source, output=output, degradation=GaussianSubsampling(scale=SCALE), progress=False)
        return
    network = ["--channels", str(options.channels), "--blocks", str(options.blocks)]
    print(machine(torch.get_num_threads()))
    with tempfile.TemporaryDirectory() as folder:
        given, restored = Path(folder) / "given.tiff", Path(folder) / "restored.tiff"
        make_slide(given, size=options.size, tissue=options.tissue)
        report(
            f"{options.size} pixels a side restored to {SCALE * options.size}",
            *measured([*network, "--job", "restore", str(given), str(restored)]),
        )
        with open_slide(restored) as slide:
            assert (slide.width, slide.height) == (SCALE * options.size,) * 2
        print(f"{restored.stat().st_size / 1e6:.0f} MB")
        if options.reduce:
            report(
                f"{SCALE * options.size} pixels a side reduced",
                *measured(["--job", "reduce", str(restored), str(Path(folder) / "reduced.tiff")]),
            )


if __name__ == "__main__":
    main()
