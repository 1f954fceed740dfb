"""The picture of a scan's region map: planes through the brain, plain above, under outlines below."""

from __future__ import annotations

import os
from dataclasses import replace
from textwrap import fill

import numpy as np
from numpy.typing import NDArray

from medrestore.data.atlas import REGIONS, AtlasRegistration
from medrestore.data.registration_images import moved
from medrestore.data.volumes import Volume
from medrestore.evaluation.drawing import INK, RED, SOFT
from medrestore.evaluation.planes import PIXEL_MM, Plane
from medrestore.files import atomic_path

__all__ = ["draw_regions"]

MIDDLE_MM = (0.0, -20.0, 5.0)
"""Of the brain, in the template."""

AXIAL_MM = (-32.0, 4.0, 40.0)
"""Heights in the template: cerebellum, basal ganglia, centrum semiovale."""

SAGITTAL_MM = 10.0
"""In the template, to the right: through cerebellar cortex and precuneus, beside the middle."""

HALF_MM = (86.0, 104.0, 84.0)
"""Half of the size of the planes: a head's."""

COLORS = {
    "cerebellum": (214, 39, 40),
    "frontal": (31, 119, 180),
    "lateral_temporal": (44, 160, 44),
    "parietal": (255, 127, 14),
    "precuneus_posterior_cingulate": (148, 103, 189),
    "other_cortex": (23, 190, 207),
    "deep_gray": (227, 119, 194),
    "white_matter": (255, 255, 255),
    "csf": (90, 120, 200),
    "head": (140, 140, 140),
}
LEGEND = {"precuneus_posterior_cingulate": "precuneus, post. cingulate"}
GAP, DPI = 4, 100
LINE = 110
"""Characters in a line of words."""
HEADER, FOOTER = 0.85, 0.65
"""Inches."""


def draw_regions(
    image: Volume,
    regions: NDArray[np.int16],
    found: AtlasRegistration,
    *,
    title: str,
    path: str | os.PathLike[str],
) -> None:
    """Draw a scan and its region map into a PNG file.

    Parameters
    ----------
    image : Volume
        Registered.
    regions : (X, Y, Z) int16
        On its grid.
    found
        The registration.
    title
        Of the picture.
    path
        Of the file.
    """
    from matplotlib.figure import Figure

    codes = replace(image, data=regions.astype(np.float32))
    brain = (regions > 0) & (regions < REGIONS["head"])
    window = np.percentile(image.data[brain] if brain.any() else image.data, (0.5, 99.5))
    tiles = []
    for plane in _planes(image, found):
        values = np.clip((plane.of(image) - min(window[0], 0)) / max(np.ptp([*window, 0]), 1e-30), 0, 1)
        plain = np.repeat((values * 255).astype(np.uint8)[..., None], 3, axis=2)
        lined = plain.copy()
        labels = plane.of(codes, order=0).astype(int)
        for name, color in COLORS.items():
            lined[_outline(labels == REGIONS[name])] = color
        white = np.full((GAP, plain.shape[1], 3), 255, dtype=np.uint8)
        tiles += [
            np.concatenate([plain, white, lined]),
            np.full((2 * len(plain) + GAP, GAP, 3), 255, np.uint8),
        ]
    highest = max(len(tile) for tile in tiles)
    mosaic = np.concatenate(
        [
            np.pad(tile, ((0, highest - len(tile)), (0, 0), (0, 0)), constant_values=255)
            for tile in tiles[:-1]
        ],
        axis=1,
    )
    width, height = mosaic.shape[1] / DPI + 0.2, HEADER + mosaic.shape[0] / DPI + FOOTER
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    figure.figimage(mosaic, xo=round(0.1 * DPI), yo=round(FOOTER * DPI), origin="upper")
    figure.text(0.1 / width, 1 - 0.2 / height, title, va="center", fontsize=11, fontweight="bold", color=INK)
    figure.text(
        0.1 / width,
        1 - 0.55 / height,
        fill(f"left out: {found.failure}", LINE) if found.failure else _words(found),
        va="center",
        fontsize=9,
        color=RED if found.failure else SOFT,
    )
    in_row = len(COLORS) // 2
    for index, (name, color) in enumerate(COLORS.items()):
        shade = tuple(part / 255 for part in color) if name != "white_matter" else (0.7, 0.7, 0.7)
        row, column = divmod(index, in_row)
        figure.text(
            (0.1 + (width - 0.2) / in_row * column) / width,
            (0.47 - 0.17 * row) / height,
            LEGEND.get(name, name.replace("_", " ")),
            fontsize=8,
            color=shade,
        )
    figure.text(0.1 / width, 0.1 / height, "Subject's right on the left.", fontsize=8, color=SOFT)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", pil_kwargs={"compress_level": 1})


def _words(found: AtlasRegistration) -> str:
    return (
        f"orientation {found.orientation:.2f}, distinctness {found.distinctness:.2f}, "
        f"unexplained {found.unexplained:.0%}\ntemplate "
        f"{found.scale_least:.2f} to {found.scale_most:.2f} times as large, warped by "
        f"{found.warp_mean_mm:.1f} mm (at most {found.warp_most_mm:.1f})"
    )


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of a region that touch others."""
    from scipy.ndimage import binary_erosion

    return np.asarray(mask & ~binary_erosion(mask, border_value=1))


def _planes(image: Volume, found: AtlasRegistration) -> list[Plane]:
    """Return axial planes at heights of the template, and a sagittal one, along the scan's axes."""
    back = np.linalg.inv(found.matrix)
    axes = image.affine[:3, :3] / np.array(image.voxel_size_mm)

    def plane(through: tuple[float, float, float], right: int, up: int, sign: int) -> Plane:
        center = moved(np.array([through]), back)[0]
        corner = center - sign * HALF_MM[right] * axes[:, right] - HALF_MM[up] * axes[:, up]
        shape = (int(2 * HALF_MM[up] / PIXEL_MM), int(2 * HALF_MM[right] / PIXEL_MM))
        return Plane(corner, sign * axes[:, right], axes[:, up], shape)

    # From below, as radiologists look at it: the subject's right, where X is large, on the left.
    axial = [plane((*MIDDLE_MM[:2], height), 0, 1, -1) for height in AXIAL_MM]
    return [*axial, plane((SAGITTAL_MM, *MIDDLE_MM[1:]), 1, 2, 1)]
