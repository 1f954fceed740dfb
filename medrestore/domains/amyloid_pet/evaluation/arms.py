"""What is compared: each method's restored volume of each scan."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medrestore.data.identity import scan_name
from medrestore.evaluation.arms import INPUT, find_restorations, repeated_scans

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["STANDARD_DOSE", "find_arms", "region_maps"]

STANDARD_DOSE = "standard_dose"
RESERVED = (INPUT, "gaussian", "nlm", STANDARD_DOSE)
"""Rows that an evaluation adds by itself."""


def region_maps(table: pd.DataFrame) -> dict[str, Path]:
    """Return the region map of each scan of a manifest that has one.

    A scan has a row for each of its dose fractions; the regions are the same in all.
    """
    with_regions = table[table["regions_path"] != ""]
    return {
        scan_name(row.subject_id, row.session_id): Path(str(row.regions_path))
        for row in with_regions.itertuples()
    }


def find_arms(
    rows: pd.DataFrame, methods: Mapping[str, str | os.PathLike[str]], *, known: Sequence[str] = ()
) -> dict[str, dict[str, Path]]:
    """Find the restored volume of each method and scan, and check that all are there on their targets' grids.

    Parameters
    ----------
    rows
        Of the manifest, one for each scan to be evaluated.
    methods
        Folder of restored volumes, ``SUBJECT_SESSION_restored.nii.gz``, by the method's name.
    known
        Names of further scans of which a folder may hold restorations: those of the other splits.

    Returns
    -------
    dict
        Path by scan and method.

    Raises
    ------
    InputError
        When a method has no usable name or that of a row that is always there, a scan is in the manifest more
        than once, or a folder, volume or grid is missing or wrong or a volume belongs to no scan. Names all
        faults.
    """
    names = [scan_name(row.subject_id, row.session_id) for row in rows.itertuples()]
    grids = {
        name: (str(row.target_path), [str(row.degraded_path), str(row.regions_path)])
        for name, row in zip(names, rows.itertuples(), strict=True)
    }
    return find_restorations(grids, methods, known=known, reserved=RESERVED, problems=repeated_scans(names))
