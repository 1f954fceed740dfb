"""Pyramidal TIFF files: what other readers see, what little memory takes, what survives an interruption."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import tifffile
from numpy.typing import NDArray

from medrestore.checks import InputError
from medrestore.domains.histology.slides import pyramid
from medrestore.domains.histology.slides.pyramid import PyramidWriter

TILE = 64


def picture(height: int, width: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Make smooth colors, so that JPEG keeps them."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    phases = random.uniform(0, 6, (3, 2))
    waves = [np.sin(x / 23 + a) * np.cos(y / 19 + b) for a, b in phases]
    return np.rint(128 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def rows_of(image: NDArray[np.uint8], *, first: int = 0) -> Iterator[list[NDArray[np.uint8]]]:
    height, width = image.shape[:2]
    for y in range(first * TILE, height, TILE):
        yield [image[y : y + TILE, x : x + TILE] for x in range(0, width, TILE)]


def writer(path: Path, image: NDArray[np.uint8], **settings: Any) -> PyramidWriter:
    given: dict[str, Any] = {"microns_per_pixel": 0.5, "settings": {"seed": 0}, "tile": TILE} | settings
    return PyramidWriter(path, width=image.shape[1], height=image.shape[0], **given)


def write(path: Path, image: NDArray[np.uint8], **settings: Any) -> Path:
    with writer(path, image, **settings) as pyramid_writer:
        for row in rows_of(image, first=pyramid_writer.finished_rows):
            pyramid_writer.write_row(row)
        return pyramid_writer.finish()


def halved(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average 2 x 2 pixels one by one; a missing neighbor is the pixel itself."""
    height, width = -(-image.shape[0] // 2), -(-image.shape[1] // 2)
    result = np.empty((height, width, 3), np.uint8)
    for y in range(height):
        for x in range(width):
            block = [
                image[min(2 * y + j, image.shape[0] - 1), min(2 * x + i, image.shape[1] - 1)].astype(int)
                for j in range(2)
                for i in range(2)
            ]
            result[y, x] = (sum(block) + 2) // 4
    return result


def test_lossless_levels_are_means_of_the_finer_ones(tmp_path):
    image = picture(150, 211)
    with tifffile.TiffFile(write(tmp_path / "a.tiff", image, compression="deflate")) as file:
        pages = [page.asarray() for page in file.pages]
        assert [page.tags["NewSubfileType"].value for page in file.pages] == [0, 1, 1]
        assert all((page.tilewidth, page.tilelength) == (TILE, TILE) for page in file.pages)
    np.testing.assert_array_equal(pages[0], image)
    np.testing.assert_array_equal(pages[1], halved(image))
    np.testing.assert_array_equal(pages[2], halved(halved(image)))
    assert pages[2].shape == (38, 53, 3)


@pytest.mark.parametrize("compression", ["jpeg", "deflate"])
def test_openslide_sees_levels_resolution_and_pixels(compression, tmp_path):
    image = picture(300, 200)
    path = write(tmp_path / "a.tiff", image, compression=compression, microns_per_pixel=0.499, quality=95)
    with openslide.OpenSlide(str(path)) as slide:
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        assert slide.level_dimensions == ((200, 300), (100, 150), (50, 75), (25, 38))
        # A TIFF states the resolution as a quotient of two 32-bit numbers: 1e-9, and OpenSlide reads floats.
        for axis in "xy":
            assert float(slide.properties[f"openslide.mpp-{axis}"]) == pytest.approx(0.499, rel=1e-6)
        read = [np.asarray(slide.read_region((0, 0), n, slide.level_dimensions[n])) for n in range(2)]
    # JPEG of quality 95 on smooth colors: a few levels.
    tolerance = 0 if compression == "deflate" else 6
    for found, expected in zip(read, (image, halved(image)), strict=True):
        assert (found[..., 3] == 255).all()
        np.testing.assert_allclose(found[..., :3].astype(int), expected.astype(int), atol=tolerance, rtol=0)


def test_without_a_resolution_none_is_stated(tmp_path):
    path = write(tmp_path / "a.tiff", picture(80, 80), microns_per_pixel=None)
    with openslide.OpenSlide(str(path)) as slide:
        assert "openslide.mpp-x" not in slide.properties


def test_same_image_gives_same_bytes_and_leaves_nothing_else(tmp_path):
    image = picture(150, 211)
    first = write(tmp_path / "a.tiff", image).read_bytes()
    assert write(tmp_path / "b.tiff", image).read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tiff", "b.tiff"]


@pytest.mark.parametrize("torn", [0, 5])
def test_interrupted_writer_goes_on_and_gives_the_same_bytes(torn, tmp_path):
    image = picture(300, 200)
    image[:130] = 255  # tiles of one color, which are stored once
    whole = write(tmp_path / "whole.tiff", image).read_bytes()
    path = tmp_path / "a.tiff"
    with pytest.raises(KeyboardInterrupt), writer(path, image) as interrupted:
        for index, row in enumerate(rows_of(image)):
            interrupted.write_row(row if index < 3 else [row[0], *_stop()])
    assert not path.exists()
    if torn:  # the machine stopped while it wrote the journal
        journal = tmp_path / ".unfinished-a.tiff" / "rows-0.bin"
        journal.write_bytes(journal.read_bytes()[:-torn])
    with writer(path, image) as going_on:
        assert going_on.finished_rows == (2 if torn else 3)
    assert write(path, image).read_bytes() == whole


def _stop() -> Iterator[NDArray[np.uint8]]:
    raise KeyboardInterrupt
    yield


def test_unfinished_pyramid_of_other_settings_is_begun_anew(tmp_path):
    image = picture(150, 150)
    with writer(tmp_path / "a.tiff", image) as first:
        first.write_row(next(rows_of(image)))
    with writer(tmp_path / "a.tiff", image, settings={"seed": 1}) as other:
        assert other.finished_rows == 0


def test_large_files_are_big_tiffs(tmp_path, monkeypatch):
    image = picture(70, 70)
    path = write(tmp_path / "small.tiff", image)
    assert path.read_bytes()[2] == 42
    monkeypatch.setattr(pyramid, "CLASSIC_TIFF_LIMIT", 1000)
    path = write(tmp_path / "large.tiff", image)
    assert path.read_bytes()[2] == 43
    with openslide.OpenSlide(str(path)) as slide:
        assert slide.level_count == 2


def test_full_disk_is_told_and_rows_are_kept(tmp_path, monkeypatch):
    image = picture(150, 70)
    with writer(tmp_path / "a.tiff", image) as pyramid_writer:
        pyramid_writer.write_row(next(rows_of(image)))

        def full(*_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with (
            monkeypatch.context() as patched,
            pytest.raises(InputError, match=r"a\.tiff: the disk is full; 1 of 3 rows of tiles are kept"),
        ):
            patched.setattr(pyramid, "_flush", full)
            pyramid_writer.write_row(next(rows_of(image, first=1)))
    assert write(tmp_path / "a.tiff", image).read_bytes() == write(tmp_path / "b.tiff", image).read_bytes()


@pytest.mark.parametrize("share", [0, 0.02, 0.3, 0.7, 0.99])
def test_no_room_at_any_place_is_told_and_the_work_continued(share, tmp_path):
    """The system itself refuses to write more, in the scratch folder or in the TIFF; no stand-in for it."""
    resource = pytest.importorskip("resource")
    image = picture(150, 70)
    whole = write(tmp_path / "b.tiff", image).read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (round(share * len(whole)), before[1]))
    try:
        with pytest.raises(InputError, match=r"a\.tiff.*: the file would be larger .*Remedy: free"):
            write(tmp_path / "a.tiff", image)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "a.tiff").exists()
    # Nobody holds the lock, and what was kept is good.
    assert write(tmp_path / "a.tiff", image).read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tiff", "b.tiff"]


@pytest.mark.parametrize("code", ["ENOSPC", "EDQUOT"])
def test_failure_to_close_does_not_replace_the_message(code, tmp_path, monkeypatch):
    image = picture(150, 70)

    class Full:
        """A file of which the system's buffers take everything, and its disk nothing."""

        def __init__(self, stream: Any) -> None:
            self.stream = stream

        def __getattr__(self, name: str) -> Any:
            return getattr(self.stream, name)

        def flush(self) -> None:
            raise OSError(getattr(errno, code), "no room")

        def close(self) -> None:
            self.stream.close()
            self.flush()

    original = pyramid._open
    with monkeypatch.context() as patched:
        patched.setattr(pyramid, "_open", lambda *given: Full(original(*given)))
        with pytest.raises(InputError, match=r"a\.tiff: the disk .*; 0 of 3 rows of tiles are kept"):
            write(tmp_path / "a.tiff", image)
    assert write(tmp_path / "a.tiff", image).read_bytes() == write(tmp_path / "b.tiff", image).read_bytes()


def test_second_writer_of_one_file_is_refused(tmp_path):
    image = picture(70, 70)
    with (
        writer(tmp_path / "a.tiff", image),
        pytest.raises(InputError, match=r"a\.tiff: another process is writing this file"),
        writer(tmp_path / "a.tiff", image),
    ):
        pass


def test_rows_that_are_too_many_or_too_few_are_refused(tmp_path):
    image = picture(100, 100)
    rows = list(rows_of(image))
    rows[1][0] = white = np.full((TILE, TILE, 3), 255, np.uint8)
    image[64:, :64] = 255
    with writer(tmp_path / "a.tiff", image) as open_writer:
        with pytest.raises(InputError, match="has 0 of 2 rows of tiles"):
            open_writer.finish()
        with pytest.raises(InputError, match="a row has 2 tiles, got 1"):
            open_writer.write_row(rows[0][:1])
        with pytest.raises(InputError, match="a row has 2 tiles, got more"):
            open_writer.write_row([white, *rows[0]])
        open_writer.write_row(rows[0])
        open_writer.write_row(rows[1])
        with pytest.raises(InputError, match="has all its 2 rows"):
            open_writer.write_row(rows[1])
        path = open_writer.finish()
    # What was refused left nothing behind.
    assert path.read_bytes() == write(tmp_path / "b.tiff", image).read_bytes()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tile": 40}, "tile must be a positive multiple of 16, got 40"),
        ({"compression": "lzw"}, "compression must be one of 'jpeg', 'deflate', got 'lzw'"),
        ({"quality": 101}, r"JPEG quality must be in \[1, 100\], got 101"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message, tmp_path):
    with pytest.raises(InputError, match=message):
        writer(tmp_path / "a.tiff", picture(8, 8), **settings)
