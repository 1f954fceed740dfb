"""What is measured of one tile: fidelity, structure, nuclei and stains."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import InputError
from medrestore.metrics.fidelity import psnr, rrmse
from medrestore.metrics.nuclei import COARSEST_UM, Nuclei, count_nuclei, nuclei_agreement
from medrestore.metrics.stains import StainStatistics, stain_statistics
from medrestore.metrics.structure import ms_mssim, qilv

__all__ = ["DATA_RANGE", "LEAST_NUCLEI", "LEAST_SIDE", "TrueTile", "measure_tile"]

DATA_RANGE = 255
"""Of 8 bits."""

LEAST_SIDE = 176
"""Of a tile, pixels: MS-mSSIM has windows of 11 pixels at five scales, each half the one before."""

LEAST_NUCLEI = 5
"""In the true tile: of fewer a single nucleus more or less would be an error of more than a fifth."""


@dataclass(frozen=True, eq=False)
class TrueTile:
    """A true tile and what it says of itself, computed once for all methods.

    Parameters
    ----------
    image : (H, W, 3) uint8
        The high-resolution tile.
    microns_per_pixel : float, um
        Of it.
    """

    image: NDArray[np.uint8]
    microns_per_pixel: float

    @cached_property
    def nuclei(self) -> Nuclei | None:
        """Nuclei of the true tile; None where it is too coarse to tell them."""
        return self.count(self.image)

    def count(self, image: NDArray[np.uint8]) -> Nuclei | None:
        """Count the nuclei of an image of this tile."""
        if self.microns_per_pixel > COARSEST_UM:
            return None
        return count_nuclei(image, microns_per_pixel=self.microns_per_pixel)

    @cached_property
    def stains(self) -> StainStatistics:
        """Densities of both stains."""
        return stain_statistics(self.image)


def measure_tile(image: NDArray[np.uint8] | None, true: TrueTile) -> dict[str, float]:
    """Measure one method's image of a tile.

    Parameters
    ----------
    image : (H, W, 3) uint8
        Restored; None for the true tile itself.
    true
        What it is measured by.

    Returns
    -------
    dict
        ``psnr`` (dB, data range 255), ``rrmse``, ``ms_mssim`` (of tiles of 176 pixels or more), ``qilv``,
        ``nuclei``, ``nuclei_density`` (per mm2), ``nuclei_error`` (absolute difference of counts over the
        true one) and ``nuclei_f1``, both of tiles with five nuclei or more, ``stain_drift_hematoxylin`` and
        ``stain_drift_eosin`` (absolute difference of the mean optical densities). Of the true tile its nuclei
        alone. None of nuclei at more than 1 um per pixel.

    Raises
    ------
    InputError
        When the image is the true tile itself, or shapes differ.
    """
    if image is None:
        return _of_nuclei(true.nuclei)
    flat = int(true.image.min()) == int(true.image.max())
    exact = np.array_equal(image, true.image)
    if exact and not flat:
        raise InputError("the image is the true tile itself, pixel by pixel: it cannot have been restored")
    nuclei, stains = true.count(image), stain_statistics(image)
    measured = {
        # Of a flat tile that came out exact it is infinite: no mean would be left.
        "psnr": float("nan") if exact else psnr(image, true.image, data_range=DATA_RANGE),
        "rrmse": rrmse(image, true.image),
        "qilv": qilv(image, true.image),
        "stain_drift_hematoxylin": abs(stains.hematoxylin_mean - true.stains.hematoxylin_mean),
        "stain_drift_eosin": abs(stains.eosin_mean - true.stains.eosin_mean),
        **_of_nuclei(nuclei),
    }
    if min(true.image.shape[:2]) >= LEAST_SIDE:
        measured["ms_mssim"] = ms_mssim(image, true.image, data_range=DATA_RANGE)
    if nuclei is not None and true.nuclei is not None and true.nuclei.count >= LEAST_NUCLEI:
        agreement = nuclei_agreement(nuclei, true.nuclei)
        measured |= {"nuclei_error": agreement.count_error, "nuclei_f1": agreement.f1}
    return measured


def _of_nuclei(nuclei: Nuclei | None) -> dict[str, float]:
    return {} if nuclei is None else {"nuclei": nuclei.count, "nuclei_density": nuclei.density_per_mm2}
