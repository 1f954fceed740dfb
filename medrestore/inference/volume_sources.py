"""Degraded volumes on disk, and where regions of their anchors come from; nothing here restores them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medrestore.checks import InputError
from medrestore.data.identity import scan_names
from medrestore.data.nifti_search import nifti_files
from medrestore.data.schema import Schema, split_rows
from medrestore.data.tables import records_of
from medrestore.data.volumes import Volume
from medrestore.inference.anchor import Regions

__all__ = ["NO_ANCHOR", "RegionSource", "VolumeFile", "find_volumes"]

NO_ANCHOR = "none"
"""In the place of an anchor's name."""


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


@dataclass(frozen=True)
class RegionSource:
    """Where the regions of an anchor come from.

    Parameters
    ----------
    find
        From a source, its volume, the restored image (X, Y, Z) in the same unit and on the same grid, and the
        path, without ending, of what may be written beside the anchored restoration; to the regions on that
        grid, or in words, without names and paths, why there are none.
    provenance
        From a source to what its sidecar says of them: keys as of
        :class:`~medrestore.inference.file_restorer.Output`.
    """

    find: Callable[[VolumeFile, Volume, NDArray[np.float32], Path], Regions | str]
    provenance: Callable[[VolumeFile], Mapping[str, Any]] = lambda _: {}


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
    return [
        VolumeFile(Path(row["degraded_path"]), name, row)
        for row, name in zip(records_of(rows), scan_names(rows, arm), strict=True)
    ]
