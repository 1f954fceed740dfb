"""Where the tiles of a stack come from: memory maps made of the slides once, or the slides themselves."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medrestore.checks import fail
from medrestore.data.slice_maps import MapWriter, SliceMaps, build_maps, known_checksum, require_checksum
from medrestore.domains.histology.degradation import TileDegradation
from medrestore.domains.histology.schema import TileReader, open_tile_slide, read_tile
from medrestore.domains.histology.slides.parts import slide_checksum
from medrestore.operators.corruption import Corruption, PlannedCorruption
from medrestore.operators.recording import DegradationRange

__all__ = ["MappedTiles", "SlideTiles", "TileSource"]

_FORMAT = 1
_BLOCK = 64
"""Tiles that one thread reads at a time: 13 MB at 256 pixels."""
_OPEN_SLIDES = 32
"""Slides that a process holds open."""
_PLACE = ("tile", "x", "y", "tile_size", "microns_per_pixel", "slide_microns_per_pixel")
"""Columns that say where a tile lies, and what it is called."""

Row = Mapping[Any, Any]


class TileSource(Protocol):
    """Pairs of tiles by number, uint8."""

    def images(self, tiles: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return low-resolution tiles (B, 3, h, w)."""
        ...

    def targets(self, tiles: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return high-resolution tiles (B, 3, H, W), corrupted where planned."""
        ...

    def pairs(self, tiles: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return low- and high-resolution tiles."""
        ...


class _CleanMaps(SliceMaps):
    """Maps ``image`` (N, 3, h, w) and ``target`` (N, 3, H, W) of clean tiles."""

    MAPS: ClassVar[tuple[str, ...]] = ("image", "target")
    image: NDArray[np.uint8]
    target: NDArray[np.uint8]


class _CorruptedMaps(SliceMaps):
    """Map ``target`` (K, 3, H, W) of the tiles that are corrupted, in their order."""

    MAPS: ClassVar[tuple[str, ...]] = ("target",)
    target: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class MappedTiles:
    """Tiles in memory maps: clean pairs, which all plans of corruption share, and corrupted targets.

    Parameters
    ----------
    clean
        Maps of clean pairs.
    corrupted
        Map of the targets that are corrupted, if any.
    places : (N,) int64
        Place of each tile among those, -1 where it is clean.
    """

    clean: _CleanMaps
    corrupted: _CorruptedMaps | None
    places: NDArray[np.int64]

    @classmethod
    def build(
        cls,
        rows: Sequence[Row],
        cache_dir: str | os.PathLike[str],
        *,
        degradation: TileDegradation,
        corruption: Corruption | None,
        planned: Sequence[PlannedCorruption],
        workers: int | None,
        progress: bool,
    ) -> MappedTiles:
        """Open the maps of a manifest's rows, made first where no earlier call has."""
        clean = _build_clean(rows, cache_dir, degradation, workers=workers, progress=progress)
        corrupted = _build_corrupted(
            clean, rows, cache_dir, corruption, planned, workers=workers, progress=progress
        )
        chosen = np.array([tile.kind is not None for tile in planned])
        return cls(clean, corrupted, np.where(chosen, np.cumsum(chosen) - 1, -1))

    def images(self, tiles: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return low-resolution tiles (B, 3, h, w)."""
        return self.clean.image[tiles]

    def targets(self, tiles: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return high-resolution tiles (B, 3, H, W), corrupted where planned."""
        targets = self.clean.target[tiles]
        if self.corrupted is not None:
            places = self.places[tiles]
            targets[places >= 0] = self.corrupted.target[places[places >= 0]]
        return targets

    def pairs(self, tiles: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return low- and high-resolution tiles."""
        return self.images(tiles), self.targets(tiles)


class SlideTiles:
    """Tiles read from their slides when drawn; slides stay open, in each process its own.

    Parameters
    ----------
    rows
        Of the manifest.
    degradation
        Makes the low-resolution tiles.
    corruption, planned
        What is done to the targets, and the plan of it.

    Raises
    ------
    InputError
        When a slide is missing.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        *,
        degradation: TileDegradation,
        corruption: Corruption | None,
        planned: Sequence[PlannedCorruption],
    ) -> None:
        for path in dict.fromkeys(str(row["slide_path"]) for row in rows):
            if not Path(path).is_file():
                fail("no such file", path=path)
        self._rows, self._degradation = rows, degradation
        self._corruption, self._planned = corruption, planned
        self._reader = TileReader(_OPEN_SLIDES)

    def images(self, tiles: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return low-resolution tiles (B, 3, h, w)."""
        return self._reduced(tiles, [self._read(tile) for tile in tiles.tolist()])

    def targets(self, tiles: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return high-resolution tiles (B, 3, H, W), corrupted where planned."""
        return self._corrupted(tiles, [self._read(tile) for tile in tiles.tolist()])

    def pairs(self, tiles: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return low- and high-resolution tiles."""
        clean = [self._read(tile) for tile in tiles.tolist()]
        return self._reduced(tiles, clean), self._corrupted(tiles, clean)

    def _read(self, tile: int) -> NDArray[np.uint8]:
        return self._reader.read(self._rows[tile])

    def _reduced(self, tiles: NDArray[np.int64], clean: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        rows = (self._rows[tile] for tile in tiles.tolist())
        return np.stack(
            [_reduced(self._degradation, row, tile) for row, tile in zip(rows, clean, strict=True)]
        )

    def _corrupted(self, tiles: NDArray[np.int64], clean: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        targets = list(clean)
        if self._corruption is not None:
            for place, tile in enumerate(tiles.tolist()):
                name = str(self._rows[tile]["tile"])
                targets[place] = self._corruption.apply(clean[place], self._planned[tile], tile=name)
        return np.stack([_channels_first(tile) for tile in targets])


@dataclass(frozen=True)
class _Block:
    """Some tiles of one slide, read together; the first block of a slide verifies its checksum."""

    rows: Sequence[Row]
    checksum: str
    verify: bool


def _blocks(records: Sequence[Row]) -> Iterator[_Block]:
    known: dict[str, str] = {}
    begin = 0
    while begin < len(records):
        path = str(records[begin]["slide_path"])
        end = begin + 1
        while end < min(begin + _BLOCK, len(records)) and records[end]["slide_path"] == path:
            end += 1
        verify = path not in known
        if verify:
            known[path] = known_checksum(path, records[begin].get("slide_sha256"), checksum=slide_checksum)
        yield _Block(records[begin:end], known[path], verify)
        begin = end


def _count(block: Sequence[Any] | _Block) -> int:
    return len(block.rows if isinstance(block, _Block) else block)


def _build_clean(
    rows: Sequence[Row],
    cache_dir: str | os.PathLike[str],
    degradation: TileDegradation,
    *,
    workers: int | None,
    progress: bool,
) -> _CleanMaps:
    blocks = list(_blocks(rows))
    size = int(rows[0]["tile_size"])
    small = size // degradation.scale
    places = [
        [block.checksum, *(None if row[name] != row[name] else row[name] for name in _PLACE)]
        for block in blocks
        for row in block.rows
    ]
    # Of a range a tile draws its degradation by its name.
    drawn = isinstance(degradation, DegradationRange)
    names = {"names": [str(row["tile"]) for block in blocks for row in block.rows]} if drawn else {}
    folder, index = build_maps(
        cache_dir,
        blocks,
        key={"format": _FORMAT, "tiles": places, **names, **degradation.key},
        prefix="tiles",
        depth=_count,
        decode=partial(_decode_block, size, degradation),
        shapes={"image": ((3, small, small), "|u1"), "target": ((3, size, size), "|u1")},
        unit="block",
        workers=workers,
        progress=progress,
    )
    return _CleanMaps(folder, pd.DataFrame(index=range(len(blocks))), np.array(index["first_slice"]))


def _decode_block(
    size: int, degradation: TileDegradation, block: _Block, writer: MapWriter
) -> dict[str, Any]:
    """Write the tiles of a block at their place."""
    if block.verify:
        require_checksum(block.rows[0]["slide_path"], block.checksum, checksum=slide_checksum)
    targets = np.empty((writer.depth, 3, size, size), dtype=np.uint8)
    small = size // degradation.scale
    images = np.empty((writer.depth, 3, small, small), dtype=np.uint8)
    with open_tile_slide(block.rows[0]) as slide:
        for place, row in enumerate(block.rows):
            tile = read_tile(slide, row)
            targets[place] = _channels_first(tile)
            images[place] = _reduced(degradation, row, tile)
    writer.write("target", targets)
    writer.write("image", images)
    return {}


def _build_corrupted(
    clean: _CleanMaps,
    rows: Sequence[Row],
    cache_dir: str | os.PathLike[str],
    corruption: Corruption | None,
    planned: Sequence[PlannedCorruption],
    *,
    workers: int | None,
    progress: bool,
) -> _CorruptedMaps | None:
    wanted = [tile for tile, plan in enumerate(planned) if plan.kind is not None]
    if corruption is None or not wanted:
        return None
    blocks = [wanted[begin : begin + _BLOCK] for begin in range(0, len(wanted), _BLOCK)]
    folder, index = build_maps(
        cache_dir,
        blocks,
        key={
            "format": _FORMAT,
            "clean": clean.folder.name,
            "seed": corruption.seed,
            "tiles": [[tile, planned[tile].kind, planned[tile].strength] for tile in wanted],
        },
        prefix="corrupted",
        depth=_count,
        decode=partial(_corrupt_block, clean, rows, corruption, planned),
        shapes={"target": (clean.target.shape[1:], "|u1")},
        unit="block",
        workers=workers,
        progress=progress,
    )
    return _CorruptedMaps(folder, pd.DataFrame(index=range(len(blocks))), np.array(index["first_slice"]))


def _corrupt_block(
    clean: _CleanMaps,
    rows: Sequence[Row],
    corruption: Corruption,
    planned: Sequence[PlannedCorruption],
    tiles: Sequence[int],
    writer: MapWriter,
) -> dict[str, Any]:
    """Write the corrupted targets of some tiles at their place."""
    targets = np.empty((writer.depth, *clean.target.shape[1:]), dtype=np.uint8)
    for place, tile in enumerate(tiles):
        image = np.moveaxis(clean.target[tile], 0, -1)
        targets[place] = _channels_first(corruption.apply(image, planned[tile], tile=str(rows[tile]["tile"])))
    writer.write("target", targets)
    return {}


def _reduced(degradation: TileDegradation, row: Row, tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return _channels_first(degradation.of(str(row["tile"])).picture(tile))


def _channels_first(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.moveaxis(image, -1, 0)
