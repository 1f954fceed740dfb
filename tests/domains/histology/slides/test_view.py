"""Views of slides: what is seen is what the slide gives at that place and resolution."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from medrestore.checks import InputError
from medrestore.domains.histology.slides.reader import open_slide
from medrestore.domains.histology.slides.view import SlideView


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    return path, pixels


def test_a_region_at_full_resolution_is_the_slides(picture):
    path, pixels = picture
    with SlideView(open_slide(path, microns_per_pixel=0.25), region=(16, 8, 40, 32)) as view:
        assert view.bounds == (0, 0, 40, 32)
        assert view.source_bounds == (16, 8, 40, 32)
        assert (view.microns_per_pixel, view.notes) == (0.25, ())
        np.testing.assert_array_equal(view.read(4, 2, width=8, height=6), pixels[10:16, 20:28])


def test_a_coarser_view_reads_as_the_slide_does(picture):
    path, _ = picture
    with open_slide(path, microns_per_pixel=0.25) as slide:
        expected = slide.read(16 + 4 * 2, 8 + 4 * 3, width=5, height=4, microns_per_pixel=1.0)
        coarser = slide.read(16, 8, width=2, height=2, microns_per_pixel=4.0)
    with SlideView(
        open_slide(path, microns_per_pixel=0.25), microns_per_pixel=1.0, region=(16, 8, 64, 48)
    ) as view:
        assert view.bounds == (0, 0, 16, 12)
        np.testing.assert_array_equal(view.read(2, 3, width=5, height=4), expected)
        np.testing.assert_array_equal(view.read(0, 0, width=2, height=2, microns_per_pixel=4.0), coarser)
        assert view.step(4.0) == 4.0
        assert view.notes == ("has 0.25 um per pixel, and was read at 1",)


@pytest.mark.parametrize("region", [(0, 0, 97, 10), (-1, 0, 5, 5), (90, 0, 10, 5), (0, 0, 0, 5)])
def test_a_region_outside_of_the_slide_is_refused(picture, region):
    with pytest.raises(InputError, match=r"96 x 64 pixels, and the region .* is not in it"):
        SlideView(open_slide(picture[0], microns_per_pixel=0.25), region=region)


def test_a_view_needs_a_resolution_and_no_finer_one(picture):
    with pytest.raises(InputError, match="has no resolution"):
        SlideView(open_slide(picture[0]), region=(0, 0, 8, 8))
    with pytest.raises(InputError, match="which is finer"):
        SlideView(open_slide(picture[0], microns_per_pixel=0.5), microns_per_pixel=0.25)
