"""Co-registration of MR to PET: found where the head went, resampled once, failures told and left out."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from manifest import cells, write_manifest
from PIL import Image
from scipy.ndimage import gaussian_filter

from medrestore import rng
from medrestore.checks import InputError
from medrestore.data.phantoms.anatomy import CohortGrid, load_template, vary
from medrestore.data.registration_images import moved
from medrestore.data.volumes import SourceGrid, grid_difference, read_volume, write_volume
from medrestore.domains.amyloid_pet.coregistration import coregister_guides
from medrestore.domains.amyloid_pet.schema import pair_schema
from medrestore.domains.amyloid_pet.simulate.amyloid import draw_uptake, true_activity
from medrestore.domains.amyloid_pet.simulate.mr import MrSettings, simulate_mr
from medrestore.files import sha256_file

PET = CohortGrid(shape=(64, 64, 38), voxel_size_mm=(4.0, 4.0, 4.0), origin_mm=(-126.0, -144.0, -68.0))
MR = MrSettings(
    grid=CohortGrid(shape=(64, 76, 51), voxel_size_mm=(3.0, 3.0, 3.0), origin_mm=(-94.5, -130.0, -70.0)),
    motion_mm=3.0,
    motion_deg=2.0,
)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """Write a head with its T1, one whose T1 is noise, and one without; return manifest and true matrix."""
    folder = tmp_path_factory.mktemp("pet_mr")
    template, random = load_template(), rng.generator(0, "test")
    anatomy = vary(template, PET, random=random)
    activity = true_activity(
        anatomy, template, PET, draw_uptake(0, border=False, random=random), random=random
    )
    target = gaussian_filter(activity, 0.7)  # of 4 mm voxels
    # Less noisy than a reconstruction at 1 % of the dose: voxels are twice as large.
    noise = gaussian_filter(random.standard_normal(PET.shape), 0.9)
    low = np.maximum(target + 0.15 * target.max() * noise, 0).astype(np.float32)
    grid = SourceGrid.from_affine(PET.shape, PET.affine)
    mr_grid = SourceGrid.from_affine(MR.grid.shape, MR.grid.affine)
    scan = simulate_mr(anatomy, template, PET, (), ("t1",), MR, seed=3)["t1"]
    rows = []
    for index, split in enumerate(("train", "validation", "test")):
        name = f"sub-{index}.nii.gz"  # one name for all images of a subject, in folders of their own
        write_volume(low + np.float32(index), grid, folder / "low" / name)
        (folder / "low" / f"sub-{index}.json").write_text('{"units": "SUV"}')
        write_volume(target + np.float32(index), grid, folder / "standard" / name)
        image = [scan.image, random.integers(1, 900, MR.grid.shape)][index] if index < 2 else None
        if image is not None:
            write_volume(image, mr_grid, folder / "mr" / name, dtype="int16")
        rows.append(
            {
                "subject_id": f"sub-{index}",
                "session_id": "01",
                "split": split,
                "degraded": f"low/{name}",
                "target": f"standard/{name}",
                "regions": "",
                "amyloid_status": 0,
                "dose_fraction": 0.01,
                "tracer": "florbetaben",
                "units": "SUV",
                "t1": f"mr/{name}" if image is not None else "",
            }
        )
    return write_manifest(pair_schema(), rows, folder), scan.matrix


@pytest.fixture(scope="module")
def done(cohort: tuple[Path, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return coregister_guides(cohort[0], tmp_path_factory.mktemp("out") / "on", workers=1, progress=False)


def test_mr_is_found_and_lies_on_the_grid_of_its_pet(cohort, done):
    row = pair_schema().read(done).iloc[0]
    assert not grid_difference(read_volume(row["t1_path"]), read_volume(row["degraded_path"]))
    record = json.loads((done.parent / "subjects/sub-0_01/registration.json").read_text())
    found = np.array(record["registrations"]["t1"]["matrix"])
    # Places at the corners of the brain; voxels of 4 and 3 mm and a PET smoothed by 7 mm: 1 mm is left of 5.
    corners = np.array([[x, y, z] for x in (-50, 50) for y in (-70, 40) for z in (-20, 50)], dtype=float)
    left = np.linalg.norm(moved(corners, found) - moved(corners, cohort[1]), axis=1).mean()
    before = np.linalg.norm(corners - moved(corners, cohort[1]), axis=1).mean()
    assert before > 3
    assert left < before / 2
    with Image.open(done.parent / "subjects/sub-0_01/registration.png") as picture:
        assert min(picture.size) > 100


def test_what_fails_is_left_empty_told_and_counted(cohort, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        made = coregister_guides(cohort[0], tmp_path / "on", workers=1, progress=False)
    assert "1 of 2 MR scans are left out" in caplog.text
    assert "sub-1_01, t1: shows something else" in caplog.text
    table = cells(made)
    assert [bool(cell) for cell in table["t1"]] == [True, False, False]
    assert list(pd.read_csv(made.with_name("left_out.csv"))["scan"]) == ["sub-1_01"]
    assert list(pd.read_csv(made.with_name("registration.csv"))["status"]) == ["registered", "failed"]
    assert pair_schema(label_column=None).check(made) == []


def test_pet_is_the_same_file_and_a_finished_run_is_kept(cohort, done):
    before = {path: path.stat().st_mtime_ns for path in done.parent.rglob("*.json")}
    degraded = cells(done)["degraded_sha256"]
    assert list(degraded) == list(cells(cohort[0])["degraded_sha256"])
    assert cells(done).loc[0, "degraded"] == "subjects/sub-0_01/degraded_dose-0.01.nii.gz"
    assert (done.parent / "subjects/sub-0_01/degraded_dose-0.01.json").read_text() == '{"units": "SUV"}'
    again = coregister_guides(cohort[0], done.parent, workers=1, progress=False)
    assert again == done
    assert {path: path.stat().st_mtime_ns for path in done.parent.rglob("registration.json")} == {
        path: time for path, time in before.items() if path.name == "registration.json"
    }


def test_manifest_without_mr_is_refused(make_cohort, tmp_path):
    with pytest.raises(InputError, match="no row has MR: t1, t2, flair are empty or not there"):
        coregister_guides(make_cohort(), tmp_path / "on", progress=False)


def test_what_is_told_of_an_mr_that_cannot_be_read_holds_no_path(cohort, tmp_path):
    table = cells(cohort[0])
    damaged = cohort[0].with_name("doe_t1.nii.gz")
    damaged.write_bytes((cohort[0].parent / table.loc[0, "t1"]).read_bytes()[:40])
    table["t1"], table["t1_sha256"] = "", ""
    table.loc[0, ["t1", "t1_sha256"]] = [damaged.name, sha256_file(damaged)]
    table.to_csv(cohort[0].with_name("damaged.csv"), index=False)
    made = coregister_guides(cohort[0].with_name("damaged.csv"), tmp_path / "on", workers=1, progress=False)
    (reason,) = pd.read_csv(made.with_name("left_out.csv"))["reason"]
    assert reason.startswith("cannot be read as NIfTI (")
    record = (made.parent / "subjects" / "sub-0_01" / "registration.json").read_text()
    assert "doe" not in reason + record
