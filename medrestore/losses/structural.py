"""Losses that compare the structure of two images in every neighborhood."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from medrestore.checks import InputError, require_in_range, require_same_shape

__all__ = ["ssim_loss"]


def ssim_loss(
    restored: Tensor, target: Tensor, *, data_range: float = 1.0, window: int = 11, sigma: float = 1.5
) -> Tensor:
    r"""Return minus the structural similarity, averaged over neighborhoods, channels and the batch.

    .. math::
        -E\,\frac{(2\mu_x\mu_y + c_1)(2\sigma_{xy} + c_2)}
                 {(\mu_x^2 + \mu_y^2 + c_1)(\sigma_x^2 + \sigma_y^2 + c_2)},
        \qquad c_1 = (0.01\,R)^2,\ c_2 = (0.03\,R)^2

    with Gaussian-weighted means, variances and covariance of each neighborhood, and R the data range.

    Parameters
    ----------
    restored, target : (B, C, H, W) float
        Restored images and their targets.
    data_range
        Distance between the lowest and the highest possible intensity.
    window
        Side of a neighborhood in pixels, odd.
    sigma
        Standard deviation of the Gaussian weights in pixels.

    Returns
    -------
    () float32 (float64 for float64 images)
        -1 for equal images.

    Raises
    ------
    InputError
        When the shapes differ, a parameter is out of its range, or the image is smaller than a neighborhood.

    Notes
    -----
    L_S of SRGAN_SQE, section 2.2: the negative sum of SSIM over all overlapping neighborhoods and the three
    color channels, at one scale. Here the mean takes the place of the sum, so that its weight depends neither
    on the image's size nor on the number of channels: a constant factor. Constants and weights are those of
    Wang et al. 2004. Only neighborhoods that lie wholly in the image count, as in scikit-image's mean with
    ``gaussian_weights=True, use_sample_covariance=False``. Computed in float32 under autocast too.

    Examples
    --------
    >>> image = torch.linspace(0, 1, 256).reshape(1, 1, 16, 16)
    >>> ssim_loss(image, image)
    tensor(-1.)
    """
    require_same_shape(restored=restored.shape, target=target.shape)
    require_in_range("data_range", data_range, 0, float("inf"), include_low=False)
    require_in_range("window", window, 1, float("inf"))
    require_in_range("sigma", sigma, 0, float("inf"), include_low=False)
    if window % 2 == 0:
        raise InputError(f"window must be odd, got {window}")
    if restored.ndim != 4 or min(restored.shape[-2:]) < window:
        raise InputError(
            f"images must be (B, C, H, W) and at least {window} x {window}, got {tuple(restored.shape)}"
        )
    # Autocast would run the convolutions in bfloat16, whose 8 bits lose the variances.
    with torch.autocast(restored.device.type, enabled=False):
        x, y = _single(restored), _single(target)
        weights = _gaussian(window, sigma, like=x)
        mean_y = _smooth(y, weights)
        # SSIM takes the two variances only as their sum, so one filter serves both.
        moments = _smooth(torch.cat([x, x * x + y * y, x * y], dim=1), weights)
        mean_x, mean_squares, mean_product = moments.chunk(3, dim=1)
        c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
        product, squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
        similarity = ((2 * product + c1) * (2 * (mean_product - product) + c2)) / (
            (squares + c1) * (mean_squares - squares + c2)
        )
        return -similarity.mean()


def _single(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _gaussian(window: int, sigma: float, *, like: Tensor) -> Tensor:
    offsets = torch.arange(window, dtype=torch.float64) - window // 2
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    return (weights / weights.sum()).to(like)


def _smooth(x: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of every neighborhood that lies wholly in the image: columns first, then rows."""
    # One group per channel, channels last: on a CPU 20 times as fast as a batch of single channels.
    channels = x.shape[1]
    x = x.contiguous(memory_format=torch.channels_last)
    x = functional.conv2d(x, weights.reshape(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return functional.conv2d(x, weights.reshape(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
