"""Tiles of a split as training pairs: decoded once into memory maps, or read from the slides when drawn."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medrestore.checks import InputError
from medrestore.domains.histology.degradation import TileDegradation
from medrestore.domains.histology.training.sources import (
    MappedTiles,
    SlideTiles,
    TileSource,
)
from medrestore.operators.corruption import Corruption, PlannedCorruption
from medrestore.operators.resampling import GaussianSubsampling

__all__ = ["TileStack"]


@dataclass(frozen=True, eq=False)
class TileStack:
    """The tiles of a table's rows as pairs of low and high resolution, patient after patient.

    Made by :meth:`build`. A pickled stack opens its files anew: loader processes share the memory maps.

    Parameters
    ----------
    volumes
        Rows of the manifest in the order of the tiles, numbered from 0: those of a patient together.
    tile_size : pixels
        Side of the high-resolution tiles.
    planned : (N,)
        What happened to the target of each tile.
    source
        Where tiles come from.

    Attributes
    ----------
    subjects : tuple of str
        Patients, by number.
    volume_index, slice_index : (N,) int64
        The patient of each tile, and the number of the tile: its place in ``volumes``.
    first_slice : (P + 1,) int64
        Patient p has the tiles ``first_slice[p]`` to ``first_slice[p + 1] - 1``.
    """

    volumes: pd.DataFrame
    tile_size: int
    planned: tuple[PlannedCorruption, ...]
    source: TileSource = field(repr=False)
    subjects: tuple[str, ...] = field(init=False)
    volume_index: NDArray[np.int64] = field(init=False, repr=False)
    slice_index: NDArray[np.int64] = field(init=False, repr=False)
    first_slice: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        patients, names = pd.factorize(self.volumes["subject_id"])
        object.__setattr__(self, "subjects", tuple(map(str, names)))
        object.__setattr__(self, "volume_index", patients.astype(np.int64))
        object.__setattr__(self, "slice_index", np.arange(len(patients)))
        first = np.searchsorted(patients, np.arange(len(names) + 1))
        object.__setattr__(self, "first_slice", first.astype(np.int64))

    @classmethod
    def build(
        cls,
        table: pd.DataFrame,
        *,
        cache_dir: str | os.PathLike[str] | None,
        degradation: TileDegradation | None = None,
        corruption: Corruption | None = None,
        workers: int | None = None,
        progress: bool = True,
    ) -> TileStack:
        """Open the stack of a table's rows, reading the slides first where no earlier call has.

        Parameters
        ----------
        table
            Rows of a manifest, usually of one split.
        cache_dir
            Folder of memory maps. Each is named by the slides' checksums, the tiles, the degradation's key
            and the plan of corruption, so one that was built of other things is never taken for this one.
            When None, nothing is stored: tiles are read from the slides whenever they are drawn.
        degradation
            Makes the low-resolution tiles, of a range each its own; scale 4 and sigma 2 when not given.
        corruption
            What is done to the targets; nothing when None.
        workers
            Threads that read; as many as there are cores when not given.
        progress
            Show a bar.

        Notes
        -----
        The low-resolution tile is always made of the clean one. Maps of clean tiles are shared by all plans
        of corruption: beside them only the corrupted targets are stored.

        Built as :func:`~medrestore.data.slice_maps.build_maps` says: whole or not at all. A slide's checksum
        is verified when its tiles are decoded; without ``cache_dir`` it is not.

        Raises
        ------
        InputError
            When the table is empty, tiles differ in size or are no multiple of the scale, a slide is missing,
            damaged or not the one that the manifest's checksum names, or the disk is full.
        """
        degradation = degradation or GaussianSubsampling()
        rows, size = _ordered_rows(table, degradation.scale)
        names = [str(name) for name in rows["tile"]]
        planned = corruption.plan(names) if corruption else (PlannedCorruption(),) * len(rows)
        records = rows.to_dict("records")
        source: TileSource
        if cache_dir is None:
            source = SlideTiles(records, degradation=degradation, corruption=corruption, planned=planned)
        else:
            source = MappedTiles.build(
                records,
                cache_dir,
                degradation=degradation,
                corruption=corruption,
                planned=planned,
                workers=workers,
                progress=progress,
            )
        return cls(volumes=rows, tile_size=size, planned=planned, source=source)

    def __len__(self) -> int:
        return len(self.volumes)

    @property
    def kinds(self) -> tuple[str | None, ...]:
        """The kind of corruption of each tile's target; None where it is clean."""
        return tuple(planned.kind for planned in self.planned)

    def images(self, tiles: Sequence[int] | NDArray[np.integer]) -> NDArray[np.uint8]:
        """Return low-resolution tiles (B, 3, h, w) uint8 by number."""
        return self.source.images(np.asarray(tiles, dtype=np.int64))

    def targets(self, tiles: Sequence[int] | NDArray[np.integer]) -> NDArray[np.uint8]:
        """Return high-resolution tiles (B, 3, H, W) uint8 by number, corrupted where planned."""
        return self.source.targets(np.asarray(tiles, dtype=np.int64))

    def pairs(
        self, tiles: Sequence[int] | NDArray[np.integer]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return low- and high-resolution tiles by number."""
        return self.source.pairs(np.asarray(tiles, dtype=np.int64))


def _ordered_rows(table: pd.DataFrame, scale: int) -> tuple[pd.DataFrame, int]:
    """Return the rows, those of a patient and of a slide together, and the side of the tiles."""
    if table.empty:
        raise InputError(
            "the split is empty: no row of the manifest has it. Remedy: name a split that has rows"
        )
    sizes = sorted({int(size) for size in table["tile_size"]})
    if len(sizes) > 1:
        raise InputError(f"tiles must be of one size, got {sizes[0]} and {sizes[-1]} pixels")
    if sizes[0] % scale:
        raise InputError(f"the size of tiles must be a multiple of the scale {scale}, got {sizes[0]}")
    patients = pd.factorize(table["subject_id"])[0]
    slides = pd.factorize(table["slide_path"])[0]
    order = np.lexsort((np.arange(len(table)), slides, patients))
    return table.iloc[order].reset_index(drop=True), sizes[0]
