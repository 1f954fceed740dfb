"""Where the kinds of image are: folders of :mod:`medrestore.domains`, and packages with an entry point."""

from __future__ import annotations

import pkgutil
import re
from contextlib import suppress
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from types import ModuleType

from medrestore.checks import InputError, one_line

__all__ = ["GROUP", "added_kinds", "beside", "files_beside", "kinds", "own_kinds", "refused_kinds", "spoken"]

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


def spoken(name: str) -> str:
    """Return the name of a kind of image as commands have it.

    >>> spoken("amyloid_pet")
    'amyloid-pet'
    """
    return name.replace("_", "-")


def added_kinds() -> list[EntryPoint]:
    """Return the kinds of image that other packages add; none takes the name of one that is here."""
    return [point for point, fault in _offered() if not fault]


def refused_kinds() -> list[str]:
    """Return why kinds of image that other packages offer are none, each with the remedy."""
    return [
        f"the kind of image {point.name!r} of {point.value} {fault}. Remedy: rename its entry point, "
        "or uninstall that package"
        for point, fault in _offered()
        if fault
    ]


def _offered() -> list[tuple[EntryPoint, str]]:
    """Return what other packages offer, and what is wrong with its name: weights and records hold it."""
    taken = {spoken(point.name): "one that is here" for point in own_kinds()}
    offered = []
    for point in entry_points(group=GROUP):
        name, fault = spoken(point.name), ""
        if not re.fullmatch(r"\w[\w-]*", name):
            fault = "has a name that is not letters, digits and underscores alone"
        elif name in taken:
            fault = f"has the name of {taken[name]}"
        else:
            taken[name] = f"that of {getattr(point, 'value', name)}"
        offered.append((point, fault))
    return offered


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
    except (Exception, SystemExit) as error:
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
            found[spoken(point.name)] = files(point.module.rpartition(".")[0]) / name
    return {kind: place for kind, place in found.items() if place.is_file()}
