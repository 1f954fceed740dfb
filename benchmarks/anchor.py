"""Speed of the regional anchor, against the one Gaussian of a volume that it cannot do without.

The floor: one 3D Gaussian of the volume, and the means of all regions by one count of its voxels.

Run: ``python benchmarks/anchor.py``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter
from threadpoolctl import threadpool_limits
from timing import interleaved, machine

from medrestore import rng
from medrestore.inference.anchor import SIGMA_MM, GeometricTransfer, anchored

VOXEL_SIZE_MM = (2.0, 2.0, 3.0)


def brain(shape: tuple[int, int, int], parts: int) -> np.ndarray:
    """Return codes (X, Y, Z) of an ellipsoid cut into ``parts`` regions a side, with background around."""
    axes = np.meshgrid(*(np.linspace(-1.3, 1.3, count) for count in shape), indexing="ij")
    code = np.zeros(shape, dtype=np.int32)
    for axis in axes:
        code = code * parts + np.clip((axis + 1) / 2 * parts, 0, parts - 1).astype(np.int32)
    return np.where(sum(axis**2 for axis in axes) < 1, code + 1, 0)


def jobs_of(shape: tuple[int, int, int], parts: int) -> dict[str, Callable[[], object]]:
    """Return floor, the matrix of a region map, and the anchoring of an image."""
    random = rng.generator(0, "benchmark")
    unrestored = random.standard_normal(shape, dtype=np.float32)
    restored = gaussian_filter(unrestored, 2.0)
    codes = brain(shape, parts)
    sigma = [SIGMA_MM / size for size in VOXEL_SIZE_MM]
    transfer = GeometricTransfer(codes, voxel_size_mm=VOXEL_SIZE_MM)

    def floor() -> None:
        np.bincount(codes.ravel(), gaussian_filter(unrestored, sigma, mode="constant").ravel())

    return {
        "floor": floor,
        "matrix": lambda: GeometricTransfer(codes, voxel_size_mm=VOXEL_SIZE_MM),
        "anchoring": lambda: anchored(restored, unrestored, transfer),
    }


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=5, help="turns of every measurement")
    arguments = parser.parse_args()
    shape = (128, 128, 50)
    print(f"{machine(1)}; {shape} voxels, processor time")
    print("| regions | job | seconds | / floor |")
    print("|---|---|---|---|")
    for parts in (2, 5):
        with threadpool_limits(limits=1):
            seconds = interleaved(
                jobs_of(shape, parts), repetitions=arguments.repetitions, clock=time.process_time
            )
        floor = seconds.pop("floor")
        regions = int((np.bincount(brain(shape, parts).ravel())[1:] > 0).sum())
        for name, value in seconds.items():
            print(f"| {regions} | {name} | {value:.3f} | {value / floor:.1f} |")


if __name__ == "__main__":
    main()
