"""What the tests of methods step with: a discriminator and an engine that keep what they were given."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from medrestore.methods.base import Stage, Step
from medrestore.networks.discriminators import DiscriminatorOutput


class Discriminator(nn.Module):
    """Keeps the images that it has seen."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, 4, 3, padding=1)
        self.out = nn.Linear(4, 1)
        self.seen: list[Tensor] = []

    def forward(self, image: Tensor) -> DiscriminatorOutput:
        self.seen.append(image)
        feature = torch.relu(self.convolution(image))
        return DiscriminatorOutput(self.out(feature.mean((2, 3))), [feature])


class Recorder:
    """Stands for the engine: propagates each loss, keeps whose gradients it left where, may step."""

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        *,
        optimizers: Mapping[str, torch.optim.Optimizer] | None = None,
    ) -> None:
        self.networks = networks
        self.optimizers = optimizers or {}
        self.losses: dict[str, float] = {}
        self.touched: dict[str, set[str]] = {}

    def minimize(self, name: str, loss: Tensor) -> None:
        for network in self.networks.values():
            network.zero_grad(set_to_none=True)
        loss.backward()
        self.losses[name] = loss.item()
        self.touched[name] = {
            other
            for other, network in self.networks.items()
            if any(p.grad is not None for p in network.parameters())
        }
        if name in self.optimizers:
            self.optimizers[name].step()


def take_step(step: Step, stage: Stage, batch: Mapping[str, Tensor]) -> tuple[Recorder, dict[str, Tensor]]:
    """Enter a stage and step once, updating nothing; return the engine and what the step gives."""
    step.enter(stage)
    engine = Recorder(step.networks)
    return engine, step.step(engine, batch)
