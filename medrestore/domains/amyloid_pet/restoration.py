"""Restore files: a volume, a folder or a manifest in; NIfTI on the same grid and its provenance out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from medrestore.checks import InputError, about, fail
from medrestore.data.identity import scan_name
from medrestore.data.nifti_search import nifti_files
from medrestore.data.schema import split_rows
from medrestore.data.training_range import range_warnings
from medrestore.data.volumes import read_volume
from medrestore.domains.amyloid_pet.schema import at_dose, pair_schema
from medrestore.files import sha256_file
from medrestore.inference.network import SampledSettings
from medrestore.inference.nifti import NiftiRestorer, Output, Restored
from medrestore.inference.slices import VolumeRestorer

__all__ = ["VolumeFile", "VolumeFileRestorer", "find_volumes"]


_ONLY = "restored"
"""Key of a volume's one restoration."""


@dataclass(frozen=True)
class VolumeFile:
    """A degraded volume on disk.

    Parameters
    ----------
    path
        NIfTI file.
    name
        Stem of the files that are written for it.
    tracer, dose_fraction
        As a manifest says; None when not known.
    """

    path: Path
    name: str
    tracer: str | None = None
    dose_fraction: float | None = None


def find_volumes(
    source: str | os.PathLike[str], *, split: str | None = None, dose_fraction: float | None = None
) -> list[VolumeFile]:
    """List the degraded volumes of a file, a folder or a manifest.

    Parameters
    ----------
    source
        A NIfTI volume, a folder of them, or a manifest (CSV) whose ``degraded`` column is taken.
    split
        Of a manifest, the rows of this split only.
    dose_fraction
        Of a manifest, the rows at this dose fraction only.

    Raises
    ------
    InputError
        When there is nothing to restore, or a split is asked of something that has none.
    """
    return list(_sources(Path(source), split, dose_fraction))


class VolumeFileRestorer(NiftiRestorer[VolumeFile, VolumeRestorer]):
    """Restore volumes one by one and write them on the source's grid, in its units.

    Parameters are those of :class:`~medrestore.inference.file_restorer.FileRestorer`.
    """

    unit = source = "volume"
    needs = ("neighbors",)
    training = "a training on volumes"
    find = staticmethod(find_volumes)

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

    @classmethod
    def build(
        cls, generator: nn.Module, model: Mapping[str, Any], settings: SampledSettings
    ) -> VolumeRestorer:
        """Make what restores from what ``model.pt`` says."""
        return VolumeRestorer(generator, neighbors=model["neighbors"], **settings)

    def outputs(self, item: VolumeFile) -> dict[str, Output]:
        """Name the one restoration of a volume."""
        provenance = {
            "training_dose_fraction": self.training_range.get("dose_fraction", []),
            "source_sha256": sha256_file(item.path),
            "source_dose_fraction": item.dose_fraction,
        }
        return {_ONLY: Output(item.name, provenance)}

    def restore(self, item: VolumeFile, wanted: Sequence[str]) -> Restored:
        """Read a volume and restore it."""
        volume = read_volume(item.path)
        with about(item.path):
            notes = range_warnings(volume, self.training_range, words={"tracer": item.tracer})
            restoration = self.inferer.restore(volume)
        found = {"intensity_scale": restoration.scale}
        return Restored(dict.fromkeys(wanted, restoration), volume.source, found, notes)


def _sources(source: Path, split: str | None, dose_fraction: float | None) -> Iterator[VolumeFile]:
    if source.suffix.lower() == ".csv":
        table = pair_schema(label_column=None).read(source)
        rows = at_dose(split_rows(table, split), dose_fraction)
        several = rows.duplicated(["subject_id", "session_id"], keep=False)
        for row, repeated in zip(rows.to_dict("records"), several, strict=True):
            dose = f"_dose-{row['dose_fraction']:g}" if repeated else ""
            yield VolumeFile(
                Path(row["degraded_path"]),
                f"{scan_name(row['subject_id'], row['session_id'])}{dose}",
                row["tracer"],
                float(row["dose_fraction"]),
            )
        return
    if split is not None or dose_fraction is not None:
        raise InputError(f"split and dose fraction are those of a manifest, but {source} is none")
    for path, name in nifti_files(source, datatype="pet"):
        yield VolumeFile(path, name)
