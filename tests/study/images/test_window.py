"""Display window: by hand, against a slow loop, and on phantoms whose white matter is known."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from medrestore import rng
from medrestore.checks import InputError
from medrestore.data.phantoms.anatomy import REGIONS, CohortGrid, load_template, vary
from medrestore.data.volumes import read_volume
from medrestore.domains.amyloid_pet.simulate.amyloid import AmyloidUptake, true_activity
from medrestore.study.images.window import block_means, display_window

GRID = CohortGrid(shape=(86, 104, 44), voxel_size_mm=(2.5, 2.5, 4.0), origin_mm=(-106.0, -130.0, -67.0))
NEGATIVE = AmyloidUptake(suvr=1.2, nonspecific_suvr=1.2, cerebellum_suv=1.1, white_matter_ratio=1.75)


@pytest.fixture(scope="module")
def scan() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A negative scan at full dose, at 1 % with correlated noise, and smoothed; where the white matter is."""
    anatomy = vary(load_template(), GRID, random=rng.generator(3, "anatomy"))
    activity = true_activity(anatomy, load_template(), GRID, NEGATIVE, random=rng.generator(3, "uptake"))
    width = 5.0 / 2.355 / np.array(GRID.voxel_size_mm)
    standard = gaussian_filter(activity, width).astype(np.float32)
    noise = gaussian_filter(rng.generator(3, "noise").standard_normal(GRID.shape), width)
    noise *= 0.4 * standard / noise.std()
    arms = {
        "standard": standard,
        "low_dose": np.maximum(standard + noise, 0).astype(np.float32),
        "restored": gaussian_filter(standard + 0.1 * noise, width).astype(np.float32),
    }
    return arms, anatomy.regions == REGIONS["white_matter"]


def window_of(arms: list[np.ndarray], modality: str = "18F-florbetaben PET") -> tuple[float, float]:
    return display_window(arms, voxel_size_mm=GRID.voxel_size_mm, modality=modality)


class TestBlockMeans:
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_slow_loop(self, order):
        volume = np.random.default_rng(0).random((11, 7, 5)).astype(np.float32, order=order)  # type: ignore[call-overload]
        found = block_means(volume, (2.0, 3.0, 6.5))  # blocks of 3, 2 and 1 voxels
        wanted = np.array(
            [
                [[volume[x : x + 3, y : y + 2, z].mean() for z in range(5)] for y in range(0, 7, 2)]
                for x in range(0, 11, 3)
            ]
        )
        # Means of up to 6 numbers in float32.
        np.testing.assert_allclose(found, wanted, rtol=1e-6)

    def test_does_not_change_the_volume(self):
        volume = np.ones((6, 6, 6), dtype=np.float32)
        block_means(volume, (2.0, 2.0, 2.0))
        assert np.all(volume == 1)


class TestDisplayWindow:
    def test_by_hand(self):
        # Voxels are blocks. Foreground: 501 blocks of 1, 2, ..., 501; the 99.8th percentile of 501 values is
        # the 500th: 500. In the second arm the same places hold twice as much.
        first = np.zeros((10, 10, 10), dtype=np.float32)
        first.ravel()[:501] = 1000 + np.arange(1, 502)
        low, high = display_window([first, 2 * first], voxel_size_mm=(6, 6, 6), modality="PET")
        assert low == 0
        assert high == pytest.approx(1.2 * 2 * 1500, rel=1e-6)  # float32

    def test_white_matter_is_clipped_in_no_arm(self, scan):
        arms, white = scan
        for names in (("standard",), ("restored",), ("standard", "restored"), tuple(arms)):
            low, high = window_of([arms[name] for name in names])
            assert low == 0
            for name in names:
                clipped = float((arms[name][white] > high).mean())
                # At 1 % dose a voxel's noise is 40 %: some of its peaks are clipped, white matter is not.
                assert clipped <= (0.01 if name == "low_dose" else 0), (names, name)
                assert arms[name][white].mean() < 0.75 * high
        # Nor is it shown black: its mean is above a third of the window even beside the low dose.
        assert arms["standard"][white].mean() > high / 3

    def test_order_of_arms_changes_no_bit(self, scan):
        arms = list(scan[0].values())
        assert len({window_of(list(order)) for order in permutations(arms)}) == 1

    def test_order_in_memory_changes_nothing(self, scan):
        arms = list(scan[0].values())
        turned = window_of([np.asfortranarray(arm) for arm in arms])
        # The means of blocks are summed in another order.
        assert turned == pytest.approx(window_of(arms), rel=1e-6)

    def test_spikes_do_not_widen_it(self, scan):
        arms, _ = scan
        before = window_of(list(arms.values()))[1]
        spiked = arms["low_dose"].copy()
        places = rng.generator(0, "spikes").integers(0, spiked.size, 8)
        spiked.ravel()[places] = 50 * spiked.max()
        after = window_of([arms["standard"], spiked, arms["restored"]])[1]
        assert spiked.max() > 50 * before
        assert after == pytest.approx(before, rel=0.1)

    def test_starts_at_zero_for_pet_whatever_the_noise(self):
        random = np.random.default_rng(0)
        noisy = random.normal(0, 1, (20, 20, 20)).astype(np.float32)
        noisy[5:15, 5:15, 5:15] += 4
        assert display_window([noisy], voxel_size_mm=(6, 6, 6), modality="FDG PET")[0] == 0

    def test_normalized_mr_starts_below_zero_in_all_arms(self):
        random = np.random.default_rng(0)
        normalized = random.normal(0, 1, (20, 20, 20)).astype(np.float32)
        low, high = display_window([normalized, 2 * normalized], voxel_size_mm=(6, 6, 6), modality="MR")
        assert low == np.float32(np.percentile(2 * normalized, 1))
        assert high > np.percentile(2 * normalized, 99)

    def test_magnitude_mr_starts_at_zero(self):
        head = np.zeros((20, 20, 20), dtype=np.float32)
        head[4:16, 4:16, 4:16] = 700
        head[0, 0, 0] = -3  # interpolation leaves some
        assert display_window([head], voxel_size_mm=(6, 6, 6), modality="MR")[0] == 0

    def test_float32_keeps_it(self, scan):
        for value in window_of(list(scan[0].values())):
            assert float(np.float32(value)) == value

    @pytest.mark.parametrize(
        ("arms", "message"),
        [
            ([], "at least one image"),
            ([np.ones((4, 4, 4)), np.ones((4, 4, 5))], "volumes of one shape"),
            ([np.zeros((4, 4, 4))], "no arm holds any signal"),
            ([np.full((4, 4, 4), -1.0)], "no arm holds any signal"),
        ],
    )
    def test_refuses(self, arms, message):
        with pytest.raises(InputError, match=message):
            display_window(arms, voxel_size_mm=(2, 2, 2), modality="PET")


class TestRealScans:
    @pytest.mark.parametrize(
        "name", ["pet/florbetapir_a.nii.gz", "pet/fdg_template_116_healthy_mni2mm.nii", "mri/avg152_T1.nii"]
    )
    def test_shows_the_brightest_tissue(self, shared_data, name):
        volume = read_volume(shared_data(name))
        modality = "PET" if name.startswith("pet") else "MR"
        low, high = display_window([volume.data], voxel_size_mm=volume.voxel_size_mm, modality=modality)
        assert low == 0
        assert (volume.data > high).mean() < 5e-4
        assert high < volume.data.max() * 1.2
