"""Blinded images: what is kept of a source, what is not, and what happens when a call is cut short."""

from __future__ import annotations

import shutil
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medrestore.checks import InputError
from medrestore.data.volumes import SourceGrid, write_volume
from medrestore.files import sha256_file
from medrestore.study.images import deface, package
from medrestore.study.images.blinding import FILE_TIME, read_picture
from medrestore.study.images.package import package_images
from medrestore.study.layout import KEY_COLUMNS
from medrestore.study.protocol import Protocol

SHAPE = (20, 24, 10)
LAS = np.array([[-2.0, 0.1, 0, 18], [0.1, 2.0, 0, -20], [0, 0, 3.0, 5], [0, 0, 0, 1]])
QUESTION = {"name": "quality", "text": "Quality", "type": "integer"}


def protocol(dimensions: int = 3) -> Protocol:
    entry = {"modality": "PET", "dimensions": dimensions, "questions": [QUESTION]}
    return Protocol.load(entry, where="test")


def head(level: float, *, noise: float = 0.02, seed: int = 0) -> np.ndarray:
    """Return a bright box in noise around 0: some voxels are negative."""
    volume = np.random.default_rng(seed).normal(0, noise, SHAPE)
    volume[4:16, 5:19, 2:8] += level
    return volume.astype(np.float32)


def write_source(path: Path, volume: np.ndarray, affine: np.ndarray = LAS) -> Path:
    """Write a volume (in the axes of its file)."""
    grid = SourceGrid.from_affine(volume.shape, affine)
    return write_volume(grid.to_canonical(volume), grid, path)


def table_of(files: dict[tuple[str, str], Path]) -> pd.DataFrame:
    """Return sources of (case, arm) -> path, with ids that do not sort as the arms do."""
    rows = []
    for number, ((case, arm), path) in enumerate(files.items()):
        name = f"{(number * 0x9E3779B97F4A7C15 + 0xD1B54A32D192ED03) % 2**64:016x}"
        rows.append(
            {
                "image_id": name,
                "phase": "reading",
                "case": case,
                "subject": case[:6],
                "arm": arm,
                "path": str(path),
            }
        )
    return pd.DataFrame(rows)


def run(sources: pd.DataFrame, folder: Path, dimensions: int = 3, **options: Any) -> pd.DataFrame:
    images, records = folder / "images", folder / "records"
    images.mkdir(parents=True, exist_ok=True)
    key, _ = package_images(
        sources, images, records=records, protocol=protocol(dimensions), progress=False, **options
    )
    return key


@pytest.fixture
def sources(tmp_path: Path) -> pd.DataFrame:
    """Two cases in two arms; the noisy arm holds the largest value."""
    files = {}
    for case, level in (("sub-01_ses-1", 2.0), ("sub-02_ses-1", 1.5)):
        for arm, noise in (("standard", 0.02), ("low_dose", 0.5)):
            path = tmp_path / "in" / arm / f"{case}.nii.gz"
            files[case, arm] = write_source(path, head(level, noise=noise, seed=len(files)))
    return table_of(files)


@pytest.fixture
def key(sources: pd.DataFrame, tmp_path: Path) -> pd.DataFrame:
    return run(sources, tmp_path / "study")


def image_of(key: pd.DataFrame, row: int, folder: Path) -> Path:
    return folder / "study" / "images" / f"{key['image_id'][row]}.nii"


class TestVoxels:
    def test_values_within_half_a_step(self, sources, key, tmp_path):
        for row, path in enumerate(sources["path"]):
            source = nibabel.as_closest_canonical(nibabel.load(path)).get_fdata()
            image = nibabel.load(image_of(key, row, tmp_path))
            slope = float(image.dataobj.slope)
            # Half a step, and float32's rounding of the largest value.
            assert np.abs(image.get_fdata() - source).max() <= 0.5 * slope + 3e-7
            assert source.min() < 0
            assert image.get_fdata().min() == pytest.approx(source.min(), abs=slope)

    def test_slope_by_hand(self, sources, key, tmp_path):
        for rows in ((0, 1), (2, 3)):
            peak = max(np.abs(nibabel.load(sources["path"][row]).get_fdata()).max() for row in rows)
            for row in rows:
                stored = nibabel.load(image_of(key, row, tmp_path)).dataobj
                assert stored.slope == pytest.approx(peak / 32767, rel=1e-6)
                assert stored.inter == 0

    def test_zero_stays_zero(self, tmp_path):
        volume = head(1.0)
        volume[:4] = 0
        key = run(table_of({("a", "x"): write_source(tmp_path / "a.nii", volume)}), tmp_path / "study")
        stored = nibabel.load(image_of(key, 0, tmp_path)).dataobj.get_unscaled()
        assert (stored[-4:] == 0).all()  # the file runs to the left, the image to the right

    def test_axes_run_to_right_front_top_and_places_stay(self, sources, key, tmp_path):
        source, image = nibabel.load(sources["path"][0]), nibabel.load(image_of(key, 0, tmp_path))
        assert nibabel.aff2axcodes(source.affine) == ("L", "A", "S")
        assert nibabel.aff2axcodes(image.affine) == ("R", "A", "S")
        voxel = np.array([3, 5, 7])
        place = source.affine @ [*voxel, 1]
        x, y, z = np.rint(np.linalg.solve(image.affine, place)[:3]).astype(int)
        np.testing.assert_allclose(image.affine @ [x, y, z, 1], place, atol=1e-4)
        assert image.get_fdata()[x, y, z] == pytest.approx(source.get_fdata()[3, 5, 7], abs=1e-3)

    @pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
    def test_scaled_whole_numbers(self, tmp_path, ending):
        image = nibabel.Nifti1Image(
            np.arange(4000, dtype=np.int16).reshape(20, 20, 10), np.diag([2, 2, 2, 1])
        )
        image.header.set_slope_inter(0.5, -10)
        image.set_sform(image.affine, 1)
        nibabel.save(image, tmp_path / f"a{ending}")
        key = run(table_of({("a", "x"): tmp_path / f"a{ending}"}), tmp_path / "study")
        found = nibabel.load(image_of(key, 0, tmp_path)).get_fdata()
        wanted = 0.5 * np.arange(4000).reshape(20, 20, 10) - 10
        assert np.abs(found - wanted).max() <= 0.5 * wanted.max() / 32767 + 1e-4


class TestHeader:
    def test_holds_grid_scale_and_window_alone(self, key, tmp_path):
        image = nibabel.load(image_of(key, 0, tmp_path))
        header = image.header
        wanted = nibabel.Nifti1Header(endianness="<")  # all fields at rest
        wanted.set_data_dtype(np.int16)
        wanted.set_data_shape(SHAPE)
        wanted.set_xyzt_units("mm")
        wanted["vox_offset"], wanted["magic"] = 352, b"n+1"
        same = set(wanted.keys()) - {
            *("pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
            *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
            *("scl_slope", "scl_inter", "cal_min", "cal_max"),
        }
        raw = image_of(key, 0, tmp_path).read_bytes()
        found = nibabel.Nifti1Header(raw[:348])
        for name in same:
            assert np.array_equal(found[name], wanted[name]), name
        for name in ("descrip", "aux_file", "intent_name", "db_name"):
            assert bytes(np.asarray(found[name])).strip(b"\0") == b"", name
        assert raw[348:352] == bytes(4)  # no extension
        assert (int(found["qform_code"]), int(found["sform_code"])) == (1, 1)
        np.testing.assert_allclose(header.get_qform(), header.get_sform(), atol=1e-4)
        assert (float(found["cal_min"]), float(found["cal_max"])) == (
            key["window_low"][0],
            key["window_high"][0],
        )

    def test_one_for_all_arms(self, key, tmp_path):
        content = [image_of(key, row, tmp_path).read_bytes() for row in range(4)]
        assert content[0][:352] == content[1][:352]
        assert content[2][:352] == content[3][:352]
        assert content[0][:352] != content[2][:352]
        assert {len(item) for item in content} == {352 + 2 * 20 * 24 * 10}

    def test_sheared_grid(self, tmp_path):
        affine = LAS.copy()
        affine[0, 1] = 0.8
        key = run(
            table_of({("a", "x"): write_source(tmp_path / "a.nii", head(1), affine)}), tmp_path / "study"
        )
        found = nibabel.load(image_of(key, 0, tmp_path))
        np.testing.assert_allclose(found.affine @ [19, 0, 0, 1], affine @ [0, 0, 0, 1], atol=1e-4)


class TestKey:
    def test_columns_and_checksums(self, sources, key, tmp_path):
        assert tuple(key.columns) == KEY_COLUMNS
        for name in ("image_id", "case", "subject", "arm"):
            assert list(key[name]) == list(sources[name])
        for row, path in enumerate(sources["path"]):
            image = image_of(key, row, tmp_path)
            assert key["source"][row] == path
            assert key["sha256_source"][row] == sha256_file(path)
            assert key["sha256_served"][row] == key["sha256_scrubbed"][row] == sha256_file(image)
            assert key["bytes"][row] == image.stat().st_size
        assert key.groupby("case")[["window_low", "window_high"]].nunique().eq(1).all(axis=None)

    def test_disk_that_returns_other_bytes(self, sources, tmp_path, monkeypatch):
        read = Path.read_bytes

        def read_bytes(path: Path) -> bytes:
            content = read(path)
            return content[:-1] + bytes([content[-1] ^ 1]) if path.parent.name == "images" else content

        monkeypatch.setattr(Path, "read_bytes", read_bytes)
        with pytest.raises(InputError, match="the disk gives back other bytes than were written"):
            run(sources, tmp_path / "study")
        assert len(list((tmp_path / "study" / "images").iterdir())) < 4  # what was found out is not left

    def test_times_are_equal(self, key, tmp_path):
        times = {image_of(key, row, tmp_path).stat().st_mtime for row in range(4)}
        assert times == {FILE_TIME}

    def test_one_file_in_two_arms(self, tmp_path):
        path = write_source(tmp_path / "a.nii", head(1))
        key = run(table_of({("a", "x"): path, ("a", "y"): path}), tmp_path / "study")
        assert key["image_id"].nunique() == 2
        assert key["sha256_served"][0] == key["sha256_served"][1]


class TestRefusals:
    def test_arms_on_different_grids(self, tmp_path):
        shifted = LAS.copy()
        shifted[0, 3] += 1.0
        files = {
            ("a", "x"): write_source(tmp_path / "first.nii", head(1)),
            ("a", "y"): write_source(tmp_path / "second.nii", head(1), shifted),
        }
        with pytest.raises(InputError, match=r"second.nii: is on another grid than .*first.nii: affine"):
            run(table_of(files), tmp_path / "study")
        files["a", "y"] = write_source(tmp_path / "third.nii", head(1)[:-1])
        with pytest.raises(InputError, match=r"third.nii: is on another grid than .*first.nii: shape"):
            run(table_of(files), tmp_path / "study")

    def test_voxels_that_are_not_finite(self, tmp_path):
        image = nibabel.Nifti1Image(np.full((4, 4, 4), np.nan, np.float32), np.eye(4))
        image.set_sform(np.eye(4), 1)
        nibabel.save(image, tmp_path / "a.nii")
        with pytest.raises(InputError, match=r"a.nii: 64 of 64 voxels are not finite"):
            run(table_of({("a", "x"): tmp_path / "a.nii"}), tmp_path / "study")

    def test_empty_images(self, tmp_path):
        path = write_source(tmp_path / "a.nii", np.zeros(SHAPE, np.float32))
        with pytest.raises(InputError, match=r"a.nii: no arm holds any signal"):
            run(table_of({("a", "x"): path}), tmp_path / "study")

    def test_one_arm_without_image(self, tmp_path):
        files = {
            ("a", "x"): write_source(tmp_path / "a.nii", head(1)),
            ("a", "y"): write_source(tmp_path / "zero.nii", np.zeros(SHAPE, np.float32)),
        }
        with pytest.raises(InputError, match=r"zero.nii: holds no image: all voxels are 0") as caught:
            run(table_of(files), tmp_path / "study")
        assert "a.nii" not in str(caught.value).replace("zero.nii", "")

    def test_a_voxel_far_above_all_others(self, tmp_path):
        volume = np.tile(head(1), (3, 3, 3))
        volume[0, 0, 0] = 1000
        path = write_source(tmp_path / "a.nii", volume)
        with pytest.raises(InputError, match=r"a.nii: the largest value, 1000, is more than 127 times"):
            run(table_of({("a", "x"): path}), tmp_path / "study")

    def test_missing_file(self, tmp_path):
        with pytest.raises(InputError, match=r"gone.nii: no such file"):
            run(table_of({("a", "x"): tmp_path / "gone.nii"}), tmp_path / "study")

    def test_all_bad_images_are_named_at_once(self, tmp_path):
        good = write_source(tmp_path / "good.nii", head(1))
        cut = tmp_path / "cut.nii"
        cut.write_bytes(good.read_bytes()[:-9])
        text = tmp_path / "text.nii"
        text.write_text("no image " * 99)
        cases = {("a", "x"): good, ("b", "x"): cut, ("b", "y"): tmp_path / "gone.nii", ("c", "x"): text}
        with pytest.raises(InputError) as refusal:
            run(table_of(cases), tmp_path / "study")
        first, *lines = str(refusal.value).splitlines()
        assert first == "2 of 3 cases could not be blinded, the others were:"
        for name in ("gone.nii: no such file", "text.nii: cannot be read as NIfTI"):
            assert sum(name in line for line in lines) == 1

    def test_source_that_changes_meanwhile(self, sources, tmp_path, monkeypatch):
        read = package.read_volume

        def slow_read(path: Path, **options: Any) -> Any:
            volume = read(path, **options)
            with Path(path).open("ab") as stream:
                stream.write(b"more")
            return volume

        monkeypatch.setattr(package, "read_volume", slow_read)
        with pytest.raises(InputError, match="changed while it was read"):
            run(sources, tmp_path / "study")

    def test_other_files_among_the_images(self, sources, tmp_path):
        (tmp_path / "study" / "images").mkdir(parents=True)
        (tmp_path / "study" / "images" / "notes.txt").write_text("patient")
        with pytest.raises(InputError, match=r"notes.txt: is no image of this study"):
            run(sources, tmp_path / "study")


class TestContinuing:
    def states(self, folder: Path) -> dict[str, tuple[int, int]]:
        """Return inode and change time: a file that is written again has others."""
        return {path.name: (path.stat().st_ino, path.stat().st_ctime_ns) for path in folder.iterdir()}

    def test_whole_images_are_kept(self, sources, key, tmp_path):
        images = tmp_path / "study" / "images"
        before = self.states(images)
        again = run(sources, tmp_path / "study")
        assert self.states(images) == before
        pd.testing.assert_frame_equal(again, key)

    @pytest.mark.parametrize("fault", ["truncated", "missing", "flipped bit"])
    def test_damaged_image_is_made_again(self, sources, key, tmp_path, fault):
        image = image_of(key, 0, tmp_path)
        content = bytearray(image.read_bytes())
        if fault == "missing":
            image.unlink()
        elif fault == "truncated":
            image.write_bytes(content[:500])
        else:
            content[4000] ^= 1
            image.write_bytes(content)
        others = self.states(image.parent)
        again = run(sources, tmp_path / "study")
        assert sha256_file(image) == key["sha256_served"][0]
        pd.testing.assert_frame_equal(again, key)
        for row in (2, 3):  # the other case
            name = image_of(key, row, tmp_path).name
            assert self.states(image.parent)[name] == others[name]

    def test_changed_source_is_read_again(self, sources, key, tmp_path):
        write_source(Path(sources["path"][0]), head(3.0, seed=9))
        again = run(sources, tmp_path / "study")
        assert again["sha256_source"][0] == sha256_file(sources["path"][0]) != key["sha256_source"][0]
        assert again["window_high"][1] > key["window_high"][1]  # common to both arms
        assert again["sha256_served"][0] == sha256_file(image_of(key, 0, tmp_path))

    def test_half_written_files_are_removed(self, sources, key, tmp_path):
        left = tmp_path / "study" / "images" / f".partial-1-{key['image_id'][0]}.nii"
        left.write_bytes(b"half")
        run(sources, tmp_path / "study")
        assert not left.exists()

    def test_records_of_another_list_are_not_used(self, sources, key, tmp_path):
        renamed = sources.assign(arm=sources["arm"].map({"standard": "low_dose", "low_dose": "standard"}))
        assert list(run(renamed, tmp_path / "study")["arm"]) == list(renamed["arm"])

    def test_workers_change_nothing(self, sources, key, tmp_path):
        pd.testing.assert_frame_equal(run(sources, tmp_path / "other", workers=2), key)


class TestFaces:
    def test_one_mask_for_all_arms(self, sources, tmp_path, monkeypatch):
        means = []

        def corner(image: np.ndarray, affine: np.ndarray) -> deface.Face:
            means.append(image.copy())
            mask = np.zeros(image.shape, dtype=bool)
            mask[:, 12:, :4] = True
            return deface.Face(mask, 0.8, 2.0)

        monkeypatch.setattr(deface, "face_mask", corner)
        images = tmp_path / "study" / "images"
        images.mkdir(parents=True)
        key, faces = package_images(
            sources, images, records=tmp_path / "records", protocol=protocol(), deface=True, progress=False
        )
        for row in range(4):
            data = nibabel.load(image_of(key, row, tmp_path)).get_fdata()
            assert np.all(data[:, 12:, :4] == 0)
            assert np.count_nonzero(data[:, :12, :4]) > 0.9 * data[:, :12, :4].size
        assert faces.to_dict("list") == {
            "case": ["sub-01_ses-1", "sub-02_ses-1"],
            "fit": [0.8] * 2,
            "margin": [2.0] * 2,
        }
        both = [
            nibabel.as_closest_canonical(nibabel.load(sources["path"][row])).get_fdata() for row in (0, 1)
        ]
        found = next(mean for mean in means if np.isclose(mean.mean(), np.mean(both), rtol=1e-4))
        np.testing.assert_allclose(found, (both[0] + both[1]) / 2, atol=1e-6)

    def test_failure_names_the_case(self, sources, tmp_path):
        with pytest.raises(InputError, match=r"case sub-0[12]_ses-1: no face could be found"):
            run(sources, tmp_path / "study", deface=True)


class TestPictures:
    def pictures(self, folder: Path, names: Sequence[str] = ("a.png", "b.tif")) -> pd.DataFrame:
        """Write pictures of 6 x 4 pixels, red at the top left, blue at the bottom right."""
        files = {}
        for number, name in enumerate(names):
            pixels = np.full((4, 6, 3), 100 + number, dtype=np.uint8)
            pixels[0, 0], pixels[-1, -1] = (255, 0, 0), (0, 0, 255)
            Image.fromarray(pixels).save(folder / name)
            files["case", f"arm{number}"] = folder / name
        return table_of(files)

    def test_rgb24(self, tmp_path):
        key = run(self.pictures(tmp_path), tmp_path / "study", dimensions=2)
        content = [image_of(key, row, tmp_path).read_bytes() for row in (0, 1)]
        assert content[0][:352] == content[1][:352]
        assert {len(item) for item in content} == {352 + 3 * 24}
        assert content[0][352:] != content[1][352:]
        image = nibabel.load(image_of(key, 0, tmp_path))
        assert (int(image.header["datatype"]), int(image.header["bitpix"])) == (128, 24)
        assert image.shape[:3] == (6, 4, 1)
        data = np.asarray(image.dataobj)
        # y runs to the top: a viewer that draws it upwards shows the picture upright.
        assert tuple(data[0, 3, 0]) == (255, 0, 0)
        assert tuple(data[5, 0, 0]) == (0, 0, 255)
        assert tuple(data[2, 2, 0]) == (100, 100, 100)
        assert (key["window_low"][0], key["window_high"][0]) == (0, 255)

    def test_other_size(self, tmp_path):
        sources = self.pictures(tmp_path)
        Image.fromarray(np.zeros((4, 7, 3), dtype=np.uint8)).save(tmp_path / "b.tif")
        with pytest.raises(InputError, match=r"b.tif: has 7 x 4 pixels, .*a.png has 6 x 4"):
            run(sources, tmp_path / "study", dimensions=2)

    @pytest.mark.parametrize(
        ("mode", "message"),
        [
            ("RGBA", "has an alpha channel"),
            ("LA", "has an alpha channel"),
            ("L", "has pixels of type L"),
            ("P", "has pixels of type P"),
            ("I;16", "has pixels of type I;16"),
        ],
    )
    def test_refuses_what_is_not_rgb(self, tmp_path, mode, message):
        Image.new(mode, (6, 4)).save(tmp_path / "a.png")
        with pytest.raises(InputError, match=f"a.png: {message}"):
            read_picture(tmp_path / "a.png")

    def test_refuses_transparent_color(self, tmp_path):
        Image.new("RGB", (6, 4)).save(tmp_path / "a.png", transparency=(0, 0, 0))
        with pytest.raises(InputError, match=r"a.png: has an alpha channel"):
            read_picture(tmp_path / "a.png")

    def test_refuses_pages_and_turned_pictures(self, tmp_path):
        page = Image.new("RGB", (6, 4))
        page.save(tmp_path / "pages.tif", save_all=True, append_images=[page])
        with pytest.raises(InputError, match=r"pages.tif: has several pages"):
            read_picture(tmp_path / "pages.tif")
        exif = Image.Exif()
        exif[0x0112] = 6
        page.save(tmp_path / "turned.png", exif=exif)
        with pytest.raises(InputError, match=r"turned.png: is stored turned"):
            read_picture(tmp_path / "turned.png")

    def test_refuses_damage_and_other_formats(self, tmp_path):
        Image.effect_noise((64, 64), 50).convert("RGB").save(tmp_path / "a.png")
        content = (tmp_path / "a.png").read_bytes()
        (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
        Image.new("RGB", (6, 4)).save(tmp_path / "photo.jpg")
        shutil.move(tmp_path / "photo.jpg", tmp_path / "photo.png")
        for name in ("cut.png", "photo.png"):
            with pytest.raises(InputError, match=f"{name}: cannot be read as PNG or TIFF"):
                read_picture(tmp_path / name)

    def test_real_slides(self, shared_data, tmp_path):
        path = sorted(shared_data("histology/tcga_glioma_512").glob("*.png"))[0]
        key = run(table_of({("a", "x"): path}), tmp_path / "study", dimensions=2)
        data = np.asarray(nibabel.load(image_of(key, 0, tmp_path)).dataobj)
        with Image.open(path) as image:
            wanted = np.asarray(image)
        upright = np.stack([data[channel] for channel in "RGB"], axis=-1)[:, ::-1, 0].transpose(1, 0, 2)
        assert np.array_equal(upright, wanted)


def test_memory_is_that_of_one_case(tmp_path):
    """Twice the cases need no more memory: the arrays of a case are gone when the next one begins."""
    peaks = []
    for count in (2, 4):
        files = {
            (f"case{number}", arm): write_source(tmp_path / f"{number}{arm}.nii", np.tile(head(1), (3, 3, 3)))
            for number in range(count)
            for arm in ("x", "y")
        }
        tracemalloc.start()
        run(table_of(files), tmp_path / f"study{count}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    one_case = 2 * 27 * np.prod(SHAPE) * 4
    # Two more cases whose arrays were kept would take twice this; the first run makes things that stay.
    assert peaks[1] - peaks[0] < one_case
    assert peaks[1] < 4 * one_case
