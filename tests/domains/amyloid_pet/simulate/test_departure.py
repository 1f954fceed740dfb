"""Departures: where they should be, as large as stated, the status kept, nothing else changed."""

from __future__ import annotations

import numpy as np
import pytest

from medrestore import rng
from medrestore.checks import InputError
from medrestore.data.phantoms.anatomy import REGIONS, CohortGrid, SubjectAnatomy, load_template, vary
from medrestore.domains.amyloid_pet.simulate.amyloid import (
    CUT_OFF_SUVR,
    AmyloidUptake,
    composite_of_truth,
    true_activity,
)
from medrestore.domains.amyloid_pet.simulate.departure import DEPARTURES, LEAST_ML, depart

GRID = CohortGrid(shape=(64, 64, 30), voxel_size_mm=(4.0, 4.0, 5.0), origin_mm=(-126.0, -144.0, -67.0))
VOXEL_ML = 4 * 4 * 5 / 1000


@pytest.fixture(scope="module")
def anatomy() -> SubjectAnatomy:
    return vary(load_template(), GRID, random=rng.generator(0, "anatomy"))


@pytest.fixture(scope="module")
def activity(anatomy: SubjectAnatomy) -> np.ndarray:
    uptake = AmyloidUptake(suvr=1.34, nonspecific_suvr=1.2, cerebellum_suv=1.1, white_matter_ratio=1.75)
    return true_activity(anatomy, load_template(), GRID, uptake, random=rng.generator(0, "uptake"))


@pytest.mark.parametrize("kind", DEPARTURES)
def test_departure_is_of_its_kind_and_keeps_the_status(anatomy, activity, kind):
    low, high = DEPARTURES[kind]
    cortex = np.isin(anatomy.regions, [REGIONS[name] for name in REGIONS if REGIONS[name] in range(2, 7)])
    for seed in range(5):
        departed = depart(
            activity, anatomy, load_template(), GRID, kind, status=0, random=rng.generator(seed, kind)
        )
        np.testing.assert_allclose(departed.activity, activity + departed.difference, rtol=1e-6)
        assert composite_of_truth(departed.activity, anatomy.regions) < CUT_OFF_SUVR
        share = departed.difference / np.maximum(activity, 1e-6)
        # No voxel changes by more than drawn; one that the tissue fills, inside of it, by as much.
        change = departed.record["change"]
        assert low <= change <= high
        assert np.abs(share).max() <= abs(change) + 1e-5
        assert np.abs(share).max() >= 0.75 * abs(change)
        assert np.all(np.sign(departed.difference) * np.sign(change) >= 0)
        size = np.abs(departed.difference)
        assert (size >= size.max() / 2).sum() * VOXEL_ML >= LEAST_ML
        # Most of it in cortex, but where white matter is lost too.
        in_cortex = size[cortex].sum() / size.sum()
        assert in_cortex > 0.5 or kind == "tissue_without_uptake"


def test_a_raised_region_is_of_one_side(anatomy, activity):
    departed = depart(
        activity, anatomy, load_template(), GRID, "raised_region", status=0, random=rng.generator(1, "side")
    )
    right = anatomy.template_mm[0] > 0
    other = ~right if departed.record["side"] == "right" else right
    assert not departed.difference[other].any()
    assert departed.difference[~other].any()


def test_place_that_does_not_exist_is_refused(anatomy, activity):
    with pytest.raises(InputError, match="kind must be one of 'raised_focus'"):
        depart(activity, anatomy, load_template(), GRID, "focus", status=0, random=rng.generator(0, "x"))
    with pytest.raises(InputError, match="no place for a departure 'lost_focus' was found"):
        # A status that no place can give: the subject is far below the cut-off.
        depart(
            activity / 2, anatomy, load_template(), GRID, "lost_focus", status=1, random=rng.generator(0, "x")
        )
