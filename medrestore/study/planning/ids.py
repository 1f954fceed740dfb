"""Ids of images and readings: random, and not to be computed from the plan."""

from __future__ import annotations

import numpy as np

from medrestore.rng import generator

__all__ = ["random_ids"]


def random_ids(count: int, *, seed: int, salt: str, stream: str) -> list[str]:
    """Return different ids of 16 hexadecimal digits that cannot be computed without the salt.

    >>> [len(name) for name in random_ids(2, seed=0, salt="secret", stream="doctest")]
    [16, 16]
    """
    random = generator(seed, "study", stream, salt)
    ids: dict[str, None] = {}
    while len(ids) < count:
        numbers = random.integers(0, 2**64, count - len(ids), dtype=np.uint64)
        ids.update(dict.fromkeys(f"{int(number):016x}" for number in numbers))
    return list(ids)
