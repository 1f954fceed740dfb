"""The average head: tissue that adds up, and labels where a neuroanatomist expects them."""

from __future__ import annotations

import numpy as np
import pytest

from medrestore.data.phantoms.template import (
    DOSENBACH_REGIONS,
    REGIONS,
    Template,
    load_template,
    region_centers,
)


@pytest.fixture(scope="module")
def template() -> Template:
    return load_template()


def volume_ml(mask: np.ndarray) -> float:
    return float(np.count_nonzero(mask)) * 8e-3


def test_codes_are_those_of_the_cohorts_files():
    assert REGIONS == {
        "cerebellum": 1,
        "frontal": 2,
        "lateral_temporal": 3,
        "parietal": 4,
        "precuneus_posterior_cingulate": 5,
        "other_cortex": 6,
        "deep_gray": 7,
        "white_matter": 8,
        "csf": 9,
        "head": 10,
    }


def test_every_dosenbach_region_has_one_of_ours():
    import csv
    from pathlib import Path

    import nilearn.datasets

    with (Path(nilearn.datasets.__file__).parent / "data" / "dosenbach_2010.csv").open() as stream:
        names = {row["name"] for row in csv.DictReader(stream)}
    listed = [name for ours in DOSENBACH_REGIONS.values() for name in ours]
    assert sorted(listed) == sorted(names)


def test_centers_carry_the_codes_of_their_names():
    centers, codes = region_centers()
    assert centers.shape == (len(codes), 3)
    found = {tuple(center): int(code) for center, code in zip(centers, codes, strict=True)}
    # Rows of Dosenbach's table, by hand.
    assert found[6, 64, 3] == REGIONS["frontal"]  # vmPFC
    assert found[-6, -56, 29] == REGIONS["precuneus_posterior_cingulate"]  # precuneus
    assert found[51, -59, 34] == REGIONS["parietal"]  # angular gyrus
    assert found[-4, -94, 12] == REGIONS["other_cortex"]  # post occipital
    assert found[-6, 17, 34] == REGIONS["frontal"]  # named basal ganglia, lies in the cingulate


def test_tissue_fractions_add_up(template):
    total = template.gray + template.white + template.fluid
    inside = template.distance_mm == 0
    np.testing.assert_allclose(total[inside], 1.0, atol=1e-6)  # float32
    assert not total[~inside].any()
    assert min(template.gray.min(), template.white.min(), template.fluid.min()) >= 0


def test_volumes_are_those_of_an_adult(template):
    # MNI space is larger than most people: 1.6 to 2.0 liters inside the skull, of which gray matter near a
    # half.
    assert 1600 < volume_ml(template.distance_mm == 0) < 2000
    assert 700 < template.gray.sum() * 8e-3 < 1100
    assert 450 < template.white.sum() * 8e-3 < 800
    # The head is larger than the brain by skull and scalp, 15.5 mm, at the least.
    assert template.outline_mm[template.distance_mm == 0].max() < -15
    assert 3000 < volume_ml(template.outline_mm <= 0) < 5500


@pytest.mark.parametrize(
    ("point_mm", "region"),
    [
        # Points well inside structures in MNI coordinates, as atlases and meta-analyses give them.
        ((0, -62, 42), "precuneus_posterior_cingulate"),
        ((-4, -48, 28), "precuneus_posterior_cingulate"),
        ((-40, 34, 28), "frontal"),
        ((4, 52, 4), "frontal"),
        ((-60, -26, -12), "lateral_temporal"),
        ((60, -22, 2), "lateral_temporal"),
        ((46, -62, 40), "parietal"),
        ((-36, -56, 50), "parietal"),
        ((-12, -96, 2), "other_cortex"),
        ((38, 6, 0), "other_cortex"),
        ((26, -24, -14), "other_cortex"),
        ((12, 12, 8), "deep_gray"),
        ((-26, 4, 2), "deep_gray"),
        ((8, -18, 8), "deep_gray"),
        ((28, -66, -42), "cerebellum"),
        ((-34, -60, -30), "cerebellum"),
        ((0, -28, -32), "white_matter"),
    ],
)
def test_regions_lie_where_they_should(template, point_mm, region):
    place = np.array(point_mm, dtype=np.float32).reshape(3, 1, 1, 1)
    assert int(template.region_of_gray(place)[0, 0, 0]) == REGIONS[region]


def test_outside_the_template_the_edge_counts(template):
    far = np.array([0, 0, 500], dtype=np.float32).reshape(3, 1, 1, 1)
    assert template.region_of_gray(far).shape == (1, 1, 1)
