"""The projector against geometry by hand, brute-force areas, scikit-image's radon and scipy's blur."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medrestore.checks import InputError
from medrestore.operators.projector import (
    FWHM_PER_SIGMA,
    ParallelProjector,
    ProjectionGeometry,
    gaussian_blur_matrix,
    system_matrix,
)


def disk(pixels: int, radius: float) -> np.ndarray:
    """A disk with soft pixels at its rim, by 8x8 sub-pixels."""
    fine = (np.arange(pixels * 8) + 0.5) / 8 - pixels / 2
    inside = np.add.outer(fine**2, fine**2) <= radius**2
    return inside.reshape(pixels, 8, pixels, 8).mean(axis=(1, 3)).astype(np.float32)


def test_each_angle_sees_the_whole_pixel():
    pixels, angles = 20, 9
    matrix = system_matrix(pixels, angles)
    per_angle = np.asarray(
        [matrix[k * pixels : (k + 1) * pixels].sum(axis=0) for k in range(angles)]
    ).squeeze()
    y, x = np.indices((pixels, pixels)) - (pixels - 1) / 2
    # Pixels whose corners all lie inside the inscribed circle cannot leave the detector at any angle.
    interior = (np.hypot(x, y) + np.sqrt(0.5) <= pixels / 2).ravel()
    # Weights are float32 and those below 1e-7 are left out.
    np.testing.assert_allclose(per_angle[:, interior], 1.0, atol=1e-6)
    outside = (np.hypot(x, y) > pixels / 2).ravel()
    assert np.all(per_angle[:, outside] == 0)


@pytest.mark.parametrize("angle_index", [0, 1, 3, 4, 7])
def test_weights_are_shared_areas(angle_index):
    pixels, angles = 12, 8
    x_index, y_index = 8, 4
    row = system_matrix(pixels, angles)[:, x_index * pixels + y_index].toarray().reshape(angles, pixels)
    samples = (np.arange(1000) + 0.5) / 1000 - 0.5
    x = x_index - (pixels - 1) / 2 + samples[:, None]
    y = y_index - (pixels - 1) / 2 + samples[None, :]
    angle = np.pi * angle_index / angles
    radial = x * np.cos(angle) + y * np.sin(angle)
    counts = np.bincount(np.floor(radial + pixels / 2).astype(int).ravel(), minlength=pixels)
    # The rim of a bin crosses at most about 1.5 samples in each of 1000 rows of the million samples.
    np.testing.assert_allclose(row[angle_index], counts / 1e6, atol=2e-3)


def test_disk_by_hand():
    geometry = ProjectionGeometry(pixels=65, slices=2, pixel_mm=2.0, angles=12, fwhm_mm=0.0)
    image = np.stack([disk(65, 20.0), 3 * disk(65, 20.0)], axis=-1)
    rays = ParallelProjector(geometry).forward(image)
    offset = (np.arange(65) - 32) * 2.0
    # A bin averages the chord over its width; the chord's average over [s-1, s+1] mm by its antiderivative.
    edges = np.clip(np.stack([offset - 1, offset + 1]), -40, 40)
    area = edges * np.sqrt(1600 - edges**2) + 1600 * np.arcsin(edges / 40)
    expected = (area[1] - area[0]) / 2
    # The disk's rim is spread over pixels of 2 mm: a chord that grazes it is off by up to that, one that
    # crosses it steeply by a fraction.
    steep = np.abs(offset) < 34
    for angle in range(12):
        np.testing.assert_allclose(rays[angle, :, 0], expected, atol=2.0)
        np.testing.assert_allclose(rays[angle, steep, 0], expected[steep], atol=0.6)
    np.testing.assert_allclose(rays[..., 1], 3 * rays[..., 0], rtol=1e-5)


def test_against_scikit_image_radon():
    from skimage.data import shepp_logan_phantom
    from skimage.transform import radon, resize

    pixels = 101
    # Odd, since scikit-image rotates an even image about a pixel center and not about the middle.
    image = np.pad(resize(shepp_logan_phantom(), (81, 81), anti_aliasing=True), 10).astype(np.float32)
    image = ndimage.gaussian_filter(image, 1.0)
    angles = 24
    geometry = ProjectionGeometry(pixels=pixels, slices=1, pixel_mm=1.0, angles=angles, fwhm_mm=0.0)
    ours = ParallelProjector(geometry).forward(image[..., None])[..., 0]
    # radon sums over rows after turning the image: its columns are our first axis.
    theirs = radon(image.T, theta=-np.arange(angles) * 180 / angles, circle=True).T
    difference = np.abs(ours - theirs)
    # radon interpolates between pixels where we share areas; on an image this smooth that is below 2 %.
    assert difference.max() < 0.02 * theirs.max()
    assert difference.mean() < 0.002 * theirs.max()


def test_blur_of_the_bins_is_the_blur_of_the_image():
    image = np.zeros((64, 64, 9), dtype=np.float32)
    image[24:44, 20:36, 3:6] = 1.0
    image[30:34, 26:30, 4] = 4.0
    fwhm_mm, pixel_mm, slice_mm = 9.0, 2.0, 3.0
    geometry = ProjectionGeometry(
        pixels=64, slices=9, pixel_mm=pixel_mm, slice_mm=slice_mm, angles=10, fwhm_mm=fwhm_mm
    )
    sigma = np.array([fwhm_mm / pixel_mm, fwhm_mm / pixel_mm, fwhm_mm / slice_mm]) / FWHM_PER_SIGMA
    blurred = ndimage.gaussian_filter(image, sigma, mode="constant")
    projector = ParallelProjector(geometry)
    expected = projector.line_integrals(blurred)
    # scipy samples the Gaussian where we integrate it over each sample: off by 1/24 of (1 sample / sigma)^2,
    # at a sigma of 1.27 slices 2.6 % of the peak's height.
    np.testing.assert_allclose(projector.forward(image), expected, atol=0.026 * expected.max())


def test_width_of_a_point():
    geometry = ProjectionGeometry(pixels=65, slices=31, pixel_mm=1.0, slice_mm=1.0, angles=4, fwhm_mm=8.0)
    point = np.zeros((65, 65, 31), dtype=np.float32)
    point[32, 32, 15] = 1.0
    rays = ParallelProjector(geometry).forward(point)[0].astype(np.float64)
    position = np.arange(65) - 32
    variance = (rays.sum(axis=1) * position**2).sum() / rays.sum()
    # The Gaussian's variance, and those of the pixel and of the bin, 1/12 each; the kernel is cut at 4 sigma.
    assert variance == pytest.approx((8.0 / FWHM_PER_SIGMA) ** 2 + 1 / 6, rel=0.02)
    profile = rays[32]
    half = np.interp(profile.max() / 2, profile[15:][::-1], np.arange(16)[::-1])
    assert 2 * half == pytest.approx(8.0, abs=0.2)  # linear interpolation between samples 1 mm apart


def test_blur_matrix():
    matrix = gaussian_blur_matrix(40, fwhm=6.0).toarray()
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_allclose(matrix[15:25].sum(axis=1), 1.0, atol=1e-6)  # float32
    signal = np.random.default_rng(0).random(40)
    expected = ndimage.gaussian_filter1d(signal, 6.0 / FWHM_PER_SIGMA, mode="constant", truncate=4.0)
    # Sampled against integrated Gaussian, at a sigma of 2.5 samples: 1/24/2.5^2 = 0.7 %.
    np.testing.assert_allclose(matrix @ signal, expected, rtol=0.007)
    np.testing.assert_array_equal(gaussian_blur_matrix(5, fwhm=0.0).toarray(), np.eye(5))


def test_blur_wider_than_the_axis():
    matrix = gaussian_blur_matrix(3, fwhm=50.0).toarray()
    assert matrix.shape == (3, 3)
    assert np.all(matrix > 0)


def test_subset_is_every_nth_angle():
    projector = ParallelProjector(ProjectionGeometry(pixels=16, slices=2, angles=12))
    image = np.random.default_rng(0).random((16, 16, 2)).astype(np.float32)
    part = projector.subset(1, 4)
    assert part.angle_indices == (1, 5, 9)
    np.testing.assert_array_equal(part.forward(image), projector.forward(image)[1::4])


def test_wrong_shapes_and_ranges():
    projector = ParallelProjector(ProjectionGeometry(pixels=8, slices=2, angles=6))
    with pytest.raises(InputError, match=r"image must have shape \(8, 8, 2\), got \(8, 8, 3\)"):
        projector.forward(np.zeros((8, 8, 3), dtype=np.float32))
    with pytest.raises(InputError, match=r"data must have shape \(6, 8, 2\)"):
        projector.adjoint(np.zeros((6, 8, 3), dtype=np.float32))
    with pytest.raises(InputError, match="image must have shape"):
        projector.line_integrals(np.zeros((8, 9, 2), dtype=np.float32))
    with pytest.raises(InputError, match=r"index must be in \[0, 2\], got 3"):
        projector.subset(3, 3)
    with pytest.raises(InputError, match="pixel_mm must be in"):
        ProjectionGeometry(pixel_mm=0.0)
    with pytest.raises(InputError, match="angles must be in"):
        ProjectionGeometry(angles=0)
