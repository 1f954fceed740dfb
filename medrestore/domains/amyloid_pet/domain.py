"""What the other rooms learn of amyloid PET."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from medrestore.domains.amyloid_pet.schema import STANDARD_DOSE, pair_schema
from medrestore.domains.amyloid_pet.study import SUVR
from medrestore.domains.base import Domain
from medrestore.evaluation.titles import FIDELITY, QUALITY, QUANTIFICATION, Metrics, MetricTitle
from medrestore.metrics.quantitative import bland_altman

__all__ = ["DOMAIN"]


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
            "suvr_bias": MetricTitle("SUVR bias", 3, QUANTIFICATION, paired=False),
            "suvr_lower_limit": MetricTitle("Lower limit", 3, QUANTIFICATION),
            "suvr_upper_limit": MetricTitle("Upper limit", 3, QUANTIFICATION),
            "suvr_absolute_error": MetricTitle("SUVR absolute error", 3, QUANTIFICATION, less_is_better=True),
        },
        pairs=(("taskgan", "gan"), ("l1_task", "l1"), ("gan", "l1"), ("taskgan", "l1")),
        diagnosis=("observer_mae",),
        summaries=_limits_of_agreement,
        alike=("dose_fractions",),
        labels={STANDARD_DOSE: "Standard dose", "standard": "Standard dose", "low_dose": "Low dose"},
        baselines={"gaussian": "Gaussian filter", "nlm": "Non-local means"},
    ),
    quantity=SUVR,
    schema=lambda _table: pair_schema(),
)
