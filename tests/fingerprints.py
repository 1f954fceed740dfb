"""Run the three demos on tiny sizes and write down what they made: did a change of the code change results?

    python tests/fingerprints.py OUTPUT            # a new folder; writes OUTPUT/fingerprints.json
    python tests/fingerprints.py OUTPUT --against EARLIER/fingerprints.json

Weights, restored voxels and pixels, tables, records of evaluations and the analysis of the study, each by
a checksum. Two runs on one machine, at two states of the code, are equal unless results changed. Times,
versions, places, and the ids that a study draws anew at each creation are left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np

SEED = 3
COMMON = "device: cpu\nprecision: fp32\n"
AMYLOID_PET = """
spatial_size: [96, 96]
generator_channels: [4, 8, 8]
discriminator_channels: [4, 8]
task_widen_factor: 0.125
batch_size: 4
batches_per_epoch: 2
pretrain_epochs: 1
joint_epochs: 1
"""
MULTICONTRAST_MRI = """
spatial_size: [96, 112]
generator_channels: [4, 8, 8]
discriminator_channels: [4, 8]
task_channels: [4, 4, 4, 4, 4]
segmenter_channels: [4, 8]
batch_size: 6
batches_per_epoch: 2
pretrain_epochs: 1
contrast_epochs: 1
mixed_epochs: 1
segmenter_epochs: 1
"""
HISTOLOGY = """
crop_size: 32
generator_channels: 4
generator_blocks: 1
discriminator_channels: [4, 8]
encoder_channels: [4, 4]
encoder_blocks: 0
batch_size: 4
batches_per_epoch: 2
autoencoder_epochs: 1
warm_up_epochs: 1
adversarial_epochs: 1
"""
TIMED = ("reads.csv", "completeness.csv")
PASSING = re.compile(
    r"(^|[._/])(time|date|created|began|ended|seconds|duration|version|versions|platform|host|commit|python|torch|"
    r"path|folder|output|tracking_uri|salt|id|software|environment)($|[._/])"
)


def run(folder: Path) -> None:
    """Call the demos; a folder that was interrupted is continued."""
    from medrestore.domains.amyloid_pet.simulate.design import CohortSize, SubjectGroup
    from medrestore.domains.multicontrast_mri.simulate.design import MriCohortSize, MriSubjectGroup
    from medrestore.experiments.demo import run_demo

    secrets.token_hex = lambda count=16: "5a" * count  # a study draws a salt, and from it orders and ids
    overlays = {}
    for name, text in (("pet", AMYLOID_PET), ("mri", MULTICONTRAST_MRI), ("histology", HISTOLOGY)):
        overlays[name] = folder / f"{name}.yaml"
        overlays[name].write_text(COMMON + text, encoding="utf-8")
    scans = CohortSize(
        "tiny",
        (
            SubjectGroup("tiny", "train", negatives=2, positives=2),
            SubjectGroup("tiny", "validation", negatives=1, positives=1),
            SubjectGroup("tiny", "test", negatives=3, positives=3),
        ),
    )
    size = MriCohortSize(
        "tiny",
        (
            MriSubjectGroup("train", patients=1, controls=1),
            MriSubjectGroup("validation", patients=1, controls=0),
            MriSubjectGroup("test", patients=1, controls=1),
        ),
    )
    run_demo(
        "amyloid-pet",
        folder / "pet",
        size=scans,
        seed=SEED,
        variants=("demo", str(overlays["pet"])),
        methods=("l1_task", "taskgan"),
    )
    run_demo(
        "multicontrast-mri",
        folder / "mri",
        size=size,
        seed=SEED,
        variants=("demo", str(overlays["mri"])),
        methods=("gan", "taskgan"),
    )
    run_demo(
        "histology",
        folder / "histology",
        seed=SEED,
        variants=("demo", str(overlays["histology"])),
        methods=("e", "sqe"),
    )


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _leaves(part, f"{key}/{name}")
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            yield from _leaves(part, f"{key}/{number}")
    else:
        yield key, value


def _weights(path: Path) -> dict[str, str]:
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    tensors = {key: leaf for key, leaf in _leaves(state) if isinstance(leaf, torch.Tensor)}
    return {
        key: _sum(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        for key, tensor in tensors.items()
        if tensor.numel() and not tensor.is_meta
    }


def _voxels(path: Path) -> str:
    import nibabel as nib

    image = nib.load(path)
    affine = np.asarray(image.affine, dtype=np.float64)
    return _sum(np.ascontiguousarray(image.dataobj).tobytes() + affine.tobytes())


def _pixels(path: Path) -> str:
    from PIL import Image

    with Image.open(path) as image:
        return _sum(np.asarray(image).tobytes())


def _record(path: Path) -> dict[str, Any]:
    leaves = _leaves(json.loads(path.read_text(encoding="utf-8")))
    return {key: value for key, value in leaves if not PASSING.search(key) and gettempdir() not in str(value)}


def fingerprints(folder: Path) -> dict[str, Any]:
    """Return checksums and numbers by the place of what they are of."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if "/mlartifacts/" in name:
            continue  # copies, in folders of random names
        if path.name == "model.pt":
            found |= {f"{name}{key}": value for key, value in _weights(path).items()}
        elif "/cohort/" in f"/{name}" and path.name == "manifest.csv":
            found[name] = _sum(path.read_bytes())
        elif "/restored/" in f"/{name}" or "/cohort/" in f"/{name}":
            if path.name.endswith((".nii.gz", ".nii")):
                found[name] = _voxels(path)
            elif path.suffix == ".png" and "/restored/" in f"/{name}":
                found[name] = _pixels(path)
        elif "/evaluation/" in f"/{name}" and path.suffix in (".csv", ".md"):
            found[name] = _sum(path.read_bytes())
        elif path.name == "evaluation.json":
            found |= {f"{name}{key}": value for key, value in _record(path).items()}
        elif "/study/analysis/" in f"/{name}" and path.suffix == ".csv" and path.name not in TIMED:
            found[name] = _sum(path.read_bytes())
    return found


def main() -> int:
    """Run, write, compare."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("output", type=Path, help="a new folder, or that of a run that was interrupted")
    parser.add_argument("--against", type=Path, help="fingerprints.json of another state of the code")
    given = parser.parse_args()
    folder = given.output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    run(folder)
    found = fingerprints(folder)
    written = folder / "fingerprints.json"
    written.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{len(found)} fingerprints in {written}")
    if given.against is None:
        return 0
    before = json.loads(given.against.read_text(encoding="utf-8"))
    other = sorted(key for key in before.keys() | found.keys() if before.get(key) != found.get(key))
    for key in other:
        print(f"  {key}: {before.get(key, 'nothing')} before, {found.get(key, 'nothing')} now")
    print(f"{len(before)} before, {len(found)} now, {len(other)} differ")
    return 1 if other else 0


if __name__ == "__main__":
    sys.exit(main())
