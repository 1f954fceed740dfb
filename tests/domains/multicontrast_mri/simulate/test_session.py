"""Scans of one head: contrasts as radiology knows them, motion, flow in fluid alone, noise as stated."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from medrestore.data.phantoms.anatomy import CohortGrid
from medrestore.data.phantoms.tissues import TISSUES
from medrestore.domains.multicontrast_mri.simulate.body import Body, Compartment, thick, truth_maps
from medrestore.domains.multicontrast_mri.simulate.session import (
    MriSettings,
    Scans,
    moved,
    scan,
    transmit_field,
)
from medrestore.operators.mdme import mdme_signal, phase_corrected
from medrestore.operators.mr_sequences import CONTRASTS

STILL = {"motion_mm": 0.0, "motion_deg": 0.0}
QUIET = {"mdme_snr": 1e6, "contrast_snr": 1e6}


@pytest.fixture(scope="module")
def settings(patient) -> MriSettings:  # type: ignore[no-untyped-def]
    return MriSettings(slice_parts=patient.parts)


@pytest.fixture(scope="module")
def scans(patient, settings: MriSettings) -> Scans:  # type: ignore[no-untyped-def]
    return scan(patient.body, patient.grid, replace(settings, **STILL), seed=3)


@pytest.fixture(scope="module")
def pure(patient) -> dict[str, np.ndarray]:  # type: ignore[no-untyped-def]
    """Voxels that a tissue (nearly) fills."""
    fractions = dict(zip(TISSUES, thick(patient.head.fractions, patient.parts), strict=True))
    fractions["lesion"] = thick(patient.lesions.fraction, patient.parts)
    bound = {"fat": 0.7, "csf": 0.85, "lesion": 0.6}
    return {name: part > bound.get(name, 0.85) for name, part in fractions.items()}


class TestContrasts:
    def mean(self, scans: Scans, pure: dict[str, np.ndarray], contrast: str, tissue: str) -> float:
        assert pure[tissue].sum() >= 10
        return float(scans.contrasts[contrast][pure[tissue]].mean())

    @pytest.mark.parametrize(
        ("contrast", "order"),
        [
            ("t1w", ("fat", "white_matter", "cortical_gray", "csf")),
            ("t1_flair", ("fat", "white_matter", "cortical_gray", "csf")),
            ("t2w", ("csf", "cortical_gray", "white_matter")),
            ("t2_flair", ("lesion", "cortical_gray", "white_matter", "csf")),
            ("stir", ("csf", "cortical_gray", "white_matter", "fat")),
            ("pdw", ("cortical_gray", "white_matter")),
        ],
    )
    def test_order_of_tissues(self, scans, pure, contrast, order):
        means = [self.mean(scans, pure, contrast, tissue) for tissue in order]
        assert means == sorted(means, reverse=True)
        # No two are alike to the eye: 5 % apart at least.
        assert all(upper > 1.05 * lower for upper, lower in pairwise(means))

    def test_fluid_and_fat_are_nulled(self, scans, pure):
        assert self.mean(scans, pure, "t2_flair", "csf") < 0.5 * self.mean(
            scans, pure, "t2_flair", "white_matter"
        )
        assert self.mean(scans, pure, "stir", "fat") < 0.3 * self.mean(scans, pure, "stir", "white_matter")

    def test_lesions_stand_out_of_the_white_matter_around_them(self, scans, patient, pure):
        from scipy import ndimage

        around = ndimage.binary_dilation(pure["lesion"], iterations=2) & pure["white_matter"]
        flair = scans.contrasts["t2_flair"]
        inside, outside = flair[pure["lesion"]], flair[around]
        assert inside.mean() > 1.2 * outside.mean()
        assert inside.mean() - outside.mean() > 3 * outside.std()


class TestMdme:
    def test_channels(self, scans, settings, patient):
        assert scans.mdme.shape == (8, *patient.grid.shape)
        assert scans.mdme.dtype == np.complex64
        assert set(scans.contrasts) == set(CONTRASTS)
        for image in scans.contrasts.values():
            assert image.dtype == np.float32
            assert image.min() >= 0

    def test_signed_after_phase_correction(self, scans, settings, pure):
        white = pure["white_matter"]
        images = phase_corrected(scans.mdme, reference=settings.protocol.reference)
        # 150 ms after a saturation of 120 degrees white matter is still turned over; late it is not.
        assert np.mean(images[0][white] < 0) > 0.9
        assert np.mean(images[6][white] > 0) > 0.99
        # The background phase is there to be corrected.
        assert np.std(np.angle(scans.mdme[6][white])) > 0.2

    def test_voxel_is_the_sum_of_fraction_times_signal(self, settings):
        grid = CohortGrid(shape=(2, 2, 2), voxel_size_mm=(2.0, 2.0, 5.0), origin_mm=(0.0, 0.0, 0.0))
        fine = CohortGrid(shape=(2, 2, 4), voxel_size_mm=(2.0, 2.0, 2.5), origin_mm=(0.0, 0.0, -1.25))
        tissues = (("white_matter", 860.0, 74.0, 0.69, 0.3), ("fat", 382.0, 68.0, 0.9, 0.7))
        parts = []
        for name in TISSUES:  # the body's order; all others are absent
            values = next((values for other, *values in tissues if other == name), None)
            cells = np.arange(16 if values else 0)
            t1, t2, pd, fraction = (np.full(cells.size, value, np.float32) for value in values or (0,) * 4)
            parts.append(Compartment(name, cells, 0.0, fraction, t1, t2, pd))
        brain, no_fluid = np.ones(fine.shape, dtype=np.float32), np.zeros(0, dtype=np.float32)
        body = Body(fine, tuple(parts), brain, no_fluid)
        plain = replace(
            settings,
            slice_parts=2,
            receive_log_sd=0.0,
            transmit_center=1.0,
            transmit_sd=0.0,
            **QUIET,
            **STILL,
        )
        image = scan(body, grid, plain, seed=0).mdme
        images = phase_corrected(image, reference=plain.protocol.reference)
        expected = sum(
            fraction * mdme_signal(t1, t2, pd, protocol=plain.protocol) for _, t1, t2, pd, fraction in tissues
        )
        # Float32, and noise of a millionth.
        np.testing.assert_allclose(images[:, 0, 0, 0], expected, atol=1e-4)

    def test_noise_is_as_stated(self, patient, settings):
        loud = scan(patient.body, patient.grid, replace(settings, **STILL), seed=3)
        quiet = scan(patient.body, patient.grid, replace(settings, **STILL, **QUIET), seed=3)
        brain = thick(patient.body.brain, patient.parts) > 0.9
        reference = settings.protocol.reference
        noise = (loud.mdme - quiet.mdme)[reference]
        level = np.abs(quiet.mdme[reference][brain]).mean()
        # Some 40,000 voxels of two parts: half a percent; the quiet scan's own noise is nothing.
        assert level / noise.real.std() == pytest.approx(60, rel=0.03)
        assert noise.imag.std() == pytest.approx(noise.real.std(), rel=0.03)
        for name in CONTRASTS:
            clean, noisy = quiet.contrasts[name], loud.contrasts[name]
            # Far above the noise the Rice distribution is a normal one of the same width.
            strong = brain & (clean > 0.7 * clean[brain].mean())
            sigma = float((noisy - clean)[strong].std())
            assert float(clean[brain].mean()) / sigma == pytest.approx(45, rel=0.08)
            # In air the mean is that of the Rayleigh distribution.
            air = thick(patient.head.fractions.sum(axis=0), patient.parts) == 0
            assert noisy[air].mean() == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.1)


class TestFlow:
    def test_changes_what_holds_fluid_and_nothing_else(self, patient, settings):
        options = {**STILL, **QUIET}
        flowing = scan(patient.body, patient.grid, replace(settings, **options), seed=1)
        resting = scan(
            patient.body, patient.grid, replace(settings, inflow=0.0, dephasing=0.0, **options), seed=1
        )
        fluid = thick(patient.head.fraction("csf"), patient.parts)
        scale = float(np.abs(resting.mdme[6]).max())
        change = np.abs(flowing.mdme - resting.mdme).max(axis=0) / scale
        assert change[fluid == 0].max() < 2e-5  # the noise of a millionth
        assert change[fluid > 0.8].mean() > 0.02
        flair, flair_still = flowing.contrasts["t2_flair"], resting.contrasts["t2_flair"]
        assert flair[fluid > 0.8].mean() > 1.5 * flair_still[fluid > 0.8].mean()
        # STIR's short TI leaves no time for inflow.
        stir, stir_still = flowing.contrasts["stir"], resting.contrasts["stir"]
        assert stir[fluid > 0.8].mean() == pytest.approx(stir_still[fluid > 0.8].mean(), rel=0.2)


class TestMotion:
    GRID = CohortGrid(shape=(20, 24, 16), voxel_size_mm=(2.0, 2.0, 1.0), origin_mm=(0.0, 0.0, 0.0))

    def blob(self, *center: float) -> np.ndarray:
        axes = np.meshgrid(
            *(np.arange(n) * s for n, s in zip(self.GRID.shape, (2, 2, 1), strict=True)), indexing="ij"
        )
        distance2 = sum((axis - middle) ** 2 for axis, middle in zip(axes, center, strict=True))
        return np.exp(-distance2 / 18).astype(np.float32)

    def test_none_is_the_identity(self):
        image = self.blob(20.0, 20.0, 8.0)
        np.testing.assert_allclose(moved(image, self.GRID, (0.0,) * 6), image, atol=1e-5)

    def test_shift_in_mm(self):
        image = self.blob(20.0, 20.0, 8.0)
        there = moved(image, self.GRID, (1.5, -2.0, 0.7, 0.0, 0.0, 0.0))
        # Quadratic splines of a blob of 3 mm: a percent. Beyond the ends of the grid the border goes on.
        inner = (slice(None), slice(None), slice(2, -2))
        np.testing.assert_allclose(there[inner], self.blob(21.5, 18.0, 8.7)[inner], atol=0.012)

    def test_rotation_in_mm_about_the_middle(self):
        # The middle lies at (19, 23, 7.5) mm; a blob 10 mm to its right turns 20 degrees about z.
        image = self.blob(29.0, 23.0, 7.5)
        angle = np.deg2rad(20)
        there = moved(image, self.GRID, (0.0, 0.0, 0.0, 0.0, 0.0, 20.0))
        expected = self.blob(19 + 10 * np.cos(angle), 23 + 10 * np.sin(angle), 7.5)
        np.testing.assert_allclose(there, expected, atol=0.012)

    def test_is_small_and_of_the_stated_size(self, patient, settings):
        seeds = [scan(patient.body, patient.grid, settings, seed=seed).motion for seed in range(3)]
        values = np.array([motion for motions in seeds for motion in motions.values()])
        assert values.shape == (18, 6)
        # 54 draws each: the SD is known to a tenth, and none is beyond four SD.
        assert values[:, :3].std() == pytest.approx(0.7, rel=0.3)
        assert values[:, 3:].std() == pytest.approx(0.7, rel=0.3)
        assert np.abs(values).max() < 4 * 0.7


def test_transmit_field_is_high_in_the_middle(patient, settings):
    b1 = transmit_field(patient.body, settings, random=np.random.default_rng(0))
    brain = patient.body.brain > 0.9
    assert b1[32, 37, 28] > 1.0
    # About 20 % at 3 T.
    assert 0.7 < b1[brain].min() < 0.95
    assert 1.05 < b1[brain].max() < 1.3
    assert b1[brain].mean() == pytest.approx(1.0, abs=0.08)


def test_same_seed_same_scans(patient, settings, scans):
    again = scan(patient.body, patient.grid, replace(settings, **STILL), seed=3)
    assert again.mdme.tobytes() == scans.mdme.tobytes()
    assert all(again.contrasts[name].tobytes() == scans.contrasts[name].tobytes() for name in CONTRASTS)
    truth = truth_maps(patient.body, patient.head, patient.lesions, parts=patient.parts)
    assert truth.t1_ms.shape == patient.grid.shape
