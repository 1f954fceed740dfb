"""Lesions: in white matter, of stated size and place, none without a plan."""

from __future__ import annotations

import numpy as np
import pytest

from medrestore import rng
from medrestore.data.phantoms.anatomy import CohortGrid, load_template
from medrestore.data.phantoms.head import Head, sample_template
from medrestore.data.phantoms.tissues import TISSUES, Relaxation
from medrestore.domains.multicontrast_mri.simulate.lesions import (
    LESION_KINDS,
    Lesion,
    draw_lesions,
    lesion_map,
)

CUBE = CohortGrid(shape=(40, 40, 40), voxel_size_mm=(1.0, 1.0, 1.0), origin_mm=(-19.5, -19.5, -19.5))


def all_white(grid: CohortGrid) -> Head:
    fractions = np.zeros((len(TISSUES), *grid.shape), dtype=np.float32)
    fractions[list(TISSUES).index("white_matter")] = 1
    return Head(fractions, np.zeros((3, *grid.shape), dtype=np.float32))


def lesion(
    kind: str = "plaque",
    center: tuple[float, float, float] = (0.0, 0.0, 0.0),
    diameters: tuple[float, float, float] = (16.0, 10.0, 10.0),
    axis: tuple[float, float, float] = (1.0, 0.0, 0.0),
    t1_ms: float = 1300.0,
) -> Lesion:
    return Lesion(kind, center, diameters, axis, Relaxation(t1_ms, 120.0, 0.8))


class TestMap:
    def test_volume_and_axes_of_an_ellipsoid(self):
        drawn = lesion_map(all_white(CUBE), CUBE, [lesion(axis=(0.0, 0.6, 0.8))])
        # 4/3 pi a b c; the border is steeper along the long axis than across: a few percent.
        assert drawn.fraction.sum() == pytest.approx(4 / 3 * np.pi * 8 * 5 * 5, rel=0.05)
        x, y, z = np.meshgrid(*CUBE.axes_mm(), indexing="ij")
        weight = drawn.fraction / drawn.fraction.sum()
        along, across = 0.6 * y + 0.8 * z, x
        # A solid ellipsoid's variance along an axis is a^2 / 5.
        assert (weight * along**2).sum() == pytest.approx(64 / 5, rel=0.06)
        assert (weight * across**2).sum() == pytest.approx(25 / 5, rel=0.06)

    def test_each_voxel_belongs_to_the_lesion_that_fills_it_most(self):
        first = lesion(center=(-4.0, 0.0, 0.0), t1_ms=1300.0)
        second = lesion("black_hole", center=(9.0, 0.0, 0.0), t1_ms=2000.0)
        drawn = lesion_map(all_white(CUBE), CUBE, [first, second])
        line = drawn.t1_ms[:, 19, 19]
        assert set(np.unique(line)) == {0.0, 1300.0, 2000.0}
        assert line[15] == 1300
        assert line[30] == 2000
        codes = drawn.code[drawn.fraction > 0]
        assert set(np.unique(codes)) == {LESION_KINDS["plaque"].code, LESION_KINDS["black_hole"].code}
        assert drawn.fraction.max() <= 1

    def test_fills_white_matter_alone(self):
        head = all_white(CUBE)
        head.fractions[:, :20] = 0
        drawn = lesion_map(head, CUBE, [lesion()])
        assert drawn.fraction[:20].max() == 0
        assert drawn.fraction[20:].max() == 1

    def test_a_lesion_beyond_the_grid_is_cut(self):
        drawn = lesion_map(all_white(CUBE), CUBE, [lesion(center=(19.5, 19.5, -30.0))])
        assert drawn.fraction.sum() == 0
        half = lesion_map(all_white(CUBE), CUBE, [lesion(center=(-20.0, 0.0, 0.0))])
        whole = lesion_map(all_white(CUBE), CUBE, [lesion()])
        # The plane of the cut is a voxel's face.
        assert half.fraction.sum() == pytest.approx(whole.fraction.sum() / 2, rel=0.05)


class TestDraw:
    def test_centers_lie_in_white_matter(self, patient):
        lesions = patient.lesions.lesions
        assert len(lesions) == 27
        white = patient.whole.fraction("white_matter")
        affine = np.linalg.inv(patient.fine.affine)
        for drawn in lesions:
            place = np.rint(affine @ [*drawn.center_mm, 1])[:3].astype(int)
            assert white[tuple(place)] >= 0.9

    def test_sizes_and_tissue_are_within_bounds(self, patient):
        kinds = [drawn.kind for drawn in patient.lesions.lesions]
        assert kinds[:2] == ["oedema", "oedema"]
        assert {"plaque", "black_hole"} == set(kinds[2:])
        for drawn in patient.lesions.lesions:
            bounds = LESION_KINDS[drawn.kind]
            low, high = bounds.diameter_mm
            assert all(low <= diameter <= high for diameter in drawn.diameters_mm)
            assert bounds.t1_ms[0] <= drawn.relaxation.t1_ms <= bounds.t1_ms[1]
            assert bounds.t2_ms[0] <= drawn.relaxation.t2_ms <= bounds.t2_ms[1]
            assert np.linalg.norm(drawn.axis) == pytest.approx(1)
            plain = drawn.as_plain()
            assert plain["relaxation"]["t1_ms"] == pytest.approx(drawn.relaxation.t1_ms, abs=1e-3)

    def test_most_plaques_lie_beside_the_ventricles(self, patient, ventricle_mm):
        template = load_template()
        drawn = draw_lesions(
            patient.whole,
            template,
            patient.fine,
            ventricle_mm=ventricle_mm,
            plaques=300,
            oedemas=0,
            random=rng.generator(0, "many"),
        )
        affine = np.linalg.inv(patient.fine.affine)
        cells = np.rint(affine @ np.array([[*one.center_mm, 1.0] for one in drawn]).T)[:3].astype(int)
        places = patient.whole.template_mm[:, cells[0], cells[1], cells[2]]
        distance = sample_template(template, ventricle_mm, places)
        near = float(np.mean((distance >= 2) & (distance <= 12)))
        # 60 % are put there, and of the others those that fall there; 300 draws: standard error 3 %.
        assert 0.55 < near < 0.9
        holes = float(np.mean([one.kind == "black_hole" for one in drawn]))
        assert holes == pytest.approx(0.25, abs=0.08)
        sizes = np.array([one.diameters_mm[0] * one.diameters_mm[1] ** 2 for one in drawn]) ** (1 / 3)
        assert np.median(sizes) == pytest.approx(7.5, abs=0.7)

    def test_none_for_controls(self, control):
        assert control.lesions.lesions == ()
        assert not control.lesions.fraction.any()
        assert not control.lesions.code.any()
        np.testing.assert_array_equal(control.head.fractions, control.whole.fractions)


def test_codes_are_unique_and_none_is_air():
    codes = [kind.code for kind in (*TISSUES.values(), *LESION_KINDS.values())]
    assert sorted(codes) == list(range(1, len(codes) + 1))


def test_lesions_are_wetter_than_white_matter_and_black_holes_most():
    white = TISSUES["white_matter"].mean
    for kind in LESION_KINDS.values():
        assert kind.t1_ms[0] > 1.25 * white.t1_ms
        assert kind.t2_ms[0] > 1.25 * white.t2_ms
        assert kind.pd[0] > 1.1 * white.pd
        assert kind.transfer < TISSUES["white_matter"].transfer
        assert kind.t1_ms[1] < TISSUES["csf"].mean.t1_ms
    assert LESION_KINDS["black_hole"].t1_ms[0] >= LESION_KINDS["plaque"].t1_ms[1]
    assert LESION_KINDS["plaque"].diameter_mm == (3.0, 15.0)
    assert LESION_KINDS["oedema"].diameter_mm[1] == 30.0


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
