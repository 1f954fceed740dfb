"""What is measured of one scan: quality, the reading of classifiers, SUVR, dose equivalent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import about
from medrestore.domains.amyloid_pet.schema import COMPOSITE_REGIONS, REFERENCE_REGION
from medrestore.evaluation.measures import image_quality
from medrestore.evaluation.observers import Observer
from medrestore.evaluation.volumes import TrueVolume
from medrestore.metrics.quantitative import composite_suvr, dose_equivalent, region_means
from medrestore.metrics.task import error_rate, middle_slices, slice_mae, volume_decision

__all__ = ["JUDGED_SLICES", "Reference", "departure_quality", "reading", "scan_quality"]

JUDGED_SLICES = 40
"""Axial slices in the middle of the head that classifiers read (Task-GAN, table 3)."""


DEPARTURE_SIGMA_MM = 2.5
"""Standard deviation of the Gaussian by which a standard-dose image shows the true activity, about: a point
spread of 4.5 mm and a filter of 4 mm (FWHM)."""

SURROUND_MM = 20.0
"""How far what a departure is compared with reaches around it."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Reference(TrueVolume):
    """A subject's standard-dose image, and all that other images of the subject are measured by.

    Parameters
    ----------
    target, foreground, data_range, voxel_size_mm
        Of :class:`~medrestore.evaluation.volumes.TrueVolume`.
    scale
        Foreground scale of the degraded image: networks see images divided by it.
    label
        y, 0 or 1; NaN when it is not known.
    dose_fraction
        Of the degraded image.
    regions : (X, Y, Z) int or None
        Region codes for the SUVR.
    regions_path
        Of the region map, for messages.
    departure : (X, Y, Z) float32 or None
        Where the true activity departs from the tissue map, and by how much, in the target's unit.
    dose_curve
        Dose fractions of the subject's plain reconstructions and their PSNR in dB; empty without a dose
        series.
    target_labels, reference_labels
        Region codes of the composite SUVR.
    """

    scale: float
    label: float
    dose_fraction: float = math.nan
    regions: NDArray[np.int16] | None = None
    regions_path: str = ""
    departure: NDArray[np.float32] | None = None
    dose_curve: tuple[tuple[float, float], ...] = ()
    target_labels: Sequence[int] = COMPOSITE_REGIONS
    reference_labels: Sequence[int] = (REFERENCE_REGION,)

    @property
    def judged(self) -> slice:
        """Axial slices that classifiers read: the middle of those that hold foreground, 40 or all."""
        held = np.flatnonzero(self.foreground.any(axis=(0, 1)))
        count = int(held[-1] - held[0]) + 1
        middle = middle_slices(count, min(JUDGED_SLICES, count))
        return slice(int(held[0]) + middle.start, int(held[0]) + middle.stop)

    @cached_property
    def suvr(self) -> float:
        """Composite SUVR of the standard dose."""
        return self.suvr_of(self.target)

    def suvr_of(self, image: NDArray[np.float32]) -> float:
        """Return the composite SUVR of an image; NaN without regions."""
        if self.regions is None:
            return math.nan
        with about(self.regions_path):
            return composite_suvr(
                image,
                self.regions,
                target_labels=self.target_labels,
                reference_labels=self.reference_labels,
            )

    def regional_suvr_of(self, image: NDArray[np.float32]) -> dict[int, float]:
        """Return the SUVR of each target region of an image by its code; none without regions."""
        if self.regions is None:
            return {}
        with about(self.regions_path):
            means = region_means(image, self.regions, [*self.target_labels, *self.reference_labels])
        reference = float(np.mean([means[code] for code in self.reference_labels]))
        return {code: means[code] / reference for code in self.target_labels}


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


def departure_quality(image: NDArray[np.float32], reference: Reference) -> dict[str, float]:
    """Measure how an image shows uptake that departs from the tissue map.

    Parameters
    ----------
    image : (X, Y, Z)
        Degraded or restored, in the unit of the target.
    reference
        Of the subject.

    Returns
    -------
    dict
        Empty where nothing departs. ``departure_psnr``, dB: the PSNR over the departure, where it is half of
        its largest or more. ``departure_recovered``: the part of it that the image shows,

            1 + [mean over the departure of (image - target) - the same around it] / mean blurred departure,

        1 where it stands out as in the target, 0 where the image looks as if nothing departed. Around it:
        what lies within 20 mm in the head and departs by nothing.
    """
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    if reference.departure is None or not reference.departure.any():
        return {}
    size = np.abs(reference.departure)
    inside = size >= size.max() / 2
    away_mm = distance_transform_edt(~inside, sampling=reference.voxel_size_mm)
    around = (away_mm <= SURROUND_MM) & (size == 0) & reference.foreground
    sigma = [DEPARTURE_SIGMA_MM / mm for mm in reference.voxel_size_mm]
    shown = float(gaussian_filter(reference.departure, sigma)[inside].mean(dtype=np.float64))
    error = (image - reference.target).astype(np.float64)
    noise = float((error[inside] ** 2).mean())
    beside = float(error[around].mean()) if around.any() else 0.0
    return {
        "departure_psnr": 10 * math.log10(reference.data_range**2 / noise) if noise else math.inf,
        "departure_recovered": 1 + (float(error[inside].mean()) - beside) / shown,
    }


def reading(
    image: NDArray[np.float32], reference: Reference, observers: Sequence[Observer]
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
        measured["suvr"] = reference.suvr_of(image)
    return measured
