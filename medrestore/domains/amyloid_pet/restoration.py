"""Restore files: a volume, a folder or a manifest in; NIfTI on the same grid and its provenance out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from medrestore.checks import InputError, counted, fail
from medrestore.data.schema import at_dose
from medrestore.domains.amyloid_pet.anchors import ANCHORS
from medrestore.domains.amyloid_pet.schema import dose_arm, pair_schema
from medrestore.inference import volume_files, volume_sources
from medrestore.inference.file_restorer import RunSettings
from medrestore.inference.slices import VolumeRestorer
from medrestore.inference.volume_sources import NO_ANCHOR, VolumeFile

__all__ = ["VolumeFile", "VolumeFileRestorer", "find_volumes"]


def find_volumes(
    source: str | os.PathLike[str], *, split: str | None = None, dose_fraction: float | None = None
) -> list[VolumeFile]:
    """List the degraded volumes of a file, a folder or a manifest.

    Parameters
    ----------
    source, split
        As in :func:`medrestore.inference.volume_sources.find_volumes`.
    dose_fraction
        Of a manifest, the rows at this dose fraction only.

    Raises
    ------
    InputError
        As there.
    """
    if Path(source).suffix.lower() != ".csv" and (split is not None or dose_fraction is not None):
        raise InputError(f"split and dose fraction are those of a manifest, but {source} is none")
    return volume_sources.find_volumes(
        source,
        schema=pair_schema(label_column=None),
        datatype="pet",
        split=split,
        choose=partial(at_dose, dose_fraction=dose_fraction),
        arm=dose_arm,
    )


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
