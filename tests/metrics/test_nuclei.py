"""Nuclei of drawn sections whose number is known, and of real ones."""

import dataclasses
import itertools
import time
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from medrestore import rng
from medrestore.checks import InputError
from medrestore.metrics.nuclei import Nuclei, _part, count_nuclei, nuclei_agreement

STROMA, NUCLEUS, GLASS = (225, 160, 195), (95, 65, 140), (243, 242, 244)


def draw(
    centers_um: Sequence[tuple[float, float]],
    *,
    radius_um: float = 4.0,
    microns_per_pixel: float = 0.25,
    side_um: float = 64.0,
    background: tuple[int, int, int] = STROMA,
    noise: float = 3.0,
) -> np.ndarray:
    """Draw disks of a nucleus' color, soft at the rim as a lens makes them, in grainy tissue."""
    side = round(side_um / microns_per_pixel)
    row, column = np.indices((side, side)) * microns_per_pixel
    inside = np.zeros((side, side))
    for y, x in centers_um:
        inside[(row - y) ** 2 + (column - x) ** 2 <= radius_um**2] = 1
    inside = gaussian_filter(inside, 0.25 / microns_per_pixel)[..., None]
    picture = inside * np.array(NUCLEUS) + (1 - inside) * np.array(background)
    picture = picture + noise * rng.generator(0, "grain").standard_normal(picture.shape)
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)


GRID = list(itertools.product((10.0, 25.0, 40.0, 55.0), (8.0, 23.0, 41.0, 56.0)))


@pytest.mark.parametrize("microns_per_pixel", [0.125, 0.25, 0.5])
@pytest.mark.parametrize("background", [STROMA, GLASS])
def test_disks_are_found_where_they_are_at_every_resolution(microns_per_pixel, background):
    picture = draw(GRID, microns_per_pixel=microns_per_pixel, background=background)
    nuclei = count_nuclei(picture, microns_per_pixel=microns_per_pixel)
    assert nuclei.count == 16
    # Row by row, as labels are numbered in no stated order; half a pixel at the coarsest resolution.
    found = sorted(map(tuple, np.round(nuclei.centroids_um)))
    assert found == sorted(GRID)
    # The rim is where a threshold on the smoothed density lies: within half a micrometer of radius 4.
    assert np.pi * 3.5**2 < nuclei.mean_area_um2 < np.pi * 4.7**2
    assert nuclei.density_per_mm2 == pytest.approx(16 / 0.064**2, rel=1e-9)
    assert set(np.unique(nuclei.labels)) == set(range(17))
    assert nuclei.labels.shape == picture.shape[:2]


def test_touching_nuclei_are_told_apart():
    pairs = [(y, x + step) for y in (12.0, 32.0, 52.0) for x in (12.0, 42.0) for step in (0.0, 7.0)]
    nuclei = count_nuclei(draw(pairs), microns_per_pixel=0.25)  # 1 um of overlap
    assert nuclei.count == 12
    agreement = nuclei_agreement(nuclei, count_nuclei(draw(pairs, noise=0), microns_per_pixel=0.25))
    assert agreement == (0, 1, 12)


def test_two_disks_that_overlap_almost_wholly_are_one():
    assert count_nuclei(draw([(30, 30), (30, 31.5)]), microns_per_pixel=0.25).count == 1


def test_a_nucleus_that_the_border_cuts_counts():
    nuclei = count_nuclei(draw([(0, 20), (30, 30), (50, 63)]), microns_per_pixel=0.25)
    assert nuclei.count == 3
    assert nuclei.labels[0].any()  # as far as the border
    assert nuclei.labels[:, -1].any()


def test_a_pale_nucleus_is_filled_and_a_ring_of_nuclei_is_not():
    picture = draw([(20, 20)], radius_um=6)
    row, column = np.indices((256, 256)) * 0.25
    picture[(row - 20) ** 2 + (column - 20) ** 2 < 2**2] = STROMA  # 13 um2 of pale chromatin
    filled = count_nuclei(picture, microns_per_pixel=0.25)
    assert filled.count == 1
    assert filled.labels[80, 80] == 1
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    ring = [(32 + 18 * np.sin(angle), 32 + 18 * np.cos(angle)) for angle in angles]
    gland = count_nuclei(draw(ring), microns_per_pixel=0.25)  # neighbors, 7 um apart, touch all round
    assert gland.count == 16
    assert gland.labels[128, 128] == 0


def test_pale_nuclei_are_found_beside_very_dark_ones():
    picture = draw(GRID)
    row, column = np.indices((256, 256)) * 0.25
    for y, x in GRID[::4]:
        picture[(row - y) ** 2 + (column - x) ** 2 < 3.5**2] = (30, 15, 60)
    pale = draw(GRID)
    for y, x in GRID[2::4]:
        near = (row - y) ** 2 + (column - x) ** 2 < 6**2
        picture[near] = np.round(0.55 * pale[near] + 0.45 * np.array(STROMA)).astype(np.uint8)
    assert count_nuclei(picture, microns_per_pixel=0.25).count == 16


@pytest.mark.parametrize("color", [GLASS, (255, 255, 255), STROMA, (200, 60, 60)])
def test_a_tile_without_nuclei_has_none(color):
    for noise in (0.0, 5.0):
        nuclei = count_nuclei(draw([], background=color, noise=noise), microns_per_pixel=0.25)
        assert (nuclei.count, nuclei.density_per_mm2) == (0, 0)
        assert np.isnan(nuclei.mean_area_um2)
        assert nuclei.centroids_um.shape == (0, 2)
        assert not nuclei.labels.any()


def test_a_black_tile_has_none():
    assert count_nuclei(np.zeros((64, 64, 3), dtype=np.uint8), microns_per_pixel=0.25).count == 0


def test_cytoplasm_that_takes_up_hematoxylin_is_no_nucleus():
    """Cells on glass: light has three levels, and the largest step is that from glass to cytoplasm."""
    row, column = np.indices((256, 256)) * 0.25
    picture = draw([], background=GLASS)
    cells = draw(GRID, radius_um=3.5, background=(150, 110, 165))
    for y, x in GRID:
        near = (row - y) ** 2 + (column - x) ** 2 <= 7.4**2
        picture[near] = cells[near]
    nuclei = count_nuclei(picture, microns_per_pixel=0.25)
    assert nuclei.count == 16
    assert nuclei.mean_area_um2 < np.pi * 4.2**2  # the nucleus', 3.5 um, not the cell's, 7.4 um


def test_dark_and_pale_tissue_in_one_tile_have_their_own_nuclei():
    """Otsu's threshold parts the two tissues; in the dark one what is around a nucleus must part it."""
    pale, dark = draw(GRID), draw(GRID, background=(150, 110, 165))
    picture = np.concatenate([pale[:, :128], dark[:, 128:]], axis=1)
    nuclei = count_nuclei(picture, microns_per_pixel=0.25)
    truth = count_nuclei(pale, microns_per_pixel=0.25)
    # A strip of dark tissue along the seam exceeds the mean across it, and may take one nucleus in.
    assert nuclei_agreement(nuclei, truth).matched >= 15
    assert nuclei.count <= 17


def test_a_thin_nucleus_beside_a_large_one_keeps_a_label():
    row, column = np.indices((40, 40))
    mask = (row - 20) ** 2 + (column - 26) ** 2 <= 12**2
    mask[8:32, 10:13] = True  # one pixel away, and lower than the large one's slope within 2 um
    labels = _part(mask, 0.25)
    assert ((labels > 0) == mask).all()
    assert len(np.unique(labels[8:32, 10:13])) == 1
    assert labels[20, 11] != labels[20, 26]


def test_specks_are_no_nuclei():
    # Disks of 1.2 um radius have 4.5 um2, less than any nucleus.
    assert count_nuclei(draw(GRID, radius_um=1.2), microns_per_pixel=0.25).count == 0


def test_uneven_staining_across_a_tile_changes_no_count():
    picture = draw(GRID).astype(float)
    slope = np.linspace(1.0, 0.85, 256)[:, None, None]
    assert count_nuclei((slope * picture).astype(np.uint8), microns_per_pixel=0.25).count == 16


def test_agreement_counts_hits_misses_and_inventions():
    target = count_nuclei(draw(GRID), microns_per_pixel=0.25)
    moved = [(y + 2.0, x) for y, x in GRID[:10]]
    astray = [(y + 5.0, x) for y, x in GRID[10:12]]
    restored = count_nuclei(draw(moved + astray), microns_per_pixel=0.25)
    # 10 of 12 within 3 um of one of 16: F1 = 2 * 10 / (12 + 16).
    assert nuclei_agreement(restored, target) == pytest.approx((4 / 16, 20 / 28, 10))
    assert nuclei_agreement(restored, target, maximum_distance_um=6).matched == 12
    assert nuclei_agreement(restored, target, maximum_distance_um=1).matched == 0
    assert nuclei_agreement(target, target) == (0, 1, 16)


def made(points: Sequence[tuple[float, float]]) -> Nuclei:
    return Nuclei(
        count=len(points),
        mean_area_um2=50.0,
        density_per_mm2=1.0,
        centroids_um=np.array(points, dtype=float).reshape(-1, 2),
        labels=np.zeros((8, 8), dtype=np.int32),
        microns_per_pixel=0.25,
    )


def test_as_many_nuclei_as_possible_are_matched_and_none_twice():
    # The nearest pair first (2.0 with 2.5) would leave 0.0 and 5.0 alone: one match in place of two.
    assert nuclei_agreement(made([(0, 2.0), (0, 5.0)]), made([(0, 0.0), (0, 2.5)])).matched == 2
    assert nuclei_agreement(made([(0, 0), (0, 1), (1, 0)]), made([(0, 0)])) == (2, 0.5, 1)
    assert nuclei_agreement(made([(0, 0)]), made([(0, 3.0)])).matched == 1
    assert nuclei_agreement(made([(0, 0)]), made([(0, 3.01)])).matched == 0


def test_the_matching_is_as_large_as_a_search_over_all_finds():
    random = rng.generator(0, "points")
    for _ in range(20):
        first, second = random.uniform(0, 8, (5, 2)), random.uniform(0, 8, (6, 2))
        near = np.hypot(*(first[:, None] - second[None]).transpose(2, 0, 1)) <= 3
        best = max(
            sum(near[row, column] for row, column in enumerate(order))
            for order in itertools.permutations(range(6), 5)
        )
        agreement = nuclei_agreement(made(first.tolist()), made(second.tolist()))
        assert agreement.matched == best


def test_agreement_without_nuclei_has_no_number_where_there_is_nothing_to_divide_by():
    none, some = made([]), made([(1, 1), (5, 5)])
    assert nuclei_agreement(none, some) == (1, 0, 0)
    error, f1, matched = nuclei_agreement(some, none)
    assert np.isnan(error)
    assert (f1, matched) == (0, 0)
    assert np.isnan(nuclei_agreement(none, none)[:2]).all()


def test_bad_input_is_refused():
    picture = draw([(20, 20)], side_um=32)
    for size in (0.0, -0.25, 1.01):
        with pytest.raises(InputError, match=rf"microns_per_pixel must be in \(0, 1.0\], got {size}"):
            count_nuclei(picture, microns_per_pixel=size)
    with pytest.raises(InputError, match=r"rgb must be \(H, W, 3\) of uint8"):
        count_nuclei(picture / 255, microns_per_pixel=0.25)
    nuclei = count_nuclei(picture, microns_per_pixel=0.25)
    with pytest.raises(InputError, match=r"restored \(128, 64\), target \(128, 128\)"):
        nuclei_agreement(count_nuclei(picture[:, :64], microns_per_pixel=0.25), nuclei)
    with pytest.raises(InputError, match=r"one resolution, got 0\.5 and 0\.25 um per pixel"):
        nuclei_agreement(dataclasses.replace(nuclei, microns_per_pixel=0.5), nuclei)
    with pytest.raises(InputError, match="maximum_distance_um must be in"):
        nuclei_agreement(nuclei, nuclei, maximum_distance_um=-1)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [  # a rough count by eye, about 440 and 900, and what such a count may err by, a third
        ("TCGA-18-5592-01Z-00-DX1.png", 300, 600),
        ("TCGA-KB-A93J-01A-01-TS1.png", 600, 1200),
    ],
)
def test_real_sections_have_about_the_nuclei_that_one_sees(shared_data, name, low, high):
    from PIL import Image

    picture = np.asarray(Image.open(shared_data(f"histology/monuseg_train/{name}")).convert("RGB"))
    nuclei = count_nuclei(picture, microns_per_pixel=0.25)
    assert low < nuclei.count < high
    assert 20 < nuclei.mean_area_um2 < 100
    # A blur of a micrometer, as poor super-resolution has, loses some; noise that the eye hardly sees few.
    soft = count_nuclei(
        gaussian_filter(picture.astype(float), (4, 4, 0)).astype(np.uint8), microns_per_pixel=0.25
    )
    grain = 4 * rng.generator(0, "grain").standard_normal(picture.shape)
    rough = count_nuclei(np.clip(picture + grain, 0, 255).astype(np.uint8), microns_per_pixel=0.25)
    assert nuclei_agreement(rough, nuclei).f1 > 0.9
    assert 0.5 < nuclei_agreement(soft, nuclei).f1 < nuclei_agreement(rough, nuclei).f1


def test_tens_of_thousands_of_tiles_can_be_counted():
    """About 20 ms a tile of 256 x 256 on one core."""
    picture = draw(GRID)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        count_nuclei(picture, microns_per_pixel=0.25)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.2
