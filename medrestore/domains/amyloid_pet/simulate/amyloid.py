"""Activity of a florbetaben-like amyloid tracer in a subject's head, its composite SUVR given in advance.

The uptake of every tissue is a ratio to the cerebellar cortex, whose SUV is the subject's scale:

    activity = c ( gm ( s b + l p ) + wm W + csf F + head H )

gm, wm, csf are tissue fractions; b is the non-specific cortical uptake and p the pattern of amyloid load,
both with regional and smooth random variation; s and l are solved so that the composite SUVR of the true
activity is exactly the subject's: first s for a composite without amyloid, then l for the rest. The
cerebellum carries no load.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import fail, require_in_range, require_in_set
from medrestore.data.phantoms.anatomy import (
    REGIONS,
    CohortGrid,
    SubjectAnatomy,
    Template,
    smooth_field,
)
from medrestore.domains.amyloid_pet.schema import COMPOSITE_REGIONS, CUT_OFF_SUVR, REFERENCE_REGION

__all__ = ["SOURCES", "AmyloidUptake", "composite_of_truth", "draw_uptake", "true_activity"]

CONTROL_SUVR = (1.21, 0.06)
DISEASE_SUVR = (1.58, 0.17)
"""Mean and standard deviation of the composite: elderly controls, Alzheimer's disease (Bullich 2021)."""

BORDER_WIDTH_SUVR = 0.10
BORDER_MARGIN_SUVR = 0.03
"""Border cases lie within this width of the cut-off; no subject lies nearer to it than the margin,
about the test-retest variability of the composite, within which a status has no meaning."""

CONTROL_RATIO: dict[str, float] = {
    "frontal": 1.15,
    "lateral_temporal": 1.15,
    "parietal": 1.13,
    "precuneus_posterior_cingulate": 1.22,
    "other_cortex": 1.20,
    "deep_gray": 1.25,
}
LOAD_RATIO: dict[str, float] = {
    "frontal": 0.42,
    "lateral_temporal": 0.36,
    "parietal": 0.38,
    "precuneus_posterior_cingulate": 0.45,
    "other_cortex": 0.20,
    "deep_gray": 0.12,
}
"""Regional SUVR of controls, and how much higher it is in Alzheimer's disease (Bullich 2021, Table 3:
occipital for ``other_cortex``, precuneus and posterior cingulate averaged). Deep gray is a choice; its load
comes late."""

WHITE_MATTER_RATIO = (1.75, 0.12)
FLUID_RATIO = 0.25
SKIN_RATIO = 0.50
SKULL_RATIO = 0.25
"""Uptake outside the gray matter relative to the cerebellar cortex: mean and SD of white matter, above both
cortices; fluid and head. Choices, by eye after amyloid scans."""

CEREBELLUM_SUV = (1.10, 0.15)
"""SUV (g/mL) of the cerebellar cortex: median over subjects and standard deviation of its logarithm."""

SOURCES: tuple[str, ...] = (
    "Bullich S et al. Early detection of amyloid load using 18F-florbetaben PET. "
    "Alzheimers Res Ther 13:67 (2021), Table 3: regional and composite SUVR of elderly controls and of "
    "Alzheimer's disease, cut-offs.",
)
"""Where the uptake values come from."""


@dataclass(frozen=True)
class AmyloidUptake:
    """What sets one subject's uptake; drawn by :func:`draw_uptake`.

    Attributes
    ----------
    suvr : float
        Composite SUVR of the true activity.
    nonspecific_suvr : float
        Composite SUVR that the subject would have without amyloid load, at most ``suvr``.
    cerebellum_suv : float, g/mL
        SUV of the cerebellar cortex.
    white_matter_ratio : float
        White matter relative to cerebellar cortex.
    load_factors : dict of (float, float)
        For each region, how much its load departs from the pattern, left and right.
    cortical_factors : dict of float
        For each region, how much its non-specific uptake departs from the controls' mean.
    border : bool
        Whether the subject was drawn as a border case.
    """

    suvr: float
    nonspecific_suvr: float
    cerebellum_suv: float
    white_matter_ratio: float
    load_factors: dict[str, tuple[float, float]] = field(default_factory=dict)
    cortical_factors: dict[str, float] = field(default_factory=dict)
    border: bool = False

    def as_parameters(self) -> dict[str, float | bool]:
        """Return the numbers in one flat row."""
        row: dict[str, float | bool] = {
            key: value for key, value in asdict(self).items() if not isinstance(value, dict)
        }
        for region, (left, right) in self.load_factors.items():
            row[f"load_factor_{region}_left"], row[f"load_factor_{region}_right"] = left, right
        for region, factor in self.cortical_factors.items():
            row[f"cortical_factor_{region}"] = factor
        return row


def _truncated_normal(mean: float, sd: float, low: float, high: float, random: np.random.Generator) -> float:
    """Return a normal draw between two bounds, by rejection."""
    while True:
        value = float(random.normal(mean, sd))
        if low <= value <= high:
            return value


def draw_uptake(status: int, *, border: bool, random: np.random.Generator) -> AmyloidUptake:
    """Draw one subject's uptake.

    Parameters
    ----------
    status : int
        Amyloid status, 0 or 1.
    border : bool
        Whether the composite lies within :data:`BORDER_WIDTH_SUVR` of the cut-off.
    random : numpy.random.Generator
        Source of the draws.

    Returns
    -------
    AmyloidUptake

    Examples
    --------
    >>> 1.28 <= draw_uptake(0, border=True, random=np.random.default_rng(0)).suvr <= 1.35
    True
    """
    require_in_set("status", status, (0, 1))
    if border:
        distance = float(random.uniform(BORDER_MARGIN_SUVR, BORDER_WIDTH_SUVR))
        suvr = CUT_OFF_SUVR + (distance if status else -distance)
    elif status:
        suvr = _truncated_normal(*DISEASE_SUVR, CUT_OFF_SUVR + BORDER_MARGIN_SUVR, 2.1, random)
    else:
        suvr = _truncated_normal(*CONTROL_SUVR, 1.05, CUT_OFF_SUVR - BORDER_MARGIN_SUVR, random)
    nonspecific = min(suvr, float(random.normal(*CONTROL_SUVR)))
    load_factors = {}
    for region in LOAD_RATIO:
        common = 0.25 * random.standard_normal()
        left, right = np.exp(common + 0.12 * random.standard_normal(2))
        load_factors[region] = (float(left), float(right))
    cortical_factors = {region: float(np.exp(0.03 * random.standard_normal())) for region in CONTROL_RATIO}
    median, log_sd = CEREBELLUM_SUV
    return AmyloidUptake(
        suvr=float(suvr),
        nonspecific_suvr=nonspecific,
        cerebellum_suv=float(median * np.exp(log_sd * random.standard_normal())),
        white_matter_ratio=_truncated_normal(*WHITE_MATTER_RATIO, 1.45, 2.05, random),
        load_factors=load_factors,
        cortical_factors=cortical_factors,
        border=border,
    )


def composite_of_truth(activity: NDArray[np.float32], regions: NDArray[np.int16]) -> float:
    """Return the composite SUVR: the mean of the composite regions' means over the reference's mean.

    Parameters
    ----------
    activity : (X, Y, Z) float
        Activity in any unit.
    regions : (X, Y, Z) int
        Codes of :data:`~medrestore.data.phantoms.anatomy.REGIONS`.

    Returns
    -------
    float
    """
    counts = np.bincount(regions.ravel(), minlength=max(REGIONS.values()) + 1)
    sums = np.bincount(regions.ravel(), weights=activity.ravel().astype(np.float64), minlength=counts.size)
    missing = [code for code in (*COMPOSITE_REGIONS, REFERENCE_REGION) if counts[code] == 0]
    if missing:
        fail(f"regions must hold every composite region and the reference, codes {missing} are missing")
    means = sums[list(COMPOSITE_REGIONS)] / counts[list(COMPOSITE_REGIONS)]
    return float(means.mean() / (sums[REFERENCE_REGION] / counts[REFERENCE_REGION]))


def true_activity(
    anatomy: SubjectAnatomy,
    template: Template,
    grid: CohortGrid,
    uptake: AmyloidUptake,
    *,
    random: np.random.Generator,
) -> NDArray[np.float32]:
    """Return the true activity of a subject.

    Parameters
    ----------
    anatomy : SubjectAnatomy
        The subject's head.
    template : Template
        The head it was varied from, for the regions of gray matter that is mixed into other voxels.
    grid : CohortGrid
        The grid of the subject's volumes.
    uptake : AmyloidUptake
        The subject's uptake.
    random : numpy.random.Generator
        Source of the smooth variation.

    Returns
    -------
    (X, Y, Z) float32, SUV (g/mL)
        Not blurred; its composite SUVR is ``uptake.suvr``.

    Raises
    ------
    InputError
        When no positive uptake gives the composite SUVR.
    """
    require_in_range("suvr", uptake.suvr, 0.5, 5.0)
    areas = template.region_of_gray(anatomy.template_mm)
    right = anatomy.template_mm[0] > 0
    codes = np.zeros((2, max(REGIONS.values()) + 1), dtype=np.float32)  # left, right
    base_table, load_table = codes.copy(), codes.copy()
    base_table[:, REGIONS["cerebellum"]] = 1.0
    base_table[:, REGIONS["white_matter"]] = uptake.white_matter_ratio
    for region, ratio in CONTROL_RATIO.items():
        base_table[:, REGIONS[region]] = ratio * uptake.cortical_factors.get(region, 1.0)
        load_table[:, REGIONS[region]] = LOAD_RATIO[region] * np.asarray(
            uptake.load_factors.get(region, (1.0, 1.0))
        )
    side = right.astype(np.intp)
    base, load = base_table[side, areas], load_table[side, areas]
    cortical = load > 0
    cortex_field, white_field = smooth_field(grid, spacing_mm=28.0, random=random, components=2)
    load_field = smooth_field(grid, spacing_mm=20.0, random=random)[0]
    base *= np.exp(np.float32(0.05) * cortex_field)
    load *= np.exp(np.float32(0.22) * load_field)
    white = np.float32(uptake.white_matter_ratio) * np.exp(np.float32(0.06) * white_field)
    rest = anatomy.white * white + anatomy.fluid * np.float32(FLUID_RATIO)
    rest += np.where(cortical, 0, anatomy.gray * base)
    rest[anatomy.scalp] += np.float32(SKIN_RATIO)
    rest[anatomy.skull] += np.float32(SKULL_RATIO)
    cortex = np.where(cortical, anatomy.gray * base, 0)
    amyloid = anatomy.gray * load
    # Neither cortex nor load touches the reference, so the composite is linear in s and l.
    from_rest = composite_of_truth(rest, anatomy.regions)
    reference = np.where(anatomy.regions == REFERENCE_REGION, rest, 0)
    from_cortex = composite_of_truth(cortex + reference, anatomy.regions)
    from_load = composite_of_truth(amyloid + reference, anatomy.regions)
    scale = (uptake.nonspecific_suvr - from_rest) / from_cortex
    level = (uptake.suvr - uptake.nonspecific_suvr) / from_load
    if scale <= 0 or level < 0:
        fail(
            "suvr must be at least nonspecific_suvr, and that above the uptake of what is mixed "
            f"into the cortex, {from_rest:.3f}; got {uptake.suvr} and {uptake.nonspecific_suvr}"
        )
    activity = rest + np.float32(scale) * cortex + np.float32(level) * amyloid
    return np.asarray(activity * np.float32(uptake.cerebellum_suv), dtype=np.float32)
