"""Nuclei of hematoxylin and eosin sections: how many, how large, and does a restored picture keep them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from medrestore.checks import InputError, require_in_range, require_same_shape
from medrestore.metrics.stains import stain_density

__all__ = ["COARSEST_UM", "Nuclei", "NucleiAgreement", "count_nuclei", "nuclei_agreement"]

Array: TypeAlias = npt.NDArray[Any]

COARSEST_UM = 1.0
"""Micrometers per pixel beyond which a small nucleus, 4 um wide, is no longer told from a speck."""

SMOOTHING_UM = 0.6
"""Standard deviation of the Gaussian that evens out chromatin before the threshold."""

CONTRAST = 0.08
"""Optical density of hematoxylin by which a nucleus exceeds the tissue below Otsu's threshold: where there is
no nucleus, that threshold parts nothing but texture."""

TISSUE_DENSITY = 0.1
"""Optical density of both stains together above which a pixel is tissue: glass would pull thresholds down."""

NEIGHBORHOOD_UM, LOCAL_SHARE = 28.0, 0.9
"""Side of a square, some nuclei wide, and the share of its tissue's mean density that a nucleus must exceed:
less than 1, since a nucleus that lies alone on glass is itself that mean."""

CLOSING_UM, OPENING_UM = 0.5, 0.9
"""Radii: gaps in a pale nucleus' rim are closed, then threads between nuclei are cut."""

LARGEST_HOLE_UM2 = 20.0
"""Pale chromatin inside a nucleus; what is larger is a lumen or a vessel inside a ring of nuclei."""

SMALLEST_NUCLEUS_UM2 = 12.0
"""A disk 4 um wide: less is a fragment, a speck of pigment or a nucleus that the section barely touched."""

PEAK_SMOOTHING_UM, PEAK_DISTANCE_UM = 0.5, 2.0
"""Touching nuclei are told apart by peaks of the distance to the rim, smoothed, that lie this far apart."""


@dataclass(frozen=True)
class Nuclei:
    """Nuclei found in a picture.

    Attributes
    ----------
    count
        How many, those that the picture's border cuts included.
    mean_area_um2
        NaN without nuclei.
    density_per_mm2
        Count over the area of the whole picture, background included.
    centroids_um : (count, 2) float64
        Row and column from the top left pixel's center, in micrometers.
    labels : (H, W) int32
        1 to ``count`` inside nuclei, 0 elsewhere.
    microns_per_pixel
        Of the picture.
    """

    count: int
    mean_area_um2: float
    density_per_mm2: float
    centroids_um: Array
    labels: Array
    microns_per_pixel: float


class NucleiAgreement(NamedTuple):
    """How well nuclei of a restored picture agree with those of its target.

    ``count_error``: absolute difference of the counts over the target's count, NaN where that is 0.
    ``f1``: 2 x matched / (restored + target), NaN where neither picture has a nucleus.
    ``matched``: pairs of nuclei.
    """

    count_error: float
    f1: float
    matched: int


def count_nuclei(rgb: Array, *, microns_per_pixel: float) -> Nuclei:
    """Find the nuclei of a hematoxylin and eosin section.

    Hematoxylin's optical density is smoothed. A pixel belongs to a nucleus where it exceeds three thresholds:
    Otsu's for the light that hematoxylin lets through in tissue, the mean of the tissue in a square around
    it, nearly, and a contrast to the tissue below the first. Small gaps and holes are filled, threads cut and
    specks dropped; touching nuclei are parted by a watershed of the distance to their rim.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
        sRGB.
    microns_per_pixel
        At most 1. All lengths in the method are micrometers, so a wrong value finds wrong nuclei.

    Raises
    ------
    InputError
        When the picture is not RGB of 8 bits or the resolution is out of range.

    Notes
    -----
    Otsu's threshold is chosen on transmitted light, 10 to the power of minus the density: on the density
    itself a few very dark nuclei (lymphocytes, pyknosis) raise it above pale, vesicular ones. The local mean
    keeps out cytoplasm that takes up hematoxylin. Thresholds depend on the picture, so the same pixels can
    count differently in a larger one.

    This is a count by rules, tuned by eye on three pictures; it is no pathologist and no trained network. It
    serves to compare a restored picture with its target, where both are read by the same rules. It misses
    nuclei that are barely darker than what is around them, takes two that overlap broadly for one, may take
    the dark side of a sharp edge between two tissues for nuclei, and cannot tell ink, pigment or folds from
    nuclei: those must be kept out of the tiles.

    Examples
    --------
    >>> rgb = np.full((64, 64, 3), 240, dtype=np.uint8)
    >>> row, column = np.mgrid[:64, :64]
    >>> rgb[(row - 30) ** 2 + (column - 20) ** 2 < 100] = (90, 60, 140)
    >>> nuclei = count_nuclei(rgb, microns_per_pixel=0.5)
    >>> nuclei.count, nuclei.centroids_um.tolist()
    (1, [[15.0, 10.0]])
    """
    require_in_range("microns_per_pixel", microns_per_pixel, 0, COARSEST_UM, include_low=False)
    labels = _part(_clean(_dense(rgb, microns_per_pixel), microns_per_pixel), microns_per_pixel)

    areas = np.bincount(labels.ravel()) * microns_per_pixel**2
    kept = areas >= SMALLEST_NUCLEUS_UM2
    kept[0] = False
    count = int(kept.sum())
    labels = np.where(kept, np.cumsum(kept), 0).astype(np.int32)[labels]
    return Nuclei(
        count=count,
        mean_area_um2=float(areas[kept].mean()) if count else float("nan"),
        density_per_mm2=count / (labels.size * microns_per_pixel**2 * 1e-6),
        centroids_um=_centroids(labels, count) * microns_per_pixel,
        labels=labels,
        microns_per_pixel=microns_per_pixel,
    )


def nuclei_agreement(
    restored: Nuclei, target: Nuclei, *, maximum_distance_um: float = 3.0
) -> NucleiAgreement:
    """Compare the nuclei of a restored picture with those of its target.

    As many nuclei as possible are matched one to one, of which the centroids lie no farther apart than
    ``maximum_distance_um``.

    Parameters
    ----------
    restored, target
        What :func:`count_nuclei` found in two pictures of one size and resolution.
    maximum_distance_um
        Default: the 12 pixels at 40 x that HoVer-Net (Graham et al. 2019) is scored with.

    Raises
    ------
    InputError
        When the pictures' sizes or resolutions differ, or the distance is negative.

    Examples
    --------
    >>> white = count_nuclei(np.full((8, 8, 3), 255, dtype=np.uint8), microns_per_pixel=0.25)
    >>> nuclei_agreement(white, white)
    NucleiAgreement(count_error=nan, f1=nan, matched=0)
    """
    require_same_shape(restored=restored.labels.shape, target=target.labels.shape)
    require_in_range("maximum_distance_um", maximum_distance_um, 0, float("inf"))
    if restored.microns_per_pixel != target.microns_per_pixel:
        raise InputError(
            "pictures must have one resolution, got "
            f"{restored.microns_per_pixel} and {target.microns_per_pixel} um per pixel"
        )
    matched = _matches(restored.centroids_um, target.centroids_um, maximum_distance_um)
    total = restored.count + target.count
    return NucleiAgreement(
        count_error=abs(restored.count - target.count) / target.count if target.count else float("nan"),
        f1=2 * matched / total if total else float("nan"),
        matched=matched,
    )


def _dense(rgb: Array, microns_per_pixel: float) -> Array:
    """Return where hematoxylin is denser than all three thresholds."""
    from scipy.ndimage import gaussian_filter, uniform_filter
    from skimage.filters import threshold_otsu

    density, eosin = (
        gaussian_filter(stain_density(rgb, stain), SMOOTHING_UM / microns_per_pixel)
        for stain in ("hematoxylin", "eosin")
    )
    tissue: Array = density + eosin > TISSUE_DENSITY
    if not tissue.any():
        return tissue
    light = np.power(np.float32(10), -np.maximum(density[tissue], 0))
    otsu = -float(np.log10(threshold_otsu(light)))
    below = density[tissue & (density <= otsu)]
    threshold = max(otsu, CONTRAST + (float(below.mean()) if below.size else otsu))
    side = round(NEIGHBORHOOD_UM / microns_per_pixel)
    # Products of means with the share of tissue: a quotient would divide by 0 on glass.
    share = uniform_filter(tissue.astype(np.float32), side)
    local = LOCAL_SHARE * uniform_filter(np.where(tissue, density, 0), side)
    dense: Array = tissue & (density > threshold) & (density * share > local)
    return dense


def _clean(mask: Array, microns_per_pixel: float) -> Array:
    """Return the mask without gaps, threads, holes and specks."""
    from scipy.ndimage import binary_dilation, binary_erosion, binary_opening

    disk = _disk(CLOSING_UM / microns_per_pixel)
    # Beyond the border nothing is known: an erosion must not eat into nuclei that it cuts.
    mask = binary_erosion(binary_dilation(mask, disk), disk, border_value=1)
    mask = binary_opening(mask, _disk(OPENING_UM / microns_per_pixel))
    pixel = microns_per_pixel**2
    mask = mask | _smaller(~mask, LARGEST_HOLE_UM2 / pixel)
    cleaned: Array = mask & ~_smaller(mask, SMALLEST_NUCLEUS_UM2 / pixel)
    return cleaned


def _part(mask: Array, microns_per_pixel: float) -> Array:
    """Return labels of the mask's parts, touching nuclei told apart."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter, label
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed

    if not mask.any():
        return np.zeros(mask.shape, dtype=np.int32)
    distance = distance_transform_edt(mask).astype(np.float32)
    distance = gaussian_filter(distance, PEAK_SMOOTHING_UM / microns_per_pixel)
    spacing = max(1, round(PEAK_DISTANCE_UM / microns_per_pixel))
    peaks = peak_local_max(distance, min_distance=spacing, threshold_abs=0, exclude_border=False)
    markers = np.zeros(mask.shape, dtype=np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = watershed(-distance, markers, mask=mask)
    # A small nucleus beside a large one may have no peak of its own.
    alone, _ = label(mask & (labels == 0))
    whole: Array = np.where(alone > 0, alone + len(peaks), labels)
    return whole


def _disk(radius: float) -> Array:
    reach = int(radius)
    row, column = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk: Array = row**2 + column**2 <= radius**2
    return disk


def _smaller(mask: Array, pixels: float) -> Array:
    """Return those connected parts of a mask that have fewer pixels."""
    from scipy.ndimage import label

    parts, _ = label(mask)
    small = np.bincount(parts.ravel()) < pixels
    small[0] = False
    chosen: Array = small[parts]
    return chosen


def _centroids(labels: Array, count: int) -> Array:
    """Return (count, 2) mean row and column, pixels."""
    row, column = np.nonzero(labels)
    members = labels[row, column]
    pixels = np.bincount(members, minlength=count + 1)[1:]
    sums = [np.bincount(members, weights=place, minlength=count + 1)[1:] for place in (row, column)]
    return np.stack(sums, axis=-1) / pixels[:, None]


def _matches(first: Array, second: Array, distance: float) -> int:
    """Return the size of the largest one-to-one matching of points no farther apart than a distance."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching
    from scipy.spatial import KDTree

    if not len(first) or not len(second):
        return 0
    near = KDTree(first).query_ball_tree(KDTree(second), distance)
    columns = np.concatenate([np.asarray(found, dtype=np.int32) for found in near])
    starts = np.cumsum([0, *map(len, near)], dtype=np.int32)
    graph = csr_array((np.ones(len(columns)), columns, starts), shape=(len(first), len(second)))
    return int((maximum_bipartite_matching(graph) >= 0).sum())
