"""What pages say around their numbers: YAML files beside the code that fills them in, by Jinja."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

__all__ = ["environment", "filled", "texts_of"]


@cache
def texts_of(file: Path) -> dict[str, Any]:
    """Return what a YAML file of texts holds."""
    return dict(yaml.safe_load(file.read_text(encoding="utf-8")))


@cache
def environment(folder: Path, *, autoescape: bool) -> Environment:
    """Return what templates of a folder are rendered by: a name that is not there is refused."""
    return Environment(
        loader=FileSystemLoader(folder),
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
    return environment(Path(__file__).parent, autoescape=False).from_string(text).render(values)
