"""NIfTI files as nibabel opens them, with every fault of a file named."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import fail, one_line
from medrestore.data.grid import GRID_FIELDS, SourceGrid, require_usable_affine

__all__ = ["load_image", "source_grid", "stored_voxels"]

_MM_OF_UNIT = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}


def load_image(path: Path) -> Any:
    """Open a NIfTI file with nibabel; its voxels are not read yet.

    Raises
    ------
    InputError
        When there is no such file, or it is no NIfTI file.
    """
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    if not path.is_file():
        fail("no such file" if not path.exists() else "is no file, expected a NIfTI file", path=path)
    try:
        # Without a memory map: another process that truncates the file must not end this one by SIGBUS.
        image: Any = nibabel.load(path, mmap=False)
    except (ImageFileError, OSError, EOFError, ValueError, zlib.error, MemoryError) as error:
        fail(
            f"cannot be read as NIfTI ({one_line(error)})",
            path=path,
            remedy="convert it to NIfTI, or copy it again if damaged",
        )
    if not isinstance(image, nibabel.Nifti1Image | nibabel.Nifti2Image):
        fail(
            f"is not a single-file NIfTI but {type(image).__name__}",
            path=path,
            remedy="convert it to .nii.gz, which keeps orientation and scale in one file",
        )
    return image


def source_grid(image: Any, path: Path, *, channels: bool = False) -> SourceGrid:
    """Return the grid of an open file; of one of its images where a fourth axis holds ``channels``.

    Raises
    ------
    InputError
        When the file is of another number of dimensions, not of numbers, or without a usable affine.
    """
    import nibabel

    header = image.header
    shape = tuple(int(count) for count in image.shape)
    if channels and len(shape) not in (3, 4):
        fail(
            f"has {len(shape)} dimensions {shape}, expected 4: X, Y, Z and the channels",
            path=path,
            remedy="store the channels along the fourth axis, or as one 3D file each",
        )
    if not channels and len(shape) != 3 and (len(shape) != 4 or shape[3] != 1):
        fail(
            f"has {len(shape)} dimensions {shape}, expected 3",
            path=path,
            remedy="pass one frame (or their mean) of a dynamic series as a 3D file"
            if len(shape) > 3
            else "pass a volume",
        )
    if min(shape) < 1:
        fail(f"has no voxels: shape {shape}", path=path)
    if header.get_data_dtype().kind not in ("iufc" if channels else "iuf"):
        expected = "real or complex numbers" if channels else "real numbers"
        fail(f"holds voxels of type {header.get_data_dtype()}, expected {expected}", path=path)
    unit = header.get_xyzt_units()[0]
    affine = np.array(image.affine, dtype=np.float64)
    affine[:3] *= _MM_OF_UNIT[unit]
    require_usable_affine(affine, path=path)
    fields = {name: np.array(header[name]) for name in GRID_FIELDS}
    if channels:  # a single image has no step of time
        fields["pixdim"][4:] = 1
        fields["xyzt_units"] &= 0b111
    return SourceGrid(
        shape=shape[:3] if channels else shape,
        affine=affine,
        header=fields,
        nifti_version=2 if isinstance(image, nibabel.Nifti2Image) else 1,
        dtype=str(header.get_data_dtype().newbyteorder("=")),
    )


def stored_voxels(image: Any, path: Path, kind: type[np.generic] = np.float32) -> NDArray[Any]:
    """Read the voxels of an open file as stored, scaled by its slope and intercept.

    Raises
    ------
    InputError
        When the file is truncated or damaged.
    """
    from nibabel.arrayproxy import ArrayProxy

    stored = image.dataobj
    try:
        if path.name.lower().endswith(".gz"):
            # nibabel stops at the last voxel; only who reads on to the end has the checksum verified.
            content = io.BytesIO(gzip.decompress(path.read_bytes()))
            stored = ArrayProxy(
                content, (stored.shape, stored.dtype, stored.offset, stored.slope, stored.inter)
            )
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is reported as not finite
            return np.asarray(stored, dtype=kind)
    except (OSError, EOFError, ValueError, zlib.error, MemoryError) as error:
        fail(f"is truncated or damaged ({one_line(error)})", path=path, remedy="copy or convert it again")
