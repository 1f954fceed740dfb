"""Tables of reads that the tests of the statistics share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="session")
def make_reads() -> Callable[..., pd.DataFrame]:
    """Make a long table of random reads: ties, unbalanced classes, correlated readers and methods."""

    def make(
        seed: int,
        *,
        methods: Sequence[Any] = ("standard", "gan"),
        readers: Sequence[Any] = ("Ann", "Bo", "Cy"),
        positive: int = 7,
        negative: int = 12,
        levels: int | None = 5,
    ) -> pd.DataFrame:
        random = np.random.default_rng(seed)
        n = positive + negative
        truth = random.permutation(np.repeat([1, 0], [positive, negative]))
        signal = random.normal(size=n) + 1.3 * truth
        rows = []
        for i, method in enumerate(methods):
            image = signal + random.normal(scale=0.5, size=n)
            for reader in readers:
                rating = image + random.normal(scale=0.8, size=n) + 0.2 * i
                if levels is not None:
                    rating = np.clip(np.rint((rating + 1) / 3 * (levels - 1)) + 1, 1, levels).astype(int)
                cases = [f"case {k}" for k in range(n)]
                rows.append(
                    pd.DataFrame(
                        {"reader": reader, "method": method, "case": cases, "truth": truth, "rating": rating}
                    )
                )
        return pd.concat(rows, ignore_index=True)

    return make


@pytest.fixture
def vandyke(shared_data: Callable[[str], Any]) -> pd.DataFrame:
    """Return the reads of Van Dyke 1993: 114 cases, 5 readers, 2 methods, ratings of 1 to 5."""
    return pd.read_csv(shared_data("readers/vandyke.csv"), dtype=str)
