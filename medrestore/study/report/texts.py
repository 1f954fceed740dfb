"""What a report says around its numbers: files beside this one, filled in by Jinja."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

__all__ = ["environment", "filled", "held"]


@cache
def held(name: str) -> dict[str, Any]:
    """Return what the file ``NAME.yaml`` holds."""
    return dict(yaml.safe_load((Path(__file__).parent / f"{name}.yaml").read_text(encoding="utf-8")))


@cache
def environment(*, autoescape: bool) -> Environment:
    """Return what templates beside this file are rendered by: a name that is not there is refused."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=autoescape,  # noqa: S701 (plain texts are escaped where a page sets them)
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def filled(text: str, values: Mapping[str, object]) -> str:
    """Return a text with its values; it is escaped where it is set.

    >>> filled("of {{ count }} reads", {"count": 3})
    'of 3 reads'
    """
    return environment(autoescape=False).from_string(text).render(values)
