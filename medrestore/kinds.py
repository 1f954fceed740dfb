"""Where the kinds of image are: folders of :mod:`medrestore.domains`, and packages with an entry point."""

from __future__ import annotations

import pkgutil
from contextlib import suppress
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from types import ModuleType

from medrestore.checks import InputError, one_line

__all__ = ["GROUP", "added_kinds", "beside", "files_beside", "kinds", "own_kinds"]

GROUP = "medrestore.domains"
"""Of entry points: a package of its own adds a kind of image by ``NAME = "package.module:DOMAIN"``.

What restores files lies beside that module, in ``package.restoration``, and its commands in
``package.commands``.
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


def kinds() -> list[EntryPoint]:
    """Return all kinds of image."""
    return [*own_kinds(), *added_kinds()]


def beside(point: EntryPoint, name: str) -> ModuleType | None:
    """Return a module of the folder of a kind of image; None when it has none of that name.

    Raises
    ------
    InputError
        When that of another package cannot be loaded.
    """
    wanted = f"{point.module.rpartition('.')[0] or point.module}.{name}"
    try:
        return import_module(wanted)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{wanted}.".startswith(f"{error.name}."):
            return None
        if wanted.startswith("medrestore."):
            raise
        raise InputError(  # it is there, and of a package that is not ours
            f"{wanted} cannot be loaded ({type(error).__name__}: {one_line(error)}). "
            "Remedy: repair or uninstall that package"
        ) from error


def files_beside(name: str) -> dict[str, Traversable]:
    """Return the files of a name by the kind of image that they lie beside, its underscores as hyphens."""
    found = {}
    for point in kinds():
        with suppress(Exception):  # a package that is broken has none; it is named where it is needed
            found[point.name.replace("_", "-")] = files(point.module.rpartition(".")[0]) / name
    return {kind: place for kind, place in found.items() if place.is_file()}
