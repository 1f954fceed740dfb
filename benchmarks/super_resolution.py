"""SRGAN_SQE: a training step against a bare torch loop, and a restored slide against its bare forward passes.

The loop does the same mathematics by hand (fidelity, manifold, structure, adversary and discriminator, the
moving average) on the same batches, which lie ready in memory. The slide is all tissue; the bare passes are
those of its windows, in the same batches and precision: beside them stand reading, blending and encoding.

Run: ``python benchmarks/super_resolution.py`` for the demo's networks, ``--full`` for the paper's. Targets:
1.05 or less for a step, 1.25 or less for a slide.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from itertools import count, cycle
from pathlib import Path

import numpy as np
import torch
from timing import interleaved, learned, machine, one_iteration
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from medrestore.domains.histology.restoration.slide_files import (
    SlideSettings,
    occupied_windows,
    restore_slide,
)
from medrestore.domains.histology.restoration.super_resolver import SuperResolver
from medrestore.domains.histology.slides.pyramid import PyramidWriter
from medrestore.domains.histology.slides.reader import open_slide
from medrestore.engines.trainer import RestorationTrainer
from medrestore.losses.structural import ssim_loss
from medrestore.methods.srgan import SRGAN
from medrestore.networks.autoencoder import TextureAutoencoder
from medrestore.networks.discriminators import ImageDiscriminator
from medrestore.networks.super_resolution import SRResNet
from medrestore.operators.resampling import GaussianSubsampling

STEP_RATIO, SLIDE_RATIO = 1.05, 1.25
SIZES = {
    "demo": (24, 4, "none", (16, 32, 64, 64), (16, 32), 1, 96),
    "full": (64, 16, "batch", (64, 128, 256, 512, 512, 512), (64, 128, 256), 2, 256),
}
"""Width, blocks and norm of G, widths of D, widths and blocks of E, and side of a tile."""
MANIFOLD, STRUCTURE, ADVERSARIAL, EXPONENT, EPSILON, DECAY = 0.1, 0.3, 0.001, 0.25, 1e-4, 0.99
Batch = dict[str, Tensor]


def build(size: str) -> tuple[dict[str, nn.Module], dict[str, torch.optim.Optimizer]]:
    """Return networks and optimizers; every call gives the same weights."""
    channels, blocks, norm, discriminator, encoder, encoder_blocks, _ = SIZES[size]
    networks: dict[str, nn.Module] = {
        "generator": SRResNet(channels=channels, blocks=blocks, norm=norm, enlargement_skip="bicubic"),
        "discriminator": ImageDiscriminator(3, channels=discriminator),
        "encoder": TextureAutoencoder(channels=encoder, blocks=encoder_blocks),
    }
    for network in networks.values():
        network.to(memory_format=torch.channels_last)
    learning = ("generator", "discriminator")
    return networks, {
        name: torch.optim.Adam(networks[name].parameters(), lr=1e-4, fused=True) for name in learning
    }


def bare_loop(size: str, batches: list[Batch], bf16: bool) -> Callable[[], None]:
    """Return a job that does one step by hand, nothing around it."""
    networks, optimizers = build(size)
    generator, discriminator, encoder = (networks[name] for name in ("generator", "discriminator", "encoder"))
    encoder.eval().requires_grad_(False)
    average = AveragedModel(generator, multi_avg_fn=get_ema_multi_avg_fn(DECAY), use_buffers=True)
    waiting = cycle(batches)

    def quasi_norm(a: Tensor, b: Tensor) -> Tensor:
        return ((a.float() - b.float()).square() + EPSILON).pow(EXPONENT / 2).mean()

    def minimize(name: str, loss: Tensor) -> None:
        optimizers[name].zero_grad(set_to_none=True)
        with torch.autocast("cpu", enabled=False):
            loss.backward()
        optimizers[name].step()

    def step() -> None:
        batch = next(waiting)
        target = batch["label"]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            restored = generator(batch["image"])
            with torch.no_grad():
                encoded = encoder.encode(target)
            loss = quasi_norm(restored, target) + STRUCTURE * ssim_loss(restored, target)
            loss = loss + MANIFOLD * quasi_norm(encoder.encode(restored), encoded)
            discriminator.requires_grad_(False)
            loss = loss + ADVERSARIAL * functional.softplus(-discriminator(restored).logits.float()).mean()
            discriminator.requires_grad_(True)
            minimize("generator", loss)
            real, fake = discriminator(target).logits.float(), discriminator(restored.detach()).logits.float()
            minimize("discriminator", functional.softplus(-real).mean() + functional.softplus(fake).mean())
        average.update_parameters(generator)

    return step


def trainer_loop(size: str, batches: list[Batch], bf16: bool) -> Callable[[], None]:
    """Return a job that lets the trainer do one iteration."""
    networks, optimizers = build(size)
    step = SRGAN(
        networks=networks,
        optimizers=optimizers,
        adversarial_weight=ADVERSARIAL,
        manifold_weight=MANIFOLD,
        structure_weight=STRUCTURE,
        exponent=EXPONENT,
        epsilon=EPSILON,
    )
    stage = {"name": "adversarial", "epochs": 10**6, "train": list(optimizers), "schedule": "constant"}
    trainer = RestorationTrainer(
        "cpu",
        step,
        learned(batches),
        stages=[stage],
        output_dir=tempfile.mkdtemp(),
        seed=0,
        precision="bf16" if bf16 else "fp32",
        ema_decay=DECAY,
    )
    return one_iteration(trainer, batches)


def slide_jobs(size: str, folder: Path, side: int) -> dict[str, Callable[[], object]]:
    """Return jobs that restore a slide of tissue, and that run its windows through the network alone."""
    channels, blocks, norm = SIZES[size][:3]
    resolver = SuperResolver(
        SRResNet(channels=channels, blocks=blocks, norm=norm, enlargement_skip="bicubic"),
        degradation=GaussianSubsampling(4, 2.0),
        precision="auto",
    )
    settings = SlideSettings()
    random = np.random.default_rng(0)
    with PyramidWriter(
        folder / "given.tiff", width=side, height=side, microns_per_pixel=1.0, settings={}
    ) as new:
        for _ in range(new.rows):
            new.write_row(
                random.integers(60, 200, (64, 64, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
                for _ in range(new.columns)
            )
        given = new.finish()
    stride = settings.stride(4)
    with open_slide(given) as slide:
        windows = occupied_windows(slide, stride=stride, overlap=settings.overlap)
    length = stride + settings.overlap
    at_once = max(1, resolver.batch_size * 64**2 // length**2)
    images = random.integers(0, 255, (at_once, 3, length, length), dtype=np.uint8)
    prepared = torch.from_numpy(images).float().div(255).contiguous(memory_format=torch.channels_last)
    passes = -(-int(windows.sum()) // at_once)
    numbers = count()

    def restore() -> None:
        with open_slide(given) as slide:
            restore_slide(
                slide,
                resolver,
                output=folder / f"restored_{next(numbers)}.tiff",
                settings=settings,
                windows=windows,
                identity={},
            )

    def bare() -> None:
        with torch.inference_mode():
            for _ in range(passes):
                resolver.network(prepared)

    return {"slide": restore, "bare passes": bare}


def report(what: str, ours: float, floor: float, target: float) -> None:
    """Print one line."""
    met = "met" if ours / floor <= target else "MISSED"
    print(f"{what}: {ours:.4f} s, bare {floor:.4f} s, ratio {ours / floor:.3f} (target {target}: {met})")


def main() -> None:
    """Time all, in turns."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="the paper's networks instead of the demo's")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=15, help="timed steps of each kind")
    parser.add_argument("--slide", type=int, default=1024, help="pixels along a side of the given slide")
    options = parser.parse_args()
    size = "full" if options.full else "demo"
    side = SIZES[size][-1]
    stream = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(4):
        target = torch.rand(options.batch_size, 3, side, side, generator=stream)
        batch = {"image": functional.avg_pool2d(target, 4), "label": target}
        batches.append({k: v.contiguous(memory_format=torch.channels_last) for k, v in batch.items()})
    print(
        f"{machine(torch.get_num_threads())}; {size} networks, batch {options.batch_size} of {side} x {side}"
    )
    for precision in ("fp32", "bf16"):
        bf16 = precision == "bf16"
        jobs = {"bare": bare_loop(size, batches, bf16), "ours": trainer_loop(size, batches, bf16)}
        seconds = interleaved(jobs, repetitions=options.repetitions)
        report(f"step, {precision}", seconds["ours"], seconds["bare"], STEP_RATIO)
    with tempfile.TemporaryDirectory() as folder:
        seconds = interleaved(slide_jobs(size, Path(folder), options.slide), repetitions=3)
    report(
        f"slide of {options.slide} to {4 * options.slide} pixels a side",
        seconds["slide"],
        seconds["bare passes"],
        SLIDE_RATIO,
    )


if __name__ == "__main__":
    main()
