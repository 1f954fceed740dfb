"""Slice-first memory maps of a split: volumes are decoded once, then slices come at the speed of memory."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medrestore.checks import about, fail
from medrestore.data.channels import Channel, Shown, read_beside
from medrestore.data.intensity import RELATIVE, Intensity
from medrestore.data.slice_maps import (
    MapWriter,
    SliceMaps,
    build_maps,
    center_window,
    centered_slices,
    known_checksum,
    require_checksum,
    stack_size,
)
from medrestore.data.volumes import grid_difference, read_grid, read_volume

__all__ = ["SliceStack", "center_window"]

_FORMAT = 1
_ARMS = ("degraded", "target")
_FURTHER = "further"


@dataclass(frozen=True, eq=False)
class SliceStack(SliceMaps):
    """All axial slices of all pairs of a manifest's rows, as read-only memory maps.

    Made by :meth:`build`; further parameters and attributes are those of
    :class:`~medrestore.data.slice_maps.SliceMaps`.

    Parameters
    ----------
    scale : (V,) float64
        Of each degraded volume; both arms are divided by it.
    shapes
        In-plane shape (X, Y) of each volume before it was centered in the stack's.
    channels
        Further ones that generators are shown.

    Attributes
    ----------
    degraded, target : (N, X, Y) float32
        Slices from the bottom to the top, volume after volume.
    further : (N, F, X, Y) float32
        Of each channel; there is none without channels.
    """

    MAPS: ClassVar[tuple[str, ...]] = (*_ARMS, _FURTHER)

    scale: NDArray[np.float64]
    shapes: tuple[tuple[int, int], ...]
    channels: tuple[Channel, ...] = ()
    degraded: NDArray[np.float32] = field(init=False, repr=False)
    target: NDArray[np.float32] = field(init=False, repr=False)
    further: NDArray[np.float32] = field(init=False, repr=False)

    @property
    def maps(self) -> tuple[str, ...]:
        """Degraded and target, and further channels where there are any."""
        return self.MAPS if self.channels else _ARMS

    @classmethod
    def build(
        cls,
        table: pd.DataFrame,
        cache_dir: str | os.PathLike[str],
        *,
        spatial_size: Sequence[int],
        intensity: Intensity = RELATIVE,
        channels: Sequence[Channel] = (),
        workers: int | None = None,
        progress: bool = False,
    ) -> SliceStack:
        """Open the stack of a table's rows, decoding the volumes first where no earlier call has.

        Built as :func:`~medrestore.data.slice_maps.build_maps` says: whole or not at all.

        Parameters
        ----------
        table
            Rows of a manifest, usually of one split.
        cache_dir
            Folder of stacks. Each is named by the checksums of its files and by the parameters, so one that
            was built from other files is never taken for this one.
        spatial_size
            In-plane size (X, Y): slices are centered in it, padded with zeros or cropped.
        intensity
            How networks see such images.
        channels
            Further ones that generators are shown; made once, here. A file that one is of may be missing: its
            cell is empty, or the table lacks the column.
        workers
            Threads that decode; as many as there are cores when not given.
        progress
            Show a bar.

        Raises
        ------
        InputError
            When the table is empty, a file is missing, damaged or not the one the manifest's checksum names,
            a pair is on two grids, a channel's file is on another, or the disk is full.
        """
        size = stack_size(table, spatial_size)
        volumes = table.reset_index(drop=True)
        columns = tuple(dict.fromkeys(channel.column for channel in channels if channel.column))
        pairs = [_Pair.of(row, columns) for row in volumes.to_dict("records")]
        folder, index = build_maps(
            cache_dir,
            pairs,
            key={
                "format": _FORMAT,
                "files": [pair.checksums for pair in pairs],
                "spatial_size": size,
                "scale": intensity.key,
                **({"channels": [channel.plain for channel in channels]} if channels else {}),
            },
            prefix="slices",
            depth=_depth,
            decode=partial(_decode_pair, size, intensity, channels),
            shapes={
                **dict.fromkeys(_ARMS, (size, "<f4")),
                **({_FURTHER: ((len(channels), *size), "<f4")} if channels else {}),
            },
            unit="pair",
            workers=workers,
            progress=progress,
        )
        return cls(
            folder=folder,
            volumes=volumes,
            scale=np.array(index["scale"], dtype=np.float64),
            first_slice=np.array(index["first_slice"], dtype=np.int64),
            shapes=tuple((int(x), int(y)) for x, y in index["shapes"]),
            channels=tuple(channels),
        )


@dataclass(frozen=True)
class _Pair:
    degraded: str
    target: str
    beside: Mapping[str, str]
    checksums: list[str]

    @classmethod
    def of(cls, row: Mapping[Any, Any], columns: Sequence[str]) -> _Pair:
        beside = {name: str(row[f"{name}_path"]) for name in columns if row.get(f"{name}_path")}
        files = {**{arm: str(row[f"{arm}_path"]) for arm in _ARMS}, **beside}
        sums = {name: known_checksum(path, row.get(f"{name}_sha256")) for name, path in files.items()}
        # A row without a file of a column differs from one whose next column has that file.
        held = [sums[arm] for arm in _ARMS] + [sums.get(name, "") for name in columns]
        return cls(files["degraded"], files["target"], beside, held)

    def require_checksums(self) -> None:
        """Require that every file is the one that the checksums name."""
        held = [sum_ for sum_ in self.checksums if sum_]
        for path, expected in zip((self.degraded, self.target, *self.beside.values()), held, strict=True):
            require_checksum(path, expected)


def _depth(pair: _Pair) -> int:
    """Read the number of axial slices from a file's header."""
    return read_grid(pair.degraded).canonical_shape[2]


def _decode_pair(
    size: tuple[int, int],
    intensity: Intensity,
    channels: Sequence[Channel],
    pair: _Pair,
    writer: MapWriter,
) -> dict[str, Any]:
    """Write one pair's slices at their place; return the degraded volume's scale and in-plane shape."""
    pair.require_checksums()
    degraded, target = read_volume(pair.degraded), read_volume(pair.target)
    difference = grid_difference(degraded, target)
    if difference:
        fail(f"is on another grid than {pair.target}: {difference}", path=pair.degraded)
    with about(pair.degraded):
        image = intensity.above_nothing(degraded.data)
        scale = intensity.scale_of(image, voxel_size_mm=degraded.voxel_size_mm)
    for arm, shown in (("degraded", image), ("target", intensity.above_nothing(target.data))):
        slices = np.zeros((writer.depth, *size), dtype="<f4")
        centered_slices(shown, size, scale=scale, out=slices)
        writer.write(arm, slices)
    if channels:
        beside = {name: read_beside(path, degraded) for name, path in pair.beside.items()}
        shown_volume = Shown(image, scale, degraded.voxel_size_mm, beside)
        further = np.zeros((writer.depth, len(channels), *size), dtype="<f4")
        for index, channel in enumerate(channels):
            volume, divisor = channel.of(shown_volume)
            centered_slices(volume, size, scale=divisor, out=further[:, index])
        writer.write(_FURTHER, further)
    return {"scale": scale, "shapes": degraded.data.shape[:2]}
