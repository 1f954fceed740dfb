"""What is behind a slide: OpenSlide for whole slides, Pillow for pictures, and what of them is refused."""

from __future__ import annotations

import math
import struct
import threading
import warnings
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from medrestore.checks import fail, one_line

__all__ = ["COARSEST_MICRONS", "Source", "open_source"]

COARSEST_MICRONS = 20.0
"""Coarser resolutions in a file, in um/pixel, are those of a screen or printer."""

_INCH_MICRONS, _CENTIMETER_MICRONS = 25_400.0, 10_000.0
_ANISOTROPY = 0.01
_RGB_REMEDY = "save it as an 8-bit RGB picture without transparency"
_COPY_REMEDY = "copy the file again; it is damaged, or not of a format that OpenSlide or Pillow reads"
_TIFF_COLORS = {0: "grayscale", 1: "grayscale", 3: "palette", 4: "mask", 5: "CMYK", 8: "CIELAB"}
_PILLOW_COLORS = {"L": "grayscale", "LA": "grayscale", "1": "black and white", "P": "palette", "CMYK": "CMYK"}
_warnings_lock = threading.Lock()  # warning filters belong to the whole process


class Source(Protocol):
    """What a slide reads from: sizes (width, height) and downsamples by level, and pixels."""

    sizes: tuple[tuple[int, int], ...]
    downsamples: tuple[float, ...]
    microns_per_pixel: float | None
    resolution_note: str

    def read(self, level: int, x: int, y: int, width: int, height: int) -> npt.NDArray[np.uint8]:
        """Return pixels (height, width, 3) of a level, x and y in its pixels, all inside of it."""

    def close(self) -> None:
        """Close the file."""


def open_source(path: Path, *, trust_resolution: bool = True) -> Source:
    """Open a file by OpenSlide where that knows its format, else by Pillow.

    Parameters
    ----------
    path : Path
        The file.
    trust_resolution : bool
        Take the file's resolution; where not, it is neither read nor checked.

    Raises
    ------
    InputError
        When it cannot be read, or is no 8-bit RGB picture without transparency.
    """
    import openslide

    if not path.is_file():
        fail("no such file, expected a slide or picture", path=path)
    try:
        vendor = openslide.OpenSlide.detect_format(str(path))
    except openslide.OpenSlideError as error:
        _unreadable(path, error)
    return _WholeSlide(path, trust_resolution) if vendor else _Picture(path, trust_resolution)


class _WholeSlide:
    """A slide of a format that OpenSlide knows."""

    def __init__(self, path: Path, trust_resolution: bool) -> None:
        import openslide

        try:
            self._slide = openslide.OpenSlide(str(path))
        except openslide.OpenSlideError as error:
            _unreadable(path, error)
        self._path = path
        properties = self._slide.properties
        if properties.get(openslide.PROPERTY_NAME_VENDOR) == "generic-tiff":
            _require_rgb_tiff(path)  # OpenSlide converts all else to RGB without a word
        self.sizes: tuple[tuple[int, int], ...] = tuple(self._slide.level_dimensions)
        self.downsamples = tuple(float(value) for value in self._slide.level_downsamples)
        stated = [
            _number(properties.get(name))
            for name in (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)
        ]
        self.microns_per_pixel, self.resolution_note = (
            _resolution(path, *stated) if trust_resolution else (None, "")
        )

    def read(self, level: int, x: int, y: int, width: int, height: int) -> npt.NDArray[np.uint8]:
        import openslide

        # OpenSlide wants the corner in pixels of level 0, and blurs a level read between its pixels.
        corner = (round(x * self.downsamples[level]), round(y * self.downsamples[level]))
        try:
            rgba = np.asarray(self._slide.read_region(corner, level, (width, height)))
        except openslide.OpenSlideError as error:
            fail(
                f"level {level} cannot be read at x {corner[0]}, y {corner[1]} ({one_line(error)})",
                path=self._path,
                remedy="copy the file again; if the scanner wrote it so, leave the slide out",
            )
        opaque = rgba[..., 3:] == 255
        if opaque.all():
            return np.ascontiguousarray(rgba[..., :3])
        # Not scanned is transparent; OpenSlide gives colors that are not multiplied by alpha.
        alpha = rgba[..., 3:].astype(np.uint16)
        mixed = (rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
        return mixed.astype(np.uint8)

    def close(self) -> None:
        self._slide.close()


class _Picture:
    """A picture of one level, decoded when first read."""

    def __init__(self, path: Path, trust_resolution: bool) -> None:
        self._path, self._lock = path, threading.Lock()
        self._pixels: npt.NDArray[np.uint8] | None = None
        with _open_picture(path) as picture:
            _require_rgb(path, picture)
            self.sizes: tuple[tuple[int, int], ...] = (picture.size,)
            stated = _stated_microns(picture) if trust_resolution else (None, None)
        self.downsamples: tuple[float, ...] = (1.0,)
        self.microns_per_pixel, self.resolution_note = _resolution(path, *stated)

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
                pixels = np.asarray(picture)
            except (OSError, SyntaxError, ValueError) as error:
                _unreadable(self._path, error)
        if pixels.shape[2] == 4:
            if pixels[..., 3].min() < 255:
                fail("has transparent pixels", path=self._path, remedy=_RGB_REMEDY)
            pixels = np.ascontiguousarray(pixels[..., :3])
        return pixels


def _open_picture(path: Path) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        with _warnings_lock, warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(path, formats=("PNG", "JPEG", "TIFF"))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        fail(
            "is too large to be read as a plain picture",
            path=path,
            remedy="convert it to a tiled, pyramidal TIFF (vips tiffsave --tile --pyramid)",
        )
    except UnidentifiedImageError:
        fail("is no slide and no PNG, JPEG or TIFF picture", path=path, remedy=_COPY_REMEDY)
    except (OSError, SyntaxError, ValueError) as error:
        _unreadable(path, error)


def _require_rgb(path: Path, picture: Any) -> None:
    if picture.mode not in ("RGB", "RGBA"):
        color = _PILLOW_COLORS.get(picture.mode, f"of mode {picture.mode}")
        fail(f"is {color}, expected RGB", path=path, remedy=_RGB_REMEDY)
    if "transparency" in picture.info:
        fail("has a transparent color", path=path, remedy=_RGB_REMEDY)
    if picture.format == "TIFF":
        _require_rgb_tiff(path)
    elif picture.format == "PNG":  # Pillow cuts 16 bits to 8 without a word
        with path.open("rb") as stream:
            bits = stream.read(25)[24]
        if bits != 8:
            fail(f"has {bits} bits per color, expected 8", path=path, remedy=_RGB_REMEDY)


def _require_rgb_tiff(path: Path) -> None:
    """Refuse a TIFF whose first page is not three colors of 8 bits."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0].aspage()
            photometric, bits, samples = page.photometric, page.bitspersample, page.samplesperpixel
    except (tifffile.TiffFileError, OSError, ValueError, IndexError, struct.error) as error:
        _unreadable(path, error)
    if int(photometric) not in (2, 6, 33003, 33005):  # RGB, YCbCr, Aperio's JPEG 2000
        color = _TIFF_COLORS.get(int(photometric), f"of photometric interpretation {int(photometric)}")
        fail(f"is {color}, expected RGB", path=path, remedy=_RGB_REMEDY)
    if bits != 8:
        fail(f"has {bits} bits per color, expected 8", path=path, remedy=_RGB_REMEDY)
    if samples not in (3, 4):
        fail(f"has {samples} channels, expected 3", path=path, remedy=_RGB_REMEDY)


def _stated_microns(picture: Any) -> tuple[float | None, float | None]:
    """Return micrometers per pixel along x and y as a picture states them."""
    if picture.format == "TIFF":
        unit = {2: _INCH_MICRONS, 3: _CENTIMETER_MICRONS}.get(picture.tag_v2.get(296, 2))
        stated = tuple(_number(picture.tag_v2.get(tag)) for tag in (282, 283))
        if unit is None:
            return None, None
    else:
        unit, stated = _INCH_MICRONS, tuple(map(_number, picture.info.get("dpi", (None, None))))
    x, y = (unit / value if value else None for value in stated)
    return x, y


def _resolution(path: Path, x: float | None, y: float | None) -> tuple[float | None, str]:
    """Return the resolution, or None and the reason for an error message."""
    if x is None or y is None:
        return None, ""
    if min(x, y) > COARSEST_MICRONS:
        return None, f" (the file states {max(x, y):.3g} micrometers per pixel, those of a screen or printer)"
    if abs(x - y) > _ANISOTROPY * min(x, y):
        fail(
            f"has pixels that are not square: {x:g} by {y:g} micrometers",
            path=path,
            remedy="state its micrometers per pixel (microns_per_pixel) if the file is wrong",
        )
    return math.sqrt(x * y), ""


def _number(text: Any) -> float | None:
    """Return a positive finite number, or None."""
    try:
        value = float(text)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return value if math.isfinite(value) and value > 0 else None


def _unreadable(path: Path, error: Exception) -> NoReturn:
    fail(f"cannot be read ({one_line(error)})", path=path, remedy=_COPY_REMEDY)
