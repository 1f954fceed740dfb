"""What reader studies of amyloid PET measure beside the reads, and how model readers look at an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from medrestore.data.identity import scan_name
from medrestore.data.tables import records_of
from medrestore.domains.amyloid_pet.schema import COMPOSITE_REGIONS, REFERENCE_REGION, pair_schema
from medrestore.domains.base import Quantity
from medrestore.metrics.quantitative import composite_suvr

if TYPE_CHECKING:
    import pandas as pd

    from medrestore.data.volumes import Volume
    from medrestore.evaluation.observers import Observer

__all__ = ["SUVR"]


def _composite(image: NDArray[Any], regions: NDArray[Any]) -> float:
    return composite_suvr(
        image, regions, target_labels=COMPOSITE_REGIONS, reference_labels=(REFERENCE_REGION,)
    )


def _scans(manifest: Path, label_column: str | None) -> tuple[pd.DataFrame, dict[str, Path]]:
    table = pair_schema(label_column=label_column).read(manifest)
    # A scan has a row for each of its dose fractions; the regions are the same in all.
    with_regions = records_of(table[table["regions_path"] != ""])
    return table, {
        scan_name(row["subject_id"], row["session_id"]): Path(row["regions_path"]) for row in with_regions
    }


def _look(volume: Volume, observers: Sequence[Observer]) -> dict[str, float]:
    from medrestore.data.intensity import foreground_scale
    from medrestore.domains.amyloid_pet.measures import Reference, reading
    from medrestore.evaluation.measures import foreground_mask

    alone = Reference(
        target=volume.data,
        foreground=foreground_mask(volume.data, voxel_size_mm=volume.voxel_size_mm),
        data_range=math.nan,
        voxel_size_mm=volume.voxel_size_mm,
        scale=foreground_scale(volume.data, voxel_size_mm=volume.voxel_size_mm),
        label=math.nan,
    )
    return reading(volume.data, alone, observers)


SUVR = Quantity(
    name="suvr",
    title="SUVR",
    phrase="composite SUVR",
    label_column="amyloid_status",
    standard="standard-dose",
    measure=_composite,
    scans=_scans,
    look=_look,
)
