"""Volumes restored, against the bare forward passes of the same network on batches that lie ready.

Run: ``python benchmarks/restoration.py``, the paper's network on a volume of 256 x 256 x 89 (some minutes on
a CPU), or with ``--channels 16 32 64 128 128 --shape 128 128 50 --repetitions 15`` for a small one,
``--device cuda`` on a GPU. With ``--contrasts 6 --shape 256 256 24 --neighbors 1``, so many contrasts are
restored from the eight channels of an MDME acquisition. Target: a ratio of 1.10 or less.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from timing import interleaved, machine
from torch import Tensor, nn

from medrestore.data.volumes import SourceGrid, Volume
from medrestore.domains.multicontrast_mri.acquisition.acquisition import make_acquisition
from medrestore.domains.multicontrast_mri.acquisition.channel_volume import ChannelVolume
from medrestore.domains.multicontrast_mri.restoration import ContrastRestorer
from medrestore.inference.slices import VolumeRestorer
from medrestore.networks.unet import UNetGenerator

TARGET_RATIO = 1.10
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def bare_passes(network: nn.Module, batches: list[Tensor], device: torch.device) -> Callable[[], None]:
    """Return a job that runs the network over all batches and waits for the last."""

    def run() -> None:
        with torch.inference_mode():
            for batch in batches:
                network(batch)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return run


def main() -> None:
    """Time both, in both precisions, in turns."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--channels", type=int, nargs="+", default=[64, 128, 256, 512, 512, 512, 512, 512])
    parser.add_argument("--shape", type=int, nargs=3, default=[256, 256, 89])
    parser.add_argument("--neighbors", type=int, default=2)
    parser.add_argument("--contrasts", type=int, default=0, help="restore so many from an MDME acquisition")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--cpu-time", action="store_true", help="count CPU time, for a machine that is not idle"
    )
    options = parser.parse_args()
    device = torch.device(options.device)
    x, y, z = options.shape
    contrasts = tuple(f"contrast_{index}" for index in range(options.contrasts))
    acquisition = make_acquisition()
    channels = acquisition.channels if contrasts else 1
    inputs = (2 * options.neighbors + 1) * channels + len(contrasts)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    source = SourceGrid.from_affine((x, y, z), affine)
    data = np.random.default_rng(0).gamma(2.0, 1.0, (channels, x, y, z)).astype(np.float32)
    network = UNetGenerator(inputs, channels=tuple(options.channels)).eval().to(device)
    jobs: dict[str, Callable[[], object]] = {}
    for precision, kind in TYPES.items():
        bare = copy.deepcopy(network).to(device, kind, memory_format=torch.channels_last)
        sizes = [min(options.batch_size, z - first) for first in range(0, z, options.batch_size)]
        batches = [
            torch.rand(size, inputs, x, y).to(device, kind, memory_format=torch.channels_last)
            for size in sizes
        ]
        settings = {
            "neighbors": options.neighbors,
            "batch_size": options.batch_size,
            "device": device,
            "precision": precision,
        }
        jobs[f"{precision} bare"] = bare_passes(bare, batches * max(1, len(contrasts)), device)
        if contrasts:
            several = ContrastRestorer(network, contrasts=contrasts, acquisition=acquisition, **settings)
            jobs[f"{precision} restorer"] = partial(several.restore, ChannelVolume(data, affine, source))
        else:
            jobs[f"{precision} restorer"] = partial(
                VolumeRestorer(network, **settings).restore, Volume(data[0], affine, source)
            )
    clock = time.process_time if options.cpu_time else time.perf_counter
    seconds = interleaved(jobs, repetitions=options.repetitions, clock=clock)
    print(f"{machine(torch.get_num_threads())}, {device}; {x} x {y} x {z}, channels {options.channels}")
    if contrasts:
        print(f"{len(contrasts)} contrasts from {channels} channels")
    for precision in TYPES:
        restored, floor = seconds[f"{precision} restorer"], seconds[f"{precision} bare"]
        met = "met" if restored / floor <= TARGET_RATIO else "MISSED"
        print(
            f"{precision}: {restored:.3f} s a volume, bare passes {floor:.3f} s, "
            f"ratio {restored / floor:.3f} (target {TARGET_RATIO}: {met})"
        )
    print(f"fp32 over bf16: {seconds['fp32 restorer'] / seconds['bf16 restorer']:.2f}")


if __name__ == "__main__":
    main()
