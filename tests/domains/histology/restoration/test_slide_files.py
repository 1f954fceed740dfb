"""Whole slides restored: no seam, right resolution, continued to the same bytes, in little memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import tifffile
from leica import write_leica
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from medrestore.checks import InputError
from medrestore.domains.histology.restoration.slide_files import (
    SlideSettings,
    occupied_windows,
    restore_slide,
)
from medrestore.domains.histology.restoration.super_resolver import SuperResolver
from medrestore.domains.histology.slides.reader import open_slide
from medrestore.networks.super_resolution import SRResNet
from medrestore.operators.resampling import GaussianSubsampling, enlarge

HEIGHT, WIDTH = 110, 182
SETTINGS = SlideSettings(tile=128, overlap=12, compression="deflate")  # windows of 44 pixels, 4 rows of 6


class Nearest(nn.Module):
    """Repeats pixels: what surrounds a window changes nothing in it."""

    in_channels, scale = 3, 4

    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(x, scale_factor=self.scale, mode="nearest")


def slide_picture() -> NDArray[np.uint8]:
    """Make glass with tissue in its lower right part, and a little of it in the upper left corner."""
    random = np.random.default_rng(3)
    image = np.full((HEIGHT, WIDTH, 3), 244, np.uint8)
    image[30:, 120:] = random.integers((120, 40, 110), (240, 150, 200), (HEIGHT - 30, WIDTH - 120, 3))
    image[2:8, 3:9] = (150, 60, 140)
    return image


@pytest.fixture
def slide_path(tmp_path: Path) -> Path:
    path = tmp_path / "slide.png"
    Image.fromarray(slide_picture()).save(path)
    return path


def resolver(network: nn.Module, *, batch_size: int = 2) -> SuperResolver:
    return SuperResolver(network, degradation=GaussianSubsampling(4, 2.0), batch_size=batch_size)


def restore(
    path: Path, network: nn.Module, output: Path, *, settings: SlideSettings = SETTINGS, **given: Any
) -> NDArray[np.uint8]:
    with open_slide(path, microns_per_pixel=1.0) as slide:
        windows = occupied_windows(slide, stride=settings.stride(4), overlap=settings.overlap)
        if settings.background == "restored":
            windows[:] = True
        arguments = {"settings": settings, "windows": windows, "identity": {}} | given
        restore_slide(slide, resolver(network), output=output, **arguments)
    with tifffile.TiffFile(output) as file:
        return np.asarray(file.pages[0].asarray())


EVERYWHERE = SlideSettings(tile=128, overlap=12, background="restored", compression="deflate")


def test_pixels_that_need_no_neighbors_come_out_as_they_are(slide_path, tmp_path):
    found = restore(slide_path, Nearest(), tmp_path / "a.tiff", settings=EVERYWHERE)
    np.testing.assert_array_equal(found, slide_picture().repeat(4, axis=0).repeat(4, axis=1))


@pytest.mark.parametrize("overlap", [20, 32, 0])
def test_windows_join_as_if_the_image_were_restored_at_once(overlap, slide_path, tmp_path):
    # Its kernels of 3 reach 4 pixels at the input's size and half a one beyond, bicubic interpolation reaches
    # 2: less than the 5 pixels (a quarter of 20) beside a window's border that have no weight.
    network = SRResNet(channels=4, blocks=1, norm="none", kernel=1, enlargement_skip="bicubic")
    network.output.weight.data.mul_(300)
    settings = SlideSettings(tile=128, overlap=overlap, background="restored", compression="deflate")
    found = restore(slide_path, network, tmp_path / "a.tiff", settings=settings).astype(int)
    whole = resolver(network).restore(slide_picture()[None])[0].astype(int)
    assert np.abs(whole - enlarge(slide_picture(), scale=4).astype(int)).max() > 20  # it does something
    # On the right and below, the image is mirrored where the whole one ends in zeros.
    difference = np.abs(found - whole)[: -4 * 6, : -4 * 6]
    if overlap:
        assert difference.max() <= 1  # the order of sums in a convolution
    else:
        assert difference.max() > 5  # the test sees seams


def test_background_is_enlarged_and_tissue_restored(slide_path, tmp_path):
    class Black(Nearest):
        def forward(self, x: Tensor) -> Tensor:
            return 0 * super().forward(x)

    found = restore(slide_path, Black(), tmp_path / "a.tiff")
    expected = enlarge(slide_picture(), scale=4)
    assert (found[4 * 30 :, 4 * 120 :] == 0).all()  # the tissue
    assert (found[:32, :32] == 0).all()  # a piece of 6 x 6 pixels, too
    # Windows of the lowest row begin at row 96; those of columns 0 and 1, up to column 64, are glass.
    glass = (slice(4 * 96, 4 * 110), slice(0, 4 * 64))
    np.testing.assert_array_equal(found[glass], expected[glass])
    white = restore(
        slide_path,
        Black(),
        tmp_path / "b.tiff",
        settings=SlideSettings(tile=128, overlap=12, compression="deflate", background="white"),
    )
    assert (white[glass] == 255).all()


@pytest.mark.parametrize("stated", [1.0, None])
def test_windows_that_hold_something_are_found_and_those_far_from_it_are_not(stated, tmp_path):
    image = np.full((500, 420, 3), 244, np.uint8)
    image[230:260, 300:] = (170, 90, 160)
    image[103:108, 62:67] = (170, 90, 160)
    image[400:420, 100:120] = 190  # without color
    Image.fromarray(image).save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png", microns_per_pixel=stated) as slide:
        windows = occupied_windows(slide, stride=32, overlap=8)
    assert windows.shape == (16, 14)
    stained = image[..., 1] < 200
    for row in range(16):
        for column in range(14):
            y, x = 32 * row, 32 * column
            if stained[y : y + 40, x : x + 40].any():
                assert windows[row, column]
            # The picture that is looked at has pixels of 4; its filter reaches 3 of them, windows 1 more.
            if not stained[max(y - 20, 0) : y + 60, max(x - 20, 0) : x + 60].any():
                assert not windows[row, column]
    assert 0 < windows.sum() < 40


def test_result_depends_on_batches_no_more_than_sums_do(slide_path, tmp_path):
    network = SRResNet(channels=4, blocks=1, norm="batch")
    network.output.weight.data.mul_(100)
    with open_slide(slide_path, microns_per_pixel=1.0) as slide:
        windows = np.ones((4, 6), bool)
        pages = []
        for batch_size in (1, 8):
            path = tmp_path / f"{batch_size}.tiff"
            restore_slide(
                slide,
                resolver(network, batch_size=batch_size),
                output=path,
                settings=SETTINGS,
                windows=windows,
                identity={},
            )
            with tifffile.TiffFile(path) as file:
                pages.append(file.pages[0].asarray().astype(int))
    assert np.abs(pages[0] - pages[1]).max() <= 1


def test_interrupted_restoration_goes_on_to_the_same_bytes(slide_path, tmp_path):
    network = SRResNet(channels=4, blocks=1)
    network.output.weight.data.mul_(100)
    restore(slide_path, network, tmp_path / "whole.tiff")
    done: list[int] = []

    def stop(tiles: int) -> None:
        done.append(tiles)
        if sum(done) == 12:  # two rows of six
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore(slide_path, network, tmp_path / "a.tiff", advance=stop)
    assert not (tmp_path / "a.tiff").exists()
    seen: list[int] = []
    restore(slide_path, network, tmp_path / "a.tiff", advance=seen.append)
    assert seen == [12, 6, 6]  # found written, then two rows
    assert (tmp_path / "a.tiff").read_bytes() == (tmp_path / "whole.tiff").read_bytes()


PROGRAM = """
import sys, time
from pathlib import Path
import numpy as np
from medrestore.domains.histology.slides.reader import open_slide
from medrestore.domains.histology.restoration.slide_files import (
    SlideSettings, restore_slide, occupied_windows,
)
from medrestore.domains.histology.restoration.super_resolver import SuperResolver
from medrestore.networks.super_resolution import SRResNet
from medrestore.operators.resampling import GaussianSubsampling

source, output, pause = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
network = SRResNet(channels=4, blocks=1)
settings = SlideSettings(tile=int(sys.argv[4]), overlap=8)
def advance(tiles):
    print(tiles, flush=True)
    time.sleep(pause)
with open_slide(source) as slide:
    windows = occupied_windows(slide, stride=settings.stride(4), overlap=8)
    resolver = SuperResolver(network, degradation=GaussianSubsampling(4, 2.0), batch_size=1)
    restore_slide(slide, resolver, output=output,
                  settings=settings, windows=windows, identity={}, advance=advance)
# Not getrusage's peak, which begins with that of the process that this one was forked from.
print("memory", Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


def run_program(source: Path, output: Path, *, pause: float = 0.0, tile: int = 128) -> subprocess.Popen[str]:
    if not Path("/proc/self/status").exists():
        pytest.skip("memory is read from /proc")
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(source), str(output), str(pause), str(tile)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
def test_killed_restoration_goes_on_to_the_same_bytes(slide_path, tmp_path):
    killed = run_program(slide_path, tmp_path / "a.tiff", pause=0.3)
    assert killed.stdout is not None
    for _ in range(3):
        assert killed.stdout.readline()
    time.sleep(0.31)  # into the next row
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    killed.stdout.close()
    assert not (tmp_path / "a.tiff").exists()
    for name in ("a.tiff", "whole.tiff"):
        output, _ = run_program(slide_path, tmp_path / name).communicate()
        assert (int(output.split()[0]) > 0) == (name == "a.tiff")  # it begins with rows that it has found
    assert (tmp_path / "a.tiff").read_bytes() == (tmp_path / "whole.tiff").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tiff", "slide.png", "whole.tiff"]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_slide(tmp_path):
    """A mostly empty slide, restored to 16,000 x 4,800 pixels: 230 MB if it were held."""
    peaks = []
    for height, width in ((300, 600), (1200, 4000)):
        image = np.full((height, width, 3), 244, np.uint8)
        image[100:200, 100:200] = np.random.default_rng(0).integers(60, 200, (100, 100, 3))
        path = tmp_path / f"{width}.tiff"
        tifffile.imwrite(path, image, tile=(256, 256), photometric="rgb", compression="jpeg")
        process = run_program(path, tmp_path / f"{width}_restored.tiff", tile=512)
        output, _ = process.communicate()
        assert process.returncode == 0
        peaks.append(int(output.splitlines()[-1].split()[1]))
    # In kB. Measured 24 MB: what OpenSlide keeps of tiles it has decoded (32 MB at most), and longer rows.
    assert peaks[1] - peaks[0] < 80 * 1024
    with openslide.OpenSlide(str(tmp_path / "4000_restored.tiff")) as slide:
        assert slide.dimensions == (16_000, 4_800)


def test_real_slide_opens_with_its_resolution(shared_data, tmp_path):
    picture = Image.open(shared_data("histology/monuseg_train/TCGA-18-5592-01Z-00-DX1.png")).convert("RGB")
    picture.resize((250, 250), Image.Resampling.BOX).save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png", microns_per_pixel=1.0) as slide:
        restore_slide(
            slide,
            resolver(SRResNet(channels=4, blocks=1, enlargement_skip="bicubic")),
            output=tmp_path / "a.tiff",
            settings=SlideSettings(),
            windows=occupied_windows(slide, stride=128, overlap=24),
            identity={},
        )
    with openslide.OpenSlide(str(tmp_path / "a.tiff")) as restored:
        assert restored.level_dimensions == ((1000, 1000), (500, 500))
        assert float(restored.properties["openslide.mpp-x"]) == 0.25
        read = np.asarray(restored.read_region((0, 0), 0, (1000, 1000)).convert("RGB"), np.float64)
    expected = np.asarray(picture, np.float64)
    blurred = np.asarray(picture.resize((250, 250), Image.Resampling.BOX).resize((1000, 1000), 0), np.float64)
    # Nearer to the original than its pixels repeated: nothing is shifted or mixed up.
    assert np.mean((read - expected) ** 2) < np.mean((blurred - expected) ** 2)


def test_what_was_scanned_is_restored_and_nothing_around_it(tmp_path):
    path = write_leica(tmp_path / "a.scn", slide_picture(), corner=(100, 60), canvas=(400, 300))
    with open_slide(path) as slide:
        scanned = slide.read(100, 60, width=WIDTH, height=HEIGHT)
        assert slide.bounds == (100, 60, WIDTH, HEIGHT)
    Image.fromarray(scanned).save(tmp_path / "cut.png")
    found = restore(path, Nearest(), tmp_path / "a.tiff")
    np.testing.assert_array_equal(found, restore(tmp_path / "cut.png", Nearest(), tmp_path / "b.tiff"))
    np.testing.assert_array_equal(found[4 * 40, 4 * 130 :: 4], scanned[40, 130:])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"background": "black"}, "background must be one of 'bicubic', 'white', 'restored', got 'black'"),
        ({"compression": "lzw"}, "compression must be one of"),
        ({"overlap": 200}, r"overlap must be in \[0, 128\], got 200"),
        ({"tile": 200}, "tile must be a multiple of 16 and of the scale 4, got 200"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        SlideSettings(**settings).stride(4)
