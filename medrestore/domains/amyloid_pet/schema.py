"""The manifest of amyloid PET: a CSV row for each pair of degraded and target volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import InputError
from medrestore.data import pairs
from medrestore.data.columns import Column, FileColumn
from medrestore.data.file_checks import require_foreground, require_whole_numbers
from medrestore.data.schema import Schema
from medrestore.data.volumes import Volume

__all__ = [
    "COLUMNS",
    "COMPOSITE_REGIONS",
    "CUT_OFF_SUVR",
    "GUIDES",
    "REFERENCE_REGION",
    "REGION_TITLES",
    "STANDARD_DOSE",
    "dose_arm",
    "pair_schema",
    "region_codes",
]

STANDARD_DOSE = "standard_dose"
"""What evaluations call the target."""

COLUMNS = (
    *(
        "subject_id",
        "session_id",
        "split",
        "degraded",
        "target",
        "regions",
        "amyloid_status",
        "dose_fraction",
    ),
    *("tracer", "units", "degraded_sha256", "target_sha256", "regions_sha256"),
)
"""Order in which a manifest's columns are written; others follow."""

GUIDES = ("t1", "t2", "flair")
"""Columns of MR of the same head: any of them, or none."""

COMPOSITE_REGIONS: tuple[int, ...] = (2, 3, 4, 5)
"""Regions whose means are averaged for the composite SUVR: frontal, lateral temporal, parietal, and precuneus
with posterior cingulate cortex."""

REGION_TITLES = {
    2: "Frontal",
    3: "Lateral temporal",
    4: "Parietal",
    5: "Precuneus, posterior cingulate",
}

CUT_OFF_SUVR = 1.38
"""Composite SUVR from which a subject is amyloid positive (Bullich 2021, composite, MRI-based regions)."""

REFERENCE_REGION: int = 1
"""The region that the composite SUVR is relative to: cerebellar cortex."""


def dose_arm(row: Mapping[str, Any]) -> str:
    """Return what follows the name of a scan that is there at several doses.

    >>> dose_arm({"dose_fraction": 0.05})
    '_dose-0.05'
    """
    return f"_dose-{row['dose_fraction']:g}"


def pair_schema(
    *,
    label_column: str | None = "amyloid_status",
    label_values: Sequence[float] = (0, 1),
    regions: Sequence[int] = (),
) -> Schema:
    """Return the schema of a manifest of amyloid PET.

    Beside what :func:`medrestore.data.pairs.pair_schema` finds, a row is found faulty for a dose fraction
    outside of (0, 1], a region map other than that of the same scan, region codes that are no whole numbers,
    negative, all zero or not those of ``regions``, a reference region without uptake, MR without foreground
    or other than that of the same scan. MR may be on a grid of its own here; training and restoration want it
    on the PET's.

    Parameters
    ----------
    label_column, label_values
        As there.
    regions
        Codes that every region map must hold, the reference region first; any when not given.
    """
    return pairs.pair_schema(
        label_column=label_column,
        label_values=label_values,
        columns=(
            FileColumn(
                "regions",
                required=False,
                examine=partial(_require_regions, wanted=regions),
                checksum_required=True,
                against="target" if regions else "",
                compare=partial(_require_reference_uptake, reference=regions[0]) if regions else None,
            ),
            Column("dose_fraction", number=_dose_problem),
            *map(Column, ("tracer", "units")),
            Column("regions_sha256", required=False),
            *(
                column
                for name in GUIDES
                for column in (
                    FileColumn(name, required=False, examine=require_foreground, any_grid=True),
                    Column(f"{name}_sha256", required=False),
                )
            ),
            FileColumn("departure", required=False),
            Column("departure_sha256", required=False),
        ),
        order=COLUMNS,
        key={"dose_fraction": "dose fraction"},
        same=["regions_sha256", *(f"{name}_sha256" for name in GUIDES)],
        contents=GUIDES,
    )


def _dose_problem(number: float, text: str) -> str:
    return "" if 0 < number <= 1 else f"must be in (0, 1], got {text}"


def region_codes(volume: Volume) -> NDArray[np.int16]:
    """Return the codes (X, Y, Z) of a region map.

    Raises
    ------
    InputError
        When it names no region, or holds what is no code: int16, from 0 on.
    """
    require_whole_numbers(volume)
    lowest, highest = volume.data.min(), volume.data.max()
    if lowest == highest == 0:
        raise InputError("the region map names no region: it is 0 everywhere")
    limits = np.iinfo(np.int16)
    if lowest < 0 or highest > limits.max:
        raise InputError(f"region codes must be from 0 to {limits.max}, got {lowest:g} to {highest:g}")
    return volume.data.astype(np.int16)


def _require_regions(volume: Volume, *, wanted: Sequence[int] = ()) -> None:
    """Refuse a region map that names no region, or not those that are wanted."""
    held = np.unique(region_codes(volume))
    lacking = [f"{code}" for code in wanted if code not in held]
    if lacking:
        shown = ", ".join(f"{code:g}" for code in held[:20]) + ", ..." * (len(held) > 20)
        raise InputError(
            f"the region map has no voxel of region {', '.join(lacking)}, which the composite SUVR needs; "
            f"it holds {shown}. Remedy: leave regions empty for a scan without them"
        )


def _require_reference_uptake(regions: Volume, target: Volume, *, reference: int) -> None:
    """Refuse a map whose reference region lies where the target shows no uptake: it would be divided by."""
    uptake = float(target.data[regions.data == reference].mean(dtype=np.float64))
    if not uptake > 0:
        raise InputError(
            f"the target's mean in the reference region {reference} is {uptake:.3g}, expected above 0"
        )
