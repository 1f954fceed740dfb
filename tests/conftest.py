"""Fixtures that every test may use."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from command_line import Ended

os.environ.setdefault("MPLBACKEND", "Agg")
# A suite started in the background inherits an ignored Ctrl-C, and so would every child of its tests.
signal.signal(signal.SIGINT, signal.default_int_handler)

TINY_SPLITS = ("train", "train", "train", "train", "validation", "validation", "test", "test")


def pytest_runtest_setup() -> None:
    """Block every network connection but those inside this machine (MLflow's sqlite needs none)."""
    from pytest_socket import socket_allow_hosts

    socket_allow_hosts(["127.0.0.1", "localhost", "::1"], allow_unix_socket=True)


@pytest.fixture(autouse=True)
def _root_logger_as_before() -> Iterator[None]:
    """A bundle's logging.conf sets the root logger to the stderr of its test, which is closed after it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Find a real scan in the folder of test data beside the checkout; skip, naming the file, without it."""
    root = Path(os.environ.get("MEDRESTORE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))

    def find(name: str) -> Path:
        path = root / name
        if not path.exists():
            pytest.skip(f"test data {name} is not in {root}")
        return path

    return find


@pytest.fixture
def make_cohort(tmp_path: Path) -> Callable[..., Path]:
    """Write eight subjects, labels 0 and 1 in turn, each of another depth; return the manifest."""
    import numpy as np
    from manifest import write_manifest

    from medrestore.data.volumes import SourceGrid, write_volume
    from medrestore.domains.amyloid_pet.schema import pair_schema

    def make(*, in_plane: tuple[int, int] = (12, 10), depth: int = 5, name: str = "cohort") -> Path:
        folder = tmp_path / name
        rows = []
        for index, split in enumerate(TINY_SPLITS):
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
        return write_manifest(pair_schema(), rows, folder)

    return make


@pytest.fixture(scope="session")
def make_tiny_cohort() -> Callable[..., Path]:
    """Write eight subjects of 32 x 32 x 10 voxels, both classes in every split; return the manifest.

    A blob in noise whose brightness tells the class; stored in LPS order on an oblique grid, so that a writer
    which loses orientation or affine is found out.
    """
    import numpy as np
    from manifest import write_manifest

    from medrestore.data.volumes import SourceGrid, write_volume
    from medrestore.domains.amyloid_pet.schema import pair_schema

    def make(folder: Path, *, labels: tuple[int, ...] = (0, 1) * 4) -> Path:
        angle = np.deg2rad(7)
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        affine = np.eye(4)
        affine[:3, :3] = turn @ np.diag([-4.0, -4.0, 5.0])
        affine[:3, 3] = (60.0, 55.0, -20.0)
        shape = (32, 32, 10)
        x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
        rows = []
        for index, (split, label) in enumerate(zip(TINY_SPLITS, labels, strict=True)):
            random = np.random.default_rng(index)
            grid = SourceGrid.from_affine(shape, affine)
            target = np.where(x**2 + y**2 + (z / 1.2) ** 2 < 0.7, 1.0 + 0.5 * label, 0.05)
            target += 0.8 * label * ((x + 0.3) ** 2 + (y - 0.2) ** 2 < 0.05)
            target += random.normal(0, 0.01, shape)
            degraded = np.maximum(target + random.normal(0, 0.4, shape), 0)
            below = f"subjects/sub-{index:04}"
            write_volume(target.astype(np.float32), grid, folder / below / "target.nii.gz")
            write_volume(degraded.astype(np.float32), grid, folder / below / "degraded.nii.gz")
            rows.append(
                {
                    "subject_id": f"sub-{index:04}",
                    "session_id": "ses-01",
                    "split": split,
                    "degraded": f"{below}/degraded.nii.gz",
                    "target": f"{below}/target.nii.gz",
                    "amyloid_status": label,
                    "dose_fraction": 0.01,
                    "tracer": "florbetaben",
                    "units": "SUV",
                }
            )
        return write_manifest(pair_schema(), rows, folder)

    return make


@pytest.fixture(scope="session")
def tiny_cohort(make_tiny_cohort: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of one tiny cohort for the whole session; tests must not change it."""
    return make_tiny_cohort(tmp_path_factory.mktemp("tiny") / "cohort").parent


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Call ``medrestore`` in this process."""

    from medrestore.cli import main

    def run(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["medrestore", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capfd.readouterr()
        return Ended(code, out, re.sub(r"\x1b\[[0-9;]*m", "", err))

    return run
