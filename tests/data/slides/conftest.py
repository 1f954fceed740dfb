"""Slides made for tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def write_pyramid() -> Callable[..., Path]:
    """Write levels as a tiled pyramidal TIFF, which OpenSlide opens as generic-tiff."""
    import tifffile

    def write(
        path: Path,
        levels: Sequence[np.ndarray],
        *,
        microns_per_pixel: float | tuple[float, float] | None = 0.25,
        **options: Any,
    ) -> Path:
        settings: dict[str, Any] = {"photometric": "rgb", "compression": "zlib", "tile": (64, 64), **options}
        with tifffile.TiffWriter(path) as writer:
            for index, level in enumerate(levels):
                if microns_per_pixel is not None:
                    x, y = np.broadcast_to(np.asarray(microns_per_pixel) * 2**index, 2)
                    settings |= {"resolution": (1e4 / x, 1e4 / y), "resolutionunit": "CENTIMETER"}
                writer.write(level, subfiletype=int(index > 0), metadata=None, **settings)
        return path

    return write


@pytest.fixture
def draw_slide() -> Callable[..., Path]:
    """Write a picture of glass with a square of stained, textured tissue."""
    from PIL import Image

    def draw(
        path: Path,
        *,
        side: int = 256,
        tissue: tuple[int, int, int, int] | None = (0, 0, 256, 256),
        seed: int = 0,
    ) -> Path:
        random = np.random.default_rng(seed)
        pixels = np.full((side, side, 3), (243, 242, 244), dtype=np.uint8)
        if tissue is not None:
            left, top, right, bottom = tissue
            shape = (bottom - top, right - left, 1)
            stained = np.array([190, 110, 160]) + random.normal(0, 25, shape)
            pixels[top:bottom, left:right] = np.clip(stained, 0, 255).astype(np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        return path

    return draw
