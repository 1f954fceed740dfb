"""A scan at several doses: from the very same counts, reproducible, with noise that follows the dose."""

from __future__ import annotations

import numpy as np
import pytest

from medrestore.checks import InputError
from medrestore.operators.pet_scan import STANDARD_DOSE, Scans, ScanSettings, simulate_scans

SETTINGS = ScanSettings(angles=24, subsets=6, post_filter_fwhm_mm=6.0)
SIZE = (4.0, 4.0, 5.0)


def head() -> np.ndarray:
    x, y = np.indices((40, 40)) - 19.5
    plane = np.where(np.hypot(x, y) < 14, 1.0, 0.0) + np.where(np.hypot(x - 4, y) < 4, 1.0, 0.0)
    return np.repeat(plane[..., None], 6, axis=2).astype(np.float32)


def scan(*fractions: float, seed: int = 0, counts: float = 2e7, settings: ScanSettings = SETTINGS) -> Scans:
    activity = head()
    mu = np.where(activity > 0, np.float32(0.096), np.float32(0))
    return simulate_scans(
        activity,
        mu,
        voxel_size_mm=SIZE,
        dose_fractions=fractions,
        settings=settings,
        seed=seed,
        total_counts=counts,
    )


def test_every_dose_in_units_of_activity():
    scans = scan(0.1, 0.5)
    assert set(scans.images) == {STANDARD_DOSE, 0.5, 0.1}
    for image in scans.images.values():
        assert image.shape == (40, 40, 6)
        assert image.dtype == np.float32
        # Half a million events or more: the total is good to a per mille; 12 updates leave it within 2 %.
        assert image.sum() == pytest.approx(head().sum(), rel=0.02)
    # Poisson: five standard deviations of 2e7 events.
    assert scans.recorded_counts == pytest.approx(2e7, abs=5 * np.sqrt(2e7))


def test_noise_follows_the_square_root_of_the_dose():
    reference = scan(counts=2e10).images[STANDARD_DOSE]
    images = scan(0.25, 0.0625).images
    inside = head() > 0
    noise = {dose: float((image - reference)[inside].std()) for dose, image in images.items()}
    # Noise over 5,500 correlated voxels (about 300 independent ones): its SD is known to about 5 %.
    assert noise[0.25] / noise[STANDARD_DOSE] == pytest.approx(2.0, rel=0.15)
    assert noise[0.0625] / noise[0.25] == pytest.approx(2.0, rel=0.15)


def test_low_dose_shares_the_standard_doses_events():
    reference = scan(counts=2e10).images[STANDARD_DOSE]
    images = scan(0.25).images
    other = scan(seed=1).images[STANDARD_DOSE]
    inside = head() > 0
    standard, low, separate = (
        (image - reference)[inside] for image in (images[STANDARD_DOSE], images[0.25], other)
    )
    # Thinned counts correlate with their source by sqrt(f) = 0.5, those of another scan by 0; about 300
    # independent voxels make 0.06 of standard error.
    assert np.corrcoef(standard, low)[0, 1] == pytest.approx(0.5, abs=0.2)
    assert abs(np.corrcoef(separate, low)[0, 1]) < 0.2


def test_same_seed_same_bytes_and_doses_do_not_depend_on_each_other():
    first, again, alone = scan(0.5, 0.1), scan(0.5, 0.1), scan(0.1)
    for dose, image in first.images.items():
        assert image.tobytes() == again.images[dose].tobytes()
    assert first.images[0.1].tobytes() == alone.images[0.1].tobytes()
    assert first.images[0.1].tobytes() != scan(0.1, seed=1).images[0.1].tobytes()


def test_counts_per_line_integral_is_another_name_of_the_total():
    activity = head()
    mu = np.zeros_like(activity)
    settings = ScanSettings(angles=24, subsets=6, scatter_fraction=0.0, randoms_fraction=0.0)
    scans = simulate_scans(
        activity,
        mu,
        voxel_size_mm=SIZE,
        dose_fractions=(),
        settings=settings,
        seed=0,
        counts_per_line_integral=2.0,
    )
    # Each of 24 angles sees the whole activity, sum x pixel area / bin width, less what the axial blur loses
    # at both ends: a few tenths of a slice of six.
    seen = 2.0 * 24 * activity.sum() * 4.0
    assert 0.8 * seen < scans.recorded_counts < seen


def test_refuses():
    activity = head()
    mu = np.zeros_like(activity)
    common = {"dose_fractions": (0.5,), "settings": SETTINGS, "seed": 0}
    with pytest.raises(InputError, match="voxel_size_mm must be isotropic in-plane"):
        simulate_scans(activity, mu, voxel_size_mm=(4.0, 5.0, 5.0), total_counts=1e6, **common)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="must be given, and not both"):
        simulate_scans(activity, mu, voxel_size_mm=SIZE, **common)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no activity in the field of view"):
        simulate_scans(0 * activity, mu, voxel_size_mm=SIZE, total_counts=1e6, **common)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no event is recorded at dose fraction 1e-06"):
        scan(1e-6, counts=1e4)
    with pytest.raises(InputError, match="dose_fractions must be in"):
        scan(1.5)
