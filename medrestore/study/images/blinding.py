"""Blinded images: voxels and grid of a source on a header made from scratch, one for all arms of a case.

A volume becomes int16 on one slope for all arms of its case, a picture RGB24. All images of a case have the
same header to the last byte, and the same size.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import InputError, fail
from medrestore.data.grid import SourceGrid
from medrestore.files import atomic_path

__all__ = [
    "FILE_TIME",
    "blinded_header",
    "common_slope",
    "quantized",
    "read_picture",
    "set_file_time",
    "write_blinded",
]

FILE_TIME = 946_684_800
"""Time of every file that is handed out, 2000-01-01 UTC in seconds: when an image was made tells its arm."""

INT16_PEAK = 32767

LEAST_STEPS = 256
"""Gray levels between 0 and the window's end that the slope must leave: a screen shows as many."""


def read_picture(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read an RGB picture.

    Parameters
    ----------
    path
        PNG or TIFF, 8 bits a channel.

    Returns
    -------
    (X, Y, 1, 3) uint8
        Columns from left to right, rows from bottom to top, so that a viewer which draws y upwards shows the
        picture upright.

    Raises
    ------
    InputError
        When the file is missing or damaged, of another format, not RGB of 8 bits (gray, palette, alpha, more
        bits), has several pages, or is to be turned for display.

    Notes
    -----
    Values are taken as they are: color profiles are dropped, like everything else beside the pixels.
    """
    from PIL import Image, UnidentifiedImageError

    path = Path(path)
    if not path.is_file():
        fail("no such file", path=path)
    try:
        with Image.open(path, formats=("PNG", "TIFF")) as image:
            transparent = "A" in image.getbands() or "transparency" in image.info
            if image.mode != "RGB" or transparent:
                fail(
                    f"has {'an alpha channel' if transparent else f'pixels of type {image.mode}'}, "
                    "expected RGB of 8 bits",
                    path=path,
                    remedy="save all arms as RGB without alpha",
                )
            if getattr(image, "n_frames", 1) != 1:
                fail("has several pages, expected one picture", path=path)
            if image.getexif().get(0x0112, 1) != 1:
                fail(
                    "is stored turned (EXIF orientation)",
                    path=path,
                    remedy="turn the pixels of all arms themselves",
                )
            pixels = np.asarray(image, dtype=np.uint8)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: cannot be read as PNG or TIFF ({' '.join(str(error).split())}). "
            "Remedy: save it as RGB PNG"
        ) from error
    return np.ascontiguousarray(pixels[::-1].transpose(1, 0, 2)[:, :, None, :])


def common_slope(arms: Sequence[NDArray[np.float32]], *, window: tuple[float, float]) -> float:
    """Return the int16 step that all arms of a case are stored with; 0 stays 0, negative values stay.

    The largest magnitude in any arm becomes 32767. With a slope of its own, an arm's largest value could be
    read off the header.

    Raises
    ------
    InputError
        When some voxel of an arm is so far above all others that the window would show steps.

    >>> arms = [np.array([0, -65534], np.float32), np.array([1000, 2000], np.float32)]
    >>> common_slope(arms, window=(0, 2000))
    2.0
    """
    peak = max(max(float(arm.max()), -float(arm.min())) for arm in arms)
    slope = float(np.float32(peak / INT16_PEAK))
    if slope < np.finfo(np.float32).tiny:
        raise InputError(f"the largest value, {peak:.3g}, is too small to be stored as float32 slope")
    if (window[1] - window[0]) / slope < LEAST_STEPS:
        raise InputError(
            f"the largest value, {peak:.4g}, is more than {INT16_PEAK // LEAST_STEPS} times what the display "
            f"window spans, {window[1] - window[0]:.4g}: stored as int16 the images would show steps. "
            "Remedy: find the voxels that are off, and set them to a meaningful value"
        )
    return slope


def quantized(volume: NDArray[np.float32], slope: float) -> NDArray[np.int16]:
    """Return a volume in steps of ``slope``, rounded to the nearest, X fastest in memory.

    Parameters
    ----------
    volume : (X, Y, Z) float32
    slope
        Of :func:`common_slope`.

    Returns
    -------
    (X, Y, Z) int16, little-endian
    """
    steps = np.empty(volume.shape, dtype="<i2", order="F")
    buffer = np.empty(volume.shape[:2], dtype=np.float32, order="F")
    for index in range(volume.shape[2]):  # a plane fits into the processor's cache
        np.divide(volume[:, :, index], np.float32(slope), out=buffer)
        steps[:, :, index] = np.rint(buffer, out=buffer)
    return steps


def blinded_header(
    shape: Sequence[int],
    affine: NDArray[np.float64],
    *,
    slope: float | None,
    window: tuple[float, float],
    path: Path,
) -> bytes:
    """Return the 352 bytes in front of the voxels: NIfTI-1, nothing in it but grid, scale and window.

    Parameters
    ----------
    shape
        (X, Y, Z).
    affine : (4, 4) float64
        Voxel indices to mm, RAS+; becomes qform and sform, code 1 (scanner).
    slope
        Of int16 voxels; None for RGB24.
    window
        ``cal_min`` and ``cal_max``.
    path
        Named by errors.

    Raises
    ------
    InputError
        When NIfTI-1 cannot hold the shape.
    """
    import nibabel
    from nibabel.spatialimages import HeaderDataError

    header = nibabel.Nifti1Header(endianness="<")
    if slope is None:
        header.set_data_dtype(np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    else:
        header.set_data_dtype(np.int16)
    try:
        header.set_data_shape(tuple(shape))
    except HeaderDataError as error:
        raise InputError(f"{path}: NIfTI-1 cannot hold the shape {tuple(shape)} ({error})") from error
    for name, value in SourceGrid.from_affine(shape, affine).header.items():
        header[name] = value
    header["scl_slope"], header["scl_inter"] = slope or 1, 0
    header["cal_min"], header["cal_max"] = window
    header["vox_offset"] = 352
    block: bytes = header.binaryblock
    return block + bytes(4)  # four zeros: no extension follows


def write_blinded(header: bytes, voxels: NDArray[np.int16] | NDArray[np.uint8], path: Path) -> str:
    """Write an image, and read it back.

    Parameters
    ----------
    header
        Of :func:`blinded_header`.
    voxels : (X, Y, Z) int16 or (X, Y, 1, 3) uint8
        RGB interleaved.
    path
        Of the new file; its time is :data:`FILE_TIME`.

    Returns
    -------
    str
        SHA-256 of the bytes that the file then holds; they were compared with those in memory.

    Raises
    ------
    InputError
        When the disk is full, or does not give back what was written.
    """
    # X fastest, and the three colors of a pixel together.
    stored = np.ascontiguousarray(voxels.transpose(2, 1, 0, *range(3, voxels.ndim)))
    content = b"".join((header, stored.data))
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
        set_file_time(temporary)
    served = path.read_bytes()
    if served != content:
        path.unlink()
        fail("the disk gives back other bytes than were written", path=path, remedy="use another disk")
    return hashlib.sha256(served).hexdigest()


def set_file_time(path: Path) -> None:
    """Give a file or folder the time that all of them have."""
    os.utime(path, (FILE_TIME, FILE_TIME))
