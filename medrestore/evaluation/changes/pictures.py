"""Pictures of what a restoration changed: slices side by side in one PNG, made while images are measured."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrestore.evaluation.panels import DIFFERENCE_PART

__all__ = ["SIDE", "Picture", "caption_of", "cut_picture", "telling_slice"]

SIDE = 240
"""Width of each slice in the PNG, pixels."""

GAP = 4

BLUR_MM = 6.0
"""Standard deviation that differences are smoothed by before the slice of the largest is chosen: noise is no
change."""


@dataclass(frozen=True, eq=False)
class Picture:
    """Slices of one image as several methods have it, and the difference of the last to the true one.

    Parameters
    ----------
    slices : (X, Y) by title
        The true one first, the restored one last; in one window.
    voxel_size_mm
        Of X and Y.
    position
        Of the slice in the volume, from 1.
    """

    slices: Mapping[str, NDArray[np.float32]]
    voxel_size_mm: Sequence[float]
    position: int

    @property
    def heads(self) -> list[str]:
        """Return what stands above each slice."""
        return [*self.slices, "Difference"]

    def png(self, colors: str) -> bytes:
        """Return the slices side by side, subject's right on the left, as a PNG."""
        from matplotlib import colormaps
        from PIL import Image

        true, *_, restored = self.slices.values()
        peak = float(np.quantile(true, 0.998)) or 1.0
        limit = DIFFERENCE_PART * peak
        shown = [colormaps[colors](image / peak) for image in self.slices.values()]
        shown.append(colormaps["RdBu_r"]((restored - true) / (2 * limit) + 0.5))
        x, y = true.shape
        height = round(SIDE * y * self.voxel_size_mm[1] / (x * self.voxel_size_mm[0]))
        page = Image.new("RGB", (len(shown) * (SIDE + GAP) - GAP, height), "white")
        for number, colored in enumerate(shown):
            # From below, anterior up.
            pixels = (255 * colored[::-1, ::-1, :3].transpose(1, 0, 2)).round().astype(np.uint8)
            part = Image.fromarray(np.ascontiguousarray(pixels)).resize(
                (SIDE, height), Image.Resampling.NEAREST
            )
            page.paste(part, (number * (SIDE + GAP), 0))
        stream = io.BytesIO()
        page.save(stream, format="PNG", optimize=True)
        return stream.getvalue()


def telling_slice(
    image: NDArray[np.float32],
    true: NDArray[np.float32],
    foreground: NDArray[np.bool_],
    voxel_size_mm: Sequence[float],
) -> int:
    """Return the axial slice in which an image departs most from the true one, noise smoothed away.

    Parameters
    ----------
    image, true : (X, Y, Z)
        In one unit.
    foreground : (X, Y, Z) bool
        Where it counts.
    voxel_size_mm
        Of X, Y, Z.
    """
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(image - true, [BLUR_MM / size for size in voxel_size_mm])
    return int(np.abs(smooth * foreground).sum(axis=(0, 1)).argmax())


def cut_picture(
    images: Mapping[str, NDArray[np.float32]],
    position: int,
    box: tuple[slice, slice],
    voxel_size_mm: Sequence[float],
) -> Picture:
    """Cut an axial slice of images (X, Y, Z) to a box; the true one first, the restored one last."""
    slices = {name: image[box[0], box[1], position].copy() for name, image in images.items()}
    return Picture(slices, voxel_size_mm[:2], position + 1)


def caption_of(name: str, row: Mapping[str, Any], picture: Picture) -> str:
    """Return what is said below a picture: image, change, numbers of the table's row, slice."""
    if "judge" in row:
        numbers = [
            f"{row['judge'].replace('_', ' ')}: P {row['score']:.2f}, true image {row['true_score']:.2f}"
        ]
        if not math.isnan(row["input_score"]):
            numbers.append(f"input {row['input_score']:.2f}")
        text = ", ".join(numbers)
    else:
        text = f"{row['volume_ml']:.2f} ml"
    return f"{name}: {row['change']}; {text}; axial slice {picture.position}"
