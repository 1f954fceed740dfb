"""Simulated MR: the same head elsewhere, tissues as its sequence shows them, lesions in white matter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from medrestore import rng
from medrestore.data.phantoms.anatomy import (
    CohortGrid,
    SubjectAnatomy,
    anatomy_of_other_grid,
    load_template,
    vary,
)
from medrestore.data.phantoms.head import ventricle_distance_mm
from medrestore.data.phantoms.tissues import Relaxation, draw_relaxation
from medrestore.domains.amyloid_pet.simulate.mr import (
    MrSettings,
    WhiteLesion,
    draw_white_lesions,
    simulate_mr,
    white_lesion_fraction,
)

GRID = CohortGrid(shape=(64, 64, 30), voxel_size_mm=(4.0, 4.0, 5.0), origin_mm=(-126.0, -144.0, -67.0))
CLEAN = MrSettings(grid=GRID, snr=1e6, bias_log_sd=0.0, motion_mm=0.0, motion_deg=0.0)


@pytest.fixture(scope="module")
def anatomy() -> SubjectAnatomy:
    return vary(load_template(), GRID, random=rng.generator(0, "anatomy"))


def scanned(anatomy, settings, *, names=("t1",), lesions=()):
    return simulate_mr(anatomy, load_template(), GRID, lesions, names, settings, seed=5)


def test_t1_shows_white_gray_and_fluid_in_this_order_and_flair_nulls_the_fluid(anatomy):
    scans = scanned(anatomy, CLEAN, names=("t1", "flair"))
    t1, flair = scans["t1"].image, scans["flair"].image
    white, gray, fluid = (part > 0.95 for part in (anatomy.white, anatomy.gray, anatomy.fluid))
    gray &= np.isin(anatomy.regions, range(2, 7))  # cortex: the T1 of deep gray matter is another
    drawn = draw_relaxation(rng.generator(5, "tissue"))
    expected = [
        PD * (1 - 2 * np.exp(-900 / T1) + 2 * np.exp(-2298.5 / T1) - np.exp(-2300 / T1)) * np.exp(-3 / T2)
        for T1, T2, PD in (
            (tissue.t1_ms, tissue.t2_ms, tissue.pd)
            for tissue in (drawn["white_matter"], drawn["cortical_gray"])
        )
    ]
    # T1 varies smoothly by 3.5 %, the signal of gray matter by 2.5 times that; its mean by less.
    assert t1[white].mean() / t1[gray].mean() == pytest.approx(expected[0] / expected[1], rel=0.09)
    assert t1[fluid].mean() < 0.6 * t1[gray].mean()
    assert flair[gray].mean() > flair[white].mean()
    assert flair[fluid].mean() < 0.2 * flair[white].mean()
    assert scans["t1"].motion == (0.0,) * 6


def test_matrix_says_where_the_head_went(anatomy):
    moved = replace(CLEAN, motion_mm=6.0, motion_deg=4.0)
    still, there = (scanned(anatomy, settings)["t1"] for settings in (CLEAN, moved))
    # A place of the still image is found at matrix x place in the moved one: the head shows the same there.
    places = np.stack(np.meshgrid(*(axis[8:-8:2] for axis in GRID.axes_mm()), indexing="ij")).reshape(3, -1)
    found = there.matrix[:3, :3] @ places + there.matrix[:3, 3:]

    def at(image, points):
        index = (points - np.array(GRID.origin_mm)[:, None]) / np.array(GRID.voxel_size_mm)[:, None]
        return map_coordinates(image.astype(np.float64), index, order=1)

    before = at(still.image, places)
    back = np.linalg.inv(there.matrix)
    tried = (found, places, back[:3, :3] @ places + back[:3, 3:])
    aligned, unaligned, wrong = (np.corrcoef(before, at(there.image, at_mm))[0, 1] for at_mm in tried)
    # Cortex is thinner than voxels of 4 and 5 mm, and interpolation blurs it: what is left is 0.88 of 1.
    assert aligned > 0.8
    assert max(unaligned, wrong) < 0.5


def test_anatomy_on_its_own_grid_is_itself(anatomy):
    same = anatomy_of_other_grid(anatomy, load_template(), GRID, other=GRID, matrix=np.eye(4))
    # Places are float32, up to 150 mm; a voxel of the template is 2 mm, fractions change by 1 over it.
    np.testing.assert_allclose(same.template_mm, anatomy.template_mm, atol=1e-4)
    np.testing.assert_allclose(same.white, anatomy.white, atol=1e-3)


def test_lesions_are_dark_in_t1_and_bright_in_flair(anatomy):
    lesions = draw_white_lesions(
        anatomy,
        load_template(),
        GRID,
        ventricle_mm=ventricle_distance_mm(load_template()),
        random=rng.generator(3, "lesions"),
    )
    assert lesions
    fraction = white_lesion_fraction(lesions, anatomy.white, GRID)
    assert np.all(fraction <= anatomy.white)
    with_them = scanned(anatomy, CLEAN, names=("t1", "flair"), lesions=lesions)
    without = scanned(anatomy, CLEAN, names=("t1", "flair"))
    filled, away = fraction > 0.5, (fraction == 0) & (anatomy.white > 0.9)
    assert filled.any()
    change = {
        name: with_them[name].image.astype(float) / np.maximum(without[name].image, 1) for name in without
    }
    # The scale is set by the brain's mean, which lesions change by less than a percent.
    np.testing.assert_allclose(change["t1"][away], 1, atol=0.01)
    assert change["t1"][filled].max() < 0.9
    assert change["flair"][filled].min() > 1.1


def test_a_lesion_takes_the_place_of_white_matter_alone():
    lesion = WhiteLesion((0.0, -16.0, 8.0), (16.0, 10.0), (1.0, 0.0, 0.0), Relaxation(1300.0, 120.0, 0.8))
    white = np.zeros(GRID.shape, dtype=np.float32)
    assert not white_lesion_fraction([lesion], white, GRID).any()
    white[:] = 1
    volume_mm3 = white_lesion_fraction([lesion], white, GRID).sum() * 4 * 4 * 5
    # 4/3 pi a b b; voxels of 4 and 5 mm see its border coarsely.
    assert volume_mm3 == pytest.approx(4 / 3 * np.pi * 8 * 5 * 5, rel=0.25)
