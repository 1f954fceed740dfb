"""Speed of the classical fit of an MDME acquisition, against what its search cannot do without.

The floor: the one matrix product that compares every voxel with every point of the grid of T1 and B1, and
its maximum. The peer: scipy's least squares, voxel by voxel, started at the truth, which no one knows; a
sample of voxels is timed and scaled up. All on one core and in one run, in turns.

Run: ``python benchmarks/relaxometry.py``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from scipy.optimize import least_squares
from threadpoolctl import threadpool_limits
from timing import interleaved, machine

from medrestore import rng
from medrestore.operators.mdme import MdmeProtocol, mdme_signal
from medrestore.operators.mr_sequences import CONTRASTS
from medrestore.solvers.relaxometry import GRID_B1, GRID_T1, fit_relaxometry, synthesize

SAMPLE = 20
NOISE = 0.01


def jobs_of(shape: tuple[int, int, int]) -> dict[str, Callable[[], object]]:
    """Return floor, peer, fits of signed and of magnitude channels, and the synthesis of six contrasts."""
    random, protocol = rng.generator(0, "benchmark"), MdmeProtocol()
    t1 = np.exp(random.uniform(np.log(300), np.log(4500), shape))
    t2 = np.exp(random.uniform(np.log(40), np.log(1500), shape))
    pd = random.uniform(0.5, 1.0, shape)
    b1 = np.broadcast_to(1.1 - 0.25 * np.linspace(-1, 1, shape[0])[:, None, None] ** 2, shape)
    clean = mdme_signal(t1, t2, pd, protocol=protocol, b1=b1)
    channels = (clean + NOISE * random.standard_normal(clean.shape)).astype(np.float32)
    by_delay = np.ascontiguousarray(channels[::2].reshape(4, -1).T)
    atoms = random.standard_normal((4, GRID_T1 * GRID_B1), dtype=np.float32)
    sample = random.choice(t1.size, SAMPLE, replace=False)
    maps = fit_relaxometry(channels, protocol=protocol)

    def floor() -> None:
        for start in range(0, len(by_delay), 8192):
            np.argmax(by_delay[start : start + 8192] @ atoms, axis=1)

    def peer() -> None:
        for voxel in sample:
            data = channels.reshape(8, -1)[:, voxel]

            def residual(x: np.ndarray, data: np.ndarray = data) -> np.ndarray:
                return mdme_signal(np.exp(x[0]), np.exp(x[1]), x[2], protocol=protocol, b1=x[3]) - data

            truth = (np.log(t1.flat[voxel]), np.log(t2.flat[voxel]), pd.flat[voxel], b1.flat[voxel])
            least_squares(residual, truth)

    return {
        "floor": floor,
        "peer": peer,
        "fit, signed": lambda: fit_relaxometry(channels, protocol=protocol),
        "fit, signed, B1 not smoothed": lambda: fit_relaxometry(
            channels, protocol=protocol, b1_sigma_voxels=0
        ),
        "fit, magnitude": lambda: fit_relaxometry(np.abs(channels), protocol=protocol, component="magnitude"),
        "six contrasts of the maps": lambda: [synthesize(maps, sequence) for sequence in CONTRASTS.values()],
    }


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=5, help="turns of every measurement")
    arguments = parser.parse_args()
    shape = (64, 80, 20)
    with threadpool_limits(limits=1):
        seconds = interleaved(jobs_of(shape), repetitions=arguments.repetitions, clock=time.process_time)
    voxels = int(np.prod(shape))
    floor, peer = seconds.pop("floor"), seconds.pop("peer") * voxels / SAMPLE
    print(f"{machine(1)}; {voxels} voxels, 4 delays x 2 echoes, processor time")
    print(f"floor {floor:.2f} s; scipy, voxel by voxel {peer:.0f} s")
    print("| job | seconds | / floor | scipy / it |")
    print("|---|---|---|---|")
    for name, value in seconds.items():
        ratio = f"{peer / value:.0f}" if name.startswith("fit") else "-"
        print(f"| {name} | {value:.2f} | {value / floor:.1f} | {ratio} |")


if __name__ == "__main__":
    main()
