"""Heads as tissue fractions: they add up, lie where they belong, and are mixed at borders."""

from __future__ import annotations

import numpy as np
import pytest

from medrestore import rng
from medrestore.data.phantoms.anatomy import CohortGrid, load_template, vary
from medrestore.data.phantoms.head import Head, draw_head, ventricle_distance_mm
from medrestore.data.phantoms.tissues import TISSUES

GRID = CohortGrid(shape=(64, 75, 48), voxel_size_mm=(3.0, 3.0, 2.5), origin_mm=(-94.5, -127.0, -46.75))


@pytest.fixture(scope="module")
def head() -> Head:
    anatomy = vary(load_template(), GRID, random=rng.generator(1, "anatomy"))
    return draw_head(anatomy, load_template(), GRID, random=rng.generator(1, "head"))


def test_layers_from_the_brain_outward(head):
    # From the middle to the right ear at the height of the ventricles.
    ray = head.fractions[:, 32:, 36, 24]
    outermost = {
        name: int(np.flatnonzero(ray[list(TISSUES).index(name)] > 0.3).max())
        for name in ("cortical_gray", "csf", "bone", "fat")
    }
    assert outermost["cortical_gray"] <= outermost["csf"] < outermost["bone"] < outermost["fat"]
    # Skin is the last: some lean tissue beyond the fat.
    assert ray[list(TISSUES).index("muscle"), outermost["fat"] + 1 :].max() > 0.1


def test_volumes_are_those_of_a_head(head):
    voxel_ml = np.prod(GRID.voxel_size_mm) / 1000
    volume = {name: float(part.sum() * voxel_ml) for name, part in zip(TISSUES, head.fractions, strict=True)}
    # Adults: about 450 to 750 ml of white and 500 to 900 ml of gray matter; the slices leave out some of it.
    assert 350 < volume["white_matter"] < 750
    assert 400 < volume["cortical_gray"] < 900
    assert 20 < volume["deep_gray"] < 140  # with brainstem
    assert 150 < volume["csf"] < 700
    assert 200 < volume["fat"] < 900


def test_borders_are_mixed(head):
    white = head.fraction("white_matter")
    mixed = (white > 0.1) & (white < 0.9)
    assert 0.2 < mixed.sum() / (white > 0.1).sum() < 0.95


def test_ventricles_are_deep_fluid():
    template = load_template()
    ventricles = ventricle_distance_mm(template) == 0
    assert template.fluid[ventricles].min() > 0.5
    # Lateral and third ventricle of adults: about 10 to 40 ml.
    assert 10 < ventricles.sum() * 8 / 1000 < 50
    across = np.flatnonzero(ventricles.any(axis=(1, 2)))
    x = template.affine[0, 3] + template.affine[0, 0] * across
    assert x.min() < -15
    assert x.max() > 15
