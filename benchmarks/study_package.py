"""Blinded package of a study against its floor: reading and unpacking the sources, writing as many bytes.

Run: ``python benchmarks/study_package.py`` (``--cases 200`` for a whole study: 4 arms of 23 MB a case).
Target: 1.3 times the floor or less. Both read from the disk, not from its cache, and flush what they write.
The second floor computes the checksums too that a study must have (SHA-256 of every source and image): on a
disk of more than 1 GB/s these alone take longer than reading and writing.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter
from timing import machine

from medrestore.data.volumes import SourceGrid, write_volume
from medrestore.data.workers import run_tasks
from medrestore.study.images.package import package_images
from medrestore.study.protocol import Protocol

SHAPE = (256, 256, 89)
ARMS = ("standard", "low_dose", "gan", "taskgan")
TARGET = 1.3
HEADER_BYTES = 352


def write_sources(folder: Path, cases: int, ending: str) -> pd.DataFrame:
    """Write smooth heads in noise, float32 as restorations are; every case has its own files."""
    grid = SourceGrid.from_affine(SHAPE, np.diag([1.2, 1.2, 2.8, 1.0]))
    x, y, z = (np.linspace(-1, 1, length, dtype=np.float32) for length in SHAPE)
    inside = x[:, None, None] ** 2 + y[None, :, None] ** 2 + z[None, None, :] ** 2 < 0.5
    head = gaussian_filter(inside.astype(np.float32), 3) * 2
    random = np.random.default_rng(0)
    noise = gaussian_filter(random.standard_normal(SHAPE, dtype=np.float32), 1) * head
    rows, made = [], {}
    for case in range(cases):
        for place, arm in enumerate(ARMS):
            path = folder / arm / f"case{case:03}{ending}"
            if arm in made:  # packed once; what matters is that each is read from the disk
                path.parent.mkdir(exist_ok=True)
                shutil.copyfile(made[arm], path)
            else:
                made[arm] = write_volume(np.maximum(head + place * noise, 0), grid, path)
            rows.append(
                {
                    **{"image_id": f"{random.integers(2**63):016x}", "phase": "reading"},
                    **{"case": f"case{case:03}", "subject": f"case{case:03}", "arm": arm, "path": str(path)},
                }
            )
    return pd.DataFrame(rows)


def floor_of_case(paths: list[str], target: str, checksums: bool) -> None:
    """Read and unpack the sources of a case, write as many bytes as its images have, flush each file."""
    images = memoryview(bytes(HEADER_BYTES + 2 * int(np.prod(SHAPE))))
    for number, name in enumerate(paths):
        content = Path(name).read_bytes()
        if checksums:
            hashlib.sha256(content).hexdigest()
            hashlib.sha256(images).hexdigest()
        if name.endswith(".gz"):
            content = gzip.decompress(content)
        with Path(f"{target}_{number}").open("wb") as stream:
            stream.write(images)
            stream.flush()
            os.fsync(stream.fileno())


def forget(paths: Iterator[Path]) -> None:
    """Drop files from the disk's cache, as far as the system allows."""
    for path in paths:
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    """Time both in turns, from cold caches, and print the ratio of the least disturbed runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--ending", choices=[".nii.gz", ".nii"], nargs="+", default=[".nii.gz", ".nii"])
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    parser.add_argument(
        "--cpu", action="store_true", help="processor time of one process: for a busy machine"
    )
    parser.add_argument("--warm", action="store_true", help="leave the sources in the disk's cache")
    options = parser.parse_args()
    clock = time.process_time if options.cpu else time.perf_counter
    if options.cpu:
        options.workers = 1
    print(machine(options.workers))
    protocol = Protocol.load(
        {"modality": "PET", "questions": [{"name": "a", "text": "a", "type": "yes_no"}]}, where="benchmark"
    )
    for ending in options.ending:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            folder = Path(name)
            sources = write_sources(folder / "sources", options.cases, ending)
            cases = [list(rows) for _, rows in sources.groupby("case")["path"]]

            def package(out: Path, sources: pd.DataFrame = sources) -> None:
                (out / "images").mkdir()
                package_images(
                    sources,
                    out / "images",
                    records=out / "records",
                    protocol=protocol,
                    workers=options.workers,
                    progress=False,
                )

            def floor(out: Path, cases: list[list[str]] = cases, checksums: bool = False) -> None:
                tasks = [(paths, str(out / str(number)), checksums) for number, paths in enumerate(cases)]
                list(run_tasks(floor_of_case, tasks, workers=options.workers))

            jobs: dict[str, Callable[[Path], None]] = {
                "package": package,
                "floor": floor,
                "checksums": partial(floor, checksums=True),
            }
            seconds: dict[str, list[float]] = {job: [] for job in jobs}
            for repetition in range(options.repetitions + 1):  # the first starts processes and warms up
                for job, run in jobs.items():
                    if not options.warm:
                        forget((folder / "sources").rglob(f"*{ending}"))
                    out = folder / "out"
                    out.mkdir()
                    start = clock()
                    run(out)
                    if repetition:
                        seconds[job].append(clock() - start)
                    shutil.rmtree(out)
            report(ending, options.cases, {job: min(times) for job, times in seconds.items()})


def report(ending: str, cases: int, seconds: dict[str, float]) -> None:
    """Print one line."""
    ratio = seconds["package"] / seconds["floor"]
    hashed = seconds["checksums"]
    gigabytes = cases * len(ARMS) * (HEADER_BYTES + 2 * int(np.prod(SHAPE))) / 1e9
    print(
        f"{cases} cases x {len(ARMS)} arms of {SHAPE}, {ending}: package {seconds['package']:.1f} s "
        f"({gigabytes / seconds['package']:.2f} GB/s written), floor {seconds['floor']:.1f} s, "
        f"ratio {ratio:.2f} (target {TARGET}: {'met' if ratio <= TARGET else 'MISSED'}); "
        f"floor with checksums {hashed:.1f} s, ratio {seconds['package'] / hashed:.2f}"
    )


if __name__ == "__main__":
    main()
