"""The files of an acquisition: one with all channels, or one for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import fail
from medrestore.data.grid import SourceGrid
from medrestore.data.volumes import Volume, grid_difference, read_series

__all__ = ["read_files"]


def read_files(
    files: Sequence[Path], *, names: Sequence[str] | None = None, expected: str = ""
) -> tuple[NDArray[Any], SourceGrid]:
    """Read channels as stored: of one 4D file, or of a 3D file for each.

    Parameters
    ----------
    files
        In the order of the channels.
    names
        Of the channels, as many as there should be; any number when not given.
    expected
        Their number in words.

    Returns
    -------
    data : (C, X, Y, Z) float32 or complex64
        Canonical axes.
    source : SourceGrid
        Of one channel.

    Raises
    ------
    InputError
        When a file is missing, damaged, not finite or on another grid than the first, or there are more or
        fewer channels than names.
    """
    if len(files) > 1:
        _require_files(files, names, expected)
        return _stacked(files)
    data, source = read_series(files[0])
    if names is not None and len(data) != len(names):
        stored = (*source.shape, len(data))
        if stored[0] == len(names) and len(data) > 1:
            fail(
                f"has shape {stored}: its first axis is as long as the {len(names)} channels, expected them "
                "along the fourth",
                path=files[0],
                remedy="store the channels as the last axis: X, Y, Z, channels",
            )
        fail(
            f"has {len(data)} channel{'s' * (len(data) > 1)}, expected {expected}",
            path=files[0],
            remedy="give all channels, or configure those that there are",
        )
    return data, source


def _require_files(files: Sequence[Path], names: Sequence[str] | None, expected: str) -> None:
    for index, file in enumerate(files):
        if file.is_file():
            continue
        known = names[index] if names is not None and index < len(names) else ""
        fail(
            f"no such file: channel {index + 1} of {expected or len(files)}" + f", {known}" * bool(known),
            path=file,
        )
    if names is not None and len(files) != len(names):
        fail(
            f"is the first of {len(files)} files of one channel each, expected {expected}",
            path=files[0],
            remedy="list one file for every channel, or configure those that there are",
        )


def _stacked(files: Sequence[Path]) -> tuple[NDArray[Any], SourceGrid]:
    """Read a list of files of one channel each."""
    first: Volume | None = None
    channels = []
    for file in files:
        data, source = read_series(file)
        if len(data) != 1:
            fail(f"has {len(data)} channels, expected one in each file of a list", path=file)
        volume = Volume(data=data[0], affine=source.canonical_affine(), source=source, path=file)
        first = first or volume
        difference = grid_difference(volume, first)
        if difference:
            fail(
                f"is on another grid than {files[0]}: {difference}",
                path=file,
                remedy="give images of one acquisition, or resample them to one grid first",
            )
        if np.iscomplexobj(data) != np.iscomplexobj(first.data):
            fail(f"is {data.dtype}, {files[0]} is {first.data.dtype}", path=file, remedy="give all alike")
        channels.append(volume.data)
    assert first is not None  # noqa: S101
    return np.stack(channels), first.source
