"""Uptake: the composite SUVR that was asked for, published means, border cases, load where it belongs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medrestore import rng
from medrestore.checks import InputError
from medrestore.data.phantoms.anatomy import REGIONS, CohortGrid, SubjectAnatomy, load_template, vary
from medrestore.domains.amyloid_pet.schema import COMPOSITE_REGIONS, CUT_OFF_SUVR, REFERENCE_REGION
from medrestore.domains.amyloid_pet.simulate.amyloid import (
    AmyloidUptake,
    composite_of_truth,
    draw_uptake,
    true_activity,
)
from medrestore.domains.amyloid_pet.simulate.subject import MU_BONE_PER_CM, MU_TISSUE_PER_CM, mu_map

GRID = CohortGrid(shape=(64, 64, 30), voxel_size_mm=(4.0, 4.0, 5.0), origin_mm=(-126.0, -144.0, -67.0))
PLAIN = AmyloidUptake(suvr=1.2, nonspecific_suvr=1.2, cerebellum_suv=1.1, white_matter_ratio=1.75)


@pytest.fixture(scope="module")
def anatomy() -> SubjectAnatomy:
    return vary(load_template(), GRID, random=rng.generator(0, "anatomy"))


def activity_of(anatomy: SubjectAnatomy, uptake: AmyloidUptake, seed: int = 0) -> np.ndarray:
    return true_activity(anatomy, load_template(), GRID, uptake, random=rng.generator(seed, "uptake"))


def mean_in(activity: np.ndarray, anatomy: SubjectAnatomy, region: str) -> float:
    return float(activity[anatomy.regions == REGIONS[region]].mean())


class TestDrawUptake:
    def test_status_is_the_side_of_the_cut_off(self):
        random = np.random.default_rng(0)
        for status in (0, 1):
            for border in (False, True):
                draws = [draw_uptake(status, border=border, random=random) for _ in range(300)]
                suvr = np.array([draw.suvr for draw in draws])
                assert np.all((suvr >= CUT_OFF_SUVR) == bool(status))
                assert np.abs(suvr - CUT_OFF_SUVR).min() >= 0.03 - 1e-9
                assert all(draw.nonspecific_suvr <= draw.suvr for draw in draws)
                if border:
                    assert np.abs(suvr - CUT_OFF_SUVR).max() <= 0.10

    def test_published_means(self):
        random = np.random.default_rng(1)
        controls = np.array([draw_uptake(0, border=False, random=random).suvr for _ in range(2000)])
        disease = np.array([draw_uptake(1, border=False, random=random).suvr for _ in range(2000)])
        # Elderly controls 1.21 +- .06, cut at 2.3 SD above and 2.7 below: little changed. Four standard
        # errors.
        assert controls.mean() == pytest.approx(1.21, abs=0.006)
        assert controls.std() == pytest.approx(0.06, abs=0.005)
        # Alzheimer's disease 1.58 +- .17, cut at -1 and +3.06 SD. A normal cut below at a = -1 has the mean
        # phi(a) / (1 - Phi(a)) = 0.2420 / 0.8413 = 0.288 SD and the SD sqrt(1 + a 0.288 - 0.288^2) = 0.794;
        # the upper cut takes 0.004 of both. Four standard errors.
        assert disease.mean() == pytest.approx(1.58 + 0.284 * 0.17, abs=0.013)
        assert disease.std() == pytest.approx(0.79 * 0.17, abs=0.010)

    def test_same_stream_same_uptake(self):
        first, second = (draw_uptake(1, border=True, random=rng.generator(4, "u")) for _ in range(2))
        assert first == second
        assert first != draw_uptake(1, border=True, random=rng.generator(5, "u"))

    def test_parameters_are_one_flat_row(self):
        uptake = draw_uptake(1, border=True, random=np.random.default_rng(0))
        row = uptake.as_parameters()
        assert row["suvr"] == uptake.suvr
        assert row["load_factor_frontal_right"] == uptake.load_factors["frontal"][1]
        assert row["cortical_factor_parietal"] == uptake.cortical_factors["parietal"]
        assert all(isinstance(value, float | bool) for value in row.values())

    def test_refuses_another_status(self):
        with pytest.raises(InputError, match="status must be one of 0, 1, got 2"):
            draw_uptake(2, border=False, random=np.random.default_rng(0))


class TestCompositeOfTruth:
    def test_by_hand(self):
        regions = np.array([1, 1, 2, 3, 3, 3, 4, 5, 0, 8], dtype=np.int16).reshape(1, 2, 5)
        activity = np.array([1, 3, 4, 1, 2, 3, 6, 8, 100, 50], dtype=np.float32).reshape(1, 2, 5)
        # Region means 4, 2, 6, 8: mean of means 5; reference 2.
        assert composite_of_truth(activity, regions) == pytest.approx(2.5)

    def test_refuses_missing_regions(self):
        regions = np.array([[[1, 2, 3, 4]]], dtype=np.int16)
        with pytest.raises(InputError, match=r"codes \[5\] are missing"):
            composite_of_truth(np.ones(regions.shape, dtype=np.float32), regions)


class TestTrueActivity:
    @pytest.mark.parametrize(("status", "border"), [(0, False), (0, True), (1, True), (1, False)])
    def test_composite_is_the_subjects(self, anatomy, status, border):
        uptake = draw_uptake(status, border=border, random=rng.generator(status, "draw", int(border)))
        activity = activity_of(anatomy, uptake)
        assert activity.dtype == np.float32
        assert activity.min() >= 0
        # float32 voxels, solved in float64.
        assert composite_of_truth(activity, anatomy.regions) == pytest.approx(uptake.suvr, abs=1e-5)

    def test_negative_scan_shows_white_matter_above_cortex(self, anatomy):
        activity = activity_of(anatomy, PLAIN)
        white = mean_in(activity, anatomy, "white_matter")
        for region in ("frontal", "lateral_temporal", "parietal", "precuneus_posterior_cingulate"):
            assert white > 1.15 * mean_in(activity, anatomy, region)
        assert mean_in(activity, anatomy, "csf") < 0.8 * mean_in(activity, anatomy, "cerebellum")
        assert mean_in(activity, anatomy, "head") < 0.5 * mean_in(activity, anatomy, "cerebellum")

    def test_load_spares_cerebellum_white_matter_and_head(self, anatomy):
        negative = activity_of(anatomy, PLAIN)
        positive = activity_of(anatomy, replace(PLAIN, suvr=1.8))
        spared = anatomy.regions == REGIONS["cerebellum"]
        np.testing.assert_array_equal(positive[spared], negative[spared])
        # Voxels of the head hold gray matter at the brain's rim only.
        assert mean_in(positive, anatomy, "head") == pytest.approx(
            mean_in(negative, anatomy, "head"), rel=0.02
        )
        gain = {
            region: mean_in(positive, anatomy, region) - mean_in(negative, anatomy, region)
            for region in ("frontal", "precuneus_posterior_cingulate", "other_cortex", "white_matter")
        }
        # The pattern: frontal .42, precuneus and posterior cingulate .45, other cortex .20, with smooth
        # variation.
        assert gain["frontal"] > 1.5 * gain["other_cortex"] > 0
        assert gain["precuneus_posterior_cingulate"] > 1.5 * gain["other_cortex"]
        assert gain["white_matter"] < 0.35 * gain["frontal"]  # only gray matter mixed into it

    def test_sides_can_differ(self, anatomy):
        even = replace(PLAIN, suvr=1.8)
        left_heavy = replace(even, load_factors={"parietal": (2.0, 1.0)})
        ratios = []
        parietal = anatomy.regions == REGIONS["parietal"]
        right = anatomy.template_mm[0] > 0
        for uptake in (left_heavy, even):
            load = activity_of(anatomy, uptake) - activity_of(anatomy, replace(uptake, suvr=1.2))
            ratios.append(load[parietal & ~right].mean() / load[parietal & right].mean())
        assert ratios[0] / ratios[1] == pytest.approx(2.0, rel=1e-3)

    def test_suv_scales_all(self, anatomy):
        one, two = (activity_of(anatomy, replace(PLAIN, cerebellum_suv=suv)) for suv in (1.0, 2.0))
        np.testing.assert_allclose(two, 2 * one, rtol=1e-6)

    def test_impossible_composites_are_refused(self, anatomy):
        with pytest.raises(InputError, match="suvr must be at least nonspecific_suvr"):
            activity_of(anatomy, replace(PLAIN, nonspecific_suvr=1.4))
        with pytest.raises(InputError, match="suvr must be at least nonspecific_suvr"):
            activity_of(anatomy, replace(PLAIN, suvr=0.51, nonspecific_suvr=0.001))
        with pytest.raises(InputError, match=r"suvr must be in \[0.5, 5.0\]"):
            activity_of(anatomy, replace(PLAIN, suvr=9.0))


def test_mu_map(anatomy):
    mu = mu_map(anatomy)
    assert mu.dtype == np.float32
    assert {float(value) for value in np.unique(mu)} == {
        0.0,
        float(np.float32(MU_TISSUE_PER_CM)),
        float(np.float32(MU_BONE_PER_CM)),
    }
    # A ray from ear to ear through the middle of the head: 14 to 20 cm of tissue, two walls of bone.
    across = mu[:, 32, 14] * 0.4
    assert 14 * 0.096 < across.sum() < 20 * 0.12
    bone = np.flatnonzero(mu[:, 32, 14] == np.float32(MU_BONE_PER_CM))
    assert bone.min() < 25
    assert bone.max() > 38
    assert not mu[0].any()


def test_regions_of_the_composite_suvr():
    cortex = ("frontal", "lateral_temporal", "parietal", "precuneus_posterior_cingulate")
    assert tuple(REGIONS[name] for name in cortex) == COMPOSITE_REGIONS
    assert REGIONS["cerebellum"] == REFERENCE_REGION
