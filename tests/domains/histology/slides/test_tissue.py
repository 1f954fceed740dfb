"""Tissue, ink and focus on pictures whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from medrestore.checks import InputError
from medrestore.domains.histology.slides.tissue import MINIMUM_FOCUS, focus_score, pen_mask, tissue_mask

GLASS, EOSIN, HEMATOXYLIN, DAB = (243, 242, 244), (214, 120, 160), (90, 60, 140), (150, 95, 50)
INKS = {"blue": (40, 90, 200), "green": (30, 150, 90), "red": (210, 20, 30), "black": (25, 22, 28)}


def plate(color: tuple[int, int, int], *, noise: float = 2.0, side: int = 100) -> np.ndarray:
    random = np.random.default_rng(0)
    return np.clip(np.array(color) + random.normal(0, noise, (side, side, 3)), 0, 255).astype(np.uint8)


def test_tissue_is_found_where_it_is():
    picture = plate(GLASS)
    picture[20:60, 30:80] = plate(EOSIN)[20:60, 30:80]
    mask = tissue_mask(picture, smoothing=0.0)
    expected = np.zeros((100, 100), dtype=bool)
    expected[20:60, 30:80] = True
    np.testing.assert_array_equal(mask, expected)


def test_an_empty_slide_has_no_tissue():
    assert not tissue_mask(plate(GLASS)).any()
    assert not tissue_mask(np.full((50, 50, 3), 240, dtype=np.uint8)).any()
    assert not tissue_mask(np.zeros((50, 50, 3), dtype=np.uint8)).any()  # a black border


def test_a_dark_border_with_noise_is_no_tissue():
    random = np.random.default_rng(0)
    assert not tissue_mask(random.integers(0, 3, (60, 60, 3), dtype=np.uint8)).any()


def test_a_picture_filled_with_tissue_stays_full():
    picture = plate(EOSIN, noise=10)
    picture[::4, ::4] = HEMATOXYLIN  # two stains, which Otsu's threshold alone would part
    assert tissue_mask(picture).all()


def test_small_pieces_go_and_small_holes_fill():
    picture = plate(GLASS, noise=0)
    picture[10:60, 10:60] = EOSIN
    picture[30:35, 30:35] = GLASS  # 25 pixels
    picture[80:85, 80:85] = EOSIN
    fine = tissue_mask(picture, smallest=25, smoothing=0.0)
    coarse = tissue_mask(picture, smallest=26, smoothing=0.0)
    assert fine.sum() == 2500 - 25 + 25
    assert coarse.sum() == 2500
    assert not fine[32, 32]
    assert fine[82, 82]


def test_smoothing_joins_the_nuclei_of_a_pale_stroma():
    picture = np.full((96, 96, 3), (240, 236, 240), dtype=np.uint8)  # saturation 0.017
    for row in range(2, 96, 8):
        for column in range(2, 96, 8):
            picture[row : row + 3, column : column + 3] = (
                HEMATOXYLIN  # 9 of 64 pixels at 0.57: 0.095 on average
            )
    assert tissue_mask(picture, smallest=30, smoothing=0.0).mean() == 0
    assert tissue_mask(picture, smallest=30, smoothing=4.0)[8:-8, 8:-8].all()


@pytest.mark.parametrize("ink", INKS)
def test_ink_is_found_on_glass_and_on_tissue(ink):
    picture = plate(EOSIN)
    picture[:, :50] = GLASS
    picture[40:50] = plate(INKS[ink], side=100)[40:50]
    expected = np.zeros((100, 100), dtype=bool)
    expected[40:50] = True
    np.testing.assert_array_equal(pen_mask(picture), expected)


@pytest.mark.parametrize("color", [GLASS, EOSIN, HEMATOXYLIN, DAB, (230, 120, 130), (150, 30, 70)])
def test_stains_and_blood_are_no_ink(color):
    assert not pen_mask(plate(color)).any()


def test_small_spots_are_no_pen():
    picture = plate(GLASS, noise=0)
    picture[10:13, 10:15] = INKS["blue"]  # 15 pixels
    assert not pen_mask(picture, smallest=16).any()
    assert pen_mask(picture, smallest=15).sum() == 15


def test_focus_of_a_checkerboard_by_hand():
    # +-d around a mean: the Laplacian of (-1)^(i+j) d is -8 times it, its variance 64 d^2 over d^2. At the
    # border, mirrored with its edge pixel repeated, one neighbor equals the pixel: -6, at the corners -4.
    side, d = 32, 50
    board = np.indices((side, side)).sum(axis=0) % 2 * 2 * d + 100
    picture = np.repeat(board[..., None], 3, axis=2).astype(np.uint8)
    factors = np.full((side, side), 8.0)
    factors[[0, -1]] -= 2
    factors[:, [0, -1]] -= 2
    noise = 20 / 12 * (0.2125**2 + 0.7154**2 + 0.0721**2) / d**2
    assert focus_score(picture) == pytest.approx(np.mean(factors**2) - noise, rel=1e-4)  # float32


def test_focus_does_not_depend_on_stain_or_lamp():
    from scipy.ndimage import gaussian_filter

    random = np.random.default_rng(0)
    texture = gaussian_filter(random.normal(0, 1, (128, 128)), 1.0)
    texture /= texture.std()
    scores = [
        focus_score(np.rint(np.repeat((mean + sd * texture)[..., None], 3, axis=2)).astype(np.uint8))
        for mean, sd in ((128, 25), (128, 10), (180, 15))
    ]
    # Rounding equal in all channels adds 20 / 12 to the numerator, of which the sum of squared weights is
    # taken off: what is left is 20 / 12 * (1 - 0.562) / sd^2, at sd 10 0.0073.
    assert np.ptp(scores) < 0.01
    assert min(scores) > 0.3


def test_blur_lowers_focus_and_a_flat_tile_has_none():
    assert focus_score(np.full((64, 64, 3), 200, dtype=np.uint8)) == 0.0
    assert focus_score(plate(GLASS, noise=0.3)) == 0.0


def test_real_tissue_is_in_focus_and_its_blur_is_not(shared_data):
    from PIL import Image
    from scipy.ndimage import gaussian_filter

    folder = shared_data("histology/monuseg_train")
    for name in ("TCGA-38-6178-01Z-00-DX1", "TCGA-G2-A2EK-01A-02-TSB", "TCGA-HE-7128-01Z-00-DX1"):
        tile = np.asarray(Image.open(f"{folder}/{name}.png"))[:256, :256]
        assert focus_score(tile) > 3 * MINIMUM_FOCUS
        assert (
            focus_score(np.rint(gaussian_filter(tile.astype(float), (4, 4, 0))).astype(np.uint8))
            < MINIMUM_FOCUS
        )


def test_real_tissue_has_no_ink_and_fills_its_picture(shared_data):
    from PIL import Image

    folder = shared_data("histology/monuseg_train")
    for name in ("TCGA-B0-5710-01Z-00-DX1", "TCGA-KB-A93J-01A-01-TS1"):
        picture = Image.open(f"{folder}/{name}.png").reduce(4)
        assert tissue_mask(np.asarray(picture), smallest=1000, smoothing=10.0).mean() > 0.95
        assert not pen_mask(np.asarray(picture), smallest=1000).any()


@pytest.mark.parametrize("function", [tissue_mask, pen_mask, focus_score])
@pytest.mark.parametrize(
    "array", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_other_arrays_are_refused(function, array):
    with pytest.raises(InputError, match=r"expected a picture \(H, W, 3\) of uint8"):
        function(array)
