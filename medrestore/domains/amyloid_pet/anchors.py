"""Where the regions of an anchor come from: a manifest's maps, or the atlas registered to the scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import InputError, without_place
from medrestore.data.coregistered import require_orientation
from medrestore.data.volumes import Volume, grid_difference, read_volume
from medrestore.domains.amyloid_pet.regions.scan_regions import map_volume
from medrestore.domains.amyloid_pet.schema import region_codes
from medrestore.files import sha256_file
from medrestore.inference.anchor import Regions
from medrestore.inference.volume_sources import RegionSource, VolumeFile

__all__ = ["ANCHORS"]


def _regions_of_row(item: VolumeFile, volume: Volume, *_: object) -> Regions | str:
    """Return the region map that the manifest names."""
    path = item.row.get("regions_path", "")
    if not path:
        return "no row of a manifest names a region map of this scan"
    try:
        held = read_volume(path)
        codes = region_codes(held)
    except InputError as error:
        return f"its region map is not usable: {without_place(error, path)}"
    difference = grid_difference(held, volume)
    if difference:
        return f"its region map is on another grid: {difference}"
    return Regions(codes)


def _checksum_of_row(item: VolumeFile) -> dict[str, Any]:
    path = item.row.get("regions_path", "")
    return {"source_regions_sha256": sha256_file(path) if path and Path(path).is_file() else None}


def _regions_of_atlas(item: VolumeFile, volume: Volume, _: NDArray[np.float32], stem: Path) -> Regions | str:
    """Register the average head to the T1 of the manifest, or to the unrestored image; write the map.

    Not to the restored one: a network draws what it knows of other heads, and in simulated subjects places
    are 1.2 mm further off. So all methods share a map.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    path = item.row.get("t1_path", "")
    try:
        image = require_orientation(read_volume(path) if path else volume)
        codes, record = map_volume(image, volume, stem)
    except InputError as error:
        what, named = ("T1", path) if path else ("image", volume.path)
        return f"its {what} is not usable: {without_place(error, named)}"
    if codes is None:
        return f"the registration of the average head failed: it {record['failure']}"
    return Regions(codes, {"registration": record["registration"], "sha256": record["sha256"]})


def _registered_of_row(item: VolumeFile) -> dict[str, Any]:
    path = item.row.get("t1_path", "")
    if not path:
        return {"anchor_registered": "unrestored image"}
    return {
        "anchor_registered": "t1",
        "source_t1_sha256": sha256_file(path) if Path(path).is_file() else None,
    }


ANCHORS = {
    "regions": RegionSource(_regions_of_row, _checksum_of_row),
    "atlas": RegionSource(_regions_of_atlas, _registered_of_row),
}
"""Where the regions of an anchor come from, by the name of the anchor."""
