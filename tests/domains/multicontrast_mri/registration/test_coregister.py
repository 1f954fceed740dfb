"""Co-registration of a cohort: contrasts on their inputs' grids, failures by name, runs continued."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from manifest import cells, write_manifest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from medrestore.checks import InputError
from medrestore.data.volumes import SourceGrid, grid_difference, read_volume, write_volume
from medrestore.domains.multicontrast_mri.acquisition.acquisition import make_acquisition
from medrestore.domains.multicontrast_mri.registration.coregister import coregister_manifest
from medrestore.domains.multicontrast_mri.schema import contrast_schema

CONTRASTS = ("t1w", "t2w")
SHAPE = (48, 56, 16)
AFFINE = np.diag([-4.0, 4.0, 6.0, 1.0])
AFFINE[:3, 3] = (94, -110, -45)
SHIFT_MM = (3.0, -2.5, 2.0)
TWO_IN = make_acquisition(component="any", channels=2)


def scan(levels: tuple[float, ...], *, head: int = 0, motion: np.ndarray | None = None) -> np.ndarray:
    """A head of ellipsoids as a function of place, in stored axes; its parts as bright as ``levels``."""
    random = np.random.default_rng(head)
    index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1).astype(np.float64)
    values = np.zeros(SHAPE)
    for slice_part in (-0.25, 0.25):
        places = (index + np.array([0, 0, slice_part])) @ AFFINE[:3, :3].T + AFFINE[:3, 3]
        if motion is not None:
            places = (places - motion[:3, 3]) @ motion[:3, :3]
        parts = np.random.default_rng(head)
        for number in range(20):
            center = parts.uniform((-40, -60, -30), (40, 50, 35)) * (number > 0)
            size = parts.uniform(8, 20, 3) if number else np.array([74.0, 92.0, 80.0])
            level = levels[0] if number == 0 else levels[1 + number % (len(levels) - 1)]
            radius = np.sqrt((((places - center) / size) ** 2).sum(axis=-1))
            values += level / 2 / (1 + np.exp(np.clip((radius - 1) * size.min() / 2, -40, 40)))
    return np.abs(100 * values + random.standard_normal(SHAPE)).astype(np.float32)


INPUT, SECOND = (0.9, 0.4, -0.3, 0.2, -0.5), (0.7, -0.2, 0.5, -0.4, 0.1)
LEVELS = {"t1w": (0.8, -0.4, 0.3, 0.3, -0.2), "t2w": (0.5, 0.5, 0.2, -0.3, 0.6)}


def motion() -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", (1.0, -2.0, 3.0), degrees=True).as_matrix()
    matrix[:3, 3] = SHIFT_MM
    return matrix


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write three subjects of two input files each; the second lacks its t1w and has lesions."""
    folder = tmp_path_factory.mktemp("raw") / "cohort"
    grid = SourceGrid.from_affine(SHAPE, AFFINE)
    rows = []
    for number, split in enumerate(("train", "validation", "test"), start=1):
        place = f"subjects/sub-{number:04}"
        images = {"flash.nii.gz": scan(INPUT, head=number), "late.nii.gz": scan(SECOND, head=number)}
        images |= {
            f"{name}.nii.gz": scan(levels, head=number, motion=motion()) for name, levels in LEVELS.items()
        }
        images |= {"lesions.nii.gz": (np.indices(SHAPE)[0] == 20).astype(np.float32)}
        for name, data in images.items():
            write_volume(grid.to_canonical(data), grid, folder / place / name)
        rows.append(
            {
                "subject_id": f"sub-{number:04}",
                "session_id": "ses-01",
                "split": split,
                "group": "patient",
                "input": f"{place}/flash.nii.gz;{place}/late.nii.gz",
                "t1w": "" if number == 2 else f"{place}/t1w.nii.gz",
                "t2w": f"{place}/t2w.nii.gz",
                "lesions": f"{place}/lesions.nii.gz" if number == 2 else "",
                "scanner": "B",
            }
        )
    return write_manifest(contrast_schema(CONTRASTS), rows, folder)


def coregister(manifest: Path, output: Path, **changes: object) -> Path:
    options: dict[str, object] = {"contrasts": CONTRASTS, "acquisition": TWO_IN, "workers": 1}
    return coregister_manifest(manifest, output, progress=False, **{**options, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def done(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return coregister(raw, tmp_path_factory.mktemp("done") / "cohort")


@pytest.fixture
def copy(raw: Path, tmp_path: Path) -> Path:
    """Return a copy of the raw cohort that a test may damage."""
    shutil.copytree(raw.parent, tmp_path / "raw")
    return tmp_path / "raw" / "manifest.csv"


def change(manifest: Path, place: str, data: np.ndarray | bytes) -> None:
    """Put other content in place of an image, and its checksum in the manifest."""
    path = manifest.parent / place
    if isinstance(data, bytes):
        path.write_bytes(data)
    else:
        grid = SourceGrid.from_affine(SHAPE, AFFINE)
        write_volume(grid.to_canonical(data), grid, path)
    write_manifest(contrast_schema(CONTRASTS), cells(manifest), manifest.parent)


def noise() -> np.ndarray:
    return np.abs(np.random.default_rng(9).normal(size=SHAPE)).astype(np.float32)


class TestCohort:
    def test_contrasts_lie_on_their_inputs(self, done):
        for number in (1, 2, 3):
            place = done.parent / "subjects" / f"sub-{number:04}_ses-01"
            grid, result = read_volume(place / "input_00.nii.gz"), read_volume(place / "t2w.nii.gz")
            assert grid_difference(grid, result) == ""
            assert result.source.affine == pytest.approx(grid.source.affine)
            truth = result.source.to_canonical(scan(LEVELS["t2w"], head=number))
            inner = ndimage.binary_erosion(truth > 20, iterations=3)
            off = np.abs(result.data - truth)[inner].mean()
            moved = result.source.to_canonical(scan(LEVELS["t2w"], head=number, motion=motion()))
            # What is left: noise of 1 in both, edges of 60 off by a fraction of a voxel.
            assert off < 0.4 * np.abs(moved - truth)[inner].mean()

    def test_manifest_is_whole_and_keeps_what_it_held(self, raw, done):
        assert contrast_schema(CONTRASTS, acquisition=TWO_IN).check(done) == []
        before, after = (contrast_schema(CONTRASTS).read(path) for path in (raw, done))
        kept = ["subject_id", "session_id", "split", "group", "scanner", "input_sha256", "lesions_sha256"]
        pd.testing.assert_frame_equal(before[kept], after[kept])
        assert after["t1w"].tolist() == [
            "subjects/sub-0001_ses-01/t1w.nii.gz",
            "",
            "subjects/sub-0003_ses-01/t1w.nii.gz",
        ]

    def test_quality_of_each_registration(self, done):
        quality = pd.read_csv(done.parent / "registration.csv")
        assert list(zip(quality["subject_id"], quality["contrast"], strict=True)) == [
            ("sub-0001", "t1w"),
            ("sub-0001", "t2w"),
            ("sub-0002", "t2w"),
            ("sub-0003", "t1w"),
            ("sub-0003", "t2w"),
        ]
        assert set(quality["status"]) == {"registered"}
        assert (quality["information_after"] > quality["information_before"]).all()
        # A quarter of a voxel of 4 mm about the shift, which the rotation adds to far from the middle.
        assert quality["displacement_mean_mm"].between(np.linalg.norm(SHIFT_MM) - 1, 6).all()
        assert (quality["rotation_deg"] - 3.7).abs().max() < 1
        assert quality["outside"].between(0, 0.2).all()
        assert pd.read_csv(done.parent / "left_out.csv").empty

    def test_a_picture_of_each_subject(self, done):
        from PIL import Image

        for number, rows in ((1, 2), (2, 1)):
            path = done.parent / "subjects" / f"sub-{number:04}_ses-01" / "registration.png"
            with Image.open(path) as picture:
                pixels = np.asarray(picture.convert("RGB")).astype(int)
            assert pixels.shape[0] > 150 * rows
            yellow = (pixels[..., 0] > 240) & (pixels[..., 1] > 180) & (pixels[..., 2] < 40)
            assert yellow.sum() > 500 * rows

    def test_input_and_lesions_are_the_same_files(self, raw, done):
        place, origin = done.parent / "subjects/sub-0002_ses-01", raw.parent / "subjects/sub-0002"
        assert (place / "input_01.nii.gz").samefile(origin / "late.nii.gz")
        assert (place / "lesions.nii.gz").samefile(origin / "lesions.nii.gz")

    def test_copied_where_there_are_no_links(self, raw, done, tmp_path, monkeypatch):
        def refuse(*_: object) -> None:
            raise OSError("no links here")

        monkeypatch.setattr("os.link", refuse)
        made = coregister(raw, tmp_path / "copied")
        path = made.parent / "subjects/sub-0002_ses-01/lesions.nii.gz"
        assert not path.samefile(raw.parent / "subjects/sub-0002/lesions.nii.gz")
        assert made.read_bytes() == done.read_bytes()

    @pytest.mark.slow
    def test_the_same_bytes_from_any_number_of_processes(self, raw, done, tmp_path):
        other = coregister(raw, tmp_path / "two", workers=2)
        for name in ("manifest.csv", "registration.csv"):
            assert (other.parent / name).read_bytes() == (done.parent / name).read_bytes()

    def test_of_an_mdme_acquisition_with_its_sidecar(self, make_cohort, acquisition, contrasts, tmp_path):
        """Subjects of noise in an ellipsoid: none can be registered, and each is told by name."""
        with pytest.raises(InputError, match="no subject is left: the registration of all 8 failed"):
            coregister(make_cohort(), tmp_path / "out", contrasts=contrasts, acquisition=acquisition)
        left_out = pd.read_csv(tmp_path / "out" / "left_out.csv")
        assert left_out["subject_id"].nunique() == 8
        assert not (tmp_path / "out" / "manifest.csv").exists()


class TestFailure:
    def test_a_subject_is_left_out_by_name_and_the_others_go_on(self, copy, tmp_path, caplog):
        change(copy, "subjects/sub-0003/t1w.nii.gz", noise())
        with caplog.at_level(logging.WARNING):
            made = coregister(copy, tmp_path / "out")
        table = contrast_schema(CONTRASTS).read(made)
        assert table["subject_id"].tolist() == ["sub-0001", "sub-0002"]
        left_out = pd.read_csv(made.parent / "left_out.csv")
        assert left_out[["subject_id", "contrast"]].to_numpy().tolist() == [["sub-0003", "t1w"]]
        assert "shows something else" in left_out["reason"].item()
        assert "sub-0003_ses-01 is left out: t1w" in caplog.text
        quality = pd.read_csv(made.parent / "registration.csv")
        assert quality.loc[quality["status"] == "failed", "subject_id"].tolist() == ["sub-0003"]
        place = made.parent / "subjects/sub-0003_ses-01"
        assert (place / "registration.png").exists()
        assert not (place / "t2w.nii.gz").exists()

    @pytest.mark.parametrize(
        ("place", "column", "message"),
        [
            ("subjects/sub-0001/t2w.nii.gz", "t2w", "subjects/sub-0001/t2w.nii.gz: is truncated or damaged"),
            ("subjects/sub-0001/late.nii.gz", "input", "subjects/sub-0001/late.nii.gz: is truncated"),
        ],
    )
    def test_a_damaged_file_is_named(self, copy, tmp_path, place, column, message):
        content = (copy.parent / place).read_bytes()
        change(copy, place, content[: len(content) // 2])
        told = f"1 of 3 subjects could not be used, the others were:\n  sub-0001_ses-01: {column}: {message}"
        with pytest.raises(InputError, match=told):
            coregister(copy, tmp_path / "out", contrasts=["t2w"])
        left_out = pd.read_csv(tmp_path / "out" / "left_out.csv")
        assert left_out[["subject_id", "contrast"]].to_numpy().tolist() == [["sub-0001", column]]
        assert left_out["reason"].item().startswith(message)
        table = contrast_schema(["t2w"]).read(tmp_path / "out" / "manifest.csv")
        assert table["subject_id"].tolist() == ["sub-0002", "sub-0003"]
        change(copy, place, content)
        made = coregister(copy, tmp_path / "out", contrasts=["t2w"])
        assert len(contrast_schema(["t2w"]).read(made)) == 3

    def test_another_content_than_the_manifest_says_is_not_taken_over(self, copy, tmp_path):
        (copy.parent / "subjects/sub-0001/t2w.nii.gz").write_bytes(
            (copy.parent / "subjects/sub-0003/t2w.nii.gz").read_bytes()
        )
        with pytest.raises(InputError, match=r"sub-0001_ses-01: t2w: has checksum .* the manifest says"):
            coregister(copy, tmp_path / "out", contrasts=["t2w"])
        assert pd.read_csv(tmp_path / "out" / "left_out.csv")["subject_id"].tolist() == ["sub-0001"]

    def test_an_image_without_orientation_is_not_guessed_at(self, copy, tmp_path):
        path = copy.parent / "subjects/sub-0001/t2w.nii.gz"
        volume = read_volume(path)
        header = {**volume.source.header, "qform_code": np.array(0), "sform_code": np.array(0)}
        write_volume(volume.data, replace(volume.source, header=header), path)
        change(copy, "subjects/sub-0001/t2w.nii.gz", path.read_bytes())
        with pytest.raises(InputError, match=r"t2w.nii.gz: states no orientation"):
            coregister(copy, tmp_path / "out", contrasts=["t2w"])
        assert pd.read_csv(tmp_path / "out" / "left_out.csv")["subject_id"].tolist() == ["sub-0001"]

    def test_missing_files_are_all_named_before_anything_is_done(self, copy, tmp_path):
        (copy.parent / "subjects/sub-0001/t2w.nii.gz").unlink()
        (copy.parent / "subjects/sub-0003/late.nii.gz").unlink()
        with pytest.raises(InputError, match=r"2 problems\n.*row 2 t2w: t2w.*no such.*\n.*row 4 input: late"):
            coregister(copy, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_no_subject_left_is_an_error(self, copy, tmp_path):
        for number in (1, 2, 3):
            change(copy, f"subjects/sub-{number:04}/t2w.nii.gz", noise() + number)
        with pytest.raises(InputError, match="no subject is left: the registration of all 3 failed"):
            coregister(copy, tmp_path / "out", contrasts=["t2w"])
        assert len(pd.read_csv(tmp_path / "out" / "left_out.csv")) == 3

    def test_names_that_are_no_folders_are_refused(self, copy, tmp_path):
        copy.write_text(copy.read_text().replace("sub-0003,ses-01", "../x,ses-01"))
        with pytest.raises(
            InputError, match=r"row 4 subject_id: '\.\./x' can be no part of a file name: it holds '/'"
        ):
            coregister(copy, tmp_path / "out")

    def test_two_subjects_of_one_folder_are_refused(self, copy, tmp_path):
        text = copy.read_text().replace("sub-0002,ses-01", "sub,a_b").replace("sub-0003,ses-01", "sub_a,b")
        copy.write_text(text)
        with pytest.raises(InputError, match=r"row 4 subject_id: .* the same name as in row 3: sub_a_b"):
            coregister(copy, tmp_path / "out")


class TestContinued:
    def stamps(self, folder: Path) -> dict[str, int]:
        files = folder.glob("subjects/*/*")
        return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in files}

    def test_only_what_is_not_whole_or_has_changed(self, copy, tmp_path):
        made = coregister(copy, tmp_path / "out")
        first = self.stamps(made.parent)
        content = made.read_bytes()
        damaged = made.parent / "subjects/sub-0001_ses-01/t2w.nii.gz"
        damaged.write_bytes(damaged.read_bytes()[:-9])
        assert coregister(copy, tmp_path / "out").read_bytes() == content
        second = self.stamps(made.parent)
        redone = {name.split("/")[1] for name in first if first[name] != second[name]}
        assert redone == {"sub-0001_ses-01"}
        change(copy, "subjects/sub-0003/t1w.nii.gz", noise())
        coregister(copy, tmp_path / "out")
        third = self.stamps(made.parent)
        redone = {name.split("/")[1] for name in second if second[name] != third.get(name)}
        assert redone == {"sub-0003_ses-01"}
        assert pd.read_csv(made.parent / "left_out.csv")["subject_id"].tolist() == ["sub-0003"]

    def test_other_settings_are_refused(self, raw, done):
        with pytest.raises(InputError, match="holds a co-registration of other settings"):
            coregister(raw, done.parent, most_mm=5.0)

    def test_a_run_of_which_nothing_came_gives_way(self, copy, tmp_path):
        table = cells(copy).iloc[:1]
        contrast_schema(CONTRASTS).write(table, copy)
        with pytest.raises(InputError, match="no subject is left"):
            coregister(copy, tmp_path / "out", most_mm=1e-6)
        assert (tmp_path / "out" / "left_out.csv").exists()
        made = coregister(copy, tmp_path / "out")
        with pytest.raises(
            InputError, match=r"holds a co-registration of other settings \(most_mm .* -> 5.0"
        ):
            coregister(copy, made.parent, most_mm=5.0)

    def test_a_folder_of_other_things_is_refused(self, raw, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(InputError, match="holds other files and no co-registration"):
            coregister(raw, tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.slow
def test_real_contrasts_of_one_patient(shared_data, tmp_path):
    """T1 with contrast medium in, and T1 without that was moved out."""
    folder = tmp_path / "raw"
    away = np.eye(4)
    away[:3, 3] = SHIFT_MM
    for name, shift in (("t1c", np.eye(4)), ("t1", away)):
        volume = read_volume(shared_data(f"mri/tcga_du_7294_{name}.nii.gz"))
        grid = SourceGrid.from_affine(volume.source.shape, shift @ volume.source.affine)
        write_volume(volume.data, grid, folder / f"{name}.nii.gz")
    row = {"subject_id": "7294", "session_id": "01", "split": "test", "group": "patient", "lesions": ""}
    row |= {"input": "t1c.nii.gz", "t1w": "t1.nii.gz"}
    raw = write_manifest(contrast_schema(["t1w"]), [row], folder)
    one = make_acquisition(component="any", channels=1)
    made = coregister(raw, tmp_path / "out", contrasts=["t1w"], acquisition=one)
    record = json.loads((made.parent / "subjects/7294_01/registration.json").read_text())
    assert record["failures"] == {}
    found = record["registrations"]["t1w"]
    # Half a voxel of 1 mm: so well do the files agree that other software has brought together.
    assert found["displacement_mean_mm"] == pytest.approx(np.linalg.norm(SHIFT_MM), abs=0.5)
    assert found["rotation_deg"] < 0.5
    result = read_volume(made.parent / "subjects/7294_01/t1w.nii.gz")
    assert grid_difference(result, read_volume(folder / "t1c.nii.gz")) == ""
