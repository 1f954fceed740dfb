"""What the other rooms learn of amyloid PET."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from medrestore.domains.amyloid_pet.changes import CHANGES
from medrestore.domains.amyloid_pet.schema import STANDARD_DOSE, pair_schema
from medrestore.domains.amyloid_pet.study import SUVR
from medrestore.domains.base import Domain
from medrestore.evaluation.titles import FIDELITY, QUALITY, QUANTIFICATION, Metrics, MetricTitle, Strata
from medrestore.metrics.quantitative import bland_altman

__all__ = ["DOMAIN"]

COMMON_DOSES = (0.1, 0.2, 0.5, 1, 2, 3, 4, 5, 10, 15, 20, 25, 30, 40, 50, 60, 75, 80, 90)
"""Percent: tables show these as such, in this order, and others as fractions behind them."""


def _limits_of_agreement(rows: pd.DataFrame) -> Iterator[tuple[str, float, int]]:
    """Yield the limits of agreement of the SUVR (95 %, Bland and Altman), over scans."""
    if {"suvr", "suvr_bias"} <= set(rows):
        held = rows.dropna(subset=["suvr_bias"])
        if len(held) > 1:
            agreement = bland_altman(held["suvr"].to_numpy(), (held["suvr"] - held["suvr_bias"]).to_numpy())
            yield "suvr_lower_limit", agreement.lower, len(held)
            yield "suvr_upper_limit", agreement.upper, len(held)


DOMAIN = Domain(
    name="amyloid_pet",
    metrics=Metrics(
        titles={
            **FIDELITY,
            "nrmse": MetricTitle("NRMSE, head", 3, QUALITY, less_is_better=True),
            "dose_equivalent": MetricTitle("Dose equivalent", 3, QUALITY, bounded=True),
            "departure_psnr": MetricTitle("PSNR, departure (dB)", 2, QUALITY),
            "departure_recovered": MetricTitle("Departure recovered", 2, QUALITY, paired=False),
            "suvr_bias": MetricTitle("SUVR bias", 3, QUANTIFICATION, paired=False),
            "suvr_lower_limit": MetricTitle("Lower limit", 3, QUANTIFICATION),
            "suvr_upper_limit": MetricTitle("Upper limit", 3, QUANTIFICATION),
            "suvr_absolute_error": MetricTitle("SUVR absolute error", 3, QUANTIFICATION, less_is_better=True),
        },
        pairs=(
            *(("taskgan", "gan"), ("l1_task", "l1"), ("gan", "l1"), ("taskgan", "l1")),
            *(("blend", "plain"), ("blend", "gaussian"), ("blend", "l1")),
        ),
        diagnosis=("observer_mae",),
        # Of scans at several doses; those at one have no such column.
        strata=Strata(column="dose", titles={f"{dose / 100:g}": f"{dose:g} %" for dose in COMMON_DOSES}),
        summaries=_limits_of_agreement,
        alike=("dose_fractions", "anchor"),
        labels={
            "blend": "Blend",
            STANDARD_DOSE: "Standard dose",
            "standard": "Standard dose",
            "low_dose": "Low dose",
        },
        changes=CHANGES,
        baselines={
            "gaussian": "Gaussian filter",
            "gaussian_anchored": "Gaussian + anchor",
            "nlm": "Non-local means",
            "nlm_anchored": "NLM + anchor",
        },
    ),
    quantity=SUVR,
    schema=lambda _table: pair_schema(),
)
