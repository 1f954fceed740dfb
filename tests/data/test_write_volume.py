"""A restoration on disk: the source's grid, seen by two readers."""

from __future__ import annotations

import nibabel
import numpy as np
import SimpleITK as sitk  # noqa: N813
from torch import nn

from medrestore.data.volumes import read_volume, write_volume
from medrestore.inference.slices import VolumeRestorer


def test_restoration_lies_on_the_grid_of_an_oblique_source(tmp_path):
    angle = np.radians(15.0)
    affine = np.array(
        [
            [0.0, -2.0 * np.cos(angle), 2.5 * np.sin(angle), 30.0],
            [0.0, 2.0 * np.sin(angle), 2.5 * np.cos(angle), -20.0],
            [-3.0, 0.0, 0.0, 12.0],
            [0.0, 0.0, 0.0, 1.0],
        ]
    )
    data = np.random.default_rng(0).gamma(3.0, 100.0, (6, 8, 10)).astype(np.int16)
    image = nibabel.Nifti1Image(data, affine)
    image.set_sform(affine, 4)
    image.set_qform(affine, 2)
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, tmp_path / "source.nii.gz")
    volume = read_volume(tmp_path / "source.nii.gz")
    assert nibabel.aff2axcodes(affine) == ("I", "L", "A")
    assert volume.data.shape == (8, 10, 6)
    restored = VolumeRestorer(nn.Identity(), neighbors=0).restore(volume)
    path = write_volume(restored.mean, volume.source, tmp_path / "restored.nii.gz")
    source, written = nibabel.load(tmp_path / "source.nii.gz"), nibabel.load(path)
    np.testing.assert_array_equal(written.affine, source.affine)
    assert (int(written.header["qform_code"]), int(written.header["sform_code"])) == (2, 4)
    assert written.header.get_xyzt_units() == ("mm", "sec")
    # The identity over the scale and back: two roundings of float32.
    np.testing.assert_allclose(written.get_fdata(), data, rtol=2**-22)
    first, second = sitk.ReadImage(str(tmp_path / "source.nii.gz")), sitk.ReadImage(str(path))
    assert first.GetDirection() == second.GetDirection()
    assert first.GetOrigin() == second.GetOrigin()
    assert first.GetSpacing() == second.GetSpacing()
    np.testing.assert_allclose(sitk.GetArrayFromImage(second), sitk.GetArrayFromImage(first), rtol=2**-22)
