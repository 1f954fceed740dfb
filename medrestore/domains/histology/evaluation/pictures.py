"""Reading the tiles that are compared: true ones out of their slides, restored ones from PNG files."""

from __future__ import annotations

import struct
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import InputError
from medrestore.domains.histology.schema import open_tile_slide, read_tile

if TYPE_CHECKING:
    from medrestore.domains.histology.slides.reader import Slide

__all__ = ["Place", "TrueTiles", "picture_problem", "read_picture"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOR_TYPES = {0: "gray", 2: "RGB", 3: "palette", 4: "gray with transparency", 6: "RGB with transparency"}


def picture_problem(path: Path, *, size: int) -> str:
    """Say what keeps a file from being a restored tile, from its header alone; empty when nothing does.

    Parameters
    ----------
    path
        Of the file.
    size
        Height and width that it must have, in pixels.

    Notes
    -----
    PNG (ISO/IEC 15948), Section 11.2.2: signature, length and type of the first chunk, then width, height,
    bit depth and color type. Pillow turns 16 bits into 8 without a word, so the header is read here.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(26)
    except OSError as error:
        return f"{path}: cannot be read ({error.strerror})"
    if len(head) < 26 or not head.startswith(SIGNATURE) or head[12:16] != b"IHDR":
        return f"{path}: is no PNG file"
    width, height, depth, color = struct.unpack(">IIBB", head[16:26])
    if (depth, color) != (8, 2):
        kind = COLOR_TYPES.get(color, f"color type {color}")
        return f"{path}: must be RGB with 8 bits a channel, is {kind} with {depth}"
    if (width, height) != (size, size):
        return f"{path}: must be {size} x {size} pixels as the true tile, is {width} x {height}"
    return ""


def read_picture(path: Path, *, size: int) -> NDArray[np.uint8]:
    """Read a restored tile.

    Returns
    -------
    (size, size, 3) uint8

    Raises
    ------
    InputError
        When it is no such picture or its data are damaged.
    """
    from PIL import Image

    problem = picture_problem(path, size=size)
    if problem:
        raise InputError(problem)
    try:
        with Image.open(path) as picture:
            return np.array(picture.convert("RGB"), dtype=np.uint8)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(
            f"{path}: its data cannot be read ({error}). Remedy: restore the tile again"
        ) from error


class Place(NamedTuple):
    """Where a tile lies: its slide, its top left corner and its side in pixels of level 0."""

    slide: str
    x: int
    y: int
    side: float


class TrueTiles:
    """Reads true tiles; every thread keeps the slide open that it read from last.

    Tiles of a manifest come slide by slide, so a slide is opened a few times at most, and no more are open
    than there are threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[int, tuple[str, Slide]] = {}

    def read(self, row: Mapping[str, Any]) -> NDArray[np.uint8]:
        """Read the tile of a manifest's row.

        Returns
        -------
        (tile_size, tile_size, 3) uint8
        """
        return read_tile(self._slide(row), row)

    def place(self, row: Mapping[str, Any]) -> Place:
        """Say where the tile of a manifest's row lies."""
        side = int(row["tile_size"]) * self._slide(row).step(float(row["microns_per_pixel"]))
        return Place(str(row["slide_path"]), int(row["x"]), int(row["y"]), side)

    def _slide(self, row: Mapping[str, Any]) -> Slide:
        path = str(row["slide_path"])
        thread = threading.get_ident()
        with self._lock:
            held = self._open.pop(thread, None)
        if held is not None and held[0] != path:
            held[1].close()
            held = None
        slide = held[1] if held is not None else open_tile_slide(row)
        with self._lock:
            self._open[thread] = (path, slide)
        return slide

    def __enter__(self) -> TrueTiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all slides; threads that read must be done."""
        with self._lock:
            for _, slide in self._open.values():
                slide.close()
            self._open.clear()
