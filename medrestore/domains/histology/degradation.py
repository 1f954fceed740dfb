"""What ``model.pt`` says of the degradation that a network was trained to undo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from medrestore.checks import InputError
from medrestore.operators.recording import (
    BLIND_SET,
    DegradationRange,
    RecordedSubsampling,
    degradation_called,
)
from medrestore.operators.resampling import GaussianSubsampling, PictureDegradation, Subsampling

__all__ = [
    "TileDegradation",
    "degradation_facts",
    "degradation_of",
    "degraded_name",
    "named_degradations",
    "reduction_for_tiles",
    "reductions_of",
]

TileDegradation: TypeAlias = PictureDegradation | DegradationRange
"""What makes low-resolution tiles: one way for all, or one that each tile draws by its name."""

SET = "blind-set"


def degradation_facts(degradation: TileDegradation) -> dict[str, Any]:
    """Return scale and sigma of a Gaussian; of another degradation its scale and name; of a range its key.

    >>> degradation_facts(degradation_called("box-jpeg70"))
    {'scale': 4, 'degradation': 'box-jpeg70'}
    """
    if isinstance(degradation, GaussianSubsampling):
        return degradation.key
    if isinstance(degradation, DegradationRange):
        key = degradation.key
        return {"scale": key.pop("scale"), "degradation": key}
    return {"scale": degradation.scale, "degradation": degradation.name}


def degradation_of(model: Mapping[str, Any]) -> TileDegradation:
    """Return what :func:`degradation_facts` told of.

    >>> degradation_of({"scale": 2, "sigma": 1.0})
    GaussianSubsampling(scale=2, sigma=1.0)
    """
    scale, told = model["scale"], model.get("degradation")
    if told is None and "sigma" not in model:
        raise InputError("these weights say neither sigma nor degradation. Remedy: train them again")
    if told is None:
        return GaussianSubsampling(scale=scale, sigma=model["sigma"])
    if isinstance(told, str):
        return degradation_called(told, scale=scale)
    return DegradationRange.from_key({"scale": scale, **told})


def named_degradations(names: Sequence[str]) -> list[str]:
    """Return names of degradations, each once; ``blind-set`` stands for those of the blind set.

    Raises
    ------
    InputError
        When one is no name.
    """
    given = [each for name in names for each in (BLIND_SET if name == SET else (name,))]
    return list(dict.fromkeys(degradation_called(name).name for name in given))


def degraded_name(tile: str, degradation: str) -> str:
    """Return what the restoration is called of a tile that was degraded so: the tile where none is named."""
    return f"{tile}_{degradation}" if degradation else tile


def reduction_for_tiles(degradation: TileDegradation) -> PictureDegradation:
    """Return what true tiles are reduced by where nothing else is named: of a range the paper's Gaussian."""
    if isinstance(degradation, DegradationRange):
        return GaussianSubsampling(degradation.scale, degradation.scale / 2)
    return degradation


def reductions_of(degradation: TileDegradation) -> tuple[Subsampling, ...]:
    """Return the reductions that a network assumes: of a range those that stand for it."""
    if isinstance(degradation, DegradationRange):
        return degradation.members
    if isinstance(degradation, RecordedSubsampling):
        return (degradation.reduction,)
    return (degradation,) if isinstance(degradation, Subsampling) else ()
