"""Subjects' heads: varied but possible, the same for the same seed, on the cohort's grid."""

from __future__ import annotations

import numpy as np
import pytest

from medrestore import rng
from medrestore.checks import InputError
from medrestore.data.phantoms.anatomy import (
    REGIONS,
    CohortGrid,
    SubjectAnatomy,
    load_template,
    smooth_field,
    vary,
)

GRID = CohortGrid(shape=(64, 64, 30), voxel_size_mm=(4.0, 4.0, 5.0), origin_mm=(-126.0, -144.0, -67.0))


def subject(seed: int, grid: CohortGrid = GRID) -> SubjectAnatomy:
    return vary(load_template(), grid, random=rng.generator(seed, "anatomy"))


@pytest.fixture(scope="module")
def subjects() -> list[SubjectAnatomy]:
    return [subject(seed) for seed in range(8)]


def test_grid_maps_voxels_to_mm():
    grid = CohortGrid()
    assert grid.shape == (128, 128, 50)
    np.testing.assert_array_equal(grid.affine @ [127, 0, 49, 1], [127, -145, 79, 1])
    x, y, z = grid.axes_mm()
    assert (x[-1], y[0], z[-1]) == (127, -145, 79)


def test_same_stream_same_subject(subjects):
    again = subject(3)
    for name in ("gray", "white", "fluid", "regions", "scalp", "skull", "template_mm"):
        assert getattr(again, name).tobytes() == getattr(subjects[3], name).tobytes()
    assert again.parameters == subjects[3].parameters
    assert subjects[3].regions.tobytes() != subjects[4].regions.tobytes()


def test_tissue_fractions_and_regions_agree(subjects):
    for anatomy in subjects:
        total = anatomy.gray + anatomy.white + anatomy.fluid
        assert total.max() < 1 + 1e-5
        assert min(anatomy.gray.min(), anatomy.white.min(), anatomy.fluid.min()) >= 0
        assert anatomy.regions.dtype == np.int16
        assert set(np.unique(anatomy.regions)) == {0, *REGIONS.values()}
        cortical = np.isin(anatomy.regions, range(1, 8))
        assert np.all(anatomy.gray[cortical] >= np.maximum(anatomy.white, anatomy.fluid)[cortical])
        bone_or_skin = anatomy.skull | anatomy.scalp
        assert not np.any(anatomy.skull & anatomy.scalp)
        np.testing.assert_array_equal(bone_or_skin, anatomy.regions == REGIONS["head"])


def test_whole_brain_lies_on_the_grid():
    for seed in range(4):
        anatomy = subject(seed, CohortGrid())
        brain = (anatomy.regions > 0) & (anatomy.regions < REGIONS["head"])
        touching = [brain[0].sum(), brain[-1].sum(), brain[:, 0].sum(), brain[:, -1].sum()]
        assert touching == [0, 0, 0, 0]
        # Below, the brainstem leaves the volume; above, at most the tip of a large head (1 % of the cortex).
        assert brain[:, :, -1].sum() * 12 < 0.01 * brain.sum() * 12
        assert (anatomy.regions[:, :, 0] == REGIONS["cerebellum"]).sum() < 400


def test_deformation_folds_nothing(subjects):
    for anatomy in subjects:
        gradients = [
            np.stack(np.gradient(component, *GRID.voxel_size_mm), axis=-1)
            for component in anatomy.template_mm.astype(np.float64)
        ]
        jacobian = np.linalg.det(np.stack(gradients, axis=-2))
        assert jacobian.min() > 0.2
        # A head 12 % smaller in each direction stretches the template by 1/0.88^3 = 1.47, and the warp adds
        # to it.
        assert jacobian.max() < 2.6


def test_subjects_differ_as_people_do(subjects):
    voxel_ml = np.prod(GRID.voxel_size_mm) / 1000
    volumes = np.array([(anatomy.gray + anatomy.white).sum() * voxel_ml for anatomy in subjects])
    # Brain tissue of adults: about 0.9 to 1.7 liters; between people some 10 %.
    assert 850 < volumes.min() < volumes.max() < 1750
    assert 0.03 < volumes.std() / volumes.mean() < 0.2
    sizes = [anatomy.parameters["head_size"] for anatomy in subjects]
    assert np.corrcoef(volumes, sizes)[0, 1] > 0.6


def test_more_fluid_weight_is_more_atrophy():
    few = [subject(seed) for seed in range(20)]
    fluid = [anatomy.fluid.sum() / (anatomy.gray + anatomy.white).sum() for anatomy in few]
    weights = [anatomy.parameters["fluid_weight"] for anatomy in few]
    assert np.corrcoef(np.log(weights), fluid)[0, 1] > 0.8


class TestSmoothField:
    def test_moments(self):
        fields = smooth_field(GRID, spacing_mm=25.0, random=np.random.default_rng(0), components=24)
        assert fields.shape == (24, *GRID.shape)
        assert fields.dtype == np.float32
        # About 11 x 11 x 7 independent values in each of 24 fields.
        assert fields.mean() == pytest.approx(0.0, abs=0.03)
        assert fields.std() == pytest.approx(1.0, abs=0.04)

    def test_length_scale(self):
        field = smooth_field(GRID, spacing_mm=40.0, random=np.random.default_rng(1), components=24)

        def correlation(voxels: int) -> float:
            a, b = field[:, :-voxels], field[:, voxels:]
            return float((a * b).mean() / field.var())

        # Products of cubic B-splines integrate to the septic one: 2416, 1191, 120, 1 at 0, 1, 2, 3 spacings.
        assert correlation(10) == pytest.approx(1191 / 2416, abs=0.05)
        assert correlation(20) == pytest.approx(120 / 2416, abs=0.08)
        assert abs(correlation(40)) < 0.1
        assert correlation(1) > 0.98

    def test_refuses_no_length(self):
        with pytest.raises(InputError, match="spacing_mm must be in"):
            smooth_field(GRID, spacing_mm=0.0, random=np.random.default_rng(0))
