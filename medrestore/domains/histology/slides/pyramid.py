"""Pyramidal TIFF files written row by row of tiles, in little memory, and continued when interrupted."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TypeVar

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from medrestore.checks import InputError, OutputError, no_room, require_in_range, require_in_set
from medrestore.files import atomic_path, beside

__all__ = ["COMPRESSIONS", "PyramidWriter", "require_compression"]

COMPRESSIONS = ("jpeg", "deflate")
"""How tiles are stored: JPEG without chroma subsampling, or lossless."""

FORMAT = 2
"""Version of the layout of an unfinished pyramid."""

CLASSIC_TIFF_LIMIT = 2**32 - 2**25
"""Bytes of tiles beyond which a file is a BigTIFF: offsets are of 32 bits else; the rest is for tables."""

Given = TypeVar("Given")
Made = TypeVar("Made")


def require_compression(compression: str, quality: int) -> None:
    """Require a known compression and a JPEG quality of 1 to 100."""
    require_in_set("compression", compression, COMPRESSIONS)
    require_in_range("JPEG quality", quality, 1, 100)


class PyramidWriter:
    """Write an RGB image as a tiled, pyramidal TIFF, one row of tiles after the other.

    Parameters
    ----------
    path
        The TIFF file; there when :meth:`finish` has ended, and not before.
    width, height : int, pixels
        Of the finest level. Each further level halves them, rounded up, until one tile holds it.
    microns_per_pixel : float or None, um
        Of the finest level, for the resolution tags; without tags when None.
    settings
        Plain values that the tiles depend on: an unfinished pyramid of other settings is begun anew.
    tile : int, pixels
        Length of a tile's side, a multiple of 16.
    compression
        ``jpeg`` (4:4:4) | ``deflate`` (lossless).
    quality
        Of JPEG, 1 to 100.
    icc_profile
        Color profile of the pixels, which viewers apply; without one when None.
    description
        What the file says of itself (ImageDescription); ASCII.

    Raises
    ------
    InputError
        When a number is out of range, or another process writes the same file.

    Notes
    -----
    Encoded tiles go to a hidden folder beside the output, and the places of a row's tiles to a journal once
    they are on disk. A writer that finds such a folder of its own settings begins after the last row in the
    journal: see :attr:`finished_rows`. The coarser levels are made from the decoded tiles of the finer ones
    (means of 2 x 2 pixels), tile by tile; only then is the TIFF put together under a temporary name and
    renamed. The same tiles give the same bytes: neither date nor program version is written.

    The file is a chain of image directories, those of reduced resolution marked as such, as OpenSlide's
    ``generic-tiff``, QuPath and libvips read it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        width: int,
        height: int,
        microns_per_pixel: float | None,
        settings: Mapping[str, Any],
        tile: int = 512,
        compression: str = "jpeg",
        quality: int = 90,
        icc_profile: bytes | None = None,
        description: str = "",
    ) -> None:
        for name, value in (("width", width), ("height", height)):
            require_in_range(name, value, 1, 2**31)
        if tile < 16 or tile % 16:
            raise InputError(f"tile must be a positive multiple of 16, got {tile}")
        require_compression(compression, quality)
        if microns_per_pixel is not None:  # now, and not when all is done: tags hold fractions of 32 bits
            require_in_range("microns_per_pixel", microns_per_pixel, 1e-4, 1e4)
        self.path = Path(path)
        self.width, self.height, self.tile = int(width), int(height), int(tile)
        self.columns, self.rows = -(-self.width // self.tile), -(-self.height // self.tile)
        self.microns_per_pixel = microns_per_pixel
        self.compression, self.quality = compression, int(quality)
        self.icc_profile = icc_profile
        self.description = description
        self._settings = {
            "format": FORMAT,
            "size": [self.width, self.height, self.tile],
            "microns_per_pixel": microns_per_pixel,
            "compression": [compression, self.quality if compression == "jpeg" else None],
            "icc_profile": None if icc_profile is None else hashlib.sha256(icc_profile).hexdigest(),
            "settings": dict(settings),
        }
        self._scratch = beside(self.path, ".unfinished-")
        self._lock = FileLock(beside(self.path, ".unfinished-", ".lock"))
        self._pool: ThreadPoolExecutor | None = None
        self._level: _Level | None = None

    def __enter__(self) -> PyramidWriter:
        with self._on_disk():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                raise InputError(
                    f"{self.path}: another process is writing this file. Remedy: wait for it to end"
                ) from None
            try:
                self._prepare_scratch()
                self._level = _Level(self._scratch, 0, rows=self.rows, columns=self.columns)
                self._pool = ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1))
            except BaseException:
                self._unlock()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)
            if self._level is not None:
                self._level.close()
        finally:
            self._unlock()

    def _unlock(self) -> None:
        self._lock.release()
        if not self._scratch.exists():
            Path(self._lock.lock_file).unlink(missing_ok=True)

    @property
    def finished_rows(self) -> int:
        """Rows of tiles that are on disk: the next one to write."""
        return 0 if self._level is None else self._level.finished

    def write_row(self, tiles: Iterable[NDArray[np.uint8]]) -> None:
        """Encode and write the next row of tiles, from left to right.

        Parameters
        ----------
        tiles : (h, w, 3) uint8 each
            The part of each tile that lies in the image, or the whole tile; at most ``tile`` pixels a side.

        Raises
        ------
        InputError
            When there are more or fewer than ``columns``, the pyramid has all its rows, or the disk is full.
        """
        if self.finished_rows == self.rows:
            raise InputError(f"{self.path}: has all its {self.rows} rows of tiles")
        inside_height = min(self.tile, self.height - self.finished_rows * self.tile)
        cut = (
            picture[:inside_height, : min(self.tile, self.width - column * self.tile)]
            for column, picture in enumerate(tiles)
        )
        with self._on_disk():
            self._finest().append(self._in_order(self._encode_tile, cut))

    def finish(self) -> Path:
        """Make the coarser levels, put the TIFF together and remove what was needed for it.

        Raises
        ------
        InputError
            When rows are missing, or the disk is full.
        """
        if self.finished_rows != self.rows:
            raise InputError(f"{self.path}: has {self.finished_rows} of {self.rows} rows of tiles")
        levels = [(self.width, self.height, self._finest())]
        try:
            with self._on_disk():
                while max(levels[-1][:2]) > self.tile:
                    levels.append(self._coarser(*levels[-1], index=len(levels)))
            self._assemble(levels)
        finally:
            for _, _, level in levels:
                level.close()
        shutil.rmtree(self._scratch)
        return self.path

    @contextmanager
    def _on_disk(self) -> Iterator[None]:
        """Say what remains when there is no room on the disk."""
        try:
            yield
        except OSError as error:
            reason = no_room(error)
            if not reason:
                raise
            raise OutputError(
                f"{self.path}: {reason}; {self.finished_rows} of {self.rows} rows of tiles are kept. "
                "Remedy: free some space and run again"
            ) from error

    def _prepare_scratch(self) -> None:
        """Keep an unfinished pyramid of the same settings, begin anew otherwise."""
        marker = self._scratch / "settings.json"
        try:
            found = json.loads(marker.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = None
        if found != json.loads(json.dumps(self._settings)):
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch.mkdir()
            with atomic_path(marker) as temporary:
                temporary.write_text(json.dumps(self._settings), encoding="utf-8")

    def _finest(self) -> _Level:
        if self._level is None:
            raise self._not_open()
        return self._level

    def _not_open(self) -> InputError:
        return InputError(f"{self.path}: the writer is not open")

    def _in_order(self, function: Callable[[Given], Made], items: Iterable[Given]) -> Iterator[Made]:
        """Map in threads, with few items under way: codecs release the interpreter's lock."""
        pool = self._pool
        if pool is None:
            raise self._not_open()
        waiting: deque[Future[Made]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 8:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _encode_tile(self, picture: NDArray[np.uint8]) -> tuple[bytes | None, bytes]:
        """Return the one color of a tile, if it has one, and the tile encoded; its last pixels fill it up."""
        import imagecodecs

        height, width = picture.shape[:2]
        if (height, width) != (self.tile, self.tile):
            beyond = ((0, self.tile - height), (0, self.tile - width), (0, 0))
            picture = np.pad(picture, beyond, mode="edge")
        picture = np.ascontiguousarray(picture)
        color = bytes(picture[0, 0]) if (picture == picture[0, 0]).all() else None
        if self.compression == "jpeg":
            encoded = imagecodecs.jpeg_encode(
                picture, level=self.quality, subsampling="444", outcolorspace="ycbcr"
            )
        else:
            encoded = zlib.compress(imagecodecs.delta_encode(picture, axis=1).tobytes(), 6)
        return color, bytes(encoded)

    def _decode_tile(self, encoded: bytes) -> NDArray[np.uint8]:
        import imagecodecs

        if self.compression == "jpeg":
            return np.asarray(imagecodecs.jpeg_decode(encoded), dtype=np.uint8)
        shape = (self.tile, self.tile, 3)
        delta = np.frombuffer(zlib.decompress(encoded), np.uint8).reshape(shape)
        return np.asarray(imagecodecs.delta_decode(delta, axis=1), dtype=np.uint8)

    def _coarser(self, width: int, height: int, finer: _Level, *, index: int) -> tuple[int, int, _Level]:
        """Make a level of half the size from the one before it."""
        half_width, half_height = -(-width // 2), -(-height // 2)
        columns, rows = -(-half_width // self.tile), -(-half_height // self.tile)
        level = _Level(self._scratch, index, rows=rows, columns=columns, anew=True)

        def make(place: tuple[int, int]) -> tuple[bytes | None, bytes]:
            row, column = place
            top, left = 2 * row * self.tile, 2 * column * self.tile
            region = np.empty((2 * self.tile, 2 * self.tile, 3), np.uint8)
            for down in range(2):
                for right in range(2):
                    if 2 * row + down < finer.rows and 2 * column + right < finer.columns:
                        part = self._decode_tile(finer.read(2 * row + down, 2 * column + right))
                        start = (down * self.tile, right * self.tile)
                        region[start[0] : start[0] + self.tile, start[1] : start[1] + self.tile] = part
            inside = region[: min(2 * self.tile, height - top), : min(2 * self.tile, width - left)]
            return self._encode_tile(_halved(inside))

        try:
            for row in range(rows):
                places = [(row, column) for column in range(columns)]
                level.append(self._in_order(make, places))
        except BaseException:
            level.close()
            raise
        return half_width, half_height, level

    def _assemble(self, levels: list[tuple[int, int, _Level]]) -> None:
        import tifffile

        size = sum(level.size for _, _, level in levels)
        with (
            atomic_path(self.path) as temporary,
            tifffile.TiffWriter(temporary, bigtiff=size > CLASSIC_TIFF_LIMIT) as writer,
        ):
            for index, (width, height, level) in enumerate(levels):
                microns = self.microns_per_pixel
                per_centimeter = None if microns is None else 1e4 / (microns * 2**index)
                writer.write(
                    level.all_tiles(),
                    shape=(height, width, 3),
                    dtype=np.uint8,
                    tile=(self.tile, self.tile),
                    photometric="ycbcr" if self.compression == "jpeg" else "rgb",
                    compression="jpeg" if self.compression == "jpeg" else "adobe_deflate",
                    predictor=self.compression == "deflate",
                    subfiletype=1 if index else 0,
                    resolution=None if per_centimeter is None else (per_centimeter, per_centimeter),
                    resolutionunit="NONE" if per_centimeter is None else "CENTIMETER",
                    iccprofile=None if index else self.icc_profile,
                    metadata=None,
                    description=None if index or not self.description else self.description,
                    software=False,
                )


class _Level:
    """Encoded tiles of one level on disk, and where each lies.

    ``rows.bin`` holds for every finished row the (offset, length) of its tiles and their checksum.
    """

    def __init__(self, folder: Path, index: int, *, rows: int, columns: int, anew: bool = False) -> None:
        self.rows, self.columns, self.finished = rows, columns, 0
        self.size = 0
        self._places = np.zeros((rows, columns, 2), np.int64)
        self._single: dict[bytes, tuple[int, int]] = {}
        self._tiles = _open(folder / f"tiles-{index}.bin", anew)
        self._journal = _open(folder / f"rows-{index}.bin", anew)
        self._recall()

    def _recall(self) -> None:
        """Take up the rows of the journal that are whole, and cut off what lies beyond."""
        record = self.columns * 16
        self._journal.seek(0)
        on_disk = os.fstat(self._tiles.fileno()).st_size
        while self.finished < self.rows:
            data, check = self._journal.read(record), self._journal.read(4)
            if len(check) < 4 or zlib.crc32(data) != int.from_bytes(check, "big"):
                break
            places = np.frombuffer(data, np.int64).reshape(self.columns, 2)
            if int(places.sum(axis=1).max()) > on_disk:
                break
            self._places[self.finished] = places
            self.size = max(self.size, int(places.sum(axis=1).max()))
            self.finished += 1
        self._journal.truncate(self.finished * (record + 4))
        self._tiles.truncate(self.size)

    def append(self, tiles: Iterable[tuple[bytes | None, bytes]]) -> None:
        """Write a row of tiles; those of one color once."""
        places = np.zeros((self.columns, 2), np.int64)
        count, end, single = 0, self.size, dict(self._single)
        self._tiles.seek(end)
        for color, encoded in tiles:
            if count == self.columns:
                raise InputError(f"a row has {self.columns} tiles, got more")
            place = (end, len(encoded)) if color is None else single.get(color)
            if place is None:
                place = single[color or b""] = (end, len(encoded))
            if place[0] == end:
                self._tiles.write(encoded)
                end += len(encoded)
            places[count] = place
            count += 1
        if count != self.columns:
            raise InputError(f"a row has {self.columns} tiles, got {count}")
        _flush(self._tiles)
        data = places.tobytes()
        self._journal.seek(0, os.SEEK_END)
        self._journal.write(data + zlib.crc32(data).to_bytes(4, "big"))
        _flush(self._journal)
        self._places[self.finished] = places
        self.finished, self.size, self._single = self.finished + 1, end, single

    def read(self, row: int, column: int) -> bytes:
        """Return an encoded tile; from any thread."""
        offset, length = self._places[row, column].tolist()
        return os.pread(self._tiles.fileno(), length, offset)

    def all_tiles(self) -> Iterator[bytes]:
        """Return all encoded tiles, row by row."""
        for row in range(self.rows):
            for column in range(self.columns):
                yield self.read(row, column)

    def close(self) -> None:
        for stream in (self._tiles, self._journal):
            # What counts is flushed. What a full disk took no more of is tried once more here, and is of a
            # row that is written again: this failure must not replace the one that told of the disk.
            with suppress(OSError):
                stream.close()


def _open(path: Path, anew: bool) -> BinaryIO:
    return path.open("w+b" if anew or not path.exists() else "r+b")


def _flush(stream: BinaryIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _halved(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the means of 2 x 2 pixels; a last odd row or column is doubled first."""
    height, width = picture.shape[:2]
    if height % 2 or width % 2:
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    sums = picture[::2].astype(np.uint16)
    sums += picture[1::2]
    return ((sums[:, ::2] + sums[:, 1::2] + 2) >> 2).astype(np.uint8)
