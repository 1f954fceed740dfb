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

    Attributes
    ----------
    degraded, target : (N, X, Y) float32
        Slices from the bottom to the top, volume after volume.
    """

    MAPS: ClassVar[tuple[str, ...]] = _ARMS

    scale: NDArray[np.float64]
    shapes: tuple[tuple[int, int], ...]
    degraded: NDArray[np.float32] = field(init=False, repr=False)
    target: NDArray[np.float32] = field(init=False, repr=False)

    @classmethod
    def build(
        cls,
        table: pd.DataFrame,
        cache_dir: str | os.PathLike[str],
        *,
        spatial_size: Sequence[int],
        intensity: Intensity = RELATIVE,
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
        workers
            Threads that decode; as many as there are cores when not given.
        progress
            Show a bar.

        Raises
        ------
        InputError
            When the table is empty, a file is missing, damaged or not the one the manifest's checksum names,
            a pair is on two grids, or the disk is full.
        """
        size = stack_size(table, spatial_size)
        volumes = table.reset_index(drop=True)
        pairs = [_Pair.of(row) for row in volumes.to_dict("records")]
        folder, index = build_maps(
            cache_dir,
            pairs,
            key={
                "format": _FORMAT,
                "files": [[pair.degraded_sha256, pair.target_sha256] for pair in pairs],
                "spatial_size": size,
                "scale": intensity.key,
            },
            prefix="slices",
            depth=_depth,
            decode=partial(_decode_pair, size, intensity),
            shapes=dict.fromkeys(_ARMS, (size, "<f4")),
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
        )


@dataclass(frozen=True)
class _Pair:
    degraded: str
    target: str
    degraded_sha256: str
    target_sha256: str

    @classmethod
    def of(cls, row: Mapping[Any, Any]) -> _Pair:
        files = {arm: str(row[f"{arm}_path"]) for arm in _ARMS}
        sums = {
            f"{arm}_sha256": known_checksum(path, row.get(f"{arm}_sha256")) for arm, path in files.items()
        }
        return cls(**files, **sums)


def _depth(pair: _Pair) -> int:
    """Read the number of axial slices from a file's header."""
    return read_grid(pair.degraded).canonical_shape[2]


def _decode_pair(
    size: tuple[int, int], intensity: Intensity, pair: _Pair, writer: MapWriter
) -> dict[str, Any]:
    """Write one pair's slices at their place; return the degraded volume's scale and in-plane shape."""
    for path, expected in ((pair.degraded, pair.degraded_sha256), (pair.target, pair.target_sha256)):
        require_checksum(path, expected)
    degraded, target = read_volume(pair.degraded), read_volume(pair.target)
    difference = grid_difference(degraded, target)
    if difference:
        fail(f"is on another grid than {pair.target}: {difference}", path=pair.degraded)
    with about(pair.degraded):
        shown = intensity.above_nothing(degraded.data)
        scale = intensity.scale_of(shown, voxel_size_mm=degraded.voxel_size_mm)
    for arm, image in (("degraded", shown), ("target", intensity.above_nothing(target.data))):
        slices = np.zeros((writer.depth, *size), dtype="<f4")
        centered_slices(image, size, scale=scale, out=slices)
        writer.write(arm, slices)
    return {"scale": scale, "shapes": degraded.data.shape[:2]}
