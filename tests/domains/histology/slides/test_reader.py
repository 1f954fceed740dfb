"""Slides and pictures at a stated resolution."""

from __future__ import annotations

import multiprocessing
import pickle
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medrestore.checks import InputError
from medrestore.domains.histology.slides.reader import open_slide

COLORS = ((200, 0, 0), (0, 200, 0), (0, 0, 200))


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def colored(tmp_path: Path, write_pyramid: Callable[..., Path]) -> Path:
    """Write three levels, of 0.25, 0.5 and 1 um/pixel, each of a color of its own."""
    levels = [
        np.full((256 >> index, 384 >> index, 3), color, dtype=np.uint8) for index, color in enumerate(COLORS)
    ]
    return write_pyramid(tmp_path / "colored.tiff", levels)


def test_pyramid_tells_its_levels(colored):
    with open_slide(colored) as slide:
        assert (slide.width, slide.height) == (384, 256)
        assert slide.microns_per_pixel == pytest.approx(0.25, rel=1e-6)  # tags hold fractions of 32 bits
        assert [(level.width, level.height, level.downsample) for level in slide.levels] == [
            *((384, 256, 1.0), (192, 128, 2.0), (96, 64, 4.0))
        ]
        assert slide.levels[2].microns_per_pixel == pytest.approx(1.0, rel=1e-6)
        assert slide.size_at(0.5) == (192, 128)


@pytest.mark.parametrize(
    ("microns", "level"),
    [
        (None, 0),
        (0.25, 0),
        (0.246, 0),
        (0.4, 0),
        (0.495, 1),
        (0.505, 1),
        (0.52, 1),
        (0.9, 1),
        (0.99, 2),
        (3.0, 2),
    ],
)
def test_level_is_the_coarsest_that_is_fine_enough(colored, microns, level):
    with open_slide(colored) as slide:
        region = slide.read(64, 64, width=8, height=8, microns_per_pixel=microns)
    assert (region == COLORS[level]).all()


@pytest.mark.parametrize(
    ("microns", "step"), [(None, 1.0), (0.2455, 1.0), (0.26, 1.04), (0.505, 2.0), (0.75, 3.0)]
)
def test_step_is_what_a_pixel_spans(colored, microns, step):
    with open_slide(colored) as slide:
        assert slide.step(microns) == pytest.approx(step, rel=1e-6)


def test_native_levels_are_copied(tmp_path, write_pyramid):
    levels = [noise(256, 384), noise(128, 192, seed=1)]
    path = write_pyramid(tmp_path / "noise.tiff", levels)
    with open_slide(path) as slide:
        region = slide.read(33, 17, width=100, height=90, microns_per_pixel=0.25)
        np.testing.assert_array_equal(region, levels[0][17:107, 33:133])
        region = slide.read(34, 16, width=70, height=60, microns_per_pixel=0.505)
        np.testing.assert_array_equal(region, levels[1][8:68, 17:87])


def test_outside_is_white(tmp_path):
    pixels = noise(20, 30)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    expected = np.full((26, 40, 3), 255, dtype=np.uint8)
    expected[3:23, 5:35] = pixels
    with open_slide(tmp_path / "picture.png") as slide:
        np.testing.assert_array_equal(slide.read(-5, -3, width=40, height=26), expected)
        assert (slide.read(100, 0, width=4, height=4) == 255).all()


def test_not_scanned_is_white(colored, monkeypatch):
    import openslide

    rgba = np.zeros((2, 2, 4), dtype=np.uint8)
    rgba[0, 0], rgba[0, 1] = (10, 20, 30, 255), (10, 20, 30, 51)  # 51 / 255 is a fifth
    monkeypatch.setattr(openslide.OpenSlide, "read_region", lambda *_: Image.fromarray(rgba))
    with open_slide(colored) as slide:
        region = slide.read(0, 0, width=2, height=2)
    assert region[0, 0].tolist() == [10, 20, 30]
    assert region[0, 1].tolist() == [206, 208, 210]  # 255 * 4 / 5 + color / 5
    assert (region[1] == 255).all()


def test_resampling_keeps_centers(tmp_path):
    # A pixel that spans four of level 0, from 4 i on, has its center at 4 i + 1.5: a ramp tells.
    ramp = np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 120, axis=0).repeat(3, axis=2)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    with open_slide(tmp_path / "ramp.png", microns_per_pixel=0.25) as slide:
        region = slide.read(40, 20, width=20, height=5, microns_per_pixel=1.0)
    expected = 40 + 4 * np.arange(20) + 1.5
    assert np.abs(region[2, :, 0] - expected).max() <= 0.5  # rounding to 8 bits


def test_regions_are_those_of_the_whole_resampled_at_once(tmp_path):
    pixels = noise(240, 320)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    whole = np.asarray(Image.fromarray(pixels).resize((100, 75), Image.Resampling.LANCZOS))
    with open_slide(tmp_path / "noise.png", microns_per_pixel=0.25) as slide:
        region = slide.read(64, 32, width=40, height=30, microns_per_pixel=0.8)
    difference = np.abs(region.astype(int) - whole[10:40, 20:60])
    assert difference.max() <= 1  # Pillow's fixed-point weights round differently from place to place


def test_blocks_of_a_thumbnail_meet_without_seam(tmp_path, monkeypatch):
    Image.fromarray(noise(300, 400)).save(tmp_path / "noise.png")
    with open_slide(tmp_path / "noise.png", microns_per_pixel=0.25) as slide:
        at_once = slide.thumbnail(0.6)
        monkeypatch.setattr("medrestore.domains.histology.slides.reader._BLOCK_PIXELS", 100 * 100)
        in_blocks = slide.thumbnail(0.6)
    assert at_once.shape == (125, 167, 3)
    assert np.abs(at_once.astype(int) - in_blocks).max() <= 1  # as above


def test_without_resolution_level_0_can_be_read(tmp_path):
    pixels = noise(16, 16)
    Image.fromarray(pixels).save(tmp_path / "bare.png")
    with open_slide(tmp_path / "bare.png") as slide:
        assert slide.microns_per_pixel is None
        np.testing.assert_array_equal(slide.read(0, 0, width=16, height=16), pixels)
        with pytest.raises(InputError, match=r"bare\.png: has no resolution.*Remedy: state its micrometers"):
            slide.read(0, 0, width=4, height=4, microns_per_pixel=0.5)


def test_stated_resolution_wins_unless_overruled(colored):
    with open_slide(colored, microns_per_pixel=0.5) as slide:
        assert slide.require_resolution() == pytest.approx(0.25, rel=1e-6)
        assert slide.given_microns_per_pixel is None
        (note,) = slide.notes
        assert "states 0.25 micrometers per pixel, which hold, and not the 0.5 that were given" in note
    with open_slide(colored, microns_per_pixel=0.254) as slide:
        assert (slide.notes, slide.given_microns_per_pixel) == ((), None)
    with open_slide(colored, microns_per_pixel=0.5, override=True) as slide:
        assert slide.require_resolution() == 0.5
        assert slide.levels[1].microns_per_pixel == 1.0
        assert (slide.notes, slide.given_microns_per_pixel) == ((), 0.5)


def test_pictures_tell_their_resolution(tmp_path):
    picture = Image.fromarray(noise(8, 8))
    picture.save(tmp_path / "fine.png", dpi=(50_800, 50_800))
    picture.save(tmp_path / "fine.tif", dpi=(50_800, 50_800))
    picture.save(tmp_path / "screen.jpg", dpi=(72, 72))
    for name in ("fine.png", "fine.tif"):
        with open_slide(tmp_path / name) as slide:
            assert slide.microns_per_pixel == pytest.approx(0.5, rel=1e-5)  # PNG: whole pixels per meter
    with open_slide(tmp_path / "screen.jpg") as slide:
        assert slide.microns_per_pixel is None
        with pytest.raises(InputError, match="353 micrometers per pixel, those of a screen"):
            slide.require_resolution()


def test_pixels_that_are_not_square_are_refused(tmp_path, write_pyramid):
    path = write_pyramid(tmp_path / "oblong.tiff", [noise(64, 64)], microns_per_pixel=(0.25, 0.26))
    with pytest.raises(InputError, match=r"oblong\.tiff: has pixels that are not square: 0.25 by 0.26"):
        open_slide(path)
    with open_slide(path, microns_per_pixel=0.25, override=True) as slide:
        assert slide.microns_per_pixel == 0.25
    path = write_pyramid(tmp_path / "close.tiff", [noise(64, 64)], microns_per_pixel=(0.25, 0.252))
    with open_slide(path) as slide:
        assert slide.microns_per_pixel == pytest.approx(0.251, abs=1e-5)  # geometric mean, 0.250998


def test_finer_than_the_slide_is_refused(colored):
    with (
        open_slide(colored) as slide,
        pytest.raises(InputError, match=r"has 0\.25 .* asked for 0\.2, which is"),
    ):
        slide.read(0, 0, width=4, height=4, microns_per_pixel=0.2)


def test_unreadable_level_is_named(tmp_path, write_pyramid):
    import tifffile

    path = write_pyramid(tmp_path / "damaged.tiff", [noise(256, 256), noise(128, 128)])
    with tifffile.TiffFile(path) as file:
        place, count = file.pages[1].dataoffsets[0], file.pages[1].databytecounts[0]
    with path.open("rb+") as stream:
        stream.seek(place)
        stream.write(b"\x55" * count)
    with open_slide(path) as slide:
        slide.read(0, 0, width=64, height=64)
    with (
        open_slide(path) as slide,
        pytest.raises(InputError, match=r"damaged\.tiff: level 1 cannot be read at x 0"),
    ):
        slide.read(0, 0, width=64, height=64, microns_per_pixel=0.5)


@pytest.mark.parametrize(
    ("mode", "name", "words"),
    [
        ("CMYK", "a.jpg", "is CMYK"),
        ("CMYK", "a.tif", "is CMYK"),
        ("L", "a.png", "is grayscale"),
        ("P", "a.png", "is palette"),
        ("LA", "a.png", "is grayscale"),
        ("I;16", "a.png", "is of mode I;16"),
    ],
)
def test_other_colors_are_refused(tmp_path, mode, name, words):
    Image.new(mode, (8, 8)).save(tmp_path / name)
    with pytest.raises(
        InputError, match=f"{re.escape(name)}: {words}, expected RGB. Remedy: save it as an 8-bit RGB"
    ):
        open_slide(tmp_path / name)


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ((64, 64, 4), {"photometric": "separated"}, "is CMYK"),
        ((64, 64), {"photometric": "minisblack"}, "is grayscale"),
    ],
)
def test_other_colors_of_tiled_tiff_are_refused(tmp_path, write_pyramid, shape, options, words):
    path = write_pyramid(tmp_path / "tiled.tiff", [np.zeros(shape, dtype=np.uint8)], **options)
    with pytest.raises(InputError, match=rf"tiled\.tiff: {words}"):
        open_slide(path)


def test_sixteen_bits_are_refused(tmp_path, write_pyramid):
    import imagecodecs

    deep = np.zeros((64, 64, 3), dtype=np.uint16)
    (tmp_path / "deep.png").write_bytes(imagecodecs.png_encode(deep))
    paths = [tmp_path / "deep.png", write_pyramid(tmp_path / "deep.tiff", [deep])]
    for path in paths:
        with pytest.raises(InputError, match="has 16 bits per color, expected 8"):
            open_slide(path)


def test_transparency_is_refused_and_an_opaque_channel_not(tmp_path):
    rgba = np.full((8, 8, 4), 255, dtype=np.uint8)
    Image.fromarray(rgba).save(tmp_path / "opaque.png")
    with open_slide(tmp_path / "opaque.png") as slide:
        assert slide.read(0, 0, width=8, height=8).shape == (8, 8, 3)
    rgba[3, 3, 3] = 254
    Image.fromarray(rgba).save(tmp_path / "clear.png")
    with (
        pytest.raises(InputError, match=r"clear\.png: has transparent pixels"),
        open_slide(tmp_path / "clear.png") as slide,
    ):
        slide.read(0, 0, width=8, height=8)
    Image.new("RGB", (8, 8)).save(tmp_path / "key.png", transparency=(0, 0, 0))
    with pytest.raises(InputError, match=r"key\.png: has a transparent color"):
        open_slide(tmp_path / "key.png")


def test_files_that_are_no_pictures_are_refused(tmp_path):
    (tmp_path / "words.svs").write_text("no slide")
    with pytest.raises(InputError, match=r"words\.svs: is no slide and no PNG, JPEG or TIFF"):
        open_slide(tmp_path / "words.svs")
    with pytest.raises(InputError, match=r"none\.svs: no such file"):
        open_slide(tmp_path / "none.svs")
    Image.fromarray(noise(64, 64)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:4000])
    with (
        open_slide(tmp_path / "cut.png") as slide,
        pytest.raises(
            InputError, match=r"cut\.png: cannot be read \(.*truncated.*Remedy: copy the file again"
        ),
    ):
        slide.read(0, 0, width=8, height=8)


def test_huge_plain_pictures_are_refused(tmp_path, monkeypatch):
    Image.fromarray(noise(16, 16)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    with pytest.raises(InputError, match=r"large\.png: is too large.*pyramidal TIFF"):
        open_slide(tmp_path / "large.png")


def test_resolution_must_be_positive(colored):
    with pytest.raises(InputError, match="microns_per_pixel must be in"):
        open_slide(colored, microns_per_pixel=0)


def test_closed_slides_cannot_be_read(colored):
    slide = open_slide(colored)
    slide.close()
    with pytest.raises(InputError, match="is closed"):
        slide.read(0, 0, width=1, height=1)


def test_slides_are_pickled_by_path(colored):
    with (
        open_slide(colored, microns_per_pixel=0.3, override=True) as slide,
        pickle.loads(pickle.dumps(slide)) as again,  # noqa: S301
    ):
        assert (again.path, again.microns_per_pixel) == (colored, 0.3)
        assert (again.read(0, 0, width=4, height=4) == COLORS[0]).all()


def test_threads_read_the_same(tmp_path, write_pyramid):
    pixels = noise(512, 512)
    path = write_pyramid(tmp_path / "noise.tiff", [pixels])
    corners = [(x, y) for x in range(0, 512, 32) for y in range(0, 512, 32)]
    with open_slide(path) as slide, ThreadPoolExecutor(4) as pool:
        regions = pool.map(lambda corner: slide.read(*corner, width=32, height=32), corners)
        for (x, y), region in zip(corners, regions, strict=True):
            np.testing.assert_array_equal(region, pixels[y : y + 32, x : x + 32])


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_forked_processes_open_the_file_anew(colored):
    slide = open_slide(colored)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    before = id(slide._open_source())

    def read() -> None:
        queue.put((id(slide._open_source()) != before, slide.read(0, 0, width=1, height=1).tolist()))

    process = context.Process(target=read)
    process.start()
    process.join(20)
    assert queue.get() == (True, [[list(COLORS[0])]])
    assert id(slide._open_source()) == before
    slide.close()


def test_real_slide_reads_as_openslide_does(shared_data):
    import openslide

    path = shared_data("histology/cmu_1_small_region.svs")
    with open_slide(path) as slide:
        assert (slide.width, slide.height, slide.microns_per_pixel) == (2220, 2967, 0.499)
        region = slide.read(700, 900, width=200, height=100, microns_per_pixel=0.5)  # within 2 %
    with openslide.OpenSlide(str(path)) as reference:
        expected = np.asarray(reference.read_region((700, 900), 0, (200, 100)).convert("RGB"))
    np.testing.assert_array_equal(region, expected)
