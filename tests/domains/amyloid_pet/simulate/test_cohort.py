"""Cohorts on disk: planned as stated, whole, reproducible to the byte, continued after an interruption."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813

from medrestore import progress
from medrestore.checks import InputError
from medrestore.data.phantoms.anatomy import CohortGrid
from medrestore.data.phantoms.folder import SubjectFolder
from medrestore.domains.amyloid_pet.schema import CUT_OFF_SUVR, pair_schema
from medrestore.domains.amyloid_pet.simulate import cohort as cohort_module
from medrestore.domains.amyloid_pet.simulate.amyloid import composite_of_truth
from medrestore.domains.amyloid_pet.simulate.cohort import simulate_cohort
from medrestore.domains.amyloid_pet.simulate.design import DOSE_SERIES, CohortSize, SubjectGroup
from medrestore.domains.amyloid_pet.simulate.mr import MrSettings
from medrestore.domains.amyloid_pet.simulate.subject import AmyloidPlan, degraded_name
from medrestore.operators.pet_scan import ScanSettings

GRID = CohortGrid(shape=(48, 48, 25), voxel_size_mm=(5.2, 5.2, 6.0), origin_mm=(-122.0, -140.0, -68.0))
MR = MrSettings(
    grid=CohortGrid(shape=(48, 57, 38), voxel_size_mm=(4.0, 4.0, 4.0), origin_mm=(-94.0, -130.0, -70.0))
)
SETTINGS = ScanSettings(angles=40, subsets=8)
TINY = CohortSize(
    "tiny",
    (
        SubjectGroup("tiny", "train", negatives=1, positives=1),
        SubjectGroup("tiny", "validation", negatives=1, positives=1),
        SubjectGroup("tiny", "test", negatives=1, positives=1),
    ),
)


def simulate(output: Path, **changes: object) -> Path:
    options: dict[str, object] = {
        "size": TINY,
        "workers": 1,
        "progress": False,
        "settings": SETTINGS,
        "grid": GRID,
        "mr_settings": MR,
    }
    return simulate_cohort(output, **{**options, **changes})  # type: ignore[arg-type]


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("cohort") / "tiny").parent


class TestFiles:
    def test_manifest_has_no_fault(self, tiny):
        assert pair_schema().check(tiny / "manifest.csv") == []
        assert pair_schema().check(tiny / "dose_series.csv", require_splits=("test",)) == []
        table = pair_schema().read(tiny / "manifest.csv")
        assert len(table) == 6
        assert set(table["units"]) == {"SUV"}
        assert set(table["tracer"]) == {"florbetaben"}
        assert set(table["dose_fraction"]) == {0.01}

    def test_dose_series_is_of_the_test_subjects(self, tiny):
        manifest = pair_schema().read(tiny / "manifest.csv")
        series = pair_schema().read(tiny / "dose_series.csv")
        assert set(series["subject_id"]) == set(manifest.loc[manifest["split"] == "test", "subject_id"])
        for _, rows in series.groupby("subject_id"):
            assert sorted(rows["dose_fraction"]) == sorted(DOSE_SERIES)
            assert len(set(rows["target_sha256"])) == 1

    def test_truth_beside_the_images(self, tiny):
        participants = pd.read_csv(tiny / "participants.csv").set_index("subject_id")
        manifest = pair_schema().read(tiny / "manifest.csv").set_index("subject_id")
        for subject_id, row in participants.iterrows():
            folder = tiny / "subjects" / str(subject_id)
            activity = np.asarray(nibabel.load(folder / "truth_activity.nii.gz").dataobj)
            regions = np.asarray(nibabel.load(folder / "truth_regions.nii.gz").dataobj)
            assert regions.dtype == np.int16
            # Written with six decimals.
            assert composite_of_truth(activity, regions) == pytest.approx(row["truth_suvr"], abs=1e-5)
            assert row["amyloid_status"] == int(row["truth_suvr"] >= CUT_OFF_SUVR)
            assert row["amyloid_status"] == manifest.loc[subject_id, "amyloid_status"]
            assert row["split"] == manifest.loc[subject_id, "split"]
            mu = np.asarray(nibabel.load(folder / "mu_map.nii.gz").dataobj)
            assert mu.max() == pytest.approx(0.151)
            record = json.loads((folder / "subject.json").read_text())
            assert record["simulated"] is True
            assert record["sha256"]["target.nii.gz"] == manifest.loc[subject_id, "target_sha256"]
            sidecar = json.loads((folder / "degraded_dose-0.01.json").read_text())
            assert sidecar["simulated"] is True
            assert sidecar["dose_fraction"] == 0.01
            assert sidecar["reconstruction"]["subsets"] == 8

    def test_geometry_for_nibabel_and_simpleitk(self, tiny):
        path = tiny / "subjects" / "sub-0001" / "target.nii.gz"
        image = nibabel.load(path)
        np.testing.assert_allclose(image.affine, GRID.affine, atol=1e-5)  # float32 in the header
        assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (4, 4)
        assert image.header.get_xyzt_units()[0] == "mm"
        assert image.get_data_dtype() == np.float32
        assert nibabel.aff2axcodes(image.affine) == ("R", "A", "S")
        other = sitk.ReadImage(str(path))
        np.testing.assert_allclose(other.GetSpacing(), GRID.voxel_size_mm, atol=1e-5)
        # ITK's millimeters run to left and posterior.
        np.testing.assert_allclose(other.GetOrigin(), (122.0, 140.0, -68.0), atol=1e-4)

    def test_cohort_json_names_all_settings(self, tiny):
        content = json.loads((tiny / "cohort.json").read_text())
        assert content["simulated"] is True
        assert content["seed"] == 0
        assert content["scan"]["subsets"] == 8
        assert content["uptake"]["cut_off_suvr"] == 1.38
        assert "Bullich" in content["sources"][0]
        assert content["regions"]["cerebellum"] == 1

    def test_less_dose_more_noise(self, tiny):
        series = pair_schema().read(tiny / "dose_series.csv")
        subject = series["subject_id"].iloc[0]
        folder = tiny / "subjects" / subject
        target = np.asarray(nibabel.load(folder / "target.nii.gz").dataobj)
        doses = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5)
        images = [np.asarray(nibabel.load(folder / degraded_name(dose)).dataobj) for dose in doses]
        errors = [float(np.sqrt(np.mean((image - target) ** 2))) for image in images]
        assert errors == sorted(errors, reverse=True)
        # Thinned from the same counts: the difference has variance (1 - f) / f: 9.95 in SD from 1 % to 50 %.
        # At few counts the positivity of the reconstruction takes from it.
        assert 6 < errors[0] / errors[-1] < 12
        # Activity is kept: the total of 1 % of the events is good to a per mille, of the reconstruction to 3
        # %.
        assert images[0].sum() == pytest.approx(target.sum(), rel=0.03)


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    doses = (0.05, 0.01, 0.3)  # the dose of all again, and one that the series has not
    return simulate(tmp_path_factory.mktemp("cohort") / "several", training_doses=doses).parent


class TestSeveralTrainingDoses:
    def test_manifest_has_a_row_for_each_dose(self, several):
        assert pair_schema().check(several / "manifest.csv") == []
        table = pair_schema().read(several / "manifest.csv")
        everywhere = sorted({*DOSE_SERIES, 0.01, 0.05, 0.3})
        expected = {"train": [0.01, 0.05, 0.3], "validation": everywhere, "test": everywhere}
        for (_, split), rows in table.groupby(["subject_id", "split"]):
            assert sorted(rows["dose_fraction"]) == expected[split]
        series = pair_schema().read(several / "dose_series.csv")
        assert set(series["split"]) == {"test"}
        assert sorted(set(series["dose_fraction"])) == everywhere[1:]
        assert json.loads((several / "cohort.json").read_text())["training_doses"] == [0.05, 0.3]

    def test_what_one_dose_has_is_the_same_to_the_byte(self, several, tiny):
        assert "training_doses" not in json.loads((tiny / "cohort.json").read_text())
        own = {name: digest for name, digest in digests(tiny / "subjects").items() if ".nii" in name}
        assert own.items() <= digests(several / "subjects").items()


class TestMr:
    def test_manifest_names_t1_on_a_grid_of_its_own(self, tiny):
        table = pair_schema().read(tiny / "manifest.csv")
        for row in table.itertuples():
            image = nibabel.load(tiny / row.t1)
            np.testing.assert_allclose(image.affine, MR.grid.affine, atol=1e-5)  # float32 in the header
            assert image.get_data_dtype() == np.int16
            assert row.t1_sha256 == hashlib.sha256((tiny / row.t1).read_bytes()).hexdigest()
            record = json.loads((tiny / "subjects" / row.subject_id / "subject.json").read_text())
            assert len(record["motion"]["t1"]) == 6
            assert np.shape(record["pet_to_mr"]["t1"]) == (4, 4)
        participants = pd.read_csv(tiny / "participants.csv")
        assert participants["white_lesions"].between(0, 15).all()

    def test_pet_is_the_same_without_mr_and_departures(self, tiny, tmp_path):
        plain = digests(simulate(tmp_path / "plain", mr=()).parent)
        more = digests(simulate(tmp_path / "more", mr=("t1",), size=replace(TINY, departures=1)).parent)
        volumes = [name for name in plain if name.endswith(".nii.gz")]
        assert len(volumes) == 6 * 5 + 2 * len(DOSE_SERIES)  # truth of activity and regions, mu, target, 1 %
        for other in (more, digests(tiny)):
            assert {name: other[name] for name in volumes} == {name: plain[name] for name in volumes}
        assert not any("t1" in name or "lesions" in name for name in plain)

    def test_unknown_or_double_sequence_is_refused(self, tmp_path):
        with pytest.raises(InputError, match="mr must be of t1, flair, got 't2'"):
            simulate(tmp_path, mr=("t2",))
        with pytest.raises(InputError, match="mr must be different, got t1, t1"):
            simulate(tmp_path, mr=("t1", "t1"))


def test_departures_are_apart_with_their_truth(tmp_path):
    size = CohortSize("one", (SubjectGroup("one", "train", negatives=1, positives=0),), departures=2)
    manifest = simulate(tmp_path / "one", size=size)
    assert list(pair_schema().read(manifest)["subject_id"]) == ["sub-0001"]
    table = pair_schema().read(manifest.with_name("departures.csv"))
    assert list(table["group"]) == ["raised_focus", "lost_focus"]
    assert list(table["split"]) == ["test", "test"]
    participants = pd.read_csv(manifest.with_name("participants.csv"), keep_default_na=False)
    assert list(participants["departure"]) == ["", "raised_focus", "lost_focus"]
    for row, sign in zip(table.itertuples(), (1, -1), strict=True):
        difference = np.asarray(nibabel.load(manifest.parent / row.departure).dataobj)
        activity = np.asarray(
            nibabel.load(manifest.parent / row.target.replace("target", "truth_activity")).dataobj
        )
        assert difference.any()
        assert np.all(sign * difference >= 0)
        assert np.all(activity >= 0)


class TestReproducible:
    def test_same_seed_same_bytes(self, tiny, tmp_path):
        again = simulate(tmp_path / "again").parent
        assert digests(again) == digests(tiny)

    def test_other_seed_other_images(self, tiny, tmp_path):
        one = CohortSize("one", (SubjectGroup("tiny", "train", 1, 0),))
        first, second = (simulate(tmp_path / str(seed), size=one, seed=seed).parent for seed in (0, 1))
        name = "subjects/sub-0001/target.nii.gz"
        assert (first / name).read_bytes() != (second / name).read_bytes()

    def test_workers_do_not_matter(self, tiny, tmp_path):
        assert digests(simulate(tmp_path / "two", workers=2).parent) == digests(tiny)


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the subjects that are simulated from now on."""
    names: list[str] = []
    real = cohort_module.simulate_subject

    def counting(plan: AmyloidPlan, *args: Any, **options: Any) -> dict[str, Any]:
        names.append(plan.subject_id)
        return real(plan, *args, **options)

    monkeypatch.setattr(cohort_module, "simulate_subject", counting)
    return names


class TestInterrupted:
    def test_continues_and_keeps_what_is_finished(self, tiny, tmp_path, simulated, monkeypatch):
        folder = tmp_path / "cohort"
        counted = cohort_module.simulate_subject

        def dying(plan: AmyloidPlan, files: SubjectFolder, *args: Any, **options: Any) -> dict[str, Any]:
            if len(simulated) == 3:
                # What a kill leaves behind: some files, one of them partial, no record.
                (files.folder / "target.nii.gz").write_bytes(b"half")
                (files.folder / ".partial-7-mu_map.nii.gz").write_bytes(b"ha")
                raise KeyboardInterrupt
            return counted(plan, files, *args, **options)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(cohort_module, "simulate_subject", dying)
            simulate(folder)
        assert not (folder / "manifest.csv").exists()
        simulate(folder)
        assert sorted(simulated) == [f"sub-000{number}" for number in range(1, 7)]
        assert digests(folder) == digests(tiny)

    def test_damaged_subject_is_made_again(self, tiny, tmp_path, simulated):
        folder = tmp_path / "cohort"
        shutil.copytree(tiny, folder)
        (folder / "subjects" / "sub-0002" / "target.nii.gz").write_bytes(b"damaged")
        (folder / "subjects" / "sub-0004" / "subject.json").write_text("{")
        (folder / "subjects" / "sub-0005" / "mu_map.json").unlink()
        simulate(folder)
        assert simulated == ["sub-0002", "sub-0004", "sub-0005"]
        assert digests(folder) == digests(tiny)

    def test_finished_cohort_is_left_as_it_is(self, tiny, monkeypatch):
        monkeypatch.setattr(
            cohort_module, "load_template", lambda: pytest.fail("nothing is left to simulate")
        )
        before = digests(tiny)
        assert simulate(tiny) == tiny / "manifest.csv"
        assert digests(tiny) == before

    def test_progress_counts_the_finished_ones(self, tiny, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(progress, "LOG_INTERVAL_SECONDS", 0.0)  # a line at every step
        folder = tmp_path / "cohort"
        shutil.copytree(tiny, folder)
        (folder / "subjects" / "sub-0002" / "subject.json").unlink()
        simulate(folder, progress=True)
        shown = capsys.readouterr().err
        assert "5/6" in shown
        assert "6/6" in shown
        assert "sub-0002" in shown


def test_cohort_without_test_subjects(tmp_path):
    size = CohortSize("one", (SubjectGroup("one", "train", negatives=1, positives=0),))
    manifest = simulate(tmp_path / "one", size=size)
    assert len(pair_schema().read(manifest)) == 1
    assert pd.read_csv(manifest.with_name("dose_series.csv")).empty


class TestRefuses:
    def test_folder_with_other_things(self, tmp_path):
        (tmp_path / "thesis.tex").write_text("years of work")
        with pytest.raises(InputError, match="holds other files and no simulated cohort"):
            simulate(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]

    def test_cohort_of_other_settings(self, tiny):
        with pytest.raises(InputError, match=r"holds a cohort of other settings \(seed \d+ -> 1"):
            simulate(tiny, seed=1)
        with pytest.raises(InputError, match=r"\(dose_fraction 0.01 -> 0.02"):
            simulate(tiny, dose_fraction=0.02)
        with pytest.raises(InputError, match=r"\(scan.subsets 8 -> 4"):
            simulate(tiny, settings=ScanSettings(angles=40, subsets=4))

    def test_a_run_without_a_finished_subject_gives_way(self, tmp_path, monkeypatch):
        size = CohortSize("one", (SubjectGroup("one", "train", negatives=1, positives=0),))

        def stop(plan: object, files: SubjectFolder, *_: object, **__: object) -> None:
            (files.folder / "target.nii.gz").touch()
            raise InputError("the disk is full")

        with monkeypatch.context() as patch, pytest.raises(InputError, match="the disk is full"):
            patch.setattr(cohort_module, "simulate_subject", stop)
            simulate(tmp_path / "one")
        simulate(tmp_path / "one", size=size, seed=3)
        assert len(list((tmp_path / "one" / "subjects").iterdir())) == 1

    def test_damaged_description(self, tmp_path):
        (tmp_path / "cohort.json").write_text("{")
        with pytest.raises(InputError, match="is not readable JSON"):
            simulate(tmp_path)
        (tmp_path / "cohort.json").write_text("[]")
        with pytest.raises(InputError, match="holds a cohort of other settings"):
            simulate(tmp_path)

    def test_parameters(self, tmp_path):
        with pytest.raises(InputError, match=r"size must be one of .*'demo'.*, got 'huge'"):
            simulate(tmp_path, size="huge")
        for fraction in (0.0, 1.0):
            with pytest.raises(InputError, match="dose_fraction must be in"):
                simulate(tmp_path, dose_fraction=fraction)
        with pytest.raises(InputError, match="workers must be in"):
            simulate(tmp_path, workers=0)
        assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_noise_at_full_size_is_the_papers(tmp_path):
    size = CohortSize("some", (SubjectGroup("some", "test", negatives=3, positives=3),))
    manifest = simulate_cohort(tmp_path / "some", size=size, progress=False, workers=2)
    rows = pd.concat(
        [pair_schema().read(manifest), pair_schema().read(manifest.with_name("dose_series.csv"))]
    )
    psnr: dict[float, list[float]] = {}
    for row in rows.itertuples():
        degraded, target = (
            np.asarray(nibabel.load(path).dataobj) for path in (row.degraded_path, row.target_path)
        )
        noise = float(np.mean((degraded - target) ** 2, dtype=np.float64))
        psnr.setdefault(row.dose_fraction, []).append(10 * np.log10(float(target.max()) ** 2 / noise))
    # Task-GAN's Table 2 reports 22.41 dB at 1 %; the others are those of the feasibility run. Six subjects
    # differ by 1.5 dB (SD): a standard error of 0.6.
    for dose, expected in {0.01: 22.4, 0.02: 25.0, 0.05: 29.0, 0.1: 32.0, 0.25: 37.0}.items():
        assert np.mean(psnr[dose]) == pytest.approx(expected, abs=1.8)
