"""Region maps for scans that have none: maps, pictures, tables; failures listed; runs continued."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
from atlas_head import COARSE, NEGATIVE, POSITIVE, scan
from manifest import cells, edit, write_manifest

from medrestore.checks import InputError
from medrestore.data.atlas import REGIONS, register_atlas
from medrestore.data.volumes import read_volume, write_volume
from medrestore.domains.amyloid_pet.regions import scan_regions
from medrestore.domains.amyloid_pet.regions.map_regions import map_regions
from medrestore.domains.amyloid_pet.schema import pair_schema
from medrestore.files import sha256_file


@pytest.fixture(autouse=True)
def _coarse(monkeypatch):
    monkeypatch.setattr(scan_regions, "register_atlas", partial(register_atlas, settings=COARSE))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """A head without and one with amyloid, and noise; two doses of the first. The last has a map already."""
    folder = tmp_path_factory.mktemp("cohort")
    rows = []
    noise = np.random.default_rng(1)
    images = {
        "sub-01": scan(NEGATIVE)[0],
        "sub-02": scan(POSITIVE)[0],
        "sub-03": scan(POSITIVE, noise=0.1)[0],
    }
    images["sub-02"].data[:] = noise.random(images["sub-02"].data.shape)
    for subject, volume in images.items():
        write_volume(volume.data, volume.source, folder / f"{subject}_target.nii.gz")
        for dose in (0.01, 0.05) if subject == "sub-01" else (0.01,):
            low = volume.data + 0.1 * noise.standard_normal(volume.data.shape).astype(np.float32)
            write_volume(low, volume.source, folder / f"{subject}_{dose}.nii.gz")
            row = {"subject_id": subject, "session_id": "ses-01", "split": "test"}
            row |= {"degraded": f"{subject}_{dose}.nii.gz", "target": f"{subject}_target.nii.gz"}
            row |= {"regions": "", "amyloid_status": 0, "dose_fraction": dose, "tracer": "x", "units": "SUV"}
            rows.append(row)
    drawn = np.ones(images["sub-03"].data.shape, dtype=np.int16)
    write_volume(drawn, images["sub-03"].source, folder / "drawn.nii.gz", dtype="int16")
    rows[-1]["regions"] = "drawn.nii.gz"
    return write_manifest(pair_schema(), rows, folder)


@pytest.fixture(scope="module")
def mapped(cohort, tmp_path_factory):
    """The cohort's new manifest, and the warnings."""
    folder = tmp_path_factory.mktemp("maps") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan_regions, "register_atlas", partial(register_atlas, settings=COARSE))
        return map_regions(cohort, folder, workers=1, progress=False)


class TestManifest:
    def test_holds_the_map_of_each_scan_in_all_of_its_rows(self, mapped, cohort):
        rows = pair_schema().read(mapped)
        assert list(rows["subject_id"]) == list(cells(cohort)["subject_id"])
        first = rows[rows["subject_id"] == "sub-01"]
        assert set(first["regions"]) == {"sub-01_ses-01_regions.nii.gz"}
        place = mapped.parent / "sub-01_ses-01_regions.nii.gz"
        assert set(first["regions_sha256"]) == {sha256_file(place)}
        found, target = read_volume(place), read_volume(first["target_path"].iloc[0])
        assert found.source.dtype == "int16"
        assert np.array_equal(found.affine, target.affine)
        assert set(np.unique(found.data)) == {0, *REGIONS.values()}
        assert (mapped.parent / "sub-01_ses-01_regions.png").stat().st_size > 10_000

    def test_finds_no_fault_in_the_files_it_is_linked_to(self, mapped):
        assert pair_schema().check(mapped, require_splits=["test"]) == []

    def test_leaves_a_scan_out_that_shows_no_head_and_says_why(self, mapped):
        rows = cells(mapped).set_index("subject_id")
        assert rows.loc["sub-02", "regions"] == ""
        assert rows.loc["sub-02", "regions_sha256"] == ""
        left_out = pd.read_csv(mapped.parent / "left_out.csv")
        assert list(left_out["scan"]) == ["sub-02_ses-01"]
        quality = pd.read_csv(mapped.parent / "regions.csv").set_index("scan")
        assert list(quality["status"]) == ["registered", "failed"]
        assert quality.loc["sub-01_ses-01", "distinctness"] > 0
        assert not (mapped.parent / "sub-02_ses-01_regions.nii.gz").exists()

    def test_keeps_a_map_that_is_there(self, mapped, cohort):
        rows = cells(mapped).set_index("subject_id")
        assert rows.loc["sub-03", "regions"] == "files/sub-03_ses-01_regions.nii.gz"
        assert rows.loc["sub-03", "regions_sha256"] == sha256_file(cohort.parent / "drawn.nii.gz")


class TestContinued:
    def test_finished_scans_are_kept(self, mapped, cohort, monkeypatch):
        def refuse(*_arguments, **_options):
            raise AssertionError("registered again")

        before = mapped.read_bytes()
        monkeypatch.setattr(scan_regions, "register_atlas", refuse)
        assert map_regions(cohort, mapped.parent, workers=1, progress=False) == mapped
        assert mapped.read_bytes() == before

    def test_other_settings_are_refused(self, mapped, cohort):
        with pytest.raises(InputError, match="holds region maps of other settings"):
            map_regions(cohort, mapped.parent, image="degraded", progress=False)


class TestOneImage:
    def test_of_noise_ends_with_the_reason(self, cohort, tmp_path):
        with pytest.raises(InputError, match="no map is left: the registration of all 1 failed"):
            map_regions(cohort.parent / "sub-02_target.nii.gz", tmp_path / "out", workers=1, progress=False)

    def test_a_manifest_without_a_scan_to_map_is_refused(self, cohort, tmp_path):
        folder = tmp_path / "all"
        folder.mkdir()
        for file in cohort.parent.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        for row in (2, 3, 4):
            edit(
                folder / "manifest.csv",
                row,
                regions="drawn.nii.gz",
                regions_sha256=sha256_file(folder / "drawn.nii.gz"),
            )
        with pytest.raises(InputError, match="has a region map for every scan"):
            map_regions(folder / "manifest.csv", tmp_path / "out", progress=False)

    def test_a_split_of_a_file_is_refused(self, cohort, tmp_path):
        with pytest.raises(InputError, match="a split is that of a manifest"):
            map_regions(cohort.parent / "drawn.nii.gz", tmp_path / "out", split="test", progress=False)


def test_what_is_told_of_a_file_that_cannot_be_used_holds_no_path(tmp_path):
    from medrestore.domains.amyloid_pet.regions.scan_regions import ScanFiles, map_scan

    damaged = tmp_path / "doe.nii"
    damaged.write_bytes(b"no NIfTI")
    _, record = map_scan(tmp_path, ScanFiles("sub-01", damaged, damaged))
    assert record["unusable"]
    assert record["failure"].startswith("cannot be read as NIfTI")
    assert "doe" not in record["failure"]
