"""What a true image gives its measures: where judged, which box, when a number is left out."""

from __future__ import annotations

import numpy as np
import pytest

from medrestore import rng
from medrestore.checks import InputError
from medrestore.domains.multicontrast_mri.evaluation.measures import TrueImage, measure_image, normalized


def make(shape: tuple[int, int, int] = (64, 60, 5), **settings: object) -> TrueImage:
    random = rng.generator(0, "true")
    head = np.zeros(shape, dtype=bool)
    head[4:60, 10:30, 1:4] = True
    head[4:14, 10:30, 0] = True  # 10 of 56 columns: less than a quarter
    image = (head + 0.05 * random.standard_normal(shape)).astype(np.float32)
    return TrueImage(contrast="t1w", image=image, head=head, data_range=1.2, **settings)  # type: ignore[arg-type]


def test_slices_with_little_head_are_not_judged():
    assert make().judged.tolist() == [1, 2, 3]


def test_the_box_holds_the_head_and_is_large_enough():
    # 56 voxels of X as they are; of Y 20, widened by 14 on both sides, which would begin before the slice.
    assert make().box == (slice(4, 60), slice(0, 48))
    small = TrueImage("t1w", np.ones((40, 60, 1), np.float32), np.ones((40, 60, 1), bool), data_range=1.0)
    assert small.box is None
    assert np.isnan(small.grid).all()


def test_normalized_is_over_the_head_alone():
    image = np.array([[[2.0, 4.0, 100.0]]])
    head = np.array([[[True, True, False]]])
    np.testing.assert_allclose(normalized(image, head), [[[2 / 3, 4 / 3, 100 / 3]]], rtol=1e-6)  # float32
    with pytest.raises(InputError, match=r"mean over the head must be positive, got -3"):
        normalized(-image, head)


def test_a_ratio_to_hardly_any_contrast_is_left_out():
    true = make()
    lesions, ring = np.zeros(true.image.shape, dtype=bool), np.zeros(true.image.shape, dtype=bool)
    lesions[20, 20, 2], ring[22:30, 15:25, 2] = True, True
    deviation = float(true.image[ring].std(ddof=1))
    middle = float(true.image[ring].mean())
    for cnr, held in ((3.0, True), (0.5, False), (-0.5, False), (-3.0, True)):
        image = true.image.copy()
        image[lesions] = middle + cnr * deviation
        subject = TrueImage("t1w", image, true.head, data_range=1.2, lesions=lesions, ring=ring)
        restored = image + np.float32(0.1)
        measured = measure_image(restored, subject)
        assert measured["cnr"] == pytest.approx(cnr, rel=1e-3)  # float32 differences of numbers near 1
        assert np.isfinite(measured["cnr_ratio"]) == held
        assert measured["cnr_error"] == pytest.approx(0, abs=1e-3)


def test_a_ring_of_few_voxels_gives_no_contrast_to_noise():
    true = make()
    lesions, ring = np.zeros(true.image.shape, dtype=bool), np.zeros(true.image.shape, dtype=bool)
    lesions[20, 20, 2], ring[22, 1:20, 2] = True, True
    few = TrueImage("t1w", true.image, true.head, data_range=1.2, lesions=lesions, ring=ring)
    assert np.isnan(few.cnr)
    assert "cnr" not in measure_image(None, few)
