"""What inference must know of a training on amyloid PET."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from medrestore.data.training_range import training_range

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["model_information"]

WORDS = ("tracer", "units", "dose_fraction")
"""Columns whose values in training are listed."""


def model_information(
    table: pd.DataFrame, *, neighbors: int, label_column: str, spatial_size: Sequence[int]
) -> dict[str, Any]:
    """Return what inference must know of a training: kept in ``model.pt`` as plain values."""
    return {
        "restorer": "amyloid_pet.VolumeFileRestorer",
        "neighbors": neighbors,
        "label_column": label_column,
        "spatial_size": list(spatial_size),
        "training_range": training_range(table, words=WORDS),
    }
