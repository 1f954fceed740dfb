"""Headers of NIfTI files: read right, or refused by the name of the file and of the field."""

from __future__ import annotations

import gzip
import math
import shlex
import struct
import subprocess
import sys
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medrestore.checks import InputError
from medrestore.data.nifti import sidecar_path
from medrestore.data.volumes import read_grid, read_series, read_volume, write_volume

KINDS = {1: nibabel.Nifti1Image, 2: nibabel.Nifti2Image}
HEADERS = {1: nibabel.Nifti1Header, 2: nibabel.Nifti2Header}


def image_bytes(version: int = 1, shape: tuple[int, ...] = (8, 9, 6), dtype: Any = np.float32) -> bytes:
    """Return a good file: a block in nothing, 2 x 2 x 3 mm, both codes 1."""
    data = np.zeros(shape, np.float32)
    data[2:6, 2:7] = 5 + np.random.default_rng(0).random(data[2:6, 2:7].shape)
    image = KINDS[version](data.astype(dtype), np.diag([2, 2, 3, 1.0]))
    image.set_sform(image.affine, 1)
    image.set_qform(image.affine, 1)
    image.header.set_xyzt_units("mm")
    content: bytes = image.to_bytes()
    return content


def place(version: int, field: str, index: int = 0) -> tuple[int, np.dtype[Any]]:
    kind, offset = HEADERS[version].template_dtype.fields[field][:2]
    return offset + index * kind.base.itemsize, kind.base


def with_field(content: bytes, version: int, field: str, value: Any, index: int = 0) -> bytes:
    start, kind = place(version, field, index)
    changed = bytearray(content)
    changed[start : start + kind.itemsize] = np.array(value).astype(kind).tobytes()
    return bytes(changed)


FAULTS = [
    ("scl_inter", 0, math.nan, "scl_inter is nan"),
    ("scl_slope", 0, math.inf, "scl_slope is inf"),
    ("datatype", 0, 0, "datatype is 0"),
    ("datatype", 0, 8191, "datatype is 8191"),
    ("datatype", 0, 4, r"bitpix is 32, but datatype 4 \(int16\) has 16 bits"),
    ("bitpix", 0, 33, "bitpix is 33"),
    ("xyzt_units", 0, 7, "xyzt_units is 7"),
    ("dim", 0, 0, r"dim\[0\] is 0"),
    ("dim", 0, -3, r"dim\[0\] is -3"),
    ("dim", 2, -9, r"has no voxels: shape \(8, -9, 6\) \(dim\)"),
    ("dim", 1, 32767, r"truncated or damaged .*32767 x 9 x 6 voxels .*\(dim, datatype, vox_offset\)"),
    ("dim", 3, 3, r"holds more than its header claims: 8 x 9 x 3 voxels"),
    ("pixdim", 3, math.nan, r"pixdim is \[2.0, 2.0, nan\]"),
    ("pixdim", 3, math.inf, "pixdim is"),
    ("srow_y", 1, math.nan, r"no usable affine \(srow_x, srow_y, srow_z\)"),
    ("srow_y", 1, 0, r"no usable affine \(srow_x, srow_y, srow_z\)"),
    ("srow_z", 2, 1e7, r"voxels of 2 x 2 x 1e\+07 mm \(srow_x"),
    ("qform_code", 0, -1, "qform_code is -1"),
    ("sform_code", 0, 300, "sform_code is 300"),
    ("vox_offset", 0, 0, "vox_offset is 0, expected a whole number of at least"),
    ("vox_offset", 0, 340, "vox_offset is 340"),
    ("vox_offset", 0, -352, "vox_offset is -352"),
]
# NIfTI-2 keeps the offset as a whole number.
FLOAT_FAULTS = [
    ("vox_offset", 0, math.inf, "vox_offset is inf"),
    ("vox_offset", 0, 352.5, "vox_offset is 352.5"),
]


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize(
    ("version", "case"),
    [*((version, case) for version in (1, 2) for case in FAULTS), *((1, case) for case in FLOAT_FAULTS)],
    ids=lambda part: part if isinstance(part, int) else f"{part[0]}-{part[1]}-{part[2]}",
)
def test_fault_of_a_field_names_file_and_field(version, case, name, tmp_path):
    field, index, value, message = case
    content = with_field(image_bytes(version), version, field, value, index)
    (tmp_path / name).write_bytes(gzip.compress(content, 1) if name.endswith(".gz") else content)
    with pytest.raises(InputError, match=rf"/a\.nii.*: .*{message}") as refusal:
        read_volume(tmp_path / name)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("field", "index", "value", "message"),
    [
        ("pixdim", 2, 0, "pixdim is .*expected voxel sizes above 0"),
        ("pixdim", 2, -2, "pixdim is .*expected voxel sizes above 0"),
        ("pixdim", 0, 7, r"pixdim\[0\] \(qfac\) is 7"),
        ("quatern_c", 0, math.nan, "quatern_b, quatern_c, quatern_d is"),
        ("quatern_d", 0, 1.1, "quaternion of length 1.1 or more"),
        ("qoffset_x", 0, math.inf, r"no usable affine \(pixdim, quatern_b, .*qoffset_x"),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_fault_of_a_qform_that_is_used_names_its_fields(version, field, index, value, message, tmp_path):
    content = with_field(image_bytes(version), version, field, value, index)
    path = tmp_path / "a.nii"
    path.write_bytes(content)
    if field in ("quatern_c", "quatern_d", "qoffset_x"):  # the sform says where voxels are
        np.testing.assert_array_equal(read_volume(path).affine, np.diag([2, 2, 3, 1.0]))
    path.write_bytes(with_field(content, version, "sform_code", 0))
    with pytest.raises(InputError, match=rf"a\.nii: .*{message}"):
        read_volume(path)


@pytest.mark.parametrize(("length", "usable"), [(1.000001, True), (1 + 9e-6, True), (1.00002, False)])
def test_quaternion_a_little_too_long_is_made_one_as_itk_does(length, usable, tmp_path):
    path = tmp_path / "a.nii"
    content = with_field(image_bytes(), 1, "sform_code", 0)
    path.write_bytes(with_field(content, 1, "quatern_d", length))
    if not usable:
        with pytest.raises(InputError, match="quatern_b, quatern_c, quatern_d is"):
            read_volume(path)
        return
    volume = read_volume(path)
    image = sitk.ReadImage(str(path))
    ours = volume.source.affine
    # ITK counts in LPS; its half turn about z is exact, ours of a float32 quaternion.
    np.testing.assert_allclose(
        np.diag([-1, -1, 1]) @ ours[:3, :3],
        np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing(),
        atol=1e-6,
    )
    written = write_volume(volume.data, volume.source, tmp_path / "b.nii")
    np.testing.assert_array_equal(nibabel.load(written).affine, ours)  # as any reader reads it
    np.testing.assert_array_equal(read_volume(written).affine, volume.affine)


@pytest.mark.parametrize(
    ("field", "index", "value"),
    [
        ("scl_slope", 0, 0),
        ("scl_slope", 0, math.nan),
        ("bitpix", 0, 0),
        ("pixdim", 1, 0),
        ("pixdim", 1, -2),
        ("pixdim", 0, 0),
        ("xyzt_units", 0, 2 + 56),
        ("dim", 5, -1),
        ("cal_max", 0, math.nan),
        ("slice_code", 0, 99),
        ("intent_code", 0, 9999),
    ],
)
def test_what_does_not_matter_is_read_and_written_so_that_others_read_it(field, index, value, tmp_path):
    content = image_bytes()
    (tmp_path / "good.nii").write_bytes(content)
    (tmp_path / "odd.nii").write_bytes(with_field(content, 1, field, value, index))
    good, odd = read_volume(tmp_path / "good.nii"), read_volume(tmp_path / "odd.nii")
    np.testing.assert_array_equal(odd.data, good.data)
    np.testing.assert_array_equal(odd.affine, good.affine)
    written = nibabel.load(write_volume(odd.data, odd.source, tmp_path / "b.nii"))
    assert written.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(written.header.get_zooms(), (2, 2, 3))


def test_headers_at_random_are_read_or_refused_by_name_and_nothing_else(tmp_path):
    """Every field in turn set to what it can hardly be, and bytes at random: no other error, no warning."""
    random = np.random.default_rng(7)
    odd = [math.nan, math.inf, -math.inf, 0, -1, 1, 3, 255, 1e38, -1e38, 1e-45, 2**31, 32767, -32768, 2**62]
    files = {
        version: image_bytes(version, shape, kind)
        for version, shape, kind in ((1, (8, 9, 6), np.float32), (2, (8, 9, 6, 2), np.complex64))
    }
    contents = []
    for version, content in files.items():
        for field in HEADERS[version].template_dtype.names:
            shape = HEADERS[version].template_dtype.fields[field][0].shape
            for index in range(math.prod(shape)):
                with np.errstate(all="ignore"), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    value = odd[int(random.integers(len(odd)))]
                    try:
                        contents.append((version, with_field(content, version, field, value, index)))
                    except OverflowError:
                        continue
        for _ in range(300):
            changed = bytearray(content)
            for _ in range(int(random.integers(1, 9))):
                changed[int(random.integers(348 if version == 1 else 540))] = int(random.integers(256))
            contents.append((version, bytes(changed)))
    path, read = tmp_path / "a.nii", 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*states no orientation")
        for version, content in contents:
            path.write_bytes(content)
            try:
                (read_volume if version == 1 else read_series)(path)
                read += 1
            except InputError as error:
                assert str(error).startswith(str(path))
                assert "\n" not in str(error)
                assert "()" not in str(error)
    assert 0.3 * len(contents) < read < 0.9 * len(contents)


# ---------------------------------------------------------------- claims
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_claim_of_more_than_there_can_be_takes_no_memory(name, tmp_path):
    content = image_bytes(2)
    for axis in (1, 2, 3):
        content = with_field(content, 2, "dim", 2**31, axis)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(
        InputError, match=r"a\.nii.*: is truncated or damaged .*claims 2147483648 x 2147483648"
    ):
        read_volume(tmp_path / name)


def test_archive_that_holds_more_than_its_header_claims_is_not_unpacked(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(image_bytes() + bytes(64 << 20), 1))
    tracemalloc.start()
    try:
        with pytest.raises(
            InputError, match="holds more than its header claims: 8 x 9 x 6 voxels of float32"
        ):
            read_volume(tmp_path / "a.nii.gz")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20  # blocks of 1 MiB, joined once
    finally:
        tracemalloc.stop()


def test_claim_that_an_archive_could_hold_is_read_only_as_far_as_it_goes(tmp_path):
    content = with_field(image_bytes(2) + bytes(1 << 20), 2, "dim", 5000, 1)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content))
    with pytest.raises(InputError, match=r"is truncated or damaged .*the file holds 10"):
        read_volume(tmp_path / "a.nii.gz")


# ---------------------------------------------------------------- what is no single NIfTI file
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"cannot be read as NIfTI \(it is empty\)"),
        (b"\x1f\x8b", "cannot be read as NIfTI"),
        (gzip.compress(b""), r"cannot be read as NIfTI \(it is empty\)"),
        (gzip.compress(gzip.compress(image_bytes())), "is compressed twice.*gunzip"),
        (image_bytes()[:348], r"truncated or damaged"),
        (image_bytes()[:200], r"truncated: a header has 348 bytes, this file 200"),
        (with_field(image_bytes(), 1, "sizeof_hdr", 0), "sizeof_hdr is 0, expected 348"),
        (with_field(image_bytes(2), 2, "sizeof_hdr", 348), "magic is"),
        (
            image_bytes()[:344] + b"ni1\0" + image_bytes()[348:],
            "another file has its voxels.*Remedy: name it",
        ),
        (image_bytes()[:344] + b"\0\0\0\0" + image_bytes()[348:], "Analyze 7.5"),
        (bytes(128) + b"DICM" + bytes(400), "it is DICOM.*dcm2niix"),
        (b"<!DOCTYPE html><html>" + bytes(400), "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS.*git lfs pull"),
        (b"NRRD0004\n" + bytes(400), "it is NRRD"),
    ],
)
def test_other_content_is_named(content, message, tmp_path):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.nii\.gz: .*{message}") as refusal:
        read_volume(path)
    assert "Remedy" in str(refusal.value)


def test_content_tells_what_is_compressed_not_the_name(tmp_path):
    (tmp_path / "plain.nii.gz").write_bytes(image_bytes())
    (tmp_path / "packed.nii").write_bytes(gzip.compress(image_bytes()))
    first, second = (read_volume(tmp_path / name) for name in ("plain.nii.gz", "packed.nii"))
    np.testing.assert_array_equal(first.data, second.data)


@pytest.mark.parametrize(
    "name", ["pet.img", "pet.hdr", "PET.HDR", 'O\'Brien "1".img', "$(touch PWNED) `touch PWNED`;.hdr"]
)
def test_remedy_for_a_pair_works_and_a_name_in_it_is_no_code(name, tmp_path):
    good = nibabel.Nifti1Image.from_bytes(image_bytes())
    nibabel.save(nibabel.Nifti1Pair(good.get_fdata(dtype=np.float32), good.affine), tmp_path / name)
    with pytest.raises(InputError, match="one half of a pair") as refusal:
        read_volume(tmp_path / name)
    command = str(refusal.value).split("Remedy: convert it: python ")[1]
    subprocess.run(["sh", "-c", f"{shlex.quote(sys.executable)} {command}"], check=True, cwd=tmp_path)
    converted = (tmp_path / name).with_suffix(".nii.gz")
    np.testing.assert_array_equal(read_volume(converted).data, good.get_fdata())
    assert not (tmp_path / "PWNED").exists()


def test_name_that_begins_with_a_tilde_is_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("~scan.nii.gz").write_bytes(gzip.compress(image_bytes()))
    assert read_volume("~scan.nii.gz").data.shape == read_grid(Path("~scan.nii.gz")).canonical_shape


def test_odd_endings_of_names_are_read(tmp_path):
    (tmp_path / "A.NII.GZ").write_bytes(gzip.compress(image_bytes()))
    assert read_volume(tmp_path / "A.NII.GZ").data.max() > 5
    big = bytearray(nibabel.Nifti1Image.from_bytes(image_bytes()).header.as_byteswapped(">").binaryblock)
    big[108:112] = struct.pack(">f", 352)
    voxels = np.frombuffer(image_bytes(), "<f4", offset=352).astype(">f4").tobytes()
    (tmp_path / "big.nii").write_bytes(bytes(big) + bytes(4) + voxels)
    np.testing.assert_array_equal(
        read_volume(tmp_path / "big.nii").data, read_volume(tmp_path / "A.NII.GZ").data
    )


def test_sidecar_is_found_where_its_ending_is_in_upper_case(tmp_path):
    assert sidecar_path(tmp_path / "PET.NII.GZ") == tmp_path / "PET.json"  # where it would lie
    (tmp_path / "PET.JSON").write_text("{}")
    assert sidecar_path(tmp_path / "PET.NII.GZ").samefile(tmp_path / "PET.JSON")
