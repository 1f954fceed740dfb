"""Rigid registration: known motions found on any grid, wrong images refused, one resampling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from scipy import ndimage
from scipy.spatial.transform import Rotation

from medrestore.checks import InputError
from medrestore.data.registration import Registration, register_rigid, resample
from medrestore.data.registration_images import (
    BINS,
    FixedHead,
    Lattice,
    bin_codes,
    image_levels,
    image_values,
    itk_image,
    moved,
    mutual_information,
    values_at,
)
from medrestore.data.volumes import SourceGrid, Volume, read_volume

SLICES = np.diag([3.0, 3.0, 5.0, 1.0])
SLICES[:3, 3] = (-94, -106, -47)
SHAPE = (64, 72, 20)

Image = Callable[..., Volume]


def rigid(degrees: tuple[float, float, float], shift_mm: tuple[float, float, float]) -> np.ndarray:
    """A motion about (5, -10, 0) mm."""
    matrix, center = np.eye(4), np.array([5.0, -10.0, 0.0])
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, 3] = center + shift_mm - matrix[:3, :3] @ center
    return matrix


MOTION = rigid((3.0, -2.0, 4.0), (2.5, -1.5, 3.0))


@pytest.fixture(scope="module")
def image() -> Image:
    """Return images of heads that are functions of place: no interpolation, whatever the grid or motion.

    Ellipsoids with soft edges, each of a brightness that depends on the contrast. A thick slice is the mean
    of five thin ones.
    """

    def make(
        contrast: int = 0,
        *,
        motion: np.ndarray | None = None,
        head: int = 0,
        affine: np.ndarray = SLICES,
        shape: tuple[int, int, int] = SHAPE,
        noise: float = 0.02,
    ) -> Volume:
        parts = np.random.default_rng(head)
        centers = np.vstack([[0, -5, 0], [0, -5, 0], parts.uniform((-45, -65, -40), (45, 55, 40), (24, 3))])
        sizes = np.vstack(
            [parts.uniform(0.9, 1.1, 3) * (76, 94, 84), (66, 84, 74), parts.uniform(6, 20, (24, 3))]
        )
        levels = np.random.default_rng(100 + contrast).choice((-0.3, -0.15, 0.15, 0.3), len(centers))
        levels[:2] = ((0.8, 0.2), (1.6, -0.6))[contrast]
        index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).astype(np.float64)
        back = np.linalg.inv(np.eye(4) if motion is None else motion)
        values = np.zeros(shape)
        for part in (-0.4, -0.2, 0.0, 0.2, 0.4):
            places = moved(moved(index + np.array([0, 0, part]), affine), back)
            for center, size, level in zip(centers, sizes, levels, strict=True):
                radius = np.sqrt((((places - center) / size) ** 2).sum(axis=-1))
                values += level / 5 / (1 + np.exp(np.clip((radius - 1) * size.min() / 1.5, -40, 40)))
        random = np.random.default_rng(contrast)
        noisy = 100 * np.abs(values + noise * random.standard_normal(shape))
        grid = SourceGrid.from_affine(shape, affine)
        return Volume(noisy.astype(np.float32), affine, grid)

    return make


@pytest.fixture(scope="module")
def fixed(image: Image) -> Volume:
    return image(0)


@pytest.fixture(scope="module")
def head(fixed: Volume) -> FixedHead:
    return FixedHead.of(fixed)


def error_mm(found: Registration, truth: np.ndarray, head: FixedHead) -> float:
    """Mean distance over the head between where two matrices take it."""
    return float(np.linalg.norm(moved(head.points_mm, found.matrix - truth), axis=1).mean())


# A fifth of an in-plane voxel of 3 mm, an eighth of a slice: what edges of some thousand voxels give away.
TOLERANCE_MM = 0.6


class TestKnownMotion:
    def test_is_found_in_another_contrast_and_told_in_figures(self, image, head):
        found = register_rigid(image(1, motion=MOTION), head)
        assert found.failure == ""
        assert not found.identity_kept
        assert error_mm(found, MOTION, head) < TOLERANCE_MM
        angle = np.rad2deg(Rotation.from_matrix(MOTION[:3, :3]).magnitude())
        # An error of 0.6 mm at 70 mm from the middle is half a degree.
        assert found.rotation_deg == pytest.approx(angle, abs=0.5)
        away = np.linalg.norm(moved(head.points_mm, MOTION) - head.points_mm, axis=1)
        assert found.displacement_mean_mm == pytest.approx(away.mean(), abs=TOLERANCE_MM)
        # The farthest place is about twice as far from the middle as the mean one.
        assert found.displacement_most_mm == pytest.approx(away.max(), abs=2 * TOLERANCE_MM)
        assert found.information_after > found.information_before
        assert 0.9 < found.overlap <= 1.0

    def test_of_less_than_a_voxel_is_not_drawn_to_the_identity(self, image, head):
        small = rigid((0.5, -0.4, 0.3), (0.7, -0.8, 1.1))
        found = register_rigid(image(1, motion=small), head)
        assert error_mm(found, small, head) < TOLERANCE_MM < found.displacement_mean_mm

    def test_is_found_between_oblique_grids_of_other_voxels(self, image):
        turn, other = np.eye(4), np.eye(4)
        turn[:3, :3] = Rotation.from_euler("xyz", (8, -12, 20), degrees=True).as_matrix()
        other[:3, :3] = Rotation.from_euler("xyz", (-5, 9, 4), degrees=True).as_matrix()
        sagittal = np.diag([4.0, 2.5, 2.5, 1.0])
        sagittal[:3, 3] = (-94, -106, -75)
        fixed = image(0, affine=turn @ SLICES)
        moving = image(1, affine=other @ sagittal, shape=(48, 86, 60), motion=MOTION)
        found = register_rigid(moving, fixed)
        assert found.failure == ""
        assert error_mm(found, MOTION, FixedHead.of(fixed)) < TOLERANCE_MM

    def test_the_same_places_in_any_turn_of_space(self, image, head):
        """The frame is a name: LPS+ (SimpleITK's files) or RAS+, the images are brought together alike."""
        flip = np.diag([-1.0, -1.0, 1.0, 1.0])
        fixed, moving = image(0), image(1, motion=MOTION)
        turned = [replace(volume, affine=flip @ volume.affine) for volume in (fixed, moving)]
        found = register_rigid(turned[1], turned[0])
        assert error_mm(replace(found, matrix=flip @ found.matrix @ flip), MOTION, head) < TOLERANCE_MM

    def test_no_motion_stays_no_motion(self, image, head):
        found = register_rigid(image(1), head)
        assert found.failure == ""
        assert found.displacement_mean_mm < TOLERANCE_MM

    def test_the_image_itself_keeps_the_identity(self, fixed, head):
        found = register_rigid(fixed, head)
        assert found.identity_kept
        assert np.array_equal(found.matrix, np.eye(4))
        assert found.information_after == found.information_before
        assert found.displacement_most_mm == 0


class TestSameResult:
    def test_whatever_the_threads_and_global_state_is_left_alone(self, image, fixed):
        moving = image(1, motion=MOTION)
        before = SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads()
        matrices = []
        try:
            for threads in (1, 4):
                SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
                matrices.append(register_rigid(moving, fixed).matrix)
                assert SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads() == threads
        finally:
            SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
        assert np.array_equal(*matrices)

    def test_for_a_head_made_ready_and_for_its_volume(self, image, fixed, head):
        moving = image(1, motion=MOTION)
        assert np.array_equal(register_rigid(moving, fixed).matrix, register_rigid(moving, head).matrix)


class TestFailure:
    def test_another_head(self, image, head):
        found = register_rigid(image(0, head=1), head)
        assert "shows something else than the fixed image" in found.failure

    @pytest.mark.parametrize("sigma", [0.0, 2.0])
    def test_noise(self, fixed, head, sigma):
        noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=SHAPE), sigma)
        found = register_rigid(replace(fixed, data=np.abs(noise).astype(np.float32)), head)
        assert found.failure

    def test_another_field_of_view(self, fixed, head):
        away = fixed.affine.copy()
        away[0, 3] += 500
        found = register_rigid(replace(fixed, affine=away), head)
        assert found.failure == "covers 0% of the head, at least 50% is needed"
        assert found.overlap == 0

    def test_too_little_of_the_head(self, image, head):
        found = register_rigid(image(1, shape=(64, 72, 6)), head)
        assert "of the head, at least 50% is needed" in found.failure
        assert 0 < found.overlap < 0.5

    def test_too_far(self, image, head):
        found = register_rigid(image(1, motion=MOTION), head, most_mm=3.0)
        assert "moves the head by up to" in found.failure
        assert "at most 3 mm are allowed" in found.failure

    def test_an_image_without_contrast(self, fixed, head):
        found = register_rigid(replace(fixed, data=np.full(SHAPE, 7, np.float32)), head)
        assert found.failure == "the image is the same everywhere"

    def test_fixed_image_without_head_is_refused(self, fixed):
        empty = replace(fixed, data=np.zeros(SHAPE, np.float32), path=Path("empty.nii.gz"))
        with pytest.raises(InputError, match=r"empty\.nii\.gz: shows no head"):
            FixedHead.of(empty)

    def test_voxels_that_are_not_finite_are_refused(self, fixed, head):
        data = fixed.data.copy()
        data[3, 4, 5] = np.nan
        broken = replace(fixed, data=data, path=Path("broken.nii.gz"))
        with pytest.raises(InputError, match=r"broken\.nii\.gz: holds voxels that are not finite"):
            register_rigid(broken, head)
        with pytest.raises(InputError, match="not finite"):
            FixedHead.of(broken)


class TestResample:
    def test_is_one_interpolation_through_all_matrices(self, image, fixed):
        turn = np.eye(4)
        turn[:3, :3] = Rotation.from_euler("xyz", (5, 4, -9), degrees=True).as_matrix()
        moving = image(
            1, affine=turn @ np.diag([2.5, 4.0, 4.0, 1.0]) @ _middle((60, 50, 40)), shape=(60, 50, 40)
        )
        result = resample(moving, fixed, matrix=MOTION)
        composed = np.linalg.inv(moving.affine) @ MOTION @ fixed.affine
        index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1).reshape(-1, 3)
        index = moved(index, composed)
        expected = ndimage.map_coordinates(moving.data, index.T, order=3, mode="mirror").reshape(SHAPE)
        expected = np.clip(expected, moving.data.min(), moving.data.max())
        inside = ((index >= -0.5) & (index <= np.array(moving.data.shape) - 0.5)).all(axis=1).reshape(SHAPE)
        # Away from the edge of the field of view, which rounding may put on either side.
        clear = ndimage.binary_erosion(inside)
        # Both splines in double precision, stored as float32: values of about 100 to seven digits.
        np.testing.assert_allclose(result.data[clear], expected[clear], atol=1e-3)
        assert (result.data[~ndimage.binary_dilation(inside)] == 0).all()
        assert result.outside == pytest.approx((~inside).mean(), abs=1e-3)
        assert result.data.dtype == np.float32

    def test_magnitudes_do_not_ring_below_zero(self, fixed):
        edges = np.zeros(SHAPE, np.float32)
        edges[20:40, 20:40, 5:15] = 100
        shift = np.eye(4)
        shift[:3, 3] = (1.5, 1.5, 2.5)
        result = resample(replace(fixed, data=edges), fixed, matrix=shift).data
        assert result.min() == 0
        assert result.max() == 100
        assert ((result > 1) & (result < 99)).mean() > 0

    def test_what_lies_on_the_grid_stays_as_it_is(self, image, fixed):
        moving = image(1)
        result = resample(moving, fixed, matrix=np.eye(4))
        assert np.array_equal(result.data, moving.data)
        assert result.outside == 0


def _middle(shape: tuple[int, int, int]) -> np.ndarray:
    """Indices relative to the middle of a grid."""
    matrix = np.eye(4)
    matrix[:3, 3] = -(np.array(shape) - 1) / 2
    return matrix


class TestImages:
    def test_information_is_that_of_scikit_learn_less_chance(self):
        from sklearn.metrics import mutual_info_score

        random = np.random.default_rng(0)
        first = random.integers(0, BINS, 5000)
        second = np.where(random.random(5000) < 0.6, first, random.integers(0, BINS, 5000))
        cells = len(set(zip(first.tolist(), second.tolist(), strict=True)))
        chance = (cells - 2 * BINS + 1) / (2 * 5000)
        expected = mutual_info_score(first, second) - chance
        assert mutual_information(first, second) == pytest.approx(expected, abs=1e-12)

    def test_independent_images_have_none(self):
        random = np.random.default_rng(1)
        first, second = (bin_codes(random.random(20_000), (0.0, 1.0)) for _ in range(2))
        # Without the correction 31^2 / 40000 = 0.024; its standard deviation is sqrt(2) 31 / 40000 = 0.001.
        assert abs(mutual_information(first, second)) < 0.004

    def test_an_image_for_simpleitk_has_our_coordinates(self, fixed):
        turn = np.eye(4)
        turn[:3, :3] = Rotation.from_euler("xyz", (8, -12, 20), degrees=True).as_matrix()
        affine = turn @ SLICES
        made = itk_image(fixed.data, affine)
        index = (11, 23, 7)
        place = made.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(place, moved(np.array([index]), affine)[0], atol=1e-9)
        assert made[index] == fixed.data[index]
        values, inside = values_at(made, np.array([place, (500.0, 0.0, 0.0)]))
        assert values[0] == pytest.approx(fixed.data[index], rel=1e-5)
        assert inside.tolist() == [True, False]

    def test_levels_show_the_same_places(self, image):
        """Averaged in-plane, thick slices cut thinner: a straight ramp stays the same ramp."""
        x, y, z = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
        ramp = (2.0 * x + 3.0 * y + 5.0 * z).astype(np.float32)
        volume = Volume(ramp, SLICES, SourceGrid.from_affine(SHAPE, SLICES))
        levels = image_levels(volume)
        assert [image_values(level).shape for level in levels] == [(32, 36, 40), (64, 72, 40), (64, 72, 40)]
        places = moved(np.array([[20.0, 30.0, 8.0], [33.0, 41.0, 12.3]]), SLICES)
        for level in levels:
            # Linear interpolation and splines are exact on a ramp; float32 holds 200 to five digits after it.
            np.testing.assert_allclose(values_at(level, places)[0], [170.0, 250.5], atol=1e-3)

    def test_the_lattice_spans_the_places_and_is_parallel_to_no_axis(self):
        places = np.random.default_rng(0).uniform(-50, 50, (200, 3))
        lattice = Lattice.around(places, step_mm=6.0)
        along, corners = places @ lattice.axes, lattice.points() @ lattice.axes
        assert (corners.min(axis=0) <= along.min(axis=0) + 1e-9).all()
        assert (corners.max(axis=0) >= along.max(axis=0) - 1e-9).all()
        assert (np.abs(lattice.axes) < np.cos(np.deg2rad(10))).all()


class TestRealImages:
    def glioma(self, shared_data: Callable[[str], Path], name: str) -> Volume:
        return read_volume(shared_data(f"mri/tcga_du_7294_{name}.nii.gz"))

    def moved_by(self, volume: Volume, motion: np.ndarray) -> Volume:
        back = np.linalg.inv(volume.affine) @ np.linalg.inv(motion) @ volume.affine
        data = ndimage.affine_transform(volume.data, back[:3, :3], back[:3, 3], order=1)
        return replace(volume, data=data)

    def test_a_motion_of_t2_is_found_from_t1(self, shared_data):
        fixed, moving = (self.glioma(shared_data, name) for name in ("t1", "t2"))
        head = FixedHead.of(fixed)
        as_acquired = register_rigid(moving, head)
        found = register_rigid(self.moved_by(moving, MOTION), head, most_mm=30)  # the head is far from 0
        assert as_acquired.failure == found.failure == ""
        # Relative to what is found without the motion: the files were brought together by other software. A
        # quarter of a voxel of the finest level, 2 mm; linear interpolation has smoothed one of the two.
        assert error_mm(found, MOTION @ as_acquired.matrix, head) < 0.5

    @pytest.mark.parametrize("name", ["t1c", "fla"])
    def test_contrasts_of_one_head_agree(self, shared_data, name):
        found = register_rigid(self.glioma(shared_data, name), self.glioma(shared_data, "t1"))
        assert found.failure == ""
        assert found.displacement_mean_mm < 1.0  # they are co-registered: less than a voxel of 1 mm

    def test_upside_down_is_not_the_same_head(self, shared_data):
        fixed, moving = (self.glioma(shared_data, name) for name in ("t1", "t2"))
        found = register_rigid(replace(moving, data=moving.data[:, :, ::-1].copy()), fixed)
        assert found.failure

    def test_average_brains_agree_with_one_another_and_not_with_a_patient(self, shared_data):
        t1, t2, pd = (read_volume(shared_data(f"mri/avg152_{name}.nii")) for name in ("T1", "T2", "PD"))
        head = FixedHead.of(t1)
        for moving in (t2, pd):
            found = register_rigid(moving, head)
            assert found.failure == ""
            assert found.displacement_mean_mm < 1.0  # half a voxel of 2 mm
        patient = self.glioma(shared_data, "t1")
        away = patient.affine.copy()
        away[:3, 3] += head.center_mm - FixedHead.of(patient).center_mm
        assert register_rigid(replace(patient, affine=away), head, most_mm=100).failure
