"""A training step of the trainer against a bare torch loop that does the same mathematics.

Both run Task-GAN's whole step (G, D and T, equations 1 to 4) with networks of the same initial weights, fused
Adam, channels-last images and the moving average of G's weights (torch's foreach update, in both), on the
same batches that lie ready in memory. Beyond that the trainer seeds dropout for each iteration, sets learning
rates, fires events, checks that losses are finite and writes no file within the timed part.

Run: ``python benchmarks/training.py`` for the demo's networks, ``--full`` for the paper's (a minute a step on
two cores with the default batch), ``--device cuda`` on a GPU. Target: a ratio of 1.05 or less.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable

import torch
from timing import interleaved, learned, machine, one_iteration
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from medrestore.engines.trainer import RestorationTrainer
from medrestore.losses.task import task_regression_loss
from medrestore.methods.base import Task
from medrestore.methods.taskgan import TaskGAN
from medrestore.networks.discriminators import ImageDiscriminator
from medrestore.networks.tasks.amyloid import AmyloidClassifier
from medrestore.networks.unet import UNetGenerator

TARGET_RATIO = 1.05
SIZES = {
    "demo": ((24, 48, 96, 128), 1, (16, 32, 64, 64), 0.25, 128),
    "full": ((64, 128, 256, 512, 512, 512, 512, 512), 3, (64, 128, 256, 512, 512, 512), 1.0, 256),
}
"""Channels and dropout levels of G, channels of D, width of T, and side of a slice."""
LAMBDA, MU, DECAY = 0.1, 0.02, 0.99
Batch = dict[str, Tensor]


def build(size: str, device: torch.device) -> tuple[dict[str, nn.Module], dict[str, torch.optim.Optimizer]]:
    """Return networks and optimizers; every call gives the same weights."""
    generator, dropout_levels, discriminator, width, _ = SIZES[size]
    networks: dict[str, nn.Module] = {
        "generator": UNetGenerator(5, channels=generator, dropout_levels=dropout_levels),
        "discriminator": ImageDiscriminator(1, channels=discriminator),
        "task": AmyloidClassifier(widen_factor=width),
    }
    for network in networks.values():
        network.to(device, memory_format=torch.channels_last)
    optimizers: dict[str, torch.optim.Optimizer] = {
        name: torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999), fused=True)
        for name, network in networks.items()
    }
    return networks, optimizers


def make_batches(count: int, *, size: str, batch_size: int, device: torch.device) -> list[Batch]:
    """Return random batches, half of each of either class."""
    stream, side = torch.Generator().manual_seed(0), SIZES[size][-1]
    batches = []
    for _ in range(count):
        target = torch.rand(batch_size, 1, side, side, generator=stream)
        image = target + 0.3 * torch.randn(batch_size, 5, side, side, generator=stream)
        status = torch.tensor([0.0, 1.0]).repeat(batch_size)[:batch_size]
        batch = {"image": image, "label": target, "amyloid_status": status}
        order = torch.channels_last
        batches.append(
            {k: v.to(device, memory_format=order if v.ndim == 4 else None) for k, v in batch.items()}
        )
    return batches


def bare_loop(size: str, batches: list[Batch], device: torch.device, bf16: bool) -> Callable[[], None]:
    """Return a job that does one step by hand, nothing around it."""
    networks, optimizers = build(size, device)
    generator, discriminator, task = networks["generator"], networks["discriminator"], networks["task"]
    average = AveragedModel(generator, multi_avg_fn=get_ema_multi_avg_fn(DECAY), use_buffers=True)
    position = 0

    def mean_difference(real: list[Tensor], fake: list[Tensor]) -> Tensor:
        norms = []
        for a, b in zip(real, fake, strict=True):
            difference = b.mean(0, dtype=torch.float32) - a.detach().mean(0, dtype=torch.float32)
            norms.append(torch.linalg.vector_norm(difference) / difference.numel() ** 0.5)
        return torch.stack(norms).mean()

    def squared(image: Tensor, status: Tensor) -> Tensor:
        return (torch.sigmoid(task(image).float()) - status).square().mean()

    def minimize(name: str, loss: Tensor) -> None:
        optimizers[name].zero_grad(set_to_none=True)
        with torch.autocast(device.type, enabled=False):
            loss.backward()
        optimizers[name].step()

    def step() -> None:
        nonlocal position
        batch = batches[position % len(batches)]
        position += 1
        target, status = batch["label"], batch["amyloid_status"]
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            restored = generator(batch["image"])
            real = discriminator(target)
            discriminator.requires_grad_(False)
            task.eval().requires_grad_(False)
            fake = discriminator(restored)
            loss = functional.l1_loss(restored.float(), target)
            loss = (
                loss + LAMBDA * mean_difference(real.features, fake.features) + MU * squared(restored, status)
            )
            discriminator.requires_grad_(True)
            task.train().requires_grad_(True)
            minimize("generator", loss)
            judged = discriminator(restored.detach()).logits.float()
            minimize(
                "discriminator",
                functional.softplus(-real.logits.float()).mean() + functional.softplus(judged).mean(),
            )
            minimize("task", squared(target, status) + squared(restored.detach(), status))
        average.update_parameters(generator)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def trainer_loop(size: str, batches: list[Batch], device: torch.device, bf16: bool) -> Callable[[], None]:
    """Return a job that lets the trainer do one iteration: what its engine does between two batches."""
    networks, optimizers = build(size, device)
    step = TaskGAN(
        networks=networks,
        optimizers=optimizers,
        adversarial_weight=LAMBDA,
        tasks={"task": Task(weight=MU, label_column="amyloid_status", loss=task_regression_loss)},
    )
    trainer = RestorationTrainer(
        device,
        step,
        learned(batches),
        stages=[{"name": "joint", "epochs": 10**6, "train": list(networks), "schedule": "constant"}],
        output_dir=tempfile.mkdtemp(),
        seed=0,
        precision="bf16" if bf16 else "fp32",
        ema_decay=DECAY,
    )
    return one_iteration(trainer, batches)


def main() -> None:
    """Time both, in both precisions, in turns."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--full", action="store_true", help="the paper's networks on 256 x 256 instead of the demo's"
    )
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=15, help="timed steps of each kind")
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    size, device = "full" if options.full else "demo", torch.device(options.device)
    batches = make_batches(4, size=size, batch_size=options.batch_size, device=device)
    jobs: dict[str, Callable[[], object]] = {}
    for precision in options.precisions:
        jobs[f"{precision} bare"] = bare_loop(size, batches, device, precision == "bf16")
        jobs[f"{precision} trainer"] = trainer_loop(size, batches, device, precision == "bf16")
    seconds = interleaved(jobs, repetitions=options.repetitions)
    side = SIZES[size][-1]
    print(
        f"{machine(torch.get_num_threads())}, {device}; {size} networks, "
        f"batch {options.batch_size} of {side} x {side}"
    )
    for precision in options.precisions:
        ours, bare = seconds[f"{precision} trainer"], seconds[f"{precision} bare"]
        met = "met" if ours / bare <= TARGET_RATIO else "MISSED"
        print(
            f"{precision}: {ours:.4f} s a step, bare loop {bare:.4f} s, "
            f"ratio {ours / bare:.3f} (target {TARGET_RATIO}: {met})"
        )
    if len(options.precisions) == 2:
        print(f"fp32 over bf16: {seconds['fp32 trainer'] / seconds['bf16 trainer']:.2f}")


if __name__ == "__main__":
    main()
