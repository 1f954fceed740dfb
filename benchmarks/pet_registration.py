"""How far off MR is after its registration to a noisy PET, by how much the PET is smoothed before.

The truth is that of a simulated cohort: its records hold where the head went between PET and MR. Distances
are means over the head. Beside the smoothed degraded PET: the headers alone, the standard dose, restorations
of a network, and the T1 of the subject before, whose distinctness a registration of the wrong head has.

Run: ``python benchmarks/pet_registration.py COHORT --restored FOLDER``.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

from medrestore.data.registration import register_rigid
from medrestore.data.registration_images import FixedHead, moved
from medrestore.data.volumes import Volume, read_volume
from medrestore.domains.amyloid_pet.schema import pair_schema

SIGMAS_MM = (0.0, 4.0, 5.0, 7.0)


def fixed_images(row: pd.Series, restored: Path | None) -> Iterator[tuple[str, Volume]]:
    """Yield what MR could be registered to."""
    degraded = read_volume(row["degraded_path"])
    for sigma in SIGMAS_MM:
        steps = [sigma / size for size in degraded.voxel_size_mm]
        yield f"degraded, {sigma:g} mm", replace(degraded, data=gaussian_filter(degraded.data, steps))
    yield "standard dose", read_volume(row["target_path"])
    if restored is not None:
        yield "restored", read_volume(restored / f"{row['subject_id']}_{row['session_id']}_restored.nii.gz")


def main() -> None:
    """Print what is left by each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--restored", type=Path)
    parser.add_argument("--split", default="validation")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--subjects", type=int, default=7)
    given = parser.parse_args()
    table = pair_schema().read(given.cohort / "manifest.csv")
    chosen = table[table["split"] == given.split].iloc[given.first : given.first + given.subjects]
    found: dict[str, list[tuple[float, float, bool]]] = defaultdict(list)
    headers, before = [], None
    for _, row in chosen.iterrows():
        record = given.cohort / "subjects" / row["subject_id"] / "subject.json"
        truth = np.array(json.loads(record.read_text())["pet_to_mr"]["t1"])
        t1 = read_volume(row["t1_path"])
        for name, fixed in fixed_images(row, given.restored):
            head = FixedHead.of(fixed)
            places = moved(head.points_mm, truth)
            result = register_rigid(t1, head, least_distinctness=0.0)
            left = np.linalg.norm(moved(head.points_mm, result.matrix) - places, axis=1).mean()
            found[name].append((float(left), result.distinctness, result.identity_kept))
            if name == "degraded, 7 mm":
                headers.append(float(np.linalg.norm(head.points_mm - places, axis=1).mean()))
                if before is not None:
                    wrong = register_rigid(before, head, least_distinctness=0.0, most_mm=100)
                    found["the T1 of another subject"].append(
                        (np.nan, wrong.distinctness, wrong.identity_kept)
                    )
        before = t1
    print(f"headers alone: {np.mean(headers):.2f} mm")
    for name, rows in found.items():
        left_mm, distinctness, kept = zip(*rows, strict=True)
        print(
            f"{name}: {np.mean(left_mm):.2f} mm, distinctness {min(distinctness):.2f} to "
            f"{max(distinctness):.2f}, headers kept in {sum(kept)} of {len(kept)}"
        )


if __name__ == "__main__":
    main()
