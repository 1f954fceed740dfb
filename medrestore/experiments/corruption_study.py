"""How restorations degrade when part of the training pairs is corrupted: many trainings, one figure."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["LEVELS", "VARIANTS", "render_corruption_study", "run_corruption_study"]

LEVELS = tuple(step / 20 for step in range(11))
VARIANTS = ("srgan", "e", "qe", "sqe")


def run_corruption_study(
    manifest: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str],
    levels: Sequence[float] = LEVELS,
    variants: Sequence[str] = VARIANTS,
    seeds: Sequence[int] = (0, 1, 2),
    overlays: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
    jobs: int = 1,
    experiment: str = "corruption_study",
    tracking_uri: str | None = None,
    progress: bool = True,
) -> Path:
    """Train every variant at every level and seed, restore, evaluate and draw; return the folder."""
    raise NotImplementedError


def render_corruption_study(output: str | os.PathLike[str]) -> Path:
    """Draw figure and tables of a finished study again."""
    raise NotImplementedError
