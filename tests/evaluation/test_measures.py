from __future__ import annotations

import numpy as np
import pytest

from medrestore.checks import InputError
from medrestore.evaluation.measures import foreground_mask


def test_foreground_is_the_head_without_the_air_and_with_its_holes():
    x, y, z = np.meshgrid(*(np.arange(32) - 15.5,) * 3, indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2) * 4.0  # mm
    image = np.where((radius < 48) & (radius > 16), 5.0, 0.0).astype(np.float32)
    mask = foreground_mask(image, voxel_size_mm=(4, 4, 4))
    assert mask[radius < 45].all()
    # Beyond half of the smoothing width (12 mm) around the ball, a Gaussian is below .3 of its plateau.
    assert not mask[radius > 48 + 6].any()


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_an_image_without_foreground_is_refused(value):
    with pytest.raises(InputError, match="no positive foreground"):
        foreground_mask(np.full((8, 8, 8), value, dtype=np.float32), voxel_size_mm=(4, 4, 4))
