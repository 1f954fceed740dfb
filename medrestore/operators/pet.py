"""The PET scanner: expected counts with attenuation, scatter and randoms, Poisson counts and their thinning.

Model of the expected counts of a scan at full dose, for every sinogram bin:

    y = k a (A x) + s + r

x is the activity, A the projector with resolution blur, a = exp(-line integral of mu) the attenuation
factors, k the counts per unit of line integral, s scatter and r randoms. The counts are Poisson with that
mean. A scan at a fraction f of the dose is a binomial thinning of the very same counts: each recorded event
is kept with probability f.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import fail, require_in_range, require_same_shape
from medrestore.operators.projector import FWHM_PER_SIGMA, ParallelProjector

__all__ = [
    "PetAcquisition",
    "attenuation_factors",
    "gaussian_post_filter",
    "randoms_and_scatter",
    "thin_counts",
]

MM_PER_CM = 10.0


def attenuation_factors(projector: ParallelProjector, mu_per_cm: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the share of photon pairs that leave the head on each line, a = exp(-integral of mu dl).

    Parameters
    ----------
    projector : ParallelProjector
        The scanner; its resolution blur is not applied, attenuation acts on the line.
    mu_per_cm : (X, X, Z) float, 1/cm
        Linear attenuation coefficients at 511 keV.

    Returns
    -------
    (angles, bins, Z) float32, in (0, 1]
    """
    if not np.all(np.isfinite(mu_per_cm)) or np.min(mu_per_cm) < 0:
        fail(
            "mu_per_cm must be finite and not negative", remedy="give linear attenuation coefficients in 1/cm"
        )
    return np.asarray(np.exp(-projector.line_integrals(mu_per_cm) / np.float32(MM_PER_CM)))


def randoms_and_scatter(
    trues: NDArray[np.float32],
    *,
    scatter_fraction: float,
    randoms_fraction: float,
    bin_mm: float,
    slice_mm: float,
    scatter_fwhm_mm: float = 140.0,
) -> NDArray[np.float32]:
    """Return the expected background of a scan: scatter, shaped like heavily blurred trues, and flat randoms.

    Parameters
    ----------
    trues : (angles, bins, Z) float, counts
        Expected unscattered coincidences.
    scatter_fraction, randoms_fraction : float
        Total scatter and total randoms, each as a fraction of the total trues.
    bin_mm, slice_mm : float, mm
        Spacing of the bins and of the slices.
    scatter_fwhm_mm : float, mm
        Width of the Gaussian that makes scatter out of trues, along the bins and along the slices.

    Returns
    -------
    (angles, bins, Z) float32, counts

    Notes
    -----
    A convolution of the trues is the classical scatter model of Bailey and Meikle (Phys Med Biol
    39:411, 1994), here with a Gaussian in place of the mono-exponential kernel. Randoms vary slowly over a
    head scan; they are flat here.
    """
    from scipy import ndimage

    require_in_range("scatter_fraction", scatter_fraction, 0.0, 10.0)
    require_in_range("randoms_fraction", randoms_fraction, 0.0, 10.0)
    total = float(trues.sum(dtype=np.float64))
    background = np.full(trues.shape, randoms_fraction * total / trues.size, dtype=np.float32)
    if scatter_fraction > 0 and total > 0:
        sigma = np.array([scatter_fwhm_mm / bin_mm, scatter_fwhm_mm / slice_mm]) / FWHM_PER_SIGMA
        # Scatter loses the detail over the angles too, so that a mean over angles before the blur is close,
        # and cheap.
        profile = trues.mean(axis=0, dtype=np.float64)
        smooth = ndimage.gaussian_filter(profile, sigma, mode="constant")
        background += (scatter_fraction * total / trues.shape[0] / smooth.sum() * smooth).astype(np.float32)
    return background


@dataclass(frozen=True)
class PetAcquisition:
    """One patient in the scanner at the standard dose: all that turns an activity into expected counts.

    Attributes
    ----------
    projector : ParallelProjector
        A, with the resolution blur.
    attenuation : (angles, bins, Z) float32
        a, from :func:`attenuation_factors`.
    background : (angles, bins, Z) float32, counts
        s + r at the standard dose, from :func:`randoms_and_scatter`.
    counts_per_line_integral : float, counts / (activity unit x mm)
        k: dose, scan time and sensitivity in one number.
    """

    projector: ParallelProjector
    attenuation: NDArray[np.float32]
    background: NDArray[np.float32]
    counts_per_line_integral: float

    def __post_init__(self) -> None:
        require_same_shape(
            projector=self.projector.range_shape,
            attenuation=self.attenuation.shape,
            background=self.background.shape,
        )
        require_in_range(
            "counts_per_line_integral",
            self.counts_per_line_integral,
            0.0,
            np.inf,
            include_low=False,
            include_high=False,
        )

    @classmethod
    def of_patient(
        cls,
        projector: ParallelProjector,
        activity: NDArray[np.float32],
        mu_per_cm: NDArray[np.float32],
        *,
        counts_per_line_integral: float,
        scatter_fraction: float,
        randoms_fraction: float,
    ) -> tuple[PetAcquisition, NDArray[np.float32]]:
        """Set up the scan of a patient and return it with the expected counts at the standard dose.

        Parameters
        ----------
        projector : ParallelProjector
            The scanner.
        activity : (X, X, Z) float, activity unit
            True activity.
        mu_per_cm : (X, X, Z) float, 1/cm
            Linear attenuation coefficients.
        counts_per_line_integral : float, counts / (activity unit x mm)
            See the attribute.
        scatter_fraction, randoms_fraction : float
            See :func:`randoms_and_scatter`.

        Returns
        -------
        PetAcquisition
        (angles, bins, Z) float32, expected counts
        """
        attenuation = attenuation_factors(projector, mu_per_cm)
        trues = projector.forward(activity) * attenuation * np.float32(counts_per_line_integral)
        background = randoms_and_scatter(
            trues,
            scatter_fraction=scatter_fraction,
            randoms_fraction=randoms_fraction,
            bin_mm=projector.geometry.pixel_mm,
            slice_mm=projector.geometry.slice_mm,
        )
        return cls(projector, attenuation, background, counts_per_line_integral), trues + background

    def expected_counts(self, activity: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return k a (A x) + s + r, (angles, bins, Z) float32 counts, of an activity (X, X, Z)."""
        trues = (
            self.projector.forward(activity) * self.attenuation * np.float32(self.counts_per_line_integral)
        )
        return np.asarray(trues + self.background)


def thin_counts(
    counts: NDArray[np.int64], fraction: float, *, random: np.random.Generator
) -> NDArray[np.int64]:
    """Keep each recorded event with probability ``fraction``: the counts of a scan at a fraction of the dose.

    Parameters
    ----------
    counts : integer array, counts
        Recorded counts at the standard dose.
    fraction : float
        Dose fraction, in (0, 1].
    random : numpy.random.Generator
        Source of the draws.

    Returns
    -------
    integer array of the same shape, counts

    Notes
    -----
    n' ~ Binomial(n, f). The mean over thinnings is f n. Where n is Poisson with mean m, n' is
    Poisson with mean f m, the removed events n - n' are Poisson with mean (1 - f) m, and the two are
    independent (the splitting property of the Poisson process). So a network cannot learn the noise of the
    low dose from the rest of the standard dose; the standard dose itself, n, contains n' and shares its noise
    in the proportion f.

    Examples
    --------
    >>> thin_counts(np.array([0, 5, 1000]), 1.0, random=np.random.default_rng(0)).tolist()
    [0, 5, 1000]
    """
    require_in_range("fraction", fraction, 0.0, 1.0, include_low=False)
    if not np.issubdtype(counts.dtype, np.integer) or np.min(counts) < 0:
        fail(
            "counts must be integers that are not negative",
            remedy="thin the recorded events, not their expected number",
        )
    if fraction == 1.0:
        return counts.copy()
    return random.binomial(counts, fraction)


def gaussian_post_filter(
    image: NDArray[np.float32], *, fwhm_mm: float, voxel_size_mm: tuple[float, float, float]
) -> NDArray[np.float32]:
    """Blur a volume by a 3D Gaussian, as scanners do after the reconstruction.

    Parameters
    ----------
    image : (X, Y, Z) float
        Volume.
    fwhm_mm : float, mm
        Full width at half maximum; 0 returns a copy.
    voxel_size_mm : three floats, mm
        Voxel size along X, Y, Z.

    Returns
    -------
    (X, Y, Z) float32
    """
    from scipy import ndimage

    require_in_range("fwhm_mm", fwhm_mm, 0.0, 100.0)
    sigma = [fwhm_mm / FWHM_PER_SIGMA / size for size in voxel_size_mm]
    filtered = ndimage.gaussian_filter(np.asarray(image, dtype=np.float32), sigma, mode="nearest")
    return np.asarray(filtered, dtype=np.float32)
