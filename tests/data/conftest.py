"""A small cohort of files for the tests of data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medrestore.data.manifest import with_checksums, write_manifest
from medrestore.data.volumes import SourceGrid, write_volume

SPLIT_OF = ("train", "train", "train", "train", "validation", "validation", "test", "test")


@pytest.fixture
def make_cohort(tmp_path: Path) -> Callable[..., Path]:
    """Write eight subjects, labels 0 and 1 in turn, each of another depth; return the manifest."""

    def make(*, in_plane: tuple[int, int] = (12, 10), depth: int = 5, name: str = "cohort") -> Path:
        folder = tmp_path / name
        rows = []
        for index, split in enumerate(SPLIT_OF):
            random = np.random.default_rng(index)
            shape = (*in_plane, depth + index)
            grid = SourceGrid.from_affine(shape, np.diag([-4.0, 4.0, 5.0, 1.0]))
            target = random.gamma(4.0, 0.5, shape).astype(np.float32)
            degraded = (target * random.uniform(0.5, 1.5, shape)).astype(np.float32)
            regions = random.integers(0, 5, shape)
            below = f"subjects/sub-{index:04}"
            write_volume(target, grid, folder / below / "target.nii.gz")
            write_volume(degraded, grid, folder / below / "degraded.nii.gz")
            write_volume(regions, grid, folder / below / "regions.nii.gz", dtype="int16")
            rows.append(
                {
                    "subject_id": f"{index:04}",
                    "session_id": "01",
                    "split": split,
                    "degraded": f"{below}/degraded.nii.gz",
                    "target": f"{below}/target.nii.gz",
                    "regions": f"{below}/regions.nii.gz" if index % 2 else "",
                    "amyloid_status": index % 2,
                    "dose_fraction": 0.01,
                    "tracer": "florbetaben",
                    "units": "SUV",
                }
            )
        return write_manifest(with_checksums(pd.DataFrame(rows), folder), folder / "manifest.csv")

    return make
