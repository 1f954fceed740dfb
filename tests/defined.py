"""What a package defines, so that a contract is kept by every class of it, also by one that is added."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import TypeVar

Class = TypeVar("Class")


def defined_classes(package: ModuleType, base: type[Class]) -> list[type[Class]]:
    """Return the concrete public classes below ``base`` in the modules of a package, by name."""
    found = {
        member
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        for name, member in inspect.getmembers(importlib.import_module(module.name), inspect.isclass)
        if member.__module__ == module.name and issubclass(member, base) and not name.startswith("_")
        if not inspect.isabstract(member)
    }
    return sorted(found, key=lambda member: member.__name__)
