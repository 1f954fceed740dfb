from __future__ import annotations

import dataclasses
from collections.abc import Callable
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from medrestore.domains.amyloid_pet.study import SUVR
from medrestore.metrics.quantitative import bland_altman
from medrestore.study.analysis.analyze import analyze_study
from medrestore.study.analysis.quantified import Quantified
from medrestore.study.analysis.reader_group import GroupTables, ReaderGroup
from medrestore.study.layout import Study
from medrestore.study.report import bars, figures, forest
from medrestore.study.report.figure_style import arm_styles

SVG = "{http://www.w3.org/2000/svg}"
QUESTIONS = {"positive": "Decision", "quality": "Image quality"}
DRAWINGS: dict[str, Callable[[ReaderGroup], bytes | None]] = {
    "differences": forest.draw_differences,
    "readers": lambda group: forest.draw_readers(group, group.measured[:3]),
    "agreement": lambda group: forest.draw_agreement(group, QUESTIONS),
    "roc": figures.draw_roc,
    "times": figures.draw_times,
    "quality": bars.draw_quality,
    "guesses": bars.draw_guesses,
}


@pytest.fixture(scope="module")
def group(read_example: Study) -> ReaderGroup:
    return analyze_study(read_example).main


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_figure_is_svg_whose_bytes_repeat(name, group):
    drawing = DRAWINGS[name](group)
    assert drawing is not None
    assert ElementTree.fromstring(drawing).tag == f"{SVG}svg"  # noqa: S314
    assert DRAWINGS[name](group) == drawing
    for word in (b"<dc:date>", b"matplotlib v", b"sub-zz", b"/data/"):
        assert word not in drawing


@pytest.mark.parametrize("name", DRAWINGS)
def test_what_is_not_there_is_not_drawn(name, group):
    empty = dataclasses.replace(
        group,
        measures={},
        primary=None,
        verdict=None,
        tables=GroupTables(),
        curves={},
        guessed=None,
        times=group.times.iloc[:0],
    )
    assert DRAWINGS[name](empty) is None


def lines_of(drawing: bytes | None, color: str) -> int:
    """Number of strokes in a color."""
    assert drawing is not None
    style = f"stroke: {color.lower()}"
    return sum(style in (item.get("style") or "") for item in ElementTree.fromstring(drawing).iter())  # noqa: S314


def test_every_reader_and_arm_has_a_curve(group):
    drawing = figures.draw_roc(group)
    for arm, style in arm_styles(group.arms).items():
        if arm != group.arms[0]:  # its color is that of axes and text too
            # Three readers, their mean, the mean among the means and its entry in the legend.
            assert lines_of(drawing, style.color) == 6, arm


def test_bars_are_as_long_as_the_shares(group):
    drawing = bars.draw_quality(group)
    assert drawing is not None
    colors = [
        item.get("style", "")
        for item in ElementTree.fromstring(drawing).iter(f"{SVG}path")  # noqa: S314
    ]
    filled = [style for style in colors if "fill: #1f5f99" in style]
    # All and three readers, three arms each, and the entry in the legend.
    assert len(filled) == 4 * 3 + 1


def test_arms_are_told_apart_without_color():
    styles = arm_styles([f"arm{place}" for place in range(5)])
    assert len({style.color for style in styles.values()}) == 5
    assert len({style.marker for style in styles.values()}) == 5
    assert len({str(style.dashes) for style in styles.values()}) == 5


def test_suvr_has_a_panel_for_every_arm_but_the_reference():
    random = np.random.default_rng(0)
    rows = [
        {
            "case": f"sub-zz{case}",
            "arm": arm,
            "suvr": 1.3 + 0.02 * case + spread * random.normal(),
            "truth": float(case % 2) if case < 9 else np.nan,
        }
        for case in range(10)
        for arm, spread in (("standard", 0.0), ("gan", 0.05), ("taskgan", 0.02))
    ]
    table = pd.DataFrame(rows)
    standard = table[table["arm"] == "standard"].set_index("case")["suvr"]
    table["difference"] = (table["suvr"] - table["case"].map(standard)).where(table["arm"] != "standard")
    agreement = []
    for arm in ("gan", "taskgan"):
        own = table[table["arm"] == arm]
        limits = bland_altman(own["suvr"].to_numpy(), (own["suvr"] - own["difference"]).to_numpy())
        agreement.append({"arm": arm, "cases": 10, **limits._asdict()})
    drawing = figures.draw_quantified(Quantified(SUVR, "standard", table, pd.DataFrame(agreement)))
    assert drawing is not None
    assert drawing.count(b'id="axes_') == 2
    assert b"sub-zz" not in drawing
    nothing = Quantified(
        SUVR, "standard", table, pd.DataFrame(columns=["arm", "cases", "bias", "sd", "lower", "upper"])
    )
    assert figures.draw_quantified(nothing) is None
