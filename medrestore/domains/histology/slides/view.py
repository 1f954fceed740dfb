"""A part of a slide at a resolution, seen as if it were a slide of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import fail
from medrestore.domains.histology.slides.reader import Slide

__all__ = ["SlideView"]


class SlideView:
    """A rectangle of a slide whose pixels are those of a chosen resolution.

    Parameters
    ----------
    slide
        Of known resolution. Closed with the view.
    microns_per_pixel : float or None, um
        Of the view's pixels, no finer than the slide's; the slide's own when None.
    region : (x, y, width, height) or None, pixels of level 0
        What of the slide is seen; what was scanned when None.

    Attributes
    ----------
    microns_per_pixel : float, um
        Of the view's pixels.
    bounds : tuple of int
        (0, 0, width, height), in the view's pixels.
    source_bounds : tuple of int
        The region in pixels of level 0.
    path, notes, icc_profile
        Of the slide; the notes say at what resolution it is read.

    Raises
    ------
    InputError
        When the slide's resolution is not known or coarser than the wanted, or the region leaves the slide.
    """

    def __init__(
        self,
        slide: Slide,
        *,
        microns_per_pixel: float | None = None,
        region: Sequence[int] | None = None,
    ) -> None:
        self._slide = slide
        native = slide.require_resolution()
        wanted = native if microns_per_pixel is None else microns_per_pixel
        self._step = slide.step(wanted)
        self.microns_per_pixel = native * self._step
        x, y, width, height = slide.bounds if region is None else region
        if width < 1 or height < 1 or x < 0 or y < 0 or x + width > slide.width or y + height > slide.height:
            fail(
                f"has {slide.width} x {slide.height} pixels, and the region {x},{y},{width},{height} is "
                "not in it",
                path=slide.path,
                remedy="name X,Y,WIDTH,HEIGHT in pixels of its finest level",
            )
        self.source_bounds = (x, y, width, height)
        seen = (max(math.floor(length / self._step), 1) for length in (width, height))
        self.bounds = (0, 0, *seen)
        self.path, self.icc_profile = slide.path, slide.icc_profile
        self.notes = slide.notes
        if self._step > 1:
            self.notes += (f"has {native:.3g} um per pixel, and was read at {self.microns_per_pixel:.3g}",)

    def __enter__(self) -> SlideView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._slide.close()

    def step(self, microns_per_pixel: float) -> float:
        """Return how many of the view's pixels a pixel of :meth:`read` spans, along an axis."""
        return self._slide.step(microns_per_pixel) / self._step

    def source_place(self, x: float, y: float) -> tuple[int, int]:
        """Return where a pixel of the view lies in pixels of level 0."""
        left, top, *_ = self.source_bounds
        return round(left + x * self._step), round(top + y * self._step)

    def read(
        self, x: float, y: float, *, width: int, height: int, microns_per_pixel: float | None = None
    ) -> NDArray[np.uint8]:
        """Read a region as :meth:`~medrestore.domains.histology.slides.reader.Slide.read` does.

        Parameters
        ----------
        x, y : pixels of the view
            Top left corner.
        width, height : pixels at ``microns_per_pixel``
            Of the region.
        microns_per_pixel : float or None, um
            Wanted resolution; the view's when None.
        """
        left, top, *_ = self.source_bounds
        wanted = self.microns_per_pixel if microns_per_pixel is None else microns_per_pixel
        return self._slide.read(
            left + x * self._step,
            top + y * self._step,
            width=width,
            height=height,
            microns_per_pixel=wanted,
        )
