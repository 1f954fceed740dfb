"""Which numbers can be the resolution of a slide, and what is said of those that cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from medrestore.checks import InputError
from medrestore.domains.histology.slides.reader import open_slide
from medrestore.domains.histology.slides.resolution import implausible

PIXELS = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)


def write_svs(path: Path, mpp: str) -> Path:
    """Write what OpenSlide takes for a slide of Aperio's, with one property as it is given."""
    words = f"Aperio Image Library v11\r\n128x128 [0,0 128x128] (64x64) |AppMag = 20|MPP = {mpp}"
    tifffile.imwrite(path, PIXELS, tile=(64, 64), photometric="rgb", description=words, metadata=None)
    return path


def write_tagged(path: Path, per_unit: tuple[float, float], unit: str, **options: Any) -> Path:
    given: dict[str, Any] = {"tile": (64, 64), "metadata": None} | options
    tifffile.imwrite(path, PIXELS, photometric="rgb", resolution=per_unit, resolutionunit=unit, **given)
    return path


@pytest.mark.parametrize(
    ("mpp", "words"),
    [
        (
            "0.00025",
            r"states 0\.00025 micrometers per pixel \(openslide\.mpp-x.*as millimeters it would be 0\.25",
        ),
        ("0.000001", "states 1e-06 micrometers per pixel .*as meters it would be 1"),
        ("0.000025", "states 2.5e-05 .*as centimeters it would be 0.25"),
        ("250", "states 250 .*as nanometers it would be 0.25"),
        ("0.04", "states 0.04 micrometers per pixel"),
    ],
)
def test_stated_resolution_of_no_microscope_is_refused_and_can_be_overruled(mpp, words, tmp_path):
    path = write_svs(tmp_path / "a.svs", mpp)
    for given in (None, 0.25):
        with pytest.raises(InputError, match=rf"a\.svs: {words}.*Remedy: .*--override-microns-per-pixel"):
            open_slide(path, microns_per_pixel=given)
    with open_slide(path, microns_per_pixel=0.25, override=True) as slide:
        assert slide.require_resolution() == 0.25


@pytest.mark.parametrize("mpp", ["0", "-0.25", "nan", "inf", "unknown", ""])
def test_what_is_no_number_is_no_statement(mpp, tmp_path):
    path = write_svs(tmp_path / "a.svs", mpp)
    with open_slide(path) as slide, pytest.raises(InputError, match=r"a\.svs: has no resolution"):
        slide.require_resolution()
    if mpp:
        with (
            open_slide(path) as slide,
            pytest.raises(InputError, match=r"(MPP|mpp-x and openslide\.mpp-y): "),
        ):
            slide.require_resolution()
    with open_slide(path, microns_per_pixel=0.5) as slide:
        assert (slide.require_resolution(), slide.notes) == (0.5, ())


@pytest.mark.parametrize("tile", [(64, 64), None])  # read by OpenSlide, and by Pillow
@pytest.mark.parametrize(
    ("per_unit", "unit"),
    [
        ((40_000, 40_000), "CENTIMETER"),
        ((101_600, 101_600), "INCH"),
        ((4_000, 4_000), "MILLIMETER"),
        ((4, 4), "MICROMETER"),
    ],
)
def test_units_of_tiff(per_unit, unit, tile, tmp_path):
    path = write_tagged(tmp_path / "a.tiff", per_unit, unit, tile=tile)
    with open_slide(path) as slide:
        assert slide.microns_per_pixel == pytest.approx(0.25, rel=1e-6)


@pytest.mark.parametrize("tile", [(64, 64), None])
def test_tiff_without_unit_states_nothing(tile, tmp_path):
    with open_slide(write_tagged(tmp_path / "a.tiff", (40_000, 40_000), "NONE", tile=tile)) as slide:
        assert slide.microns_per_pixel is None


@pytest.mark.parametrize("tile", [(64, 64), None])
def test_tags_that_no_microscope_writes(tile, tmp_path):
    fine = write_tagged(tmp_path / "fine.tiff", (4e8, 4e8), "CENTIMETER", tile=tile)
    with pytest.raises(InputError, match=r"fine\.tiff: states 2\.5e-05 micrometers per pixel \(TIFF's"):
        open_slide(fine)
    oblong = write_tagged(tmp_path / "oblong.tiff", (40_000, 20_000), "CENTIMETER", tile=tile)
    with pytest.raises(InputError, match=r"not square: 0\.25 by 0\.5.*--override-microns-per-pixel"):
        open_slide(oblong)
    screen = write_tagged(tmp_path / "screen.tiff", (72, 72), "INCH", tile=tile)
    with open_slide(screen, microns_per_pixel=0.5) as slide:
        assert (slide.microns_per_pixel, slide.notes) == (0.5, ())


@pytest.mark.parametrize(("size", "unit"), [(0.25, "µm"), (250, "nm"), (0.00025, "mm")])
def test_ome_states_it(size, unit, tmp_path):
    sizes = {
        f"PhysicalSize{axis}{end}": value for axis in "XY" for end, value in (("", size), ("Unit", unit))
    }
    tifffile.imwrite(
        tmp_path / "a.ome.tiff", PIXELS, photometric="rgb", tile=(64, 64), metadata={"axes": "YXS", **sizes}
    )
    with open_slide(tmp_path / "a.ome.tiff") as slide:
        assert slide.microns_per_pixel == pytest.approx(0.25)


def test_imagej_states_it(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, imagej=True, resolution=(2, 2), metadata={"unit": "um"})
    with open_slide(path) as slide:
        assert slide.microns_per_pixel == pytest.approx(0.5)


def test_dots_per_inch_of_pictures(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png", dpi=(1e6, 1e6))
    with pytest.raises(InputError, match=r"a\.png: states .* \(its dots per inch\), which no microscope has"):
        open_slide(tmp_path / "a.png")


@pytest.mark.parametrize("given", [0.00025, 1e-6, 0.0, -0.5, float("nan"), float("inf"), 40.0])
def test_given_resolution_of_no_microscope_is_refused(given, tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"microns_per_pixel must be in \[0\.05, 20\] micrometers, got"):
        open_slide(tmp_path / "a.png", microns_per_pixel=given)
    assert implausible(given)


def test_commands_say_which_resolution_holds(call, tmp_path, caplog):
    """In reduce; that of tiles and of restorations is tried where they are."""
    path = write_svs(tmp_path / "a.svs", "0.5")
    done = call("histology", "reduce", path, "--output", tmp_path / "a.tiff", "--slide-microns-per-pixel", 1)
    assert done.code == 0, done.err
    assert (
        "states 0.5 micrometers per pixel, which hold, and not the 1 that were given"
        in done.err + caplog.text
    )
    with open_slide(tmp_path / "a.tiff") as slide:
        assert slide.microns_per_pixel == pytest.approx(2, rel=1e-6)
    done = call(
        *("histology", "reduce", path, "--output", tmp_path / "b.tiff", "--microns-per-pixel", 1),
        "--override-microns-per-pixel",
    )
    assert done.code == 0, done.err
    with open_slide(tmp_path / "b.tiff") as slide:
        assert slide.microns_per_pixel == pytest.approx(4, rel=1e-6)
    call(
        "histology", "reduce", path, "--output", tmp_path / "c.tiff", "--microns-per-pixel", 0.00025
    ).refused("as millimeters it would be 0.25")
