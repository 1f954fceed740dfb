"""What stands below the tables of an evaluation of tiles: how the numbers came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from medrestore.checks import counted
from medrestore.domains.histology.domain import DOMAIN
from medrestore.domains.histology.evaluation.measures import LEAST_NUCLEI, LEAST_SIDE
from medrestore.evaluation.notes import interval_note, measured
from medrestore.metrics.nuclei import COARSEST_UM

__all__ = ["notes_of"]


def notes_of(record: Mapping[str, Any], summary: pd.DataFrame) -> list[str]:
    """Return the notes of an evaluation of tiles, on what its tables show."""
    metrics, patients, size = measured(summary), record["subjects"], record["tile_size"]
    resolution = " to ".join(f"{value:g}" for value in dict.fromkeys(record["microns_per_pixel"]))
    averaged = " A patient's tiles are averaged first." if record["tiles"] > patients else ""
    lines = [
        f"{counted(patients, 'patient')}, {counted(record['tiles'], 'tile')} of {size} x {size} pixels at "
        f"{resolution} µm per pixel, split {record['split']}.{averaged} "
        f"{interval_note(patients, unit='patient')}",
        _low_resolution(record)
        + (f" Interpolated from it: {_and(record['baselines'])}." if record["baselines"] else ""),
    ]
    quality = {
        "rrmse": "RRMSE: norm of the error over that of the true tile.",
        "ms_mssim": "MS-mSSIM: mean of the mean SSIM at five scales (noise lowers it).",
        "qilv": "QILV: agreement of the maps of local variance (blur lowers it).",
        "psnr": "PSNR: data range 255.",
    }
    told = [text for name, text in quality.items() if name in metrics]
    if told:
        lines.append(" ".join([*told, "All over the three channels."]))
    if any(name.startswith("stain_drift") for name in metrics):
        lines.append(
            "Drift: absolute difference of the mean optical density (base 10) of a stain to that of the true "
            "tile."
        )
    if max(record["microns_per_pixel"]) > COARSEST_UM:
        lines.append(f"Nuclei cannot be told at more than {COARSEST_UM:g} µm per pixel; they were left out.")
    elif "nuclei_error" in metrics:
        lines.append(
            "Nuclei: counted in the hematoxylin of a tile, the same way in every image; relative error of "
            "the count, and F1 of nuclei whose centers match those of the true tile, of the "
            f"{counted(record['tiles_with_nuclei'], 'true tile')} with {LEAST_NUCLEI} nuclei or more. An "
            "algorithm counts, in the true tile too: the numbers say whether a restored tile is read as the "
            "true one is, not how many nuclei there are."
        )
    elif "nuclei_density" in metrics:
        lines.append(
            "Nuclei: counted in the hematoxylin of a tile, the same way in every image. No true tile has "
            f"{LEAST_NUCLEI} or more: errors of the count were left out."
        )
    if size < LEAST_SIDE:
        lines.append(f"MS-mSSIM needs tiles of {LEAST_SIDE} pixels or more; it was left out.")
    return lines


def _low_resolution(record: Mapping[str, Any]) -> str:
    if "degradations" not in record:
        return (
            f"Low resolution: the true tile smoothed by a Gaussian of {counted(record['sigma'], 'pixel')} "
            f"and subsampled {record['scale']}-fold, in 8 bits."
        )
    return (
        f"Low resolution: the true tile reduced {record['scale']}-fold in each of the ways that the columns "
        "name, in 8 bits. Gaussian: its standard deviation in pixels of the true tile; box: mean of blocks; "
        "Lanczos, bicubic: kernels stretched to the block; noise: standard deviation in gray levels of 255; "
        "JPEG: quality, of the low-resolution tile. Means are over all columns."
    )


def _and(names: Sequence[str]) -> str:
    return " and ".join(DOMAIN.metrics.label_of(name) for name in names)
