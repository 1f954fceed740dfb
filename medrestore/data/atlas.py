"""Region maps of any scan of a brain: the average head (ICBM152) brought to it, affinely, then by a warp.

The scan is explained by the tissues of the average head (:mod:`~medrestore.data.atlas_model`), whose values
are found with the places: one registration for T1 and for PET of whatever tracer and disease.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import fail
from medrestore.data.atlas_model import (
    PADDING_MM,
    Explained,
    SplineField,
    TissueMaps,
    spline_bases,
    tissue_maps,
)
from medrestore.data.phantoms.template import REGIONS, Template, load_template
from medrestore.data.registration_images import moved
from medrestore.data.volumes import Volume

__all__ = ["REGIONS", "AtlasRegistration", "AtlasSettings", "register_atlas"]

LEAST_COVERAGE = 0.8
"""Part of the brain that must lie in the scan."""

SCALES = (0.75, 1.45)
"""Of the template over the head, along any direction; adults have about 0.95 to 1.25."""

DISPLACEMENT_MM = 8.0
"""Of the wrong places that distinctness compares with."""

LEAST_DISTINCTNESS = 0.2
LEAST_ORIENTATION = 0.25
MIDDLE_OF_TEMPLATE_MM = (0.0, -20.0, 0.0)
"""About the middle of the template's head."""

MIDDLE_OF_BRAIN_MM = (0.0, -18.0, 6.0)

HEAD_RADIUS_MM = 70.0
"""Weighs entries of the matrix against shifts."""

HEAD_SIGMA_MM = 6.0
HEAD_STEP_MM = 10.0
HEAD_THRESHOLD = 0.2
HEAD_MARGIN_MM = 20.0
UNIT_PERCENTILE = 98.0
BRIGHTEST = 1.2
"""The head is the largest piece above this part of the 98th percentile of the blurred magnitude; the margin
around it is air, or what is cut off. The unit is a percentile of the head; fat and vessels that are brighter
than so many units are held there."""

OUTLIER = 3.0
"""Usual residuals (robust standard deviation) at which a place has half of its weight: Cauchy's, as in robust
regression."""

FIELD_MM = 4.0
"""Between the places of a map where the warp is evaluated; linear between them, which is 0.1 mm off at most
where the warp bends by 3 mm within 9 mm."""

LEAST_VOLUME_MM3 = 3e5
"""Around the brain; a head has ten times as much."""

STARTS = tuple(product((-20, 0, 20), (0.95, 1.1), (-20, 0, 20), (-40, -20, 0, 20, 40)))
"""Pitch (degrees), scale, and shift backward and upward (mm) that the search starts from: necks and fields of
view differ."""
REFINED_STARTS = 2

_ALONE = threading.Lock()
"""Held by a search: its limit of threads is the process's, and the first of two to end would lift it."""

USUAL_SCALE = 1.05
SCALE_WEIGHT = 0.5
"""Of the squares of the departure of M^T M from the usual scale's: heads are not flat."""


@dataclass(frozen=True)
class AtlasSettings:
    """Numbers of the search, chosen on the validation subjects of a simulated cohort.

    Parameters
    ----------
    scan_sigma_mm, template_sigma_mm
        Blur of the scan, and of the template, whose tissues do not have the scan's resolution.
    step_mm
        Between the places that are compared.
    margin_mm
        Around the brain within which they lie.
    spacings_mm
        Of control points of the warp, one after the other.
    stiffness_mm2
        Weight of the mean squared bending (1/mm2) of the warp against the logarithm of what is unexplained.
    iterations
        Of the search for each warp.
    """

    scan_sigma_mm: float = 2.5
    template_sigma_mm: float = 3.0
    step_mm: float = 5.0
    margin_mm: float = 12.0
    spacings_mm: tuple[float, ...] = (30.0, 18.0)
    stiffness_mm2: float = 1200.0
    iterations: int = 25


@dataclass(frozen=True, eq=False)
class AtlasRegistration:
    """Where a scan's places lie in the average head, and how sure that is.

    Parameters
    ----------
    matrix : (4, 4) float64
        Affine: a place in the scan, RAS+ mm, to the template's.
    warps
        Displacements in the template, of places in the scan, that are added to it.
    failure
        Why it is not to be used; empty when all is well.
    unexplained
        Part of the scan's variance in and around the brain that the tissues do not explain.
    orientation
        How much less is unexplained than with the template upside down or back to front: 1 - the ratio, each
        registered affinely.
    distinctness
        How much less is unexplained than at wrong places: 1 - the share of what is unexplained when the
        template is shifted by :data:`DISPLACEMENT_MM` along an axis, on average.
    coverage
        Part of the template's brain that lies in the scan.
    scale_least, scale_most
        Of the template over the head, along the directions where it is least and most.
    warp_mean_mm, warp_most_mm
        Displacement by the warps over the brain.
    least_volume
        Smallest local volume of the template over the scan's, relative to the affine's; a warp that folds has
        0 or less.
    """

    matrix: NDArray[np.float64]
    warps: tuple[SplineField, ...] = ()
    failure: str = ""
    unexplained: float = math.nan
    orientation: float = math.nan
    distinctness: float = math.nan
    coverage: float = math.nan
    scale_least: float = math.nan
    scale_most: float = math.nan
    warp_mean_mm: float = math.nan
    warp_most_mm: float = math.nan
    least_volume: float = math.nan

    def template_mm(self, places_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return where places (N, 3) in the scan, RAS+ mm, lie in the template, (N, 3) mm."""
        found = moved(places_mm, self.matrix)
        for warp in self.warps:
            found += warp.at(places_mm)
        return found

    def regions(self, volume: Volume) -> NDArray[np.int16]:
        """Return the region of each voxel of a volume that shares the scan's space.

        Returns
        -------
        (X, Y, Z) int16
            Codes of :data:`~medrestore.data.phantoms.template.REGIONS`: the most probable tissue within the
            brain, gray matter by the region it belongs to; the head around it as it is drawn in the template.
        """
        from scipy.ndimage import map_coordinates

        template = load_template()
        steps = [max(1, int(FIELD_MM / size)) for size in volume.voxel_size_mm]
        counts = [-(-count // step) + 1 for count, step in zip(volume.data.shape, steps, strict=True)]
        index = np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), axis=-1).reshape(-1, 3)
        moves = np.zeros((len(index), 3))
        for warp in self.warps:
            moves += warp.at(moved(index * steps, volume.affine))
        field = moves.reshape(*counts, 3).astype(np.float32)
        last = moved(np.array([template.gray.shape]) - 1.0, template.affine)[0] + PADDING_MM
        first = template.affine[:3, 3] - PADDING_MM
        columns, rows, planes = volume.data.shape
        codes = np.zeros((columns, rows, planes), dtype=np.int16)
        for plane in range(planes):  # a scan of 1 mm has ten million voxels
            axes = [np.arange(columns), np.arange(rows), np.array([plane])]
            index = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
            places = moved(moved(index, volume.affine), self.matrix)
            near = ((places >= first) & (places <= last)).all(axis=1)
            at = (index[near] / steps).T
            move = [map_coordinates(field[..., axis], at, order=1) for axis in range(3)]
            codes[:, :, plane].flat[near] = _codes_at(template, places[near] + np.stack(move, axis=-1))
        return codes


def _codes_at(template: Template, places_mm: NDArray[np.float64]) -> NDArray[np.int16]:
    """Return the regions (N,) of places (N, 3) in the template."""
    from scipy.ndimage import map_coordinates

    at = moved(places_mm, np.linalg.inv(template.affine)).T
    gray, white, fluid, outline = (
        map_coordinates(image, at, order=1, mode=mode, prefilter=False)
        for image, mode in (
            (template.gray, "constant"),
            (template.white, "constant"),
            (template.fluid, "constant"),
            (template.outline_mm, "nearest"),
        )
    )
    brain = gray + white + fluid > 0.5
    tissue = np.argmax(np.stack([gray, white, fluid]), axis=0)
    codes = np.where(outline <= 0, REGIONS["head"], 0)
    codes[brain] = np.where(tissue == 1, REGIONS["white_matter"], REGIONS["csf"])[brain]
    is_gray = brain & (tissue == 0)
    codes[is_gray] = template.region_of_gray(places_mm[is_gray].T.astype(np.float32))
    return codes.astype(np.int16)


def register_atlas(volume: Volume, *, settings: AtlasSettings | None = None) -> AtlasRegistration:
    """Register the average head to a scan of a brain.

    Parameters
    ----------
    volume : Volume
        T1-weighted MR or PET of a head, on any grid, in any unit; the headers must say which way is up. Left
        and right cannot be told from each other.
    settings
        Of the search.

    Returns
    -------
    AtlasRegistration
        With ``failure`` said where the scan shows no brain, or not enough of it, or is not explained by one.

    Raises
    ------
    InputError
        When the scan holds voxels that are not finite.

    Notes
    -----
    Twelve parameters from the best of several starts, from coarse to fine, then cubic B-splines. L-BFGS lets
    fall the logarithm of the variance that the tissues leave unexplained, plus bending energy (Rueckert, IEEE
    TMI 18:712, 1999). The tissues' values are solved for at all places that are tried, as in the unified
    model of Ashburner and Friston (NeuroImage 26:839, 2005), here one value a tissue and region. Places lie
    on a lattice, none is drawn: the same scan gives the same bytes.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    if not np.isfinite(volume.data).all():
        fail("holds voxels that are not finite (NaN or infinite)", path=volume.path)
    with _ALONE, threadpool_limits(limits=1):  # sums of several threads differ in the last bits
        scan = _Scan.of(volume)
        if scan is None:
            return AtlasRegistration(np.eye(4), failure="the image is the same everywhere")
        try:
            return _search(scan, settings or AtlasSettings())
        except _NoBrainError:
            return AtlasRegistration(np.eye(4), failure="shows no brain")


class _NoBrainError(Exception):
    """Hardly anything of the scan is left around the brain."""


@dataclass(frozen=True, eq=False)
class _Places:
    """Places of a lattice that count, their number in it, the scan's values there, and their weights."""

    axes: list[NDArray[np.float64]]
    counted: NDArray[np.intp]
    places_mm: NDArray[np.float64]
    values: NDArray[np.float64]
    weights: NDArray[np.float64]

    def kept(self, held: NDArray[np.bool_]) -> _Places:
        """Return the places of a mask."""
        return replace(
            self,
            counted=self.counted[held],
            places_mm=self.places_mm[held],
            values=self.values[held],
            weights=self.weights[held],
        )

    def explained(
        self, maps: TissueMaps, at_mm: NDArray[np.float64], *, with_gradient: bool = False
    ) -> Explained:
        """Explain the values by the tissues where the places lie in the template."""
        return maps.explain(self.values, at_mm, weights=self.weights, with_gradient=with_gradient)


@dataclass(frozen=True, eq=False)
class _Scan:
    """A scan made ready: its blurred values in units of its own."""

    volume: Volume
    low_mm: NDArray[np.float64]
    high_mm: NDArray[np.float64]
    head: _Places
    center_mm: NDArray[np.float64]
    unit: float
    blurred: dict[float, NDArray[np.float32]] = field(default_factory=dict)

    @classmethod
    def of(cls, volume: Volume) -> _Scan | None:
        """Find the head; None where there is nothing."""
        from scipy import ndimage

        corners = np.array(list(product(*[(-0.5, count - 0.5) for count in volume.data.shape])))
        corners = moved(corners, volume.affine)
        empty = _Places([], np.empty(0, np.intp), np.empty((0, 3)), np.empty(0), np.empty(0))
        scan = cls(volume, corners.min(axis=0), corners.max(axis=0), empty, np.zeros(3), 1.0)
        places = scan.as_read(HEAD_STEP_MM, HEAD_SIGMA_MM)
        magnitude = np.abs(places.values)
        unit = float(np.percentile(magnitude, 98)) if len(magnitude) else 0.0
        if not unit > 0 or np.ptp(places.values) == 0:
            return None
        shape = [len(axis) for axis in places.axes]
        bright = np.zeros(shape, dtype=bool)
        bright.flat[places.counted] = magnitude > HEAD_THRESHOLD * unit
        pieces, _ = ndimage.label(bright)
        head = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
        near = ndimage.distance_transform_edt(~head) * HEAD_STEP_MM <= HEAD_MARGIN_MM
        held = head.flat[places.counted]
        unit = float(np.percentile(magnitude[held], UNIT_PERCENTILE))
        center = places.places_mm[held].mean(axis=0)
        scan = replace(scan, center_mm=center, unit=unit)
        around = scan.places(HEAD_STEP_MM, HEAD_SIGMA_MM).kept(near.flat[places.counted])
        return replace(scan, head=around)

    def places(self, step_mm: float, sigma_mm: float) -> _Places:
        """Return the lattice over the scan: all of its places that lie in it, values in units."""
        places = self.as_read(step_mm, sigma_mm)
        return replace(places, values=np.minimum(places.values / self.unit, BRIGHTEST))

    def as_read(self, step_mm: float, sigma_mm: float) -> _Places:
        """Return the lattice over the scan with the values of its file, blurred."""
        from scipy.ndimage import gaussian_filter, map_coordinates

        if sigma_mm not in self.blurred:
            sizes = self.volume.voxel_size_mm
            self.blurred[sigma_mm] = gaussian_filter(
                self.volume.data, [sigma_mm / size for size in sizes], truncate=3.0
            )
        limits = zip(self.low_mm, self.high_mm, strict=True)
        axes = [np.arange(low + step_mm / 2, high, step_mm) for low, high in limits]
        places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        index = moved(places, np.linalg.inv(self.volume.affine))
        inside = ((index >= -0.5) & (index <= np.array(self.volume.data.shape) - 0.5)).all(axis=1)
        values = map_coordinates(self.blurred[sigma_mm], index[inside].T, order=1, mode="nearest")
        ones = np.ones(len(values))
        return _Places(axes, np.flatnonzero(inside), places[inside], values.astype(np.float64), ones)

    def around_brain(self, found: AtlasRegistration, step_mm: float, settings: AtlasSettings) -> _Places:
        """Return the places within the margin around the brain."""
        places = self.places(step_mm, settings.scan_sigma_mm)
        near = _template_at("distance_mm", found.template_mm(places.places_mm)) <= settings.margin_mm
        if np.count_nonzero(near) * step_mm**3 < LEAST_VOLUME_MM3:
            raise _NoBrainError
        return places.kept(near)


def _template_at(name: str, places_mm: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return a map of the template at places (N, 3), linear, its outer values beyond."""
    from scipy.ndimage import map_coordinates

    template = load_template()
    index = moved(places_mm, np.linalg.inv(template.affine)).T
    return np.asarray(map_coordinates(getattr(template, name), index, order=1, mode="nearest"))


def _search(scan: _Scan, settings: AtlasSettings) -> AtlasRegistration:
    """Return what is found, from coarse to fine, judged."""
    coarse = tissue_maps(HEAD_SIGMA_MM, 2)
    starts = sorted(_starts(scan), key=lambda start: _unexplained(coarse, scan.head, start))
    candidates = [_affine(coarse, scan.head, start, scan.center_mm) for start in starts[:REFINED_STARTS]]
    matrix = min(candidates, key=lambda candidate: candidate[0])[1]
    fine = tissue_maps(settings.template_sigma_mm)
    for step_mm in (1.5 * settings.step_mm, settings.step_mm):
        places = scan.around_brain(AtlasRegistration(matrix), step_mm, settings)
        matrix = _affine(fine, places, matrix, scan.center_mm)[1]
    places = scan.around_brain(AtlasRegistration(matrix), 1.5 * settings.step_mm, settings)
    turned = [
        _unexplained(fine, places, _affine(fine, places, turn @ matrix, scan.center_mm)[1])
        for turn in _turns()
    ]
    orientation = 1 - _unexplained(fine, places, matrix) / min(turned)
    found = AtlasRegistration(matrix, orientation=orientation)
    for spacing_mm in settings.spacings_mm:
        places = scan.around_brain(found, settings.step_mm, settings)
        places = _without_outliers(fine, places, found)
        warp = _warp(fine, places, found, spacing_mm, settings)
        found = replace(found, warps=(*found.warps, warp))
    return _judged(scan, fine, found, settings)


def _turns() -> list[NDArray[np.float64]]:
    """Return the matrices that put the template back to front, upside down, and both."""
    turns = []
    for signs in (np.array([1, -1, 1]), np.array([1, 1, -1]), np.array([1, -1, -1])):
        turn = np.diag([*signs, 1.0])
        turn[:3, 3] = (1 - signs) * MIDDLE_OF_BRAIN_MM
        turns.append(turn)
    return turns


def _without_outliers(maps: TissueMaps, places: _Places, found: AtlasRegistration) -> _Places:
    """Return the places with little weight where no tissue of a head explains them, such as a hot vessel."""
    residual = places.explained(maps, found.template_mm(places.places_mm)).residual
    usual = max(1.4826 * float(np.median(np.abs(residual))), np.finfo(float).tiny)
    return replace(places, weights=1 / (1 + (residual / (OUTLIER * usual)) ** 2))


def _starts(scan: _Scan) -> list[NDArray[np.float64]]:
    """Return the matrices that the search starts from."""
    matrices = []
    for pitch, scale, backward, upward in STARTS:
        angle = math.radians(pitch)
        matrix = np.eye(4)
        matrix[1:3, 1:3] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
        matrix[:3, :3] *= scale
        middle = np.array(MIDDLE_OF_TEMPLATE_MM) + np.array([0, backward, upward])
        matrix[:3, 3] = middle - matrix[:3, :3] @ scan.center_mm
        matrices.append(matrix)
    return matrices


def _unexplained(maps: TissueMaps, places: _Places, matrix: NDArray[np.float64]) -> float:
    return places.explained(maps, moved(places.places_mm, matrix)).unexplained


def _affine(
    maps: TissueMaps, places: _Places, start: NDArray[np.float64], center_mm: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Return the least logarithm of what is unexplained, with the prior on the scale, and its matrix."""
    from scipy.optimize import minimize

    away = places.places_mm - center_mm
    middle = moved(center_mm[None], start)[0]

    def unpacked(parameters: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        linear = start[:3, :3] + parameters[:9].reshape(3, 3) / HEAD_RADIUS_MM
        return linear, middle + parameters[9:]

    def cost(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        linear, shift = unpacked(parameters)
        found = places.explained(maps, away @ linear.T + shift, with_gradient=True)
        departure = linear.T @ linear / USUAL_SCALE**2 - np.eye(3)
        prior = SCALE_WEIGHT * float((departure**2).sum())
        of_linear = found.gradient.T @ away + 4 * SCALE_WEIGHT * linear @ departure / USUAL_SCALE**2
        gradient = np.concatenate([of_linear.ravel() / HEAD_RADIUS_MM, found.gradient.sum(axis=0)])
        return math.log(found.unexplained) + prior, gradient

    best = minimize(
        cost, np.zeros(12), jac=True, method="L-BFGS-B", options={"maxiter": 40, "maxcor": 12, "ftol": 1e-6}
    )
    matrix = np.eye(4)
    matrix[:3, :3], shift = unpacked(best.x)
    matrix[:3, 3] = shift - matrix[:3, :3] @ center_mm
    return float(best.fun), matrix


def _warp(
    maps: TissueMaps,
    places: _Places,
    found: AtlasRegistration,
    spacing_mm: float,
    settings: AtlasSettings,
) -> SplineField:
    """Return the warp that is added to what was found."""
    from scipy.optimize import minimize

    low, high = places.places_mm.min(axis=0), places.places_mm.max(axis=0)
    first = low - spacing_mm
    counts = np.ceil((high - low) / spacing_mm).astype(int) + 3
    bases = [
        spline_bases(axis, first=first[at], spacing=spacing_mm, count=int(counts[at]))
        for at, axis in enumerate(places.axes)
    ]
    values = [basis[0] for basis in bases]
    bending = _bending(bases, places.axes, low, high)
    before = found.template_mm(places.places_mm)
    lattice = [len(axis) for axis in places.axes]

    def cost(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        coefficients = parameters.reshape(3, *counts)
        everywhere = np.einsum("xi,yj,zk,cijk->cxyz", *values, coefficients, optimize=True)
        moves = everywhere.reshape(3, -1)[:, places.counted].T
        result = places.explained(maps, before + moves, with_gradient=True)
        spread = np.zeros((3, math.prod(lattice)))
        spread[:, places.counted] = result.gradient.T
        gradient = np.einsum(
            "xi,yj,zk,cxyz->cijk", *values, spread.reshape(3, *lattice), optimize=True
        ) + np.zeros_like(coefficients)
        energy = 0.0
        for weight, matrices in bending:
            force = (
                settings.stiffness_mm2
                * weight
                * np.einsum("il,jm,kn,clmn->cijk", *matrices, coefficients, optimize=True)
            )
            energy += float((force * coefficients).sum())
            gradient += 2 * force
        return math.log(result.unexplained) + energy, gradient.ravel()

    best = minimize(
        cost,
        np.zeros(3 * math.prod(counts)),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": settings.iterations, "maxcor": 10, "ftol": 1e-5},
    )
    return SplineField(best.x.reshape(3, *counts), first, spacing_mm)


def _bending(
    bases: list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]],
    axes: list[NDArray[np.float64]],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> list[tuple[float, list[NDArray[np.float64]]]]:
    """Return the terms of the mean squared bending (1/mm2) over a box: weights, a matrix for each axis."""
    inside = [
        (axis >= start - 1e-6) & (axis <= end + 1e-6)
        for axis, start, end in zip(axes, low, high, strict=True)
    ]
    products = [
        [part[held].T @ part[held] / np.count_nonzero(held) for part in basis]
        for basis, held in zip(bases, inside, strict=True)
    ]
    orders = (((2, 0, 0), 1), ((0, 2, 0), 1), ((0, 0, 2), 1), ((1, 1, 0), 2), ((1, 0, 1), 2), ((0, 1, 1), 2))
    return [(float(weight), [products[axis][order[axis]] for axis in range(3)]) for order, weight in orders]


def _judged(
    scan: _Scan, maps: TissueMaps, found: AtlasRegistration, settings: AtlasSettings
) -> AtlasRegistration:
    """Measure what was found against wrong places, and what is possible of a head."""
    places = scan.around_brain(found, settings.step_mm, settings)
    at = found.template_mm(places.places_mm)
    unexplained = places.explained(maps, at).unexplained
    beside = [
        places.explained(maps, at + shift).unexplained
        for shift in DISPLACEMENT_MM * np.vstack([np.eye(3), -np.eye(3)])
    ]
    distinctness = 1 - unexplained / float(np.mean(beside))
    in_brain = places.places_mm[_template_at("distance_mm", at) <= 0]
    moves = np.linalg.norm(found.template_mm(in_brain) - moved(in_brain, found.matrix), axis=1)
    steps = [found.template_mm(in_brain + step) - found.template_mm(in_brain - step) for step in np.eye(3)]
    slopes = np.stack(steps, axis=-1) / 2
    volume = np.linalg.det(slopes) / np.linalg.det(found.matrix[:3, :3])
    scales = np.linalg.svd(found.matrix[:3, :3], compute_uv=False)
    coverage = _coverage(scan.volume, found.matrix)
    failure = ""
    if coverage < LEAST_COVERAGE:
        failure = f"covers {coverage:.0%} of the brain, at least {LEAST_COVERAGE:.0%} is needed"
    elif scales[-1] < SCALES[0] or scales[0] > SCALES[1]:
        failure = (
            f"shows no head of a usual size: the average head is {scales[-1]:.2f} to {scales[0]:.2f} times "
            f"as large, {SCALES[0]:g} to {SCALES[1]:g} is possible"
        )
    elif volume.min() <= 0:
        failure = "is explained by a head that folds"
    elif found.orientation < LEAST_ORIENTATION or distinctness < LEAST_DISTINCTNESS:
        failure = (
            "is explained by a head no better than by one upside down, back to front or elsewhere: "
            f"orientation {found.orientation:.2f} (at least {LEAST_ORIENTATION:g} is needed), distinctness "
            f"{distinctness:.2f} (at least {LEAST_DISTINCTNESS:g})"
        )
    return replace(
        found,
        failure=failure,
        unexplained=unexplained,
        distinctness=distinctness,
        coverage=coverage,
        scale_least=float(scales[-1]),
        scale_most=float(scales[0]),
        warp_mean_mm=float(moves.mean()),
        warp_most_mm=float(moves.max()),
        least_volume=float(volume.min()),
    )


def _coverage(volume: Volume, matrix: NDArray[np.float64]) -> float:
    """Return the part of the template's brain that lies in a scan, by the affine alone."""
    template = load_template()
    brain = moved(np.argwhere(template.distance_mm[::2, ::2, ::2] <= 0) * 2, template.affine)
    index = moved(brain, np.linalg.inv(matrix @ volume.affine))
    return float(((index >= -0.5) & (index <= np.array(volume.data.shape) - 0.5)).all(axis=1).mean())
