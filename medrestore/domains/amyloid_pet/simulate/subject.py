"""One simulated subject: anatomy, activity and scans, written to its folder with its truth beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrestore import rng
from medrestore.data.phantoms.anatomy import CohortGrid, SubjectAnatomy, Template, vary
from medrestore.data.phantoms.folder import SubjectFolder, SubjectPlan
from medrestore.domains.amyloid_pet.simulate.amyloid import composite_of_truth, draw_uptake, true_activity
from medrestore.domains.amyloid_pet.simulate.departure import depart
from medrestore.domains.amyloid_pet.simulate.mr import (
    MrSettings,
    draw_white_lesions,
    sequence_facts,
    simulate_mr,
    white_lesion_fraction,
)
from medrestore.operators.pet_scan import STANDARD_DOSE, ScanSettings, simulate_scans

__all__ = ["AmyloidPlan", "degraded_name", "mu_map", "simulate_subject"]

COUNTS_PER_SUV_MM = 7.0
"""Median counts per bin, per SUV x mm of line integral, at the standard dose. Chosen so that the plain
reconstruction at 1 % of the dose reaches about 22 dB against the standard dose, as in Task-GAN's Table 2."""

DOSE_LOG_SD = 0.15
"""Standard deviation, over subjects, of the logarithm of dose x time x sensitivity."""

LESION_FRACTION = 0.4
"""Fraction of a voxel from which it counts to the mask of white-matter lesions."""

MU_TISSUE_PER_CM = 0.096
MU_BONE_PER_CM = 0.151
"""Linear attenuation at 511 keV: water (NIST XCOM), and skull averaged over its layers, as in PET/MR."""


@dataclass(frozen=True)
class AmyloidPlan(SubjectPlan):
    """What is decided about a subject before it is simulated; further attributes are those of `SubjectPlan`.

    Attributes
    ----------
    amyloid_status : int
        0 or 1.
    border : bool
        Whether its composite SUVR lies near the cut-off.
    dose_fractions : tuple of float
        Doses to reconstruct beside the standard dose.
    departure : str
        How its uptake departs from the tissue map, a name of
        :data:`~medrestore.domains.amyloid_pet.simulate.departure.DEPARTURES`; empty where it does not.
    """

    amyloid_status: int
    border: bool
    dose_fractions: tuple[float, ...]
    departure: str = ""


def degraded_name(dose_fraction: float) -> str:
    """Return the file name of the plain reconstruction at a dose fraction.

    >>> degraded_name(0.01)
    'degraded_dose-0.01.nii.gz'
    """
    return f"degraded_dose-{dose_fraction:.9g}.nii.gz"


def mu_map(anatomy: SubjectAnatomy) -> NDArray[np.float32]:
    """Return the linear attenuation coefficients at 511 keV, (X, Y, Z) float32, 1/cm."""
    mu = np.zeros(anatomy.regions.shape, dtype=np.float32)
    mu[anatomy.regions > 0] = MU_TISSUE_PER_CM
    mu[anatomy.skull] = MU_BONE_PER_CM
    return mu


def simulate_subject(
    plan: AmyloidPlan,
    files: SubjectFolder,
    template: Template,
    ventricle_mm: NDArray[np.float32],
    grid: CohortGrid,
    settings: ScanSettings,
    mr_settings: MrSettings,
    *,
    seed: int,
    mr: Sequence[str] = (),
) -> dict[str, Any]:
    """Simulate one subject and write its volumes and sidecars; return its record.

    Parameters
    ----------
    plan : AmyloidPlan
        The subject.
    files : SubjectFolder
        Its folder.
    template : Template
        The average head.
    ventricle_mm : (X, Y, Z) float32, mm
        Distance to its ventricles, from :func:`~medrestore.data.phantoms.head.ventricle_distance_mm`.
    grid : CohortGrid
        Grid of the PET volumes.
    settings : ScanSettings
        Scanner and reconstruction.
    mr_settings : MrSettings
        MR scanner and session.
    seed : int
        The cohort's seed.
    mr : sequence of str
        MR scans, names of :data:`~medrestore.domains.amyloid_pet.simulate.mr.SEQUENCES`.

    Notes
    -----
    MR and departures have random streams of their own: the PET of a subject without a departure is the
    same with them and without.
    """
    anatomy = vary(template, grid, random=rng.generator(seed, "subject", plan.number, "anatomy"))
    random = rng.generator(seed, "subject", plan.number, "uptake")
    uptake = draw_uptake(plan.amyloid_status, border=plan.border, random=random)
    activity = true_activity(anatomy, template, grid, uptake, random=random)
    level = COUNTS_PER_SUV_MM * float(np.exp(DOSE_LOG_SD * random.standard_normal()))
    departed = None
    if plan.departure:
        departed = depart(
            activity,
            anatomy,
            template,
            grid,
            plan.departure,
            status=plan.amyloid_status,
            random=rng.generator(seed, "subject", plan.number, "departure"),
        )
        activity = departed.activity
    mu = mu_map(anatomy)
    scans = simulate_scans(
        activity,
        mu,
        voxel_size_mm=grid.voxel_size_mm,
        dose_fractions=plan.dose_fractions,
        counts_per_line_integral=level,
        settings=settings,
        seed=rng.derive(seed, "subject", plan.number, "scan"),
    )
    files.write("truth_activity.nii.gz", activity, "true activity, not blurred", facts={"units": "SUV"})
    files.write(
        "truth_regions.nii.gz",
        anatomy.regions,
        "region labels",
        dtype="int16",
        facts={"units": "code of REGIONS"},
    )
    files.write("mu_map.nii.gz", mu, "linear attenuation at 511 keV", facts={"units": "1/cm"})
    for fraction, image in scans.images.items():
        standard = fraction == STANDARD_DOSE
        files.write(
            "target.nii.gz" if standard else degraded_name(fraction),
            image,
            "standard dose" if standard else "low dose: the standard dose's counts, thinned binomially",
            facts={
                "units": "SUV",
                "tracer": "florbetaben",
                "dose_fraction": fraction,
                "reconstruction": {"method": "OSEM", **asdict(settings)},
            },
        )
    further: dict[str, Any] = {}
    if departed is not None:
        files.write(
            "truth_departure.nii.gz",
            departed.difference,
            "what the true activity departs by from that of the tissue map",
            facts={"units": "SUV", **departed.record},
        )
        further["departure"] = departed.record
    if mr:
        further |= _write_mr(plan, files, anatomy, template, ventricle_mm, grid, mr_settings, seed, mr)
    return {
        "amyloid_status": plan.amyloid_status,
        "truth_suvr": round(composite_of_truth(activity, anatomy.regions), 6),
        "dose_fractions": list(plan.dose_fractions),
        "recorded_counts": scans.recorded_counts,
        **further,
        "parameters": {**uptake.as_parameters(), "counts_per_suv_mm": level, **anatomy.parameters},
    }


def _write_mr(
    plan: AmyloidPlan,
    files: SubjectFolder,
    anatomy: SubjectAnatomy,
    template: Template,
    ventricle_mm: NDArray[np.float32],
    grid: CohortGrid,
    settings: MrSettings,
    seed: int,
    mr: Sequence[str],
) -> dict[str, Any]:
    """Simulate and write a subject's MR and the truth of it; return what its record says of them."""
    lesions = draw_white_lesions(
        anatomy,
        template,
        grid,
        ventricle_mm=ventricle_mm,
        random=rng.generator(seed, "subject", plan.number, "white lesions"),
    )
    fraction = white_lesion_fraction(lesions, anatomy.white, grid)
    files.write(
        "truth_white_lesions.nii.gz",
        fraction >= LESION_FRACTION,
        f"voxels that white-matter lesions fill by {100 * LESION_FRACTION:.0f} % or more; the tracer does "
        "not follow them",
        dtype="uint8",
    )
    scans = simulate_mr(
        anatomy,
        template,
        grid,
        lesions,
        mr,
        settings,
        seed=rng.derive(seed, "subject", plan.number, "mr"),
    )
    for name, scan in scans.items():
        files.write(
            f"{name}.nii.gz",
            scan.image,
            f"MR, {name.upper()}; the head has moved since the PET",
            dtype="int16",
            facts=sequence_facts(name),
            grid=settings.grid,
        )
    volume_ml = float(fraction.sum(dtype=np.float64) * np.prod(grid.voxel_size_mm) / 1000)
    return {
        "white_lesions": len(lesions),
        "white_lesion_volume_ml": round(volume_ml, 6),
        "motion": {name: [round(value, 6) for value in scan.motion] for name, scan in scans.items()},
        "pet_to_mr": {name: scan.matrix.round(9).tolist() for name, scan in scans.items()},
    }
