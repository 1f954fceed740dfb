from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medrestore.domains.histology.domain import DOMAIN
from medrestore.experiments.corruption_figure import corruption_figure
from medrestore.experiments.corruption_plan import find_study
from medrestore.experiments.corruption_results import pool_cells

VARIANTS = ("e", "qe", "sqe")
OF_KIND = find_study("histology"), DOMAIN.metrics


def lines_of(axes: Any) -> dict[str, tuple[list[float], list[float]]]:
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
        for line in axes.lines
        if not line.get_label().startswith("_")
    }


def test_panels_show_the_numbers(make_cells):
    found = pool_cells(make_cells(), *OF_KIND, variants=VARIANTS)
    figure = corruption_figure(found)

    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["RRMSE (lower is better)", "MS-mSSIM (higher is better)", "QILV (higher is better)"]
    for axes, metric in zip(figure.axes, ("rrmse", "ms_mssim", "qilv"), strict=True):
        held = found.results[found.results["metric"] == metric]
        lines = lines_of(axes)
        assert set(lines) == {"SRGAN_E", "SRGAN_QE", "SRGAN_SQE", "Bicubic"}
        percents, means = lines["SRGAN_QE"]
        assert percents == [0, 15, 30]
        assert means == held[held["variant"] == "qe"]["mean"].tolist()
        assert lines["Bicubic"][1] == [held[held["variant"] == "bicubic"]["mean"].item()] * 2
        low, high = axes.get_ylim()
        assert low < held["low"].min()
        assert held["high"].max() < high
        # A band and the points of three seeds for each variant.
        sizes = [len(item.get_offsets()) for item in axes.collections if item.get_offsets().shape[0] > 1]
        assert sizes == [9, 9, 9]
    assert "8 test patients and 3 seeds" in figure.texts[0].get_text()

    width, height = figure.get_size_inches()
    assert width > 2 * height


def test_a_far_reference_does_not_flatten_the_lines(make_cells):
    cells = make_cells()
    for table in cells.values():
        table.loc[table["method"] == "bicubic", "rrmse"] = 9.0
    axes = corruption_figure(pool_cells(cells, *OF_KIND, variants=VARIANTS)).axes[0]
    assert axes.get_ylim()[1] < 0.2
    assert [text.get_text() for text in axes.texts] == ["Bicubic 9.0000 ↑"]
    assert lines_of(axes)["Bicubic"] == ([], [])


@pytest.mark.parametrize("levels", [(0.0,), (0.0, 0.5), tuple(np.arange(11) / 20)])
def test_one_patient_one_seed_any_levels(levels, make_cells):
    cells = make_cells(levels=levels, seeds=(3,), patients=1, variants=("srgan", "other"))
    figure = corruption_figure(pool_cells(cells, *OF_KIND, variants=("srgan", "other")))
    text = figure.texts[0].get_text()
    assert "no intervals" in text
    assert "seed" not in text
    assert set(lines_of(figure.axes[0])) >= {"SRGAN", "other"}
