"""The picture of a subject's registrations: each image before and after, under the edges of the fixed one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medrestore.data.registration import Registration
from medrestore.data.registration_images import moved
from medrestore.data.volumes import Volume
from medrestore.evaluation.drawing import INK, RED, SOFT
from medrestore.evaluation.planes import PIXEL_MM, Plane

__all__ = ["Pictured", "draw_registrations"]

MARGIN_MM = 8.0
EDGE_SIGMA_MM = 2.0
CHECK_MM = 24.0
"""Width of a field of the checkerboard."""

DARK = 0.7
"""What is shown black, as a part of the darkest of the brain."""

EDGE_COLOR = (255, 196, 0)
COLUMNS = ("Input", "Before", "After", "Input, after", "Before, x2", "After, x2", "Before / after")
GAP = 4
DPI = 100
LEFT, HEADER, CAPTION = 1.9, 0.35, 0.4
"""Inches."""


@dataclass(frozen=True, eq=False)
class Pictured:
    """A registered image in the picture.

    Parameters
    ----------
    title
        Its name.
    moving
        As it was read.
    registration
        To the input.
    after
        What comes of it, on the input's grid.
    """

    title: str
    moving: Volume
    registration: Registration
    after: Volume


def draw_registrations(
    reference: Volume,
    moved: Sequence[Pictured],
    *,
    head_mm: NDArray[np.float64],
    title: str,
    path: str | os.PathLike[str],
) -> None:
    """Draw the registrations of a subject into a PNG file.

    Parameters
    ----------
    reference
        Image of the input that all were registered to.
    moved
        One row each.
    head_mm : (N, 3) float64
        Places all over the head, which the planes go through.
    title
        Of the picture.
    path
        Of the file.

    Notes
    -----
    An axial plane through the middle of the head, its middle enlarged, and a sagittal plane, before above
    after. Lines are the edges of the input: they lie on those of an image that is registered well. The
    checkerboard shows input and image in turns: contours run on across its fields.
    """
    from matplotlib.figure import Figure

    axial, sagittal = _planes(reference, head_mm)
    rows = [_row(reference, pictured, axial, sagittal) for pictured in moved]
    mosaic = _stacked(rows, axis=0)
    width = LEFT + mosaic.shape[1] / DPI + 0.1
    height = HEADER + mosaic.shape[0] / DPI + CAPTION
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    figure.figimage(
        mosaic, xo=round(LEFT * DPI), yo=round(CAPTION * DPI), origin="upper"
    )  # pixel by pixel, not resampled
    widths = [axial.shape[1]] * 4 + [2 * axial.middle().shape[1]] * 2 + [sagittal.shape[1]]
    at = 0
    for name, size in zip(COLUMNS, widths, strict=True):
        x = (LEFT + (at + size / 2) / DPI) / width
        figure.text(x, 1 - 0.2 / height, name, ha="center", va="center", fontsize=11, fontweight="bold")
        at += size + GAP
    figure.text(0.1 / width, 1 - 0.2 / height, title, va="center", fontsize=11, fontweight="bold")
    top = HEADER
    for pictured, row in zip(moved, rows, strict=True):
        middle = 1 - (top + row.shape[0] / 2 / DPI) / height
        color = RED if pictured.registration.failure else INK
        figure.text(0.1 / width, middle, _words(pictured), va="center", fontsize=9, color=color)
        top += (row.shape[0] + GAP) / DPI
    caption = (
        "Axial plane, subject's right on the left, and sagittal plane, before above after. Lines: edges of "
    )
    caption += "the input. Before: as the headers say. MI: mutual information, nats."
    figure.text(0.1 / width, 0.14 / height, caption, fontsize=9, color=SOFT)
    figure.savefig(path, format="png", pil_kwargs={"compress_level": 1})


def _planes(reference: Volume, head_mm: NDArray[np.float64]) -> tuple[Plane, Plane]:
    """Return an axial and a sagittal plane through the middle of the head, cut to it."""
    held = moved(head_mm, np.linalg.inv(reference.affine))
    size = np.array(reference.voxel_size_mm)
    axes = reference.affine[:3, :3] / size
    low, high = held.min(axis=0), held.max(axis=0)
    margin = MARGIN_MM / size * (1, 1, 0)
    low, high = np.maximum(low - margin, 0), np.minimum(high + margin, np.array(reference.data.shape) - 1)
    middle = held.mean(axis=0)

    def plane(right: int, up: int, across: int) -> Plane:
        corner = low.astype(np.float64)
        corner[across] = middle[across]
        # Half a voxel on either side belongs to the outer slices.
        corner[[right, up]] -= 0.5
        length = (high - low + 1) * size / PIXEL_MM
        return Plane(
            reference.affine[:3, :3] @ corner + reference.affine[:3, 3],
            axes[:, right],
            axes[:, up],
            (int(length[up]), int(length[right])),
        )

    # From below, as radiologists look at it: the subject's right, where X is large, on the left.
    axial = plane(0, 1, 2)
    turned = Plane(
        axial.first_mm + PIXEL_MM * (axial.shape[1] - 1) * axial.right, -axial.right, axial.up, axial.shape
    )
    return turned, plane(1, 2, 0)


def _row(reference: Volume, pictured: Pictured, axial: Plane, sagittal: Plane) -> NDArray[np.uint8]:
    """Return the pictures of one image beside one another, in the order of :data:`COLUMNS`."""
    middle = axial.middle()
    windows = [_window(middle.of(volume)) for volume in (reference, pictured.moving, pictured.after)]
    views: list[NDArray[np.uint8]] = []
    for plane in (axial, middle.fine(), sagittal):
        images = [plane.of(volume) for volume in (reference, pictured.moving, pictured.after)]
        fixed, before, after = (_gray(image, window) for image, window in zip(images, windows, strict=True))
        edges = _edges(fixed, plane.pixel_mm)
        pair = [_lined(before, edges), _lined(after, edges)]
        if plane is axial:
            views += [_lined(fixed, edges), *pair, _checked(fixed, after)]
        elif plane is sagittal:
            views.append(_stacked(pair, axis=0))
        else:
            views += pair
    return _stacked(views, axis=1)


def _window(values: NDArray[np.float32]) -> tuple[float, float]:
    """Return what is shown black and white, by the middle of the head: fat is brighter than all of it."""
    low, high = np.percentile(np.abs(values), (1, 99.5))
    return DARK * float(low), max(float(high), 1e-30)


def _gray(values: NDArray[np.float32], window: tuple[float, float]) -> NDArray[np.float64]:
    low, high = window
    return np.asarray(np.clip((np.abs(values) - low) / (high - low), 0, 1), dtype=np.float64)


def _edges(gray: NDArray[np.float64], pixel_mm: float) -> NDArray[np.bool_]:
    from skimage.feature import canny

    sigma = EDGE_SIGMA_MM / pixel_mm
    found: NDArray[np.bool_] = canny(gray, sigma=sigma, low_threshold=0.02, high_threshold=0.06)
    return found


def _lined(gray: NDArray[np.float64], edges: NDArray[np.bool_]) -> NDArray[np.uint8]:
    picture = np.repeat(np.asarray(gray * 255, dtype=np.uint8)[..., None], 3, axis=2)
    picture[edges] = EDGE_COLOR
    return picture


def _checked(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.uint8]:
    field = int(CHECK_MM / PIXEL_MM)
    rows, columns = np.indices(first.shape) // field
    mixed = np.where((rows + columns) % 2 == 0, first, second)
    return np.repeat(np.asarray(mixed * 255, dtype=np.uint8)[..., None], 3, axis=2)


def _stacked(parts: Sequence[NDArray[np.uint8]], *, axis: int) -> NDArray[np.uint8]:
    """Put pictures beside or below one another, white between them."""
    other = 1 - axis
    longest = max(part.shape[other] for part in parts)
    padded = []
    for index, part in enumerate(parts):
        extra = longest - part.shape[other]
        margin = [(0, 0)] * 3
        margin[other] = (extra // 2, extra - extra // 2)
        margin[axis] = (0, GAP if index + 1 < len(parts) else 0)
        padded.append(np.pad(part, margin, constant_values=255))
    return np.concatenate(padded, axis=axis)


def _words(pictured: Pictured) -> str:
    found = pictured.registration
    lines = [pictured.title]
    if found.failure:
        lines.append("left out")
    if np.isfinite(found.displacement_mean_mm):
        lines.append(f"moved by {found.displacement_mean_mm:.1f} mm")
        lines.append(f"(at most {found.displacement_most_mm:.1f}), {found.rotation_deg:.1f}°")
        lines += ["kept as headers say"] * found.identity_kept
        lines.append(f"MI {found.information_before:.2f} → {found.information_after:.2f}")
        lines.append(f"distinctness {found.distinctness:.2f}")
    return "\n".join(lines)
