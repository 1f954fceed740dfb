"""Slice-first memory maps: built once from a table's files, whole or not at all, and opened read-only."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medrestore.checks import InputError, fail, no_room, require_in_range
from medrestore.files import sha256_file

__all__ = [
    "MapWriter",
    "SliceMaps",
    "build_maps",
    "center_window",
    "centered_slices",
    "known_checksum",
    "require_checksum",
    "stack_size",
]

_INDEX = "index.json"
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
"""Why nothing can be written to a folder that is named or found."""

T = TypeVar("T")


def center_window(shape: Sequence[int], size: Sequence[int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return where an array of ``shape`` lies in one of ``size`` when their centers are aligned.

    Parameters
    ----------
    shape, size
        Lengths of the axes. An axis that is longer in ``shape`` is cropped, one that is shorter is padded; of
        an odd difference the larger half is at the end.

    Returns
    -------
    tuple
        Slices into the array, and slices into its place: ``place[b] = array[a]``.

    >>> center_window((5, 4), (4, 7))
    ((slice(0, 4, None), slice(0, 4, None)), (slice(0, 4, None), slice(1, 5, None)))
    """
    inside, place = [], []
    for length, room in zip(shape, size, strict=True):
        kept = min(length, room)
        inside.append(slice((length - kept) // 2, (length - kept) // 2 + kept))
        place.append(slice((room - kept) // 2, (room - kept) // 2 + kept))
    return tuple(inside), tuple(place)


def centered_slices(
    volume: NDArray[np.floating], size: Sequence[int], *, scale: float, out: NDArray[np.float32]
) -> None:
    """Put a volume's slices (X, Y, Z), over its scale and centered, into ``out`` (Z, size), which is 0."""
    inside, place = center_window(volume.shape[:2], size)
    np.divide(volume[inside].transpose(2, 0, 1), np.float32(scale), out=out[(slice(None), *place)])


def stack_size(table: pd.DataFrame, spatial_size: Sequence[int]) -> tuple[int, int]:
    """Return the in-plane size of a stack of a table's rows.

    Raises
    ------
    InputError
        When the table is empty or the size is not two positive numbers.
    """
    if table.empty:
        raise InputError(
            "the split is empty: no row of the manifest has it. Remedy: name a split that has rows"
        )
    if len(spatial_size) != 2:
        raise InputError(f"spatial_size must be two numbers (X, Y), got {tuple(spatial_size)}")
    size = (int(spatial_size[0]), int(spatial_size[1]))
    for name, length in zip(("spatial_size[0]", "spatial_size[1]"), size, strict=True):
        require_in_range(name, length, 1, 65535)
    return size


def known_checksum(path: str, given: object, *, checksum: Callable[[str], str] = sha256_file) -> str:
    """Return the checksum that a manifest gives of a file; computed by ``checksum`` where it gives none.

    Raises
    ------
    InputError
        When none is given and there is no such file.
    """
    known = str(given or "").lower()
    if not known and not Path(path).is_file():
        fail("no such file", path=path)
    return known or checksum(path)


def require_checksum(path: str, expected: str, *, checksum: Callable[[str], str] = sha256_file) -> None:
    """Require that a file is the one that the manifest's checksum, made by ``checksum``, names.

    Raises
    ------
    InputError
        When it is missing or another.
    """
    if not Path(path).is_file():
        fail("no such file", path=path)
    found = checksum(path)
    if found != expected:
        fail(f"has checksum {found}, the manifest says {expected}", path=path, remedy="check the manifest")


@dataclass(frozen=True, eq=False)
class SliceMaps:
    """All axial slices of the volumes of a table's rows, as read-only memory maps.

    Parameters
    ----------
    folder
        Where the maps lie.
    volumes
        Rows of the manifest, one for each volume, numbered from 0.
    first_slice : (V + 1,) int64
        Volume v holds the slices ``first_slice[v]`` to ``first_slice[v + 1] - 1``.

    Attributes
    ----------
    volume_index, slice_index : (N,) int64
        The volume each slice is of, and its place in it from the bottom.
    """

    MAPS: ClassVar[tuple[str, ...]] = ()
    """Attributes that are memory maps, (N, ..., X, Y) each: slices from the bottom to the top, volume after
    volume."""

    folder: Path
    volumes: pd.DataFrame
    first_slice: NDArray[np.int64]
    volume_index: NDArray[np.int64] = field(init=False, repr=False)
    slice_index: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        depth = np.diff(self.first_slice)
        volume_index = np.repeat(np.arange(len(depth)), depth)
        object.__setattr__(self, "volume_index", volume_index)
        object.__setattr__(self, "slice_index", np.arange(len(volume_index)) - self.first_slice[volume_index])
        for name in self.maps:
            object.__setattr__(self, name, np.load(self.folder / f"{name}.npy", mmap_mode="r"))

    def __len__(self) -> int:
        return int(self.first_slice[-1])

    def __getstate__(self) -> dict[str, Any]:
        # A memory map pickles as a copy of all it maps: a loader process opens it by itself instead.
        return {key: value for key, value in self.__dict__.items() if key not in self.maps}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__post_init__()

    @property
    def maps(self) -> tuple[str, ...]:
        """Those of :attr:`MAPS` that there are."""
        return self.MAPS

    @property
    def spatial_size(self) -> tuple[int, int]:
        """In-plane size (X, Y) of the slices."""
        x, y = getattr(self, self.MAPS[0]).shape[-2:]
        return int(x), int(y)


@dataclass(frozen=True)
class MapWriter:
    """Writes one volume's slices at their place in the maps.

    Parameters
    ----------
    folder
        Of the maps.
    depth
        Slices of the volume.
    offsets
        Where its first slice begins in the file of each map, bytes.
    """

    folder: Path
    depth: int
    offsets: Mapping[str, int]

    def write(self, name: str, slices: NDArray[Any]) -> None:
        """Write the slices (Z, ...) of a map, contiguous and of its type."""
        # By ordinary writes, never through a map: a full disk then is an error, not a SIGBUS.
        with (self.folder / f"{name}.npy").open("rb+") as stream:
            stream.seek(self.offsets[name])
            stream.write(slices.data)


def build_maps(
    cache_dir: str | os.PathLike[str],
    items: Sequence[T],
    *,
    key: Mapping[str, Any],
    prefix: str,
    depth: Callable[[T], int],
    decode: Callable[[T, MapWriter], Mapping[str, Any]],
    shapes: Mapping[str, tuple[tuple[int, ...], str]],
    unit: str,
    workers: int | None,
    progress: bool,
) -> tuple[Path, dict[str, Any]]:
    """Open the maps of some items, decoding them first where no earlier call has.

    Parameters
    ----------
    cache_dir
        Folder of stacks.
    items
        What is decoded, one per volume.
    key
        All that the maps' content depends on, plain: names their folder.
    prefix
        Of the folder's name.
    depth
        Returns the number of axial slices of an item, from its header.
    decode
        Writes the slices of an item and returns what the index keeps of it, plain values by name.
    shapes
        Shape of one slice and type (``<f4``) of every map.
    unit
        What an item is, for the bar.
    workers
        Threads that decode; as many as there are cores when not given.
    progress
        Show a bar.

    Returns
    -------
    folder : Path
        Of the maps, ``<name>.npy``; zero where ``decode`` wrote nothing.
    index : dict
        ``first_slice``, and lists of what ``decode`` returned.

    Notes
    -----
    A stack appears whole under its name or not at all, so a killed process leaves nothing that a later
    one would take for a stack; of two processes that build the same one, the second waits for the first.

    Raises
    ------
    InputError
        When the disk is full or ``cache_dir`` cannot be written to; what ``depth`` and ``decode`` raise.
    """
    from filelock import FileLock

    cache = Path(cache_dir)
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:20]
    folder = cache / f"{prefix}-{digest}"
    if not (folder / _INDEX).exists():
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{folder}.lock"):
                if not (folder / _INDEX).exists():
                    _decode_all(
                        folder, items, depth, decode, shapes, unit, workers=workers, progress=progress
                    )
        except OSError as error:
            place = str(error.filename or "")
            if error.errno not in READ_ONLY or not (
                place.startswith(str(cache)) or str(cache).startswith(place)
            ):
                raise  # a volume that may not be read, say
            fail(
                f"no slices can be kept here ({error.strerror})",
                path=cache,
                remedy="name a folder that you may write to: --cache_dir FOLDER",
            )
    return folder, json.loads((folder / _INDEX).read_text(encoding="utf-8"))


def _decode_all(
    folder: Path,
    items: Sequence[T],
    depth: Callable[[T], int],
    decode: Callable[[T, MapWriter], Mapping[str, Any]],
    shapes: Mapping[str, tuple[tuple[int, ...], str]],
    unit: str,
    *,
    workers: int | None,
    progress: bool,
) -> None:
    """Write the maps of all items beside ``folder``, then rename them to it; the caller holds the lock."""
    from medrestore.progress import progress_bar

    for left in folder.parent.glob(f".partial-{folder.name}-*"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    partial = folder.with_name(f".partial-{folder.name}-{os.getpid()}")
    partial.mkdir()
    bytes_per_slice = {
        name: int(np.prod(shape)) * np.dtype(kind).itemsize for name, (shape, kind) in shapes.items()
    }
    need = 0
    try:
        depths = [depth(item) for item in items]
        first = np.concatenate([[0], np.cumsum(depths)])
        need = int(first[-1]) * sum(bytes_per_slice.values())
        if shutil.disk_usage(partial).free < need:
            _disk_is_full(partial, need)
        begin = {name: _allocate(partial / f"{name}.npy", int(first[-1]), *shapes[name]) for name in shapes}
        writers = [
            MapWriter(
                partial,
                length,
                {name: begin[name] + int(start) * size for name, size in bytes_per_slice.items()},
            )
            for length, start in zip(depths, first[:-1], strict=True)
        ]
        with ThreadPoolExecutor(workers or os.cpu_count()) as executor:
            jobs = [
                executor.submit(decode, item, writer) for item, writer in zip(items, writers, strict=True)
            ]
            try:
                bar = progress_bar(jobs, desc=f"decoding slices to {folder}", unit=unit, disable=not progress)
                records = [job.result() for job in bar]
            except BaseException:
                executor.shutdown(cancel_futures=True)
                raise
        index = {name: [record[name] for record in records] for name in records[0]}
        index["first_slice"] = [int(start) for start in first]
        (partial / _INDEX).write_text(json.dumps(index), encoding="utf-8")
        for file in partial.iterdir():
            with file.open("rb+") as stream:
                os.fsync(stream.fileno())
        if folder.exists():  # without its index: not ours to read
            shutil.rmtree(folder)
        partial.rename(folder)
    except OSError as error:
        if reason := no_room(error):
            _disk_is_full(partial, need, reason)
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _allocate(file: Path, count: int, shape: tuple[int, ...], kind: str) -> int:
    """Make a map's file at its length, header written; return where the first slice begins."""
    with file.open("wb") as stream:
        header = {"descr": kind, "fortran_order": False, "shape": (count, *shape)}
        np.lib.format.write_array_header_1_0(stream, header)
        offset = stream.tell()
        stream.truncate(offset + count * int(np.prod(shape)) * np.dtype(kind).itemsize)
    return offset


def _disk_is_full(folder: Path, need: int, reason: str = "the disk is full") -> None:
    free = shutil.disk_usage(folder).free
    fail(
        f"{reason}: the slices take {need / 2**30:.2f} GiB, {free / 2**30:.2f} GiB are free",
        path=folder.parent,
        remedy="free some space, or name a cache_dir on another disk",
    )
