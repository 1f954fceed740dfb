"""A small cohort of tiles of made-up tissue, with restorations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from manifest import tile_row, write_manifest
from numpy.typing import NDArray
from PIL import Image

from medrestore.domains.histology.schema import TILES

SIZE = 176
"""The smallest tile that MS-mSSIM takes."""
MICRONS_PER_PIXEL = 0.25
PATIENTS = {"P0": "train", "P1": "test", "P2": "test", "P3": "test"}
COUNTS = {"P0": 1, "P1": 2, "P2": 1, "P3": 1}
NUCLEI = {"P0": 6, "P1": 4, "P2": 9, "P3": 7}
"""In each tile."""
NOISE = {"e": 12.0, "sqe": 6.0}
"""Standard deviation of what the methods add to the true tile, gray levels."""


@dataclass(frozen=True)
class TileCohort:
    folder: Path
    manifest: Path
    methods: dict[str, Path]
    tiles: dict[str, NDArray[np.uint8]]
    """True tiles of the test split by name."""


def tissue(nuclei: int, *, seed: int) -> NDArray[np.uint8]:
    """A pink tile with round nuclei 10 um apart, 6 um wide."""
    random = np.random.default_rng(seed)
    image = np.full((SIZE, SIZE, 3), (232, 190, 214), dtype=np.float64)
    row, column = np.mgrid[:SIZE, :SIZE]
    for index in range(nuclei):
        center = 26 + 42 * (index // 4), 24 + 42 * (index % 4)
        image[(row - center[0]) ** 2 + (column - center[1]) ** 2 < 12**2] = (96, 62, 138)
    texture = random.normal(0, 3, image.shape)
    return np.clip(np.rint(image + texture), 0, 255).astype(np.uint8)


def save(image: NDArray[np.uint8], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


@pytest.fixture(scope="session")
def tile_cohort(tmp_path_factory: pytest.TempPathFactory) -> TileCohort:
    """Four patients, three of them for test, four tiles in test; two methods."""
    folder = tmp_path_factory.mktemp("tiles")
    rows, tiles = [], {}
    for number, (patient, split) in enumerate(PATIENTS.items()):
        pictures = [tissue(NUCLEI[patient], seed=10 * number + index) for index in range(COUNTS[patient])]
        save(np.concatenate(pictures, axis=1), folder / "slides" / f"{patient}_A.png")
        for index, picture in enumerate(pictures):
            name = f"{patient}_A_x{index * SIZE}_y0"
            place = {"x": index * SIZE, "y": 0, "size": SIZE, "microns": MICRONS_PER_PIXEL}
            rows.append(tile_row(patient, f"slides/{patient}_A.png", split, **place))
            if split == "test":
                tiles[name] = picture
    for seed, (method, deviation) in enumerate(NOISE.items()):
        random = np.random.default_rng(seed)
        for name, picture in tiles.items():
            noisy = picture + random.normal(0, deviation, picture.shape)
            restored = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
            save(restored, folder / method / f"{name}_restored.png")
    manifest = write_manifest(TILES, rows, folder)
    return TileCohort(folder, manifest, {method: folder / method for method in NOISE}, tiles)
