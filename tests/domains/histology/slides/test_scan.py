"""The grid of tiles, and how much tissue they hold."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from medrestore.domains.histology.slides.reader import open_slide
from medrestore.domains.histology.slides.scan import _fractions, grid_positions


@pytest.mark.parametrize(
    ("length", "tile_size", "stride", "step", "expected"),
    [
        (512, 176, 168, 1.0, [0, 168, 336]),  # the last one ends at 512
        (511, 176, 168, 1.0, [0, 168]),
        (100, 100, 100, 1.0, [0]),
        (99, 100, 100, 1.0, []),
        (400, 64, 64, 2.0, [0, 128, 256]),
        (100, 10, 10, 1.25, [0, 12, 25, 38, 50, 62, 75, 88]),  # half to even: 12.5, 37.5, 62.5, 87.5
    ],
)
def test_grid(length, tile_size, stride, step, expected):
    assert grid_positions(length, tile_size=tile_size, stride=stride, step=step).tolist() == expected


def test_fractions_equal_a_loop(tmp_path):
    Image.new("RGB", (120, 90)).save(tmp_path / "slide.png")
    random = np.random.default_rng(0)
    mask = random.random((30, 40)) < 0.4  # a third of the slide's pixels along each axis
    corners = random.integers(0, 30, (50, 2)) * 3
    corners[:, 1] %= 60
    with open_slide(tmp_path / "slide.png") as slide:
        fractions = _fractions(mask, slide, corners, 30.0)
    for (x, y), fraction in zip(corners // 3, fractions, strict=True):
        assert fraction == mask[y : y + 10, x : x + 10].mean()
