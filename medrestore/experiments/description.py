"""Experiments as data: YAML files beside the kinds of image, and what their values stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pkgutil import resolve_name
from typing import Any, TypeVar

from medrestore.checks import fail, one_line, require_in_set
from medrestore.kinds import files_beside

__all__ = ["Run", "call", "methods_of", "read_description", "value_of"]

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """A training of a bundle: the overlay of its name, after those that every training gets.

    Parameters
    ----------
    compared
        Restores the test split, and is evaluated.
    needs
        Runs, each before this one, whose weights it gets: by key of the configuration.
    seeded
        Gets the seed of the call; else it keeps that of its overlay.
    """

    compared: bool = False
    needs: Mapping[str, str] = field(default_factory=dict)
    seeded: bool = True


def methods_of(runs: Mapping[str, Run]) -> tuple[str, ...]:
    """Return those that are compared."""
    return tuple(name for name, run in runs.items() if run.compared)


def read_description(kind: type[T], subject: str, file: str) -> T:
    """Read what a kind of image says of an experiment.

    Parameters
    ----------
    kind
        A dataclass whose fields are the keys.
    subject
        Kind of image, its underscores as hyphens.
    file
        Its name.

    Raises
    ------
    InputError
        When that kind of image has no such file (names those that have), or for wrong keys and values.
    """
    import yaml
    from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

    found = files_beside(file)
    require_in_set("SUBJECT", subject, tuple(found))
    strict = with_config(ConfigDict(extra="forbid"))
    try:
        read: T = TypeAdapter(strict(kind)).validate_python(yaml.safe_load(found[subject].read_text("utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        fail(f"is no YAML file ({one_line(error)})", path=found[subject], remedy="mend it")
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        fail("; ".join(faults), path=found[subject])
    return read


def call(described: Mapping[str, Any], known: Mapping[str, Any], **more: Any) -> Any:
    """Return what the function ``call`` of a description makes of its ``arguments`` and of more.

    ``with`` names a mapping in the code, of further arguments.
    """
    if "with" in described:
        more |= resolve_name(described["with"])
    return resolve_name(described["call"])(**value_of(described["arguments"], known), **more)


def value_of(value: Any, known: Mapping[str, Any]) -> Any:
    """Return what a value of a description stands for.

    ``$name`` is an object of ``known``, ``$name.key`` a value in it or None, ``$package.module.NAME`` one of
    the code, ``{name}`` in a text what is known, as text; what has ``call`` is called.

    >>> value_of(["$seed", "$sizes.small", "{seed} of 9"], {"seed": 3, "sizes": {"small": 8}})
    [3, 8, '3 of 9']
    """
    if isinstance(value, Mapping):
        if "call" in value:
            return call(value, known)
        return {key: value_of(part, known) for key, part in value.items()}
    if isinstance(value, list):
        return [value_of(part, known) for part in value]
    if not isinstance(value, str) or not value.startswith("$"):
        return value.format_map(known) if isinstance(value, str) else value
    name, _, key = value[1:].partition(".")
    if key:
        return known[name].get(key) if name in known else resolve_name(value[1:])
    return known[name]
