"""Lesions against scikit-learn, scikit-image, hand calculation and slow loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.measure import label
from sklearn.metrics import f1_score

from medrestore import rng
from medrestore.checks import InputError
from medrestore.metrics.lesions import (
    INNER_MM,
    OUTER_MM,
    contrast_to_noise,
    detect_lesions,
    dice,
    list_finds,
    surrounding_ring,
)

SIZE = (2.0, 1.5, 3.0)


def random_mask(name: str, share: float, shape: tuple[int, ...] = (9, 10, 8)) -> np.ndarray:
    return rng.generator(0, name).random(shape) < share


def test_dice_is_the_f1_score_of_voxels():
    a, b = random_mask("a", 0.3), random_mask("b", 0.4)
    assert dice(a, b) == pytest.approx(f1_score(a.ravel(), b.ravel()), rel=1e-12)  # the same quotient
    assert (dice(a, a), dice(a, ~a)) == (1.0, 0.0)


def test_dice_of_nothing_is_not_a_number():
    nothing = np.zeros((2, 2), dtype=bool)
    assert math.isnan(dice(nothing, nothing))
    assert dice(nothing, ~nothing) == 0.0


def test_ring_is_that_of_a_slow_loop():
    shape = (14, 16, 8)
    random = rng.generator(1, "ring")
    lesions = np.zeros(shape, dtype=bool)
    lesions[5:7, 6:8, 3:5] = True
    lesions[10, 12, 4] = True
    images = [1 + 0.05 * random.standard_normal(shape) for _ in range(2)]
    images[0][:, 10:] += 2.0  # fluid: stands out in the first contrast
    images[1][:4] -= 2.0  # cortex: stands out in the second
    inside = np.ones(shape, dtype=bool)
    inside[:, :, 0] = False
    near = np.zeros(shape, dtype=bool)
    marked = np.argwhere(lesions)
    for place in np.ndindex(shape):
        distance = min(math.dist(np.multiply(place, SIZE), np.multiply(other, SIZE)) for other in marked)
        near[place] = INNER_MM < distance <= OUTER_MM and inside[place]
    expected = near.copy()
    for image in images:
        values = image[near]
        median = np.median(values)
        spread = 1.4826 * np.median(np.abs(values - median))
        expected &= np.abs(image - median) <= 2.5 * spread
    found = surrounding_ring(lesions, images, voxel_size_mm=SIZE, inside=inside)
    np.testing.assert_array_equal(found, expected)
    assert 50 < found.sum() < near.sum()
    assert not found[:, 10:].any()
    assert not (found & lesions).any()


def test_without_lesions_there_is_no_ring():
    nothing = np.zeros((4, 4, 4), dtype=bool)
    assert not surrounding_ring(nothing, [np.ones((4, 4, 4))], voxel_size_mm=SIZE).any()


def test_a_ring_without_noise_is_kept_whole():
    lesions = np.zeros((9, 9, 9), dtype=bool)
    lesions[4, 4, 4] = True
    found = surrounding_ring(lesions, [np.full((9, 9, 9), 0.1)], voxel_size_mm=(2, 2, 2))
    # Lattice points within 3 steps of the origin, without itself: 122.
    assert found.sum() == 122


def test_contrast_to_noise_by_hand():
    image = np.array([[[10.0, 12.0, 4.0, 6.0, 8.0, 99.0]]])
    lesions = np.array([[[1, 1, 0, 0, 0, 0]]], dtype=bool)
    ring = np.array([[[0, 0, 1, 1, 1, 0]]], dtype=bool)
    # (11 - 6) / 2
    assert contrast_to_noise(image, lesions, ring) == 2.5
    assert contrast_to_noise(-3 * image + 7, lesions, ring) == pytest.approx(-2.5, rel=1e-12)
    assert math.isnan(contrast_to_noise(np.ones((1, 1, 6)), lesions, ring))


def test_detection_is_that_of_a_slow_loop():
    truth, found = random_mask("truth", 0.06, (20, 20, 10)), random_mask("found", 0.06, (20, 20, 10))
    for minimum in (1, 3):
        parts, marks = label(truth, connectivity=3), label(found, connectivity=3)
        lesions = [part for part in range(1, parts.max() + 1) if (parts == part).sum() >= minimum]
        hit = [part for part in lesions if found[parts == part].any()]
        false = [
            mark
            for mark in range(1, marks.max() + 1)
            if (marks == mark).sum() >= minimum and not truth[marks == mark].any()
        ]
        assert detect_lesions(found, truth, minimum_voxels=minimum) == (len(lesions), len(hit), len(false))
        assert 0 < len(hit) < len(lesions) and false


def test_nothing_found_and_nothing_there():
    nothing = np.zeros((4, 4, 4), dtype=bool)
    assert detect_lesions(nothing, nothing) == (0, 0, 0)
    assert detect_lesions(nothing, ~nothing) == (1, 0, 0)
    assert detect_lesions(~nothing, nothing) == (0, 0, 1)


def test_bad_input_is_refused():
    mask, image = np.ones((2, 2, 2), dtype=bool), np.ones((2, 2, 2))
    with pytest.raises(InputError, match="first must be boolean, got float64"):
        dice(image, mask)
    with pytest.raises(InputError, match="shapes must be equal"):
        detect_lesions(mask, mask[:1])
    with pytest.raises(InputError, match="minimum_voxels must be in"):
        detect_lesions(mask, mask, minimum_voxels=0)
    with pytest.raises(InputError, match="lesions must hold a voxel and their ring two, got 8 and 0"):
        contrast_to_noise(image, mask, ~mask)
    with pytest.raises(InputError, match="must be finite in lesions and ring"):
        contrast_to_noise(np.full((2, 2, 2), np.inf), mask, mask)
    with pytest.raises(InputError, match="shapes must be equal"):
        surrounding_ring(mask, [image[:1]], voxel_size_mm=SIZE)


def test_finds_have_place_size_and_history():
    lesions, before, marked = (np.zeros((6, 7, 5), dtype=bool) for _ in range(3))
    lesions[0, 0, :3] = True  # found before, lost now
    lesions[5, 6, 1:5] = True  # found now alone
    lesions[3, 3, 0] = True  # too small
    before[0, 0, 1] = marked[5, 6, 1] = True
    marked[2, 3:6, 4] = True  # a mark of its own
    marked[0, 4:7, 0] = before[0, 6, 0] = True  # one that the reader made before
    marked[4, 0, 0] = True  # too small
    assert list_finds(marked, lesions, before=before) == [
        (True, 3, (0, 0, 1), False, True),
        (True, 4, (5, 6, 2.5), True, False),
        (False, 3, (0, 5, 0), True, True),
        (False, 3, (2, 4, 4), True, False),
    ]
    assert detect_lesions(marked, lesions) == (2, 1, 2)
    assert [find.found_before for find in list_finds(marked, lesions)] == [False] * 4
