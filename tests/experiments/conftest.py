"""Made-up evaluations, numbers that tests know, of no network; and a tiny set of tiles for real trainings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from manifest import tile_row, write_manifest

VARIANTS = ("e", "qe", "sqe")
SLOPES = {"srgan": 0.12, "e": 0.10, "qe": 0.04, "sqe": 0.02}
OFFSETS = {"srgan": 0.125, "e": 0.12, "qe": 0.115, "sqe": 0.11, "bicubic": 0.16}

MakeCells = Callable[..., dict[tuple[float, int], pd.DataFrame]]


@pytest.fixture(scope="session")
def make_cells() -> MakeCells:
    """Return what makes the evaluations of a study by level and seed.

    RRMSE of a tile: offset of the method + slope * level + a patient's and a seed's own part; the bicubic
    reference has no slope and no seed.
    """

    def make(
        *,
        levels: Sequence[float] = (0.0, 0.15, 0.3),
        seeds: Sequence[int] = (0, 1, 2),
        variants: Sequence[str] = VARIANTS,
        patients: int = 8,
        tiles: int = 3,
        noise: float = 0.004,
    ) -> dict[tuple[float, int], pd.DataFrame]:
        cells = {}
        own = np.random.default_rng(5).normal(0, 3 * noise, patients)
        for level in levels:
            for seed in seeds:
                random = np.random.default_rng([int(1000 * level), seed])
                rows = []
                for method in (*variants, "bicubic"):
                    trained = method != "bicubic"
                    drift = random.normal(0, noise) if trained else 0.0
                    for patient in range(patients):
                        for tile in range(tiles):
                            rrmse = OFFSETS.get(method, 0.13) + own[patient] + drift + 0.001 * tile
                            # Corruption harms some patients more than others: changes have intervals.
                            rrmse += SLOPES.get(method, 0.0) * level * (1 + 0.05 * patient)
                            rows.append(
                                {
                                    "subject_id": f"P{patient}",
                                    "session_id": f"P{patient}_x{tile}_y0",
                                    "method": method,
                                    "rrmse": rrmse,
                                    "ms_mssim": 1 - 0.5 * rrmse,
                                    "qilv": 1 - 1.5 * rrmse,
                                }
                            )
                cells[level, seed] = pd.DataFrame(rows)
        return cells

    return make


@pytest.fixture(scope="session")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the manifest of ten tiles of five patients: smooth colors, 176 pixels, the least of MS-mSSIM."""
    from PIL import Image

    from medrestore.domains.histology.schema import TILES

    folder = tmp_path_factory.mktemp("tiles")
    rows = []
    for number, split in enumerate(("train", "train", "validation", "test", "test")):
        path = folder / f"P{number}_slide.png"
        random = np.random.default_rng(number)
        coarse = Image.fromarray(random.uniform(120, 240, (22, 44, 3)).astype(np.uint8))
        coarse.resize((352, 176), Image.Resampling.BICUBIC).save(path)
        rows += [tile_row(f"P{number}", path.name, split, x=x, y=0, size=176, microns=0.5) for x in (0, 176)]
    return write_manifest(TILES, rows, folder)
