"""Grids against nibabel's own reorientation."""

from __future__ import annotations

from itertools import permutations, product

import nibabel
import numpy as np
import pytest

from medrestore.checks import InputError
from medrestore.data.grid import SourceGrid

ORIENTATIONS = ["".join(code) for axes in permutations(["LR", "PA", "IS"]) for code in product(*axes)]


def affine_of(orientation: str) -> np.ndarray:
    """Axes i, j, k run to the sides that the letters name, in voxels of 2, 3 and 4 mm."""
    affine = np.zeros((4, 4))
    for axis, (letter, size) in enumerate(zip(orientation, (2.0, 3.0, 4.0), strict=True)):
        world = next(index for index, pair in enumerate(("LR", "PA", "IS")) if letter in pair)
        affine[world, axis] = size if letter in "RAS" else -size
    affine[:, 3] = (-31, 7, 12, 1)
    return affine


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_canonical_axes_are_those_of_nibabel_and_the_way_back_is_exact(orientation):
    assert len(ORIENTATIONS) == 48
    stored = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    affine = affine_of(orientation)
    expected = nibabel.as_closest_canonical(nibabel.Nifti1Image(stored, affine))
    grid = SourceGrid.from_affine(stored.shape, affine)
    canonical = grid.to_canonical(stored)
    np.testing.assert_array_equal(canonical, expected.get_fdata())
    # float32 entries up to 100 in a NIfTI-1 header: spacing of 8e-6.
    np.testing.assert_allclose(grid.canonical_affine(), expected.affine, atol=1e-5)
    assert grid.canonical_shape == expected.shape
    np.testing.assert_array_equal(grid.to_stored(canonical), stored)


def test_trailing_axis_comes_back():
    grid = SourceGrid.from_affine((4, 5, 6), affine_of("PSR"))
    grid = SourceGrid(shape=(4, 5, 6, 1), affine=grid.affine, header=grid.header)
    stored = np.arange(120.0).reshape(4, 5, 6)
    np.testing.assert_array_equal(grid.to_stored(grid.to_canonical(stored)), stored[..., None])


def test_sheared_affine_is_kept_in_sform_alone():
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[0, 2] = 0.5
    grid = SourceGrid.from_affine((4, 5, 6), affine, code=2)
    assert (int(grid.header["qform_code"]), int(grid.header["sform_code"])) == (0, 2)
    np.testing.assert_array_equal(grid.affine, affine)  # 0.5, 2 and 3 are exact in float32
    assert grid.states_orientation


@pytest.mark.parametrize(
    ("shape", "affine", "message"),
    [
        ((4, 5, 6), np.diag([2.0, 2.0, 0.0, 1.0]), "no usable affine"),
        ((4, 5, 6), np.diag([2.0, 2.0, np.nan, 1.0]), "no usable affine"),
        ((4, 5, 6), np.eye(3), r"affine must be \(4, 4\), got \(3, 3\)"),
        ((4, 5), np.eye(4), r"three positive numbers, got \(4, 5\)"),
        ((4, 5, 0), np.eye(4), r"three positive numbers, got \(4, 5, 0\)"),
    ],
)
def test_unusable_grid_is_refused(shape, affine, message):
    with pytest.raises(InputError, match=message):
        SourceGrid.from_affine(shape, affine)


def test_unknown_space_is_refused():
    with pytest.raises(InputError, match="code must be one of 1, 2, 3, 4, got 0"):
        SourceGrid.from_affine((4, 5, 6), np.eye(4), code=0)


def test_micrometer_voxels_are_no_singular_affine():
    grid = SourceGrid.from_affine((4, 5, 6), np.diag([0.001, 0.001, 0.001, 1.0]))
    assert grid.canonical_shape == (4, 5, 6)
