"""NIfTI files, read with every field of the header looked at first: a fault names the file and the field.

nibabel knows what the fields mean and scales voxels. What it would mend or take for granted is checked here:
a header is all that tells 88 of its own bytes from voxels, or left from right.
"""

from __future__ import annotations

import bz2
import gzip
import io
import math
import os
import shlex
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import fail, one_line
from medrestore.data.grid import GRID_FIELDS, SourceGrid, require_usable_affine
from medrestore.files import require_file

__all__ = ["NiftiFile", "nifti_stem", "open_nifti", "sidecar_path", "source_grid", "stored_voxels"]

QUATERNION_TOLERANCE = 1e-5
"""By which the length of b, c, d may exceed 1: rounding, which ITK takes out as well; more is damage."""

EDGES_MM = (1e-5, 1e4)
"""Lengths of a voxel's edge outside of which a header is taken for damaged."""

LARGEST_RATIO = 1100
"""Bytes that one byte of gzip can hold at most (1032, and some for the end of the file)."""

LARGEST_REST = 511
"""Bytes that may follow the voxels: padding to a block of 512. More is a header that claims too little."""

_MM_OF_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # unknown is taken for mm, as is common
_TIME_UNITS = (0, 8, 16, 24, 32, 40, 48)
_LARGEST_CODE = 5
_BLOCK = 1 << 20
_PACKED: dict[bytes, Callable[[BinaryIO], Any]] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open}
_HEADER_BYTES = 544
_FOREIGN = (
    (128, b"DICM", "DICOM", "convert it to NIfTI, for example by dcm2niix"),
    (0, b"NRRD", "NRRD", ""),
    (0, b"ObjectType", "MetaImage", ""),
    (0, b"\x89HDF", "HDF5 (MINC 2)", ""),
    (0, b"CDF", "NetCDF (MINC 1)", ""),
    (0, b"MATRIX7", "ECAT 7", ""),
    (0, b"PK\x03\x04", "a zip archive", "unpack it"),
    (0, b"version https://git-lfs", "the pointer of a file kept by Git LFS", "fetch it with git lfs pull"),
    (0, b"<", "a web page", "download the file again"),
)


@dataclass(frozen=True, eq=False)
class NiftiFile:
    """A NIfTI file whose header is sound, as far as a header shows; its voxels are not read yet.

    Parameters
    ----------
    path
        The file.
    header
        nibabel's, of NIfTI-1 or NIfTI-2.
    shape
        As stored.
    dtype
        Of the stored voxels, with their byte order.
    scale
        Slope and intercept; None where there is none to apply.
    offset
        Byte at which the voxels begin.
    """

    path: Path
    header: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: tuple[float, float] | None
    offset: int

    @property
    def version(self) -> int:
        """1 or 2."""
        return 2 if int(self.header["sizeof_hdr"]) == 540 else 1

    @property
    def length(self) -> int:
        """Bytes that the header claims, unpacked."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize

    @property
    def claim(self) -> str:
        """What the header claims, in words that name its fields."""
        shape, dtype = " x ".join(map(str, self.shape)), self.dtype.newbyteorder("=")
        fields = "dim, datatype, vox_offset"
        return f"{shape} voxels of {dtype} from byte {self.offset} ({fields}): {self.length} bytes"


def nifti_stem(path: str | os.PathLike[str]) -> str:
    """Return a NIfTI file's name without its ending.

    >>> nifti_stem("sub-0001/target.nii.gz")
    'target'

    Raises
    ------
    InputError
        When the name ends neither in .nii nor in .nii.gz.
    """
    path = Path(path)
    for ending in (".nii.gz", ".nii"):
        if path.name.lower().endswith(ending) and len(path.name) > len(ending):
            return path.name[: -len(ending)]
    _refuse_pair(path)
    return fail("has no NIfTI name", path=path, remedy="name it .nii.gz or .nii")


def sidecar_path(path: str | os.PathLike[str]) -> Path:
    """Return where the JSON sidecar of a NIfTI file lies, or would lie; its ending may be in upper case too.

    >>> sidecar_path("sub-0001/mdme.nii.gz").name
    'mdme.json'
    """
    sidecar = Path(path).with_name(f"{nifti_stem(path)}.json")
    upper = sidecar.with_suffix(".JSON")
    return upper if not sidecar.exists() and upper.is_file() else sidecar


def open_nifti(path: Path) -> NiftiFile:
    """Read the header of a NIfTI file and check its fields.

    Raises
    ------
    InputError
        When there is no such file, it is no NIfTI file, or a field of its header cannot be right.
    """
    _refuse_pair(require_file(path, expected="a NIfTI file"))
    try:
        with _unpacked(path) as stream:
            block = stream.read(_HEADER_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        fail(
            f"cannot be read as NIfTI ({one_line(error)})",
            path=path,
            remedy="convert it to NIfTI, or copy it again if damaged",
        )
    header = _header(block, path)
    shape = _shape(header, path)
    dtype = _dtype(header, path)
    file = NiftiFile(path, header, shape, dtype, _scale(header, path), _offset(header, path))
    _check_units_and_codes(header, path)
    return file


def source_grid(file: NiftiFile, *, channels: bool = False) -> SourceGrid:
    """Return the grid of a file; of one of its images where a fourth axis holds ``channels``.

    Raises
    ------
    InputError
        When the file is of another number of dimensions, not of numbers, or without a usable affine.
    """
    path, header, shape = file.path, file.header, file.shape
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
    if file.dtype.kind not in ("iufc" if channels else "iuf"):
        expected = "real or complex numbers" if channels else "real numbers"
        fail(f"holds voxels of type {file.dtype}, expected {expected} (datatype)", path=path)
    affine = _affine(header, path)
    fields = {name: np.array(header[name]) for name in GRID_FIELDS}
    if channels:  # a single image has no step of time
        fields["pixdim"][4:] = 1
        fields["xyzt_units"] &= np.uint8(0b111)
    return SourceGrid(
        shape=shape[:3] if channels else shape,
        affine=affine,
        header=fields,
        nifti_version=file.version,
        dtype=str(file.dtype.newbyteorder("=")),
    )


def stored_voxels(file: NiftiFile, kind: type[np.generic] = np.float32) -> NDArray[Any]:
    """Read the voxels of a file as stored, scaled by its slope and intercept.

    Raises
    ------
    InputError
        When the file is truncated or damaged, or its scale makes voxels overflow.
    """
    from nibabel.arrayproxy import ArrayProxy

    slope, inter = file.scale or (1.0, 0.0)
    try:
        with _content(file) as content:
            stored = ArrayProxy(content, (file.shape, file.dtype, file.offset, slope, inter), mmap=False)
            try:
                # What overflows is reported as not finite.
                with np.errstate(over="ignore", invalid="ignore"):
                    voxels = np.asarray(stored, dtype=kind)
                overflow = file.scale is not None and not np.isfinite(voxels).all()
                if not overflow or not np.isfinite(stored.get_unscaled()).all():
                    return voxels
            except ValueError:  # nibabel knows no type that holds the scaled voxels
                pass
    except MemoryError:
        fail(
            f"does not fit into memory: its header claims {file.claim}",
            path=file.path,
            remedy="use a machine with more memory, or mend the header",
        )
    except (OSError, EOFError, zlib.error) as error:
        _damaged(file, one_line(error))
    return fail(
        f"its scale makes voxels overflow: scl_slope {slope:g}, scl_inter {inter:g}",
        path=file.path,
        remedy="set the scale that its voxels were stored with",
    )


@contextmanager
def _unpacked(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading, through a decompressor where its first bytes say so, whatever its name."""
    with path.open("rb") as stream:
        unpack = _PACKED.get(stream.read(2))
        stream.seek(0)
        if unpack is None:
            yield stream
            return
        with unpack(stream) as unpacked:
            yield cast("BinaryIO", unpacked)


@contextmanager
def _content(file: NiftiFile) -> Iterator[BinaryIO]:
    """Give the file's content: as long as its header claims, its checksum verified, never much longer."""
    packed = file.path.stat().st_size
    with _unpacked(file.path) as stream:
        plain = isinstance(stream, io.BufferedReader)
        if file.length > packed * (1 if plain else LARGEST_RATIO):
            _damaged(file, f"its header claims {file.claim}; the file has {packed}, which cannot hold them")
        if plain:
            held, content = packed, stream
        else:
            # To the end: only who reads on so far has the checksum verified. In blocks: neither a header nor
            # an archive that claims more than there is takes the memory.
            blocks, held = [], 0
            while held <= file.length + LARGEST_REST and (block := stream.read(_BLOCK)):
                blocks.append(block)
                held += len(block)
            content = cast("BinaryIO", io.BytesIO(b"".join(blocks)))
            del blocks
        if held < file.length:
            _damaged(file, f"its header claims {file.claim}; the file holds {held}")
        if held > file.length + LARGEST_REST:
            fail(
                f"holds more than its header claims: {file.claim}",
                path=file.path,
                remedy="mend the header, or convert the file again",
            )
        yield content


def _damaged(file: NiftiFile, reason: str) -> NoReturn:
    fail(f"is truncated or damaged ({reason})", path=file.path, remedy="copy or convert it again")


def _conversion(image: Path, nifti: Path) -> str:
    """Return a command that converts, to be pasted into a shell: a name in it is never code."""
    code = "import sys, nibabel as n; n.save(n.load(sys.argv[1]), sys.argv[2])"
    return f"convert it: python -c '{code}' {shlex.quote(str(image))} {shlex.quote(str(nifti))}"


def _refuse_pair(path: Path) -> None:
    """Refuse what holds header and voxels in two files, with a command that makes one of them."""
    ending = next(
        (end for end in (".hdr", ".img", ".hdr.gz", ".img.gz") if path.name.lower().endswith(end)), ""
    )
    if ending:
        stem, own = path.name[: -len(ending)], path.name[-len(ending) :]
        image = path.with_name(stem + own.replace("hdr", "img").replace("HDR", "IMG"))
        fail(
            "is not a single-file NIfTI but one half of a pair, .hdr and .img",
            path=path,
            remedy=_conversion(image, path.with_name(f"{stem}.nii.gz")),
        )


def _header(block: bytes, path: Path) -> Any:
    """Return nibabel's header of the first bytes of a file, in its byte order."""
    import nibabel

    if block[:2] in _PACKED:
        fail("is compressed twice", path=path, remedy="expand it once, for example by gunzip")
    sizes = {int.from_bytes(block[:4], order): order for order in ("little", "big")} if block else {}
    size = next((size for size in (348, 540) if size in sizes), None)
    magics = {348: block[344:348], 540: block[4:12]}
    if size is None:
        _refuse_foreign(block, path)
        expected = 540 if block[4:7] in (b"n+2", b"ni2") else 348
        if expected == 540 or magics[348][:2] in (b"n+", b"ni"):
            _refuse_field(path, "sizeof_hdr", f"{min(sizes, key=abs)}, expected {expected}")
        fail(
            "cannot be read as NIfTI (it is empty)"
            if not block
            else "cannot be read as NIfTI (no such header)",
            path=path,
            remedy="convert it to NIfTI, or copy it again if damaged",
        )
    if len(block) < size:
        fail(
            f"cannot be read as NIfTI (truncated: a header has {size} bytes, this file {len(block)})",
            path=path,
            remedy="copy or convert it again",
        )
    magic = magics[size]
    right = b"n+1\0" if size == 348 else b"n+2\0\r\n\x1a\n"
    if magic[:3] in (b"ni1", b"ni2"):
        stem = path.name.split(".")[0]
        fail(
            f"is not a single-file NIfTI: magic {magic[:3].decode()!r} says that another file has its voxels",
            path=path,
            remedy=f"name it {stem}.hdr beside the voxels, {stem}.img; then "
            + _conversion(path.with_name(f"{stem}.img"), path.with_name(f"{stem}_single.nii.gz")),
        )
    if magic != right:
        _refuse_field(
            path,
            "magic",
            f"{magic!r}, expected {right!r}: of Analyze 7.5, which states no orientation, or damaged",
        )
    kind = nibabel.Nifti1Header if size == 348 else nibabel.Nifti2Header
    return kind(block[:size], endianness="<" if sizes[size] == "little" else ">", check=False)


def _refuse_foreign(block: bytes, path: Path) -> None:
    for place, start, name, remedy in _FOREIGN:
        if block[place : place + len(start)] == start:
            fail(f"cannot be read as NIfTI: it is {name}", path=path, remedy=remedy or "convert it to NIfTI")
    if path.name.lower().endswith((".mgz", ".mgh")) and block[:4] == b"\0\0\0\1":
        fail(
            "is not a single-file NIfTI but of FreeSurfer's MGH",
            path=path,
            remedy=_conversion(path, path.with_suffix(".nii.gz")),
        )


def _refuse_field(path: Path, field: str, found: str, remedy: str = "") -> NoReturn:
    fail(
        f"its header cannot be right: {field} is {found}",
        path=path,
        remedy=remedy or "convert the scan to NIfTI again, or mend the header",
    )


def _shape(header: Any, path: Path) -> tuple[int, ...]:
    axes = int(header["dim"][0])
    if not 1 <= axes <= 7:
        _refuse_field(path, "dim[0]", f"{axes}, expected 1 to 7 axes")
    shape = tuple(int(count) for count in header["dim"][1 : axes + 1])
    if min(shape) < 1:
        fail(f"has no voxels: shape {shape} (dim)", path=path, remedy="convert the scan to NIfTI again")
    return shape


def _dtype(header: Any, path: Path) -> np.dtype[Any]:
    from nibabel.nifti1 import data_type_codes

    code, bits = int(header["datatype"]), int(header["bitpix"])
    known = data_type_codes.dtype
    dtype = np.dtype(known[code]) if code in known else np.dtype("V0")
    if dtype.itemsize == 0:
        _refuse_field(path, "datatype", f"{code}, which is no type of voxels that can be read")
    if bits not in (0, 8 * dtype.itemsize):  # some writers leave it 0
        _refuse_field(
            path, "bitpix", f"{bits}, but datatype {code} ({dtype}) has {8 * dtype.itemsize} bits a voxel"
        )
    return dtype.newbyteorder(header.endianness)


def _scale(header: Any, path: Path) -> tuple[float, float] | None:
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or math.isnan(slope) or (slope, inter) == (1, 0):  # by the standard: there is none
        return None
    for field, value in (("scl_slope", slope), ("scl_inter", inter)):
        if not math.isfinite(value):
            _refuse_field(path, field, f"{value}, expected a finite number")
    return slope, inter


def _offset(header: Any, path: Path) -> int:
    offset, first = float(header["vox_offset"]), int(header["sizeof_hdr"]) + 4
    if not math.isfinite(offset) or offset != int(offset) or offset < first:
        _refuse_field(
            path,
            "vox_offset",
            f"{offset:g}, expected a whole number of at least {first}: before it, header is read as voxels",
        )
    return int(header["vox_offset"])


def _check_units_and_codes(header: Any, path: Path) -> None:
    """Refuse units and kinds of space that there are not; drop a unit of time that there is not."""
    space, time = int(header["xyzt_units"]) & 0b111, int(header["xyzt_units"]) & 0b11111000
    if space not in _MM_OF_UNIT:
        _refuse_field(
            path, "xyzt_units", f"{space} (unit of length), expected 0 unknown, 1 m, 2 mm or 3 micrometers"
        )
    if time not in _TIME_UNITS:  # of no use in a volume, and no reader could name it
        header["xyzt_units"] = space
    for field in ("qform_code", "sform_code"):
        if not 0 <= int(header[field]) <= _LARGEST_CODE:
            _refuse_field(path, field, f"{int(header[field])}, expected 0 to {_LARGEST_CODE}")


def _affine(header: Any, path: Path) -> NDArray[np.float64]:
    """Return the affine (4, 4) in mm; what another reader could not use is mended or refused."""
    sizes = np.array(header["pixdim"][1:4], dtype=np.float64)
    if not np.isfinite(sizes).all():
        _refuse_field(path, "pixdim", f"{sizes.tolist()}, expected finite voxel sizes")
    if header["sform_code"] > 0:
        source = "srow_x, srow_y, srow_z"
        affine = np.array(header.get_sform(), dtype=np.float64)
    else:
        source = "pixdim"
        if (sizes <= 0).any():
            _refuse_field(path, "pixdim", f"{sizes.tolist()}, expected voxel sizes above 0")
        if header["qform_code"] > 0:
            source = "pixdim, quatern_b, quatern_c, quatern_d, qoffset_x, qoffset_y, qoffset_z"
            _check_quaternion(header, path)
        affine = np.array(header.get_best_affine(), dtype=np.float64)
    affine[:3] *= _MM_OF_UNIT[int(header["xyzt_units"]) & 0b111]
    require_usable_affine(affine, path=path, source=source)
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    if edges.min() < EDGES_MM[0] or edges.max() > EDGES_MM[1]:
        listed = " x ".join(f"{edge:g}" for edge in edges)
        fail(
            f"its header cannot be right: voxels of {listed} mm ({source}; xyzt_units)",
            path=path,
            remedy="set voxel sizes and their unit from the scan's true geometry",
        )
    if header["sform_code"] > 0:  # the affine needs no pixdim, other readers do
        stored = np.linalg.norm(header.get_sform()[:3, :3], axis=0)
        header["pixdim"][1:4] = np.where(sizes == 0, stored, np.abs(sizes))
    if header["pixdim"][0] not in (-1, 1):
        header["pixdim"][0] = 1
    return affine


def _check_quaternion(header: Any, path: Path) -> None:
    """Require a rotation; make one of length 1 where rounding left it a little longer."""
    names = ("quatern_b", "quatern_c", "quatern_d")
    values = np.array([float(header[name]) for name in names])
    length = float(np.linalg.norm(values))
    if not length <= 1 + QUATERNION_TOLERANCE:  # NaN as well
        _refuse_field(
            path,
            ", ".join(names),
            f"{values.tolist()}, a quaternion of length {length:.7g} or more, expected at most 1",
            "set qform from the scan's true geometry, or qform_code to 0 where sform is right",
        )
    if length > 1:
        rounding = float(np.finfo(header["quatern_b"].dtype).eps)
        for name, value in zip(names, values / (length * (1 + rounding)), strict=True):
            header[name] = value
    if header["pixdim"][0] not in (-1, 0, 1):
        _refuse_field(path, "pixdim[0] (qfac)", f"{float(header['pixdim'][0]):g}, expected 1 or -1")
    if header["pixdim"][0] == 0:  # by the standard
        header["pixdim"][0] = 1
