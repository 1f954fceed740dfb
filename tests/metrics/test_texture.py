"""Grids of known amplitude; the spectrum against a slow loop; what is no grid."""

from __future__ import annotations

import numpy as np
import pytest

from medrestore import rng
from medrestore.checks import InputError
from medrestore.metrics.texture import BAND, CORE, grid_artifact, smallest_side


@pytest.fixture
def head() -> np.ndarray:
    """Two slices of a smooth head of about 1 with noise of 2 %, 64 x 72 pixels."""
    x, y = np.meshgrid(np.linspace(-1, 1, 64), np.linspace(-1, 1, 72), indexing="ij")
    inside = 1 / (1 + np.exp(30 * (np.sqrt(x**2 + y**2) - 0.85)))
    noise = rng.generator(0, "noise").standard_normal((2, 64, 72))
    return inside * (1 + 0.2 * np.cos(3 * x) * np.sin(4 * y)) + 0.02 * noise


def board(shape: tuple[int, int], kind: str) -> np.ndarray:
    """A grid of root mean square 1."""
    x, y = np.indices(shape)
    return {
        "checkerboard of 2": (-1.0) ** (x + y),
        "columns of 2": (-1.0) ** x,
        "waves of 4": np.sqrt(2) * np.cos(np.pi * y / 2),
        "checkerboard of 4": 2 * np.cos(np.pi * x / 2) * np.cos(np.pi * y / 2),
    }[kind]


KINDS = ("checkerboard of 2", "columns of 2", "waves of 4", "checkerboard of 4")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("amplitude", [0.01, 0.1])
def test_a_grid_of_known_amplitude_is_measured(kind, amplitude):
    # The frequencies are bins of the spectrum and the window has three: nothing leaks, but rounding.
    found = grid_artifact((5.0 + amplitude * board((64, 72), kind))[None])
    np.testing.assert_allclose(found.amplitude, amplitude, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_grid_in_a_head_stands_out(head, kind):
    plain = grid_artifact(head)
    with_grid = grid_artifact(head + 0.05 * board((64, 72), kind))
    assert (with_grid.relative > 3 * plain.relative).all()
    # The head's own power adds to that of the grid: at most as much as without it, and twice their product.
    assert (np.abs(with_grid.amplitude - 0.05) <= plain.amplitude).all()
    stronger = grid_artifact(head + 0.1 * board((64, 72), kind))
    assert (stronger.relative > 2 * with_grid.relative).all()


def test_gain_and_offset_change_nothing(head):
    image = head + 0.03 * board((64, 72), "checkerboard of 2")
    one, other = grid_artifact(image), grid_artifact(7.5 * image + 3)
    np.testing.assert_allclose(other.relative, one.relative, rtol=1e-9)  # double precision
    np.testing.assert_allclose(other.amplitude, 7.5 * one.amplitude, rtol=1e-9)


def test_white_noise_has_no_grid():
    found = grid_artifact(rng.generator(1, "white").standard_normal((200, 64, 64)))
    # Core and band of white noise have one mean, so their ratio is about 1: a ratio of a mean over 25 bins to
    # one over 144. Neighboring bins under a Hann window are correlated, which leaves about 25 / 2.25 ** 2 = 5
    # and 28 independent ones: the ratio's mean is 28 / 27 = 1.04, and that of 200 slices and 15 frequencies
    # scatters by 0.01. Four of it beside the 4 %.
    assert found.relative.mean() == pytest.approx(1.0, abs=0.08)


def test_the_measure_is_that_of_a_slow_loop(head):
    image = head[0]
    n, m = image.shape
    window = np.outer(np.sin(np.pi * np.arange(n) / n) ** 2, np.sin(np.pi * np.arange(m) / m) ** 2)
    power = np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2
    ratios, energy = [], 0.0
    for a in range(4):
        for b in range(4):
            if a == b == 0:
                continue
            core, band = [], []
            for i in range(-BAND, BAND + 1):
                for j in range(-BAND, BAND + 1):
                    value = power[(a * n // 4 + i) % n, (b * m // 4 + j) % m]
                    (core if max(abs(i), abs(j)) <= CORE else band).append(value)
            ratios.append(np.mean(core) / np.mean(band))
            energy += max(0.0, np.sum(core) - len(core) * np.mean(band))
    found = grid_artifact(image[None])
    np.testing.assert_allclose(found.relative, [np.mean(ratios)], rtol=1e-9)  # double precision
    np.testing.assert_allclose(found.amplitude, [np.sqrt(energy / (n * m * (window**2).sum()))], rtol=1e-9)


def test_sides_are_cut_to_whole_periods(head):
    padded = np.pad(head, [(0, 0), (1, 1), (1, 2)], constant_values=9.0)
    np.testing.assert_array_equal(grid_artifact(padded).relative, grid_artifact(head).relative)


def test_transposed_convolution_of_stride_2_is_found_out():
    """A kernel of 3 overlaps unevenly with stride 2 (Odena et al.), one of 4 evenly."""
    import torch

    field = torch.from_numpy(rng.generator(2, "field").random((1, 1, 32, 32)) + 1.0)
    values = []
    for kernel in (3, 4):
        up = torch.nn.functional.conv_transpose2d(field, torch.ones(1, 1, kernel, kernel).double(), stride=2)
        values.append(float(grid_artifact(up[0, :, :64, :64].numpy()).amplitude[0] / up.mean()))
    assert values[0] > 0.1 > 2 * values[1]


def test_a_constant_slice_has_no_measure(head):
    found = grid_artifact(np.stack([head[0], np.zeros((64, 72))]))
    assert np.isfinite(found.relative[0]) and np.isnan(found.relative[1]) and np.isnan(found.amplitude[1])


@pytest.mark.parametrize(
    ("slices", "periods", "message"),
    [
        (np.zeros((64, 64)), (2, 4), "slices must be of shape"),
        (np.zeros((1, 47, 64)), (2, 4), r"slices must be 48 x 48 pixels or more, got \(47, 64\)"),
        (np.full((1, 64, 64), np.nan), (2, 4), "slices must be finite"),
        (np.zeros((1, 64, 64)), (1,), r"periods must be in \[2, inf\), got 1"),
    ],
)
def test_bad_input_is_refused(slices, periods, message):
    with pytest.raises(InputError, match=message):
        grid_artifact(slices, periods=periods)


def test_smallest_side_follows_the_longest_period():
    assert (smallest_side((2,)), smallest_side((2, 4, 8))) == (24, 96)
