"""Histology restored: networks in batches, tiles of a manifest, slides, and what is never overwritten."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pandas as pd
import pytest
import tifffile
import torch
from manifest import tile_row, write_manifest
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from medrestore import __version__
from medrestore.checks import InputError
from medrestore.domains.histology import schema
from medrestore.domains.histology.consistency import residual_rmse
from medrestore.domains.histology.restoration.super_resolution import (
    ImageFile,
    ImageFileRestorer,
    TileImage,
    find_images,
)
from medrestore.domains.histology.restoration.super_resolver import SuperResolver
from medrestore.domains.histology.schema import TILES
from medrestore.domains.histology.slides.reader import open_slide
from medrestore.files import sha256_file
from medrestore.inference.restorer import load_restorer
from medrestore.networks.super_resolution import SRResNet
from medrestore.networks.weights import describe, save_file
from medrestore.operators.recording import BLIND_SET, degradation_called
from medrestore.operators.resampling import GaussianSubsampling

SIZE = 48


def network() -> SRResNet:
    generator = SRResNet(channels=4, blocks=1, enlargement_skip="bicubic")
    generator.output.weight.data.mul_(50)
    return generator


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    domain = {"microns_per_pixel": [1.0, 1.0]}
    networks = {"generator": describe(network())}
    save_file({"method": "sqe", "scale": 4, "sigma": 1.5, "domain": domain, "networks": networks}, path)
    return path


def picture(height: int, width: int, *, seed: int = 0) -> NDArray[np.uint8]:
    random = np.random.default_rng(seed)
    return random.integers((90, 40, 90), (240, 200, 240), (height, width, 3)).astype(np.uint8)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Write two slides with six and one tile; the second one is for training."""
    rows = []
    for seed, name, split, places in (
        (0, "doe_slide", "test", [(x, y) for y in (0, 48) for x in (0, 48, 96)]),
        (1, "roe_slide", "train", [(8, 16)]),
    ):
        path = tmp_path / "slides" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture(100, 150, seed=seed)).save(path)
        for x, y in places:
            row = tile_row(name[:3], f"slides/{name}.png", split, x=x, y=y, size=SIZE, microns=0.25)
            rows.append({**row, "tile": f"{name[:3]}_x{x}_y{y}"})
    Image.fromarray(picture(100, 150, seed=2)).save(tmp_path / "slides" / "other.png")
    return write_manifest(TILES, rows, tmp_path)


def evaluator(
    found: list[ImageFile] | list[TileImage], weights: Path, output: Path, **settings: Any
) -> ImageFileRestorer:
    resolver = load_restorer(weights, device="cpu", precision="fp32", batch_size=4)
    return ImageFileRestorer(
        found,
        resolver,
        output_dir=output,
        bundle="bundles/histology",
        **{"progress": False, **settings},
    )


# ---------------------------------------------------------------------------- the network in batches
def test_images_are_scaled_and_rounded_and_clipped():
    class Affine(nn.Module):
        scale = 2

        def forward(self, x: Tensor) -> Tensor:
            return 1.5 * x.repeat_interleave(2, 2).repeat_interleave(2, 3) - 0.1

    images = picture(5, 7)[None]
    images[0, 0, 0] = (0, 10, 255)
    restored = SuperResolver(Affine(), degradation=GaussianSubsampling(2, 1.0)).restore(images)
    # 1.5 x - 25.5 in gray levels, rounded half to even, cut off at 0 and 255.
    expected = np.clip(np.rint(1.5 * images.astype(np.float64) - 25.5), 0, 255)
    assert restored.shape == (1, 10, 14, 3)
    assert restored.dtype == np.uint8
    np.testing.assert_allclose(restored[:, ::2, ::2], expected, atol=1)  # float32 at halves
    np.testing.assert_array_equal(restored[:, 1::2, 1::2], restored[:, ::2, ::2])
    assert restored[0, 0, 0].tolist() == [0, 0, 255]


def test_batches_only_divide_the_work():
    images = np.stack([picture(12, 9, seed=seed) for seed in range(5)])
    one = SuperResolver(network(), degradation=GaussianSubsampling(4, 2.0), batch_size=1).restore(images)
    many = SuperResolver(network(), degradation=GaussianSubsampling(4, 2.0), batch_size=4).restore(images)
    assert np.abs(one.astype(int) - many).max() <= 1  # the order of sums in a convolution


def test_training_mode_and_later_changes_of_the_network_do_not_matter():
    generator = network().train()
    resolver = SuperResolver(generator, degradation=GaussianSubsampling(4, 2.0))
    expected = SuperResolver(network().eval(), degradation=GaussianSubsampling(4, 2.0)).restore(
        picture(8, 8)[None]
    )
    with torch.no_grad():
        generator.output.weight.zero_()
    np.testing.assert_array_equal(resolver.restore(picture(8, 8)[None]), expected)


def test_bf16_is_close_to_fp32():
    images = picture(16, 16)[None]
    fine = (
        SuperResolver(network(), degradation=GaussianSubsampling(4, 2.0), precision="fp32")
        .restore(images)
        .astype(int)
    )
    coarse = SuperResolver(network(), degradation=GaussianSubsampling(4, 2.0), precision="bf16").restore(
        images
    )
    # bfloat16 has 8 bits: 1/256 of what the network adds (some 50 levels), over a few layers.
    assert np.abs(fine - coarse).max() <= 6


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_is_close_to_cpu():
    images = picture(16, 16)[None]
    expected = SuperResolver(network(), degradation=GaussianSubsampling(4, 2.0)).restore(images).astype(int)
    found = SuperResolver(network(), degradation=GaussianSubsampling(4, 2.0), device="cuda").restore(images)
    # CUDA convolves in TF32: 2**-11 of what the network adds (some 50 levels), over a few layers, and rounds.
    assert np.abs(expected - found).max() <= 2


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((4, 4, 3), np.uint8), r"images must be \(N, h, w, 3\) uint8, got \(4, 4, 3\) uint8"),
        (np.zeros((1, 4, 4, 3), np.float32), "uint8, got .* float32"),
    ],
)
def test_images_of_another_kind_are_refused(images, message):
    with pytest.raises(InputError, match=message):
        SuperResolver(network(), degradation=GaussianSubsampling(4, 2.0)).restore(images)


def test_networks_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="the generator has scale 4, expected 2"):
        SuperResolver(network(), degradation=GaussianSubsampling(2, 2.0))
    with pytest.raises(InputError, match="the generator has in_channels 1, expected 3"):
        SuperResolver(SRResNet(1, channels=4, blocks=1), degradation=GaussianSubsampling(4, 2.0))
    with pytest.raises(InputError, match=r"the generator gave \(1, 3, 4, 4\), expected \(1, 3, 8, 8\)"):
        SuperResolver(nn.Identity(), degradation=GaussianSubsampling(2, 2.0)).restore(
            np.zeros((1, 4, 4, 3), np.uint8)
        )
    broken = network()
    broken.output.weight.data.fill_(float("nan"))
    with pytest.raises(InputError, match="the restored image is not finite"):
        SuperResolver(broken, degradation=GaussianSubsampling(4, 2.0)).restore(
            np.zeros((1, 4, 4, 3), np.uint8)
        )


def test_weights_of_another_training_are_refused(tmp_path):
    save_file({"method": "taskgan", "domain": {}, "networks": {}}, tmp_path / "model.pt")
    with pytest.raises(InputError, match="names no scale: these are no weights of a super-resolution"):
        load_restorer(tmp_path / "model.pt", facts={"restorer": "histology.ImageFileRestorer"})


# ---------------------------------------------------------------------------- what is found
def test_manifest_and_split(manifest):
    assert len(find_images(manifest)) == 7
    (only,) = find_images(manifest, split="train")
    assert only.name == "roe_x8_y16"
    with pytest.raises(InputError, match="no row of split 'validation'; it holds test, train"):
        find_images(manifest, split="validation")
    with pytest.raises(InputError, match="a manifest states the resolution of its tiles"):
        find_images(manifest, microns_per_pixel=1.0)


def test_file_and_folder(manifest):
    folder = manifest.parent / "slides"
    (folder / "notes.txt").write_text("not an image")
    found = find_images(folder, microns_per_pixel=0.5)
    assert found == [
        ImageFile(folder / f"{name}.png", name, 0.5) for name in ("doe_slide", "other", "roe_slide")
    ]
    assert find_images(folder / "other.png") == [ImageFile(folder / "other.png", "other")]
    (folder / "other.TIF").write_bytes(b"")
    assert [image.name for image in find_images(folder)].count("other") == 2
    with pytest.raises(InputError, match="a split is that of a manifest"):
        find_images(folder, split="test")


def test_nothing_to_restore_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"does not exist\. Remedy"):
        find_images(tmp_path / "missing")
    with pytest.raises(InputError, match="holds no slide or picture"):
        find_images(tmp_path)


# ---------------------------------------------------------------------------- tiles
def test_tiles_are_reduced_and_restored_with_their_provenance(weights, manifest, tmp_path):
    written = evaluator(find_images(manifest, split="test"), weights, tmp_path / "out").run()
    assert [path.name for path in written][:2] == ["doe_x0_y0_restored.png", "doe_x48_y0_restored.png"]
    whole = picture(100, 150)
    resolver = SuperResolver(network(), degradation=GaussianSubsampling(4, 1.5), batch_size=4)
    places = [(0, 0), (48, 0), (96, 0), (0, 48), (48, 48), (96, 48)]
    reduced = [
        GaussianSubsampling(scale=4, sigma=1.5).picture(whole[y : y + SIZE, x : x + SIZE]) for x, y in places
    ]
    expected = resolver.restore(np.stack(reduced))
    for path, image in zip(written, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(path)), image)
    slide = manifest.parent / "slides" / "doe_slide.png"
    record = json.loads((tmp_path / "out" / "doe_x48_y0_restored.json").read_text())
    assert record == {
        "medrestore_version": __version__,
        "bundle": "histology",
        "method": "sqe",
        "weights_sha256": sha256_file(weights),
        "scale": 4,
        "precision": "float32",
        "source_sha256": sha256_file(slide),
        "source_position": [48, 0],
        "source_size": SIZE,
        "source_microns_per_pixel": 0.25,
        "smoothing_sigma": 1.5,
        # 12 pixels a side are too few to tell sharpness and JPEG.
        "measured": {"residual_rmse": residual_rmse(expected[1], reduced[1], [GaussianSubsampling(4, 1.5)])},
        "outside_training_domain": [],
    }
    assert len(list((tmp_path / "out").iterdir())) == 12


def test_tiles_are_degraded_as_they_are_asked_to_be(weights, manifest, tmp_path):
    found = find_images(manifest, split="test", degradations=["box", "gaussian2-jpeg70"])
    assert [image.name for image in found][:2] == ["doe_x0_y0_box", "doe_x48_y0_box"]
    written = evaluator(found, weights, tmp_path / "out").run()
    assert len(written) == 12
    resolver = SuperResolver(network(), degradation=GaussianSubsampling(4, 1.5), batch_size=4)
    whole = picture(100, 150)
    for name in ("box", "gaussian2-jpeg70"):
        reduced = [
            degradation_called(name).picture(whole[y : y + SIZE, x : x + SIZE])
            for x, y in [(0, 0), (48, 0), (96, 0), (0, 48)]
        ]
        restored = np.asarray(Image.open(tmp_path / "out" / f"doe_x48_y0_{name}_restored.png"))
        np.testing.assert_array_equal(restored, resolver.restore(np.stack(reduced))[1])
        record = json.loads((tmp_path / "out" / f"doe_x48_y0_{name}_restored.json").read_text())
        assert record["degradation"] == name
        assert "smoothing_sigma" not in record
    assert len(find_images(manifest, split="test", degradations=["blind-set", "box"])) == 6 * len(BLIND_SET)
    with pytest.raises(InputError, match="a degradation must be"):
        find_images(manifest, degradations=["blur"])
    with pytest.raises(InputError, match="tiles of a manifest are degraded"):
        find_images(manifest.parent / "slides", degradations=["box"])


def test_finished_tiles_are_kept_and_missing_ones_made_alike(weights, manifest, tmp_path, monkeypatch):
    found = find_images(manifest, split="test")
    written = evaluator(found, weights, tmp_path / "out").run()
    content, age = written[1].read_bytes(), written[0].stat().st_mtime_ns
    written[1].unlink()
    passes: list[int] = []
    original = SuperResolver.restore

    def counted(self: SuperResolver, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        passes.append(len(images))
        return original(self, images)

    monkeypatch.setattr(SuperResolver, "restore", counted)
    assert evaluator(found, weights, tmp_path / "out").run() == written
    assert passes == [4]  # the batch that it is of, not the other one
    assert written[0].stat().st_mtime_ns == age
    assert written[1].read_bytes() == content


def test_slide_other_than_the_manifest_names_is_refused(weights, manifest, tmp_path):
    other = (manifest.parent / "slides" / "other.png").read_bytes()
    (manifest.parent / "slides" / "doe_slide.png").write_bytes(other)
    message = (
        r"^6 of 7 tiles could not be restored, the others were:\n"
        r"  .*doe_slide\.png.*is not the slide that the manifest's checksum names.* \(6 tiles\)$"
    )
    with pytest.raises(InputError, match=message):
        evaluator(find_images(manifest), weights, tmp_path / "out").run()
    assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["roe_x8_y16_restored.png"]


def test_tile_that_cannot_be_read_leaves_the_others_of_its_batch_as_they_are(
    weights, manifest, tmp_path, monkeypatch
):
    found = find_images(manifest, split="test")
    whole = evaluator(found, weights, tmp_path / "whole").run()
    read = schema.read_tile

    def damaged(slide: Any, row: Any) -> NDArray[np.uint8]:
        if row["tile"] == "doe_x48_y0":
            raise InputError(f"{row['slide_path']}: is damaged here")
        return read(slide, row)

    monkeypatch.setattr(schema, "read_tile", damaged)
    with pytest.raises(InputError, match=r"^1 of 6 tiles could .*\n  .*doe_slide\.png: is damaged here$"):
        evaluator(found, weights, tmp_path / "out").run()
    for path in whole:
        other = tmp_path / "out" / path.name
        assert other.exists() == (path.name != "doe_x48_y0_restored.png")
        assert not other.exists() or other.read_bytes() == path.read_bytes()


def test_tiles_outside_the_domain_are_restored_with_one_warning(weights, manifest, tmp_path, caplog):
    table = pd.read_csv(manifest).assign(microns_per_pixel=0.5, slide_microns_per_pixel=0.5)
    found = find_images(TILES.write(table, manifest), split="test")
    with caplog.at_level(logging.WARNING):
        evaluator(found, weights, tmp_path / "out").run()
    assert caplog.text.count("outside the training domain") == 1
    assert "doe_x0_y0: outside the training domain: resolution is 2 um per pixel" in caplog.text
    record = json.loads((tmp_path / "out" / "doe_x96_y48_restored.json").read_text())
    assert record["outside_training_domain"] == ["resolution is 2 um per pixel, trained on 1 to 1"]


def test_pictures_of_somebody_else_are_refused(weights, manifest, tmp_path):
    (tmp_path / "doe_x0_y0_restored.png").write_bytes(b"somebody's work")
    with pytest.raises(InputError, match=r"doe_x0_y0_restored\.png: is there without a readable"):
        evaluator(find_images(manifest, split="test"), weights, tmp_path).run()
    assert (tmp_path / "doe_x0_y0_restored.png").read_bytes() == b"somebody's work"


# ---------------------------------------------------------------------------- slides
def test_slide_is_restored_with_its_provenance(weights, tmp_path, caplog):
    Image.fromarray(picture(40, 90)).save(tmp_path / "doe.png")
    found = find_images(tmp_path / "doe.png", microns_per_pixel=1.0)
    with caplog.at_level(logging.WARNING):
        (written,) = evaluator(found, weights, tmp_path / "out", tile=128, overlap=8).run()
    assert written == tmp_path / "out" / "doe_restored.tiff"
    with openslide.OpenSlide(str(written)) as slide:
        assert slide.dimensions == (360, 160)
        assert float(slide.properties["openslide.mpp-x"]) == 0.25
    record = json.loads((tmp_path / "out" / "doe_restored.json").read_text())
    assert record["source_sha256"] == sha256_file(tmp_path / "doe.png")
    assert (record["microns_per_pixel"], record["stated_microns_per_pixel"]) == (0.25, 1.0)
    assert (record["size"], record["windows"], record["restored_windows"]) == ([360, 160], 6, 6)
    assert (record["tile"], record["overlap"], record["jpeg_quality"]) == (128, 8, 90)
    assert record["outside_training_domain"] == []
    assert caplog.text == ""
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "doe_restored.json",
        "doe_restored.tiff",
        "doe_restored_windows.csv",
    ]
    with tifffile.TiffFile(written) as file:
        said = file.pages[0].description
    assert said.startswith("Restored, research use only. bundle=histology|method=sqe|weights_sha256=")
    assert sha256_file(weights) in said
    windows = pd.read_csv(tmp_path / "out" / "doe_restored_windows.csv")
    assert windows[["row", "column", "x", "y"]].iloc[-1].tolist() == [1, 2, 64, 32]
    with open_slide(written, microns_per_pixel=1.0, override=True) as slide:
        made = slide.read(128, 0, width=128, height=128)
    # Tiles of 32 pixels, enlarged four times.
    expected = residual_rmse(made, picture(40, 90)[:32, 32:64], [GaussianSubsampling(4, 1.5)])
    assert windows["residual_rmse"].iloc[1] == pytest.approx(expected, rel=1e-12)
    assert record["measured"]["residual_rmse"] == pytest.approx(windows["residual_rmse"].median(), rel=1e-12)
    age = written.stat().st_mtime_ns
    assert evaluator(found, weights, tmp_path / "out", tile=128, overlap=8).run() == [written]
    assert written.stat().st_mtime_ns == age
    # Killed before its windows were measured: they are, and the slide stays.
    sidecar, table = (written.with_name(f"doe_restored{end}") for end in (".json", "_windows.csv"))
    whole = [path.read_bytes() for path in (sidecar, table)]
    table.unlink()
    sidecar.write_text(json.dumps({key: value for key, value in record.items() if key != "measured"}))
    assert evaluator(found, weights, tmp_path / "out", tile=128, overlap=8).run() == [written]
    assert [path.read_bytes() for path in (sidecar, table)] == whole
    assert written.stat().st_mtime_ns == age
    for settings in ({"overlap": 16}, {"jpeg_quality": 80}, {"background": "white"}):
        with pytest.raises(InputError, match="was restored by other weights, settings or source"):
            evaluator(found, weights, tmp_path / "out", **{"tile": 128, "overlap": 8, **settings})


def test_bad_slide_of_a_folder_does_not_end_the_run(weights, tmp_path):
    folder = tmp_path / "slides"
    folder.mkdir()
    for name in ("a", "c"):
        Image.fromarray(picture(40, 90)).save(folder / f"{name}.png")
    (folder / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    (folder / "d.tiff").write_bytes(b"II*\0" + bytes(3))
    with pytest.raises(InputError, match=r"^2 of 4 slides could not be .*\n  .*b\.png: .*\n  .*d\.tiff: "):
        evaluator(find_images(folder), weights, tmp_path / "out", tile=128, overlap=8).run()
    assert [path.stem for path in sorted((tmp_path / "out").glob("*.tiff"))] == ["a_restored", "c_restored"]


def test_part_of_a_fine_slide_is_read_as_the_training_was(weights, tmp_path):
    Image.fromarray(picture(160, 360)).save(tmp_path / "doe.png")
    found = find_images(tmp_path / "doe.png", microns_per_pixel=0.25, region=(40, 0, 240, 160))
    evaluator(found, weights, tmp_path / "out", tile=128, overlap=8).run()
    record = json.loads((tmp_path / "out" / "doe_restored.json").read_text())
    # Trained at 1 um per pixel: a slide at .25 becomes one of .25 again, not of .0625.
    assert (record["microns_per_pixel"], record["size"]) == (0.25, [240, 160])
    assert (record["source_bounds"], record["region"]) == ([40, 0, 240, 160], [40, 0, 240, 160])
    assert record["source_notes"] == ["has 0.25 um per pixel, and was read at 1"]
    # Of 2 x 2 windows of 32 pixels of 1 um, the last one begins at 40 + 4 * 32 and 4 * 32 of the slide's own.
    windows = pd.read_csv(tmp_path / "out" / "doe_restored_windows.csv")
    assert windows[["row", "column", "x", "y"]].iloc[-1].tolist() == [1, 1, 168, 128]
    finer = find_images(tmp_path / "doe.png", microns_per_pixel=0.25, input_microns_per_pixel=0.5)
    evaluator(finer, weights, tmp_path / "finer", tile=128, overlap=8).run()
    record = json.loads((tmp_path / "finer" / "doe_restored.json").read_text())
    assert (record["microns_per_pixel"], record["size"]) == (0.125, [720, 320])
    assert record["input_microns_per_pixel"] == 0.5
    with pytest.raises(InputError, match="a region is of one slide"):
        Image.fromarray(picture(40, 40)).save(tmp_path / "roe.png")
        find_images(tmp_path, region=(0, 0, 8, 8))


def test_glass_alone_has_a_table_of_no_windows(weights, tmp_path):
    Image.fromarray(np.full((40, 90, 3), 245, np.uint8)).save(tmp_path / "doe.png")
    found = find_images(tmp_path / "doe.png", microns_per_pixel=1.0)
    evaluator(found, weights, tmp_path / "out", tile=128, overlap=8).run()
    windows = pd.read_csv(tmp_path / "out" / "doe_restored_windows.csv")
    assert list(windows) == ["row", "column", "x", "y", "fine_share", "blocking", "residual_rmse"]
    assert windows.empty


def test_folder_restored_into_itself_twice_restores_no_work_of_ours(weights, tmp_path):
    Image.fromarray(picture(40, 90)).save(tmp_path / "a.png")
    for _ in range(2):
        (written,) = evaluator(find_images(tmp_path), weights, tmp_path, tile=128, overlap=8).run()
    assert {path.name for path in tmp_path.iterdir()} == {
        *("a.png", "a_restored.tiff", "a_restored.json", "a_restored_windows.csv")
    }
    with pytest.raises(InputError, match=r"a_restored\.tiff: is a restoration itself.*Remedy"):
        find_images(written)


def test_slide_of_unknown_resolution_is_restored_with_a_warning(weights, tmp_path, caplog):
    Image.fromarray(picture(40, 90)).save(tmp_path / "doe.png")
    with caplog.at_level(logging.WARNING):
        (written,) = evaluator(
            find_images(tmp_path / "doe.png"), weights, tmp_path / "out", tile=128, overlap=8
        ).run()
    assert "doe: outside the training domain: resolution is not known" in caplog.text
    with openslide.OpenSlide(str(written)) as slide:
        assert "openslide.mpp-x" not in slide.properties
    assert json.loads((tmp_path / "out" / "doe_restored.json").read_text())["microns_per_pixel"] is None


def test_bar_counts_the_tiles_of_a_slide(weights, tmp_path):
    Image.fromarray(picture(40, 90)).save(tmp_path / "doe.png")
    running = evaluator(
        find_images(tmp_path / "doe.png"), weights, tmp_path / "out", tile=128, overlap=8, progress=True
    )
    counts: list[float] = []
    update = running.bar.update
    running.bar.update = lambda n: (counts.append(n), update(n))
    running.run()
    assert (running.bar.total, running.bar.n) == (6, 6)
    assert counts == [0, 3, 3, 0]  # found written; two rows; what was left


def test_tiles_and_slides_together_are_refused(weights, manifest, tmp_path):
    mixed: Any = [*find_images(manifest), *find_images(manifest.parent / "slides" / "other.png")]
    with pytest.raises(InputError, match="tiles and slides cannot be restored together"):
        evaluator(mixed, weights, tmp_path / "out")


def test_real_tiles_come_out_where_they_were(shared_data, weights, tmp_path):
    source = shared_data("histology/monuseg_train/TCGA-18-5592-01Z-00-DX1.png")
    row = tile_row("TCGA-18-5592", str(source), "test", x=256, y=512, size=256, microns=0.25)
    row |= {"tile": "a", "slide_sha256": sha256_file(source)}
    manifest = TILES.write(pd.DataFrame([row]), tmp_path / "manifest.csv")
    (written,) = evaluator(find_images(manifest), weights, tmp_path / "out").run()
    whole = np.asarray(Image.open(source).convert("RGB"), np.float64)
    restored = np.asarray(Image.open(written), np.float64)
    errors = {
        (y, x): np.mean((whole[512 + y : 768 + y, 256 + x : 512 + x] - restored) ** 2)
        for y in (-2, 0, 2)
        for x in (-2, 0, 2)
    }
    assert min(errors, key=lambda shift: errors[shift]) == (0, 0)
