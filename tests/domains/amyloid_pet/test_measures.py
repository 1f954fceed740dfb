from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from medrestore.checks import InputError
from medrestore.domains.amyloid_pet.measures import Reference, departure_quality, reading, scan_quality
from medrestore.evaluation.observers import Observer


def make_reference(
    target: NDArray[np.float32] | None = None,
    *,
    foreground: NDArray[np.bool_] | None = None,
    regions: NDArray[np.int16] | None = None,
    dose_curve: tuple[tuple[float, float], ...] = (),
    scale: float = 1.0,
    label: int = 1,
) -> Reference:
    if target is None:
        target = np.zeros((16, 16, 4), dtype=np.float32)
        target[4:12, 4:12] = 2.0
    return Reference(
        target=target,
        foreground=target > 0 if foreground is None else foreground,
        data_range=4.0,
        voxel_size_mm=(4.0, 4.0, 6.0),
        scale=scale,
        label=label,
        regions=regions,
        dose_curve=dose_curve,
    )


@pytest.mark.parametrize(
    ("depth", "first", "last", "expected"),
    [(60, 5, 54, (10, 50)), (60, 0, 59, (10, 50)), (60, 20, 40, (20, 41)), (45, 1, 41, (1, 41))],
)
def test_the_middle_forty_slices_of_the_head_are_judged(depth, first, last, expected):
    target = np.zeros((2, 2, depth), dtype=np.float32)
    target[:, :, first : last + 1] = 1.0
    judged = make_reference(target).judged
    assert (judged.start, judged.stop) == expected


def test_image_quality_by_hand():
    reference = make_reference()
    found = scan_quality(reference.target + np.float32(0.5), reference)
    # An error of .5 everywhere: the mean over the head is 2, the data range 4.
    assert found["rmse"] == pytest.approx(0.25)
    assert found["nrmse"] == pytest.approx(0.25)
    assert found["psnr"] == pytest.approx(20 * np.log10(4.0 / 0.5))
    assert "dose_equivalent" not in found


def test_rmse_is_over_the_volume_and_nrmse_over_the_head():
    reference = make_reference()
    image = reference.target.copy()
    image[0, 0] += 1.0  # 4 voxels of air out of 1024
    found = scan_quality(image, reference)
    assert found["rmse"] == pytest.approx(np.sqrt(4 / 1024) / 2.0)
    assert found["nrmse"] == 0.0


def test_ssim_is_scikit_images_over_axial_slices():
    random = np.random.default_rng(1)
    target = random.random((16, 18, 3)).astype(np.float32)
    image = (target + 0.3 * random.standard_normal(target.shape)).astype(np.float32)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 4.0}
    expected = [structural_similarity(image[..., z], target[..., z], **settings) for z in range(3)]
    # scikit-image works in the input's float32, the metric in double precision.
    assert scan_quality(image, make_reference(target))["ssim"] == pytest.approx(np.mean(expected), abs=1e-5)


@pytest.mark.parametrize(
    ("error", "fraction", "bound"),
    [(4 * 10**-1.25, 0.01 * 10**0.5, ""), (4 * 10**-0.5, 0.01, "<"), (4 * 10**-2.0, 0.1, ">")],
)
def test_dose_equivalent_lies_on_the_subjects_own_curve(error, fraction, bound):
    # PSNR 25 is halfway between 20 dB at 1 % and 30 dB at 10 %; 10 and 40 dB lie outside.
    reference = make_reference(dose_curve=((0.01, 20.0), (0.1, 30.0)))
    found = scan_quality(reference.target + np.float32(error), reference)
    assert found["dose_equivalent"] == pytest.approx(fraction, rel=1e-5)  # float32 images
    assert found["dose_equivalent_bound"] == bound


def test_the_standard_dose_is_no_restoration_of_itself():
    reference = make_reference()
    with pytest.raises(InputError, match="is the target itself"):
        scan_quality(reference.target.copy(), reference)


class CornerVoxel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def probability(self, x: Tensor) -> Tensor:
        return x[:, 0, 0, 0]


def test_reading_by_hand():
    # Probabilities are the corner voxels over the scale: .9, .6 and .3 for a label of 1.
    image = np.zeros((2, 2, 3), dtype=np.float32)
    image[0, 0] = [1.8, 1.2, 0.6]
    regions = np.zeros((2, 2, 3), dtype=np.int16)
    regions[1, 0, :2], regions[1, 1, :2] = [1, 2], [2, 5]
    image[1, 0, :2], image[1, 1, :2] = [1.0, 2.0], [4.0, 5.0]  # reference 1; region 2: mean 3; region 5: 5
    reference = make_reference(
        image, foreground=np.ones(image.shape, dtype=bool), regions=regions, scale=2.0, label=1
    )
    reference = replace(reference, target_labels=(2, 5))
    observers = [Observer(name, CornerVoxel()) for name in ("task", "observer")]
    found = reading(image, reference, observers)
    assert found["task_score"] == pytest.approx(0.6)
    assert found["task_mae"] == pytest.approx(0.4)
    assert found["task_error"] == 0.0
    assert found["observer_mae"] == found["task_mae"]
    assert found["suvr"] == pytest.approx((3 + 5) / 2 / 1)


def test_a_volume_read_wrong_is_an_error_of_one():
    image = np.full((2, 2, 3), 0.9, dtype=np.float32)
    reference = make_reference(image, label=0)
    found = reading(image, reference, [Observer("task", CornerVoxel())])
    assert found["task_error"] == 1.0
    assert "suvr" not in found


class TestDeparture:
    def reference(self, amount: float = 0.8) -> tuple[Reference, NDArray[np.float32]]:
        """Return a head of 1 with a slab that departs, so wide that its blurred mean is known by hand."""
        target = np.zeros((40, 40, 12), dtype=np.float32)
        target[2:38, 2:38] = 1.0
        departure = np.zeros_like(target)
        departure[10:30, 10:30] = amount
        return replace(make_reference(target), departure=departure), departure

    @pytest.mark.parametrize("amount", [0.8, -0.5])
    def test_recovered_is_the_part_that_is_shown(self, amount):
        reference, departure = self.reference(amount)
        image = reference.target
        assert departure_quality(image, reference) == {"departure_psnr": np.inf, "departure_recovered": 1.0}
        # A third of the departure is lost where it is: by its mean when blurred, 2.5 mm at 4, 4 and 6 mm.
        inside = departure != 0
        blurred = gaussian_filter(departure, (2.5 / 4, 2.5 / 4, 2.5 / 6))[inside].mean(dtype=np.float64)
        lost = image - np.float32(blurred / 3) * inside.astype(np.float32)
        found = departure_quality(lost, reference)
        assert found["departure_recovered"] == pytest.approx(2 / 3, abs=1e-5)  # float32
        assert found["departure_psnr"] == pytest.approx(10 * np.log10(4.0**2 / (blurred / 3) ** 2), abs=1e-4)

    def test_an_error_that_is_the_same_around_loses_nothing(self):
        reference, _ = self.reference()
        found = departure_quality(reference.target + np.float32(0.1), reference)
        assert found["departure_recovered"] == pytest.approx(1.0, abs=1e-5)
        assert found["departure_psnr"] == pytest.approx(10 * np.log10(4.0**2 / 0.01), abs=1e-4)

    def test_what_does_not_depart_has_none(self):
        reference, departure = self.reference()
        assert departure_quality(reference.target, make_reference()) == {}
        empty = replace(reference, departure=np.zeros_like(departure))
        assert departure_quality(reference.target, empty) == {}
