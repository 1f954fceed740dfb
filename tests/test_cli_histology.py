"""Commands of histology from slides to tables, by weights that nothing has trained; and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import Ended
from PIL import Image

from medrestore.data.slides.reader import open_slide
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


def test_from_slides_to_tables(call: Call, weights: Path, tmp_path: Path) -> None:
    cohort, restored, evaluation = (tmp_path / name for name in ("cohort", "restored", "evaluation"))
    cut = call("tiles", "--output", cohort)
    assert cut.code == 0, cut.err
    assert str(cohort / "manifest.csv") in cut.out
    assert call("tiles", "--output", cohort).code == 0  # kept
    checked = call("histology", "check", cohort / "manifest.csv")
    assert (checked.code, checked.out) == (0, f"{cohort / 'manifest.csv'}: 0 problems\n")

    arguments = ["--bundle", "histology_srgan", "--weights", weights, "--precision", "fp32"]
    done = call(
        "restore", *arguments, "--input", cohort / "manifest.csv", "--split", "test", "--output", restored
    )
    assert done.code == 0, done.err
    assert done.out.endswith(f"11 files restored to {restored}\n")
    store = f"sqlite:///{tmp_path}/mlflow.db"
    record = ["--tracking-uri", store, "--experiment", "tiles"]
    found = call(
        *("histology", "evaluate", "--manifest", cohort / "manifest.csv", "--method", f"mine={restored}"),
        *("--output", evaluation, *record),
    )
    assert found.code == 0, found.err
    means = pd.read_csv(evaluation / "summary.csv").set_index(["method", "metric"])["mean"]
    assert means["mine", "rrmse"] == pytest.approx(means["bicubic", "rrmse"], rel=0.1)
    compared = call("compare", "tiles", "--tracking-uri", store)
    assert found.out.split("### Paired")[0].strip() in compared.out


def test_slide_is_reduced_and_restored(call: Call, weights: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    picture = random.integers(40, 220, (40, 60, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    Image.fromarray(picture).save(tmp_path / "slide.png")
    low, output = tmp_path / "low.tiff", tmp_path / "restored"
    reduced = call("histology", "reduce", tmp_path / "slide.png", "--output", low, "--microns-per-pixel", 0.5)
    assert reduced.code == 0, reduced.err
    done = call(
        "restore", "--bundle", "histology_srgan", "--weights", weights, "--input", low, "--output", output
    )
    assert done.code == 0, done.err
    with open_slide(output / "low_restored.tiff") as slide:
        assert (slide.width, slide.height) == (480, 320)
        assert slide.microns_per_pixel == pytest.approx(0.5, rel=1e-3)  # TIFF holds a ratio of whole numbers
    sidecar = json.loads((output / "low_restored.json").read_text())
    assert sidecar["outside_training_domain"] == []
    refused = call("histology", "reduce", tmp_path / "slide.png", "--output", low, "--microns-per-pixel", 0.5)
    refused.refused(str(low))


def test_mistakes_end_with_their_remedy(call: Call, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "slides").mkdir()
    picture = Image.fromarray(np.full((300, 300, 3), 200, np.uint8))
    for name in ("a", "b", "c"):
        picture.save(tmp_path / "slides" / f"{name}.png")
    slides, output = tmp_path / "slides", tmp_path / "cohort"
    call("tiles", slides / "a.png", "--output", output).refused("1 subjects leave split", "Remedy")
    call("tiles", "--output", output, "--manifest", tmp_path / "m.csv").refused("--manifest needs SLIDES")
    call("tiles", slides, "--output", output, "--fraction", "train").refused("--fraction expects NAME=VALUE")
    thirds = [word for name in ("train", "validation", "test") for word in ("--fraction", f"{name}=0.334")]
    call("tiles", slides, "--output", output, *thirds).refused("must add up to 1")
    arguments = ["--bundle", "histology_srgan", "--weights", weights, "--input", slides, "--output", output]
    call("restore", *arguments, "--samples", 4).refused("inference.yaml has no key 'samples'")
    nothing = tmp_path / "none.csv"
    call("histology", "evaluate", "--manifest", nothing, "--output", output).refused(str(nothing))
    call("corruption-study", "--manifest", nothing, "--output", output).refused(str(nothing))


def test_slides_that_cannot_serve_are_all_named(call: Call, tmp_path: Path) -> None:
    picture = Image.fromarray(np.full((300, 300, 3), 200, np.uint8))
    for name in ("a", "b", "c"):
        picture.save(tmp_path / f"{name}.png")
    table = tmp_path / "table.csv"
    table.write_text("slide,subject_id,split\na.png,1,train\nb.png,2,validation\nc.png,3,test\n")
    without = call("tiles", table, "--output", tmp_path / "cohort")
    assert without.code == 2
    assert all(f"{name}.png: " in without.err for name in ("a", "b", "c"))
    assert "--slide-microns-per-pixel" in without.err or "resolution" in without.err
    larger = call(
        *("tiles", table, "--output", tmp_path / "cohort"),
        *("--tile-size", 512, "--slide-microns-per-pixel", 0.25),
    )
    assert larger.code == 2
    assert larger.err.count("is smaller than a tile: 300 x 300 pixels") == 3
    table.write_text("slide,subject_id,split\na.png,1,train\nb.png,1,test\nc.png,3,validation\n")
    leak = call("tiles", table, "--output", tmp_path / "cohort", "--slide-microns-per-pixel", 0.25)
    assert leak.code == 2
    assert "a.png" in leak.err
    assert "b.png" in leak.err
