"""Ellipsoids on a grid: how much of each voxel one fills."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medrestore.data.phantoms.anatomy import CohortGrid

__all__ = ["ellipsoid_fraction"]


def ellipsoid_fraction(
    grid: CohortGrid,
    *,
    center_mm: tuple[float, float, float],
    diameters_mm: tuple[float, float],
    axis: tuple[float, float, float],
) -> tuple[tuple[slice, ...], NDArray[np.float32]]:
    """Return the box around an ellipsoid of revolution, and how much of each of its voxels it fills.

    Parameters
    ----------
    grid : CohortGrid
        The grid.
    center_mm : three float, mm
        Its middle.
    diameters_mm : two float, mm
        Along its long axis and across.
    axis : three float
        Unit vector of its long axis.
    """
    long, short = diameters_mm[0] / 2, diameters_mm[1] / 2
    border = min(grid.voxel_size_mm)  # as wide as a voxel: the part of a voxel that a plane fills
    box, offsets = [], []
    for axis_mm, middle, count, size in zip(
        grid.axes_mm(), center_mm, grid.shape, grid.voxel_size_mm, strict=True
    ):
        reach = long + border + size
        start = int(np.clip(np.floor((middle - reach - axis_mm[0]) / size), 0, count - 1))
        stop = int(np.clip(np.ceil((middle + reach - axis_mm[0]) / size) + 1, start + 1, count))
        box.append(slice(start, stop))
        offsets.append(axis_mm[start:stop] - middle)
    x, y, z = np.meshgrid(*offsets, indexing="ij", sparse=True)
    along = x * axis[0] + y * axis[1] + z * axis[2]
    across2 = np.maximum(x**2 + y**2 + z**2 - along**2, 0)
    radius = np.sqrt((along / long) ** 2 + across2 / short**2)
    surface_mm = (1 - radius) * short  # exact across, steeper than the truth along
    return tuple(box), np.asarray(np.clip(surface_mm / border + 0.5, 0, 1), dtype=np.float32)
