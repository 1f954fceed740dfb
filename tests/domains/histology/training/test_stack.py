"""Stacks of tiles: what they hold, when they are built anew, and that reading when drawn gives the same."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from manifest import tile_row, write_manifest
from PIL import Image

from medrestore.checks import InputError
from medrestore.domains.histology.schema import TILES, open_tile_slide, read_tile
from medrestore.domains.histology.training import sources
from medrestore.domains.histology.training.stack import TileStack
from medrestore.files import sha256_file
from medrestore.operators.corruption import Corruption
from medrestore.operators.recording import DegradationRange
from medrestore.operators.resampling import GaussianSubsampling, KernelSubsampling

SIDE, TILE = 48, 16


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    """Three slides of two patients; rows shuffled, so that neither's come together."""
    rows = []
    for index, (patient, slide) in enumerate((("p2", "a"), ("p1", "b"), ("p2", "c"))):
        path = tmp_path / f"{slide}.png"
        pixels = np.random.default_rng(index).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path)
        rows += [
            tile_row(patient, path.name, "train", x=x, y=y, size=TILE, microns=0.5)
            for y in range(0, SIDE, TILE)
            for x in range(0, SIDE, TILE * (index + 1))
        ]
    shuffled = pd.DataFrame(rows).sample(frac=1, random_state=0)
    return TILES.read(write_manifest(TILES, shuffled, tmp_path))


def folders(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.is_dir())


def everything(stack: TileStack) -> tuple[np.ndarray, np.ndarray]:
    return stack.pairs(np.arange(len(stack)))


def build(table: pd.DataFrame, cache: Path | None, **options: object) -> TileStack:
    return TileStack.build(table, cache_dir=cache, progress=False, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("mapped", [True, False])
def test_stack_holds_every_tile_and_its_reduction(table, tmp_path, mapped):
    stack = build(table, tmp_path / "cache" if mapped else None, degradation=GaussianSubsampling(2, 1.2))
    assert len(stack) == len(table) == 9 + 6 + 3
    assert sorted(stack.volumes["tile"]) == sorted(table["tile"])
    images, targets = everything(stack)
    assert images.shape == (18, 3, 8, 8)
    assert targets.shape == (18, 3, 16, 16)
    assert images.dtype == targets.dtype == np.uint8
    for index, row in enumerate(stack.volumes.to_dict("records")):
        whole = np.asarray(Image.open(row["slide_path"]))
        tile = whole[row["y"] : row["y"] + TILE, row["x"] : row["x"] + TILE]
        np.testing.assert_array_equal(np.moveaxis(targets[index], 0, -1), tile)
        np.testing.assert_array_equal(
            np.moveaxis(images[index], 0, -1), GaussianSubsampling(scale=2, sigma=1.2).picture(tile)
        )
    np.testing.assert_array_equal(stack.images([3, 1]), images[[3, 1]])
    np.testing.assert_array_equal(stack.targets([3, 1]), targets[[3, 1]])
    assert stack.kinds == (None,) * 18


@pytest.mark.parametrize("mapped", [True, False])
def test_each_tile_of_a_range_has_its_own_degradation(table, tmp_path, mapped):
    drawn = DegradationRange(scale=2, jpeg_fraction=0.5, noise_fraction=0.5, seed=5)
    # Tiles of other names: the maps that were made before are not theirs.
    for given in (table, table.assign(tile="other_" + table["tile"])):
        stack = build(given, tmp_path / "cache" if mapped else None, degradation=drawn)
        images, targets = everything(stack)
        for name, image, target in zip(stack.volumes["tile"], images, targets, strict=True):
            expected = drawn.of(name).picture(np.ascontiguousarray(np.moveaxis(target, 0, -1)))
            np.testing.assert_array_equal(np.moveaxis(image, 0, -1), expected)


def test_tiles_of_a_patient_come_together(table, tmp_path):
    stack = build(table, tmp_path / "cache")
    assert set(stack.subjects) == {"p1", "p2"}
    assert stack.first_slice.tolist() in ([0, 6, 18], [0, 12, 18])
    for number, patient in enumerate(stack.subjects):
        rows = stack.volumes["subject_id"][stack.first_slice[number] : stack.first_slice[number + 1]]
        assert set(rows) == {patient}
    assert [stack.subjects[number] for number in stack.volume_index] == stack.volumes["subject_id"].tolist()
    assert stack.slice_index.tolist() == list(range(18))


@pytest.mark.parametrize("mapped", [True, False])
def test_planned_targets_are_corrupted_and_no_image_is(table, tmp_path, mapped, monkeypatch):
    monkeypatch.setattr(sources, "_BLOCK", 4)  # several blocks a slide, and of corrupted tiles
    cache = tmp_path / "cache" if mapped else None
    clean_images, clean_targets = everything(build(table, cache))
    corruption = Corruption(fraction=0.5, kinds=["noise", "blur", "contrast"], seed=3)
    stack = build(table, cache, corruption=corruption)
    images, targets = everything(stack)
    np.testing.assert_array_equal(images, clean_images)
    assert stack.planned == corruption.plan(stack.volumes["tile"].tolist())
    assert sum(kind is not None for kind in stack.kinds) == 9
    for index, (planned, name) in enumerate(zip(stack.planned, stack.volumes["tile"], strict=True)):
        tile = np.moveaxis(clean_targets[index], 0, -1)
        expected = corruption.apply(tile, planned, tile=name)
        np.testing.assert_array_equal(np.moveaxis(targets[index], 0, -1), expected)
        assert (expected != tile).any() == (planned.kind is not None)
    np.testing.assert_array_equal(stack.targets([17, 2, 2]), targets[[17, 2, 2]])


def test_mapped_and_drawn_tiles_are_the_same_bytes(table, tmp_path):
    corruption = Corruption(0.4, seed=1)
    mapped, drawn = (build(table, cache, corruption=corruption) for cache in (tmp_path / "cache", None))
    for one, other in zip(everything(mapped), everything(drawn), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_fraction_of_nothing_is_the_clean_stack(table, tmp_path):
    stack = build(table, tmp_path / "cache", corruption=Corruption(fraction=0, kinds=["blur"], seed=0))
    assert stack.kinds == (None,) * 18
    assert len(folders(tmp_path / "cache")) == 1


def test_second_call_reads_no_slide(table, tmp_path, monkeypatch):
    corruption = Corruption(0.5, seed=1)
    first = everything(build(table, tmp_path / "cache", corruption=corruption))
    for path in set(table["slide_path"]):
        Path(path).unlink()
    monkeypatch.setattr(sources, "open_tile_slide", None)
    second = everything(build(table, tmp_path / "cache", corruption=corruption))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_all_levels_of_corruption_share_the_clean_maps(table, tmp_path):
    cache = tmp_path / "cache"
    for fraction in (0.0, 0.2, 0.5):
        build(table, cache, corruption=Corruption(fraction, seed=1))
    names = folders(cache)
    assert [name.split("-")[0] for name in names] == ["corrupted", "corrupted", "tiles"]
    sizes = sorted((cache / name / "target.npy").stat().st_size for name in names)
    # 4, 9 and 18 targets of 768 bytes behind a header of 128.
    assert sizes == [128 + 4 * 768, 128 + 9 * 768, 128 + 18 * 768]


def moved(table: pd.DataFrame) -> pd.DataFrame:
    other = table.copy()
    other.loc[0, "x"] += 1
    return other


def renamed(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(tile="other_" + table["tile"])


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (moved, {}),
        (renamed, {}),
        (lambda table: table.iloc[1:], {}),
        (lambda table: table.assign(microns_per_pixel=1.0, x=0, y=0).drop_duplicates("slide"), {}),
        (lambda table: table, {"degradation": GaussianSubsampling(2, 2.0)}),
        (lambda table: table, {"degradation": GaussianSubsampling(4, 2.5)}),
        (lambda table: table, {"degradation": KernelSubsampling("box", 4)}),
        (lambda table: table, {"degradation": DegradationRange()}),
        (lambda table: table, {"corruption": Corruption(0.6, seed=0)}),
        (lambda table: table, {"corruption": Corruption(0.5, seed=1)}),
        (lambda table: table, {"corruption": Corruption(0.5, ["blur"], seed=0)}),
        (lambda table: table, {"corruption": Corruption(0.5, seed=0, strengths={"blur": (1.0, 1.5)})}),
    ],
)
def test_whatever_changes_the_bytes_has_maps_of_its_own(table, tmp_path, change, options):
    cache = tmp_path / "cache"
    build(table, cache, corruption=Corruption(0.5, seed=0))
    before = set(folders(cache))
    stack = build(change(table), cache, **{"corruption": Corruption(0.5, seed=0), **options})
    assert set(folders(cache)) - before
    for one, other in zip(
        everything(stack), everything(build(change(table), None, **_drawn(options))), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def _drawn(options: dict[str, object]) -> dict[str, object]:
    return {"corruption": Corruption(0.5, seed=0), **options}


def test_a_slide_with_other_content_has_maps_of_its_own(table, tmp_path):
    build(table, tmp_path / "cache")
    path = table["slide_path"].iloc[0]
    Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)).save(path)
    changed = table.copy()
    changed.loc[changed["slide_path"] == path, "slide_sha256"] = sha256_file(path)
    stack = build(changed, tmp_path / "cache")
    assert len(folders(tmp_path / "cache")) == 2
    black = np.flatnonzero(stack.volumes["slide_path"] == path)
    assert stack.targets(black).max() == 0


def test_changed_slide_is_refused_and_nothing_is_left(table, tmp_path):
    path = table["slide_path"].iloc[0]
    Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)).save(path)
    with pytest.raises(InputError, match=r"\.png: has checksum .* the manifest says"):
        build(table, tmp_path / "cache")
    assert folders(tmp_path / "cache") == []


@pytest.mark.parametrize("mapped", [True, False])
def test_missing_slide_is_refused(table, tmp_path, mapped):
    Path(table["slide_path"].iloc[0]).unlink()
    with pytest.raises(InputError, match=r"\.png: no such file"):
        build(table, tmp_path / "cache" if mapped else None)


@pytest.mark.parametrize("mapped", [True, False])
def test_pickled_stack_opens_its_files_anew(table, tmp_path, mapped):
    stack = build(table, tmp_path / "cache" if mapped else None, corruption=Corruption(0.5))
    before = everything(stack)
    stored = pickle.dumps(stack)
    assert len(stored) < 15_000  # the tiles alone are 14 kB of targets and 1 kB of images
    for one, other in zip(before, everything(pickle.loads(stored)), strict=True):  # noqa: S301
        np.testing.assert_array_equal(one, other)


def test_few_slides_stay_open(table, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_OPEN_SLIDES", 1)
    drawn = build(table, None)
    order = np.array([0, 17, 1, 16])
    np.testing.assert_array_equal(drawn.targets(order), build(table, tmp_path / "cache").targets(order))


def test_wrong_tables_are_refused(table, tmp_path):
    cache = tmp_path / "cache"
    with pytest.raises(InputError, match="the split is empty"):
        build(table.iloc[:0], cache)
    with pytest.raises(InputError, match="multiple of the scale 3, got 16"):
        build(table, cache, degradation=GaussianSubsampling(3, 2.0))
    sizes = table.assign(tile_size=[8, *[16] * (len(table) - 1)])
    with pytest.raises(InputError, match="one size, got 8 and 16 pixels"):
        build(sizes, cache)
    twice = pd.concat([table, table.iloc[:1]])
    with pytest.raises(InputError, match="named once each"):
        build(twice, cache, corruption=Corruption(0.1))


def test_real_slide(shared_data, tmp_path):
    path = shared_data("histology/cmu_1_small_region.svs")
    places = [(0, 0), (700, 900), (1500, 2000)]
    columns = {"split": "train", "subject_id": "CMU-1", "slide": path.name, "slide_path": str(path)}
    rows = pd.DataFrame(
        [
            {**columns, "tile": f"x{x}_y{y}", "x": x, "y": y, "tile_size": 128, "microns_per_pixel": 1.0}
            for x, y in places
        ]
    ).assign(slide_microns_per_pixel=np.nan, slide_sha256=sha256_file(path))
    images, targets = everything(build(rows, tmp_path / "cache"))
    with open_tile_slide(rows.iloc[0].to_dict()) as slide:
        for index, row in enumerate(rows.to_dict("records")):
            tile = read_tile(slide, row)
            np.testing.assert_array_equal(np.moveaxis(targets[index], 0, -1), tile)
    # Smoothing keeps the mean, to the mirrored border and the rounding.
    np.testing.assert_allclose(images.mean(axis=(2, 3)), targets.mean(axis=(2, 3)), atol=1)
