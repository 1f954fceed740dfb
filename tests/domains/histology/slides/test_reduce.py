"""Slides reduced: the pixels of the whole image reduced at once, at the right resolution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from medrestore.checks import InputError
from medrestore.domains.histology.slides import reduce
from medrestore.domains.histology.slides.reduce import reduce_slide
from medrestore.operators.resampling import GaussianSubsampling


def save_noise(path: Path, *, height: int, width: int) -> NDArray[np.uint8]:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image[: height // 2, : width // 2] = 243  # glass
    Image.fromarray(image).save(path)
    return image


@pytest.mark.parametrize(("scale", "sigma"), [(4, 2.0), (2, 3.0)])
def test_blocks_fit_to_the_image_reduced_at_once(scale, sigma, tmp_path, monkeypatch):
    monkeypatch.setattr(reduce, "TILE", 48)
    monkeypatch.setattr(reduce, "BLOCK", 80)  # several blocks in a tile, none of them whole at its end
    image = save_noise(tmp_path / "a.png", height=415, width=302)
    path = reduce_slide(
        tmp_path / "a.png",
        output=tmp_path / "out" / "a.tiff",
        degradation=GaussianSubsampling(scale, sigma),
        compression="deflate",
        progress=False,
    )
    whole = image[: 415 // scale * scale, : 302 // scale * scale]
    with tifffile.TiffFile(path) as file:
        np.testing.assert_array_equal(
            file.pages[0].asarray(), GaussianSubsampling(scale=scale, sigma=sigma).picture(whole)
        )


@pytest.mark.parametrize(("stated", "expected"), [(0.25, "1"), (None, None)])
def test_resolution_is_multiplied(stated, expected, tmp_path):
    save_noise(tmp_path / "a.png", height=64, width=80)
    path = reduce_slide(
        tmp_path / "a.png",
        output=tmp_path / "b.tiff",
        degradation=GaussianSubsampling(),
        microns_per_pixel=stated,
        progress=False,
    )
    with openslide.OpenSlide(str(path)) as slide:
        assert slide.properties.get("openslide.mpp-x") == expected
        assert slide.dimensions == (20, 16)


def test_real_slide(shared_data, tmp_path):
    source = shared_data("histology/cmu_1_small_region.svs")
    path = reduce_slide(source, output=tmp_path / "a.tiff", degradation=GaussianSubsampling(), progress=False)
    with openslide.OpenSlide(str(source)) as fine, openslide.OpenSlide(str(path)) as coarse:
        assert coarse.dimensions == (2220 // 4, 2967 // 4)
        assert float(coarse.properties["openslide.mpp-x"]) == pytest.approx(4 * 0.499, rel=1e-6)
        blocks = np.asarray(fine.read_region((400, 400), 0, (800, 800)).convert("RGB"), np.float64)
        found = np.asarray(coarse.read_region((99, 99), 0, (202, 202)).convert("RGB"), np.float64)
    # The Gaussian is close to the mean of its block, and less so to that of any block beside it.
    means = blocks.reshape(200, 4, 200, 4, 3).mean((1, 3))
    errors = {
        (y, x): np.mean((means - found[1 + y : 201 + y, 1 + x : 201 + x]) ** 2)
        for y in (-1, 0, 1)
        for x in (-1, 0, 1)
    }
    assert min(errors, key=lambda shift: errors[shift]) == (0, 0)
    assert errors[0, 0] < 0.5 * min(error for shift, error in errors.items() if shift != (0, 0))


def test_what_is_there_is_kept(tmp_path):
    save_noise(tmp_path / "a.png", height=64, width=80)
    (tmp_path / "b.tiff").write_bytes(b"somebody's work")
    with pytest.raises(InputError, match=r"b\.tiff: is there already; nothing is overwritten"):
        reduce_slide(
            tmp_path / "a.png", output=tmp_path / "b.tiff", degradation=GaussianSubsampling(), progress=False
        )
    assert (tmp_path / "b.tiff").read_bytes() == b"somebody's work"


def test_faults_are_refused(tmp_path):
    save_noise(tmp_path / "a.png", height=3, width=80)
    with pytest.raises(InputError, match=r"b\.png: a reduced slide is a TIFF file"):
        reduce_slide(
            tmp_path / "a.png", output=tmp_path / "b.png", degradation=GaussianSubsampling(), progress=False
        )
    with pytest.raises(InputError, match=r"a\.png: has 80 x 3 pixels, fewer than the scale 4"):
        reduce_slide(
            tmp_path / "a.png", output=tmp_path / "b.tiff", degradation=GaussianSubsampling(), progress=False
        )
