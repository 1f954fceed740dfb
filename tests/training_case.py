"""A whole Task-GAN training of a few seconds; as a script, one to kill: training_case.py OUTPUT PAUSE_S."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from ignite.engine import Events

from medrestore import rng
from medrestore.engines.trainer import RestorationTrainer
from medrestore.losses.task import task_regression_loss
from medrestore.methods.base import Task
from medrestore.methods.taskgan import TaskGAN
from medrestore.networks.discriminators import ImageDiscriminator
from medrestore.networks.tasks.amyloid import AmyloidClassifier
from medrestore.networks.unet import UNetGenerator

STAGES = [
    {"name": "pretrain", "epochs": 1, "train": ["task"]},
    {"name": "joint", "epochs": 3, "train": ["generator", "discriminator", "task"]},
]


class Batches:
    """Random batches that are a function of the epoch: what a sampler with a position gives."""

    def __init__(
        self,
        *,
        batches: int = 3,
        batch_size: int = 4,
        size: int = 16,
        dtype=torch.float32,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.dtype = dtype
        self.batches, self.batch_size, self.size = batches, batch_size, size
        self.rank, self.world_size = rank, world_size
        self.epoch = 0
        self.kinds: dict[int, str] = {}

    def set_epoch(self, epoch: int, *, batches: str = "mixed") -> None:
        self.epoch = epoch
        self.kinds[epoch] = batches

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch = state["epoch"]

    def __len__(self) -> int:
        return self.batches

    def __iter__(self):
        size = self.batch_size * self.world_size
        for index in range(self.batches):
            stream = rng.torch_generator(0, "batch", self.epoch, index)
            target = torch.rand(size, 1, self.size, self.size, generator=stream)
            noise = torch.randn(size, 3, self.size, self.size, generator=stream)
            status = torch.tensor([0.0, 1.0]).repeat(size // 2)
            own = slice(self.rank, None, self.world_size)
            batch = {"image": target + 0.3 * noise, "label": target, "amyloid_status": status}
            yield {name: value[own].to(self.dtype) for name, value in batch.items()}


def build_step(*, norm: str = "batch", dropout: float = 0.5, **settings: Any) -> TaskGAN:
    networks = {
        "generator": UNetGenerator(3, channels=(4, 8, 8), dropout_levels=1, dropout=dropout, norm=norm),
        "discriminator": ImageDiscriminator(1, channels=(4, 8), norm=norm),
        "task": AmyloidClassifier(widen_factor=0.125, norm=norm),
    }
    optimizers = {
        name: torch.optim.Adam(net.parameters(), lr=2e-3, fused=True) for name, net in networks.items()
    }
    weight = settings.pop("task_weight", 0.1)
    task = Task(weight=weight, label_column="amyloid_status", loss=task_regression_loss)
    values = {"adversarial_weight": 0.1, "tasks": {"task": task}, **settings}
    return TaskGAN(networks=networks, optimizers=optimizers, **values)


def build_trainer(
    output: Path, *, step: TaskGAN | None = None, batches: Batches | None = None, **settings: Any
):
    data = data_of(batches or Batches(), model_information={"neighbors": 1})
    values = {"data": data, "stages": STAGES, "seed": 3, "precision": "fp32", **settings}
    return RestorationTrainer("cpu", step or build_step(), output_dir=output, **values)


def data_of(batches: Batches, **said: Any) -> Any:
    """Return batches as what trainings learn from and are judged by."""
    values = {
        "manifest": None,
        "augmentation": None,
        "model_information": {},
        "label_column": None,
        "full_precision": False,
    }
    return SimpleNamespace(
        loader=lambda pin_memory: batches, sampler=batches, validation_loader=batches, **{**values, **said}
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    trainer = build_trainer(Path(sys.argv[1]))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: time.sleep(float(sys.argv[2])))
    trainer.run()
