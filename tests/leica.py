"""Slides of Leica's format, which state what of them was scanned, made for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

_IMAGE = """<image name="{name}" uuid="urn:{number}"><creationDate>2020-01-01T00:00:00Z</creationDate>
<device model="SCN400" version="1"/><pixels sizeX="{width}" sizeY="{height}">
<dimension sizeX="{width}" sizeY="{height}" r="0" ifd="{number}"/></pixels>
<view sizeX="{across}" sizeY="{down}" offsetX="{left}" offsetY="{top}" spacingZ="0"/><scanSettings>
<objectiveSettings><objective>20</objective></objectiveSettings><illuminationSettings>
<numericalAperture>0.4</numericalAperture><illuminationSource>brightfield</illuminationSource>
</illuminationSettings></scanSettings></image>"""
_SLIDE = """<?xml version="1.0" encoding="utf-8"?>
<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01" uuid="urn:s"><collection name="slide"
 uuid="urn:c" sizeX="{across}" sizeY="{down}" barcode="">{images}</collection></scn>"""
_NANOMETERS = 1000  # per pixel


def write_leica(
    path: Path, pixels: NDArray[np.uint8], *, corner: tuple[int, int], canvas: tuple[int, int]
) -> Path:
    """Write a slide of 1 um/pixel whose pixels lie at (x, y) ``corner`` of a ``canvas`` (width, height)."""
    height, width = pixels.shape[:2]
    placed = ((0, width, height, *corner, width, height), (1, 64, 48, 0, 0, *canvas))
    images = "".join(
        _IMAGE.format(
            name="macro" if number else "main",
            number=number,
            width=columns,
            height=rows,
            left=left * _NANOMETERS,
            top=top * _NANOMETERS,
            across=across * _NANOMETERS,
            down=down * _NANOMETERS,
        )
        for number, columns, rows, left, top, across, down in placed
    )
    words = _SLIDE.format(across=canvas[0] * _NANOMETERS, down=canvas[1] * _NANOMETERS, images=images)
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for page, description in ((pixels, words), (np.full((48, 64, 3), 200, np.uint8), None)):
            writer.write(
                page,
                tile=(64, 64),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 95},
                description=description,
                resolution=(1e4, 1e4),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
    return path
