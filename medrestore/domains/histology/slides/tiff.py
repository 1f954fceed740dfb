"""What a TIFF says of itself that neither OpenSlide nor Pillow tells: colors, compression, planes, turns."""

from __future__ import annotations

import logging
import shlex
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from medrestore.checks import fail
from medrestore.domains.histology.slides.resolution import Statement

__all__ = ["RGB_REMEDY", "TiffFacts", "read_tiff_facts", "require_readable_compression", "require_rgb"]

RGB_REMEDY = "save it as an 8-bit RGB picture without transparency"
"""For pictures of other colors."""

_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_COLORS = {0: "grayscale", 1: "grayscale", 3: "palette", 4: "mask", 5: "CMYK", 8: "CIELAB"}
_LARGEST_TILE = 2**26  # 256 MB decoded
_NUMBERS = {2: "of signed numbers", 3: "of floating-point numbers"}
_RGB = (2, 6)  # as it is, or as luma and chroma
_ALPHA = (1, 2)  # associated or not; any other further channel says nothing of transparency
_FOREIGN = {
    22610: "JPEG XR",
    33003: "JPEG 2000",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy JPEG of DNG",
    34925: "LZMA",
    34933: "PNG",
    34934: "JPEG XR",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_OF_PILLOW = (34925,)  # and read by OpenSlide nowhere
_MICRONS = {2: 25_400.0, 3: 10_000.0, 4: 1_000.0, 5: 1.0}  # inch, centimeter, millimeter, micrometer
_NAMED_MICRONS = {
    **dict.fromkeys(("µm", "μm", "um", "micron", "microns", "micrometer", "\\u00B5m"), 1.0),
    **{"nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6, "inch": 25_400.0, "in": 25_400.0},
}


@dataclass(frozen=True)
class TiffFacts:
    """Facts of the page of level 0, and of the pages beside it.

    Parameters
    ----------
    color : str
        Empty for RGB and YCbCr, else what it is.
    bits, samples : int
        Of a color, and colors of a pixel.
    alpha : bool
        A fourth channel is said to be transparency.
    compression : int
        As TIFF numbers it.
    orientation : int
        1 when pixels are stored upright.
    equal_pages, other_pages : int
        Further pages of full size of the very same size, and of any other that is no level of a pyramid.
    resolutions : tuple of Statement
        Of the tags, of OME's and of ImageJ's description.
    """

    color: str
    bits: int
    samples: int
    alpha: bool
    compression: int
    orientation: int
    equal_pages: int
    other_pages: int
    resolutions: tuple[Statement, ...]


def read_tiff_facts(path: Path) -> TiffFacts | None:
    """Read the facts of a TIFF, level 0 being its largest page; None where a file is none, or damaged.

    Raises
    ------
    InputError
        When its tiles are so large that OpenSlide would end the process for want of memory.
    """
    import tifffile

    with path.open("rb") as stream:
        if stream.read(4) not in _SIGNATURES:
            return None
    try:
        with _quiet(), tifffile.TiffFile(path) as file:
            pages = list(_pages(file))
            sizes = [(int(page.imagewidth), int(page.imagelength)) for page in pages]
            level_0 = max(sizes, key=lambda size: size[0] * size[1])
            largest = max(int(page.tilewidth) * int(page.tilelength) for page in pages)
            chosen = sizes.index(level_0)
            page = pages[chosen]
            imagej = file.imagej_metadata or {}
            others = [
                size
                for index, (size, other) in enumerate(zip(sizes, pages, strict=True))
                if index != chosen and not other.is_reduced and not other.is_mask
            ]
            equal = sum(size == level_0 for size in others)
            facts = TiffFacts(
                color=_color(int(page.photometric), int(page.sampleformat)),
                bits=int(page.bitspersample),
                samples=int(page.samplesperpixel),
                alpha=len(page.extrasamples) == 1 and int(page.extrasamples[0]) in _ALPHA,
                compression=int(page.compression),
                orientation=int(getattr(page.tags.get(274), "value", 1)),
                equal_pages=max(equal, int(imagej.get("images", 1)) - 1, int(page.imagedepth) - 1),
                other_pages=sum(size != level_0 and not _is_level(size, level_0) for size in others),
                resolutions=tuple(_resolutions(file, page, imagej)),
            )
    except (
        tifffile.TiffFileError,
        struct.error,
        OSError,
        ArithmeticError,
        LookupError,
        TypeError,
        ValueError,
    ):
        return None
    if largest > _LARGEST_TILE:
        fail(
            f"cannot be read (it says that its tiles have {largest:.2g} pixels)",
            path=path,
            remedy="copy the file again; it is damaged",
        )
    return facts


def _pages(file: Any) -> Iterator[Any]:
    """Yield the pages of a TIFF; a chain of them that bites its tail is damaged, and would have no end."""
    seen = set()
    for page in file.pages:
        if page.offset in seen:
            raise ValueError("its pages go round in a circle")
        seen.add(page.offset)
        yield page.aspage()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what tifffile logs of damaged tags: whoever reads the pixels says what is wrong."""
    logger = logging.getLogger("tifffile")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


def require_rgb(path: Path, facts: TiffFacts) -> None:
    """Refuse a TIFF that is not three colors of 8 bits, with transparency or without.

    Raises
    ------
    InputError
        Names what it is.
    """
    if facts.color:
        fail(f"is {facts.color}, expected RGB", path=path, remedy=RGB_REMEDY)
    if facts.bits != 8:
        fail(f"has {facts.bits} bits per color, expected 8", path=path, remedy=RGB_REMEDY)
    if facts.samples == 4 and not facts.alpha:
        fail(
            "has a fourth channel, and does not say of what kind; expected RGB",
            path=path,
            remedy=f"leave it out: {_command(path, 'p.asarray()[..., :3]')}",
        )
    if facts.samples not in (3, 4):
        fail(f"has {facts.samples} channels, expected 3", path=path, remedy=RGB_REMEDY)


def require_readable_compression(path: Path, facts: TiffFacts, *, tiled: bool) -> None:
    """Refuse a compression that is not read in a TIFF of no scanner's format.

    Parameters
    ----------
    path : Path
        The file.
    facts : TiffFacts
        Of it.
    tiled : bool
        OpenSlide would read it, and not Pillow, which knows one more.

    Raises
    ------
    InputError
        Names it, and the command that writes the file anew.
    """
    if facts.compression in _FOREIGN and (tiled or facts.compression not in _OF_PILLOW):
        fail(
            f"is a TIFF compressed by {_FOREIGN[facts.compression]}, which "
            f"{'OpenSlide does not read' if tiled else 'Pillow does not read'}",
            path=path,
            remedy=f"write it anew without loss: {_command(path, 'p.asarray()')}",
        )


def _color(photometric: int, sample_format: int) -> str:
    if photometric not in _RGB:
        return _COLORS.get(photometric, f"of photometric interpretation {photometric}")
    return _NUMBERS.get(sample_format, "")


def _command(path: Path, pixels: str) -> str:
    """Return a command that writes the largest page of a TIFF anew, as OpenSlide reads it."""
    target = path.with_name(f"{path.name.split('.')[0]}_rgb.tiff")
    program = (
        f"import tifffile; p = max(tifffile.TiffFile({str(path)!r}).pages, key=lambda p: p.size); "
        f"tifffile.imwrite({str(target)!r}, {pixels}, photometric='rgb', tile=(256, 256), "
        "compression='deflate', resolution=p.resolution, resolutionunit=p.resolutionunit, "
        "iccprofile=p.iccprofile, metadata=None)"
    )
    # Within double quotes wherever that is the same to a shell: easier to read, and cmd.exe takes it too.
    quoted = shlex.quote(program) if set(program) & set('"\\$`!') else f'"{program}"'
    return f"python -c {quoted}"


def _is_level(size: Sequence[int], full: Sequence[int]) -> bool:
    """Say whether a page can be a coarser level of another: smaller, of the same form to a pixel each way."""
    ratio = full[0] / size[0]
    return ratio > 1 and abs(full[1] / ratio - size[1]) <= 1 + full[1] / full[0]


def _resolutions(file: Any, page: Any, imagej: dict[str, Any]) -> list[Statement]:
    found = []
    across, down = (_ratio(page.tags.get(tag)) for tag in (282, 283))  # pixels per unit
    if across is not None and down is not None:
        unit = _MICRONS.get(int(getattr(page.tags.get(296), "value", 2)))
        if unit is not None:
            x, y = (unit / value if value else None for value in (across, down))
            found.append(
                Statement(
                    "TIFF's XResolution and YResolution", x, y, f"{across:g} and {down:g}", everyday=True
                )
            )
        named = _NAMED_MICRONS.get(str(imagej.get("unit", "")))
        if named is not None and across and down:
            found.append(Statement("ImageJ's unit and XResolution", named / across, named / down))
    if file.is_ome:
        found += _ome(file.ome_metadata)
    return found


def _ratio(tag: Any) -> float | None:
    if tag is None:
        return None
    upper, lower = tag.value
    return float(upper) / float(lower) if lower else 0.0


def _ome(description: str) -> list[Statement]:
    """Return the physical size of OME's first image."""
    try:
        root = ElementTree.fromstring(description)  # noqa: S314 - no entity is expanded
    except ElementTree.ParseError:
        return []
    for pixels in root.iter():
        if pixels.tag.endswith("}Pixels") or pixels.tag == "Pixels":
            values = []
            for axis in "XY":
                written = pixels.get(f"PhysicalSize{axis}")
                factor = _NAMED_MICRONS.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
                if written is None or factor is None:
                    return []
                try:
                    values.append(factor * float(written))
                except ValueError:
                    values.append(0.0)
            written = f"{pixels.get('PhysicalSizeX')} and {pixels.get('PhysicalSizeY')}"
            return [Statement("OME's PhysicalSizeX and PhysicalSizeY", values[0], values[1], written)]
    return []
