"""Restore files: a volume, a folder or a manifest in; NIfTI on the same grid and its provenance out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import InputError, counted, fail
from medrestore.data.coregistered import require_orientation
from medrestore.data.schema import at_dose
from medrestore.data.volumes import Volume, grid_difference, read_volume
from medrestore.domains.amyloid_pet.regions.scan_regions import map_volume
from medrestore.domains.amyloid_pet.schema import dose_arm, pair_schema, region_codes
from medrestore.files import sha256_file
from medrestore.inference import volume_files
from medrestore.inference.anchor import Regions
from medrestore.inference.file_restorer import RunSettings
from medrestore.inference.slices import VolumeRestorer
from medrestore.inference.volume_files import NO_ANCHOR, RegionSource, VolumeFile

__all__ = ["ANCHORS", "VolumeFile", "VolumeFileRestorer", "find_volumes"]


def find_volumes(
    source: str | os.PathLike[str], *, split: str | None = None, dose_fraction: float | None = None
) -> list[VolumeFile]:
    """List the degraded volumes of a file, a folder or a manifest.

    Parameters
    ----------
    source, split
        As in :func:`medrestore.inference.volume_files.find_volumes`.
    dose_fraction
        Of a manifest, the rows at this dose fraction only.

    Raises
    ------
    InputError
        As there.
    """
    if Path(source).suffix.lower() != ".csv" and (split is not None or dose_fraction is not None):
        raise InputError(f"split and dose fraction are those of a manifest, but {source} is none")
    return volume_files.find_volumes(
        source,
        schema=pair_schema(label_column=None),
        datatype="pet",
        split=split,
        choose=partial(at_dose, dose_fraction=dose_fraction),
        arm=dose_arm,
    )


def _regions_of_row(item: VolumeFile, volume: Volume, *_: object) -> Regions | str:
    """Return the region map that the manifest names."""
    path = item.row.get("regions_path", "")
    if not path:
        return "no row of a manifest names a region map of this scan"
    try:
        held = read_volume(path)
        codes = region_codes(held)
    except InputError as error:
        return f"its region map is not usable: {str(error).removeprefix(f'{path}: ')}"
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
        return f"its {what} is not usable: {str(error).removeprefix(f'{named}: ')}"
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


class VolumeFileRestorer(volume_files.VolumeFileRestorer):
    """Restore volumes at any dose, by all anchors of :data:`ANCHORS`; warn of MR without one.

    Parameters are those of :class:`medrestore.inference.volume_files.VolumeFileRestorer`.
    """

    find = staticmethod(find_volumes)
    words = ("tracer",)
    anchors = ANCHORS

    def __init__(
        self,
        dataset: Sequence[VolumeFile],
        inferer: VolumeRestorer,
        *,
        anchor: str = NO_ANCHOR,
        **run: Unpack[RunSettings],
    ) -> None:
        super().__init__(dataset, inferer, anchor=anchor, **run)
        guided = sum(bool(self.beside(item)) for item in dataset)
        if guided and anchor == NO_ANCHOR:
            self.logger.warning(
                f"{guided} of {counted(self.sources, 'volume')} are guided by MR without an anchor: a guided "
                "network draws regional means towards what the anatomy suggests. Remedy: --anchor regions"
            )

    @classmethod
    def require(cls, model: Mapping[str, Any], *, weights: str | os.PathLike[str]) -> None:
        """Refuse a ``model.pt`` of another training."""
        if "contrasts" in model:
            fail(
                f"was trained on several contrasts ({', '.join(model['contrasts'])})",
                path=weights,
                remedy="restore with the bundle that it was trained with",
            )
        super().require(model, weights=weights)

    def provenance_of(self, item: VolumeFile) -> dict[str, Any]:
        """Return the dose of the training and of the source, and its checksum."""
        return {
            "training_dose_fraction": self.training_range.get("dose_fraction", []),
            **super().provenance_of(item),
            "source_dose_fraction": item.row.get("dose_fraction"),
        }
