"""What is behind a slide: OpenSlide for whole slides, Pillow for pictures, and what of them is refused."""

from __future__ import annotations

import struct
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from medrestore.checks import counted, fail, one_line
from medrestore.domains.histology.slides.parts import require_slide
from medrestore.domains.histology.slides.resolution import Statement
from medrestore.domains.histology.slides.tiff import (
    RGB_REMEDY,
    TiffFacts,
    read_tiff_facts,
    require_readable_compression,
    require_rgb,
)

__all__ = ["Source", "open_source"]

_INCH_MICRONS = 25_400.0
_COPY_REMEDY = "copy the file again; it is damaged, or not of a format that OpenSlide or Pillow reads"
_PILLOW_COLORS = {"L": "grayscale", "LA": "grayscale", "1": "black and white", "P": "palette", "CMYK": "CMYK"}
_PLANES = {
    "dicom.TotalPixelMatrixFocalPlanes": "focal planes",
    "hamamatsu.NoLayers": "focal planes",
    "zeiss.Information.Image.SizeZ": "focal planes",
    "zeiss.Information.Image.SizeT": "time points",
}
"""Properties that count what a format can hold beside the one image that OpenSlide shows."""
_DAMAGED = (
    struct.error,
    OSError,
    SyntaxError,
    ArithmeticError,
    SystemError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
)
"""What Pillow raises on damaged pictures."""
_JPEG_IN_TIFF = 7
_warnings_lock = threading.RLock()  # warning filters belong to the whole process


class Source(Protocol):
    """What a slide reads from: sizes (width, height) and downsamples by level, and pixels.

    ``statements`` are what it says of its resolution, ``notes`` what of it is not shown or not followed,
    ``icc_profile`` the color profile of its pixels, ``bounds`` the (x, y, width, height) of level 0 that
    were scanned.
    """

    sizes: tuple[tuple[int, int], ...]
    downsamples: tuple[float, ...]
    statements: tuple[Statement, ...]
    notes: tuple[str, ...]
    icc_profile: bytes | None
    bounds: tuple[int, int, int, int]

    def read(self, level: int, x: int, y: int, width: int, height: int) -> npt.NDArray[np.uint8]:
        """Return pixels (height, width, 3) of a level, x and y in its pixels, all inside of it."""

    def close(self) -> None:
        """Close the file."""


def open_source(path: Path) -> Source:
    """Open a file by OpenSlide where that knows its format, else by Pillow.

    Raises
    ------
    InputError
        When it cannot be read, or is no 8-bit RGB picture without transparency.
    """
    import openslide

    require_slide(path)
    if path.stat().st_size == 0:
        fail("is empty", path=path, remedy="copy the file again")
    try:
        vendor = openslide.OpenSlide.detect_format(str(path))
    except openslide.OpenSlideError as error:
        _unreadable(path, error)
    return _WholeSlide(path, vendor) if vendor else _Picture(path)


class _WholeSlide:
    """A slide of a format that OpenSlide knows."""

    def __init__(self, path: Path, vendor: str) -> None:
        import openslide

        generic = vendor == "generic-tiff"
        facts = read_tiff_facts(path)
        try:
            self._slide = openslide.OpenSlide(str(path))
        except openslide.OpenSlideError as error:
            if "compression" in str(error) and facts is not None:
                require_readable_compression(path, facts, tiled=True)
            _unreadable(path, error)
        self._path = path
        self.sizes: tuple[tuple[int, int], ...] = tuple(self._slide.level_dimensions)
        self.downsamples = tuple(float(value) for value in self._slide.level_downsamples)
        properties = _properties(self._slide)
        if facts is not None:
            require_rgb(path, facts)  # OpenSlide converts all else to RGB without a word
            _require_whole_tiles(path, facts)
        self.statements = (
            facts.resolutions if generic and facts is not None else _slide_statements(properties)
        )
        self.notes = (
            *_plane_notes(facts if vendor not in ("leica", "ventana") else None, properties, generic=generic),
            *_turn_note(1 if facts is None else facts.orientation, followed=False),
        )
        self.bounds = _bounds(properties, self.sizes[0])
        # OpenSlide gives it with every region, also with one that holds nothing and decodes nothing.
        self.icc_profile = self._read(0, (0, 0), (0, 0)).info.get("icc_profile") or None

    def read(self, level: int, x: int, y: int, width: int, height: int) -> npt.NDArray[np.uint8]:
        # OpenSlide wants the corner in pixels of level 0, and blurs a level read between its pixels.
        corner = (round(x * self.downsamples[level]), round(y * self.downsamples[level]))
        rgba = np.asarray(self._read(level, corner, (width, height)))
        opaque = rgba[..., 3:] == 255
        if opaque.all():
            return np.ascontiguousarray(rgba[..., :3])
        # Not scanned is transparent; OpenSlide gives colors that are not multiplied by alpha.
        alpha = rgba[..., 3:].astype(np.uint16)
        mixed = (rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
        return mixed.astype(np.uint8)

    def close(self) -> None:
        self._slide.close()

    def _read(self, level: int, corner: tuple[int, int], size: tuple[int, int]) -> Any:
        import openslide

        try:
            return self._slide.read_region(corner, level, size)
        except openslide.OpenSlideError as error:
            fail(
                f"level {level} cannot be read at x {corner[0]}, y {corner[1]} ({one_line(error)})",
                path=self._path,
                remedy="copy the file again; if the scanner wrote it so, leave the slide out",
            )


class _Picture:
    """A picture of one level, decoded when first read; turned upright where it says how."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._pixels: npt.NDArray[np.uint8] | None = None
        facts = read_tiff_facts(path)
        if facts is not None:  # first: Pillow takes 16 bits for 8, and does not know all that it refuses
            require_readable_compression(path, facts, tiled=False)
            require_rgb(path, facts)
        with _quiet(), _open_picture(path) as picture:
            _require_rgb_picture(path, picture)
            frames = _frames(path, picture) if facts is None else 1
            orientation = _orientation(picture) if facts is None else facts.orientation
            # Pillow itself turns a TIFF, and says its upright size at once.
            self._turn = orientation if facts is None else 1
            sideways = self._turn in (5, 6, 7, 8)
            width, height = picture.size
            self.sizes: tuple[tuple[int, int], ...] = ((height, width) if sideways else (width, height),)
            self.statements = (
                _picture_statements(picture, sideways=sideways) if facts is None else facts.resolutions
            )
            self.icc_profile = picture.info.get("icc_profile") or None
        self.downsamples: tuple[float, ...] = (1.0,)
        self.bounds = (0, 0, *self.sizes[0])
        further = [f"holds {frames} pictures; the first one is used, the others are not"]
        self.notes = (
            *(further if frames > 1 else _plane_notes(facts, {}, generic=True)),
            *_turn_note(orientation, followed=True),
        )

    def read(self, level: int, x: int, y: int, width: int, height: int) -> npt.NDArray[np.uint8]:
        del level  # there is one
        with self._lock:
            if self._pixels is None:
                self._pixels = self._decode()
        return self._pixels[y : y + height, x : x + width]

    def close(self) -> None:
        self._pixels = None

    def _decode(self) -> npt.NDArray[np.uint8]:
        with _open_picture(self._path) as picture:
            try:
                turn = _upright(self._turn)
                pixels = np.asarray(picture if turn is None else picture.transpose(turn))
            except _DAMAGED as error:
                _unreadable(self._path, error)
        if pixels.shape[2] == 4:
            if pixels[..., 3].min() < 255:
                fail("has transparent pixels", path=self._path, remedy=RGB_REMEDY)
            pixels = np.ascontiguousarray(pixels[..., :3])
        return pixels


def _orientation(picture: Any) -> int:
    """Return the orientation that a PNG or JPEG states before its pixels, which are not decoded for it."""
    from PIL import Image

    exif = Image.Exif()
    try:
        exif.load(picture.info.get("exif"))
        orientation = int(exif.get(0x0112, 1))
    except _DAMAGED:
        return 1
    return orientation if orientation in range(1, 9) else 1


def _upright(orientation: int) -> Any:
    """Return what turns a picture of an EXIF orientation upright; None where nothing does."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return turns.get(orientation)


def _open_picture(path: Path) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        with _quiet():
            return Image.open(path, formats=("PNG", "JPEG", "TIFF"))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        fail(
            "is too large to be read as a plain picture",
            path=path,
            remedy="convert it to a tiled, pyramidal TIFF (vips tiffsave --tile --pyramid)",
        )
    except UnidentifiedImageError:
        _no_picture(path)
    except _DAMAGED as error:
        _unreadable(path, error)


@contextmanager
def _quiet() -> Iterator[None]:
    """Take Pillow's warning of a huge picture for an error, and keep those of odd tags from the user."""
    from PIL import Image

    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _frames(path: Path, picture: Any) -> int:
    """Return how many pictures a file holds, for which Pillow looks at the next one."""
    try:
        return int(getattr(picture, "n_frames", 1))
    except _DAMAGED as error:
        _unreadable(path, error)


def _no_picture(path: Path) -> NoReturn:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            kind = picture.format
    except Exception:  # of any of Pillow's plugins
        kind = None
    if kind is not None:
        fail(f"is a {kind} picture, expected PNG, JPEG or TIFF", path=path, remedy="convert it to PNG")
    fail("is no slide and no PNG, JPEG or TIFF picture", path=path, remedy=_COPY_REMEDY)


def _require_rgb_picture(path: Path, picture: Any) -> None:
    if picture.mode not in ("RGB", "RGBA"):
        color = _PILLOW_COLORS.get(picture.mode, f"of mode {picture.mode}")
        fail(f"is {color}, expected RGB", path=path, remedy=RGB_REMEDY)
    if "transparency" in picture.info:
        fail("has a transparent color", path=path, remedy=RGB_REMEDY)
    if picture.format == "PNG":  # Pillow cuts 16 bits to 8 without a word
        with path.open("rb") as stream:
            bits = stream.read(25)[24]
        if bits != 8:
            fail(f"has {bits} bits per color, expected 8", path=path, remedy=RGB_REMEDY)


def _require_whole_tiles(path: Path, facts: TiffFacts) -> None:
    """Refuse a turned TIFF of which OpenSlide would turn every tile by itself: all but JPEG."""
    if facts.orientation != 1 and facts.compression != _JPEG_IN_TIFF:
        fail(
            f"states orientation {facts.orientation}, by which OpenSlide turns each tile and not the whole",
            path=path,
            remedy="set its orientation to 1 (tiffset -s 274 1 FILE), and turn it in a viewer",
        )


def _plane_notes(facts: TiffFacts | None, properties: Mapping[str, str], *, generic: bool) -> list[str]:
    """Say what a file holds beside the one image that is read."""
    notes = []
    if facts is not None and facts.equal_pages:
        notes.append(
            f"holds {facts.equal_pages + 1} images of full size (focal planes, time points, channels or "
            "scenes); one is used, the others are not"
        )
    if facts is not None and generic and facts.other_pages:
        notes.append(f"holds {counted(facts.other_pages, 'further image')} of another size, not used")
    for name, words in _PLANES.items():
        count = _number(properties.get(name))
        if count is not None and count > 1:
            notes.append(f"holds {count:g} {words}; one is used, the others are not")
    names = [name for name, value in properties.items() if value == "Microscope focus level"]
    for name in names:  # MIRAX: mirax.HIERARCHICAL.HIER_2_NAME, and ..._COUNT
        count = _number(properties.get(name.removesuffix("NAME") + "COUNT"))
        if count is not None and count > 1:
            notes.append(f"holds {count:g} focal planes; one is used, the others are not")
    return notes


def _turn_note(orientation: int, *, followed: bool) -> list[str]:
    if orientation == 1:
        return []
    done = "it is read upright" if followed else "its pixels are read as they are stored, not turned"
    return [f"states orientation {orientation}; {done}"]


def _bounds(properties: Mapping[str, str], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return what of level 0 was scanned (x, y, width, height): all of it where nothing is said."""
    names = ("x", "y", "width", "height")
    stated = [_number(properties.get(f"openslide.bounds-{name}"), least=0.0) for name in names]
    if any(value is None for value in stated):
        return (0, 0, *size)
    x, y, width, height = (int(value or 0) for value in stated)
    right, bottom = min(x + width, size[0]), min(y + height, size[1])
    return (x, y, right - x, bottom - y) if right > x and bottom > y else (0, 0, *size)


def _properties(slide: Any) -> dict[str, str]:
    """Return what a slide says of itself; OpenSlide names properties of damaged files that it cannot give."""
    found = {}
    for name in slide.properties:
        with suppress(KeyError, ValueError):
            found[name] = slide.properties[name]
    return found


def _slide_statements(properties: Mapping[str, str]) -> tuple[Statement, ...]:
    import openslide

    written = [
        properties.get(name) for name in (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)
    ]
    if written == [None, None]:
        unread = properties.get("aperio.MPP")  # OpenSlide passes over what it takes for no number
        return () if unread is None else (Statement("aperio.MPP", None, None, unread),)
    x, y = (_float(text) for text in written)
    return (Statement("openslide.mpp-x and openslide.mpp-y", x, y),)


def _picture_statements(picture: Any, *, sideways: bool) -> tuple[Statement, ...]:
    if "dpi" not in picture.info:
        return ()
    x, y = (_INCH_MICRONS / value if value else 0.0 for value in map(_float, picture.info["dpi"]))
    if sideways:
        x, y = y, x
    return (Statement("its dots per inch", x, y, everyday=True),)


def _float(text: Any) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError, ZeroDivisionError):
        return None


def _number(text: Any, *, least: float = 1.0) -> float | None:
    """Return a number of at least ``least``, or None."""
    value = _float(text)
    return value if value is not None and least <= value < float("inf") else None


def _unreadable(path: Path, error: Exception) -> NoReturn:
    fail(f"cannot be read ({one_line(error)})", path=path, remedy=_COPY_REMEDY)
