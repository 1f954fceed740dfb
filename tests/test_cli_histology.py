"""Commands of histology from slides to tables, by weights that nothing has trained; and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from command_line import Ended
from PIL import Image, ImageCms

from medrestore.domains.histology.slides.reader import open_slide
from medrestore.networks.super_resolution import SRResNet
from medrestore.networks.weights import describe, save_file

Call = Callable[..., Ended]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a model.pt that adds almost nothing to the bicubic enlargement."""
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    generator = SRResNet(channels=4, blocks=1, norm="none", enlargement_skip="bicubic")
    payload = {
        "method": "srgan",
        "scale": 4,
        "sigma": 2.0,
        "domain": {"microns_per_pixel": [2.0, 2.0]},
        "networks": {"generator": describe(generator)},
    }
    save_file(payload, path)
    return path


def test_from_slides_to_tables(call, weights, tmp_path):
    cohort, restored, evaluation = (tmp_path / name for name in ("cohort", "restored", "evaluation"))
    cut = call("histology", "tiles", "--output", cohort)
    assert cut.code == 0, cut.err
    assert str(cohort / "manifest.csv") in cut.out
    assert call("histology", "tiles", "--output", cohort).code == 0  # kept
    checked = call("check", cohort / "manifest.csv")
    assert (checked.code, checked.out) == (0, f"{cohort / 'manifest.csv'}: 0 problems\n")

    words = ["--weights", weights, "--precision", "fp32", "--split", "test", "--output", restored]
    done = call("restore", cohort / "manifest.csv", *words)
    assert done.code == 0, done.err
    assert done.out.endswith(f"11 files restored to {restored}\n")
    call("restore", cohort / "manifest.csv", *words, "--overlap", 8).refused(
        "overlap, background, compression and jpeg_quality are of slides", "Remedy: leave them out"
    )
    store = f"sqlite:///{tmp_path}/mlflow.db"
    record = ["--tracking-uri", store, "--experiment", "tiles"]
    found = call(
        *("evaluate", cohort / "manifest.csv", "--method", f"mine={restored}"),
        *("--output", evaluation, *record),
    )
    assert found.code == 0, found.err
    means = pd.read_csv(evaluation / "summary.csv").set_index(["method", "metric"])["mean"]
    assert means["mine", "rrmse"] == pytest.approx(means["bicubic", "rrmse"], rel=0.1)
    compared = call("compare", "tiles", "--tracking-uri", store)
    assert found.out.split("### Paired")[0].strip() in compared.out


def test_slide_is_reduced_and_restored(call, weights, tmp_path):
    random = np.random.default_rng(0)
    picture = random.integers(40, 220, (40, 60, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    Image.fromarray(picture).save(tmp_path / "slide.png")
    low, output = tmp_path / "low.tiff", tmp_path / "restored"
    reduced = call("histology", "reduce", tmp_path / "slide.png", "--output", low, "--microns-per-pixel", 0.5)
    assert reduced.code == 0, reduced.err
    done = call("restore", low, "--weights", weights, "--output", output)
    assert done.code == 0, done.err
    with open_slide(output / "low_restored.tiff") as slide:
        assert (slide.width, slide.height) == (480, 320)
        assert slide.microns_per_pixel == pytest.approx(0.5, rel=1e-3)  # TIFF holds a ratio of whole numbers
    sidecar = json.loads((output / "low_restored.json").read_text())
    assert sidecar["outside_training_domain"] == []
    refused = call("histology", "reduce", tmp_path / "slide.png", "--output", low, "--microns-per-pixel", 0.5)
    refused.refused(str(low))


def test_mistakes_end_with_their_remedy(call, tmp_path):
    (tmp_path / "slides").mkdir()
    picture = Image.fromarray(np.full((300, 300, 3), 200, np.uint8))
    for name in ("a", "b", "c"):
        picture.save(tmp_path / "slides" / f"{name}.png")
    slides, output = tmp_path / "slides", tmp_path / "cohort"
    call("histology", "tiles", slides / "a.png", "--output", output).refused(
        "1 subject leaves split", "Remedy"
    )
    call("histology", "tiles", "--output", output, "--manifest", tmp_path / "m.csv").refused(
        "--manifest needs SLIDES"
    )
    call("histology", "tiles", slides, "--output", output, "--fraction", "train").refused(
        "--fraction expects NAME=VALUE"
    )
    thirds = [word for name in ("train", "validation", "test") for word in ("--fraction", f"{name}=0.334")]
    call("histology", "tiles", slides, "--output", output, *thirds).refused("must add up to 1")
    call("histology", "tiles", slides, "--output", output, "--slide-microns-per-pixel", 0).refused(
        "error: slide_microns_per_pixel must be in [0.05, 20] micrometers, got 0"
    )
    twice = ["--method", "a=x", "--method", "a=y"]
    call("evaluate", output, "--domain", "histology", "--output", output, *twice).refused(
        "--method 'a' is given twice, as 'x' and 'y'. Remedy: give one of them, or another name"
    )
    nothing = tmp_path / "none.csv"
    call("evaluate", nothing, "--output", output).refused(str(nothing))
    call("histology", "corruption-study", nothing, "--output", output).refused(str(nothing))
    for seeds in (0, 10**9):
        call("histology", "corruption-study", nothing, "--output", output, "--seeds", seeds).refused(
            f"seeds must be in [1, 1000], got {seeds}"
        )


def test_slides_that_cannot_serve_are_all_named(call, tmp_path):
    picture = Image.fromarray(np.full((300, 300, 3), 200, np.uint8))
    for name in ("a", "b", "c"):
        picture.save(tmp_path / f"{name}.png")
    table = tmp_path / "table.csv"
    table.write_text("slide,subject_id,split\na.png,1,train\nb.png,2,validation\nc.png,3,test\n")
    without = call("histology", "tiles", table, "--output", tmp_path / "cohort")
    assert without.code == 2
    assert all(f"{name}.png: " in without.err for name in ("a", "b", "c"))
    assert "--slide-microns-per-pixel" in without.err or "resolution" in without.err
    larger = call(
        *("histology", "tiles", table, "--output", tmp_path / "cohort"),
        *("--tile-size", 512, "--slide-microns-per-pixel", 0.25),
    )
    assert larger.code == 2
    assert larger.err.count("is smaller than a tile: 300 x 300 pixels") == 3
    table.write_text("slide,subject_id,split\na.png,1,train\nb.png,1,test\nc.png,3,validation\n")
    leak = call(
        "histology", "tiles", table, "--output", tmp_path / "cohort", "--slide-microns-per-pixel", 0.25
    )
    assert leak.code == 2
    assert "a.png" in leak.err
    assert "b.png" in leak.err


# ---------------------------------------------------------------------------- slides as they come
PIXELS = np.random.default_rng(0).integers(40, 220, (8, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)


def write_svs(path: Path, pixels: np.ndarray = PIXELS, *, mpp: str = "2", **options: Any) -> Path:
    words = f"Aperio Image Library v11\r\n64x64 (32x32) |AppMag = 5|MPP = {mpp}"
    given: dict[str, Any] = {"photometric": "rgb", "tile": (32, 32), "metadata": None, **options}
    tifffile.imwrite(path, pixels, description=words, **given)
    return path


@pytest.fixture
def restore(call: Call, weights: Path, tmp_path: Path) -> Callable[..., Ended]:
    def run(source: Path, *words: object) -> Ended:
        chosen = ("--weights", weights, "--precision", "fp32", "--output", tmp_path / "out")
        return call("restore", source, *chosen, *words)

    return run


def break_slides(folder: Path) -> dict[str, str]:
    """Write twelve slides that cannot be restored; return by name what is said of each."""
    gray, clear = PIXELS[..., 0], np.zeros((64, 64, 1), np.uint8)
    picture = Image.fromarray(PIXELS)
    write_svs(folder / "gray.svs", gray, photometric="minisblack")
    write_svs(folder / "deep.svs", PIXELS.astype(np.uint16))
    write_svs(folder / "extra.svs", np.dstack([PIXELS, clear]), extrasamples=[0])
    write_svs(folder / "millimeters.svs", mpp="0.00025")
    write_svs(folder / "turned.svs", extratags=[(274, "H", 1, 6, True)])
    write_svs(folder / "wavelets.tiff", compression="jpeg2000")
    tifffile.imwrite(
        folder / "oblong.tiff", PIXELS, photometric="rgb", tile=(32, 32), resolution=(5e3, 2e3),
        resolutionunit="CENTIMETER", metadata=None,
    )  # fmt: skip
    (folder / "empty.svs").touch()
    (folder / "words.ndpi").write_text("no slide")
    picture.save(folder / "cut.png")
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:300])
    Image.fromarray(np.dstack([PIXELS, clear])).save(folder / "clear.png")
    picture.convert("CMYK").save(folder / "inks.jpg")
    return {
        "gray.svs": "is grayscale, expected RGB",
        "deep.svs": "has 16 bits per color",
        "extra.svs": "has a fourth channel",
        "millimeters.svs": "as millimeters it would be 0.25",
        "turned.svs": "states orientation 6",
        "wavelets.tiff": "is a TIFF compressed by JPEG 2000",
        "oblong.tiff": "has pixels that are not square: 2 by 5",
        "empty.svs": "is empty",
        "words.ndpi": "is no slide",
        "cut.png": "cannot be read",
        "clear.png": "has transparent pixels",
        "inks.jpg": "is CMYK",
    }


def test_bad_slides_of_a_folder_are_listed_and_the_others_restored(restore, tmp_path):
    folder = tmp_path / "slides"
    folder.mkdir()
    broken = break_slides(folder)
    for number in range(28):
        if number % 2:
            Image.fromarray(np.roll(PIXELS, number, axis=0)).save(
                folder / f"good{number}.png", dpi=(12700, 12700)
            )
        else:
            write_svs(folder / f"good{number}.svs", np.roll(PIXELS, number, axis=0))
    ended = restore(folder)
    assert ended.code == 2
    assert "Traceback" not in ended.err + ended.out
    assert "12 of 40 slides could not be restored, the others were" in ended.err
    for name, words in broken.items():
        (line,) = [line for line in ended.err.splitlines() if f"{folder / name}: " in line]
        assert words in line
    assert len(list((tmp_path / "out").glob("good*_restored.tiff"))) == 28
    left = {path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith("good")}
    assert {name for name in left if name.endswith(".tiff")} == set()
    ages = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("good*.tiff")}
    for name in broken:
        (folder / name).unlink()
    again = restore(folder)
    assert again.code == 0, again.err
    assert ages == {path: path.stat().st_mtime_ns for path in ages}


def test_restoring_takes_the_options_of_slides(restore, tmp_path):
    picture = np.full((320, 320, 3), 244, np.uint8)
    picture[:64, :64] = PIXELS
    slide = write_svs(tmp_path / "a.svs", picture)
    words = ("--compression", "deflate", "--background", "white", "--overlap", 8, "--device", "cpu")
    done = restore(slide, *words)
    assert done.code == 0, done.err
    record = json.loads((tmp_path / "out" / "a_restored.json").read_text())
    assert (record["compression"], record["jpeg_quality"]) == ("deflate", None)
    assert (record["background"], record["overlap"]) == ("white", 8)
    with open_slide(tmp_path / "out" / "a_restored.tiff") as restored:
        # OpenSlide decodes JPEG: that these are white to the last bit takes a lossless file, too.
        assert (restored.read(1000, 1000, width=280, height=280) == 255).all()
    restore(slide, "--jpeg-quality", 80).refused("name another output folder")
    restore(slide, "--background", "black").refused(
        "background must be one of 'bicubic', 'white', 'restored'"
    )
    restore(slide, "--compression", "lzw").refused("compression must be one of 'jpeg', 'deflate'")
    restore(slide, "--jpeg-quality", 0).refused("JPEG quality must be in [1, 100]")
    restore(slide, "--overlap", -1).refused("overlap must be in")
    table = tmp_path / "manifest.csv"
    table.touch()
    restore(table, "--slide-microns-per-pixel", 2).refused("a manifest states the resolution of its tiles")


def test_resolution_that_was_given_holds_where_none_is_stated(restore, tmp_path, caplog):
    folder = tmp_path / "slides"
    folder.mkdir()
    write_svs(folder / "stated.svs", mpp="3")
    Image.fromarray(PIXELS).save(folder / "bare.png")
    done = restore(folder, "--slide-microns-per-pixel", 2)
    assert done.code == 0, done.err
    words = (
        f"{folder / 'stated.svs'}: states 3 micrometers per pixel, which hold, and not the 2 that were given"
    )
    assert words in done.err + caplog.text
    for name, microns in (("stated", 0.75), ("bare", 0.5)):
        record = json.loads((tmp_path / "out" / f"{name}_restored.json").read_text())
        assert record["microns_per_pixel"] == pytest.approx(microns)
        with open_slide(tmp_path / "out" / f"{name}_restored.tiff") as slide:
            assert slide.microns_per_pixel == pytest.approx(microns, rel=1e-6)
    (tmp_path / "out").rename(tmp_path / "before")
    done = restore(folder, "--microns-per-pixel", 2, "--override-microns-per-pixel")
    assert done.code == 0, done.err
    record = json.loads((tmp_path / "out" / "stated_restored.json").read_text())
    assert (record["microns_per_pixel"], record["override_microns_per_pixel"]) == (0.5, True)
    restore(folder, "--override-microns-per-pixel").refused("needs a resolution", "--slide-microns-per-pixel")
    restore(folder, "--microns-per-pixel", 0.002).refused("as millimeters it would be 2")


def test_what_is_not_shown_or_followed_is_said_and_kept(restore, tmp_path, caplog):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = tmp_path / "a.tiff"
    with tifffile.TiffWriter(path) as writer:
        for plane in (PIXELS, 255 - PIXELS):
            writer.write(plane, photometric="rgb", tile=(32, 32), metadata=None, iccprofile=profile)
    done = restore(path, "--slide-microns-per-pixel", 2)
    assert done.code == 0, done.err
    assert f"{path}: holds 2 images of full size" in done.err + caplog.text
    record = json.loads((tmp_path / "out" / "a_restored.json").read_text())
    assert len(record["source_notes"]) == 1
    assert len(record["icc_profile_sha256"]) == 64
    with open_slide(tmp_path / "out" / "a_restored.tiff") as slide:
        assert slide.icc_profile == profile


def test_restored_tiles_carry_the_color_profile(restore, call, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    noise = np.random.default_rng(0).normal(0, 25, (64, 64, 1))
    stained = np.clip(np.array([190, 110, 160]) + noise, 0, 255).astype(np.uint8)
    write_svs(tmp_path / "a.svs", stained, iccprofile=profile)
    (tmp_path / "slides.csv").write_text("slide,subject_id,split\na.svs,1,test\n")
    words = ("--tile-size", 32, "--microns-per-pixel", 2, "--minimum-focus", 0)
    cut = call("histology", "tiles", tmp_path / "slides.csv", "--output", tmp_path / "tiles", *words)
    assert cut.code == 0, cut.err
    assert restore(tmp_path / "tiles" / "manifest.csv", "--split", "test").code == 0
    pictures = sorted((tmp_path / "out").glob("*.png"))
    assert len(pictures) == 4
    with Image.open(pictures[0]) as picture:
        assert picture.info["icc_profile"] == profile


def test_full_disk_is_told_and_the_slide_continued(restore, tmp_path):
    resource = pytest.importorskip("resource")
    slide = write_svs(tmp_path / "a.svs", np.tile(PIXELS, (4, 4, 1)))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        full = restore(slide)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    full.refused(
        "a_restored.tiff", "the file would be larger", "rows of tiles are kept. Remedy: free some space"
    )
    assert restore(slide).code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a_restored.json",
        "a_restored.tiff",
        "a_restored_windows.csv",
    ]


def test_tiles_are_cut_at_the_resolution_that_holds(call, tmp_path, caplog):
    noise = np.random.default_rng(0).normal(0, 25, (128, 128, 1))
    stained = np.clip(np.array([190, 110, 160]) + noise, 0, 255).astype(np.uint8)
    write_svs(tmp_path / "stated.svs", stained, mpp="0.5")
    Image.fromarray(stained[::-1]).save(tmp_path / "bare.png")
    table = tmp_path / "slides.csv"
    table.write_text("slide,subject_id,split,microns_per_pixel\nstated.svs,1,train,0.25\nbare.png,2,test,\n")
    words = ("histology", "tiles", table, "--tile-size", 32, "--minimum-focus", 0, "--workers", 1)
    words += ("--slide-microns-per-pixel", 1)

    def cut(name: str, *more: object) -> pd.DataFrame:
        done = call(*words, "--output", tmp_path / name, *more)
        assert done.code == 0, done.err
        assert call("check", tmp_path / name / "manifest.csv").code == 0
        told = f"{tmp_path / 'stated.svs'}: states 0.5 micrometers per pixel, which hold, and not the 0.25"
        assert (told in done.err + caplog.text) == ("--override-microns-per-pixel" not in more)
        caplog.clear()
        return pd.read_csv(tmp_path / name / "manifest.csv").groupby("slide").first()

    tiles = cut("a", "--microns-per-pixel", 1)
    assert np.isnan(tiles.loc["../stated.svs", "slide_microns_per_pixel"])
    assert tiles.loc["../bare.png", "slide_microns_per_pixel"] == 1
    tiles = cut("b", "--microns-per-pixel", 1, "--override-microns-per-pixel")
    assert tiles.loc["../stated.svs", "slide_microns_per_pixel"] == 0.25
    call(*words, "--output", tmp_path / "c", "--microns-per-pixel", 0.001).refused(
        "microns_per_pixel must be in"
    )
    table.write_text("slide,subject_id,split,microns_per_pixel\nbare.png,2,test,0.00025\n")
    wrong = call(*words, "--output", tmp_path / "c")
    assert wrong.code == 2
    assert (
        "row 2 microns_per_pixel: must be in [0.05, 20] micrometers, got 0.00025; as millimeters" in wrong.err
    )
    # No message that leads back to itself: without the option, the remedy is the option.
    call("histology", "tiles", tmp_path / "bare.png", "--output", tmp_path / "c").refused("patient")
    table.write_text("slide,subject_id,split\nbare.png,2,test\n")
    call("histology", "tiles", table, "--output", tmp_path / "c").refused(
        "bare.png: has no resolution", "--slide-microns-per-pixel"
    )


def test_full_disk_ends_the_cutting_of_tiles_at_once(call, tmp_path):
    resource = pytest.importorskip("resource")
    for seed, name in enumerate(("a", "b")):
        noise = np.random.default_rng(seed).normal(0, 25, (128, 128, 1))
        stained = np.clip(np.array([190, 110, 160]) + noise, 0, 255).astype(np.uint8)
        write_svs(tmp_path / f"{name}.svs", stained)
    (tmp_path / "slides.csv").write_text("slide,subject_id,split\na.svs,1,train\nb.svs,2,test\n")
    words = ("histology", "tiles", tmp_path / "slides.csv", "--output", tmp_path / "out", "--tile-size", 32)
    words += ("--microns-per-pixel", 2, "--workers", 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        full = call(*words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    full.refused("overview", "the file would be larger", "Remedy: free some space")
    assert call(*words).code == 0


def test_part_of_a_slide_and_its_resolution_are_chosen_by_options(restore, tmp_path):
    slide = write_svs(tmp_path / "a.svs", mpp="0.5")
    done = restore(slide, "--region", "0,0,32,32", "--input-microns-per-pixel", 1)
    assert done.code == 0, done.err
    record = json.loads((tmp_path / "out" / "a_restored.json").read_text())
    assert (record["source_bounds"], record["size"], record["microns_per_pixel"]) == (
        [0, 0, 32, 32],
        [64, 64],
        pytest.approx(0.25),
    )
    refused = restore(slide, "--region", "0,0,32")
    assert refused.code == 2
    assert "region is X,Y,WIDTH,HEIGHT" in refused.err
