"""The only source of randomness: every stream is named by a seed and keys, and no global state is touched."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

__all__ = ["derive", "forked", "generator", "torch_generator"]


def derive(seed: int, *keys: int | str) -> int:
    """Return a 63-bit seed that depends on ``seed`` and on every key, the same on every machine.

    >>> derive(0, "dropout", 3) == derive(0, "dropout", 3), derive(0, "a") == derive(0, "b")
    (True, False)
    """
    text = "\x1f".join([str(seed), *(f"{type(key).__name__}:{key}" for key in keys)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *keys: int | str) -> np.random.Generator:
    """Return a NumPy generator (PCG64) for the stream that ``seed`` and ``keys`` name.

    >>> float(generator(0, "noise").random()) == float(generator(0, "noise").random())
    True
    """
    return np.random.Generator(np.random.PCG64(derive(seed, *keys)))


def torch_generator(seed: int, *keys: int | str, device: str | torch.device = "cpu") -> torch.Generator:
    """Return a torch generator for the stream that ``seed`` and ``keys`` name."""
    import torch

    return torch.Generator(device=device).manual_seed(derive(seed, *keys))


@contextmanager
def forked(seed: int, *keys: int | str, device: str | torch.device = "cpu") -> Iterator[None]:
    """Run a block with torch's global generators seeded for one stream and put back afterwards.

    For library code that draws from the global state (weight initialization, ``nn.Dropout``): the block's
    draws are a function of ``seed`` and ``keys`` alone, and nothing outside the block is changed.
    """
    import torch

    device = torch.device(device)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive(seed, *keys))
        yield
