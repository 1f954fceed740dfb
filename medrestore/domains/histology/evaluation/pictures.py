"""Reading restored tiles from PNG files."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import InputError

__all__ = ["picture_problem", "read_picture"]

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
