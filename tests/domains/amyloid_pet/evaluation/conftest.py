"""A small cohort with restorations and classifiers, for the tests of evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from medrestore.data.volumes import SourceGrid, write_volume
from medrestore.domains.amyloid_pet.schema import pair_schema
from medrestore.networks.tasks.amyloid import AmyloidClassifier
from medrestore.networks.weights import describe, save_file

SHAPE = (32, 32, 8)
AFFINE = np.diag([4.0, 4.0, 6.0, 1.0])
SPLITS = ("validation", "test", "test", "test", "test")
NOISE = {"gan": 0.10, "taskgan": 0.05}


@dataclass(frozen=True)
class Cohort:
    folder: Path
    manifest: Path
    dose_series: Path
    methods: dict[str, Path]
    task: Path
    observer: Path


def head(label: int, index: int) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """An ellipsoid of uptake 1 with a cortex (regions 2 to 5) around a reference region (1)."""
    x, y, z = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in SHAPE), indexing="ij")
    radius = np.sqrt((x / 12) ** 2 + (y / 13) ** 2 + (z / 5) ** 2)
    regions = np.zeros(SHAPE, dtype=np.int16)
    regions[radius < 1] = 2 + 2 * (x[radius < 1] > 0) + (y[radius < 1] > 0)
    regions[radius < 0.5] = 1
    target = np.where(radius < 1, 1.0, 0.0)
    target[regions > 1] += 0.4 * label + 0.05 * index
    return target.astype(np.float32), regions


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Five subjects, four of them for test, labels 0 and 1 in turn; two methods; weights drawn at random."""
    folder = tmp_path_factory.mktemp("evaluation")
    grid = SourceGrid.from_affine(SHAPE, AFFINE)
    rows, series = [], []
    for index, split in enumerate(SPLITS):
        name, label = f"sub-{index:02}", index % 2
        target, regions = head(label, index)
        random = np.random.default_rng(index)

        def noisy(
            sd: float, target: NDArray[np.float32] = target, random: np.random.Generator = random
        ) -> NDArray[np.float32]:
            return (target + sd * random.standard_normal(SHAPE)).astype(np.float32)

        place = folder / "subjects" / name
        write_volume(target, grid, place / "target.nii.gz")
        write_volume(regions, grid, place / "regions.nii.gz", dtype="int16")
        row = {
            "subject_id": name,
            "session_id": "ses-01",
            "split": split,
            "target": f"subjects/{name}/target.nii.gz",
            "regions": f"subjects/{name}/regions.nii.gz",
            "amyloid_status": label,
            "tracer": "florbetaben",
            "units": "SUV",
        }
        for fraction, sd in ((0.01, 0.4), (0.1, 0.2), (0.5, 0.08)):
            file = f"subjects/{name}/degraded_dose-{fraction}.nii.gz"
            write_volume(noisy(sd), grid, folder / file)
            (rows if fraction == 0.01 else series).append(row | {"degraded": file, "dose_fraction": fraction})
        if split == "test":
            for method, sd in NOISE.items():
                write_volume(noisy(sd), grid, folder / method / f"{name}_ses-01_restored.nii.gz")
    series = [row for row in series if row["split"] == "test"]
    for name, table in (("manifest", rows), ("dose_series", series)):
        pair_schema().write(pair_schema().with_checksums(pd.DataFrame(table), folder), folder / f"{name}.csv")
    for seed, name in ((1, "task"), (2, "observer")):
        network = AmyloidClassifier(widen_factor=1 / 8, seed=seed)
        save_file({"method": "taskgan", "networks": {"task": describe(network)}}, folder / f"{name}.pt")
    return Cohort(
        folder=folder,
        manifest=folder / "manifest.csv",
        dose_series=folder / "dose_series.csv",
        methods={method: folder / method for method in NOISE},
        task=folder / "task.pt",
        observer=folder / "observer.pt",
    )
