"""Judges of slices: which patches count, and where a segmentation lies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medrestore.domains.multicontrast_mri.evaluation.judges import ContrastObserver, LesionReader


class Brightness(nn.Module):
    """Two contrasts, dark and bright, told by the mean of patches of 4 x 4 pixels; threshold 1/2."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def patch_probability(self, x: Tensor) -> Tensor:
        bright = 20 * (torch.nn.functional.avg_pool2d(x, 4) - 0.5)
        return torch.softmax(torch.cat([-bright, bright], dim=1), dim=1)


class Threshold(Brightness):
    """Lesion where a pixel exceeds 1."""

    def probability(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x - 1)


def observer(size: tuple[int, int] | None = None) -> ContrastObserver:
    return ContrastObserver("observer", Brightness(), spatial_size=size, contrasts=("dark", "bright"))


def test_patches_of_air_do_not_count():
    slices, head = np.zeros((2, 8, 8), dtype=np.float32), np.zeros((2, 8, 8), dtype=bool)
    head[:, :, :4] = True  # two patches of each slice lie in the head, two in air
    slices[0, :4, :4] = 1.0  # the first slice has a bright and a dark patch, brighter than it is dark
    slices[0, 4:, :4] = 0.45
    slices[1, :4, :4] = 0.4  # the second one is dark
    found = observer().reading(slices, head, contrast="bright")
    probabilities = [1 / (1 + np.exp(-40 * (mean - 0.5))) for mean in (1.0, 0.45, 0.4, 0.0)]
    assert found["observer_patch_accuracy"] == 0.25
    # Mean probability of bright: 0.56 in the first slice, 0.01 in the second.
    assert found["observer_slice_accuracy"] == 0.5
    assert found["observer_mae"] == pytest.approx(1 - np.mean(probabilities), abs=1e-6)  # float32 logits
    assert observer().reading(slices, head, contrast="dark")["observer_patch_accuracy"] == 0.75


def test_a_small_head_is_judged_by_its_fullest_patches():
    slices, head = np.ones((1, 8, 8), dtype=np.float32), np.zeros((1, 8, 8), dtype=bool)
    head[0, 4:6, 4:6] = True  # a quarter of one patch
    slices[0, :4] = 0.0
    assert observer().reading(slices, head, contrast="bright")["observer_patch_accuracy"] == 1.0


def test_the_head_is_centered_as_the_slices_are():
    slices, head = np.ones((1, 4, 4), dtype=np.float32), np.ones((1, 4, 4), dtype=bool)
    # Centered in 12 x 12 it fills the middle one of nine patches.
    found = observer((12, 12)).reading(slices, head, contrast="bright")
    assert (found["observer_patch_accuracy"], found["observer_slice_accuracy"]) == (1.0, 1.0)


def test_a_segmentation_lies_where_its_slice_does():
    slices = np.zeros((3, 6, 10), dtype=np.float32)
    slices[1, 2, 5] = slices[2, 5, 9] = slices[0, 0, 0] = 2.0
    for size in (None, (12, 12), (8, 16)):
        marked = LesionReader("segmenter", Threshold(), spatial_size=size).segment(slices)
        np.testing.assert_array_equal(marked, slices > 1)
    # Cropped to 4 x 8 pixels: what lies outside is not marked.
    marked = LesionReader("segmenter", Threshold(), spatial_size=(4, 8)).segment(slices)
    assert np.argwhere(marked).tolist() == [[1, 2, 5]]
