"""What a reader is asked: the protocol of a study, and the check of the answers to it."""

from __future__ import annotations

import math
import re
import reprlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medrestore.checks import InputError, require_in_set, require_known_keys
from medrestore.study.protocol_checks import is_number, require_coherent, require_mapping

__all__ = ["CANNOT_TELL", "GUESS", "TYPES", "Protocol", "Question", "answer_key"]

TYPES = ("choice", "yes_no", "integer", "number", "text", "point", "derived")
"""Types of answer: a numbered option, true or false, a number, free text, a place in the image in mm, or a
value computed from other answers."""

GUESS = "guess"
"""The question that asks which kind of image it was, where the plan wants to know if the blinding held."""

CANNOT_TELL = "I cannot tell"
"""The last option of that question."""

LONGEST_TEXT = 2000
"""Characters of a free text."""

RULES = {"maximum_of": (1, math.inf), "signed_confidence": (2, 2)}
"""Rules of derived values, and of how many answers they are made."""

QUESTION_KEYS = ("name", "text", "help", "type", "options", "range", "required", "when", "rule")
PROTOCOL_KEYS = (
    *("name", "title", "modality", "dimensions", "instructions", "display", "questions"),
    *("decision", "score", "quality", "consistent"),
)


@dataclass(frozen=True)
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
    type: str
    help: str = ""
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
            "name": self.name,
            "text": self.text,
            "help": self.help,
            "type": self.type,
            "options": [[number, label] for number, label in self.options.items()],
            "range": None if self.range is None else list(self.range),
            "required": self.required,
            "when": dict(self.when),
            "rule": {key: list(value) for key, value in self.rule.items()},
        }


@dataclass(frozen=True)
class Protocol:
    """All that a reader is told and asked.

    Parameters
    ----------
    name, title, modality, dimensions, instructions, display
        What the page shows; ``dimensions`` is 3 for volumes and 2 for single images. ``display``:
        ``colormap``, ``colormaps`` (on choice), ``planes`` (``axial`` first).
    questions
        In the order in which they are asked.
    decision
        The yes/no question that is compared with the truth.
    score
        The ordered answer for ROC analysis; empty where there is none.
    quality
        The choice whose mean and share >= 3 are reported; empty where there is none.
    consistent
        ``{decision: [other, least]}``: the page asks again when the decision is not ``other >= least``.
    """

    name: str
    title: str
    modality: str
    dimensions: int
    instructions: str
    display: Mapping[str, Any]
    questions: tuple[Question, ...]
    decision: str = ""
    score: str = ""
    quality: str = ""
    consistent: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @classmethod
    def load(cls, entry: Mapping[str, Any], *, where: str) -> Protocol:
        """Build a protocol from a preset or from the plan's own questions.

        Raises
        ------
        InputError
            When a key or a reference between questions is wrong; names the file and the question.
        """
        require_known_keys(where, entry, PROTOCOL_KEYS)
        given = entry.get("questions")
        if not isinstance(given, Sequence) or isinstance(given, str) or not given:
            raise InputError(f"{where}: questions must be a list of at least one question")
        questions = tuple(Question.load(item, where=where) for item in given)
        require_in_set(f"{where}: dimensions", entry.get("dimensions", 3), (2, 3))
        texts = {"name": "own", "title": "Reader study", "modality": "", "instructions": ""}
        texts |= {"decision": "", "score": "", "quality": ""}
        for key, default in texts.items():
            texts[key] = entry.get(key, default)
            if not isinstance(texts[key], str):
                raise InputError(f"{where}: {key} must be a text, got {texts[key]!r}")
        consistent = require_mapping(f"{where}: consistent", entry.get("consistent"))
        for key, rule in consistent.items():
            if not isinstance(rule, (list, tuple)):
                raise InputError(f"{where}: consistent: {key} must be a list, got {rule!r}")
        protocol = cls(
            **texts,
            dimensions=int(entry.get("dimensions", 3)),
            display=require_mapping(f"{where}: display", entry.get("display")),
            questions=questions,
            consistent={key: tuple(rule) for key, rule in consistent.items()},
        )
        require_coherent(protocol, where)
        return protocol

    def __getitem__(self, name: str) -> Question:
        """Return the question of this name."""
        for question in self.questions:
            if question.name == name:
                return question
        raise InputError(
            f"no question is called {name!r}; there are {', '.join(q.name for q in self.questions)}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the protocol ready for JSON: what the page is served."""
        return {
            "name": self.name,
            "title": self.title,
            "modality": self.modality,
            "dimensions": self.dimensions,
            "instructions": self.instructions,
            "display": dict(self.display),
            "questions": [question.as_dict() for question in self.questions],
            "decision": self.decision,
            "score": self.score,
            "quality": self.quality,
            "consistent": {key: list(value) for key, value in self.consistent.items()},
        }

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Protocol:
        """Build a protocol from what :meth:`as_dict` gave."""
        questions = [{**question, "options": dict(question["options"])} for question in entry["questions"]]
        return cls.load({**entry, "questions": questions}, where="protocol")

    def check_answers(self, answers: Mapping[str, Any], *, complete: bool = True) -> dict[str, Any]:
        """Check the answers of one read and add the derived values.

        Parameters
        ----------
        answers
            Question name -> value. Derived values may be given and must then be the derived ones.
        complete
            Whether every required question must be answered; a model reader answers what it can.

        Returns
        -------
        dict
            In the order of the questions; questions that are not asked are left out.

        Raises
        ------
        InputError
            When an answer is wrong, missing, or to no question.
        """
        require_known_keys("answers", answers, [question.name for question in self.questions])
        checked: dict[str, Any] = {}
        for question in self.questions:
            value = answers.get(question.name)
            if question.type == "text" and isinstance(value, str) and not value.strip():
                value = None  # blanks answer nothing
            if question.type == "derived":
                derived = _derive(question, checked, self)
                if value is not None and (isinstance(value, bool) or value != derived):
                    raise InputError(
                        f"answer {question.name!r} follows from others as {derived}, got {value!r}"
                    )
                if derived is not None:
                    checked[question.name] = derived
            elif any(checked.get(other) != wanted for other, wanted in question.when.items()):
                if value is not None:
                    raise InputError(f"answer {question.name!r} is asked only when {dict(question.when)}")
            elif value is not None:
                checked[question.name] = question.check(value)
            elif complete and question.required:
                raise InputError(f"answer {question.name!r} is missing")
        if not checked:
            raise InputError("a read needs at least one answer")
        return checked


def answer_key(value: Any) -> float:
    """Return an answer as a number: false 0, true 1; NaN where it is none.

    >>> answer_key(True), answer_key(3)
    (1.0, 3.0)
    """
    return float(value) if isinstance(value, (bool, int, float)) else math.nan


def _derive(question: Question, checked: Mapping[str, Any], protocol: Protocol) -> int | float | None:
    ((rule, names),) = question.rule.items()
    values = [checked.get(name) for name in names]
    if any(value is None for value in values):
        return None
    if rule == "maximum_of":
        highest: int | float = max(values)  # type: ignore[type-var,assignment]
        return highest
    decision, confidence = values
    levels = len(protocol[names[1]].options)
    assert isinstance(confidence, int)  # noqa: S101
    return levels + confidence if decision else levels + 1 - confidence


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
