"""What stands below the tables of an evaluation with several contrasts: how the numbers came about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from medrestore.checks import counted
from medrestore.domains.multicontrast_mri.domain import DOMAIN, LESIONS
from medrestore.domains.multicontrast_mri.evaluation.measures import LEAST_CNR, LITTLE_HEAD
from medrestore.evaluation.notes import interval_note, judges_note, measured
from medrestore.evaluation.titles import MEAN, MetricKey
from medrestore.metrics.lesions import INNER_MM, OUTER_MM

__all__ = ["notes_of"]


def notes_of(record: Mapping[str, Any], summary: pd.DataFrame) -> list[str]:
    """Return the notes of an evaluation with several contrasts, on what its tables show."""
    metrics, keys = measured(summary), [MetricKey.parse(str(key)) for key in summary["metric"].unique()]
    over_contrasts = any(key.stratum == MEAN for key in keys)
    lines = [
        _counts(record),
        "Every image is divided by its own mean over the head of the true image: intensities of MR images "
        "are arbitrary. The rule is the same for all methods.",
        f"PSNR, SSIM, RMSE: whole volume; data range: {record['data_range']}; RMSE in units of it."
        + (" Mean: over the contrasts, of methods that have all of them." if over_contrasts else ""),
    ]
    if any(name.endswith("_patch_accuracy") for name in metrics):
        lines.append(
            "Accuracy, patches: share of a classifier's patches, those that lie at least half in the head, "
            "whose most probable contrast is the right one; slices: the same of the mean probability over "
            "patches; MAE: 1 - mean probability of the right contrast. Slices with less than "
            f"{LITTLE_HEAD:g} of the head's largest area are left out. "
            f"{judges_note(metrics, ends=['_patch_accuracy'])}"
        )
    if "cnr" in metrics:
        ratio = (
            f"; ratio where the true image's is {LEAST_CNR:g} or more, absolute"
            if "cnr_ratio" in metrics
            else ""
        )
        lines.append(
            "Lesion CNR: (mean of lesions - mean of ring) / standard deviation of ring, the ring being "
            f"normal-appearing tissue {INNER_MM:g} to {OUTER_MM:g} mm from lesions, chosen in the true "
            f"images alone{ratio}. An image that is too smooth has too high a CNR."
        )
    if any(DOMAIN.metrics.title_of(name).table == LESIONS for name in metrics):
        lines.append(
            "Lesions: marked by a segmenter trained on true images; detected where a voxel of a lesion is "
            "marked; parts below 3 voxels count neither as lesions nor as false ones."
        )
    if "grid_ratio" in metrics:
        lines.append(
            "Grid artifact: power at multiples of 1/4 cycle per pixel over that of the band around, mean "
            "over slices, divided by the true image's."
        )
    if record["fitted_scans"]:
        lines.append(
            f"{DOMAIN.metrics.label_of('classical')}: voxel-wise T1, T2, proton density and B1 from the "
            f"input, then the sequences' signal equations; of {record['fitted_scans']} of "
            f"{counted(record['scans'], 'input')}."
        )
    return lines


def _counts(record: Mapping[str, Any]) -> str:
    groups = ", ".join(f"{count} {name}" for name, count in record["groups"].items())
    missing = {name: record["scans"] - count for name, count in record["available"].items()}
    lacking = ", ".join(
        f"{DOMAIN.metrics.strata.title_of(name)} {count}" for name, count in missing.items() if count
    )
    without = record["scans_without_contrasts"]
    return (
        f"{counted(record['subjects'], 'subject')}, {counted(record['scans'], 'scan')} of split "
        f"{record['split']}{f' ({groups})' if groups else ''}. {interval_note(record['subjects'])}"
        + (f" Contrasts that were not acquired: {lacking}." if lacking else "")
        + (f" Scans without any contrast, left out: {without}." if without else "")
    )
