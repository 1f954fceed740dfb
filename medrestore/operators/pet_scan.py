"""A PET scan at the standard dose and at fractions of it: from activity to reconstructed images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from medrestore import rng
from medrestore.checks import fail, require_in_range
from medrestore.operators.pet import PetAcquisition, attenuation_factors, gaussian_post_filter, thin_counts
from medrestore.operators.pet_osem import OsemReconstruction
from medrestore.operators.projector import ParallelProjector, ProjectionGeometry

__all__ = ["STANDARD_DOSE", "ScanSettings", "Scans", "simulate_scans"]

STANDARD_DOSE = 1.0
"""The dose fraction of the standard-dose scan."""


@dataclass(frozen=True)
class ScanSettings:
    """Scanner, background and reconstruction, the same for every dose.

    Attributes
    ----------
    angles : int
        Projection angles over 180 degrees.
    resolution_fwhm_mm : float, mm
        Width of the scanner's point spread function.
    scatter_fraction, randoms_fraction : float
        Scatter and randoms, each as a fraction of the trues; 3D brain scans record about as much of each.
    iterations, subsets : int
        Of OSEM.
    post_filter_fwhm_mm : float, mm
        Width of the Gaussian filter after the reconstruction.
    """

    angles: int = 120
    resolution_fwhm_mm: float = 4.5
    scatter_fraction: float = 0.35
    randoms_fraction: float = 0.30
    iterations: int = 2
    subsets: int = 20
    post_filter_fwhm_mm: float = 4.0


@dataclass(frozen=True)
class Scans:
    """What :func:`simulate_scans` returns.

    Attributes
    ----------
    images : dict of dose fraction to (X, X, Z) float32, activity unit
        Reconstructions; the standard dose under :data:`STANDARD_DOSE`.
    recorded_counts : int
        Events of the standard-dose scan.
    """

    images: dict[float, NDArray[np.float32]]
    recorded_counts: int


@lru_cache(maxsize=2)
def _projector(geometry: ProjectionGeometry) -> ParallelProjector:
    return ParallelProjector(geometry)


def simulate_scans(
    activity: NDArray[np.float32],
    mu_per_cm: NDArray[np.float32],
    *,
    voxel_size_mm: tuple[float, float, float],
    dose_fractions: Sequence[float],
    settings: ScanSettings,
    seed: int,
    counts_per_line_integral: float | None = None,
    total_counts: float | None = None,
) -> Scans:
    """Scan a patient at the standard dose, thin its counts to each dose fraction, reconstruct them all alike.

    Parameters
    ----------
    activity : (X, X, Z) float, activity unit
        True activity; slices along the last axis.
    mu_per_cm : (X, X, Z) float, 1/cm
        Linear attenuation coefficients at 511 keV.
    voxel_size_mm : three floats, mm
        Voxel size; isotropic in-plane.
    dose_fractions : sequence of float
        Dose fractions in (0, 1]; each is thinned from the very same standard-dose counts.
    settings : ScanSettings
        Scanner and reconstruction.
    seed : int
        Names the streams of the Poisson counts and of each thinning.
    counts_per_line_integral : float or None, counts / (activity unit x mm)
        Dose, scan time and sensitivity in one number.
    total_counts : float or None, counts
        Expected events of the standard-dose scan, with scatter and randoms; one of the two is given.

    Returns
    -------
    Scans
        The standard dose and every fraction.

    Raises
    ------
    InputError
        When voxels are not isotropic in-plane, the level of counts is not given once, there is no activity in
        the field of view, or nothing is recorded at some dose.
    """
    if abs(voxel_size_mm[0] - voxel_size_mm[1]) > 1e-3 * voxel_size_mm[0]:
        fail(
            f"voxel_size_mm must be isotropic in-plane, got {voxel_size_mm}",
            remedy="resample the volume in-plane",
        )
    for fraction in dose_fractions:
        require_in_range("dose_fractions", fraction, 0.0, 1.0, include_low=False)
    geometry = ProjectionGeometry(
        pixels=activity.shape[0],
        slices=activity.shape[2],
        pixel_mm=voxel_size_mm[0],
        slice_mm=voxel_size_mm[2],
        angles=settings.angles,
        fwhm_mm=settings.resolution_fwhm_mm,
    )
    projector = _projector(geometry)
    if (counts_per_line_integral is None) == (total_counts is None):
        fail("counts_per_line_integral or total_counts must be given, and not both")
    if counts_per_line_integral is None:
        attenuated = projector.forward(activity) * attenuation_factors(projector, mu_per_cm)
        per_unit = float(attenuated.sum(dtype=np.float64))
        if per_unit <= 0:
            fail("there is no activity in the field of view")
        per_unit *= 1 + settings.scatter_fraction + settings.randoms_fraction
        counts_per_line_integral = float(total_counts or 0) / per_unit
    acquisition, expected = PetAcquisition.of_patient(
        projector,
        activity,
        mu_per_cm,
        counts_per_line_integral=counts_per_line_integral,
        scatter_fraction=settings.scatter_fraction,
        randoms_fraction=settings.randoms_fraction,
    )
    counts = rng.generator(seed, "poisson").poisson(expected)
    reconstruction = OsemReconstruction(acquisition, subsets=settings.subsets)
    images = {}
    for fraction in sorted({STANDARD_DOSE, *(float(fraction) for fraction in dose_fractions)}, reverse=True):
        recorded = counts
        if fraction < STANDARD_DOSE:
            recorded = thin_counts(
                counts, fraction, random=rng.generator(seed, "thinning", f"{fraction:.9g}")
            )
        if not recorded.any():
            fail(
                f"no event is recorded at dose fraction {fraction:g}",
                remedy="raise the counts or the dose fraction",
            )
        image = reconstruction.reconstruct(recorded, dose_fraction=fraction, iterations=settings.iterations)
        images[fraction] = gaussian_post_filter(
            image, fwhm_mm=settings.post_filter_fwhm_mm, voxel_size_mm=voxel_size_mm
        )
    return Scans(images=images, recorded_counts=int(counts.sum()))
