"""The figure: what is shown is chosen by the true tiles alone, and drawn as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from medrestore.domains.histology.evaluation.figures import (
    Place,
    TilePanel,
    choose_tiles,
    draw_tiles,
    window_of,
)

DOTS, COLUMN = 150, 1.72
"""Dots an inch; width of an image in inches."""


def table_of(densities: dict[str, list[float]], **others: float) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for patient, values in densities.items():
        for number, density in enumerate(values):
            about = {"subject_id": patient, "session_id": f"{patient}_x{number}_y0"}
            rows.append({**about, "method": "e", "nuclei_density": -density, "rrmse": 1 / (1 + density)})
            rows.append({**about, "method": "true", "nuclei_density": density})
    return pd.DataFrame(rows)


def apart(tile: str) -> Place:
    """Tiles of a hundred pixels, a hundred pixels apart."""
    patient, number, _ = tile.split("_")
    return Place(patient, 100 * int(number[1:]), 0, 100.0)


def choose(table: pd.DataFrame) -> dict[str, str]:
    return choose_tiles(table, place=apart)


def test_quartiles_of_patients_and_the_median_tile_of_each_are_shown():
    # Means 100, 200, ..., 500: quartiles are the second to fourth. Of an even count the lower middle one.
    densities = {
        "a": [500.0],
        "b": [390.0, 400.0, 410.0],
        "c": [100.0],
        "d": [0.0, 190.0, 210.0, 400.0],
        "e": [300.0],
    }
    assert choose(table_of(densities)) == {
        "d_x1_y0": "190 nuclei / mm²",
        "e_x0_y0": "300 nuclei / mm²",
        "b_x1_y0": "400 nuclei / mm²",
    }


def test_fewer_patients_show_more_tiles():
    # Both patients by their median tiles, 30 and 5000; then the lower quartile of the sparser one.
    two = table_of({"a": [5000.0], "b": [10.0, 20.0, 30.0, 40.0, 50.0]})
    assert choose(two) == {
        "b_x1_y0": "20 nuclei / mm²",
        "b_x2_y0": "30 nuclei / mm²",
        "a_x0_y0": "5,000 nuclei / mm²",
    }
    assert list(choose(table_of({"a": [2.0, 1.0]}))) == ["a_x1_y0", "a_x0_y0"]
    uncounted = table_of({"a": [3.0], "b": [2.0], "c": [1.0]}).drop(columns="nuclei_density")
    assert choose(uncounted) == {"a_x0_y0": "", "b_x0_y0": "", "c_x0_y0": ""}


def test_tiles_that_overlap_least_are_shown():
    # Seven tiles half a tile apart, dense ones further right: the median is x3, overlapped by x2 and x4. Next
    # to the lower quartile, rank 1.5, are x1 and x2: x1. Next to the upper one, rank 4.5: x5, not x4.
    table = table_of({"a": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]})
    half = choose_tiles(table, place=lambda tile: apart(tile)._replace(side=200.0))
    assert list(half) == ["a_x1_y0", "a_x3_y0", "a_x5_y0"]
    # All overlap: those at the ends do least.
    all_over = choose_tiles(table, place=lambda tile: apart(tile)._replace(side=1000.0))
    assert list(all_over) == ["a_x0_y0", "a_x3_y0", "a_x6_y0"]
    # Far apart in one direction is apart.
    down = choose_tiles(table, place=lambda tile: Place("s", 0, apart(tile).x, 50.0))
    assert list(down) == ["a_x1_y0", "a_x3_y0", "a_x4_y0"]


def test_no_result_has_a_say():
    table = table_of({"a": [1.0, 2.0, 3.0], "b": [5.0], "c": [4.0, 9.0], "d": [7.0]})
    changed = table.copy()
    restored = changed["method"] == "e"
    changed.loc[restored, ["nuclei_density", "rrmse"]] = np.random.default_rng(0).random((restored.sum(), 2))
    assert choose(changed) == choose(table)


def test_the_window_holds_most_outline():
    labels = np.zeros((60, 50), dtype=np.int32)
    labels[30:42, 20:32] = 1
    labels[30:42, 33:39] = 2
    size = 16
    outline = np.zeros(labels.shape, dtype=int)
    for row in range(60):
        for column in range(50):
            near = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
            inside = [(i, j) for i, j in near if 0 <= i < 60 and 0 <= j < 50]
            edge = any(labels[place] != labels[row, column] for place in inside)
            outline[row, column] = labels[row, column] > 0 and edge
    sums = {
        (i, j): outline[i : i + size, j : j + size].sum()
        for i in range(8, 60 - size + 1 - 8)
        for j in range(8, 50 - size + 1 - 8)
    }
    found = window_of(labels, size=size)
    assert sums[found] == max(sums.values()) > 0
    # Nothing to outline: the middle.
    assert window_of(np.zeros((61, 61), dtype=np.int32), size=15) == (23, 23)


def make_panel(*, methods: tuple[str, ...] = ("bicubic", "e", "sqe")) -> TilePanel:
    """A gray tile of 64 pixels whose window, and nothing else, is green in every image."""
    corner = (16, 32)
    low = np.full((16, 16, 3), 128, dtype=np.uint8)
    low[4:8, 8:12] = (0, 200, 0)
    true = low.repeat(4, axis=0).repeat(4, axis=1)
    images = {"input": low, **dict.fromkeys(methods, true), "true": true}
    errors = {name: 0.1 / (index + 1) for index, name in enumerate(methods)}
    return TilePanel("1,234 nuclei / mm²", images, corner, 0.25, errors)


def summary_of(*methods: str) -> pd.DataFrame:
    rows = [(method, "rrmse", 0.1, 0.09, 0.12, 3) for method in methods]
    return pd.DataFrame(rows, columns=["method", "metric", "mean", "low", "high", "subjects"])


def draw(path: Path, panels: list[TilePanel], summary: pd.DataFrame) -> Any:
    draw_tiles(panels, summary, path=path)
    return (imread(path)[..., :3] * 255).round().astype(int)


def test_every_image_shows_the_same_window(tmp_path):
    pixels = draw(tmp_path / "figure.png", [make_panel(), make_panel()], summary_of("e", "true"))
    green = (pixels == (0, 200, 0)).all(axis=2)
    side = COLUMN * DOTS
    # Two tiles, five images each: the window filled, and a sixteenth of the tile. Frames cover edges.
    expected = 2 * 5 * side**2 * (1 + 1 / 16)
    assert 0.94 * expected < green.sum() <= expected
    # In the rows of windows nothing but frames and gaps lies between them.
    assert green.mean(axis=1).max() * pixels.shape[1] == pytest.approx(5 * side, rel=0.03)


def test_a_row_for_each_tile_and_a_chart_below(tmp_path):
    panel = make_panel()
    path = tmp_path / "figure.png"
    one = draw(path, [panel], summary_of("bicubic", "e", "sqe"))
    two = draw(path, [panel, panel], summary_of("bicubic", "e", "sqe"))
    # Two images of 1.72 inches, 0.06 between them, 0.26 for the number and 0.12 to the next tile.
    assert two.shape[0] - one.shape[0] == pytest.approx(DOTS * (2 * 1.72 + 0.06 + 0.26 + 0.12), abs=2)
    red = (np.abs(one - (0xD9, 0x8C, 0x1F)) < 8).all(axis=2)  # the second trained method's color
    assert red.sum() > 100
    bare = draw(path, [panel], summary_of())
    assert bare.shape[0] < one.shape[0] - DOTS
    narrow = draw(path, [make_panel(methods=("bicubic",))], summary_of("bicubic"))
    assert narrow.shape[1] == pytest.approx(7.6 * DOTS, abs=2)
