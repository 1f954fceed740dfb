"""Several channels in one file: on the source's grid, each where it belongs, the same bytes every time."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from medrestore.checks import InputError
from medrestore.data.volumes import SourceGrid, write_channels, write_volume

# Stored from left to right and from superior to inferior, so that axes have to be turned.
AFFINE = np.array([[0.0, -2.0, 0.0, 30.0], [3.0, 0.0, 0.0, -20.0], [0.0, 0.0, -5.0, 40.0], [0, 0, 0, 1.0]])
GRID = SourceGrid.from_affine((4, 6, 3), AFFINE, code=4)


def channels(dtype: str = "complex64") -> np.ndarray:
    random = np.random.default_rng(0)
    values = random.normal(size=(5, *GRID.canonical_shape))
    if dtype == "complex64":
        values = values + 1j * random.normal(size=values.shape)
    return values.astype(dtype)


@pytest.mark.parametrize("dtype", ["complex64", "float32"])
def test_nibabel_reads_what_was_written(tmp_path, dtype):
    data = channels(dtype)
    image = nibabel.load(write_channels(data, GRID, tmp_path / "mdme.nii.gz", dtype=dtype))
    assert image.shape == (4, 6, 3, 5)
    assert image.get_data_dtype() == np.dtype(dtype)
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-6)
    assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (4, 4)
    assert image.header.get_xyzt_units()[0] == "mm"
    canonical = nibabel.as_closest_canonical(image)
    np.testing.assert_array_equal(np.moveaxis(np.asarray(canonical.dataobj), -1, 0), data)


def test_a_channel_is_stored_as_a_volume_is(tmp_path):
    data = channels("float32")
    path = write_channels(data, GRID, tmp_path / "all.nii")
    one = write_volume(data[2], GRID, tmp_path / "one.nii")
    stored, alone = nibabel.load(path), nibabel.load(one)
    np.testing.assert_array_equal(np.asarray(stored.dataobj)[..., 2], np.asarray(alone.dataobj))
    np.testing.assert_array_equal(stored.affine, alone.affine)


def test_same_data_same_bytes(tmp_path):
    first, second = (
        write_channels(channels(), GRID, tmp_path / f"{name}.nii.gz", dtype="complex64") for name in "ab"
    )
    assert first.read_bytes() == second.read_bytes()


def test_refuses_what_does_not_fit(tmp_path):
    path = tmp_path / "mdme.nii.gz"
    with pytest.raises(InputError, match=r"channels of shape \(5, 6, 4, 2\) do not fit the source's grid"):
        write_channels(channels()[..., :2], GRID, path, dtype="complex64")
    with pytest.raises(InputError, match=r"channels of shape \(6, 4, 3\) do not fit"):
        write_channels(channels()[0], GRID, path, dtype="complex64")
    with pytest.raises(InputError, match=r"dtype must be one of .* got 'complex128'"):
        write_channels(channels(), GRID, path, dtype="complex128")
    broken = channels()
    broken[3, 0, 0, 0] = complex(0, np.nan)
    with pytest.raises(InputError, match="values are not finite"):
        write_channels(broken, GRID, path, dtype="complex64")
    assert not list(tmp_path.iterdir())
