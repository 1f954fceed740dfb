"""The range of images that a network was trained on, and whether a volume lies in it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medrestore.checks import about
from medrestore.data.intensity import RELATIVE, Intensity
from medrestore.data.volumes import Volume, read_volume

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["range_warnings", "training_range", "volume_features"]

TOLERATED_FACTOR = {"relative_noise": 1.5}
"""A feature may leave the range seen in training by this factor before it counts as outside. Noise estimates
of subjects at one dose scatter by about a quarter; twice the dose changes them by 1.4 (Poisson)."""
TOLERATED_SIZE_FACTOR = 1.1
"""The same for voxel sizes: a kernel sees structures larger or smaller by that much."""


def volume_features(volume: Volume, *, intensity: Intensity = RELATIVE) -> dict[str, float]:
    """Measure what tells kinds of scans apart, on the degraded image alone.

    Parameters
    ----------
    volume
        (X, Y, Z).
    intensity
        How networks see it.

    Returns
    -------
    dict
        ``voxel_size_x_mm`` and so on; ``relative_noise``: robust noise of the middle axial slice (median
        absolute deviation of wavelet details, scikit-image's ``estimate_sigma``) over its
        intensity scale.
    """
    from skimage.restoration import estimate_sigma

    shown = intensity.above_nothing(volume.data)
    scale = intensity.scale_of(shown, voxel_size_mm=volume.voxel_size_mm)
    middle = shown[:, :, shown.shape[2] // 2]
    foreground = middle[np.ix_(*(np.flatnonzero((middle > 0.1 * scale).any(axis)) for axis in (1, 0)))]
    noise = 0.0
    if min(foreground.shape, default=0) >= 4:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of a constant image: it has no details at all
            noise = float(np.nan_to_num(estimate_sigma(foreground)))
    sizes = {
        f"voxel_size_{axis}_mm": float(size) for axis, size in zip("xyz", volume.voxel_size_mm, strict=True)
    }
    return {**sizes, "relative_noise": noise / scale}


def _read_degraded(row: Mapping[Any, Any]) -> Volume:
    return read_volume(row["degraded_path"])


def training_range(
    table: pd.DataFrame,
    *,
    at_most: int = 16,
    read: Callable[[Mapping[Any, Any]], Volume] = _read_degraded,
    words: Sequence[str] = (),
    intensity: Intensity = RELATIVE,
) -> dict[str, Any]:
    """Describe the training subjects of a manifest: range of every feature, and what columns of words hold.

    Parameters
    ----------
    table
        Rows of a manifest.
    at_most
        Volumes that are measured, evenly spaced over the rows of each combination of ``words``: of a table of
        several doses in turn, the spacing might meet one of them alone.
    read
        Reads the volume of a row that is measured: what a network is given.
    words
        Columns whose different values are listed; each combination is measured once at least.
    intensity
        How networks see the volumes.
    """
    import pandas as pd

    told_apart = [table[column].astype(str) for column in words if column in table]
    parts = [part for _, part in table.groupby(told_apart, sort=False)] if told_apart else [table]
    share = max(at_most // len(parts), 1)
    chosen = [np.linspace(0, len(part) - 1, min(share, len(part))).round().astype(int) for part in parts]
    rows = [part.iloc[np.unique(places)] for part, places in zip(parts, chosen, strict=True)]
    measured = []
    for row in pd.concat(rows).to_dict("records"):
        volume = read(row)
        with about(volume.path):
            measured.append(volume_features(volume, intensity=intensity))
    ranges = {name: [min(m[name] for m in measured), max(m[name] for m in measured)] for name in measured[0]}
    held: dict[str, Any] = {
        column: sorted({str(value) for value in table[column]}) for column in words if column in table
    }
    return {"features": ranges, **held}


def range_warnings(
    volume: Volume,
    seen: Mapping[str, Any],
    *,
    words: Mapping[str, str | None] | None = None,
    intensity: Intensity = RELATIVE,
) -> list[str]:
    """Say in words where a volume lies outside of what a network was trained on.

    Parameters
    ----------
    volume
        The degraded volume.
    seen
        Of :func:`training_range`, as kept in ``model.pt``.
    words
        What the manifest or sidecar says of the volume, by column; nothing is said of what is not known.
    intensity
        How networks see it.
    """
    found = []
    for name, value in volume_features(volume, intensity=intensity).items():
        low, high = seen.get("features", {}).get(name, (value, value))
        factor = TOLERATED_FACTOR.get(name, TOLERATED_SIZE_FACTOR)
        if not low / factor <= value <= high * factor:
            found.append(f"{name.replace('_', ' ')} is {value:.3g}, trained on {low:.3g} to {high:.3g}")
    return found + [
        f"{name} is {word}, trained on {', '.join(seen[name])}"
        for name, word in (words or {}).items()
        if word and seen.get(name) and word not in seen[name]
    ]
