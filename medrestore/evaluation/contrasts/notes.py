"""What stands below the tables of an evaluation with several contrasts: how the numbers came about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medrestore.evaluation.contrasts.measures import LEAST_CNR, LITTLE_HEAD
from medrestore.evaluation.titles import contrast_title, label_of
from medrestore.metrics.lesions import INNER_MM, OUTER_MM

__all__ = ["notes_of"]


def notes_of(record: Mapping[str, Any]) -> list[str]:
    """Return the notes of a finished evaluation's record."""
    groups = ", ".join(f"{count} {name}" for name, count in record["groups"].items())
    missing = {name: record["scans"] - count for name, count in record["available"].items()}
    lacking = ", ".join(f"{contrast_title(name)} {count}" for name, count in missing.items() if count)
    lines = [
        f"{record['subjects']} subjects, {record['scans']} scans of split {record['split']}"
        f"{f' ({groups})' if groups else ''}. Mean (95 % bootstrap interval over subjects). Contrasts that "
        f"were not acquired: {lacking or 'none'}; scans without any: {record['scans_without_contrasts']}.",
        "Every image is divided by its own mean over the head of the true image: intensities of MR images "
        "are arbitrary. The rule is the same for all methods.",
        f"PSNR, SSIM, RMSE: whole volume; data range: {record['data_range']}; RMSE in units of it. Mean: "
        "over the contrasts that a subject has, of methods that have all contrasts.",
        "Accuracy, patches: share of a classifier's patches, those that lie at least half in the head, whose "
        "most probable contrast is the right one; slices: the same of the mean probability over patches; "
        "MAE: 1 - mean probability of the right contrast. Slices with less than "
        f"{LITTLE_HEAD:g} of the head's largest area are left out. T took part in training, observers did "
        "not.",
        "Lesion CNR: (mean of lesions - mean of ring) / standard deviation of ring, the ring being "
        f"normal-appearing tissue {INNER_MM:g} to {OUTER_MM:g} mm from lesions, chosen in the true images "
        f"alone; ratio where the true image's is {LEAST_CNR:g} or more, absolute. An image that is too "
        "smooth has too high a CNR.",
        "Lesions: marked by a segmenter trained on true images; detected where a voxel of a lesion is "
        "marked; parts below 3 voxels count neither as lesions nor as false ones.",
        "Grid artifact: power at multiples of 1/4 cycle per pixel over that of the band around, mean over "
        "slices, divided by the true image's.",
    ]
    if record["classical"]:
        lines.append(
            f"{label_of('classical')}: voxel-wise T1, T2, proton density and B1 from the input, then the "
            f"sequences' signal equations; of {record['fitted_scans']} of {record['scans']} inputs."
        )
    return lines
