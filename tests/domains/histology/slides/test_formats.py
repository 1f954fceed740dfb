"""Files that hold more, or other things, than the picture that is read: refused or told of."""

from __future__ import annotations

import re
import shlex
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pandas as pd
import pytest
import tifffile
from leica import write_leica
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from medrestore.checks import InputError
from medrestore.domains.histology.slides.formats import _plane_notes
from medrestore.domains.histology.slides.reader import open_slide
from medrestore.domains.histology.slides.reduce import reduce_slide
from medrestore.domains.histology.tiles import make_tiles
from medrestore.operators.resampling import GaussianSubsampling

RGB = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
GRAY = RGB[..., 0]
APERIO = "Aperio Image Library v11\r\n128x96 (32x32) |AppMag = 20|MPP = 0.5"
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def write(path: Path, *pages: NDArray[Any], **options: Any) -> Path:
    """Write pages that OpenSlide reads; of Aperio's format where the name says so."""
    given: dict[str, Any] = {"photometric": "rgb", "tile": (32, 32), "metadata": None} | options
    if path.suffix == ".svs":
        given["description"] = APERIO
    with tifffile.TiffWriter(path) as writer:
        for page in pages:
            writer.write(page, **given)
    return path


def read(path: Path) -> NDArray[np.uint8]:
    with open_slide(path) as slide:
        return slide.read(0, 0, width=slide.width, height=slide.height)


# ---------------------------------------------------------------------------- what is no RGB of 8 bits
@pytest.mark.parametrize("name", ["a.svs", "a.tiff"])
@pytest.mark.parametrize(
    ("pixels", "options", "words"),
    [
        (GRAY, {"photometric": "minisblack"}, "is grayscale, expected RGB"),
        (GRAY, {"photometric": "miniswhite"}, "is grayscale, expected RGB"),
        (GRAY.astype(np.uint16), {"photometric": "minisblack"}, "is grayscale"),
        (GRAY, {"photometric": "palette", "colormap": np.zeros((3, 256), np.uint16)}, "is palette"),
        (np.dstack([RGB, GRAY]), {"photometric": "separated"}, "is CMYK"),
        (RGB, {"photometric": "cielab"}, "is CIELAB"),
        (RGB.astype(np.uint16), {}, "has 16 bits per color, expected 8"),
        (RGB.astype(np.int8), {}, "is of signed numbers"),
        (RGB.astype(np.float32), {}, "is of floating-point numbers"),
        (np.dstack([RGB, GRAY, GRAY]), {"extrasamples": [0, 0]}, "has 5 channels, expected 3"),
    ],
)
def test_slides_of_other_colors_are_refused_as_pictures_are(name, pixels, options, words, tmp_path):
    with pytest.raises(InputError, match=rf"{re.escape(name)}: {words}.*Remedy: save it as an 8-bit RGB"):
        open_slide(write(tmp_path / name, pixels, **options))


def run_command(message: str) -> None:
    """Run the command that a remedy names."""
    command = message.partition("python -c ")[2]
    words = shlex.split(f"python -c {command}")
    subprocess.run([sys.executable, *words[1:]], check=True, timeout=60)


@pytest.mark.parametrize("name", ["a.svs", "a b's.tiff"])
@pytest.mark.parametrize("tile", [(32, 32), None])
def test_channel_of_no_stated_kind_is_refused_and_the_remedy_helps(name, tile, tmp_path):
    """OpenSlide takes it for transparency: zeros in it make a slide white."""
    clear = np.zeros((*GRAY.shape, 1), np.uint8)
    path = write(
        tmp_path / name, np.dstack([RGB, clear]), extrasamples=[0], tile=tile, resolution=(2e4, 2e4),
        resolutionunit="CENTIMETER",
    )  # fmt: skip
    with pytest.raises(InputError, match="has a fourth channel, and does not say of what kind") as refused:
        open_slide(path)
    run_command(str(refused.value))
    copy = tmp_path / f"{path.stem}_rgb.tiff"
    np.testing.assert_array_equal(read(copy), RGB)
    with open_slide(copy) as slide:
        assert slide.microns_per_pixel == pytest.approx(0.5)


def test_stated_transparency_of_a_slide_is_what_was_not_scanned(tmp_path):
    alpha = np.full(GRAY.shape, 255, np.uint8)
    alpha[:32, :32] = 0
    found = read(write(tmp_path / "a.tiff", np.dstack([RGB, alpha]), extrasamples=[2], compression="zlib"))
    assert (found[:32, :32] == 255).all()
    np.testing.assert_array_equal(found[32:], RGB[32:])


@pytest.mark.parametrize("tile", [(32, 32), None])
@pytest.mark.parametrize(
    ("compression", "words"),
    [
        ("jpeg2000", "JPEG 2000"),
        ("webp", "WebP"),
        ("jpegxl", "JPEG XL"),
        ("lerc", "LERC"),
        ("png", "PNG"),
        ("jpegxr", "JPEG XR"),
    ],
)
def test_compression_that_is_not_read_is_named_and_the_remedy_helps(
    compression, words, tile, tmp_path, capfd
):
    path = write(
        tmp_path / "a.tiff", RGB, compression=compression, compressionargs={"level": 0}, tile=tile,
        iccprofile=PROFILE, resolution=(2e4, 2e4), resolutionunit="CENTIMETER",
    )  # fmt: skip
    with pytest.raises(
        InputError, match=rf"a\.tiff: is a TIFF compressed by {words}, which \w+ does not"
    ) as refused:
        read(path)
    assert "damaged" not in str(refused.value)
    assert capfd.readouterr().err == ""  # libtiff says things by itself
    if tile is None:
        return  # one process for each is enough
    run_command(str(refused.value))
    with open_slide(tmp_path / "a_rgb.tiff") as slide, tifffile.TiffFile(path) as file:
        found = slide.read(0, 0, width=slide.width, height=slide.height)
        np.testing.assert_array_equal(found, file.pages[0].asarray())
        assert (slide.icc_profile, slide.microns_per_pixel) == (PROFILE, pytest.approx(0.5))


def test_strips_that_pillow_reads_are_read(tmp_path):
    np.testing.assert_array_equal(read(write(tmp_path / "a.tiff", RGB, compression="lzma", tile=None)), RGB)
    with pytest.raises(InputError, match="is a TIFF compressed by LZMA, which OpenSlide does not read"):
        open_slide(write(tmp_path / "b.tiff", RGB, compression="lzma"))


@pytest.mark.parametrize("format", ["WEBP", "BMP", "GIF", "JPEG2000"])
def test_pictures_of_other_formats_are_named(format, tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png", format=format)
    with pytest.raises(InputError, match=rf"is a {format} picture, expected PNG, JPEG or TIFF.*convert it"):
        open_slide(tmp_path / "a.png")


def test_empty_file_is_said_to_be_empty(tmp_path):
    (tmp_path / "a.svs").touch()
    with pytest.raises(InputError, match=r"a\.svs: is empty\. Remedy: copy the file again"):
        open_slide(tmp_path / "a.svs")


# ---------------------------------------------------------------------------- what is not shown
@pytest.mark.parametrize("name", ["a.svs", "a.tiff"])
def test_planes_are_not_lost_without_a_word(name, tmp_path):
    path = write(tmp_path / name, RGB, 255 - RGB, 255 - RGB)
    with open_slide(path) as slide:
        assert "holds 3 images of full size" in slide.notes[0]
    np.testing.assert_array_equal(read(path), RGB)


def test_planes_of_stacks_and_pictures(tmp_path):
    stack = np.stack([RGB, RGB, RGB])
    ome = {"axes": "ZYXS"}
    tifffile.imwrite(tmp_path / "z.ome.tiff", stack, photometric="rgb", tile=(32, 32), metadata=ome)
    tifffile.imwrite(tmp_path / "z.tif", stack, imagej=True, metadata=ome)
    write(tmp_path / "strips.tiff", RGB, RGB, RGB, tile=None)
    first, *others = (Image.fromarray(plane) for plane in stack)
    first.save(tmp_path / "moving.png", save_all=True, append_images=others)
    first.save(tmp_path / "several.jpg", format="MPO", save_all=True, append_images=others)
    for name in ("z.ome.tiff", "z.tif", "strips.tiff", "moving.png", "several.jpg"):
        with open_slide(tmp_path / name) as slide:
            assert re.match("holds 3 (images|pictures)", slide.notes[0]), name
    write(tmp_path / "scenes.tiff", RGB, RGB[:40, :100])
    with open_slide(tmp_path / "scenes.tiff") as slide:
        assert slide.notes == ("holds 1 further image of another size, not used",)


def test_levels_labels_and_previews_are_no_planes(shared_data, tmp_path):
    path = write(tmp_path / "pyramid.tiff", RGB, RGB[::2, ::2], RGB[::4, ::4])  # not marked as reduced
    for made in (path, shared_data("histology/cmu_1_small_region.svs")):
        with open_slide(made) as slide:
            assert slide.notes == ()


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"dicom.TotalPixelMatrixFocalPlanes": "5"}, "holds 5 focal planes"),
        ({"hamamatsu.NoLayers": "3"}, "holds 3 focal planes"),
        ({"zeiss.Information.Image.SizeZ": "7"}, "holds 7 focal planes"),
        (
            {
                "mirax.HIERARCHICAL.HIER_2_NAME": "Microscope focus level",
                "mirax.HIERARCHICAL.HIER_2_COUNT": "9",
            },
            "holds 9 focal planes",
        ),
        ({"hamamatsu.NoLayers": "1", "zeiss.Information.Image.SizeZ": ""}, None),
    ],
)
def test_scanners_count_their_planes(properties, words):
    notes = _plane_notes(None, properties, generic=False)
    assert [note.partition(";")[0] for note in notes] == ([] if words is None else [words])


# ---------------------------------------------------------------------------- orientation
@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tiff"])
def test_pictures_are_read_upright_and_it_is_said(name, orientation, tmp_path):
    path = tmp_path / name
    if name == "a.tiff":
        turn = [(274, "H", 1, orientation, True)]
        write(path, RGB, tile=None, extratags=turn, resolution=(2e4, 2.01e4), resolutionunit="CENTIMETER")
    else:
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(RGB).save(path, exif=exif, quality=95)
    with Image.open(path) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture))
    with open_slide(path) as slide:
        assert (slide.height, slide.width) == expected.shape[:2]
        np.testing.assert_array_equal(slide.read(0, 0, width=slide.width, height=slide.height), expected)
        words = (f"states orientation {orientation}; it is read upright",)
        assert slide.notes == (() if orientation == 1 else words)


def test_slides_are_read_as_stored_or_refused_where_tiles_would_be_turned(tmp_path):
    turn = [(274, "H", 1, 6, True)]
    jpeg = write(tmp_path / "a.tiff", RGB, compression="jpeg", extratags=turn)
    with open_slide(jpeg) as slide:
        assert slide.notes == ("states orientation 6; its pixels are read as they are stored, not turned",)
    np.testing.assert_array_equal(read(jpeg), tifffile.imread(jpeg))
    for name in ("b.tiff", "b.svs"):
        with pytest.raises(InputError, match=rf"{name}: states orientation 6, by which OpenSlide turns each"):
            open_slide(write(tmp_path / name, RGB, extratags=turn))


# ---------------------------------------------------------------------------- color profile
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tiff", "a.svs"])
def test_reduced_slide_carries_the_color_profile(name, call, tmp_path):
    path = tmp_path / name
    if path.suffix in (".png", ".jpg"):
        Image.fromarray(RGB).save(path, icc_profile=PROFILE)
    else:
        write(path, RGB, iccprofile=PROFILE)
    done = call("histology", "reduce", path, "--output", tmp_path / "low.tiff")
    assert done.code == 0, done.err
    with openslide.OpenSlide(str(tmp_path / "low.tiff")) as slide:
        assert slide.read_region((0, 0), 0, (1, 1)).info["icc_profile"] == PROFILE
    with open_slide(tmp_path / "low.tiff") as again:
        assert again.icc_profile == PROFILE


# ---------------------------------------------------------------------------- bounds of the scan
def tissue(height: int, width: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(0).normal(0, 25, (height, width, 1))
    stained = np.array([190, 110, 160]) + noise
    return np.clip(stained, 0, 255).astype(np.uint8)


def test_tiles_lie_in_what_was_scanned(tmp_path):
    path = write_leica(tmp_path / "a.scn", tissue(200, 256), corner=(100, 80), canvas=(512, 384))
    with open_slide(path) as slide:
        assert (slide.width, slide.height, slide.bounds) == (512, 384, (100, 80, 256, 200))
        assert (slide.microns_per_pixel, slide.notes) == (1.0, ())
    (tmp_path / "slides.csv").write_text("slide,subject_id,split\na.scn,1,train\n")
    manifest = make_tiles(
        tmp_path / "slides.csv", output=tmp_path / "out", tile_size=64, microns_per_pixel=1.0, progress=False
    )
    table = pd.read_csv(manifest)
    assert sorted(set(table["x"])) == [100, 164, 228, 292]
    assert sorted(set(table["y"])) == [80, 144, 208]


def test_reduced_slide_is_what_was_scanned(tmp_path):
    pixels = tissue(200, 256)
    path = write_leica(tmp_path / "a.scn", pixels, corner=(100, 80), canvas=(512, 384))
    low = reduce_slide(
        path,
        output=tmp_path / "low.tiff",
        degradation=GaussianSubsampling(),
        compression="deflate",
        progress=False,
    )
    with open_slide(path) as slide:
        scanned = slide.read(100, 80, width=256, height=200)
    np.testing.assert_array_equal(read(low), GaussianSubsampling(scale=4, sigma=2.0).picture(scanned))


# ---------------------------------------------------------------------------- damage
@pytest.mark.parametrize("name", ["a.svs", "a.tiff"])
@pytest.mark.parametrize("tag", [322, 323])
def test_tiles_of_a_claimed_size_do_not_end_the_process(name, tag, tmp_path):
    """OpenSlide aborts where it gets no memory for a tile."""
    path = write(tmp_path / name, RGB)
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].tags[tag].offset
    damaged = bytearray(path.read_bytes())
    damaged[place : place + 12] = struct.pack("<HHII", tag, 4, 1, 2**31)
    path.write_bytes(damaged)
    with pytest.raises(InputError, match=rf"{name}: cannot be read"):
        read(path)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_damaged_pictures_are_read_or_refused_in_one_line(name, tmp_path):
    path = tmp_path / name
    Image.fromarray(RGB).save(path, dpi=(50_000, 50_000), icc_profile=PROFILE)
    whole, random = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(100):
        damaged = bytearray(whole)
        for place in random.integers(0, 400, random.integers(1, 4)):
            damaged[place] = random.integers(0, 256)
        path.write_bytes(damaged)
        try:
            with open_slide(path, microns_per_pixel=0.5) as slide:
                slide.read(0, 0, width=min(slide.width, 64), height=min(slide.height, 64))
        except InputError as error:
            refused += 1
            assert str(path) in str(error)
            assert "\n" not in str(error)
    assert refused > 0
