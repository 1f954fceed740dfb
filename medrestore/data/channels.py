"""What a generator is shown of a slice beside the degraded slices: further channels, each of a volume.

An input has the degraded slice with its k neighbors on each side, 2k + 1 channels; then those of each
:class:`Channel` in turn, 2 n + 1 of one with n neighbors of its own. Memory maps of a training and a restorer
of volumes ask the very same object, so a network restores from what it was trained on, bit for bit.

A kind of channel is a class of this module: a frozen dataclass of plain values, with :meth:`Channel.of`, and
:attr:`Channel.column` where it is of a file of its own. ``PairData.channels`` says which ones a training has,
``model.pt`` keeps them (:attr:`Channel.plain`), and a restorer makes them again (:func:`channel_of`).
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from inspect import isabstract
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrestore.checks import InputError, about, fail, require_in_range
from medrestore.data.intensity import foreground_scale
from medrestore.data.volumes import Volume, grid_difference, read_volume

__all__ = [
    "Channel",
    "GaussianChannel",
    "PresenceChannel",
    "Shown",
    "VolumeChannel",
    "channel_of",
    "read_beside",
]


@dataclass(frozen=True, eq=False)
class Shown:
    """A degraded volume as networks see it, and what lies beside it.

    Parameters
    ----------
    image : (X, Y, Z) float32
        Its air is 0.
    scale
        By which networks have it divided.
    voxel_size_mm
        Of X, Y, Z.
    beside
        Further volumes on its grid by their column of the manifest; those that are missing are left out.
    """

    image: NDArray[np.float32]
    scale: float
    voxel_size_mm: Sequence[float]
    beside: Mapping[str, Volume]


@dataclass(frozen=True, kw_only=True)
class Channel(ABC):
    """A further volume whose slices a generator is shown.

    Parameters
    ----------
    neighbors
        n, slices on each side of the one restored; beyond the first and last slice these are repeated.

    Raises
    ------
    InputError
        When a number is out of range.
    """

    neighbors: int = 0

    def __post_init__(self) -> None:
        require_in_range("neighbors", self.neighbors, 0, 1000)

    @property
    def column(self) -> str:
        """Column of the manifest with the file that it is of; empty where the degraded volume is all."""
        return ""

    @property
    def plain(self) -> dict[str, Any]:
        """Plain values that make it again: name caches, and are kept in ``model.pt``."""
        return {"class": type(self).__name__, **asdict(self)}

    @abstractmethod
    def of(self, shown: Shown) -> tuple[NDArray[np.float32], float]:
        """Return the channel (X, Y, Z) of a degraded volume, and what it is divided by."""


@dataclass(frozen=True, kw_only=True)
class GaussianChannel(Channel):
    """The degraded volume, smoothed in all three directions, over the degraded volume's own scale.

    Parameters
    ----------
    sigma_mm
        Standard deviation of the Gaussian, cut off at four of them; the volume is reflected at its faces.
    """

    sigma_mm: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_in_range("sigma_mm", self.sigma_mm, 0, float("inf"), include_low=False, include_high=False)

    def of(self, shown: Shown) -> tuple[NDArray[np.float32], float]:
        """Return the smoothed volume and the degraded volume's scale."""
        from scipy.ndimage import gaussian_filter

        sigma = [self.sigma_mm / size for size in shown.voxel_size_mm]
        smooth: NDArray[np.float32] = gaussian_filter(shown.image, sigma, output=np.float32)
        return smooth, shown.scale


@dataclass(frozen=True, kw_only=True)
class _RowChannel(Channel):
    """A channel of a further volume of the row.

    Parameters
    ----------
    name
        Column of the manifest.
    """

    name: str

    @property
    def column(self) -> str:
        """Column of the manifest with the file that it is of."""
        return self.name


@dataclass(frozen=True, kw_only=True)
class VolumeChannel(_RowChannel):
    """A further volume of the row, over its own foreground scale; 0 everywhere where the row has none.

    Parameters are those of :class:`PresenceChannel`.
    """

    def of(self, shown: Shown) -> tuple[NDArray[np.float32], float]:
        """Return the volume and its foreground scale."""
        volume = shown.beside.get(self.name)
        if volume is None:
            return np.zeros_like(shown.image), 1.0
        with about(volume.path):
            return volume.data, foreground_scale(volume.data, voxel_size_mm=volume.voxel_size_mm)


@dataclass(frozen=True, kw_only=True)
class PresenceChannel(_RowChannel):
    """Whether a row has a further volume: 1 everywhere where it has, 0 where not.

    Without it a network could not tell a volume that is missing from one that shows nothing.

    Parameters
    ----------
    name
        Column of the manifest.
    """

    def of(self, shown: Shown) -> tuple[NDArray[np.float32], float]:
        """Return ones or zeros."""
        held = self.name in shown.beside
        return np.full_like(shown.image, 1.0 if held else 0.0), 1.0


def channel_of(plain: Mapping[str, Any]) -> Channel:
    """Return the channel that plain values describe.

    Raises
    ------
    InputError
        When they describe none that is known here.

    Examples
    --------
    >>> channel_of(GaussianChannel(sigma_mm=4.0).plain)
    GaussianChannel(neighbors=0, sigma_mm=4.0)
    """
    values = dict(plain)
    kind = getattr(sys.modules[__name__], str(values.pop("class", "")), None)
    if not (isinstance(kind, type) and issubclass(kind, Channel) and not isabstract(kind)):
        raise InputError(
            f"no channel of images is called {plain.get('class')!r}. Remedy: install the version of "
            "medrestore that the network was trained with"
        )
    made: Channel = kind(**values)
    return made


def read_beside(path: str | Path, degraded: Volume) -> Volume:
    """Read a further volume of a degraded one's row.

    Raises
    ------
    InputError
        When it cannot be read or is on another grid.
    """
    volume = read_volume(path)
    difference = grid_difference(volume, degraded)
    if difference:
        fail(
            f"is on another grid than {degraded.path}: {difference}",
            path=path,
            remedy="co-register it first: networks are shown volumes on one grid",
        )
    return volume
