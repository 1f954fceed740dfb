"""Stains: scikit-image's separation, and what a change of stains does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.color import hed_from_rgb, rgb_from_hed

from medrestore.checks import InputError
from medrestore.operators.stains import optical_density, stain_colors, stain_jitter


def tissue(seed: int = 0, side: int = 16) -> np.ndarray:
    """Mix hematoxylin and eosin in random amounts."""
    amounts = np.random.default_rng(seed).uniform(0, 0.4, (side, side, 3)) * [1, 1, 0.2]
    return np.clip(np.rint(255 * 10 ** -(amounts @ rgb_from_hed)), 1, 255).astype(np.uint8)


def batch(count: int = 3) -> torch.Tensor:
    images = np.stack([tissue(seed) for seed in range(count)])
    return torch.from_numpy(np.moveaxis(images, -1, 1).astype(np.float32) / 255)


def test_colors_are_those_of_scikit_image():
    np.testing.assert_array_equal(stain_colors(), rgb_from_hed)
    np.testing.assert_allclose(np.linalg.inv(stain_colors()), hed_from_rgb, rtol=1e-12)


def test_optical_density_by_hand():
    levels = np.array([255, 128, 25, 1, 0], np.uint8)
    expected = [0, 0.29933, 1.00860, 2.40654, 2.40654]  # log10(255 / level), 0 counted as 1
    np.testing.assert_allclose(optical_density(levels), expected, atol=1e-5)


def test_jitter_of_nothing_changes_nothing():
    images = batch()
    same = stain_jitter(images, scale=torch.ones(3, 3), shift=torch.zeros(3, 3))
    torch.testing.assert_close(same, images, atol=2e-6, rtol=0)  # float32 logarithm and back


def test_jitter_is_separation_change_and_combination():
    images = batch()
    scale = torch.tensor([[1.2, 0.8, 1.0], [0.7, 1.0, 1.3], [1.0, 1.1, 0.9]])
    shift = torch.tensor([[0.02, 0.0, 0.0], [0.0, 0.03, 0.01], [-0.02, 0.01, 0.0]])
    before = images.clone()
    changed = stain_jitter(images, scale=scale, shift=shift)
    assert torch.equal(images, before)
    for index in range(3):
        image = np.moveaxis((255 * images[index]).round().byte().numpy(), 0, -1)
        amounts = optical_density(image) @ hed_from_rgb * scale[index].numpy() + shift[index].numpy()
        expected = np.moveaxis(10 ** -(amounts @ stain_colors()), -1, 0).clip(0, 1)
        np.testing.assert_allclose(changed[index], expected, atol=1e-5)


def test_more_of_a_stain_is_more_of_that_stain():
    image = torch.tensor([0.6, 0.4, 0.7]).reshape(1, 3, 1, 1)
    for stain in range(3):
        shift = torch.zeros(1, 3)
        shift[0, stain] = 0.1
        more = stain_jitter(image, scale=torch.ones(1, 3), shift=shift)
        expected = image[0, :, 0, 0].numpy() * 10 ** (-0.1 * rgb_from_hed[stain])
        np.testing.assert_allclose(more[0, :, 0, 0], expected, atol=1e-6)


def test_black_and_white_stay_in_range():
    images = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1).repeat(1, 3, 2, 2)
    changed = stain_jitter(images, scale=torch.full((2, 3), 1.5), shift=torch.full((2, 3), -0.2))
    assert changed.isfinite().all()
    assert changed.min() >= 0
    assert changed.max() <= 1


def test_wrong_input_is_refused():
    with pytest.raises(InputError, match=r"images must be \(B, 3, H, W\), got \(3, 4, 4\)"):
        stain_jitter(torch.ones(3, 4, 4), scale=torch.ones(1, 3), shift=torch.ones(1, 3))
    with pytest.raises(InputError, match="shapes must be equal"):
        stain_jitter(torch.ones(2, 3, 4, 4), scale=torch.ones(1, 3), shift=torch.ones(2, 3))
    with pytest.raises(InputError, match="must be uint8, got float64"):
        optical_density(np.zeros(3))  # type: ignore[arg-type]
