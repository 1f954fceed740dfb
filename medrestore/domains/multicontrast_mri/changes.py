"""What a restoration may change in multi-contrast MRI: lesions, and for whom."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medrestore.evaluation.declared import Changes, Finds, Stratum, Tables

__all__ = ["CHANGES", "FINDS"]

LESION_LOAD_ML = 5.0
"""Between subjects with few and with many lesions."""

FINDS = Finds(
    name="lesions",
    one="lesion",
    many="lesions",
    sizes_ml=(0.1, 0.5, 2.0),
    why="Marked by a segmenter trained on true images, counted as in the tables of the evaluation.",
)


def _load(images: pd.DataFrame, tables: Tables) -> pd.Series[str]:
    """Return the strata of subjects by the volume of all their lesions."""
    if FINDS.name not in tables:
        return pd.Series("", index=images.index)
    every = tables[FINDS.name]
    real = every[(every["real"] == 1) & (every["method"] == every["method"].iloc[0])]
    load = images["subject_id"].map(real.groupby("subject_id")["volume_ml"].sum()).fillna(0)
    few = f"up to {LESION_LOAD_ML:g} ml"
    names = np.select([load == 0, load <= LESION_LOAD_ML], ["none", few], f"more than {LESION_LOAD_ML:g} ml")
    return pd.Series(names, index=images.index)


CHANGES = Changes(finds=FINDS, strata=(Stratum("Volume of all lesions", _load),))
