"""What is measured of one image: quality, the reading of classifiers, SUVR, dose equivalent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import InputError
from medrestore.data.intensity import FWHM_PER_SIGMA, SMOOTHING_FWHM_MM, THRESHOLD
from medrestore.evaluation.observers import Observer
from medrestore.metrics.fidelity import nrmse, psnr, rmse, ssim
from medrestore.metrics.quantitative import composite_suvr, dose_equivalent
from medrestore.metrics.task import error_rate, middle_slices, slice_mae, volume_decision

__all__ = ["JUDGED_SLICES", "Reference", "foreground_mask", "image_quality", "reading"]

JUDGED_SLICES = 40
"""Axial slices in the middle of the head that classifiers read (Task-GAN, table 3)."""


def foreground_mask(volume: NDArray[np.floating], *, voxel_size_mm: Sequence[float]) -> NDArray[np.bool_]:
    """Return the voxels of the head: above a part of the maximum after smoothing, holes filled.

    Width and part are those of :func:`~medrestore.data.intensity.foreground_scale`.

    Parameters
    ----------
    volume : (X, Y, Z)
        Standard-dose image, any unit.
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


@dataclass(frozen=True, eq=False)
class Reference:
    """A subject's standard-dose image, and all that other images of the subject are measured by.

    Parameters
    ----------
    target : (X, Y, Z) float32
        Standard dose.
    foreground : (X, Y, Z) bool
        Of :func:`foreground_mask`.
    data_range
        R of PSNR and SSIM, in the image's unit.
    scale
        Foreground scale of the degraded image: networks see images divided by it.
    label
        y, 0 or 1; NaN when it is not known.
    regions : (X, Y, Z) int or None
        Region codes for the SUVR.
    dose_curve
        Dose fractions of the subject's plain reconstructions and their PSNR in dB; empty without a dose
        series.
    """

    target: NDArray[np.float32]
    foreground: NDArray[np.bool_]
    data_range: float
    scale: float
    label: float
    regions: NDArray[np.int16] | None = None
    dose_curve: tuple[tuple[float, float], ...] = ()

    @property
    def judged(self) -> slice:
        """Axial slices that classifiers read: the middle of those that hold foreground, 40 or all."""
        held = np.flatnonzero(self.foreground.any(axis=(0, 1)))
        count = int(held[-1] - held[0]) + 1
        middle = middle_slices(count, min(JUDGED_SLICES, count))
        return slice(int(held[0]) + middle.start, int(held[0]) + middle.stop)


def image_quality(image: NDArray[np.float32], reference: Reference) -> dict[str, float | str]:
    """Measure how close an image is to standard dose.

    Parameters
    ----------
    image : (X, Y, Z)
        Degraded or restored, in the unit of the target.
    reference
        Of the subject.

    Returns
    -------
    dict
        ``psnr`` (dB), ``ssim`` and ``rmse`` over the whole volume, as in the paper's table 2, RMSE in units
        of the target's mean over the foreground; ``nrmse``: RMSE over the foreground alone, in the same
        units. With a dose curve ``dose_equivalent``, and ``dose_equivalent_bound``: ``<`` or ``>`` where the
        fraction is the curve's end.

    Notes
    -----
    The air around the head makes up most of a volume and is easily restored: PSNR and SSIM over the volume
    can be compared with published ones but depend on the field of view; ``nrmse`` does not.
    """
    target, mask = reference.target, reference.foreground
    if np.array_equal(image, target):
        raise InputError("the image is the target itself, no restoration of it")
    quality = psnr(image, target, data_range=reference.data_range)
    measured: dict[str, float | str] = {
        "psnr": quality,
        "ssim": ssim(image, target, data_range=reference.data_range),
        "rmse": rmse(image, target) / float(target[mask].mean(dtype=np.float64)),
        "nrmse": nrmse(image, target, mask=mask),
    }
    if reference.dose_curve:
        fractions, psnrs = zip(*reference.dose_curve, strict=True)
        equivalent = dose_equivalent(quality, fractions, psnrs)
        measured |= {"dose_equivalent": equivalent.fraction, "dose_equivalent_bound": equivalent.bound}
    return measured


def reading(
    image: NDArray[np.float32],
    reference: Reference,
    observers: Sequence[Observer],
    *,
    target_labels: Sequence[int],
    reference_labels: Sequence[int],
) -> dict[str, float]:
    """Read an image as the clinic would: each classifier's verdict, and the composite SUVR.

    Parameters
    ----------
    image : (X, Y, Z)
        Degraded, restored or standard dose, in the unit of the target.
    reference
        Of the subject.
    observers
        T and independent ones.
    target_labels, reference_labels
        Region codes of the composite SUVR.

    Returns
    -------
    dict
        For each observer ``NAME_score`` (mean probability over the judged slices), ``NAME_mae`` (mean
        absolute error per slice) and ``NAME_error`` (1 for a volume read wrong); ``suvr`` with regions.
    """
    measured: dict[str, float] = {}
    slices = image[:, :, reference.judged].transpose(2, 0, 1) / np.float32(reference.scale)
    for observer in observers:
        probabilities = observer.probabilities(slices)
        measured[f"{observer.name}_score"] = float(probabilities.mean())
        if np.isnan(reference.label):
            continue
        measured[f"{observer.name}_mae"] = slice_mae(probabilities, reference.label)
        measured[f"{observer.name}_error"] = error_rate(
            [volume_decision(probabilities)], [int(reference.label)]
        )
    if reference.regions is not None:
        measured["suvr"] = composite_suvr(
            image, reference.regions, target_labels=target_labels, reference_labels=reference_labels
        )
    return measured
