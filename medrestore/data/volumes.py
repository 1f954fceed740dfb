"""Volumes in memory and on disk: canonical axes inside, the source's exact grid outside.

Convention: a volume is a NumPy array (X, Y, Z), float32, its axes running to the subject's right, anterior
and superior (RAS+); its affine maps voxel indices to mm. How the file stored it is kept for writing.
"""

from __future__ import annotations

import gzip
import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import fail, require_in_set
from medrestore.data.grid import SourceGrid
from medrestore.data.nifti import nifti_stem, open_nifti, source_grid, stored_voxels
from medrestore.files import atomic_path

__all__ = [
    "DTYPES",
    "SourceGrid",
    "Volume",
    "grid_difference",
    "nifti_stem",
    "read_grid",
    "read_series",
    "read_volume",
    "write_channels",
    "write_volume",
]

DTYPES = ("float32", "float64", "int16", "int32", "uint8", "uint16")
"""Voxel types that :func:`write_volume` stores."""

GRID_TOLERANCE = 0.01
"""Largest distance, in voxels, between corners of two grids that count as one. NIfTI-1 keeps affines as
float32, rotations as unit quaternions: over 500 mm they are off by less than 0.001 mm."""


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3D image in canonical axes.

    Parameters
    ----------
    data : (X, Y, Z) float32
        In the file's units (PET: SUV, g/mL).
    affine : (4, 4) float64
        Voxel indices to mm, RAS+.
    source
        The grid as the file stores it, for :func:`write_volume`.
    path
        Where it was read from; None for a volume made in memory.
    voxel_size_mm
        Of X, Y, Z; follows from the affine.
    """

    data: NDArray[np.float32]
    affine: NDArray[np.float64]
    source: SourceGrid
    path: Path | None = None
    voxel_size_mm: tuple[float, float, float] = field(init=False)

    def __post_init__(self) -> None:
        x, y, z = (float(size) for size in np.linalg.norm(self.affine[:3, :3], axis=0))
        object.__setattr__(self, "voxel_size_mm", (x, y, z))


def read_volume(
    path: str | os.PathLike[str], *, finite: bool = True, order: Literal["C", "F"] = "C"
) -> Volume:
    """Read a 3D NIfTI file.

    Parameters
    ----------
    path
        A ``.nii`` or ``.nii.gz`` file of three dimensions; a fourth of length one is accepted.
    finite
        Refuse volumes with NaN or infinite voxels.
    order
        Of the array in memory: ``F`` (X fastest, as files store it) spares turning a volume that is only
        written again.

    Returns
    -------
    Volume
        (X, Y, Z) float32, canonical axes, scaled by the file's slope and intercept; units are kept, lengths
        in mm (a file that names no unit of length is taken to be in mm, as is common).

    Warns
    -----
    UserWarning
        When the file states no orientation (both codes 0): left and right are then a guess.

    Raises
    ------
    InputError
        When the file is missing, truncated, not NIfTI, not 3D, not of real numbers, not finite, or without a
        usable affine.
    """
    path = Path(path)
    file = open_nifti(path)
    source = source_grid(file)
    _warn_without_orientation(source, path)
    data: NDArray[np.float32] = np.asarray(
        source.to_canonical(stored_voxels(file).reshape(source.shape[:3])),
        dtype=np.float32,
        order=order,
    )
    if finite:
        _require_finite(data, path)
    return Volume(data=data, affine=source.canonical_affine(), source=source, path=path)


def read_series(path: str | os.PathLike[str]) -> tuple[NDArray[Any], SourceGrid]:
    """Read a NIfTI file of several images on one grid: channels along the fourth axis.

    Parameters
    ----------
    path
        A ``.nii`` or ``.nii.gz`` file of four dimensions, or of three: one channel. Real or complex.

    Returns
    -------
    data : (C, X, Y, Z) float32 or complex64
        Canonical axes, scaled by the file's slope and intercept.
    source : SourceGrid
        Of one of its images, a 3D grid.

    Warns
    -----
    UserWarning
        As :func:`read_volume` does.

    Raises
    ------
    InputError
        When the file is missing, truncated, not NIfTI, of fewer than 3 or more than 4 dimensions, not
        finite, or without a usable affine.
    """
    path = Path(path)
    file = open_nifti(path)
    source = source_grid(file, channels=True)
    _warn_without_orientation(source, path)
    kind = np.complex64 if file.dtype.kind == "c" else np.float32
    stored = stored_voxels(file, kind).reshape(*source.shape, -1)
    data = np.ascontiguousarray(np.moveaxis(source.to_canonical(stored), 3, 0))
    _require_finite(data, path)
    return data, source


def _warn_without_orientation(source: SourceGrid, path: Path) -> None:
    if not source.states_orientation:
        warnings.warn(
            f"{path}: states no orientation (qform and sform codes are 0); which side is left is a guess",
            stacklevel=3,
        )


def _require_finite(data: NDArray[Any], path: Path) -> None:
    finite = np.isfinite(data)
    if not finite.all():
        fail(
            f"{data.size - np.count_nonzero(finite)} of {data.size} voxels are not finite (NaN or infinite)",
            path=path,
            remedy="find out where they come from, and set them to a meaningful value",
        )


def read_grid(path: str | os.PathLike[str], *, channels: bool = False) -> SourceGrid:
    """Read the grid of a 3D NIfTI file from its header, without the voxels.

    Parameters
    ----------
    path
        A ``.nii`` or ``.nii.gz`` file.
    channels
        Of a file for :func:`read_series`: the grid of one of its images.

    Raises
    ------
    InputError
        As :func:`read_volume` and :func:`read_series` do for what a header shows.
    """
    return source_grid(open_nifti(Path(path)), channels=channels)


def grid_difference(first: Volume, second: Volume) -> str:
    """Say how the grids of two volumes differ; empty where they are the same.

    The same: equal shape in canonical axes, and corners within a hundredth of the smallest voxel edge.
    """
    if first.data.shape != second.data.shape:
        return f"shape {first.data.shape} against {second.data.shape}"
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=np.float64)
    corners[:, :3] *= np.array(first.data.shape) - 1
    distance = float(np.abs(corners @ (first.affine - second.affine).T).max())
    if distance > GRID_TOLERANCE * min(first.voxel_size_mm):
        return f"affine: corners up to {distance:.3g} mm apart"
    return ""


def write_volume(
    data: NDArray[Any], source: SourceGrid, path: str | os.PathLike[str], *, dtype: str = "float32"
) -> Path:
    """Write a volume as NIfTI on the source's exact grid.

    Parameters
    ----------
    data : (X, Y, Z)
        In canonical axes; turned back to the axes in which the source is stored.
    source
        The grid: affine, qform and sform with their codes, voxel sizes and units are written as they were.
    path
        ``.nii``, or ``.nii.gz`` (gzip level 1: three times faster than 9, a few percent larger).
    dtype
        One of :data:`DTYPES`. Policy: intensities are float32 whatever the source has, since a restored
        image is no longer a multiple of the source's step; whole-number types are for label maps. Slope 1,
        intercept 0: what is stored is the value.

    Returns
    -------
    Path
        The file: whole, or not there (or as it was before).

    Notes
    -----
    The header is built anew: no description, auxiliary file, intent or extension of the source is carried
    over, which could hold names or dates. Nothing depends on time, so the same data give the same bytes.

    Raises
    ------
    InputError
        When the shape is not the source's, values are not finite or do not fit ``dtype``, or the disk is
        full.
    """
    path = Path(path)
    nifti_stem(path)
    require_in_set("dtype", dtype, DTYPES)
    if data.shape != source.canonical_shape:
        fail(
            f"data of shape {data.shape} do not fit the source's grid, {source.canonical_shape} in RAS+ axes",
            path=path,
        )
    return _write(_header(source, dtype, source.shape) + _stored_bytes(data, source, dtype, path), path)


def write_channels(
    data: NDArray[Any], source: SourceGrid, path: str | os.PathLike[str], *, dtype: str = "float32"
) -> Path:
    """Write several images of one acquisition as one 4D NIfTI, channels last in the file.

    Parameters
    ----------
    data : (C, X, Y, Z)
        Channels of volumes in canonical axes.
    source
        The grid of each channel, written as :func:`write_volume` does.
    path
        ``.nii``, or ``.nii.gz``.
    dtype
        One of :data:`DTYPES`, or ``complex64``.

    Returns
    -------
    Path
        The file: whole, or not there (or as it was before).

    Raises
    ------
    InputError
        As :func:`write_volume` does.
    """
    path = Path(path)
    nifti_stem(path)
    require_in_set("dtype", dtype, (*DTYPES, "complex64"))
    if data.ndim != 4 or data.shape[1:] != source.canonical_shape:
        fail(
            f"channels of shape {data.shape} do not fit the source's grid, {source.canonical_shape} in "
            "RAS+ axes",
            path=path,
        )
    header = _header(source, dtype, (*source.shape[:3], len(data)))
    return _write(header + b"".join(_stored_bytes(channel, source, dtype, path) for channel in data), path)


def _write(content: bytes, path: Path) -> Path:
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        if path.name.lower().endswith(".gz"):
            with gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=stream, mtime=0) as packed:
                packed.write(content)
        else:
            stream.write(content)
    return path


def _header(source: SourceGrid, dtype: str, shape: tuple[int, ...]) -> bytes:
    import nibabel

    header = (
        nibabel.Nifti2Header(endianness="<")
        if source.nifti_version == 2
        else nibabel.Nifti1Header(endianness="<")
    )
    header.set_data_dtype(np.dtype(dtype))
    header.set_data_shape(shape)
    for name, value in source.header.items():
        header[name] = value
    header["scl_slope"], header["scl_inter"] = 1, 0
    block: bytes = header.binaryblock
    header["vox_offset"] = len(block) + 4
    block = header.binaryblock
    return block + bytes(4)  # four zeros: no extension follows


def _stored_bytes(data: NDArray[Any], source: SourceGrid, dtype: str, path: Path) -> bytes:
    with np.errstate(over="ignore", invalid="ignore"):
        values = source.to_stored(data).astype(np.dtype(dtype).newbyteorder("<"))
    if np.dtype(dtype).kind in "fc":
        if not np.isfinite(values).all():
            fail(f"values are not finite, or too large for {dtype}: nothing was written", path=path)
    elif not np.array_equal(values, source.to_stored(data)):
        fail(
            f"values are not whole numbers that fit {dtype}", path=path, remedy="use float32 for intensities"
        )
    return values.tobytes(order="F")
