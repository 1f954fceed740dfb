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
TIMED = ("reads.csv", "completeness.csv")
PASSING = re.compile(
    r"(^|[._/])(time|date|created|began|ended|seconds|duration|version|versions|platform|host|commit|python|torch|"
    r"path|folder|output|tracking_uri|salt|id|software|environment)($|[._/])"
)


def run(folder: Path) -> None:
    """Call the demos; a folder that was interrupted is continued."""
    from tiny_demos import MRI_SIZE, tiny_variants

    from medrestore.domains.amyloid_pet.simulate.design import CohortSize, SubjectGroup
    from medrestore.experiments.demo import run_demo

    secrets.token_hex = lambda count=16: "5a" * count  # a study draws a salt, and from it orders and ids
    scans = CohortSize(
        "tiny",
        (
            SubjectGroup("tiny", "train", negatives=2, positives=2),
            SubjectGroup("tiny", "validation", negatives=1, positives=1),
            SubjectGroup("tiny", "test", negatives=3, positives=3),
        ),
    )
    for name, subject, size, methods in (
        ("pet", "amyloid-pet", scans, ("l1_task", "taskgan")),
        ("mri", "multicontrast-mri", MRI_SIZE, ("gan", "taskgan")),
        ("histology", "histology", None, ("e", "sqe")),
    ):
        variants = tiny_variants(folder / f"{name}.yaml", subject)
        run_demo(subject, folder / name, size=size, seed=SEED, variants=variants, methods=methods)


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
