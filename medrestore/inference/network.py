"""A trained network that restores: a frozen copy on its device, in its precision."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import nn

from medrestore.checks import InputError, require_in_range
from medrestore.networks.device import require_device
from medrestore.networks.precision import autocast_dtype

__all__ = ["NetworkRestorer", "RunningSettings", "SampledSettings", "Training"]


@dataclass(frozen=True)
class Training:
    """What restorations record of the training that they come from.

    Parameters
    ----------
    weights
        ``model.pt``.
    method
        By its name.
    seen
        The range of images that it was trained on; empty when not known.
    """

    weights: Path
    method: str
    seen: Mapping[str, Any]


class RunningSettings(TypedDict, total=False):
    """How a restorer runs; see :class:`NetworkRestorer`."""

    batch_size: int
    device: str | torch.device | None
    precision: str


class SampledSettings(RunningSettings, total=False):
    """How a restorer runs that can draw samples; see :class:`~medrestore.inference.slices.SliceRestorer`."""

    samples: int
    seed: int


class NetworkRestorer:
    """Hold what restores: a subclass adds what goes in and what comes out.

    Parameters
    ----------
    generator
        Leaves its input as it is. Copied: later changes to its weights have no effect here.
    batch_size
        Images at a time.
    device
        Where the network runs.
    precision
        Of :func:`~medrestore.networks.precision.autocast_dtype`: ``auto`` | ``fp32`` | ``bf16`` | ``fp16``.
        In the 16-bit ones, convolutions and linear layers are of that type, statistics of normalization
        float32.

    Raises
    ------
    InputError
        When the batch size is out of range, the device is not there or cannot compute in the precision.

    Notes
    -----
    Normalization layers use their running statistics, so a result does not depend on what else is in the
    batch.
    """

    training: Training
    """Set by :func:`~medrestore.inference.restorer.load_restorer`; files are restored by nothing else."""

    def __init__(
        self,
        generator: nn.Module,
        *,
        batch_size: int = 8,
        device: str | torch.device | None = "cpu",
        precision: str = "fp32",
    ) -> None:
        require_in_range("batch_size", batch_size, 1, 10**6)
        self.batch_size = int(batch_size)
        self.device = require_device(device)
        self.autocast = autocast_dtype(precision, self.device)
        network: Any = copy.deepcopy(generator).eval().requires_grad_(False)
        network = network.to(device=self.device, memory_format=torch.channels_last)
        if self.autocast is not None:  # what autocast would do at every batch, once
            for module in network.modules():
                if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
                    module.to(self.autocast)
        self.network: nn.Module = network

    @property
    def provenance(self) -> dict[str, Any]:
        """What a restoration depends on beside the weights and the source, as plain values."""
        return {"precision": str(self.autocast or torch.float32).removeprefix("torch.")}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Run the network in its precision."""
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            output: torch.Tensor = self.network(images)
        return output

    def require_finite(self, finite: bool, *, what: str) -> None:
        """Refuse a result that is not finite."""
        if not finite:
            remedy = "check the weights" + ", or use precision fp32" * (self.autocast is not None)
            raise InputError(f"the restored {what} is not finite. Remedy: {remedy}")
