"""Slice-first memory maps of a split: volumes are decoded once, then slices come at the speed of memory."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medrestore.checks import InputError, fail, require_in_range
from medrestore.data.intensity import SMOOTHING_FWHM_MM, THRESHOLD, foreground_scale
from medrestore.data.volumes import grid_difference, read_grid, read_volume
from medrestore.files import sha256_file

__all__ = ["SliceStack", "center_window"]

_FORMAT = 1
_INDEX = "index.json"
_ARMS = ("degraded", "target")


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


@dataclass(frozen=True, eq=False)
class SliceStack:
    """All axial slices of all pairs of a manifest's rows, as read-only memory maps.

    Made by :meth:`build`.

    Parameters
    ----------
    folder
        Where the maps lie.
    volumes
        Rows of the manifest, one for each volume, numbered from 0.
    scale : (V,) float64
        Foreground scale of each degraded volume; both arms are divided by it.
    first_slice : (V + 1,) int64
        Volume v holds the slices ``first_slice[v]`` to ``first_slice[v + 1] - 1``.
    shapes
        In-plane shape (X, Y) of each volume before it was centered in the stack's.

    Attributes
    ----------
    degraded, target : (N, X, Y) float32
        Slices from the bottom to the top, volume after volume.
    volume_index, slice_index : (N,) int64
        The volume each slice is of, and its place in it.
    """

    folder: Path
    volumes: pd.DataFrame
    scale: NDArray[np.float64]
    first_slice: NDArray[np.int64]
    shapes: tuple[tuple[int, int], ...]
    degraded: NDArray[np.float32] = field(init=False, repr=False)
    target: NDArray[np.float32] = field(init=False, repr=False)
    volume_index: NDArray[np.int64] = field(init=False, repr=False)
    slice_index: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        depth = np.diff(self.first_slice)
        volume_index = np.repeat(np.arange(len(depth)), depth)
        object.__setattr__(self, "volume_index", volume_index)
        object.__setattr__(self, "slice_index", np.arange(len(volume_index)) - self.first_slice[volume_index])
        for arm in _ARMS:
            object.__setattr__(self, arm, np.load(self.folder / f"{arm}.npy", mmap_mode="r"))

    def __len__(self) -> int:
        return int(self.first_slice[-1])

    def __getstate__(self) -> dict[str, Any]:
        # A memory map pickles as a copy of all it maps: a loader process opens it by itself instead.
        return {key: value for key, value in self.__dict__.items() if key not in _ARMS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__post_init__()

    @property
    def spatial_size(self) -> tuple[int, int]:
        """In-plane size (X, Y) of the slices."""
        return self.degraded.shape[1], self.degraded.shape[2]

    @classmethod
    def build(
        cls,
        table: pd.DataFrame,
        cache_dir: str | os.PathLike[str],
        *,
        spatial_size: Sequence[int],
        workers: int | None = None,
        progress: bool = False,
    ) -> SliceStack:
        """Open the stack of a table's rows, decoding the volumes first where no earlier call has.

        Parameters
        ----------
        table
            Rows of :func:`medrestore.data.manifest.read_manifest`, usually of one split.
        cache_dir
            Folder of stacks. Each is named by the checksums of its files and by the parameters, so one that
            was built from other files is never taken for this one.
        spatial_size
            In-plane size (X, Y): slices are centered in it, padded with zeros or cropped.
        workers
            Threads that decode; as many as there are cores when not given.
        progress
            Show a bar.

        Notes
        -----
        A stack appears whole under its name or not at all, so a killed process leaves nothing that a later
        one would take for a stack; of two processes that build the same one, the second waits for the first.

        Raises
        ------
        InputError
            When the table is empty, a file is missing, damaged or not the one the manifest's checksum names,
            a pair is on two grids, or the disk is full.
        """
        from filelock import FileLock

        if table.empty:
            raise InputError(
                "the split is empty: no row of the manifest has it. Remedy: name a split that has rows"
            )
        if len(spatial_size) != 2:
            raise InputError(f"spatial_size must be two numbers (X, Y), got {tuple(spatial_size)}")
        size = (int(spatial_size[0]), int(spatial_size[1]))
        for name, length in zip(("spatial_size[0]", "spatial_size[1]"), size, strict=True):
            require_in_range(name, length, 1, 65535)
        volumes = table.reset_index(drop=True)
        pairs = [_Pair.of(row) for row in volumes.to_dict("records")]
        cache = Path(cache_dir)
        folder = cache / f"slices-{_key(pairs, size)}"
        if not (folder / _INDEX).exists():
            cache.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{folder}.lock"):
                if not (folder / _INDEX).exists():
                    _decode(pairs, folder, size, workers=workers, progress=progress)
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
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
    def of(cls, row: dict[Any, Any]) -> _Pair:
        files = {arm: str(row[f"{arm}_path"]) for arm in _ARMS}
        sums = {}
        for arm, path in files.items():
            given = str(row.get(f"{arm}_sha256") or "").lower()
            if not given and not Path(path).is_file():
                fail("no such file", path=path)
            sums[f"{arm}_sha256"] = given or sha256_file(path)
        return cls(**files, **sums)


def _key(pairs: Sequence[_Pair], size: tuple[int, int]) -> str:
    content = {
        "format": _FORMAT,
        "files": [[pair.degraded_sha256, pair.target_sha256] for pair in pairs],
        "spatial_size": size,
        "scale": [SMOOTHING_FWHM_MM, THRESHOLD],
    }
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:20]


def _decode(
    pairs: Sequence[_Pair], folder: Path, size: tuple[int, int], *, workers: int | None, progress: bool
) -> None:
    """Write the maps of all pairs beside ``folder``, then rename them to it; the caller holds the lock."""
    from tqdm.auto import tqdm

    for left in folder.parent.glob(f".partial-{folder.name}-*"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    partial = folder.with_name(f".partial-{folder.name}-{os.getpid()}")
    partial.mkdir()
    try:
        depths = [_depth(pair.degraded) for pair in pairs]
        first = np.concatenate([[0], np.cumsum(depths)])
        offset = _allocate(partial, (int(first[-1]), *size))
        with ThreadPoolExecutor(workers or os.cpu_count()) as executor:
            jobs = [
                executor.submit(
                    _decode_pair, pair, partial, size, depth, offset + int(start) * size[0] * size[1] * 4
                )
                for pair, depth, start in zip(pairs, depths, first[:-1], strict=True)
            ]
            try:
                bar = tqdm(jobs, desc=f"decoding slices to {folder}", unit="pair", disable=not progress)
                found = [job.result() for job in bar]
            except BaseException:
                executor.shutdown(cancel_futures=True)
                raise
        index = {
            "scale": [scale for scale, _ in found],
            "first_slice": [int(start) for start in first],
            "shapes": [shape for _, shape in found],
        }
        (partial / _INDEX).write_text(json.dumps(index), encoding="utf-8")
        for file in partial.iterdir():
            with file.open("rb+") as stream:
                os.fsync(stream.fileno())
        if folder.exists():  # without its index: not ours to read
            shutil.rmtree(folder)
        partial.rename(folder)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _disk_is_full(partial, 2 * 4 * int(first[-1]) * size[0] * size[1])
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _depth(path: str) -> int:
    """Read the number of axial slices from a file's header."""
    return read_grid(path).canonical_shape[2]


def _allocate(folder: Path, shape: tuple[int, int, int]) -> int:
    """Make both files at their length, headers written; return where the first slice begins."""
    need = 2 * 4 * int(np.prod(shape))
    if shutil.disk_usage(folder).free < need:
        _disk_is_full(folder, need)
    offset = 0
    for arm in _ARMS:
        with (folder / f"{arm}.npy").open("wb") as stream:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(stream, header)
            offset = stream.tell()
            # Written to by ordinary writes, never through a map: a full disk then is an error, not a SIGBUS.
            stream.truncate(offset + need // 2)
    return offset


def _disk_is_full(folder: Path, need: int) -> None:
    free = shutil.disk_usage(folder).free
    fail(
        f"the disk is full: the slices take {need / 2**30:.2f} GiB, {free / 2**30:.2f} GiB are free",
        path=folder.parent,
        remedy="free some space, or name a cache_dir on another disk",
    )


def _decode_pair(
    pair: _Pair, folder: Path, size: tuple[int, int], depth: int, offset: int
) -> tuple[float, tuple[int, int]]:
    """Write one pair's slices at their place; return the degraded volume's scale and in-plane shape."""
    for path, expected in ((pair.degraded, pair.degraded_sha256), (pair.target, pair.target_sha256)):
        if not Path(path).is_file():
            fail("no such file", path=path)
        found = sha256_file(path)
        if found != expected:
            fail(
                f"has checksum {found}, the manifest says {expected}", path=path, remedy="check the manifest"
            )
    degraded, target = read_volume(pair.degraded), read_volume(pair.target)
    difference = grid_difference(degraded, target)
    if difference:
        fail(f"is on another grid than {pair.target}: {difference}", path=pair.degraded)
    try:
        scale = foreground_scale(degraded.data, voxel_size_mm=degraded.voxel_size_mm)
    except InputError as error:
        fail(str(error), path=pair.degraded)
    x, y, _ = degraded.data.shape
    inside, place = center_window((x, y), size)
    for arm, volume in (("degraded", degraded), ("target", target)):
        slices = np.zeros((depth, *size), dtype="<f4")
        np.divide(
            volume.data[inside].transpose(2, 0, 1), np.float32(scale), out=slices[(slice(None), *place)]
        )
        with (folder / f"{arm}.npy").open("rb+") as stream:
            stream.seek(offset)
            stream.write(slices.data)
    return scale, (x, y)
