"""The intensity scale against a plain loop, by hand, and under noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from medrestore.checks import InputError
from medrestore.data.intensity import foreground_scale
from medrestore.data.volumes import read_volume


def slow_scale(volume: np.ndarray, voxel_size_mm: tuple[float, ...], fwhm: float, threshold: float) -> float:
    """Blocks by loops over voxels, the sums by hand."""
    steps = [max(1, int(fwhm / 2 / size)) for size in voxel_size_mm]
    shape = [-(-length // step) for length, step in zip(volume.shape, steps, strict=True)]
    sums, counts = np.zeros(shape), np.zeros(shape)
    for index in np.ndindex(volume.shape):
        block = tuple(i // step for i, step in zip(index, steps, strict=True))
        sums[block] += volume[index]
        counts[block] += 1
    sigma = [
        fwhm / (2 * np.sqrt(2 * np.log(2))) / (size * step)
        for size, step in zip(voxel_size_mm, steps, strict=True)
    ]
    smooth = gaussian_filter(sums / counts, sigma, mode="nearest")
    inside = smooth > threshold * smooth.max()
    return float(sums[inside].sum() / counts[inside].sum())


@pytest.mark.parametrize(
    "voxel_size_mm", [(2.0, 2.0, 3.0), (1.0, 1.2, 5.0), (7.0, 7.0, 7.0), (0.8, 4.0, 2.5)]
)
def test_scale_is_that_of_a_plain_loop(voxel_size_mm):
    random = np.random.default_rng(0)
    volume = np.zeros((23, 19, 17), dtype=np.float32)  # no multiple of any block
    volume[4:18, 5:15, 3:16] = random.gamma(2.0, 1.0, (14, 10, 13))
    expected = slow_scale(volume, voxel_size_mm, 12.0, 0.3)
    # The same float64 sums in another order.
    assert foreground_scale(volume, voxel_size_mm=voxel_size_mm) == pytest.approx(expected, rel=1e-12)


def head(activity: float = 5.0) -> np.ndarray:
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (64, 64, 32)), indexing="ij")
    return (activity * (x**2 + y**2 + z**2 < 0.64)).astype(np.float32)


def test_scale_of_a_uniform_head_is_its_activity_less_the_rim():
    scale = foreground_scale(head(5.0), voxel_size_mm=(3, 3, 4))
    # Blocks at the rim of the ball are part air; that the mean stays within a fifth shows the mask fits the
    # head.
    assert 4.0 < scale <= 5.0


@pytest.mark.parametrize("size", [2.0, 3.0, 1.5, 1.0, 4.0])
@pytest.mark.parametrize("change", [1e-7, -1e-7, 1e-5])
def test_scale_is_the_same_for_copies_whose_voxel_sizes_differ_by_rounding(size, change):
    random = np.random.default_rng(0)
    volume = (head() * random.gamma(4.0, 0.25, (64, 64, 32))).astype(np.float32)
    expected = foreground_scale(volume, voxel_size_mm=(size, size, 3.0))
    found = foreground_scale(volume, voxel_size_mm=(size * (1 + change), size, 3.0))
    assert found == pytest.approx(expected, rel=1e-6)  # no voxel of this noise lies at the threshold


def test_scale_of_tiny_voxels_takes_no_time():
    # Blocks are no longer than the image, whatever a header says of its voxels.
    assert foreground_scale(head(5.0), voxel_size_mm=(1e-5, 1e-5, 1e-5)) == pytest.approx(head(5.0).mean())


@pytest.mark.parametrize("factor", [1e-4, 1.0, 1e5])
def test_scale_follows_the_unit(factor):
    reference = foreground_scale(head(), voxel_size_mm=(3, 3, 4))
    scaled = foreground_scale(head() * np.float32(factor), voxel_size_mm=(3, 3, 4))
    assert scaled == pytest.approx(factor * reference, rel=1e-6)  # float32 voxels


def test_noise_of_one_percent_dose_moves_the_scale_by_little():
    image = head(5.0)
    # Voxels of 100 % deviation, as a reconstruction at 1 % dose has them.
    noisy = np.random.default_rng(0).gamma(1.0, 1.0, image.shape) * image
    scale = foreground_scale(noisy, voxel_size_mm=(3, 3, 4))
    # A Gaussian of 12 mm averages (2 sqrt(pi) sigma)^3 = 5,900 mm^3, 160 voxels: 8 % noise is left, and the
    # maximum of the smoothed image lies three to four deviations high. So the threshold is one of .3 to .4 of
    # the true one.
    low, high = (foreground_scale(image, voxel_size_mm=(3, 3, 4), threshold=t) for t in (0.3, 0.4))
    assert 0.98 * low < scale < 1.02 * high  # the mean over 10,000 blocks of 4 voxels itself: 0.5 %
    assert high / low < 1.1


def test_margin_of_air_does_not_change_the_scale():
    # 12 voxels at each end are whole blocks along every axis (2, 2 and 1 voxels), so the same blocks are
    # seen.
    wide = np.pad(head(), 12)
    expected = foreground_scale(head(), voxel_size_mm=(3, 3, 4))
    assert foreground_scale(wide, voxel_size_mm=(3, 3, 4)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_image_without_positive_foreground_is_refused(value):
    with pytest.raises(InputError, match="no positive foreground"):
        foreground_scale(np.full((8, 8, 8), value, np.float32), voxel_size_mm=(2, 2, 2))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_image_that_is_not_finite_is_refused(value):
    image = head()
    image[3, 3, 3] = value
    with pytest.raises(InputError, match="not finite"):
        foreground_scale(image, voxel_size_mm=(2, 2, 2))


def test_wrong_arguments_are_refused():
    with pytest.raises(InputError, match=r"the image has no voxels: shape \(0, 4, 4\)"):
        foreground_scale(np.zeros((0, 4, 4)), voxel_size_mm=(2, 2, 2))
    with pytest.raises(InputError, match=r"must have three axes, got \(4, 4\) and \(2, 2\)"):
        foreground_scale(np.ones((4, 4)), voxel_size_mm=(2, 2))
    with pytest.raises(InputError, match=r"threshold must be in \(0, 1\), got 1"):
        foreground_scale(head(), voxel_size_mm=(2, 2, 2), threshold=1)
    with pytest.raises(InputError, match="smoothing_fwhm_mm must be in"):
        foreground_scale(head(), voxel_size_mm=(2, 2, 2), smoothing_fwhm_mm=0)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        # FDG template: gray matter about 1.2, white matter about 0.7 of its own unit; the mean lies between.
        ("pet/fdg_template_116_healthy_mni2mm.nii", 0.7, 1.2),
        # 8 bit average T1: white matter about 0.75, gray about 0.5, skull and scalp darker.
        ("mri/avg152_T1.nii", 0.35, 0.75),
    ],
)
def test_real_images(shared_data, name, low, high):
    volume = read_volume(shared_data(name))
    assert low < foreground_scale(volume.data, voxel_size_mm=volume.voxel_size_mm) < high
