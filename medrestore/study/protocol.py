"""All that a reader is told and asked, and what can be wrong between the questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medrestore.checks import InputError, require_in_set, require_known_keys
from medrestore.study.questions import Question, is_number, require_mapping

__all__ = ["CANNOT_TELL", "GUESS", "RESERVED", "Protocol"]

GUESS = "guess"
"""The question that asks which kind of image it was, where the plan wants to know if the blinding held."""

CANNOT_TELL = "I cannot tell"
"""The last option of that question."""

RESERVED = (
    *("read_id", "image_id", "file", "reader", "phase", "attempt", "session", "position", "repeat"),
    *("arm", "case", "subject", "truth", "seconds", "reason"),
)
"""Columns of the tables in which answers are exported and imported; no question may have such a name."""

PROTOCOL_KEYS = (
    *("name", "title", "modality", "dimensions", "instructions", "display", "questions"),
    *("decision", "score", "quality", "consistent"),
)
DISPLAY_KEYS = ("colormap", "colormaps", "planes", "convention")
PLANES = ("axial", "coronal", "sagittal")
CONVENTIONS = ("radiological", "neurological")
ORDERED = ("choice", "integer", "number", "derived")
"""Types whose answers are numbers."""


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
        _require_coherent(protocol, where)
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
            **vars(self),
            "questions": [question.as_dict() for question in self.questions],
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


def _require_coherent(protocol: Protocol, where: str) -> None:
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
