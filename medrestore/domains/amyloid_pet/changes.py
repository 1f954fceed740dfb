"""What a restoration may change in amyloid PET: the reading, regional SUVR, and for whom."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medrestore.domains.amyloid_pet.schema import CUT_OFF_SUVR
from medrestore.evaluation.declared import Changes, Decisions, Parts, Stratum, Tables

__all__ = ["CHANGES", "PARTS"]

TEST_RETEST = 0.044
"""Relative change of a region's SUVR beyond which it is no more test-retest variability."""

NEAR_CUT_OFF = 0.10
"""Of the composite SUVR: scans within it are read with doubt."""

PARTS = Parts(
    name="regions",
    title="SUVR",
    limit=TEST_RETEST,
    why="Test-retest: within-subject coefficients of variation of the Centiloid range from 2.6 to 4.4 % over "
    "seven pipelines (ten patients scanned twice with flutemetamol); the larger end is the limit. It is of "
    "the composite: single regions vary more.",
)


def _near_cut_off(images: pd.DataFrame, _: Tables) -> pd.Series[str]:
    if "true_suvr" not in images:
        return pd.Series("", index=images.index)
    distance = (images["true_suvr"] - CUT_OFF_SUVR).abs()
    names = np.where(distance < NEAR_CUT_OFF, f"within {NEAR_CUT_OFF:.2f}", f"{NEAR_CUT_OFF:.2f} or more")
    return pd.Series(names, index=images.index).where(distance.notna(), "")


def _status(images: pd.DataFrame, _: Tables) -> pd.Series[str]:
    return images["label"].map({0: "negative", 1: "positive"}).fillna("")


CHANGES = Changes(
    decisions=Decisions({0: "negative", 1: "positive"}),
    parts=PARTS,
    strata=(
        Stratum(f"Standard dose's SUVR from the cut-off of {CUT_OFF_SUVR}", _near_cut_off),
        Stratum("Amyloid", _status),
    ),
    colors="gray_r",
)
