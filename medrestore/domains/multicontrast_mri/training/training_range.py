"""What inference must know of a training on multi-contrast MRI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medrestore.data.training_range import training_range
from medrestore.data.volumes import Volume
from medrestore.domains.multicontrast_mri.acquisition.acquisition import Acquisition
from medrestore.domains.multicontrast_mri.acquisition.channel_volume import read_channels

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["model_information"]


def model_information(
    table: pd.DataFrame,
    *,
    acquisition: Acquisition,
    contrasts: Sequence[str],
    neighbors: int,
    spatial_size: Sequence[int],
) -> dict[str, Any]:
    """Return what inference must know of a training: kept in ``model.pt`` as plain values.

    Parameters
    ----------
    table
        Training rows of a manifest.
    acquisition
        What the channels of the inputs are.
    contrasts
        Contrasts in the order of the network's planes.
    neighbors
        Slices on each side of the one restored.
    spatial_size
        In-plane size (X, Y) of training.

    Returns
    -------
    dict
        ``training_range`` is measured on the magnitude of the reference channel: voxel sizes and relative
        noise, for :func:`~medrestore.data.training_range.range_warnings`.
    """

    def reference(row: Mapping[Any, Any]) -> Volume:
        return read_channels(row["input_paths"], acquisition).reference(acquisition)

    return {
        "restorer": "multicontrast_mri.ContrastFileRestorer",
        "neighbors": neighbors,
        "label_column": "contrast",
        "spatial_size": list(spatial_size),
        "contrasts": list(contrasts),
        "acquisition": acquisition.as_plain(),
        "training_range": training_range(table, read=reference),
    }
