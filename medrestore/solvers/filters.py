"""Classical denoising, the baselines that a network must beat: Gaussian filter and non-local means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from medrestore.checks import InputError, require_in_range, require_in_set
from medrestore.metrics.fidelity import psnr

__all__ = ["Tuning", "ValidationPair", "estimate_noise", "gaussian_filter", "non_local_means", "tune"]

Volume: TypeAlias = npt.NDArray[np.float32]
Candidate = TypeVar("Candidate")

FWHM_PER_SIGMA = float(2 * np.sqrt(2 * np.log(2)))
"""Full width at half maximum of a Gaussian over its standard deviation."""

MAD_TO_SIGMA = 1.4826022185056018
"""Standard deviation of a normal distribution over its median absolute deviation, 1 / 0.6745."""


def gaussian_filter(volume: npt.NDArray[Any], *, fwhm_mm: float, voxel_size_mm: Sequence[float]) -> Volume:
    """Smooth a volume with an isotropic Gaussian.

    Parameters
    ----------
    volume : (X, Y, Z)
        Image to smooth.
    fwhm_mm
        Full width at half maximum; 0 changes nothing.
    voxel_size_mm
        Size along x, y and z.

    Returns
    -------
    (X, Y, Z) float32

    Raises
    ------
    InputError
        When the volume is not three-dimensional or not finite, or a size is not positive.

    Examples
    --------
    >>> point = np.zeros((9, 9, 9))
    >>> point[4, 4, 4] = 1
    >>> smooth = gaussian_filter(point, fwhm_mm=4.0, voxel_size_mm=(2.0, 2.0, 2.0))
    >>> round(float(smooth[5, 4, 4] / smooth[4, 4, 4]), 3)  # one half at half the width
    0.5
    """
    from scipy import ndimage

    image = _require_volume(volume)
    require_in_range("fwhm_mm", fwhm_mm, 0, float("inf"), include_high=False)
    if len(voxel_size_mm) != 3 or min(voxel_size_mm) <= 0:
        raise InputError(f"voxel_size_mm must be three positive numbers, got {tuple(voxel_size_mm)}")
    sigma = [fwhm_mm / FWHM_PER_SIGMA / size for size in voxel_size_mm]
    smoothed: Volume = ndimage.gaussian_filter(image, sigma)
    return smoothed


def estimate_noise(volume: npt.NDArray[Any]) -> float:
    """Return the standard deviation of a volume's noise, in its unit, estimated from the volume alone.

    Parameters
    ----------
    volume : (X, Y, Z)
        Noisy image, 3 x 3 voxels or more in a slice.

    Returns
    -------
    float
        Over voxels above the volume's mean, which leaves out the air around the head; 0 for a constant
        volume.

    Raises
    ------
    InputError
        When the volume is not three-dimensional, not finite or smaller.

    Notes
    -----
    Immerkaer 1996: the difference of two Laplacians cancels planes and edges along an axis, and its standard
    deviation is 6 times that of white noise; here by the median absolute deviation, which leaves out the
    edges that remain. Noise that neighboring voxels share, as after a post-filter, is underestimated.
    """
    from scipy import ndimage

    image = _require_volume(volume)
    if min(image.shape[:2]) < 3:
        raise InputError(f"slices must be at least 3 x 3 to estimate their noise, got {image.shape[:2]}")
    foreground = image > image.mean(dtype=np.float64)
    if not foreground.any():
        return 0.0
    second = np.array([1.0, -2.0, 1.0])
    difference = ndimage.convolve1d(ndimage.convolve1d(image, second, axis=0), second, axis=1)
    return float(np.median(np.abs(difference[foreground])) * MAD_TO_SIGMA / 6)


def non_local_means(
    volume: npt.NDArray[Any],
    *,
    strength: float,
    dimensions: int = 2,
    patch_size: int = 5,
    patch_distance: int = 6,
) -> Volume:
    """Average each voxel with voxels nearby whose surroundings look alike.

    Parameters
    ----------
    volume : (X, Y, Z)
        Noisy image.
    strength
        Decay of the weights in units of the noise's standard deviation, which is estimated from the volume.
    dimensions
        2: axial slices by themselves; 3: the volume as a whole, some tens of times slower.
    patch_size
        Side of the surroundings that are compared, voxels.
    patch_distance
        Largest distance at which a voxel is looked for, voxels.

    Returns
    -------
    (X, Y, Z) float32

    Raises
    ------
    InputError
        When the volume is not three-dimensional or not finite, or a parameter is out of its range.

    Notes
    -----
    Buades, Coll and Morel 2005, in scikit-image's fast mode (Darbon et al. 2008).
    """
    from skimage.restoration import denoise_nl_means

    require_in_range("strength", strength, 0, float("inf"), include_low=False, include_high=False)
    require_in_set("dimensions", dimensions, (2, 3))
    require_in_range("patch_size", patch_size, 1, float("inf"), include_high=False)
    require_in_range("patch_distance", patch_distance, 1, float("inf"), include_high=False)
    image = _require_volume(volume)
    h = strength * estimate_noise(image)
    if h == 0:  # without noise only equal patches would be averaged
        return image.copy()

    def denoise(part: Volume) -> Volume:
        clean: Volume = denoise_nl_means(
            part, patch_size=patch_size, patch_distance=patch_distance, h=h, fast_mode=True
        )
        return clean

    if dimensions == 3:
        return denoise(image).astype(np.float32)
    slices = [denoise(np.ascontiguousarray(image[:, :, z])) for z in range(image.shape[2])]
    return np.stack(slices, axis=-1).astype(np.float32)


class ValidationPair(NamedTuple):
    """One subject to tune on: degraded and target (X, Y, Z) in one unit, and the data range of its PSNR."""

    degraded: npt.NDArray[Any]
    target: npt.NDArray[Any]
    data_range: float


@dataclass(frozen=True)
class Tuning(Generic[Candidate]):
    """The best candidate, and the mean PSNR (dB) of each candidate in the order given."""

    best: Candidate
    mean_psnr: list[float]


def tune(
    candidates: Sequence[Candidate],
    pairs: Sequence[ValidationPair],
    *,
    restore: Callable[[npt.NDArray[Any], Candidate], npt.NDArray[Any]],
) -> Tuning[Candidate]:
    """Pick the candidate whose restorations have the best mean PSNR over the validation pairs.

    Parameters
    ----------
    candidates
        Parameters to try, of any kind; of equally good ones the first wins.
    pairs
        Validation subjects, never test subjects.
    restore
        Takes a degraded volume and a candidate, returns the restored volume.

    Returns
    -------
    Tuning

    Raises
    ------
    InputError
        When there is no candidate or no pair.

    Examples
    --------
    >>> pair = ValidationPair(np.zeros((2, 2, 2)), np.ones((2, 2, 2)), 1.0)
    >>> tune([0.5, 0.9, 2.0], [pair], restore=lambda degraded, offset: degraded + offset).best
    0.9
    """
    if not candidates or not pairs:
        raise InputError(f"tuning needs a candidate and a pair, got {len(candidates)} and {len(pairs)}")
    means = [
        float(
            np.mean(
                [
                    psnr(restore(pair.degraded, candidate), pair.target, data_range=pair.data_range)
                    for pair in pairs
                ]
            )
        )
        for candidate in candidates
    ]
    return Tuning(candidates[int(np.argmax(means))], means)


def _require_volume(volume: npt.NDArray[Any]) -> Volume:
    if volume.ndim != 3:
        raise InputError(f"volume must be of shape (X, Y, Z), got {volume.shape}")
    if not np.isfinite(volume).all():
        bad = np.count_nonzero(~np.isfinite(volume))
        raise InputError(f"volume must be finite, got {bad} NaN or infinite voxels")
    return volume.astype(np.float32)
