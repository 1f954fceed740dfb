"""What stands below the tables of an evaluation: how the numbers came about, of what the tables show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from medrestore.checks import counted
from medrestore.domains.amyloid_pet.domain import DOMAIN
from medrestore.evaluation.notes import interval_note, judges_note, measured
from medrestore.evaluation.titles import MetricKey
from medrestore.evaluation.volumes import TARGET_MAX

__all__ = ["notes_of"]


def notes_of(record: Mapping[str, Any], summary: pd.DataFrame) -> list[str]:
    """Return the notes of an evaluation."""
    metrics, unit = measured(summary), "/".join(record["units"])
    given = record["data_range"]
    peak = "maximum of each scan's standard dose in the head" if given == TARGET_MAX else f"{given} {unit}"
    doses = ", ".join(f"{value:g}" for value in record["dose_fractions"])
    lines = [
        f"{counted(record['subjects'], 'subject')}, {counted(record['scans'], 'scan')} of split "
        f"{record['split']}, dose fraction {doses}. {interval_note(record['subjects'])}",
        f"PSNR, SSIM, RMSE: whole volume, data range: {peak}. RMSE and NRMSE in units of the standard dose's "
        "mean in the head; NRMSE over the head alone.",
    ]
    if "dose_equivalent" in metrics:
        beyond = (summary["metric"] == "dose_equivalent_beyond") & (summary["mean"] > 0)
        lines.append(
            "Dose equivalent: dose fraction whose plain reconstruction has the same PSNR"
            + ("; ≥: of some subjects it lies above the largest in the dose series." if beyond.any() else ".")
        )
    if any(name.endswith("_mae") for name in metrics):
        lines.append(
            "MAE: mean absolute error of the probability per slice, middle 40 slices of the head; error: "
            f"share of volumes read wrong. {judges_note(metrics, ends=['_mae'])}"
        )
    if "suvr_bias" in metrics:
        limits = " and limits of agreement (95 %)" if "suvr_upper_limit" in metrics else ""
        lines.append(f"SUVR: composite; bias{limits} against standard dose.")
    if "anchor" in record:
        lines.append(_anchor_note(record))
    for name, item in record["tuned_filters"].items():
        key = MetricKey.parse(name)
        dose = f" at {DOMAIN.metrics.strata.title_of(key.stratum)}" if key.stratum else ""
        label = f"{DOMAIN.metrics.label_of(key.name)}{dose}"
        lines.append(f"{label}: {item['parameter']} {item['value']:g} ({item['chosen']}).")
    return lines


def _anchor_note(record: Mapping[str, Any]) -> str:
    without = record["not_anchored"]
    note = (
        f"+ anchor: regional means of the unrestored scan given back ({record['anchor']}, Gaussian of "
        f"{record['anchor_sigma_mm']:g} mm, shrunk by the noise of each mean)."
    )
    if without:
        reasons = "; ".join(dict.fromkeys(without.values()))
        note += f" {counted(len(without), 'scan')} without an anchor, counted as restored ({reasons})."
    return note
