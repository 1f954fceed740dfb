from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from medrestore.domains.amyloid_pet.evaluation.figures import choose_scans, draw_evaluation, subject_panel
from medrestore.domains.amyloid_pet.measures import Reference
from medrestore.evaluation.drawing import RED
from medrestore.evaluation.panels import Panel


def make_table(suvr: list[float] | None, labels: list[int]) -> pd.DataFrame:
    rows = []
    for index, label in enumerate(labels):
        for method in ("input", "standard_dose"):
            row = {
                "subject_id": f"s{index}",
                "session_id": "1",
                "method": method,
                "label": label,
                "psnr": 20.0,
            }
            if suvr is not None:
                bias = 0.01 * index + 0 * suvr[index] if method == "input" else np.nan
                row |= {"suvr": suvr[index], "suvr_bias": bias}
            rows.append(row | {"task_score": 0.1 * index, "task_error": float(index == 0)})
    return pd.DataFrame(rows)


def test_typical_and_border_cases_are_chosen():
    # Medians 1.2 and 1.7; the classes' means 1.2 and 1.6 have 1.4 between them: nearest is 1.38.
    table = make_table([1.1, 1.2, 1.3, 1.38, 1.7, 1.72], [0, 0, 0, 1, 1, 1])
    assert choose_scans(table) == {
        "Positive": ("s4", "1"),
        "Negative": ("s1", "1"),
        "Border case": ("s3", "1"),
    }


def test_without_suvr_the_classifier_chooses():
    table = make_table(None, [0, 0, 0, 1, 1])  # scores 0, .1, .2 and .3, .4: means .1 and .35, middle .225
    assert choose_scans(table) == {
        "Positive": ("s3", "1"),
        "Negative": ("s1", "1"),
        "Border case": ("s2", "1"),
    }


def test_a_single_scan_is_shown_alone():
    assert choose_scans(make_table([1.1], [0])) == {"Negative": ("s0", "1")}


def make_reference(regions: bool) -> Reference:
    target = np.zeros((20, 24, 6), dtype=np.float32)
    target[4:16, 6:18, 1:5] = 1.0
    codes = np.zeros(target.shape, dtype=np.int16)
    codes[5, 7, 2] = 2  # one voxel of each region in slice 2; slice 3 has many, but of region 2 alone
    codes[6, 7, 2] = 3
    codes[5:15, 7:17, 3] = 2
    return Reference(
        target=target,
        foreground=target > 0,
        data_range=1.0,
        voxel_size_mm=(4.0, 6.0, 5.0),
        target_labels=(2, 3),
        scale=1.0,
        label=1,
        regions=codes if regions else None,
    )


@pytest.mark.parametrize(("regions", "position"), [(True, 2), (False, 3)])
def test_the_slice_shows_all_regions_and_is_cut_to_the_head(regions, position):
    reference = make_reference(regions)
    image = np.random.default_rng(0).random(reference.target.shape).astype(np.float32)
    measured = make_table([1.5], [1]).set_index("method")
    panel = subject_panel("Positive", {"input": image, "standard_dose": image}, reference, measured)
    assert panel.title == "Positive\nSUVR 1.50"
    assert panel.texts == {"input": "20.0 dB  ·  p 0.00", "standard_dose": "p 0.00"}
    assert set(panel.colors.values()) == {RED}  # read wrong
    # A margin of 12 mm: three voxels of 4 mm, two of 6 mm.
    np.testing.assert_array_equal(panel.images["input"], image[1:19, 4:20, position])


def test_the_figure_is_a_png_whose_panels_hold_the_images(tmp_path):
    standard = np.full((16, 20), 0.5, dtype=np.float32)
    standard[:8] = 1.0
    heights = []
    # Regions of one scan alone show no agreement.
    for suvr in ([1.1, 1.6], None, [1.1, float("nan")]):
        table = make_table(suvr, [0, 1])
        panels = [
            Panel(
                title,
                {"input": standard + np.float32(0.2), "standard_dose": standard},
                voxel_size_mm=(2.0, 2.0),
                texts={"input": "20.0 dB"},
            )
            for title in ("Negative", "Positive")
        ]
        draw_evaluation(panels, table, unit="SUV", path=tmp_path / "figure.png")
        pixels = imread(tmp_path / "figure.png")[..., :3]
        heights.append(pixels.shape[0])
        # Inverted gray: the brightest uptake is black; a difference of 2/3 of its window is red.
        assert (pixels < 0.02).all(axis=-1).mean() > 0.03
        assert (pixels[..., 0] > pixels[..., 2] + 0.3).mean() > 0.03
    assert heights[0] > heights[1] + 200  # Bland-Altman plots are nearly two inches high
    assert heights[1] == heights[2]
