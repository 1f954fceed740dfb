"""Restore files of whatever kind: a volume, a folder or a manifest in, NIfTI on the same grid out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from torch import nn

from medrestore.checks import InputError, about
from medrestore.data.channels import channel_of, read_beside
from medrestore.data.identity import scan_name
from medrestore.data.intensity import RELATIVE, Intensity
from medrestore.data.nifti_search import nifti_files
from medrestore.data.pairs import pair_schema
from medrestore.data.schema import Schema, split_rows
from medrestore.data.tables import records_of
from medrestore.data.training_range import range_warnings
from medrestore.data.volumes import read_volume
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
    row
        What a manifest says of it.
    """

    path: Path
    name: str
    row: Mapping[str, Any] = field(default_factory=dict)


def find_volumes(
    source: str | os.PathLike[str],
    *,
    schema: Schema,
    datatype: str,
    split: str | None = None,
    choose: Callable[[pd.DataFrame], pd.DataFrame] = lambda rows: rows,
    arm: Callable[[Mapping[str, Any]], str] = lambda _: "",
) -> list[VolumeFile]:
    """List the degraded volumes of a file, a folder or a manifest.

    Parameters
    ----------
    source
        A NIfTI volume, a folder of them, or a manifest (CSV) whose ``degraded`` column is taken.
    schema
        Of the manifest.
    datatype
        Of BIDS folders.
    split
        Of a manifest, the rows of this split only.
    choose
        Of the rows of a manifest, those that are restored.
    arm
        From a row to what follows the name of a scan that has several.

    Raises
    ------
    InputError
        When there is nothing to restore, or a split is asked of something that has none.
    """
    path = Path(source)
    if path.suffix.lower() != ".csv":
        if split is not None:
            raise InputError(f"a split is that of a manifest, but {path} is none")
        return [VolumeFile(file, name) for file, name in nifti_files(path, datatype=datatype)]
    rows = choose(split_rows(schema.read(path), split))
    several = rows.duplicated(["subject_id", "session_id"], keep=False)
    return [
        VolumeFile(
            Path(row["degraded_path"]),
            scan_name(row["subject_id"], row["session_id"]) + (arm(row) if repeated else ""),
            row,
        )
        for row, repeated in zip(records_of(rows), several, strict=True)
    ]


class VolumeFileRestorer(NiftiRestorer[VolumeFile, VolumeRestorer]):
    """Restore volumes one by one and write them on the source's grid, in its units.

    Parameters are those of :class:`~medrestore.inference.file_restorer.FileRestorer`. A kind of image says in
    a subclass what is its own.
    """

    unit = source = "volume"
    needs = ("neighbors",)
    training = "a training on volumes"

    schema: ClassVar[Schema] = pair_schema()
    """Of its manifests."""

    datatype: ClassVar[str] = ""
    """Name of the folders in which BIDS keeps such images."""

    intensity: ClassVar[Intensity] = RELATIVE
    """How networks see them."""

    words: ClassVar[tuple[str, ...]] = ()
    """Columns of words that tell whether a volume is of the range of the training."""

    @classmethod
    def find(cls, source: str | os.PathLike[str], *, split: str | None = None) -> list[VolumeFile]:
        """List the degraded volumes of a file, a folder or a manifest: see :func:`find_volumes`."""
        return find_volumes(source, schema=cls.schema, datatype=cls.datatype, split=split)

    @classmethod
    def build(
        cls, generator: nn.Module, model: Mapping[str, Any], settings: SampledSettings
    ) -> VolumeRestorer:
        """Make what restores from what ``model.pt`` says."""
        return VolumeRestorer(
            generator,
            neighbors=model["neighbors"],
            intensity=cls.intensity,
            channels=[channel_of(plain) for plain in model.get("channels", ())],
            **settings,
        )

    def outputs(self, item: VolumeFile) -> dict[str, Output]:
        """Name the one restoration of a volume."""
        return {_ONLY: Output(item.name, self.provenance_of(item))}

    def provenance_of(self, item: VolumeFile) -> dict[str, Any]:
        """Return what a sidecar says of the source: keys as of :class:`Output`."""
        beside = {f"source_{name}_sha256": sha256_file(path) for name, path in self.beside(item).items()}
        return {"source_sha256": sha256_file(item.path), **beside}

    def beside(self, item: VolumeFile) -> dict[str, Path]:
        """Return the files of further channels that there are, by their column."""
        columns = {channel.column for channel in self.inferer.channels if channel.column}
        files = {name: str(item.row.get(f"{name}_path") or "") for name in sorted(columns)}
        return {name: Path(file) for name, file in files.items() if file}

    def restore(self, item: VolumeFile, wanted: Sequence[str]) -> Restored:
        """Read a volume and restore it."""
        volume = read_volume(item.path)
        with about(item.path):
            words = {name: item.row.get(name) for name in self.words}
            notes = range_warnings(volume, self.training_range, words=words, intensity=self.intensity)
            beside = {name: read_beside(path, volume) for name, path in self.beside(item).items()}
            restoration = self.inferer.restore(volume, beside=beside)
        found = {"intensity_scale": restoration.scale}
        return Restored(dict.fromkeys(wanted, restoration), volume.source, found, notes)
