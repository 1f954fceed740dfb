"""One simulated subject: head, lesions and scans, written to its folder with its truth beside."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrestore import rng
from medrestore.data.phantoms.anatomy import CohortGrid, Template, vary
from medrestore.data.phantoms.folder import SubjectFolder
from medrestore.data.phantoms.head import draw_head
from medrestore.data.phantoms.tissues import draw_relaxation
from medrestore.domains.multicontrast_mri.simulate.body import fine_grid, make_body, truth_maps
from medrestore.domains.multicontrast_mri.simulate.design import MriSubjectPlan
from medrestore.domains.multicontrast_mri.simulate.lesions import (
    LESION_KINDS,
    draw_lesions,
    lesion_map,
    with_lesions,
)
from medrestore.domains.multicontrast_mri.simulate.session import MriSettings, scan
from medrestore.operators.mdme import MdmeProtocol
from medrestore.operators.mr_sequences import CONTRASTS, TITLES

__all__ = ["LESION_FRACTION", "simulate_mdme_subject"]

LESION_FRACTION = 0.4
"""Fraction of a voxel from which it counts to the lesion mask."""


def protocol_facts(protocol: MdmeProtocol) -> dict[str, Any]:
    """Return what the sidecar of an MDME acquisition says, keys as in BIDS: seconds and degrees."""
    return {
        "SaturationDelay": [delay / 1000 for delay, _ in protocol.channels],
        "EchoTime": [echo / 1000 for _, echo in protocol.channels],
        "RepetitionTime": protocol.tr_ms / 1000,
        "SaturationFlipAngle": protocol.saturation_deg,
        "FlipAngle": protocol.excitation_deg,
        "ComplexComponent": "complex",
        "MagneticFieldStrength": 3,
    }


def contrast_facts(name: str) -> dict[str, Any]:
    """Return what the sidecar of a conventional scan says, keys as in BIDS: seconds."""
    sequence = asdict(CONTRASTS[name])  # type: ignore[call-overload]
    facts = {"RepetitionTime": sequence["tr_ms"] / 1000, "EchoTime": sequence["te_ms"] / 1000}
    if "ti_ms" in sequence:
        facts["InversionTime"] = round(sequence["ti_ms"] / 1000, 6)
    return {**facts, "units": "arbitrary", "MagneticFieldStrength": 3}


def simulate_mdme_subject(
    plan: MriSubjectPlan,
    files: SubjectFolder,
    template: Template,
    ventricle_mm: NDArray[np.float32],
    grid: CohortGrid,
    settings: MriSettings,
    *,
    seed: int,
) -> dict[str, Any]:
    """Simulate one subject and write its volumes and sidecars; return its record.

    Parameters
    ----------
    plan : MriSubjectPlan
        The subject.
    files : SubjectFolder
        Its folder.
    template : Template
        The average head.
    ventricle_mm : (X, Y, Z) float32, mm
        Distance to its ventricles, from
        :func:`~medrestore.data.phantoms.head.ventricle_distance_mm`.
    grid : CohortGrid
        Grid of the volumes.
    settings : MriSettings
        Scanner and session.
    seed : int
        The cohort's seed.
    """

    def stream(name: str) -> np.random.Generator:
        return rng.generator(seed, "subject", plan.number, name)

    fine = fine_grid(grid, settings.slice_parts)
    anatomy = vary(template, fine, random=stream("anatomy"))
    whole = draw_head(anatomy, template, fine, random=stream("head"))
    drawn = draw_lesions(
        whole,
        template,
        fine,
        ventricle_mm=ventricle_mm,
        plaques=plan.plaques,
        oedemas=plan.oedemas,
        random=stream("lesions"),
    )
    lesions = lesion_map(whole, fine, drawn)
    head = with_lesions(whole, lesions)
    random = stream("tissue")
    relaxation = draw_relaxation(random)
    body = make_body(head, lesions, fine, relaxation=relaxation, random=random)
    truth = truth_maps(body, head, lesions, parts=settings.slice_parts)
    scans = scan(body, grid, settings, seed=rng.derive(seed, "subject", plan.number, "session"))
    mask = truth.lesions >= LESION_FRACTION
    files.write(
        "mdme.nii.gz",
        scans.mdme,
        "multi-dynamic multi-echo acquisition, channels last, all echoes of a delay together",
        dtype="complex64",
        facts=protocol_facts(settings.protocol),
    )
    for name, image in scans.contrasts.items():
        files.write(f"{name}.nii.gz", image, f"conventional {TITLES[name]}", facts=contrast_facts(name))
    files.write(
        "lesions.nii.gz",
        mask,
        f"voxels that lesions fill by {100 * LESION_FRACTION:.0f} % or more",
        dtype="uint8",
    )
    files.write("truth_t1.nii.gz", truth.t1_ms, "true T1, mean over a voxel", facts={"units": "ms"})
    files.write("truth_t2.nii.gz", truth.t2_ms, "true T2, mean over a voxel", facts={"units": "ms"})
    files.write("truth_pd.nii.gz", truth.pd, "true proton density", facts={"units": "relative to water"})
    files.write(
        "truth_tissue.nii.gz",
        truth.tissue,
        "tissue that fills most of a voxel",
        dtype="int16",
        facts={"units": "code, in cohort.json"},
    )
    kinds = Counter(lesion.kind for lesion in drawn)
    volume_ml = float(truth.lesions.sum(dtype=np.float64) * np.prod(grid.voxel_size_mm) / 1000)
    parameters = {
        **anatomy.parameters,
        **{f"{name}_t1_ms": value.t1_ms for name, value in relaxation.items()},
        **{f"{name}_t2_ms": value.t2_ms for name, value in relaxation.items()},
        **{f"{name}_pd": value.pd for name, value in relaxation.items()},
    }
    return {
        "lesions": {name: kinds[name] for name in LESION_KINDS},
        "lesion_volume_ml": round(volume_ml, 6),
        "lesion_voxels": int(mask.sum()),
        "lesion_slices": int(mask.any(axis=(0, 1)).sum()),
        "drawn_lesions": [lesion.as_plain() for lesion in drawn],
        "motion": {name: [round(value, 6) for value in values] for name, values in scans.motion.items()},
        "parameters": parameters,
    }
