"""Corrupted training targets: noise, blur or poor contrast in a known part of a training set's tiles.

A study of robustness needs to know exactly what was corrupted. Which tiles are, in which way and how strongly
is a plan: a function of a seed and the tiles' names, on which every training of the study agrees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medrestore import rng
from medrestore.checks import InputError, require_in_range, require_in_set, require_known_keys

__all__ = ["CORRUPTIONS", "STRENGTHS", "Corruption", "PlannedCorruption", "corrupt"]

CORRUPTIONS = ("noise", "blur", "contrast")
"""Kinds of :func:`corrupt`."""

STRENGTHS: Mapping[str, tuple[float, float]] = {
    "noise": (0.1, 0.3),
    "blur": (2.0, 6.0),
    "contrast": (0.2, 0.6),
}
"""Range that the strength of each kind is drawn from, uniformly.

The paper (SRGAN_SQE, Section 3) names the kinds and their causes and gives no numbers. Ours reach from what
a careful curator would just throw out to what nobody could read. Noise, of a weak signal: standard deviation
of 0.1 to 0.3 of the range; the texture of nuclei drowns at either. Blur, of poor focus: Gaussian of 2 to 6
high-resolution pixels, 0.5 to 1.5 um at 0.25 um per pixel, from what the low-resolution image has left to
nuclei without outline. Contrast, of poor staining: 0.2 to 0.6 of the optical density, a pale slide."""


@dataclass(frozen=True)
class PlannedCorruption:
    """What happens to one tile.

    Attributes
    ----------
    kind : str or None
        One of :data:`CORRUPTIONS`; None for a tile that stays as it is.
    strength : float
        As :func:`corrupt` takes it; 0 for a tile that stays as it is.
    """

    kind: str | None = None
    strength: float = 0.0


def corrupt(
    image: NDArray[np.uint8], kind: str, *, strength: float, random: np.random.Generator | None = None
) -> NDArray[np.uint8]:
    """Return a corrupted image.

    Parameters
    ----------
    image : (H, W, 3) uint8
        sRGB.
    kind
        ``noise``: normally distributed noise is added to every value, independently. ``blur``: Gaussian
        smoothing of every channel, mirrored at the image's border. ``contrast``: the optical density of every
        channel, against white, is multiplied: I = 255 (I / 255)^strength.
    strength : float
        Noise: standard deviation as a part of the range. Blur: standard deviation, pixels. Contrast: factor
        on the optical density, in (0, 1].
    random
        Draws the noise; needed for it alone.

    Returns
    -------
    (H, W, 3) uint8
        Rounded to the nearest gray level and limited to the range.

    Raises
    ------
    InputError
        When the image is not (H, W, 3) uint8, the kind is unknown, the strength out of range, or noise has no
        generator.
    """
    require_in_set("kind", kind, CORRUPTIONS)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f"the image must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
    _require_strength("strength", kind, strength)
    if kind == "contrast":
        table = _gray_levels(255 * (np.arange(256) / 255) ** strength)
        return table[image]
    if kind == "blur":
        from scipy.ndimage import gaussian_filter

        smooth = gaussian_filter(image.astype(np.float32), (strength, strength, 0), mode="reflect")
        return _gray_levels(smooth)
    if random is None:
        raise InputError("noise needs a generator: name one as random")
    noise = random.standard_normal(image.shape, dtype=np.float32)
    return _gray_levels(image + np.float32(255 * strength) * noise)


def _gray_levels(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    levels: NDArray[np.uint8] = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return levels


def _require_strength(name: str, kind: str, strength: float) -> None:
    high = {"noise": 10.0, "blur": 100.0, "contrast": 1.0}[kind]
    require_in_range(name, strength, 0, high, include_low=False)


@dataclass(frozen=True)
class Corruption:
    """How a training set's targets are corrupted; nothing happens until :meth:`plan` and :meth:`apply`.

    Parameters
    ----------
    fraction
        Part of the tiles that is corrupted, 0 to 1.
    kinds
        Kinds that the corrupted tiles have in equal shares.
    seed
        Of the stream ``corruption``.
    strengths
        Range (low, high) of each kind's strength; :data:`STRENGTHS` for kinds that are not named.

    Raises
    ------
    InputError
        When a number is out of range or a kind unknown, missing or named twice.

    Examples
    --------
    >>> planned = Corruption(0.5, ("blur",)).plan(["a", "b", "c", "d"])
    >>> [tile.kind for tile in planned].count("blur")
    2
    """

    fraction: float
    kinds: Sequence[str] = CORRUPTIONS
    seed: int = 0
    strengths: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_in_range("fraction", self.fraction, 0, 1)
        object.__setattr__(self, "kinds", tuple(self.kinds))
        for kind in self.kinds:
            require_in_set("kinds", kind, CORRUPTIONS)
        if not self.kinds or len(set(self.kinds)) < len(self.kinds):
            raise InputError(f"kinds must be different kinds of corruption, got {self.kinds}")
        require_known_keys("strengths", self.strengths, CORRUPTIONS)
        for kind, (low, high) in self.strengths.items():
            _require_strength(f"strengths[{kind!r}][0]", kind, low)
            _require_strength(f"strengths[{kind!r}][1]", kind, high)
            require_in_range(f"strengths[{kind!r}][1]", high, low, np.inf)

    def plan(self, tiles: Sequence[str]) -> tuple[PlannedCorruption, ...]:
        """Return what happens to each tile.

        Parameters
        ----------
        tiles
            Names of the tiles, each once.

        Returns
        -------
        tuple of PlannedCorruption
            Exactly ``round(fraction * len(tiles))`` are corrupted, their kinds in equal shares (one more or
            less where they do not divide).

        Raises
        ------
        InputError
            When a tile is named twice.

        Notes
        -----
        The seed puts the tiles in an order that depends on their names alone, and the first of it are
        corrupted. So the plan does not depend on the order in which tiles are given, and what is corrupted at
        a lower fraction is corrupted alike at a higher one: levels of a study differ by what is added.
        """
        if len(set(tiles)) < len(tiles):
            raise InputError("tiles must be named once each, for the plan of corruption is made by names")
        order = sorted(range(len(tiles)), key=lambda tile: (self._order(tiles[tile]), tiles[tile]))
        planned = [PlannedCorruption()] * len(tiles)
        for place, tile in enumerate(order[: round(self.fraction * len(tiles))]):
            kind = self.kinds[place % len(self.kinds)]
            low, high = self.strengths.get(kind, STRENGTHS[kind])
            drawn = rng.generator(self.seed, "corruption", "strength", tiles[tile]).random()
            planned[tile] = PlannedCorruption(kind, float(low + (high - low) * drawn))
        return tuple(planned)

    def _order(self, tile: str) -> int:
        return rng.derive(self.seed, "corruption", "order", tile)

    def apply(self, image: NDArray[np.uint8], planned: PlannedCorruption, *, tile: str) -> NDArray[np.uint8]:
        """Return a tile (H, W, 3) uint8 as planned; its noise is a function of the seed and its name."""
        if planned.kind is None:
            return image
        random = rng.generator(self.seed, "corruption", "noise", tile)
        return corrupt(image, planned.kind, strength=planned.strength, random=random)
