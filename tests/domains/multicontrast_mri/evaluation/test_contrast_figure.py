"""The figure: what is shown is chosen before anything is measured, and drawn as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from medrestore.data.schema import split_rows
from medrestore.data.volumes import read_volume
from medrestore.domains.multicontrast_mri.evaluation.evaluate import _choose
from medrestore.domains.multicontrast_mri.evaluation.figures import Showcase, draw_contrasts
from medrestore.domains.multicontrast_mri.schema import contrast_schema
from medrestore.evaluation.measures import foreground_mask

if TYPE_CHECKING:
    from conftest import ContrastCohort


@pytest.fixture
def rows(contrast_cohort: ContrastCohort) -> pd.DataFrame:
    table = contrast_schema(contrast_cohort.contrasts).read(contrast_cohort.manifest)
    return split_rows(table, "test")


def test_the_patient_of_median_lesion_volume_is_shown(contrast_cohort, rows):
    # Lesions grow with the subject's number; of sub-01 and sub-03 the lower median is the first.
    chosen = _choose(rows, contrast_cohort.contrasts)
    lesions = read_volume(contrast_cohort.folder / "subjects" / "sub-01" / "lesions.nii.gz").data > 0
    assert chosen.scan == "sub-01_ses-01"
    assert lesions[:, :, chosen.position].sum() == lesions.sum(axis=(0, 1)).max() > 0
    assert chosen.lesions


def test_without_lesions_the_middle_scan_is_shown(contrast_cohort, rows):
    controls = rows[rows["group"] == "control"].reset_index(drop=True)
    chosen = _choose(controls, contrast_cohort.contrasts)
    target = read_volume(contrast_cohort.folder / "subjects" / "sub-02" / "t1w.nii.gz")
    held = foreground_mask(target.data, voxel_size_mm=target.voxel_size_mm).any(axis=(0, 1))
    assert (chosen.scan, chosen.lesions) == ("sub-02_ses-01", False)
    assert chosen.position == np.flatnonzero(held)[held.sum() // 2]


def test_the_slice_is_cut_to_the_head():
    head = np.zeros((20, 24), dtype=bool)
    head[10, 12] = True
    shown = Showcase({}, position=2, head=head, voxel_size_mm=(4.0, 6.0), lesions=False)
    image = np.random.default_rng(0).random((20, 24, 3)).astype(np.float32)
    # A margin of 12 mm: three voxels of 4 mm, two of 6 mm.
    np.testing.assert_array_equal(shown.cut(image), image[7:14, 10:15, 2])


def test_rows_are_contrasts_and_a_chart_lies_below(tmp_path):
    summary = pd.DataFrame(
        [("gan", "t1w/psnr", 20.0, 19.0, 21.0, 3), ("taskgan", "t1w/psnr", 25.0, np.nan, np.nan, 1)],
        columns=["method", "metric", "mean", "low", "high", "subjects"],
    )
    shown = Showcase({}, position=1, head=np.ones((20, 24), bool), voxel_size_mm=(2.0, 2.0), lesions=True)
    image = np.zeros((20, 24), dtype=np.float32)
    image[:10] = 1.0
    methods = {"gan": image, "taskgan": image + np.float32(0.5), "true": image}
    channels = {"TD 150, TE 22 ms": image}
    heights = []
    for contrasts in (("t1w",), ("t1w", "t2_flair")):
        images = dict.fromkeys(contrasts, methods)
        draw_contrasts(shown, channels, images, summary, path=tmp_path / "figure.png")
        pixels = imread(tmp_path / "figure.png")[..., :3]
        heights.append(pixels.shape[0])
        # magma: a difference of half the true image's window is its brightest, a pale yellow.
        assert ((pixels[..., 0] > 0.95) & (pixels[..., 2] < 0.85) & (pixels[..., 1] > 0.9)).mean() > 0.02
    # One more row of 1.45 inches x 24 / 20 at 130 dots an inch, and a gap.
    assert heights[1] - heights[0] == pytest.approx(130 * (1.45 * 24 / 20 + 0.06), abs=2)
    draw_contrasts(shown, channels, {"t1w": methods}, summary.iloc[:0], path=tmp_path / "bare.png")
    assert imread(tmp_path / "bare.png").shape[0] < heights[0] - 150
