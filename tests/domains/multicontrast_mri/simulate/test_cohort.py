"""MRI cohorts on disk: as planned, whole, reproducible to the byte; their folder is that of any cohort."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813

from medrestore.checks import InputError
from medrestore.domains.multicontrast_mri.schema import contrast_schema
from medrestore.domains.multicontrast_mri.simulate.cohort import simulate_mdme_cohort
from medrestore.domains.multicontrast_mri.simulate.design import MriCohortSize, MriSubjectGroup
from medrestore.domains.multicontrast_mri.simulate.session import MriSettings
from medrestore.operators.mdme import MdmeProtocol
from medrestore.operators.mr_sequences import CONTRASTS

NAMES = tuple(CONTRASTS)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def load(folder: Path, name: str) -> np.ndarray:
    return np.asarray(nibabel.load(folder / name).dataobj)


class TestFiles:
    def test_manifest_has_no_fault(self, tiny_mri_cohort):
        assert contrast_schema(NAMES).check(tiny_mri_cohort / "manifest.csv", workers=1) == []
        table = contrast_schema(NAMES).read(tiny_mri_cohort / "manifest.csv")
        columns = ["subject_id", "session_id", "split", "group", "input", *NAMES, "lesions"]
        columns += [f"{name}_sha256" for name in ("input", *NAMES, "lesions")]
        assert list(pd.read_csv(tiny_mri_cohort / "manifest.csv").columns) == columns
        counts = table.groupby(["split", "group"]).size().to_dict()
        assert counts == {
            ("train", "patient"): 1,
            ("train", "control"): 1,
            ("validation", "patient"): 1,
            ("test", "patient"): 1,
            ("test", "control"): 1,
        }

    def test_sidecar_of_the_acquisition(self, tiny_mri_cohort):
        folder = tiny_mri_cohort / "subjects" / "sub-0001"
        image = nibabel.load(folder / "mdme.nii.gz")
        assert image.shape == (48, 56, 8, 8)
        assert image.get_data_dtype() == np.complex64
        sidecar = json.loads((folder / "mdme.json").read_text())
        protocol = MdmeProtocol()
        assert sidecar["SaturationDelay"] == [delay / 1000 for delay, _ in protocol.channels]
        assert sidecar["EchoTime"] == [echo / 1000 for _, echo in protocol.channels]
        assert sidecar["RepetitionTime"] == protocol.tr_ms / 1000
        assert (sidecar["SaturationFlipAngle"], sidecar["FlipAngle"]) == (120.0, 90.0)
        assert sidecar["ComplexComponent"] == "complex"
        assert sidecar["simulated"] is True
        flair = json.loads((folder / "t2_flair.json").read_text())
        assert flair["EchoTime"] == CONTRASTS["t2_flair"].te_ms / 1000
        assert flair["InversionTime"] == pytest.approx(2.5, abs=0.2)  # nulls fluid at a TR of 9 s
        assert "InversionTime" not in json.loads((folder / "t2w.json").read_text())

    def test_geometry_for_nibabel_and_simpleitk(self, tiny_mri_cohort, tiny_size):
        folder = tiny_mri_cohort / "subjects" / "sub-0001"
        for name in ("mdme", *NAMES, "lesions", "truth_t1", "truth_t2", "truth_pd", "truth_tissue"):
            image = nibabel.load(folder / f"{name}.nii.gz")
            assert image.shape[:3] == tiny_size.grid.shape
            np.testing.assert_allclose(
                image.affine, tiny_size.grid.affine, atol=1e-5
            )  # float32 in the header
            assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (4, 4)
            assert image.header.get_xyzt_units()[0] == "mm"
        other = sitk.ReadImage(str(folder / "mdme.nii.gz"))
        np.testing.assert_allclose(other.GetSpacing()[:3], tiny_size.grid.voxel_size_mm, atol=1e-5)
        # ITK's millimeters run to left and posterior.
        np.testing.assert_allclose(other.GetOrigin()[:3], (94.0, 127.0, -30.0), atol=1e-4)

    def test_lesions_of_patients_alone(self, tiny_mri_cohort):
        participants = pd.read_csv(tiny_mri_cohort / "participants.csv").set_index("subject_id")
        for subject_id, row in participants.iterrows():
            folder = tiny_mri_cohort / "subjects" / str(subject_id)
            mask = load(folder, "lesions.nii.gz")
            assert mask.dtype == np.uint8
            assert set(np.unique(mask)) <= {0, 1}
            assert int(mask.sum()) == row["lesion_voxels"]
            record = json.loads((folder / "subject.json").read_text())
            drawn = len(record["drawn_lesions"])
            assert drawn == row["lesions_plaque"] + row["lesions_black_hole"] + row["lesions_oedema"]
            if row["group"] == "control":
                assert not mask.any()
                assert drawn == 0
                assert row["lesion_volume_ml"] == 0
            else:
                assert drawn >= 5
                assert row["lesion_volume_ml"] > 0
                # Where lesions fill two fifths, little but white matter is left beside them.
                tissue = load(folder, "truth_tissue.nii.gz")
                assert np.isin(tissue[mask > 0], (1, 8, 9, 10)).mean() > 0.9

    def test_truth_maps(self, tiny_mri_cohort):
        folder = tiny_mri_cohort / "subjects" / "sub-0001"
        t1, t2, pd_map = (load(folder, f"truth_{name}.nii.gz") for name in ("t1", "t2", "pd"))
        tissue = load(folder, "truth_tissue.nii.gz")
        assert tissue.dtype == np.int16
        assert t1[0, 0, 0] == t2[0, 0, 0] == pd_map[0, 0, 0] == 0
        assert pd_map.max() <= 1
        medians = [np.median(t1[tissue == code]) for code in (1, 2, 4)]  # white, gray, fluid
        assert medians == sorted(medians)
        assert 800 < medians[0] < 1100
        assert t2[tissue == 1].min() > 0

    def test_cohort_json_names_all_settings(self, tiny_mri_cohort):
        content = json.loads((tiny_mri_cohort / "cohort.json").read_text())
        assert content["simulated"] is True
        assert content["seed"] == 0
        assert content["session"]["protocol"]["saturation_delays_ms"] == list(
            MdmeProtocol().saturation_delays_ms
        )
        assert list(content["contrasts"]) == sorted(NAMES)
        assert content["tissues"]["fat"]["mean"]["t1_ms"] == 382.0
        assert any("Wansapura" in source for source in content["sources"])

    def test_contrasts_are_of_a_head_that_moved_a_little(self, tiny_mri_cohort):
        record = json.loads((tiny_mri_cohort / "subjects" / "sub-0001" / "subject.json").read_text())
        motion = np.array([record["motion"][name] for name in NAMES])
        assert motion.shape == (6, 6)
        assert np.abs(motion).max() < 4
        assert np.abs(motion).min() > 0


class TestReproducible:
    def test_workers_do_not_matter(self, tiny_mri_cohort, tiny_size, tmp_path):
        again = simulate_mdme_cohort(tmp_path / "two", size=tiny_size, workers=2, progress=False).parent
        assert digests(again) == digests(tiny_mri_cohort)

    def test_other_seed_other_images(self, tiny_size, tmp_path):
        one = MriCohortSize("one", (MriSubjectGroup("train", patients=0, controls=1),), tiny_size.grid)
        name = "subjects/sub-0001/t1w.nii.gz"
        first, second = (
            simulate_mdme_cohort(tmp_path / str(seed), size=one, seed=seed, workers=1, progress=False).parent
            for seed in (0, 1)
        )
        assert (first / name).read_bytes() != (second / name).read_bytes()


class TestRefuses:
    def test_cohort_of_other_settings(self, tiny_mri_cohort, tiny_size):
        with pytest.raises(InputError, match=r"holds a cohort of other settings \(seed \d+ -> 1"):
            simulate_mdme_cohort(tiny_mri_cohort, size=tiny_size, seed=1)
        with pytest.raises(InputError, match=r"\(session.mdme_snr .* -> 30.0"):
            simulate_mdme_cohort(tiny_mri_cohort, size=tiny_size, settings=MriSettings(mdme_snr=30.0))
        with pytest.raises(InputError, match=r"\(size\.name .* -> demo"):
            simulate_mdme_cohort(tiny_mri_cohort, size="demo")

    def test_parameters(self, tmp_path):
        with pytest.raises(InputError, match=r"size must be one of .*'demo'.*, got 'huge'"):
            simulate_mdme_cohort(tmp_path, size="huge")
        assert not any(tmp_path.iterdir())
