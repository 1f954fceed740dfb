"""Slides and pictures of tissue, read region by region at a stated resolution.

Whole slides are read by OpenSlide (Goode et al., J Pathol Inform 4:27, 2013), pictures (PNG, JPEG, plain
TIFF) by Pillow, behind one interface. Positions are pixels of level 0, the finest; sizes are pixels at the
wanted resolution. Colors are those in the file: no color profile is applied, and what is written carries it.
Plain pictures that state an orientation are read upright; whole slides as they are stored.
"""

from __future__ import annotations

import math
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from medrestore.checks import fail, require_in_range
from medrestore.domains.histology.slides.formats import Source, open_source
from medrestore.domains.histology.slides.resolution import STATE_IT, require_microns, stated_microns

__all__ = ["RESOLUTION_TOLERANCE", "Level", "Slide", "open_slide"]

RESOLUTION_TOLERANCE = 0.02
"""Two resolutions that differ by no more than this are taken for one: nothing is resampled between them."""

_BLOCK_PIXELS = 4096 * 4096  # of a level held at a time, 64 MB with the alpha channel
_LANCZOS_REACH = 3  # pixels at the coarser resolution


@dataclass(frozen=True)
class Level:
    """One resolution that a slide is stored at.

    Parameters
    ----------
    index : int
        0 is the finest.
    width, height : int, pixels
        Of the level.
    downsample : float
        Pixels of level 0 that one of its pixels spans, along an axis.
    microns_per_pixel : float or None, um
        None where the slide's resolution is not known.
    """

    index: int
    width: int
    height: int
    downsample: float
    microns_per_pixel: float | None


class Slide:
    """A slide or picture, opened by :func:`open_slide`.

    Reads may come from several threads. A pickled slide is opened anew from its path, and so is one that a
    forked process inherits: they share no file handle.

    Attributes
    ----------
    path : Path
        The file.
    width, height : int, pixels
        Of level 0.
    microns_per_pixel : float or None, um
        Of level 0; None where neither the caller nor the file says.
    given_microns_per_pixel : float or None, um
        What the caller gave, where that holds: where the file states none, or is overruled.
    levels : tuple of Level
        From the finest to the coarsest.
    bounds : tuple of int, pixels of level 0
        What of it was scanned: x, y, width, height.
    notes : tuple of str
        What of the file is not shown or not followed: further planes, an orientation, a given resolution.
    icc_profile : bytes or None
        Color profile of its pixels.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, microns_per_pixel: float | None = None, override: bool = False
    ) -> None:
        if microns_per_pixel is not None:
            require_microns("the slide's microns_per_pixel", microns_per_pixel)
        self.path = Path(path)
        self._asked = {"microns_per_pixel": microns_per_pixel, "override": override}
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._source: Source | None = open_source(self.path)
        source = self._source
        self.notes, self.icc_profile, self.bounds = source.notes, source.icc_profile, source.bounds
        stated: float | None = None
        self._reason = ""
        if microns_per_pixel is None or not override:
            stated, self._reason = stated_microns(self.path, source.statements)
        self.microns_per_pixel = microns_per_pixel if stated is None else stated
        self.given_microns_per_pixel = microns_per_pixel if stated is None else None
        given = microns_per_pixel
        if stated is not None and given is not None and abs(given / stated - 1) > RESOLUTION_TOLERANCE:
            self.notes += (
                f"states {stated:g} micrometers per pixel, which hold, and not the {given:g} that were given "
                "(--override-microns-per-pixel lets those hold)",
            )
        self.width, self.height = source.sizes[0]
        base = self.microns_per_pixel
        self.levels = tuple(
            Level(index, *size, downsample, None if base is None else base * downsample)
            for index, (size, downsample) in enumerate(zip(source.sizes, source.downsamples, strict=True))
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.path, self._asked)

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Slide({str(self.path)!r}, {self.width} x {self.height}, {self.microns_per_pixel} um/pixel)"

    def close(self) -> None:
        """Close the file; a closed slide cannot be read any more."""
        with self._lock:
            if self._source is not None:
                self._source.close()
            self._source = None

    def require_resolution(self) -> float:
        """Return the micrometers per pixel of level 0.

        Raises
        ------
        InputError
            When neither the caller nor the file says.
        """
        if self.microns_per_pixel is None:
            fail(
                f"has no resolution{self._reason}",
                path=self.path,
                remedy=f"{STATE_IT}; a scan at 40x has about 0.25, at 20x about 0.5",
            )
        return self.microns_per_pixel

    def step(self, microns_per_pixel: float | None = None) -> float:
        """Return how many pixels of level 0 a pixel of :meth:`read` spans, along an axis.

        It is the downsample of a level where that has the wanted resolution, to
        :data:`RESOLUTION_TOLERANCE`, else the quotient of the resolutions. Regions that are to meet without a
        gap lie at multiples of it.

        Raises
        ------
        InputError
            When the slide's resolution is not known, or coarser than the wanted.
        """
        return self._choose(microns_per_pixel)[1]

    def size_at(self, microns_per_pixel: float | None = None) -> tuple[int, int]:
        """Return width and height of the whole slide in pixels at a resolution, at least 1 each.

        Raises
        ------
        InputError
            As :meth:`step`.
        """
        step = self.step(microns_per_pixel)
        return max(round(self.width / step), 1), max(round(self.height / step), 1)

    def read(
        self, x: float, y: float, *, width: int, height: int, microns_per_pixel: float | None = None
    ) -> npt.NDArray[np.uint8]:
        """Read a region.

        Parameters
        ----------
        x, y : pixels of level 0
            Top left corner; may lie outside of the slide.
        width, height : int, pixels at ``microns_per_pixel``
            Of the region.
        microns_per_pixel : float or None, um
            Wanted resolution; level 0 as it is when None, which needs no known resolution.

        Returns
        -------
        array (height, width, 3), uint8
            sRGB; white outside of the slide and where nothing was scanned.

        Raises
        ------
        InputError
            When the slide's resolution is not known or coarser than the wanted, or the region cannot be read.

        Notes
        -----
        Read from the coarsest level that is at least as fine as wanted. Where that level has the wanted
        resolution, pixels are copied; else they are resampled by Pillow's Lanczos filter, which smooths
        before it reduces. The filter sees the pixels around the region, so neighboring regions fit.
        """
        require_in_range("width", width, 1, math.inf)
        require_in_range("height", height, 1, math.inf)
        level, step = self._choose(microns_per_pixel)
        ratio = step / level.downsample
        left, top = x / level.downsample, y / level.downsample
        if ratio == 1.0:
            return self._read_level(level, round(left), round(top), width, height)
        side = max(int(math.sqrt(_BLOCK_PIXELS) / ratio) - 2 * _LANCZOS_REACH, 16)
        region = np.empty((height, width, 3), dtype=np.uint8)
        for row in range(0, height, side):
            for column in range(0, width, side):
                part = region[row : row + side, column : column + side]
                part[:] = self._resample(
                    level, left + column * ratio, top + row * ratio, part.shape[1], part.shape[0], ratio
                )
        return region

    def thumbnail(self, microns_per_pixel: float | None) -> npt.NDArray[np.uint8]:
        """Read the whole slide at a coarse resolution, block by block.

        Returns
        -------
        array (height, width, 3), uint8
            Of :meth:`size_at`.

        Raises
        ------
        InputError
            As :meth:`read`.
        """
        width, height = self.size_at(microns_per_pixel)
        return self.read(0, 0, width=width, height=height, microns_per_pixel=microns_per_pixel)

    def _choose(self, microns_per_pixel: float | None) -> tuple[Level, float]:
        """Return the level to read, and pixels of level 0 per pixel that is returned."""
        if microns_per_pixel is None:
            return self.levels[0], 1.0
        require_in_range("microns_per_pixel", microns_per_pixel, 0, math.inf, include_low=False)
        base = self.require_resolution()
        factor = microns_per_pixel / base
        if factor < 1 - RESOLUTION_TOLERANCE:
            fail(
                f"has {base:g} micrometers per pixel, and is asked for {microns_per_pixel:g}, which is finer",
                path=self.path,
                remedy=f"cut tiles at {base:g} or more (medrestore histology tiles --microns-per-pixel), or "
                "take a slide scanned at a higher magnification",
            )
        fine = [level for level in self.levels if level.downsample <= factor * (1 + RESOLUTION_TOLERANCE)]
        level = max(fine, key=lambda level: level.downsample) if fine else self.levels[0]
        same = abs(level.downsample / factor - 1) <= RESOLUTION_TOLERANCE + 1e-9  # the same 2 % both ways
        return level, level.downsample if same else factor

    def _resample(
        self, level: Level, left: float, top: float, width: int, height: int, ratio: float
    ) -> npt.NDArray[np.uint8]:
        """Read a region that begins between pixels of a level, reduced by ``ratio``."""
        from PIL import Image

        margin = math.ceil(_LANCZOS_REACH * max(ratio, 1.0)) + 1
        x0, y0 = math.floor(left) - margin, math.floor(top) - margin
        x1 = math.ceil(left + width * ratio) + margin
        y1 = math.ceil(top + height * ratio) + margin
        pixels = self._read_level(level, x0, y0, x1 - x0, y1 - y0)
        box = (left - x0, top - y0, left - x0 + width * ratio, top - y0 + height * ratio)
        reduced = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS, box=box)
        return np.asarray(reduced)

    def _read_level(self, level: Level, x: int, y: int, width: int, height: int) -> npt.NDArray[np.uint8]:
        """Read pixels of a level as they are, x and y in its pixels; white where there are none."""
        source = self._open_source()
        region = np.full((height, width, 3), 255, dtype=np.uint8)
        x0, y0 = max(x, 0), max(y, 0)
        x1, y1 = min(x + width, level.width), min(y + height, level.height)
        if x0 < x1 and y0 < y1:
            region[y0 - y : y1 - y, x0 - x : x1 - x] = source.read(level.index, x0, y0, x1 - x0, y1 - y0)
        return region

    def _open_source(self) -> Source:
        with self._lock:
            if self._source is None:
                fail("is closed", path=self.path)
            if self._process != os.getpid():
                self._source = open_source(self.path)
                self._process = os.getpid()
            return self._source


def open_slide(
    path: str | os.PathLike[str], *, microns_per_pixel: float | None = None, override: bool = False
) -> Slide:
    """Open a slide or picture.

    Parameters
    ----------
    path : path
        Whole slide of any format that OpenSlide reads, or a PNG, JPEG or TIFF picture.
    microns_per_pixel : float or None, um
        Resolution of level 0 of a file that states none. What a file states wins; where the two differ by
        more than 2 %, :attr:`Slide.notes` says so.
    override : bool
        What is given wins over the file, whose own resolution is not even looked at.

    Returns
    -------
    Slide
        A context manager.

    Raises
    ------
    InputError
        When there is no such file, it cannot be read, or is no 8-bit RGB picture without transparency; when
        a resolution is not between 0.05 and 20 um/pixel, or those along x and y differ by more than 1 %, and
        they are not overruled.

    Notes
    -----
    Resolutions coarser than 20 um/pixel in a file are those of a screen or a printer (72 to 1200 dpi), which
    many programs write unasked; they are not taken for those of a microscope.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> path = Path(tempfile.mkdtemp()) / "picture.png"
    >>> Image.new("RGB", (64, 48), "pink").save(path)
    >>> with open_slide(path, microns_per_pixel=0.25) as slide:
    ...     slide.read(0, 0, width=16, height=12, microns_per_pixel=1.0).shape
    (12, 16, 3)
    """
    return Slide(path, microns_per_pixel=microns_per_pixel, override=override)


def _reopen(path: Path, asked: dict[str, Any]) -> Slide:
    return Slide(path, **asked)
