"""What a report says around its numbers: files beside this one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medrestore.evaluation.pages.texts import texts_of

__all__ = ["FOLDER", "held"]

FOLDER = Path(__file__).parent


def held(name: str) -> dict[str, Any]:
    """Return what the file ``NAME.yaml`` holds."""
    return texts_of(FOLDER / f"{name}.yaml")
