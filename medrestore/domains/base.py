"""What a kind of image tells of itself, and how its folder is found: nothing else names it."""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from medrestore import domains
from medrestore.checks import InputError
from medrestore.evaluation.titles import Metrics

__all__ = ["Domain", "domain_called", "metrics_of"]

GROUP = "medrestore.domains"
"""Of entry points: a package of its own adds a kind of image by ``NAME = "package.module:DOMAIN"``."""


@dataclass(frozen=True)
class Domain:
    """A kind of image.

    Parameters
    ----------
    name
        Of its folder; records of its evaluations hold it.
    metrics
        What evaluations measure of it, and how tables show it.
    """

    name: str
    metrics: Metrics


@cache
def _found() -> dict[str, Domain]:
    """Return all kinds of image: those of the folders here, and those that installed packages add."""
    here = [
        import_module(f"{domains.__name__}.{folder.name}.domain").DOMAIN
        for folder in pkgutil.iter_modules(domains.__path__)
        if folder.ispkg
    ]
    added = [point.load() for point in entry_points(group=GROUP)]
    return {domain.name: domain for domain in [*here, *added]}


def domain_called(name: str) -> Domain:
    """Return the kind of image of a name.

    Raises
    ------
    InputError
        When there is none: names those there are.
    """
    if name not in _found():
        raise InputError(
            f"no kind of image is called {name!r}; there are {', '.join(_found())}. Remedy: install the "
            "package that brings it, or evaluate again into a new folder"
        )
    return _found()[name]


def metrics_of(name: str) -> Metrics:
    """Return the metrics of the kind of image of a name, as records of evaluations hold it."""
    return domain_called(name).metrics
