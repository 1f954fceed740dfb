"""What is measured of one scan: quality, the reading of classifiers, SUVR, dose equivalent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medrestore.evaluation.measures import image_quality
from medrestore.evaluation.observers import Observer
from medrestore.metrics.quantitative import composite_suvr, dose_equivalent
from medrestore.metrics.task import error_rate, middle_slices, slice_mae, volume_decision

__all__ = ["JUDGED_SLICES", "Reference", "reading", "scan_quality"]

JUDGED_SLICES = 40
"""Axial slices in the middle of the head that classifiers read (Task-GAN, table 3)."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A subject's standard-dose image, and all that other images of the subject are measured by.

    Parameters
    ----------
    target : (X, Y, Z) float32
        Standard dose.
    foreground : (X, Y, Z) bool
        Of :func:`~medrestore.evaluation.measures.foreground_mask`.
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


def scan_quality(image: NDArray[np.float32], reference: Reference) -> dict[str, float | str]:
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
        What :func:`~medrestore.evaluation.measures.image_quality` gives, PSNR, SSIM and RMSE as in the
        paper's table 2. With a dose curve ``dose_equivalent``, and ``dose_equivalent_bound``: ``<`` or ``>``
        where the fraction is the curve's end.
    """
    quality = image_quality(
        image, reference.target, foreground=reference.foreground, data_range=reference.data_range
    )
    measured: dict[str, float | str] = {**quality}
    if reference.dose_curve:
        fractions, psnrs = zip(*reference.dose_curve, strict=True)
        equivalent = dose_equivalent(quality["psnr"], fractions, psnrs)
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
