"""One strongly oblique scan, however its axes are stored, is one volume.

nibabel before 5.4 chose other axes for some storages of such scans: hence the floor in pyproject.toml.
"""

from __future__ import annotations

from itertools import permutations, product

import nibabel
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, inv_ornt_aff
from scipy.spatial.transform import Rotation

from medrestore.data.volumes import read_volume, write_volume

STORAGES = [
    np.array(list(zip(order, flips, strict=True)), dtype=float)
    for order in permutations(range(3))
    for flips in product((1, -1), repeat=3)
]
"""All 48: which stored axis goes where, and whether it is turned."""

ANGLES = [(-20, -40, -30), (44, 10, -44), (35, 35, 35), (-41, 22, 13), (30, -45, 20)]


@pytest.mark.parametrize("angles", ANGLES, ids=str)
def test_every_storage_of_an_oblique_scan_is_the_same_volume(angles, tmp_path):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.diag([2.0, 2.0, 3.0])
    affine[:3, 3] = (-40.0, 12.0, 7.0)
    scan = np.random.default_rng(0).random((7, 6, 5)).astype(np.float32)
    volumes = []
    for index, storage in enumerate(STORAGES):
        stored = np.ascontiguousarray(apply_orientation(scan, storage))
        path = tmp_path / f"{index}.nii"
        nibabel.save(nibabel.Nifti1Image(stored, affine @ inv_ornt_aff(storage, scan.shape)), path)
        volumes.append(read_volume(path))
        written = write_volume(volumes[-1].data, volumes[-1].source, tmp_path / f"{index}_written.nii")
        np.testing.assert_array_equal(np.asarray(nibabel.load(written).dataobj), stored)
    first = volumes[0]
    for volume in volumes[1:]:
        np.testing.assert_array_equal(volume.data, first.data)
        # NIfTI-1 keeps affines as float32: 7 digits of values up to 50 mm.
        np.testing.assert_allclose(volume.affine, first.affine, atol=1e-5)
