"""Planes through a head in a picture, whatever the grid of the image they are drawn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medrestore.data.registration_images import moved
from medrestore.data.volumes import Volume

__all__ = ["PIXEL_MM", "Plane"]

PIXEL_MM = 1.0
"""Edge of a pixel."""


@dataclass(frozen=True, eq=False)
class Plane:
    """A plane through a head, parallel to two of an image's axes.

    Parameters
    ----------
    first_mm : (3,) float64
        Its lower left pixel.
    right, up : (3,) float64
        Directions, of length 1.
    shape
        Rows and columns.
    pixel_mm
        Edge of a pixel.
    """

    first_mm: NDArray[np.float64]
    right: NDArray[np.float64]
    up: NDArray[np.float64]
    shape: tuple[int, int]
    pixel_mm: float = PIXEL_MM

    def middle(self) -> Plane:
        """Return the middle half of the plane."""
        rows, columns = (size // 2 for size in self.shape)
        first = self.first_mm + self.pixel_mm / 2 * (columns * self.right + rows * self.up)
        return Plane(first, self.right, self.up, (rows, columns), self.pixel_mm)

    def fine(self) -> Plane:
        """Return the same plane with pixels of half the size."""
        rows, columns = self.shape
        return Plane(self.first_mm, self.right, self.up, (2 * rows, 2 * columns), self.pixel_mm / 2)

    def of(self, volume: Volume, *, order: int = 1) -> NDArray[np.float32]:
        """Return a volume's values in the plane (rows from the top, columns), linear; 0 beyond it.

        Values of whole numbers, of labels, are those of the nearest voxel with ``order`` 0.
        """
        from scipy.ndimage import map_coordinates

        columns, rows = np.arange(self.shape[1]), np.arange(self.shape[0])[::-1]
        places = (
            self.first_mm
            + self.pixel_mm * columns[None, :, None] * self.right
            + self.pixel_mm * rows[:, None, None] * self.up
        )
        back = np.linalg.inv(volume.affine)
        index = np.moveaxis(moved(places, back), -1, 0)
        # Half a voxel beyond the outer centers, as far as the outer slices reach.
        limits = np.array(volume.data.shape)[:, None, None] - 0.5
        values = map_coordinates(volume.data, index, order=order, mode="nearest")
        return np.where(((index >= -0.5) & (index <= limits)).all(axis=0), values, 0)
