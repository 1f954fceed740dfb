"""OSEM against a slow MLEM loop over a dense matrix, noise-free recovery, and its invariances."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from medrestore.checks import InputError
from medrestore.operators.pet import PetAcquisition
from medrestore.operators.pet_osem import OsemReconstruction
from medrestore.operators.projector import ParallelProjector, ProjectionGeometry


def osem(counts, acquisition, *, subsets: int = 15, **settings) -> np.ndarray:
    return OsemReconstruction(acquisition, subsets=subsets).reconstruct(counts, **settings)


def acquisition_of(
    projector: ParallelProjector, activity: np.ndarray, *, background: float = 0.3, level: float = 3.0
) -> tuple[PetAcquisition, np.ndarray]:
    mu = np.where(activity > 0, np.float32(0.096), np.float32(0))
    return PetAcquisition.of_patient(
        projector,
        activity,
        mu,
        counts_per_line_integral=level,
        scatter_fraction=background,
        randoms_fraction=background,
    )


def phantom(pixels: int, slices: int) -> np.ndarray:
    x, y = np.indices((pixels, pixels)) - (pixels - 1) / 2
    image = np.where(np.hypot(x, 1.2 * y) < 0.36 * pixels, 1.0, 0.0)
    image += np.where(np.hypot(x - 0.1 * pixels, y + 0.1 * pixels) < 0.13 * pixels, 1.5, 0.0)
    stack = np.repeat(image[..., None], slices, axis=2).astype(np.float32)
    return stack * np.linspace(0.8, 1.2, slices, dtype=np.float32)


@pytest.fixture(scope="module")
def small() -> ParallelProjector:
    return ParallelProjector(
        ProjectionGeometry(pixels=12, slices=2, pixel_mm=4.0, slice_mm=4.0, angles=10, fwhm_mm=5.0)
    )


def test_one_subset_is_mlem_by_a_slow_loop(small):
    activity = phantom(12, 2)
    acquisition, expected = acquisition_of(small, activity)
    counts = np.random.default_rng(0).poisson(expected)
    iterations = 6

    columns = []
    for index in range(activity.size):
        unit = np.zeros(activity.size, dtype=np.float32)
        unit[index] = 1.0
        columns.append(small.forward(unit.reshape(activity.shape)).ravel().astype(np.float64))
    dense = np.array(columns).T * (
        acquisition.attenuation.ravel()[:, None] * acquisition.counts_per_line_integral
    )
    sensitivity = dense.sum(axis=0)
    seen = sensitivity > 0
    background = acquisition.background.ravel().astype(np.float64)
    x = np.where(seen, (counts.sum() - background.sum()) / sensitivity.sum(), 0.0)
    for _ in range(iterations):
        ratio = counts.ravel() / (dense @ x + background)
        update = np.zeros_like(x)
        for pixel in np.flatnonzero(seen):
            update[pixel] = (
                sum(dense[ray, pixel] * ratio[ray] for ray in range(len(ratio))) / sensitivity[pixel]
            )
        x = x * update

    ours = osem(counts, acquisition, iterations=iterations, subsets=1)
    # float32 against float64, over six multiplicative updates.
    np.testing.assert_allclose(ours.ravel(), x, rtol=2e-4, atol=1e-6)


def test_mlem_raises_the_likelihood_at_every_step(small):
    acquisition, expected = acquisition_of(small, phantom(12, 2))
    counts = np.random.default_rng(1).poisson(expected)

    def log_likelihood(iterations: int) -> float:
        mean = acquisition.expected_counts(osem(counts, acquisition, iterations=iterations, subsets=1))
        return float((counts * np.log(mean.astype(np.float64)) - mean).sum())

    steps = [log_likelihood(iterations) for iterations in (1, 2, 4, 8, 16)]
    assert all(after > before for before, after in pairwise(steps))


def test_noise_free_phantom_is_recovered():
    projector = ParallelProjector(
        ProjectionGeometry(pixels=40, slices=3, pixel_mm=4.0, slice_mm=4.0, angles=60, fwhm_mm=4.0)
    )
    activity = phantom(40, 3)
    acquisition, expected = acquisition_of(projector, activity)
    image = OsemReconstruction(acquisition, subsets=10).reconstruct(expected, iterations=60)  # type: ignore[arg-type]
    inside = activity > 0
    # 600 updates of a consistent system; edges ring (Gibbs) where the blur took the high frequencies: the
    # mean is exact to 1 %, the root mean square within 6 %.
    assert image[inside].mean() == pytest.approx(activity[inside].mean(), rel=0.01)
    assert np.sqrt(np.mean((image - activity) ** 2)) < 0.06 * activity.max()
    # The data are explained to a tenth of what counting noise would be.
    residual = (acquisition.expected_counts(image) - expected) / np.sqrt(expected)
    assert np.sqrt(np.mean(residual**2)) < 0.1


def test_units_are_those_of_the_activity(small):
    activity = phantom(12, 2)
    for level in (0.5, 50.0):
        acquisition, expected = acquisition_of(small, activity, level=level)
        image = osem(expected, acquisition, iterations=30, subsets=2)  # type: ignore[arg-type]
        # Without noise the total is that of the activity, whatever the counts and the attenuation.
        assert image.sum() == pytest.approx(activity.sum(), rel=0.01)


def test_dose_fraction_scales_back(small):
    acquisition, expected = acquisition_of(small, phantom(12, 2))
    counts = 4 * np.random.default_rng(2).poisson(expected)
    reconstruction = OsemReconstruction(acquisition, subsets=5)
    full = reconstruction.reconstruct(counts, iterations=3)
    quarter = reconstruction.reconstruct(counts // 4, dose_fraction=0.25, iterations=3)
    np.testing.assert_array_equal(full, quarter)  # powers of two are exact in float32


def test_more_subsets_go_further_in_one_pass(small):
    activity = phantom(12, 2)
    acquisition, expected = acquisition_of(small, activity)
    errors = [
        np.linalg.norm(osem(expected, acquisition, iterations=1, subsets=subsets) - activity)  # type: ignore[arg-type]
        for subsets in (1, 2, 5)
    ]
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("background", [0.0, 0.5])
def test_empty_bins_and_little_data_stay_finite(small, background):
    acquisition, expected = acquisition_of(small, phantom(12, 2), background=background)
    counts = np.zeros(expected.shape, dtype=np.int64)
    counts[0, 5, 0] = 1  # fewer events than the background expects
    image = osem(counts, acquisition, iterations=3, subsets=5)
    assert np.all(np.isfinite(image))
    assert image.min() >= 0


def test_outside_the_field_of_view_is_zero(small):
    acquisition, expected = acquisition_of(small, phantom(12, 2))
    image = osem(expected, acquisition, iterations=1, subsets=2)  # type: ignore[arg-type]
    assert image[0, 0].max() == 0  # the corner lies outside the inscribed circle
    assert image[6, 6].min() > 0


def test_refuses_what_does_not_fit(small):
    acquisition, expected = acquisition_of(small, phantom(12, 2))
    with pytest.raises(InputError, match="subsets must divide the number of angles, 10, got 3"):
        osem(expected, acquisition, subsets=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"counts must have shape \(10, 12, 2\), got \(9, 12, 2\)"):
        osem(expected[1:], acquisition, subsets=5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="dose_fraction must be in"):
        osem(expected, acquisition, subsets=5, dose_fraction=0.0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="iterations must be in"):
        osem(expected, acquisition, subsets=5, iterations=0)  # type: ignore[arg-type]
