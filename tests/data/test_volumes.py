"""Reading and writing volumes, against nibabel and SimpleITK."""

from __future__ import annotations

import errno
import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medrestore.checks import InputError
from medrestore.data.volumes import (
    SourceGrid,
    Volume,
    grid_difference,
    nifti_stem,
    read_grid,
    read_volume,
    write_volume,
)

SHAPE = (4, 5, 6)


def oblique(degrees: float = 20.0) -> np.ndarray:
    """Rotated about x, then z, with voxels of 1.5 x 2 x 3 mm: no axis along the scanner's."""
    a, b = np.radians([degrees, 10.0])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ np.diag([1.5, 2.0, 3.0])
    affine[:3, 3] = (-40, 12, 7)
    return affine


def axes_affine(orientation: str) -> np.ndarray:
    """Axes i, j, k run to the sides that the letters name, in voxels of 1.5, 2 and 3 mm."""
    affine = np.zeros((4, 4))
    for axis, (letter, size) in enumerate(zip(orientation, (1.5, 2.0, 3.0), strict=True)):
        world = next(index for index, pair in enumerate(("LR", "PA", "IS")) if letter in pair)
        affine[world, axis] = size if letter in "RAS" else -size
    affine[:, 3] = (-40, 12, 7, 1)
    return affine


AFFINES = {
    "RAS": axes_affine("RAS"),
    "LAS": axes_affine("LAS"),
    "PSR": axes_affine("PSR"),
    "LPI": axes_affine("LPI"),
    "oblique": oblique(),
    "oblique LAS": oblique() @ np.diag([-1.0, 1.0, 1.0, 1.0]),
}


def save(path: Path, data: Any, affine: np.ndarray | None = None, **header: Any) -> Path:
    """Write a file by nibabel alone, with fields of the header set as given."""
    kind = nibabel.Nifti2Image if header.pop("nifti2", False) else nibabel.Nifti1Image
    image = kind(np.asarray(data), np.eye(4) if affine is None else affine)
    codes = header.pop("codes", (1, 1))
    image.set_qform(image.affine, codes[0])
    image.set_sform(image.affine, codes[1])
    units = header.pop("units", "mm")
    image.header.set_xyzt_units(units)
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def ramp(shape: tuple[int, ...] = SHAPE, dtype: Any = np.float32) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


# ---------------------------------------------------------------- reading
@pytest.mark.parametrize("name", AFFINES)
def test_volume_is_canonical_float32(tmp_path, name):
    path = save(tmp_path / "a.nii.gz", ramp(dtype=np.int16), AFFINES[name])
    volume = read_volume(path)
    expected = nibabel.as_closest_canonical(nibabel.load(path))
    np.testing.assert_array_equal(volume.data, expected.get_fdata())
    np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-12)  # the same float64 operations
    assert volume.data.dtype == np.float32
    assert volume.data.flags.c_contiguous
    assert type(volume.data) is np.ndarray
    assert volume.source.dtype == "int16"
    # Voxel sizes of the rotation from float32 quaternions: relative 1e-7 of up to 3 mm, times a few
    # operations.
    np.testing.assert_allclose(volume.voxel_size_mm, nibabel.affines.voxel_sizes(expected.affine), rtol=1e-6)


def test_slope_and_intercept_are_applied(tmp_path):
    stored = ramp(dtype=np.int16)
    image = nibabel.Nifti1Image(stored, np.eye(4))
    image.header.set_slope_inter(0.5, -3.0)
    nibabel.save(image, tmp_path / "a.nii")
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[352:] = stored.tobytes(order="F")  # nibabel scales on saving: put the integers back
    (tmp_path / "a.nii").write_bytes(raw)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii").data, stored * np.float32(0.5) - 3)


@pytest.mark.parametrize(
    ("unit", "factor"), [("meter", 1000.0), ("micron", 0.001), ("mm", 1.0), ("unknown", 1.0)]
)
def test_lengths_are_millimeters_whatever_the_file_counts_in(tmp_path, unit, factor):
    path = save(tmp_path / "a.nii", ramp(), np.diag([2.0, 2.0, 4.0, 1.0]) / [1, 1, 1, 1], units=unit)
    assert read_volume(path).voxel_size_mm == (2.0 * factor, 2.0 * factor, 4.0 * factor)


def test_fourth_axis_of_length_one_is_dropped_and_written_back(tmp_path):
    path = save(tmp_path / "a.nii", ramp((*SHAPE, 1)), AFFINES["PSR"])
    volume = read_volume(path)
    assert volume.data.ndim == 3
    write_volume(volume.data, volume.source, tmp_path / "b.nii")
    assert nibabel.load(tmp_path / "b.nii").shape == (*SHAPE, 1)
    np.testing.assert_array_equal(nibabel.load(tmp_path / "b.nii").get_fdata(), ramp((*SHAPE, 1)))


def test_missing_orientation_warns(tmp_path):
    path = save(tmp_path / "a.nii", ramp(), codes=(0, 0))
    with pytest.warns(UserWarning, match="a.nii: states no orientation"):
        read_volume(path)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 6, 2), (4, 5, 6, 1, 2)])
def test_other_than_three_dimensions_are_refused(tmp_path, shape):
    path = save(tmp_path / "a.nii", ramp(shape))
    with pytest.raises(InputError, match=rf"a.nii: has {len(shape)} dimensions .*, expected 3. Remedy"):
        read_volume(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite_are_refused_and_counted(tmp_path, bad):
    data = ramp()
    data[1, 2, 3] = data[0, 0, 0] = bad
    path = save(tmp_path / "a.nii", data)
    with pytest.raises(InputError, match=r"a.nii: 2 of 120 voxels are not finite"):
        read_volume(path)
    assert np.count_nonzero(~np.isfinite(read_volume(path, finite=False).data)) == 2


def test_values_beyond_float32_are_not_finite(tmp_path):
    path = save(tmp_path / "a.nii", np.full(SHAPE, 1e300))
    with pytest.raises(InputError, match="120 of 120 voxels are not finite"):
        read_volume(path)


def test_complex_and_color_voxels_are_refused(tmp_path):
    path = save(tmp_path / "a.nii", ramp().astype(np.complex64))
    with pytest.raises(InputError, match="voxels of type complex64, expected real numbers"):
        read_volume(path)
    color = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    path = save(tmp_path / "b.nii", color)
    with pytest.raises(InputError, match="expected real numbers"):
        read_volume(path)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
@pytest.mark.parametrize("kept", [0, 100, 352, -1])
def test_truncated_file_is_refused(tmp_path, name, kept):
    random = np.random.default_rng(0).normal(size=(20, 20, 20))
    path = save(tmp_path / name, random)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=rf"{name}: .*(truncated|cannot be read as NIfTI).*Remedy"):
        read_volume(path)


def test_damaged_gzip_is_refused(tmp_path):
    path = save(tmp_path / "a.nii.gz", np.random.default_rng(0).normal(size=(20, 20, 20)))
    content = bytearray(path.read_bytes())
    content[-200:-100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(InputError, match="truncated or damaged"):
        read_volume(path)


def test_header_that_claims_a_huge_volume_is_refused(tmp_path):
    path = save(tmp_path / "a.nii", ramp())
    content = bytearray(path.read_bytes())
    content[40:56] = np.array([3, 32767, 32767, 32767, 1, 1, 1, 1], dtype="<i2").tobytes()
    path.write_bytes(content)
    with pytest.raises(InputError, match="truncated or damaged"):
        read_volume(path)


def test_volume_without_voxels_is_refused(tmp_path):
    path = save(tmp_path / "a.nii", ramp())
    content = bytearray(path.read_bytes())
    content[42:44] = bytes(2)  # the first axis
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a.nii: has no voxels: shape \(0, 5, 6\)"):
        read_volume(path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"none.nii: no such file"):
        read_volume(tmp_path / "none.nii")
    with pytest.raises(InputError, match="is a folder, expected a NIfTI file"):
        read_volume(tmp_path)
    (tmp_path / "a.nii").write_text("no image at all, but text that is longer than a NIfTI header" * 20)
    with pytest.raises(InputError, match=r"a.nii: cannot be read as NIfTI"):
        read_volume(tmp_path / "a.nii")
    nibabel.save(nibabel.Nifti1Pair(ramp(), np.eye(4)), tmp_path / "pair.img")
    with pytest.raises(
        InputError,
        match=r"pair.img: is not a single-file NIfTI but one half of a pair.*Remedy: convert it: python",
    ):
        read_volume(tmp_path / "pair.img")
    nibabel.save(nibabel.MGHImage(ramp(), np.eye(4)), tmp_path / "a.mgz")
    with pytest.raises(InputError, match=r"a.mgz: is not a single-file NIfTI but of FreeSurfer's MGH"):
        read_volume(tmp_path / "a.mgz")


def test_singular_affine_is_refused(tmp_path):
    path = save(tmp_path / "a.nii", ramp())
    content = bytearray(path.read_bytes())
    content[280:296] = bytes(16)  # srow_x
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a.nii: has no usable affine"):
        read_volume(path)


def test_grid_is_read_from_the_header_alone(tmp_path):
    path = save(tmp_path / "a.nii", ramp(), AFFINES["PSR"])
    path.write_bytes(path.read_bytes()[:352])
    assert read_grid(path).canonical_shape == (6, 4, 5)  # stored axes run to P, S, R: x is the third


# ---------------------------------------------------------------- one grid or two
def volume_on(affine: np.ndarray, shape: tuple[int, int, int] = SHAPE) -> Volume:
    return Volume(np.zeros(shape, np.float32), affine, SourceGrid.from_affine(shape, affine))


def test_grids_differ_by_shape_or_by_a_hundredth_of_a_voxel_at_a_corner():
    first = volume_on(np.diag([1.5, 2.0, 3.0, 1.0]))
    assert grid_difference(first, first) == ""
    assert grid_difference(first, volume_on(first.affine, (4, 5, 7))) == "shape (4, 5, 6) against (4, 5, 7)"
    shifted = first.affine.copy()
    shifted[2, 3] = 0.014  # below 0.01 * 1.5 mm
    assert grid_difference(first, volume_on(shifted)) == ""
    shifted[2, 3] = 0.016
    assert grid_difference(first, volume_on(shifted)) == "affine: corners up to 0.016 mm apart"
    stretched = first.affine.copy()
    stretched[2, 2] = 3.004  # five steps to the last slice: 0.02 mm
    assert "0.02 mm apart" in grid_difference(first, volume_on(stretched))


# ---------------------------------------------------------------- writing
@pytest.mark.parametrize("codes", [(1, 1), (0, 2), (3, 0), (2, 4)])
@pytest.mark.parametrize("name", AFFINES)
def test_written_grid_is_the_sources_to_the_bit(tmp_path, name, codes):
    path = save(tmp_path / "a.nii.gz", ramp(dtype=np.uint8), AFFINES[name], codes=codes)
    volume = read_volume(path)
    write_volume(volume.data, volume.source, tmp_path / "b.nii.gz")
    source, written = nibabel.load(path), nibabel.load(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(written.get_fdata(), source.get_fdata())
    np.testing.assert_array_equal(written.affine, source.affine)
    for field in (
        "pixdim",
        "qform_code",
        "sform_code",
        "xyzt_units",
        "srow_x",
        "srow_y",
        "srow_z",
        "quatern_b",
    ):
        np.testing.assert_array_equal(written.header[field], source.header[field], err_msg=field)
    assert written.get_data_dtype() == np.float32


def sitk_corners(image: sitk.Image) -> np.ndarray:
    """World coordinates of the grid's corners in RAS (ITK counts in LPS)."""
    size = np.array(image.GetSize()) - 1
    corners = [np.array([i, j, k]) * size for i in (0, 1) for j in (0, 1) for k in (0, 1)]
    points = [image.TransformIndexToPhysicalPoint([int(c) for c in corner]) for corner in corners]
    return np.array(points) * [-1, -1, 1]


@pytest.mark.parametrize("name", AFFINES)
def test_nibabel_and_simpleitk_read_the_written_grid_alike(tmp_path, name):
    grid = SourceGrid.from_affine(SHAPE, AFFINES[name])
    data = np.random.default_rng(0).normal(size=grid.canonical_shape).astype(np.float32)
    path = write_volume(data, grid, tmp_path / "a.nii.gz")
    itk, nib = sitk.ReadImage(str(path)), nibabel.load(path)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(itk).T, nib.get_fdata(dtype=np.float32))
    corners = np.array([[i * 3, j * 4, k * 5, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    # Quaternions of float32: 1e-7 of 40 mm, times a few operations.
    np.testing.assert_allclose(sitk_corners(itk), (corners @ nib.affine.T)[:, :3], atol=1e-4)
    np.testing.assert_allclose(nib.affine, AFFINES[name], atol=1e-5)  # float32 of up to 40: 4e-6
    np.testing.assert_array_equal(read_volume(path).data, data)


def test_nifti2_stays_nifti2(tmp_path):
    path = save(tmp_path / "a.nii", ramp(), AFFINES["oblique"], nifti2=True)
    volume = read_volume(path)
    write_volume(volume.data, volume.source, tmp_path / "b.nii")
    written = nibabel.load(tmp_path / "b.nii")
    assert isinstance(written, nibabel.Nifti2Image)
    np.testing.assert_array_equal(written.affine, nibabel.load(path).affine)
    np.testing.assert_array_equal(written.get_fdata(), ramp())


def test_nothing_of_the_sources_header_but_the_grid_is_written(tmp_path):
    image = nibabel.Nifti1Image(ramp(), np.eye(4))
    image.header["descrip"] = b"Doe, Jane 1950-01-01"
    image.header["aux_file"] = b"jane.txt"
    image.header["intent_name"] = b"Jane"
    image.header["db_name"] = b"Jane"
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Jane Doe"))
    nibabel.save(image, tmp_path / "jane.nii")
    assert b"Jane" in (tmp_path / "jane.nii").read_bytes()
    volume = read_volume(tmp_path / "jane.nii")
    path = write_volume(volume.data, volume.source, tmp_path / "b.nii")
    assert b"jane" not in path.read_bytes().lower()
    header = nibabel.load(path).header
    assert len(header.extensions) == 0
    assert header["descrip"] == header["aux_file"] == header["intent_name"] == b""
    # NIfTI-1: header of 348 bytes, 4 that say "no extension", then 120 float32.
    assert path.stat().st_size == 352 + 120 * 4


def test_same_data_give_the_same_bytes_whatever_the_name_and_time(tmp_path, monkeypatch):
    grid = SourceGrid.from_affine(SHAPE, oblique())
    data = np.ones(grid.canonical_shape, dtype=np.float32)
    first = write_volume(data, grid, tmp_path / "a.nii.gz").read_bytes()
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert write_volume(data, grid, tmp_path / "other.nii.gz").read_bytes() == first
    assert gzip.decompress(first) == write_volume(data, grid, tmp_path / "a.nii").read_bytes()


@pytest.mark.parametrize("dtype", ["int16", "int32", "uint8", "uint16", "float64"])
def test_labels_keep_their_type(tmp_path, dtype):
    grid = SourceGrid.from_affine(SHAPE, AFFINES["LAS"])
    write_volume(ramp(), grid, tmp_path / "a.nii", dtype=dtype)
    image = nibabel.load(tmp_path / "a.nii")
    assert image.get_data_dtype() == np.dtype(dtype)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii").data, ramp())


@pytest.mark.parametrize(
    ("value", "dtype"), [(0.5, "int16"), (300.0, "uint8"), (-1.0, "uint16"), (np.nan, "int16")]
)
def test_values_that_do_not_fit_a_whole_number_type_are_refused(tmp_path, value, dtype):
    grid = SourceGrid.from_affine(SHAPE, np.eye(4))
    with pytest.raises(InputError, match=f"not whole numbers that fit {dtype}"):
        write_volume(np.full(SHAPE, value), grid, tmp_path / "a.nii", dtype=dtype)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_float32_cannot_hold_are_refused(tmp_path, value):
    grid = SourceGrid.from_affine(SHAPE, np.eye(4))
    with pytest.raises(InputError, match="not finite, or too large for float32"):
        write_volume(np.full(SHAPE, value), grid, tmp_path / "a.nii")


def test_wrong_arguments_are_refused(tmp_path):
    grid = SourceGrid.from_affine(SHAPE, AFFINES["PSR"])
    with pytest.raises(InputError, match=r"shape \(4, 5, 6\) do not fit the source's grid, \(6, 4, 5\)"):
        write_volume(ramp(), grid, tmp_path / "a.nii")
    with pytest.raises(InputError, match=r"dtype must be one of 'float32'.*got 'float16'"):
        write_volume(np.zeros((6, 4, 5)), grid, tmp_path / "a.nii", dtype="float16")
    with pytest.raises(InputError, match=r"a.mha: has no NIfTI name. Remedy: name it .nii.gz or .nii"):
        write_volume(np.zeros((6, 4, 5)), grid, tmp_path / "a.mha")
    with pytest.raises(InputError, match="has no NIfTI name"):
        nifti_stem(".nii.gz")


def test_full_disk_keeps_the_file_from_before(tmp_path, monkeypatch):
    grid = SourceGrid.from_affine(SHAPE, np.eye(4))
    path = write_volume(ramp(), grid, tmp_path / "a.nii.gz")
    before = path.read_bytes()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(gzip.GzipFile, "write", full)
    with pytest.raises(InputError, match=r"a.nii.gz: the disk is full; the file from before is kept"):
        write_volume(ramp() + 1, grid, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.nii.gz"]


# ---------------------------------------------------------------- real files
@pytest.mark.parametrize(
    "name",
    ["pet/florbetapir_a.nii.gz", "pet/fdg_template_116_healthy_mni2mm.nii", "mri/avg152_T1.nii"],
)
def test_real_volume_comes_back_on_its_grid(tmp_path, shared_data, name):
    path = shared_data(name)
    volume = read_volume(path)
    written = write_volume(volume.data, volume.source, tmp_path / "b.nii.gz")
    source, result = nibabel.load(path), nibabel.load(written)
    np.testing.assert_array_equal(result.get_fdata(), source.get_fdata(dtype=np.float32))
    np.testing.assert_array_equal(result.affine, source.affine)
    assert result.header["xyzt_units"] == source.header["xyzt_units"]
    assert result.header["descrip"] == b""
    itk, itk_source = sitk.ReadImage(str(written)), sitk.ReadImage(str(path))
    assert itk.GetSize() == itk_source.GetSize()
    assert itk.GetOrigin() == itk_source.GetOrigin()
    assert itk.GetSpacing() == itk_source.GetSpacing()
    assert itk.GetDirection() == itk_source.GetDirection()
    # ITK scales in float64 what is stored with a slope: float32 rounding of the values.
    np.testing.assert_allclose(sitk.GetArrayFromImage(itk), sitk.GetArrayFromImage(itk_source), rtol=2**-23)


def test_real_foreign_format_is_refused(shared_data):
    with pytest.raises(InputError, match=r"tinypet_ecat7.v: .*(NIfTI).*Remedy: convert it to"):
        read_volume(shared_data("pet/tinypet_ecat7.v"))
    with pytest.raises(InputError, match=r"gre_3echo_magnitude.nii: has 4 dimensions \(51, 51, 41, 3\)"):
        read_volume(shared_data("mri/gre_3echo_magnitude.nii"))
    with pytest.raises(InputError, match="cannot be read as NIfTI"):
        read_volume(shared_data("pet/acrin_flt_breast_slice.dcm"))
