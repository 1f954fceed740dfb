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
    files: Sequence[Path], *, expected: str, names: Sequence[str]
) -> tuple[NDArray[Any], SourceGrid]:
    """Read as many channels as there are names, of one 4D file or of one 3D file each, as stored.

    Parameters
    ----------
    files
        In the order of the channels.
    expected
        The number of channels in words.
    names
        Of the channels.

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
    count = len(names)
    if len(files) == 1:
        data, source = read_series(files[0])
        if len(data) != count:
            stored = (*source.shape, len(data))
            axes = [axis for axis in range(3) if stored[axis] == count]
            if axes and data.shape[0] > 1:
                fail(
                    f"has shape {stored}: its {('first', 'second', 'third')[axes[0]]} axis is as long as the "
                    f"{count} channels, expected them along the fourth",
                    path=files[0],
                    remedy="store the channels as the last axis (X, Y, Z, channels)",
                )
            fail(
                f"has {len(data)} channel{'s' * (len(data) > 1)}, expected {expected}",
                path=files[0],
                remedy="give all channels, or configure the delays and echoes that there are",
            )
        return data, source
    for index, file in enumerate(files):
        if not file.is_file():
            name = names[index] if index < count else "none of the configured"
            fail(f"no such file, channel {index + 1} of {expected}: {name}", path=file)
    if len(files) != count:
        fail(
            f"is the first of {len(files)} files, one per channel, expected {expected}",
            path=files[0],
            remedy="list one file for every channel",
        )
    return _stacked(files)


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
