"""SSIM loss against scikit-image and its own derivative."""

import re

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from medrestore.checks import InputError
from medrestore.losses.structural import ssim_loss


def images(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize(("data_range", "sigma"), [(1.0, 1.5), (1.0, 0.8), (255.0, 1.5), (2.0, 2.5)])
def test_equals_scikit_image(data_range, sigma):
    target = data_range * images(2, 3, 40, 33)
    restored = target + 0.1 * data_range * (images(2, 3, 40, 33, seed=1) - 0.5)
    window = 2 * int(3.5 * sigma + 0.5) + 1  # scikit-image's own
    expected = np.mean(
        [
            structural_similarity(
                one.double().numpy(),
                other.double().numpy(),
                data_range=data_range,
                gaussian_weights=True,
                sigma=sigma,
                use_sample_covariance=False,
                win_size=window,
            )
            for one, other in zip(restored.flatten(0, 1), target.flatten(0, 1), strict=True)
        ]
    )
    loss = ssim_loss(restored, target, data_range=data_range, window=window, sigma=sigma)
    # float32: variances of about 0.08 are differences of second moments of about 0.33, of 2^-24 each.
    assert loss.item() == pytest.approx(-expected, abs=2e-6)
    double = ssim_loss(restored.double(), target.double(), data_range=data_range, window=window, sigma=sigma)
    assert double.dtype == torch.float64
    assert double.item() == pytest.approx(-expected, abs=1e-12)


def test_flat_images_by_hand():
    """No variance: only the luminance term is left, (2 a b + c1) / (a^2 + b^2 + c1)."""
    a, b = 0.2, 0.6
    loss = ssim_loss(torch.full((1, 3, 12, 12), a), torch.full((1, 3, 12, 12), b))
    # float32 leaves variances of 2^-25 instead of 0, beside c2 = 9e-4.
    assert loss.item() == pytest.approx(-(2 * a * b + 1e-4) / (a * a + b * b + 1e-4), abs=1e-4)


def test_best_for_equal_images():
    image = images(1, 3, 20, 20)
    assert ssim_loss(image, image).item() == pytest.approx(-1, abs=1e-6)
    # Inverted structure on the same mean: the covariance is negative.
    assert ssim_loss(1 - image, image).item() > 0


@pytest.mark.parametrize("channels", [1, 3])
def test_gradient(channels):
    restored = images(2, channels, 9, 8, dtype=torch.float64).requires_grad_()
    target = images(2, channels, 9, 8, seed=1, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: ssim_loss(x, target, window=5), (restored,))


def test_channels_and_images_do_not_meet():
    restored, target = images(2, 3, 16, 14), images(2, 3, 16, 14, seed=1)
    alone = [
        ssim_loss(restored[i : i + 1, j : j + 1], target[i : i + 1, j : j + 1]).item()
        for i in range(2)
        for j in range(3)
    ]
    assert ssim_loss(restored, target).item() == pytest.approx(np.mean(alone), abs=1e-6)


def test_memory_format_makes_no_difference():
    restored, target = images(2, 3, 16, 14), images(2, 3, 16, 14, seed=1)
    last = [tensor.contiguous(memory_format=torch.channels_last) for tensor in (restored, target)]
    torch.testing.assert_close(ssim_loss(*last), ssim_loss(restored, target), rtol=1e-6, atol=1e-6)


def test_single_precision_under_autocast():
    restored, target = images(2, 3, 16, 16), images(2, 3, 16, 16, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ssim_loss(restored, target)
    assert torch.equal(loss, ssim_loss(restored, target))
    assert ssim_loss(restored.bfloat16(), target).dtype == torch.float32


def test_what_does_not_fit():
    x = images(1, 3, 16, 16)
    with pytest.raises(InputError, match="shapes must be equal"):
        ssim_loss(x, images(1, 1, 16, 16))
    with pytest.raises(InputError, match=re.escape("at least 11 x 11, got (1, 3, 16, 10)")):
        ssim_loss(x[..., :10], x[..., :10])
    with pytest.raises(InputError, match="window must be odd, got 4"):
        ssim_loss(x, x, window=4)
    with pytest.raises(InputError, match="data_range must be in"):
        ssim_loss(x, x, data_range=0)
    with pytest.raises(InputError, match="sigma must be in"):
        ssim_loss(x, x, sigma=0)
