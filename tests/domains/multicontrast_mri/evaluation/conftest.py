"""A small multi-contrast cohort with restorations and judges."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from manifest import write_manifest
from numpy.typing import NDArray

from medrestore.data.volumes import SourceGrid, write_channels, write_volume
from medrestore.domains.multicontrast_mri.schema import contrast_schema
from medrestore.networks.segmenter import LesionSegmenter
from medrestore.networks.tasks.contrast import ContrastClassifier
from medrestore.networks.weights import describe, save_file
from medrestore.operators.mdme import MdmeProtocol, mdme_signal
from medrestore.operators.mr_sequences import CONTRASTS as SEQUENCES

SHAPE = (48, 52, 6)
SIZE_MM = (4.0, 4.0, 6.0)
CONTRASTS = ("t1w", "t2_flair", "t1c")
"""The last one has no signal equation: post-contrast T1w."""
PROTOCOL = MdmeProtocol()
NOISE = {"gan": 0.10, "taskgan": 0.04}
SUBJECTS = (
    ("sub-00", "train", "patient"),
    ("sub-01", "test", "patient"),
    ("sub-02", "test", "control"),
    ("sub-03", "test", "patient"),
    ("sub-04", "test", "control"),
)
MISSING = ("sub-04", "t1w")


@dataclass(frozen=True)
class ContrastCohort:
    folder: Path
    manifest: Path
    contrasts: tuple[str, ...]
    protocol: MdmeProtocol
    methods: dict[str, Path]
    task: Path
    observer: Path
    segmenter: Path


def brain(index: int, *, lesions: bool) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.bool_]]:
    """T1, T2 (ms) and proton density of an ellipsoid of white matter with fluid inside, and a lesion mask."""
    x, y, z = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in SHAPE), indexing="ij")
    radius = np.sqrt((x / 19) ** 2 + (y / 22) ** 2 + (z / 4) ** 2)
    fluid = (np.abs(x) < 3) & (np.abs(y) < 6) & (np.abs(z) < 2)
    spot = (x - 9) ** 2 + (y - 4) ** 2 + (2 * z) ** 2 < (3 + index) ** 2
    lesion = spot & (radius < 0.9) if lesions else np.zeros(SHAPE, dtype=bool)
    t1, t2, pd_ = (np.full(SHAPE, value) for value in (850.0, 70.0, 0.7))
    t1[lesion], t2[lesion], pd_[lesion] = 1350.0, 140.0, 0.85
    t1[fluid], t2[fluid], pd_[fluid] = 4163.0, 1500.0, 1.0
    pd_[radius >= 1] = 0
    return {"t1_ms": t1, "t2_ms": t2, "pd": pd_}, lesion


@pytest.fixture(scope="session")
def contrast_cohort(tmp_path_factory: pytest.TempPathFactory) -> ContrastCohort:
    """Five subjects, four of them for test: two patients, two controls; one lacks T1w. Two methods."""
    folder = tmp_path_factory.mktemp("contrasts")
    grid = SourceGrid.from_affine(SHAPE, np.diag([*SIZE_MM, 1.0]))
    rows = []
    for index, (name, split, group) in enumerate(SUBJECTS):
        maps, lesion = brain(index, lesions=group == "patient")
        random = np.random.default_rng(index)
        place = folder / "subjects" / name
        signed = mdme_signal(**maps, protocol=PROTOCOL)
        noise = 0.002 * (random.standard_normal(signed.shape) + 1j * random.standard_normal(signed.shape))
        write_channels((signed + noise).astype(np.complex64), grid, place / "mdme.nii.gz", dtype="complex64")
        sidecar = {
            "SaturationDelay": [delay / 1000 for delay, _ in PROTOCOL.channels],
            "EchoTime": [echo / 1000 for _, echo in PROTOCOL.channels],
            "RepetitionTime": PROTOCOL.tr_ms / 1000,
            "ComplexComponent": "complex",
        }
        (place / "mdme.json").write_text(json.dumps(sidecar))
        write_volume(lesion, grid, place / "lesions.nii.gz", dtype="uint8")
        row = {"subject_id": name, "session_id": "ses-01", "split": split, "group": group}
        row |= {"input": f"subjects/{name}/mdme.nii.gz", "lesions": f"subjects/{name}/lesions.nii.gz"}
        for contrast in CONTRASTS:
            sequence = SEQUENCES["t1w" if contrast == "t1c" else contrast]
            gain = 100 + 50 * index
            true = np.abs(sequence.signal(**maps)) * (1 + 0.3 * (contrast == "t1c") * lesion)
            true = np.abs(true + 0.02 * true.max() * random.standard_normal(SHAPE)) * gain
            row[contrast] = ""
            if (name, contrast) != MISSING:
                row[contrast] = f"subjects/{name}/{contrast}.nii.gz"
                write_volume(true.astype(np.float32), grid, place / f"{contrast}.nii.gz")
            for number, (method, sd) in enumerate(NOISE.items()):
                if split == "test":
                    restored = true / gain + sd * true.max() / gain * random.standard_normal(SHAPE)
                    file = folder / method / f"{name}_ses-01_{contrast}_restored.nii.gz"
                    write_volume(((number + 1) * restored).astype(np.float32), grid, file)
        rows.append(row)
    write_manifest(contrast_schema(CONTRASTS), rows, folder)
    about = {"contrasts": list(CONTRASTS), "spatial_size": [48, 56]}
    for seed, name in ((1, "task"), (2, "observer")):
        network = ContrastClassifier(classes=3, channels=(4, 8, 8), strided_layers=2, seed=seed)
        save_file({**about, "networks": {"task": describe(network)}}, folder / f"{name}.pt")
    reader = describe(LesionSegmenter(channels=(4, 8, 8), seed=3))
    about["contrasts"] = ["t2_flair"]
    save_file({**about, "networks": {"segmenter": reader}}, folder / "segmenter.pt")
    return ContrastCohort(
        folder=folder,
        manifest=folder / "manifest.csv",
        contrasts=CONTRASTS,
        protocol=PROTOCOL,
        methods={method: folder / method for method in NOISE},
        task=folder / "task.pt",
        observer=folder / "observer.pt",
        segmenter=folder / "segmenter.pt",
    )
