"""The anchor: regional means given back, by hand, by slow loops and by what must hold of any image."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.special import erf

from medrestore.checks import InputError
from medrestore.inference.anchor import GeometricTransfer, anchored, regional_noise

SIZE = (2.0, 2.5, 3.0)
SHAPE = (40, 36, 24)


def blocks(shape=SHAPE):
    """Regions 3, 7 and 40 beside one another, some of the volume in none."""
    codes = np.zeros(shape, dtype=np.int16)
    codes[6:18, 8:28, 4:20] = 3
    codes[18:26, 8:28, 4:20] = 7
    codes[26:34, 8:20, 4:20] = 40
    return codes


def noise(seed=0, sd=1.0, shape=SHAPE):
    return (sd * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


@pytest.fixture(scope="module")
def transfer():
    return GeometricTransfer(blocks(), voxel_size_mm=SIZE)


# ---------------------------------------------------------------------------- B and T
def test_leakage_of_two_half_spaces_by_hand():
    """The mean over 20 mm beside a plane of what a Gaussian spreads over it: an integral of erf."""
    size, sigma, depth = 0.5, 2.5, 20.0
    codes = np.zeros((80, 3, 3), dtype=np.int32)
    codes[:40], codes[40:] = 1, 2
    transfer = GeometricTransfer(codes, voxel_size_mm=(size, 1e6, 1e6), sigma_mm=sigma, least_volume_mm3=0)
    # The mean over x in (0, depth) of (1 - erf(x / (sigma sqrt 2))) / 2.
    spilled = sigma / (depth * np.sqrt(2 * np.pi))
    # The far side of a region is the image's edge, where as much is lost to nothing.
    expected = np.array([[1 - 2 * spilled, spilled], [spilled, 1 - 2 * spilled]])
    assert erf(depth / (sigma * np.sqrt(2))) == pytest.approx(1)  # the region is wide: nothing crosses it
    # K is sampled at sigma / 5: the leak of .05 comes out smaller by 1 / (12 * 5 * 5), twice in the diagonal.
    np.testing.assert_allclose(transfer.matrix, expected, atol=4e-4)


def test_anchor_of_two_regions_by_hand():
    """T of the half spaces solved by Cramer's rule, c_r B_r added: what the image is far from the plane."""
    codes = np.zeros((80, 3, 3), dtype=np.int32)
    codes[:40], codes[40:] = 1, 2
    transfer = GeometricTransfer(codes, voxel_size_mm=(0.5, 1e6, 1e6), least_volume_mm3=0)
    unrestored = np.where(codes == 1, 3.0, 1.0).astype(np.float32)
    found = anchored(np.zeros_like(unrestored), unrestored, transfer, shrink=False)
    leak = 2.5 / (20 * np.sqrt(2 * np.pi))
    inside = 1 - 2 * leak
    determinant = inside**2 - leak**2
    expected = [(3 * inside - leak) / determinant, (inside - 3 * leak) / determinant]
    np.testing.assert_allclose(found.coefficients, expected, rtol=2e-3)  # K ends and is sampled, as above
    assert found.image[20, 1, 1] == pytest.approx(found.coefficients[0], rel=1e-4)  # 10 mm from any edge


def test_matrix_is_that_of_whole_volumes(transfer):
    codes = blocks()
    sigma = [2.5 / size for size in SIZE]
    for column, label in enumerate((3, 7, 40)):
        spread = gaussian_filter((codes == label).astype(np.float64), sigma, mode="constant")
        expected = [spread[codes == other].mean() for other in (3, 7, 40)]
        np.testing.assert_allclose(transfer.matrix[:, column], expected, rtol=1e-5, atol=1e-7)  # float32


def test_what_is_spread_is_the_sum_of_the_regions(transfer):
    codes, weights = blocks(), [1.0, -2.0, 0.5]
    sigma = [2.5 / size for size in SIZE]
    expected = sum(
        weight * gaussian_filter((codes == label).astype(np.float64), sigma, mode="constant")
        for weight, label in zip(weights, (3, 7, 40), strict=True)
    )
    np.testing.assert_allclose(transfer.spread(np.array(weights)), expected, atol=1e-6)  # float32


def test_labels_may_be_any_codes_and_background_is_left_alone(transfer):
    assert transfer.labels == (3, 7, 40)
    assert transfer.left_out == {}
    added = anchored(noise(1), noise(2), transfer, shrink=False).image - noise(1)
    far = np.zeros(SHAPE, dtype=bool)
    far[:1] = True  # 12 mm from every region: beyond 4 sigma
    assert not added[far].any()


def test_regions_too_small_are_left_out_and_told():
    codes = blocks()
    codes[0, 0, 0] = 9
    transfer = GeometricTransfer(codes, voxel_size_mm=SIZE)
    assert transfer.labels == (3, 7, 40)
    assert transfer.left_out == {9: 1}
    found = anchored(noise(1), noise(2), transfer)
    assert found.facts["regions_too_small"] == {"9": 1}
    assert list(found.facts["regions"]) == ["3", "7", "40"]


def test_a_single_region_and_one_without_width():
    codes = (blocks() == 3).astype(np.uint8)
    one = GeometricTransfer(codes, voxel_size_mm=SIZE, sigma_mm=0)
    assert one.matrix.tolist() == [[1.0]]
    restored, unrestored = noise(1), noise(2)
    found = anchored(restored, unrestored, one, shrink=False)
    shift = unrestored[codes == 1].mean() - restored[codes == 1].mean()
    np.testing.assert_allclose(found.image, restored + shift * codes, atol=1e-6)  # float32


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros((4, 4, 4), dtype=np.int16), "names no region: it is 0 everywhere"),
        (np.full((4, 4, 4), 5, dtype=np.int16), "but 1 smaller one"),
        (np.full((4, 4, 4), -1, dtype=np.int16), "must not be negative, got -1"),
        (np.ones((4, 4, 4), dtype=np.float32), "must be a volume of integers, got float32"),
        (np.ones((4, 4), dtype=np.int16), "got int16 of 2 dimensions"),
    ],
    ids=["empty", "small", "negative", "float", "flat"],
)
def test_maps_without_regions_are_refused(codes, message):
    with pytest.raises(InputError, match=message):
        GeometricTransfer(codes, voxel_size_mm=(1, 1, 1))


# ---------------------------------------------------------------------------- unshrunk
def test_means_of_regions_become_those_of_the_unrestored_image(transfer):
    restored, unrestored = noise(1) + 4, 2 * noise(2)
    image = anchored(restored, unrestored, transfer, shrink=False).image
    # float32 images: a mean over thousands of voxels is better than one voxel's rounding.
    np.testing.assert_allclose(transfer.means(image), transfer.means(unrestored), atol=1e-6)


def test_the_anchor_is_linear_in_both_images(transfer):
    a, b, c, d = (noise(seed) for seed in range(4))

    def once(restored, unrestored):
        return anchored(restored, unrestored, transfer, shrink=False).image

    together = once(2 * a + c, 2 * b + d)
    np.testing.assert_allclose(together, 2 * once(a, b) + once(c, d), atol=1e-5)  # float32, values up to 10


def test_an_anchored_image_is_not_changed_again(transfer):
    restored, unrestored = noise(1), noise(2)
    once = anchored(restored, unrestored, transfer, shrink=False).image
    twice = anchored(once, unrestored, transfer, shrink=False).image
    np.testing.assert_allclose(twice, once, atol=1e-6)  # float32


def test_an_image_that_is_its_own_restoration_is_left_as_it_is(transfer):
    image = noise(1)
    np.testing.assert_array_equal(anchored(image, image, transfer, shrink=False).image, image)


def test_regions_that_cannot_be_told_apart_are_refused_unshrunk_and_shrunk_together():
    """Checkerboard of voxels under a Gaussian of many of them: two regions, one B."""
    codes = (1 + np.indices((24, 24, 24)).sum(0) % 2).astype(np.int16)
    transfer = GeometricTransfer(codes, voxel_size_mm=(1, 1, 1), sigma_mm=4)
    restored, unrestored = noise(1, shape=codes.shape), noise(2, shape=codes.shape)
    with pytest.raises(InputError, match="cannot be told apart at this width"):
        anchored(restored, unrestored, transfer, shrink=False)
    found = anchored(restored, unrestored + 1, transfer)
    np.testing.assert_allclose(*found.coefficients, rtol=0.05)  # their T differ by the volume's edge alone
    assert np.abs(found.image - restored).max() < 2


# ---------------------------------------------------------------------------- noise and shrinkage
def test_noise_of_a_mean_is_that_of_many_draws():
    """Noise that a post-filter correlates: variance of the mean over 200 draws, against the estimate."""
    codes = blocks()
    transfer = GeometricTransfer(codes, voxel_size_mm=SIZE)
    sigma = [2.0 / size for size in SIZE]
    draws = [gaussian_filter(noise(seed), sigma) for seed in range(200)]
    true = np.var([transfer.means(draw) for draw in draws], axis=0)
    estimated = np.mean([regional_noise(draw, transfer) for draw in draws], axis=0)
    # A variance of 200 draws is known to 10 %; 25 % is two and a half of these. White noise of the same
    # variance would give a tenth: the correlation is what counts.
    np.testing.assert_allclose(estimated, true, rtol=0.25)


def test_smooth_errors_of_a_restoration_are_no_noise(transfer):
    """A residual that is constant in each region along z has no variance, however large it is."""
    residual = np.where(blocks() == 7, np.float32(5), np.float32(0))
    assert regional_noise(residual, transfer).tolist() == [0, 0, 0]


def test_a_region_in_too_few_slices_takes_the_variance_of_a_slice_of_the_others():
    codes = blocks()
    codes[:, :, :2] = np.where(np.indices((40, 36, 2))[1] > 4, 9, 0)
    transfer = GeometricTransfer(codes, voxel_size_mm=SIZE)
    variances = dict(zip(transfer.labels, regional_noise(noise(0), transfer), strict=True))
    assert variances[9] >= max(variances.values())
    only = GeometricTransfer(np.where(codes == 9, codes, 0), voxel_size_mm=SIZE)
    with pytest.raises(InputError, match="no region reaches over 9 mm along z"):
        regional_noise(noise(0), only)


def test_noise_alone_moves_nothing(transfer):
    """Regional means that differ by no more than their noise: there is nothing to give back."""
    differences = [anchored(noise(0) * 0, noise(seed), transfer) for seed in range(40)]
    kept = [found.kept.mean() for found in differences]
    assert np.median(kept) < 0.3
    assert sum(found.prior == 0 for found in differences) > 10
    found = next(found for found in differences if found.prior == 0)
    assert not found.coefficients.any()
    assert not found.image.any()


def test_without_noise_all_is_moved(transfer):
    unrestored = np.where(blocks() == 7, np.float32(5), np.float32(1))
    found = anchored(np.zeros(SHAPE, np.float32), unrestored, transfer)
    np.testing.assert_allclose(transfer.means(found.image), [1, 5, 1], rtol=1e-6)
    assert found.kept == pytest.approx(1)
    assert found.prior == np.inf
    assert found.facts["prior_sd"] is None
    assert not found.covariance.any()


def test_shrinkage_is_the_posterior_mean(transfer):
    """The same by the joint Gaussian of c and d, conditioned on d."""
    restored = noise(1)
    unrestored = restored + np.where(blocks() == 7, np.float32(0.2), np.float32(-0.1)) + noise(2, 3.0)
    found = anchored(restored, unrestored, transfer)
    t = found.transfer.matrix
    joint_dd = found.prior**2 * t @ t.T + np.diag(found.noise**2)
    joint_cd = found.prior**2 * t.T
    np.testing.assert_allclose(
        found.coefficients, joint_cd @ np.linalg.inv(joint_dd) @ found.differences, rtol=1e-6
    )
    np.testing.assert_allclose(
        found.covariance,
        found.prior**2 * np.eye(3) - joint_cd @ np.linalg.inv(joint_dd) @ joint_cd.T,
        atol=1e-9,
    )
    assert (found.kept > 0).all()
    assert (found.kept < 1).all()


def test_values_that_are_not_finite_are_refused(transfer):
    broken = noise(1)
    broken[20, 12, 8] = np.nan
    with pytest.raises(InputError, match="NaN or infinite values in a region"):
        anchored(broken, noise(2), transfer)


def test_uncertainty_is_that_of_draws_of_the_coefficients(transfer):
    """P of c carried to voxels, against the variance over draws of c."""
    unrestored = np.where(blocks() == 7, np.float32(0.2), np.float32(-0.1)) + noise(2, 3.0)
    found = anchored(noise(1), unrestored, transfer)
    assert found.prior > 0
    sd = np.full(SHAPE, 0.02, dtype=np.float32)
    draws = np.random.default_rng(0).multivariate_normal(np.zeros(3), found.covariance, 4000)
    spread = np.stack([transfer.spread(np.eye(3)[region]) for region in range(3)], axis=-1)
    expected = np.sqrt(0.02**2 + (spread[18, 10:26] @ draws.T).var(-1))
    # A standard deviation of 4,000 draws is known to 1.1 %: four of these.
    np.testing.assert_allclose(found.with_uncertainty(sd)[18, 10:26], expected, rtol=0.045)
