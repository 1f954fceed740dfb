"""For which tiles a restoration of histology does well, and for which it does not."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medrestore.evaluation.declared import Changes, Stratum, Tables

__all__ = ["CHANGES"]


def _cellularity(images: pd.DataFrame, _: Tables) -> pd.Series[str]:
    """Return the strata of tiles by the density of nuclei in the true tile, parted at its median."""
    if "true_nuclei_density" not in images:
        return pd.Series("", index=images.index)
    density = images["true_nuclei_density"]
    middle = density.median()
    names = np.where(density > middle, f"more than {middle:,.0f}", f"up to {middle:,.0f}")
    return pd.Series(names, index=images.index).where(density.notna(), "")


def _patients(images: pd.DataFrame, _: Tables) -> pd.Series[str]:
    return images["subject_id"]


CHANGES = Changes(
    strata=(Stratum("Nuclei per mm² of the true tile", _cellularity), Stratum("Patient", _patients))
)
