"""Where a protocol comes from: the presets of the package, a YAML file of one's own, or the plan itself."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Collection, Hashable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from medrestore.checks import InputError, fail, one_line
from medrestore.data.texts import read_text
from medrestore.files import is_file
from medrestore.study.planning.sections import contains, path_of
from medrestore.study.protocol import CANNOT_TELL, GUESS, Protocol
from medrestore.study.questions import Question

__all__ = ["find_protocol", "presets", "read_yaml", "require_neutral", "with_guess"]

_NO_TEXT = re.compile("[\0\ud800-\udfff]")
"""What an escape in a YAML file can put into a text, and no file or path can hold."""


def presets() -> dict[str, Path]:
    """Return the file of each preset by its name.

    >>> sorted(presets())
    ['florbetaben', 'histology', 'mr_contrast']
    """
    folder = Path(__file__).parent / "presets"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_protocol(questions: object, *, folder: Path) -> tuple[Protocol, str | dict[str, Any]]:
    """Return the protocol that a plan's ``questions`` name, and the name in its normal form.

    Parameters
    ----------
    questions
        Name of a preset, path of a YAML file, or the protocol itself as a mapping.
    folder
        Of the plan; paths are relative to it.

    Raises
    ------
    InputError
        When there is no such preset or file, or it is no protocol.
    """
    if isinstance(questions, Mapping):
        return Protocol.load(questions, where="questions"), dict(questions)
    if not isinstance(questions, str) or not questions:
        raise InputError(f"must be a preset, a YAML file or a mapping, got {questions!r}")
    known = presets()
    if questions in known:
        path = known[questions]
        return Protocol.load(read_yaml(path), where=str(path)), questions
    path = Path(path_of(questions, folder))
    if not is_file(path):
        near = get_close_matches(questions, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; presets: {', '.join(known)}"
        raise InputError(f"{questions!r} is neither a preset nor a file ({path}){hint}")
    return Protocol.load(read_yaml(path), where=str(path)), str(path)


def read_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a mapping from a YAML file; a key that is there twice is refused, where YAML would take the last.

    Raises
    ------
    InputError
        When the file is missing, no YAML, no mapping, or has a key twice; names the line.
    """
    path = Path(path)
    text = read_text(path, what="a plan or questions (YAML)")
    try:
        content = yaml.load(text, Loader=_Loader)  # noqa: S506 (a safe loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = " ".join(str(error.problem or error.context).split())
        raise InputError(f"{path}: {where}is no YAML: {problem}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: is no YAML: {' '.join(str(error).split())}") from error
    except RecursionError:
        fail("is no YAML: brackets too deep", path=path)
    except ValueError as error:  # a date that is none, a number that is too long
        fail(f"is no YAML: {one_line(error)}", path=path, remedy="put texts in quotes")
    if not isinstance(content, dict):
        fail(f"must hold keys and values, got {type(content).__name__}", path=path)
    return content


def require_neutral(protocol: Protocol, arms: Collection[str]) -> None:
    """Require that no arm is named in what readers are told.

    Names of one or two letters are not looked for: they are part of any text.

    Raises
    ------
    InputError
        Naming the text and the arm.
    """
    texts = {"modality": protocol.modality, "instructions": protocol.instructions}
    for question in protocol.questions:
        words = (question.name, question.text, question.help, *question.options.values())
        texts[f"question {question.name!r}"] = " / ".join(words)
    for arm in arms:
        for where, text in texts.items():
            if len(arm) > 2 and contains(text, arm):
                raise InputError(
                    f"{where} contains the arm {arm!r}, and readers see it. Remedy: rename the arm"
                )


def with_guess(protocol: Protocol, labels: Collection[str] | None) -> Protocol:
    """Return the protocol with the question which kind of image it was, where the plan wants to know.

    Raises
    ------
    InputError
        When a question has its name already.
    """
    if any(question.name == GUESS for question in protocol.questions):
        raise InputError(f"the name {GUESS!r} is kept for the plan's own question. Remedy: rename yours")
    if not labels:
        return protocol
    question = Question(
        name=GUESS,
        text="Which kind of image is this, do you think?",
        help="Your guess tells how well the study is blinded; your reading counts in any case.",
        type="choice",
        options=dict(enumerate([*labels, CANNOT_TELL], start=1)),
    )
    return dataclasses.replace(protocol, questions=(*protocol.questions, question))


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    None, None, "a list or mapping cannot be a key", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        text = super().construct_scalar(node)
        if isinstance(text, str) and _NO_TEXT.search(text):
            raise yaml.constructor.ConstructorError(
                None, None, f"{text[:40]!r} holds what is no letter or sign", node.start_mark
            )
        return text


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),  # which YAML 1.1 takes for text
    list("-+.0123456789"),
)
