"""What is measured of every volume: the foreground, and how close an image is to the true one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import InputError
from medrestore.data.intensity import FWHM_PER_SIGMA, SMOOTHING_FWHM_MM, THRESHOLD
from medrestore.metrics.fidelity import nrmse, psnr, rmse, ssim

__all__ = ["foreground_mask", "image_quality"]


def foreground_mask(volume: NDArray[np.floating], *, voxel_size_mm: Sequence[float]) -> NDArray[np.bool_]:
    """Return the voxels of the head: above a part of the maximum after smoothing, holes filled.

    Width and part are those of :func:`~medrestore.data.intensity.foreground_scale`.

    Parameters
    ----------
    volume : (X, Y, Z)
        True image, any unit.
    voxel_size_mm
        Of X, Y, Z.

    Raises
    ------
    InputError
        When the image has no positive foreground.
    """
    from scipy.ndimage import binary_fill_holes, gaussian_filter

    sigma = [SMOOTHING_FWHM_MM / FWHM_PER_SIGMA / size for size in voxel_size_mm]
    smooth = gaussian_filter(volume.astype(np.float32), sigma)
    if not smooth.max() > 0:
        raise InputError("the image has no positive foreground (zero everywhere, or negative)")
    mask: NDArray[np.bool_] = binary_fill_holes(smooth > THRESHOLD * smooth.max())
    return mask


def image_quality(
    image: NDArray[np.float32],
    target: NDArray[np.float32],
    *,
    foreground: NDArray[np.bool_],
    data_range: float,
) -> dict[str, float]:
    """Measure how close an image is to the true one.

    Parameters
    ----------
    image : (X, Y, Z)
        Degraded or restored, in the unit of the target.
    target : (X, Y, Z)
        True image.
    foreground : (X, Y, Z) bool
        Of :func:`foreground_mask`.
    data_range
        R of PSNR and SSIM, in the unit of the target.

    Returns
    -------
    dict
        ``psnr`` (dB), ``ssim`` and ``rmse`` over the whole volume, RMSE in units of the target's mean over
        the foreground; ``nrmse``: RMSE over the foreground alone, in the same units.

    Notes
    -----
    The air around the head makes up most of a volume and is easily restored: PSNR and SSIM over the volume
    can be compared with published ones but depend on the field of view; ``nrmse`` does not.
    """
    if np.array_equal(image, target):
        raise InputError("the image is the target itself, no restoration of it")
    return {
        "psnr": psnr(image, target, data_range=data_range),
        "ssim": ssim(image, target, data_range=data_range),
        "rmse": rmse(image, target) / float(target[foreground].mean(dtype=np.float64)),
        "nrmse": nrmse(image, target, mask=foreground),
    }
