"""A small multi-contrast cohort of files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from manifest import write_manifest

from medrestore.data.volumes import SourceGrid, write_channels, write_volume
from medrestore.domains.multicontrast_mri.acquisition.acquisition import Acquisition, make_acquisition
from medrestore.domains.multicontrast_mri.schema import contrast_schema
from medrestore.operators.mdme import MdmeProtocol, add_complex_noise, mdme_signal

SPLIT_OF = ("train", "train", "train", "train", "validation", "validation", "test", "test")
CONTRASTS = ("t1w", "t2w", "t2_flair")
GRID = np.diag([-4.0, 4.0, 5.0, 1.0])
PROTOCOL = MdmeProtocol((150.0, 580.0, 4130.0), (22.0, 95.0))


@pytest.fixture(scope="session")
def contrasts() -> tuple[str, ...]:
    return CONTRASTS


@pytest.fixture(scope="session")
def protocol() -> MdmeProtocol:
    return PROTOCOL


@pytest.fixture(scope="session")
def acquisition() -> Acquisition:
    return make_acquisition(
        saturation_delays_ms=PROTOCOL.saturation_delays_ms, echo_times_ms=PROTOCOL.echo_times_ms
    )


@pytest.fixture(scope="session")
def signals() -> Callable[..., np.ndarray]:
    """Return signed MDME channels (6, X, Y, Z) of an ellipsoid with T1 and T2 of white matter to CSF."""

    def make(shape: tuple[int, int, int] = (12, 10, 6), *, seed: int = 0) -> np.ndarray:
        random = np.random.default_rng(seed)
        x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
        head = x**2 + y**2 + z**2 < 1.2
        t1, t2 = random.uniform(800, 3000, shape), random.uniform(60, 300, shape)
        return mdme_signal(t1, t2, head * random.uniform(0.7, 1, shape), protocol=PROTOCOL)

    return make


@pytest.fixture(scope="session")
def complex_images() -> Callable[..., np.ndarray]:
    """Give signed channels a phase that varies over the image, and noise of 0.002."""

    def make(signed: np.ndarray, *, seed: int = 0) -> np.ndarray:
        phase = np.linspace(-2, 2, signed.shape[1])[:, None, None]
        noisy = add_complex_noise(signed, sigma=0.002, random=np.random.default_rng(seed))
        return (noisy * np.exp(1j * phase)).astype(np.complex64)

    return make


@pytest.fixture(scope="session")
def write_input() -> Callable[..., Path]:
    """Write channels as one 4D NIfTI, stored left to right reversed, and a sidecar if wanted."""

    def write(path: Path, data: np.ndarray, *, sidecar: dict[str, Any] | None = None) -> Path:
        grid = SourceGrid.from_affine(data.shape[1:], GRID)
        write_channels(data, grid, path, dtype="complex64" if np.iscomplexobj(data) else "float32")
        if sidecar is not None:
            path.with_name(f"{path.name.split('.')[0]}.json").write_text(json.dumps(sidecar))
        return path

    return write


@pytest.fixture(scope="session")
def sidecar() -> Callable[..., dict[str, Any]]:
    """Return the sidecar of the protocol's channels, by delay or by echo first; seconds."""

    def make(component: str = "complex", *, by: str = "delay") -> dict[str, Any]:
        channels = np.array(PROTOCOL.channels) / 1000
        if by == "echo":
            channels = channels.reshape(3, 2, 2).swapaxes(0, 1).reshape(6, 2)
        return {
            "SaturationDelay": channels[:, 0].tolist(),
            "EchoTime": channels[:, 1].tolist(),
            "RepetitionTime": 4.5,
            "SaturationFlipAngle": 120.0,
            "FlipAngle": 90.0,
            "ComplexComponent": component,
        }

    return make


@pytest.fixture(scope="session")
def _cohort(
    tmp_path_factory: pytest.TempPathFactory,
    signals: Callable[..., np.ndarray],
    complex_images: Callable[..., np.ndarray],
    write_input: Callable[..., Path],
    sidecar: Callable[..., dict[str, Any]],
) -> Path:
    """Write eight subjects, each of another depth; return their folder.

    Subject 1 has no t2_flair, subject 3 no t1w; subjects of even number have a lesion mask.
    """
    folder = tmp_path_factory.mktemp("contrasts") / "cohort"
    rows = []
    for index, split in enumerate(SPLIT_OF):
        random = np.random.default_rng(index)
        shape = (12, 10, 5 + index)
        grid = SourceGrid.from_affine(shape, GRID)
        below = f"subjects/sub-{index:04}"
        images = complex_images(signals(shape, seed=index), seed=index)
        write_input(folder / below / "mdme.nii.gz", images, sidecar=sidecar())
        row = {
            "subject_id": f"sub-{index:04}",
            "session_id": "ses-01",
            "split": split,
            "group": "patient" if index % 2 == 0 else "control",
            "input": f"{below}/mdme.nii.gz",
            "lesions": f"{below}/lesions.nii.gz" if index % 2 == 0 else "",
        }
        for contrast in CONTRASTS:
            missing = (index, contrast) in ((1, "t2_flair"), (3, "t1w"))
            row[contrast] = "" if missing else f"{below}/{contrast}.nii.gz"
            if not missing:
                write_volume(random.gamma(4.0, 100.0, shape), grid, folder / str(row[contrast]))
        if row["lesions"]:
            mask = np.zeros(shape)
            mask[4:6, 3:6, 2:4] = 1
            write_volume(mask, grid, folder / str(row["lesions"]), dtype="uint8")
        rows.append(row)
    write_manifest(contrast_schema(CONTRASTS), rows, folder)
    return folder


@pytest.fixture
def make_cohort(_cohort: Path, tmp_path: Path) -> Callable[[], Path]:
    """Return the manifest of a cohort of its own, to be changed at will."""

    def make() -> Path:
        return Path(shutil.copytree(_cohort, tmp_path / "cohort")) / "manifest.csv"

    return make


@pytest.fixture
def images(signals: Callable[..., np.ndarray], complex_images: Callable[..., np.ndarray]) -> np.ndarray:
    return complex_images(signals())


@pytest.fixture(scope="session")
def by_echo() -> Callable[[np.ndarray], np.ndarray]:
    """Put six channels of three delays and two echoes in the other order."""
    return lambda data: data.reshape(3, 2, *data.shape[1:]).swapaxes(0, 1).reshape(data.shape)


@pytest.fixture(scope="session")
def magnitude(acquisition: Acquisition) -> Acquisition:
    return make_acquisition(
        component="magnitude",
        saturation_delays_ms=acquisition.saturation_delays_ms,
        echo_times_ms=acquisition.echo_times_ms,
    )


@pytest.fixture
def write_list(tmp_path: Path) -> Callable[..., list[Path]]:
    """Write every channel as a 3D file, with its part of a sidecar if wanted."""

    def write(data: np.ndarray, sidecar: dict[str, Any] | None = None) -> list[Path]:
        files = []
        for index, channel in enumerate(data):
            path = tmp_path / f"channel_{index}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(channel, np.diag([4.0, 4.0, 5.0, 1.0])), path)
            if sidecar is not None:
                own = {
                    key: value[index] if isinstance(value, list) else value for key, value in sidecar.items()
                }
                (tmp_path / f"channel_{index}.json").write_text(json.dumps(own))
            files.append(path)
        return files

    return write
