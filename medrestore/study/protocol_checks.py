"""What can be wrong between the questions of a protocol: references, roles, and what the viewer shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medrestore.checks import InputError, require_known_keys

if TYPE_CHECKING:
    from medrestore.study.questions import Protocol, Question

__all__ = ["RESERVED", "is_number", "require_coherent", "require_mapping"]

RESERVED = (
    *("read_id", "image_id", "file", "reader", "phase", "attempt", "session", "position", "repeat"),
    *("arm", "case", "subject", "truth", "seconds", "reason"),
)
"""Columns of the tables in which answers are exported and imported; no question may have such a name."""

DISPLAY_KEYS = ("colormap", "colormaps", "planes", "convention")
PLANES = ("axial", "coronal", "sagittal")
CONVENTIONS = ("radiological", "neurological")
ORDERED = ("choice", "integer", "number", "derived")
"""Types whose answers are numbers."""


def is_number(value: object) -> bool:
    """Return whether a value is a finite number; true and false are none.

    >>> is_number(3), is_number(True), is_number(10**400)
    (True, False, False)
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the largest float
        return False


def require_mapping(what: str, value: object) -> dict[Any, Any]:
    """Return a mapping, empty for None; refuse anything else."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InputError(f"{what} must be a mapping of keys to values, got {value!r}")
    return dict(value)


def require_coherent(protocol: Protocol, where: str) -> None:
    """Check all that questions say of each other.

    Raises
    ------
    InputError
        When a name is there twice or reserved, a question refers to one that does not come before it or has
        not the type for it, a condition can never hold, or a decision, score or quality may stay without an
        answer.
    """
    names = [question.name for question in protocol.questions]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{where}: two questions are called {name!r}")
        if name in RESERVED:
            raise InputError(f"{where}: no question may be called {name!r}: exported tables have that column")
    for place, question in enumerate(protocol.questions):
        for other in (*question.when, *(name for part in question.rule.values() for name in part)):
            if other not in names[:place]:
                raise InputError(
                    f"{where}: question {question.name!r} refers to {other!r}, which does not come before it"
                )
        _require_condition(protocol, question, where)
        _require_rule(protocol, question, where)
    _require_roles(protocol, names, where)
    _require_consistent(protocol, names, where)
    _require_display(protocol, where)


def _require_condition(protocol: Protocol, question: Question, where: str) -> None:
    for other, wanted in question.when.items():
        try:
            if protocol[other].type == "derived":
                good = is_number(wanted)
            else:
                good = protocol[other].check(wanted) is not None
        except InputError:
            good = False
        if not good:
            raise InputError(
                f"{where}: question {question.name!r} is asked when {other!r} is {wanted!r}, which is no "
                "answer to it"
            )


def _require_rule(protocol: Protocol, question: Question, where: str) -> None:
    for rule, names in question.rule.items():
        types = [protocol[name].type for name in names]
        if rule == "maximum_of" and not all(kind in ORDERED for kind in types):
            raise InputError(
                f"{where}: maximum_of of question {question.name!r} needs questions with numbers"
            )
        if rule == "signed_confidence":
            options = list(protocol[names[-1]].options)
            if types != ["yes_no", "choice"] or sorted(options) != list(range(1, len(options) + 1)):
                raise InputError(
                    f"{where}: signed_confidence of question {question.name!r} needs a yes_no question and a "
                    "choice whose options are numbered from 1"
                )


def _require_roles(protocol: Protocol, names: Sequence[str], where: str) -> None:
    types = {"decision": ("yes_no",), "score": ORDERED, "quality": ("choice",)}
    for role, allowed in types.items():
        name = getattr(protocol, role)
        if not name:
            continue
        if name not in names:
            raise InputError(f"{where}: {role} names no question: {name!r}")
        if protocol[name].type not in allowed:
            raise InputError(f"{where}: {role} {name!r} must be a {' or '.join(allowed)} question")
        for needed in _inputs(protocol, name):
            if not protocol[needed].required or protocol[needed].when:
                raise InputError(
                    f"{where}: {role} {name!r} needs an answer to {needed!r} in every read: it must be "
                    "required and without a condition"
                )


def _inputs(protocol: Protocol, name: str) -> list[str]:
    """Return a question and all that it is derived from."""
    found = [name]
    for names in protocol[name].rule.values():
        for other in names:
            found += _inputs(protocol, other)
    return found


def _require_consistent(protocol: Protocol, names: Sequence[str], where: str) -> None:
    for name, rule in protocol.consistent.items():
        if (
            name not in names
            or protocol[name].type != "yes_no"
            or len(rule) != 2
            or rule[0] not in names
            or protocol[rule[0]].type not in ORDERED
            or not is_number(rule[1])
        ):
            raise InputError(
                f"{where}: consistent must map a yes_no question to [question with numbers, least number of "
                f"a yes], got {name!r}: {list(rule)!r}"
            )


def _require_display(protocol: Protocol, where: str) -> None:
    display = protocol.display
    require_known_keys(f"{where}: display", display, DISPLAY_KEYS)
    for key in ("colormaps", "planes"):
        value = display.get(key, ["axial"])
        if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
            raise InputError(f"{where}: display.{key} must be a list of names, got {value!r}")
    unknown = [plane for plane in display.get("planes", ()) if plane not in PLANES]
    if unknown:
        raise InputError(f"{where}: display.planes must be of {', '.join(PLANES)}, got {unknown[0]!r}")
    colormap, colormaps = display.get("colormap"), display.get("colormaps")
    if colormap is not None and (not isinstance(colormap, str) or colormap not in (colormaps or [colormap])):
        raise InputError(f"{where}: display.colormap must be one of display.colormaps, got {colormap!r}")
    if display.get("convention", CONVENTIONS[0]) not in CONVENTIONS:
        raise InputError(
            f"{where}: display.convention must be {' or '.join(CONVENTIONS)}, got {display['convention']!r}"
        )
