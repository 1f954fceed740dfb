"""Where the kinds of image are: folders of :mod:`medrestore.domains`, and packages with an entry point."""

from __future__ import annotations

import pkgutil
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

__all__ = ["GROUP", "added_kinds", "own_kinds"]

GROUP = "medrestore.domains"
"""Of entry points: a package of its own adds a kind of image by ``NAME = "package.module:DOMAIN"``.

What restores files lies beside that module, in ``package.restoration``.
"""


def own_kinds() -> list[EntryPoint]:
    """Return the kinds of image that come with the package, as entry points would name them."""
    return [
        EntryPoint(folder.name, f"{GROUP}.{folder.name}.domain:DOMAIN", GROUP)
        for folder in pkgutil.iter_modules([str(Path(__file__).with_name("domains"))])
        if folder.ispkg
    ]


def added_kinds() -> list[EntryPoint]:
    """Return the kinds of image that other packages add; none takes the name of one that is here."""
    own = {point.name for point in own_kinds()}
    return [point for point in entry_points(group=GROUP) if point.name not in own]
