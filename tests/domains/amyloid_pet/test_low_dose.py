"""Low-dose pairs from standard-dose volumes: on the source's grid, in its units, differing in dose only."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from manifest import cells

from medrestore.checks import InputError
from medrestore.data.tables import Problem
from medrestore.domains.amyloid_pet import low_dose
from medrestore.domains.amyloid_pet.low_dose import head_mask, simulate_low_dose
from medrestore.domains.amyloid_pet.schema import pair_schema
from medrestore.files import write_json
from medrestore.operators.pet_scan import ScanSettings

SETTINGS = ScanSettings(angles=40, subsets=8)


def head(
    shape: tuple[int, int, int], size_mm: tuple[float, float, float], level: float = 8000.0
) -> np.ndarray:
    """An ellipsoid head, 140 x 180 mm across and open below, with a hotter brain, off the volume's center."""
    x, y, z = (
        (np.arange(count) - (count - 1) / 2) * size for count, size in zip(shape, size_mm, strict=True)
    )
    x, y, z = np.meshgrid(x - 6, y + 8, z + 30, indexing="ij")
    radius = np.sqrt((x / 70) ** 2 + (y / 90) ** 2 + (z / 100) ** 2)
    return np.where(radius < 1, 2400.0, 0.0) + np.where(radius < 0.8, 5600.0, 0.0)


def write(
    path: Path,
    data: np.ndarray,
    size_mm: tuple[float, float, float] = (4.0, 4.0, 4.0),
    orientation: str = "RAS",
    units: str | None = "BQML",
) -> Path:
    affine = np.diag([*size_mm, 1.0])
    affine[:3, 3] = (-90, -100, -40)
    image = nibabel.Nifti1Image(data.astype(np.float32), affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    turned = image.as_reoriented(
        nibabel.orientations.ornt_transform(
            nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(orientation)
        )
    )
    nibabel.save(turned, path)
    if units:
        path.with_name(path.name.split(".")[0] + ".json").write_text(json.dumps({"Units": units}))
    return path


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scan")
    return write(folder / "scan.nii.gz", head((52, 60, 24), (4.0, 4.0, 4.0)))


def simulate(image: Path, output: Path, **changes: object) -> Path:
    options: dict[str, object] = {"settings": SETTINGS, "dose_fractions": (0.05,), "standard_counts": 3e7}
    return simulate_low_dose(image, output=output, **{**options, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(scan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("pair") / "pair"
    return simulate(scan, output, dose_fractions=(0.25, 0.05), amyloid_status=1).parent


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


class TestPair:
    def test_grid_and_units_are_the_sources(self, scan, folder):
        source = nibabel.load(scan)
        for name in ("target", "degraded_dose-0.25", "degraded_dose-0.05"):
            image = nibabel.load(folder / "scan" / f"{name}.nii.gz")
            assert image.shape == source.shape
            np.testing.assert_array_equal(image.affine, source.affine)
            for field in ("qform_code", "sform_code", "xyzt_units"):
                assert image.header[field] == source.header[field]
            # Total activity: kept to 2 % by a reconstruction that starts uniform and has run 16 updates.
            assert np.asarray(image.dataobj).sum() == pytest.approx(voxels(scan).sum(), rel=0.02)

    def test_both_arms_are_reconstructed_alike(self, scan, folder):
        source = voxels(scan)
        target, quarter = (
            voxels(folder / "scan/target.nii.gz"),
            voxels(folder / "scan/degraded_dose-0.25.nii.gz"),
        )
        low = voxels(folder / "scan/degraded_dose-0.05.nii.gz")
        # The edge is blurred in the target as in the low dose: nearer to each other than to the source.
        edge = (source > 0) & (source < 4000)
        assert np.abs((quarter - target)[edge].mean()) < 0.2 * np.abs((target - source)[edge]).mean()
        # Noise of the difference goes with sqrt((1 - f) / f): 1.73 and 4.36.
        inside = source > 4000
        ratio = (low - target)[inside].std() / (quarter - target)[inside].std()
        assert ratio == pytest.approx(4.36 / 1.73, rel=0.15)

    def test_manifest(self, folder):
        table = pair_schema().read(folder / "manifest.csv")
        assert list(table["dose_fraction"]) == [0.05, 0.25]
        assert set(table["subject_id"]) == {"scan"}
        assert set(table["units"]) == {"BQML"}
        assert set(table["amyloid_status"]) == {1}
        assert pair_schema().check(folder / "manifest.csv", require_splits=("test",)) == []

    def test_sidecars_say_simulated(self, folder):
        for name, dose in (("target", 1.0), ("degraded_dose-0.05", 0.05)):
            sidecar = json.loads((folder / "scan" / f"{name}.json").read_text())
            assert sidecar["simulated"] is True
            assert sidecar["dose_fraction"] == dose
            assert "scan.nii.gz" not in json.dumps(sidecar)  # the source is named by its checksum alone
            assert sidecar["recorded_counts"] == pytest.approx(3e7, rel=1e-3)  # Poisson: 5 SD are 9e-4
            assert sidecar["attenuation"] == "0.096 1/cm in segmented head"

    def test_same_seed_same_bytes(self, scan, folder, tmp_path):
        again = simulate(scan, tmp_path / "a", dose_fractions=(0.25, 0.05), amyloid_status=1).parent
        other = simulate(scan, tmp_path / "b", dose_fractions=(0.25, 0.05), seed=1).parent
        name = Path("scan/degraded_dose-0.05.nii.gz")
        assert (again / name).read_bytes() == (folder / name).read_bytes()
        assert (again / "manifest.csv").read_bytes() == (folder / "manifest.csv").read_bytes()
        assert (other / name).read_bytes() != (folder / name).read_bytes()


@pytest.mark.parametrize("orientation", ["LAS", "LPI", "PSR"])
def test_other_orientations_give_the_same_scan(scan, tmp_path, orientation):
    turned = write(tmp_path / "scan.nii.gz", voxels(scan), orientation=orientation)
    first = simulate(scan, tmp_path / "first").parent / "scan"
    second = simulate(turned, tmp_path / "second").parent / "scan"
    for name in ("target.nii.gz", "degraded_dose-0.05.nii.gz"):
        image = nibabel.load(second / name)
        np.testing.assert_allclose(image.affine, nibabel.load(turned).affine, atol=1e-4)
        assert nibabel.aff2axcodes(image.affine) == tuple(orientation)
        canonical = nibabel.as_closest_canonical(image)
        np.testing.assert_array_equal(np.asarray(canonical.dataobj), voxels(first / name))


def test_pixels_that_are_not_square(tmp_path):
    size = (3.0, 4.5, 5.0)
    source = head((64, 52, 20), size)
    path = write(tmp_path / "wide.nii.gz", source, size)
    folder = simulate(path, tmp_path / "out", dose_fractions=(0.5,)).parent / "wide"
    target = nibabel.load(folder / "target.nii.gz")
    assert target.shape == source.shape
    np.testing.assert_allclose(target.affine, nibabel.load(path).affine)
    found = np.asarray(target.dataobj)
    assert found.sum() == pytest.approx(source.sum(), rel=0.03)
    # The center of mass stays, to a tenth of a voxel: resampling and windowing shift nothing.
    for axis in range(3):
        position = np.arange(source.shape[axis]).reshape([-1 if a == axis else 1 for a in range(3)])
        before, after = ((position * image).sum() / image.sum() for image in (source, found))
        assert after == pytest.approx(before, abs=0.1)


def test_head_that_leaves_the_volume_in_plane(tmp_path):
    source = head((52, 60, 20), (4.0, 4.0, 4.0))[14:, 10:-10]
    path = write(tmp_path / "cropped.nii.gz", source)
    target = voxels(simulate(path, tmp_path / "out").parent / "cropped" / "target.nii.gz")
    assert target.shape == source.shape
    assert target.sum() == pytest.approx(source.sum(), rel=0.05)  # at the cut, the blur carries some outside


def test_activity_outside_the_head_is_left_out(tmp_path):
    source = head((80, 80, 16), (4.0, 4.0, 4.0))
    source[0, 0] = 500.0
    path = write(tmp_path / "corner.nii.gz", source)
    target = voxels(simulate(path, tmp_path / "out").parent / "corner" / "target.nii.gz")
    assert target[0, 0].max() == 0


class TestAttenuation:
    def test_map_changes_the_noise_and_not_the_mean(self, scan, tmp_path):
        source = voxels(scan)
        means, noise = {}, {}
        middle = np.zeros(source.shape, dtype=bool)
        middle[22:32, 22:34, 4:16] = True
        for name, mu in (("thin", 0.02), ("dense", 0.30)):
            image = write(tmp_path / f"mu_{name}.nii.gz", np.where(source > 0, mu, 0.0), units=None)
            subject = simulate(scan, tmp_path / name, mu_map=image).parent / "scan"
            low = voxels(subject / "degraded_dose-0.05.nii.gz")
            means[name] = low[source > 4000].mean()
            noise[name] = (low - voxels(subject / "target.nii.gz"))[middle].std()
            assert json.loads((subject / "target.json").read_text())["attenuation"] == "map"
        assert means["thin"] == pytest.approx(means["dense"], rel=0.03)
        # With the same number of events, dense tissue leaves fewer of them from the middle of the head.
        assert noise["dense"] > 1.2 * noise["thin"]

    def test_map_on_another_grid(self, scan, tmp_path):
        other = write(tmp_path / "mu.nii.gz", np.full((50, 60, 24), 0.096))
        with pytest.raises(InputError, match=r"mu\.nii\.gz: is not on the image's grid: shape"):
            simulate(scan, tmp_path / "out", mu_map=other)

    @pytest.mark.parametrize("value", [96.0, 0.0096, -0.096])
    def test_map_in_other_units(self, scan, tmp_path, value):
        wrong = write(tmp_path / "mu.nii.gz", np.full(voxels(scan).shape, value))
        with pytest.raises(InputError, match="expected 1/cm at 511 keV"):
            simulate(scan, tmp_path / "out", mu_map=wrong)
        assert not (tmp_path / "out").exists()


class TestHeadMask:
    def test_covers_the_head_and_its_hollows(self):
        size = (4.0, 4.0, 4.0)
        source = head((52, 60, 24), size)
        hollow = source.copy()
        hollow[20:30, 24:36, 6:14] = 0.0
        speck = hollow.astype(np.float32)
        speck[1:4, 1:4, 20:22] = 4000.0
        found = head_mask(speck, voxel_size_mm=size)
        truth = source > 0
        overlap = 2 * np.count_nonzero(found & truth) / (np.count_nonzero(found) + np.count_nonzero(truth))
        # The smoothed edge at a tenth of the brain lies a voxel outside the head: 7 % of its size.
        assert overlap > 0.9
        assert not np.any(truth & ~found)
        assert not found[1:4, 1:4].any()

    def test_nothing_to_find(self):
        with pytest.raises(InputError, match="no positive signal to find a head in"):
            head_mask(np.zeros((8, 8, 8), dtype=np.float32), voxel_size_mm=(4.0, 4.0, 4.0))


class TestFolder:
    def test_more_subjects_share_a_manifest(self, scan, tmp_path):
        output = tmp_path / "site"
        simulate(scan, output, subject_id="b", amyloid_status=0, split="train")
        first = (output / "b" / "target.nii.gz").read_bytes()
        simulate(
            scan, output, subject_id="a", amyloid_status=1, tracer="florbetapir", dose_fractions=(0.02, 0.5)
        )
        table = pd.read_csv(output / "manifest.csv")
        assert list(table["subject_id"]) == ["a", "a", "b"]
        assert list(table["dose_fraction"]) == [0.02, 0.5, 0.05]
        assert list(table["tracer"]) == ["florbetapir", "florbetapir", "unknown"]
        assert (output / "b" / "target.nii.gz").read_bytes() == first

    def test_again_with_the_same_settings(self, scan, tmp_path):
        manifest = simulate(scan, tmp_path / "out")
        before = manifest.read_bytes()
        assert simulate(scan, tmp_path / "out").read_bytes() == before

    def test_other_settings_are_refused(self, scan, tmp_path):
        simulate(scan, tmp_path / "out")
        with pytest.raises(InputError, match=r"holds subject scan from other settings \(seed 0 -> 1\)"):
            simulate(scan, tmp_path / "out", seed=1)

    def test_a_refused_call_is_mended(self, scan, tmp_path):
        output = tmp_path / "out"
        with pytest.raises(InputError, match="counts"):
            simulate(scan, output, dose_fractions=(1e-9,), standard_counts=1e6)
        assert not output.exists()
        simulate(scan, output)
        with pytest.raises(InputError, match="counts"):
            simulate(scan, output, subject_id="b", dose_fractions=(1e-9,), standard_counts=1e6)
        simulate(scan, output, subject_id="b")
        assert set(pd.read_csv(output / "manifest.csv")["subject_id"]) == {"scan", "b"}

    def test_a_call_that_failed_on_its_way_gives_way(self, scan, tmp_path, monkeypatch):
        output = tmp_path / "out"

        def full(*_: object, **__: object) -> None:
            raise InputError("the disk is full")

        with monkeypatch.context() as patch, pytest.raises(InputError, match="the disk is full"):
            patch.setattr(
                low_dose,
                "write_json",
                lambda path, content: full() if "scan/" in str(path) else write_json(path, content),
            )
            simulate(scan, output)
        assert not list(output.rglob("*.*"))
        # Killed between its images.
        simulate(scan, output)
        (output / "scan" / "target.nii.gz").unlink()
        (output / "manifest.csv").unlink()
        simulate(scan, output, seed=1, dose_fractions=(0.1,))
        assert {path.name for path in (output / "scan").glob("*.nii.gz")} == {
            "target.nii.gz",
            "degraded_dose-0.1.nii.gz",
        }

    def test_other_things_are_refused(self, scan, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(InputError, match="holds other files and no low-dose simulation"):
            simulate(scan, tmp_path)

    def test_damaged_description(self, scan, tmp_path):
        (tmp_path / "low_dose.json").write_text("{")
        with pytest.raises(InputError, match=r"low_dose\.json: is no JSON"):
            simulate(scan, tmp_path)

    def test_label_left_open_is_reported_for_training_and_fine_for_a_test_scan(self, scan, tmp_path):
        test = simulate(scan, tmp_path / "test")
        assert pair_schema().check(test, require_splits=("test",)) == []
        train = simulate(scan, tmp_path / "train", split="train")
        problems = [str(problem) for problem in pair_schema().check(train, require_splits=("train",))]
        assert any("amyloid_status" in problem and "empty" in problem for problem in problems)


class TestEditedManifest:
    """What people and spreadsheets do to the manifest before the next subject is added."""

    @pytest.fixture
    def site(self, scan: Path, tmp_path: Path) -> Path:
        return simulate(scan, tmp_path / "site", subject_id="007", split="train")

    def test_what_a_spreadsheet_rewrites_is_understood(self, scan, site):
        text = site.read_text().replace(",0.05,", ",5.00E-02,").replace("\n", ",,\r\n")
        site.write_bytes(b"\xef\xbb\xbf" + (text + ",,,,,,,,,,,,,,\r\n").encode())
        simulate(scan, site.parent, subject_id="b", split="test", amyloid_status=1)
        table = cells(site)
        assert table["subject_id"].tolist() == ["007", "b"]
        assert "Unnamed: 13" not in table
        assert pair_schema().check(site, require_splits=("test",)) == [
            Problem(2, "amyloid_status", "is empty")  # left open, to be filled in
        ]

    def test_margins_make_no_other_subject(self, scan, site):
        simulate(scan, site.parent, subject_id=" 007\u00a0", split="train")
        assert cells(site)["subject_id"].tolist() == ["007"]
        assert {path.name for path in site.parent.iterdir() if path.is_dir()} == {"007"}

    def test_columns_and_labels_of_the_users_stay(self, scan, site):
        table = cells(site).assign(site="Bern", amyloid_status="1.0")
        table.to_csv(site, index=False)
        simulate(scan, site.parent, subject_id="b")
        simulate(scan, site.parent, subject_id="007", split="train")  # as before: the label is still theirs
        table = cells(site)
        assert table["site"].tolist() == ["Bern", ""]
        assert table["amyloid_status"].tolist() == ["1.0", ""]

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            (",", ";", "is separated by semicolons, expected commas"),
            ("split", "Split", r"row 1 split: no such column; did you mean 'Split'\?"),
            ("split", "units", "has two columns 'units'"),
            ("\n007,", "\n7,", "'007' and '7' of row 2 look like one subject"),
            ("\n007,", "\n7.0,", "'007' and '7.0' of row 2 look like one subject"),
            (",0.05,", ',"0,05",', "row 2 dose_fraction: '0,05' is no number: write it with a decimal point"),
            (",train,", ",train,,", "row 2 dose_fraction: is empty"),
            (",train,", ',"train,', "a quotation mark is not closed"),
        ],
    )
    def test_nothing_is_simulated_before_the_table_is_whole(self, scan, site, old, new, message):
        site.write_text(site.read_text().replace(old, new))
        before = sorted(site.parent.rglob("*")), site.read_bytes()
        marker = (site.parent / "low_dose.json").read_bytes()
        with pytest.raises(InputError, match=message):
            simulate(scan, site.parent, subject_id="b" if "007" not in old else "007", split="train")
        assert (sorted(site.parent.rglob("*")), site.read_bytes()) == before
        assert (site.parent / "low_dose.json").read_bytes() == marker

    def test_a_manifest_that_cannot_be_written_is_told_first(self, scan, site, monkeypatch):
        monkeypatch.setattr("os.access", lambda path, mode: Path(path) != site)
        with pytest.raises(InputError, match=r"manifest\.csv: cannot be written"):
            simulate(scan, site.parent, subject_id="b")
        assert not (site.parent / "b").exists()


class TestInput:
    def test_units_of_a_sidecar_with_a_byte_order_mark(self, scan, tmp_path):
        path = write(tmp_path / "marked.nii", voxels(scan), units=None)
        (tmp_path / "marked.json").write_bytes(b'\xef\xbb\xbf{"Units": " BQML"}')
        assert pd.read_csv(simulate(path, tmp_path / "out"))["units"].tolist() == ["BQML"]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("{", "is no JSON"),
            ("[]", "is no JSON object"),
            ('{"Units": 3}', "Units must be text like 'BQML', got 3"),
            ('{"Units": "SUV", "Units": "BQML"}', "has the key 'Units' twice"),
        ],
    )
    def test_sidecar_that_cannot_be_read(self, scan, tmp_path, content, message):
        path = write(tmp_path / "bad.nii", voxels(scan), units=None)
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(InputError, match=rf"bad\.json: {message}"):
            simulate(path, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_units(self, scan, tmp_path):
        bare = write(tmp_path / "bare.nii", voxels(scan), units=None)
        assert pd.read_csv(simulate(bare, tmp_path / "a"))["units"].tolist() == ["unknown"]
        assert pd.read_csv(simulate(bare, tmp_path / "b", units="SUV"))["units"].tolist() == ["SUV"]

    def test_negative_voxels_are_counted(self, scan, tmp_path):
        data = voxels(scan).copy()
        data[0, 0, :5] = -3.0
        path = write(tmp_path / "negative.nii.gz", data)
        folder = simulate(path, tmp_path / "out").parent / "negative"
        assert json.loads((folder / "target.json").read_text())["negative_voxels_taken_as_zero"] == 5
        assert voxels(folder / "target.nii.gz").min() >= 0

    def test_default_counts_go_with_the_axial_coverage(self, scan, tmp_path):
        folder = simulate(scan, tmp_path / "out", standard_counts=None).parent / "scan"
        # 24 slices of 4 mm at 1.5 million events a mm.
        recorded = json.loads((folder / "target.json").read_text())["recorded_counts"]
        assert recorded == pytest.approx(24 * 4 * 1.5e6, rel=1e-3)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"dose_fractions": ()}, "dose_fractions must name at least one dose"),
            ({"dose_fractions": (0.1, 0.1)}, "dose_fractions must differ from each other"),
            ({"dose_fractions": (1.0,)}, r"dose_fraction must be in \(0.0, 1.0\), got 1.0"),
            ({"dose_fractions": (0.0,)}, "dose_fraction must be in"),
            ({"standard_counts": 10.0}, "standard_counts must be in"),
            ({"split": "training"}, "split must be one of 'train', 'validation', 'test'"),
            ({"amyloid_status": 2}, "amyloid_status must be one of"),
            ({"subject_id": "../elsewhere"}, "subject_id must be usable as a folder name"),
            ({"session_id": "05/03/2021"}, r"session_id must be usable .*it holds '/'"),
            ({"session_id": ""}, "session_id must be usable as a folder name: it is empty"),
            ({"tracer": " "}, "tracer must not be empty"),
        ],
    )
    def test_parameters(self, scan, tmp_path, changes, message):
        with pytest.raises(InputError, match=message):
            simulate(scan, tmp_path / "out", **changes)
        assert not (tmp_path / "out").exists()

    def test_files(self, scan, tmp_path):
        with pytest.raises(InputError, match="no such file"):
            simulate(tmp_path / "absent.nii.gz", tmp_path / "out")
        with pytest.raises(InputError, match="no such file"):
            simulate(scan, tmp_path / "out", mu_map=tmp_path / "absent.nii.gz")
        frames = tmp_path / "frames.nii"
        nibabel.save(nibabel.Nifti1Image(np.ones((8, 8, 8, 3), dtype=np.float32), np.eye(4)), frames)
        with pytest.raises(InputError, match="expected 3"):
            simulate(frames, tmp_path / "out")
        empty = write(tmp_path / "empty.nii", np.zeros((16, 16, 8)))
        with pytest.raises(InputError, match="no positive signal"):
            simulate(empty, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_real_florbetapir(shared_data, tmp_path):
    source = shared_data("pet/florbetapir_a.nii.gz")
    manifest = simulate_low_dose(source, output=tmp_path / "out", dose_fractions=(0.01, 0.25))
    table = pd.read_csv(manifest, keep_default_na=False)
    assert set(table["units"]) == {"BQML"}
    images = {name: voxels(manifest.parent / name) for name in (*table["degraded"], table["target"].iloc[0])}
    target = images[table["target"].iloc[0]]
    real = nibabel.load(source)
    np.testing.assert_array_equal(nibabel.load(manifest.parent / table["target"].iloc[0]).affine, real.affine)
    # Activity is kept to 1 %; the target is the source blurred once more: they agree closely, not fully.
    assert target.sum() == pytest.approx(np.asarray(real.dataobj).sum(), rel=0.01)
    assert 0.9 < np.corrcoef(target.ravel(), np.asarray(real.dataobj).ravel())[0, 1] < 0.999
    low, quarter = (np.sqrt(np.mean((images[name] - target) ** 2)) for name in table["degraded"])
    # sqrt((1 - f) / f): 9.95 and 1.73, a ratio of 5.7; positivity takes from the lower dose.
    assert 4 < low / quarter < 6.5
