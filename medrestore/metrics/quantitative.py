"""What is measured in a PET image: regional uptake, SUVR, agreement, and the dose that an image is worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from medrestore.checks import InputError, require_same_shape

__all__ = [
    "BlandAltman",
    "DoseEquivalent",
    "bland_altman",
    "composite_suvr",
    "dose_equivalent",
    "region_means",
]

Array: TypeAlias = npt.NDArray[Any]


class BlandAltman(NamedTuple):
    """Agreement of two measurements: mean and standard deviation of a - b, and the limits bias -+ 1.96 sd."""

    bias: float
    sd: float
    lower: float
    upper: float


class DoseEquivalent(NamedTuple):
    """Dose fraction that an image is worth.

    ``bound``: "" where the curve covers it, "<" where it lies below the curve's lowest fraction (which is
    given), ">" where it lies above the highest.
    """

    fraction: float
    bound: str

    def __str__(self) -> str:
        return f"{self.bound}{self.fraction:.3g}"


def region_means(image: Array, regions: Array, labels: Sequence[int]) -> dict[int, float]:
    """Return the mean of the image in each labeled region.

    Parameters
    ----------
    image : (X, Y, Z)
        Uptake, in any unit.
    regions : (X, Y, Z) int
        Region code of each voxel.
    labels
        Codes to measure.

    Returns
    -------
    dict
        Mean by code, in the order of ``labels``.

    Raises
    ------
    InputError
        When shapes differ, a region has no voxel or a mean is not finite.

    Examples
    --------
    >>> region_means(np.array([[[1.0, 3.0, 8.0]]]), np.array([[[2, 2, 5]]]), [5, 2])
    {5: 8.0, 2: 2.0}
    """
    require_same_shape(image=image.shape, regions=regions.shape)
    if not np.issubdtype(regions.dtype, np.integer):
        raise InputError(f"regions must hold integer codes, got {regions.dtype}")
    means: dict[int, float] = {}
    for label in labels:
        voxels = image[regions == label]
        if voxels.size == 0:
            present = np.unique(regions).tolist()
            raise InputError(f"region {label} has no voxel; the region map holds {present}")
        means[label] = float(voxels.mean(dtype=np.float64))
        if not np.isfinite(means[label]):
            raise InputError(f"region {label} holds NaN or infinite values")
    return means


def composite_suvr(
    image: Array, regions: Array, *, target_labels: Sequence[int], reference_labels: Sequence[int]
) -> float:
    """Return the composite standardized uptake value ratio: mean over target regions / reference.

    Parameters
    ----------
    image : (X, Y, Z)
        Uptake, in any unit: it cancels.
    regions : (X, Y, Z) int
        Region code of each voxel.
    target_labels
        Cortical regions; each counts alike, whatever its volume.
    reference_labels
        Reference regions, each counting alike.

    Raises
    ------
    InputError
        When shapes differ, no region is named, one has no voxel, or the reference uptake is not positive.

    Notes
    -----
    Unweighted, so that a large region does not outvote a small one.

    Examples
    --------
    >>> uptake, codes = np.array([[[1.0, 1.0, 2.0, 4.0]]]), np.array([[[1, 1, 2, 3]]])
    >>> composite_suvr(uptake, codes, target_labels=[2, 3], reference_labels=[1])
    3.0
    """
    if not target_labels or not reference_labels:
        raise InputError("target_labels and reference_labels must each name at least one region")
    reference = float(np.mean(list(region_means(image, regions, reference_labels).values())))
    if reference <= 0:
        raise InputError(f"the reference regions' mean uptake must be positive, got {reference}")
    return float(np.mean(list(region_means(image, regions, target_labels).values()))) / reference


def bland_altman(a: Sequence[float] | Array, b: Sequence[float] | Array) -> BlandAltman:
    """Return bias and 95 % limits of agreement of two measurements of the same subjects.

    Parameters
    ----------
    a, b : (N,)
        Measurements of N subjects; the difference is a - b.

    Returns
    -------
    BlandAltman
        Standard deviation with N - 1 in the denominator; limits bias -+ 1.96 sd.

    Raises
    ------
    InputError
        When lengths differ, values are not finite, or there are fewer than two subjects.

    Notes
    -----
    Bland and Altman 1986.

    Examples
    --------
    >>> agreement = bland_altman([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    >>> agreement.bias, agreement.sd, round(agreement.upper, 2)
    (1.0, 1.0, 2.96)
    """
    first, second = _finite_row("a", a), _finite_row("b", b)
    require_same_shape(a=first.shape, b=second.shape)
    if first.size < 2:
        raise InputError(f"limits of agreement need at least two subjects, got {first.size}")
    difference = first - second
    bias, sd = float(difference.mean()), float(difference.std(ddof=1))
    return BlandAltman(bias, sd, bias - 1.96 * sd, bias + 1.96 * sd)


def dose_equivalent(
    psnr: float, fractions: Sequence[float] | Array, psnrs: Sequence[float] | Array
) -> DoseEquivalent:
    """Return the smallest dose fraction whose plain reconstruction reaches the same PSNR.

    Parameters
    ----------
    psnr
        PSNR of the restored image, dB.
    fractions : (N,)
        Dose fractions of plain reconstructions of the same subject(s), in (0, 1], in any order.
    psnrs : (N,)
        Their PSNR, dB.

    Raises
    ------
    InputError
        When lengths differ, values are not finite, fractions repeat or leave (0, 1], or there are fewer than
        two.

    Notes
    -----
    The logarithm of the fraction is interpolated linearly in PSNR. A curve that falls somewhere, by noise, is
    first raised to its running maximum, so that more dose is never worth less.

    Examples
    --------
    >>> print(dose_equivalent(25.0, [0.01, 0.1], [20.0, 30.0]))  # halfway: the square root of 0.01 * 0.1
    0.0316
    >>> print(dose_equivalent(35.0, [0.01, 0.1], [20.0, 30.0]))
    >0.1
    """
    dose, quality = _finite_row("fractions", fractions), _finite_row("psnrs", psnrs)
    require_same_shape(fractions=dose.shape, psnrs=quality.shape)
    if not np.isfinite(psnr):
        raise InputError(f"psnr must be finite, got {psnr}")
    if dose.size < 2 or np.unique(dose).size != dose.size or dose.min() <= 0 or dose.max() > 1:
        raise InputError(f"fractions must be at least two different numbers in (0, 1], got {dose.tolist()}")
    order = np.argsort(dose)
    dose, quality = dose[order], np.maximum.accumulate(quality[order])
    after = int(np.searchsorted(quality, psnr))  # the first fraction that reaches it
    if after == dose.size:
        return DoseEquivalent(float(dose[-1]), ">")
    if quality[after] == psnr:
        return DoseEquivalent(float(dose[after]), "")
    if after == 0:
        return DoseEquivalent(float(dose[0]), "<")
    share = (psnr - quality[after - 1]) / (quality[after] - quality[after - 1])
    return DoseEquivalent(float(dose[after - 1] * (dose[after] / dose[after - 1]) ** share), "")


def _finite_row(name: str, values: Sequence[float] | Array) -> Array:
    row = np.asarray(values, dtype=np.float64)
    if row.ndim != 1 or not np.isfinite(row).all():
        raise InputError(f"{name} must be a row of finite numbers, got shape {row.shape} with {row.tolist()}")
    return row
