"""One question that a reader is asked, and the check of an answer to it."""

from __future__ import annotations

import math
import re
import reprlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medrestore.checks import InputError, require_in_set, require_known_keys

__all__ = ["TYPES", "Question", "answer_key", "is_number", "require_mapping"]

TYPES = ("choice", "yes_no", "integer", "number", "text", "point", "derived")
"""Types of answer: a numbered option, true or false, a number, free text, a place in the image in mm, or a
value computed from other answers."""

LONGEST_TEXT = 2000
"""Characters of a free text."""

RULES = {"maximum_of": (1, math.inf), "signed_confidence": (2, 2)}
"""Rules of derived values, and of how many answers they are made."""

QUESTION_KEYS = ("name", "text", "help", "type", "options", "range", "required", "when", "rule")


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question of a protocol.

    Parameters
    ----------
    name
        Key of the answer: lower-case letters, digits and ``_``.
    text, help
        What the page shows.
    type
        One of :data:`TYPES`.
    options
        Of a ``choice``: number -> label, in order.
    range
        Of an ``integer`` or ``number``: least and greatest value.
    required
        Whether a read is complete without it.
    when
        Asked only when other answers have these values: name -> value.
    rule
        Of ``derived``: ``{"maximum_of": [names]}``, or ``{"signed_confidence": [decision, confidence]}``, an
        ordered score from the surest negative to the surest positive.
    """

    name: str
    text: str
    help: str = ""
    type: str
    options: Mapping[int, str] = field(default_factory=dict)
    range: tuple[float, float] | None = None
    required: bool = True
    when: Mapping[str, Any] = field(default_factory=dict)
    rule: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def load(cls, entry: Mapping[str, Any], *, where: str) -> Question:
        """Build a question from a mapping of a YAML file.

        Raises
        ------
        InputError
            When a key is unknown or missing, or a value does not fit the type.
        """
        if not isinstance(entry, Mapping):
            raise InputError(f"{where}: a question must be a mapping, got {entry!r}")
        require_known_keys(f"{where}: question", entry, QUESTION_KEYS)
        for key in ("name", "text", "type"):
            if not isinstance(entry.get(key), str):
                raise InputError(f"{where}: question {entry.get('name', '')!r} needs a text {key!r}")
        name, kind = entry["name"], entry["type"]
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name):
            raise InputError(f"{where}: question name must be lower-case letters, digits and _, got {name!r}")
        require_in_set(f"{where}: type of question {name!r}", kind, TYPES)
        where = f"{where}: question {name!r}"
        required = entry.get("required", True)
        if not isinstance(required, bool):
            raise InputError(f"{where}: required must be true or false, got {required!r}")
        if not isinstance(entry.get("help", ""), str):
            raise InputError(f"{where}: help must be a text, got {entry['help']!r}")
        return cls(
            name=name,
            text=entry["text"],
            type=kind,
            help=entry.get("help", ""),
            options=_options(entry.get("options"), kind, where),
            range=_range(entry.get("range"), kind, where),
            required=required,
            when=require_mapping(f"{where}: when", entry.get("when")),
            rule=_rule(entry.get("rule"), kind, where),
        )

    def check(self, value: Any) -> Any:
        """Return the answer in its normal form.

        Raises
        ------
        InputError
            When the answer is none of the type, options or range.
        """
        good, wanted = False, self.type
        if self.type == "choice":
            good = isinstance(value, int) and not isinstance(value, bool) and value in self.options
            wanted = f"one of {', '.join(map(str, self.options))}"
        elif self.type == "yes_no":
            good, wanted = isinstance(value, bool), "true or false"
        elif self.type in ("integer", "number"):
            good = is_number(value) and (self.type == "number" or float(value).is_integer())
            if good and self.range is not None:
                good = self.range[0] <= value <= self.range[1]
            wanted = self.type if self.range is None else f"{self.type} in {list(self.range)}"
        elif self.type == "text":
            good = isinstance(value, str) and len(value) <= LONGEST_TEXT and _is_unicode(value)
            wanted = f"text of up to {LONGEST_TEXT} characters"
        elif self.type == "point":
            good = isinstance(value, list) and len(value) == 3 and all(is_number(item) for item in value)
            wanted = "[x, y, z] in mm"
        if not good:
            raise InputError(f"answer {self.name!r} must be {wanted}, got {reprlib.repr(value)}")
        return int(value) if self.type == "integer" else value

    def as_dict(self) -> dict[str, Any]:
        """Return what the page needs, ready for JSON."""
        return {
            **vars(self),
            "options": [[number, label] for number, label in self.options.items()],
            "range": None if self.range is None else list(self.range),
            "rule": {key: list(value) for key, value in self.rule.items()},
        }


def answer_key(value: Any) -> float:
    """Return an answer as a number: false 0, true 1; NaN where it is none.

    >>> answer_key(True), answer_key(3)
    (1.0, 3.0)
    """
    return float(value) if isinstance(value, (bool, int, float)) else math.nan


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


def _options(value: Any, kind: str, where: str) -> dict[int, str]:
    options = require_mapping(f"{where}: options", value)
    if (kind == "choice") != bool(options):
        raise InputError(f"{where}: a choice, and only a choice, has options")
    if any(isinstance(key, bool) or not isinstance(key, int) for key in options):
        raise InputError(f"{where}: options must be numbered, e.g. 1: none")
    for key, label in options.items():
        if isinstance(label, bool) or not isinstance(label, (str, int, float)) or label == "":
            raise InputError(f"{where}: option {key} needs a text, got {label!r}. Remedy: put it in quotes")
    labels = {key: str(label) for key, label in options.items()}
    twice = [label for label, count in Counter(map(str.casefold, labels.values())).items() if count > 1]
    if twice:  # an imported table may give the label, which must tell the option
        raise InputError(f"{where}: two options are called {twice[0]!r}. Remedy: name them apart")
    return labels


def _range(value: Any, kind: str, where: str) -> tuple[float, float] | None:
    if value is None:
        return None
    if (
        kind not in ("integer", "number")
        or not isinstance(value, Sequence)
        or len(value) != 2
        or not all(is_number(limit) for limit in value)
        or not value[0] < value[1]
    ):
        raise InputError(f"{where}: range must be [least, greatest] of a number, got {value!r}")
    return float(value[0]), float(value[1])


def _rule(value: Any, kind: str, where: str) -> dict[str, tuple[str, ...]]:
    rule = require_mapping(f"{where}: rule", value)
    if (kind == "derived") != (len(rule) == 1):
        raise InputError(f"{where}: a derived value, and only that, has one rule")
    for key, names in rule.items():
        require_in_set(f"{where}: rule", key, tuple(RULES))
        low, high = RULES[key]
        if (
            not isinstance(names, (list, tuple))
            or not all(isinstance(name, str) for name in names)
            or not low <= len(names) <= high
        ):
            many = "two questions" if high == low else "questions"
            raise InputError(f"{where}: {key} must be a list of {many}, got {names!r}")
    return {key: tuple(names) for key, names in rule.items()}


def _is_unicode(text: str) -> bool:
    """Return whether tables can hold a text, unlike NUL and halves of characters, which JSON may carry."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False
