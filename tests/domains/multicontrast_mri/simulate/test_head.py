"""Heads as tissue fractions: they add up, lie where they belong, and are mixed at borders."""

from __future__ import annotations

import numpy as np

from medrestore.data.phantoms.anatomy import load_template
from medrestore.domains.multicontrast_mri.simulate.head import ventricle_distance_mm
from medrestore.domains.multicontrast_mri.simulate.tissues import TISSUES


def test_fractions_add_up_with_air(patient, control):
    for subject in (patient, control):
        total = subject.head.fractions.sum(axis=0) + subject.lesions.fraction
        # Sums of eight float32.
        assert subject.head.fractions.min() >= -1e-6
        assert total.max() <= 1 + 1e-5
        brain = subject.whole.fractions[:4].sum(axis=0)
        inside = np.zeros(brain.shape, dtype=bool)
        inside[30:34, 33:37, 20:30] = True  # the middle of the head is no air
        np.testing.assert_allclose(total[inside], 1, atol=1e-5)
        assert total[0].max() == 0
        assert total[:, -1].max() == 0


def test_lesions_take_the_place_of_white_matter_alone(patient):
    taken = patient.whole.fractions - patient.head.fractions
    white = list(TISSUES).index("white_matter")
    np.testing.assert_array_equal(np.delete(taken, white, axis=0), 0)
    np.testing.assert_allclose(taken[white], patient.lesions.fraction, atol=1e-6)


def test_layers_from_the_brain_outward(control):
    # From the middle to the right ear at the height of the ventricles.
    ray = control.head.fractions[:, 32:, 36, 24]
    outermost = {
        name: int(np.flatnonzero(ray[list(TISSUES).index(name)] > 0.3).max())
        for name in ("cortical_gray", "csf", "bone", "fat")
    }
    assert outermost["cortical_gray"] <= outermost["csf"] < outermost["bone"] < outermost["fat"]
    # Skin is the last: some lean tissue beyond the fat.
    assert ray[list(TISSUES).index("muscle"), outermost["fat"] + 1 :].max() > 0.1


def test_volumes_are_those_of_a_head(control):
    voxel_ml = np.prod(control.fine.voxel_size_mm) / 1000
    volume = {
        name: float(part.sum() * voxel_ml) for name, part in zip(TISSUES, control.head.fractions, strict=True)
    }
    # Adults: about 450 to 750 ml of white and 500 to 900 ml of gray matter; the slices leave out some of it.
    assert 350 < volume["white_matter"] < 750
    assert 400 < volume["cortical_gray"] < 900
    assert 20 < volume["deep_gray"] < 140  # with brainstem
    assert 150 < volume["csf"] < 700
    assert 200 < volume["fat"] < 900


def test_borders_are_mixed(control):
    white = control.head.fraction("white_matter")
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
