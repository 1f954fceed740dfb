"""Values of a configuration: text becomes what its key takes, and what a user gives is never code."""

from __future__ import annotations

import inspect
import itertools
import json
import math
import os
import pydoc
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from medrestore.checks import InputError, fail, one_line
from medrestore.files import with_home

__all__ = [
    "PARAMETERS",
    "SEPARATOR",
    "SUFFIXES",
    "as_literal",
    "by_short_names",
    "fit_value",
    "normalized_key",
    "plain_values",
    "read_configuration",
    "says_kind",
]

SUFFIXES = (".yaml", ".yml", ".json")
"""Of the files that configurations are read from."""

SEPARATOR = "::"
PARAMETERS = "parameters"
"""Key of the numbers of a training: each is named without it, too."""

CODE = ("$", "@", "%")
"""First characters of what MONAI evaluates: an expression, a reference, a macro."""

NULLS = ("null", "none")
YAML_NULLS = ("null", "Null", "NULL", "~", "")
TRUE, FALSE = ("true", "yes", "on"), ("false", "no", "off")
SPECIAL = re.compile(r"[$@%#]")
NUMBER = re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)([eE][-+]?\d+)?", re.ASCII)

KINDS = (
    (re.compile(r"str|os\.PathLike\[str\]|Path|torch\.device"), ""),
    (re.compile(r"bool"), False),
    (re.compile(r"int"), 0),
    (re.compile(r"float"), 0.0),
    (re.compile(r"(Sequence|list)\[(str|int|float)\]"), None),
)
"""What annotations of parameters say of a value, and an example of it."""


MERGE = "tag:yaml.org,2002:merge"


class _Plain(str):
    """Text of a configuration file that stands there without quotes: what it is, its key decides."""


class _Given(str):
    """Text of a command line: no quotes say whether it is meant as text."""


class _AsWritten(yaml.SafeLoader):
    """Reads scalars as the text that stands there: YAML 1.1 takes 1e-4 for text and 2026-11-28 for a date."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != MERGE]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key!s} stands there twice", problem_mark=node.start_mark
                )
        return super().construct_mapping(node, deep)


def _text(loader: _AsWritten, node: yaml.ScalarNode) -> str:
    text = str(loader.construct_scalar(node))
    return _Plain(text) if node.style is None else text


_AsWritten.yaml_implicit_resolvers = {"<": yaml.SafeLoader.yaml_implicit_resolvers["<"]}
_AsWritten.add_constructor("tag:yaml.org,2002:str", _text)


def read_configuration(file: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a configuration or an overlay, YAML or JSON.

    Parameters
    ----------
    file
        Ends in ``.yaml``, ``.yml`` or ``.json``.

    Returns
    -------
    dict
        As it stands there; scalars without quotes are text still, until :func:`fit_value` makes them what
        their key takes.

    Raises
    ------
    InputError
        When the file is none of these, or holds no keys with values.
    """
    path = Path(file)
    if path.suffix.lower() not in SUFFIXES:
        fail("is no configuration", path=file, remedy=f"name a file that ends in {', '.join(SUFFIXES)}")
    if not path.is_file():
        fail("no such file", path=file)
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            found = json.loads(
                text, parse_int=_Plain, parse_float=_Plain, parse_constant=_Plain, object_pairs_hook=_once
            )
        else:
            found = yaml.load(text, _AsWritten)  # noqa: S506  (a SafeLoader)
        # What holds itself has no end, and halves of characters (escapes) can stand in no file.
        json.dumps(found, default=str, skipkeys=True, ensure_ascii=False).encode()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        form = "JSON" if path.suffix.lower() == ".json" else "YAML"
        fail(f"is no {form} file ({one_line(error)})", path=file)
    if found is None:
        return {}
    if not isinstance(found, dict):
        fail(f"holds {_what(found)}, expected keys with values", path=file)
    return {str(key): value for key, value in found.items()}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)} stands there twice")
    return found


def normalized_key(key: str) -> tuple[str, bool]:
    """Return a key with ``::`` between its levels, and whether it merges: ``+key`` adds to what is there.

    >>> normalized_key("train#trainer#seed"), normalized_key("+parameters")
    (('train::trainer::seed', False), ('parameters', True))
    """
    return key.removeprefix("+").replace("#", SEPARATOR), key.startswith("+")


def _taken(configuration: Mapping[str, Any], key: str) -> Any:
    """Return an example of what those components take that get a key's value; None when unknown."""
    for target, name in _takers(configuration, key):
        try:
            annotation = str(inspect.signature(pydoc.locate(target)).parameters[name].annotation)  # type: ignore[arg-type]
        except (TypeError, ValueError, KeyError, pydoc.ErrorDuringImport):
            continue
        for part in annotation.split(" | "):
            for pattern, example in KINDS:
                found = pattern.fullmatch(part)
                if found and example is None:
                    return [{"str": "", "int": 0, "float": 0.0}[found[2]]]
                if found:
                    return example
    return None


def _takers(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield the component and the parameter wherever a key's value is given to one."""
    if isinstance(value, Mapping):
        target = value.get("_target_")
        if isinstance(target, str):
            references = f"@{key}", f"@{PARAMETERS}{SEPARATOR}{key}"
            for name, given in value.items():
                held = given.values() if isinstance(given, Mapping) and "_target_" not in given else [given]
                yield from ((target, name) for part in held if isinstance(part, str) and part in references)
            if target.endswith(".of") and value.get(PARAMETERS) == f"@{PARAMETERS}":
                yield target.removesuffix(".of"), key  # it takes its own by their names
        value = list(value.values())
    if isinstance(value, list):
        for below in value:
            yield from _takers(below, key)


def plain_values(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of :func:`read_configuration` as YAML means it, but 1e-4 is a number."""
    found: dict[str, Any] = _Fit({}, code=True).value(content, None, "", nullable=False)
    return found


def by_short_names(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration whose ``parameters`` stand beside its other keys too.

    >>> by_short_names({"parameters": {"seed": 0}, "workers": 2})["seed"]
    0
    """
    return {**configuration.get(PARAMETERS, {}), **configuration}


def fit_value(value: Any, configuration: Mapping[str, Any], key: str, *, code: bool = False) -> Any:
    """Make a value what its key takes: of the kind of the value that the configuration has there.

    Parameters
    ----------
    value
        Text as people write it, of a command line or a file; or a value that is no text.
    configuration
        All keys. A null or an expression does not say what its key takes: the components that get it do.
    key
        One that it has, levels joined by ``::``.
    code
        Leave expressions, references and components as they are: a file that the user chose holds them.

    Returns
    -------
    Any
        Plain values.

    Raises
    ------
    InputError
        For a value of another kind; names the key, what it takes and what came.

    Examples
    --------
    >>> configuration = {"rate": 0.1, "run_name": "gan", "observer": None}
    >>> [fit_value(text, configuration, "rate") for text in ("1e-4", ".5", "3")]
    [0.0001, 0.5, 3]
    >>> [fit_value(text, configuration, "run_name") for text in ("007", "no", "2026-11-28", "null")]
    ['007', 'no', '2026-11-28', 'null']
    >>> fit_value("None", configuration, "observer")
    """
    own: Any = configuration
    for part in key.split(SEPARATOR):
        own = own[int(part) if isinstance(own, list) else part]
    fit = _Fit(configuration, code=code)
    default, nullable = fit.kind(own, key)
    if isinstance(value, str) and not code:
        if key.rsplit(SEPARATOR, maxsplit=1)[-1] == "_target_":
            _refuse_component(key, value)
        value = _Given(value)
    return fit.value(value, default, key, nullable=nullable)


class _Fit:
    """Makes values what their keys take."""

    def __init__(self, configuration: Mapping[str, Any], *, code: bool) -> None:
        self.configuration = configuration
        self.code = code

    def kind(self, own: Any, key: str) -> tuple[Any, bool]:
        """Return an example of what a key takes, None when unknown, and whether it takes null."""
        if isinstance(own, str) and re.fullmatch(r"@\w+(::\w+)*", own):
            key, own = own[1:], self.configuration
            for part in key.split(SEPARATOR):
                below = dict(enumerate(own)) if isinstance(own, list) else own
                index: Any = int(part) if isinstance(own, list) and part.isdigit() else part
                own = below.get(index) if isinstance(below, Mapping) else None
            return self.kind(own, key)
        if own is None or _is_code(own):
            return _taken(self.configuration, key), own is None
        return own, False

    def value(self, value: Any, default: Any, name: str, *, nullable: bool) -> Any:
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if isinstance(value, str):
            return str(value) if self.code and _is_code(value) else self.text(value, default, name, nullable)
        known = default is not None and not nullable
        if isinstance(value, Mapping):
            if not self.code and "_target_" in value and not _is_component(default):
                raise InputError(f"{name} takes {_kind(default)}, got a component: {dict(value)}")
            if known and not isinstance(default, Mapping):
                _mistaken(name, default, value)
            return self.mapping(value, default, name)
        if isinstance(value, (list, tuple)):
            if known and not isinstance(default, (list, tuple)) and not _is_component(default):
                _mistaken(name, default, value)
            return self.list(value, default, name)
        if isinstance(value, bool):
            if known and not isinstance(default, bool):
                _mistaken(name, default, value)
        elif isinstance(value, (int, float)):
            if known and (isinstance(default, bool) or not isinstance(default, (int, float))):
                _mistaken(name, default, value)
            return _checked_number(value, default, name, value)
        return value

    def mapping(self, value: Mapping[Any, Any], default: Any, name: str) -> dict[Any, Any]:
        of = default if isinstance(default, Mapping) else {}
        fitted: dict[Any, Any] = {}
        for key, item in value.items():
            plain = _plain_value(key) if isinstance(key, _Plain) else key
            below = f"{name}{SEPARATOR}{key}" if name else str(key)
            own, nullable = self.kind(of[plain], below) if plain in of else (None, False)
            fitted[plain] = self.value(item, "" if plain == "_target_" else own, below, nullable=nullable)
        return fitted

    def list(self, value: Sequence[Any], default: Any, name: str) -> list[Any]:
        of = default if isinstance(default, (list, tuple)) and default else [None]
        taken = _taken(self.configuration, name)
        whole = taken == [0] and isinstance(taken[0], int)
        fitted = []
        for index, item in enumerate(value):
            below = f"{name}{SEPARATOR}{index}"
            own, nullable = (None, False)
            if of != [None]:
                own, nullable = self.kind(of[min(index, len(of) - 1)], below)
            if isinstance(own, int) and not isinstance(own, bool) and not whole:
                own = float(own)  # delays of 150 and 2000 ms do not say that there is none of 22.5
            fitted.append(self.value(item, own, below, nullable=nullable))
        return fitted

    def text(self, text: str, default: Any, name: str, nullable: bool) -> Any:
        plain, given = isinstance(text, _Plain), isinstance(text, _Given)
        null = nullable and (plain or given) and (text == "" or text.lower() in NULLS)
        if null or (plain and text in YAML_NULLS):
            return None
        if isinstance(default, (bool, int, float)):
            return _from_word(text, default, name)
        inner = _flow(text) if given and not isinstance(default, str) else str(text)
        if not isinstance(inner, str):
            if given and _holds_component(inner):
                _refuse_component(name, text)
            return self.value(inner, default, name, nullable=nullable)
        if isinstance(default, (list, tuple, Mapping)):
            _mistaken(name, default, text)
        found = _plain_value(text) if default is None and (plain or given) else inner
        return with_home(found) if isinstance(found, str) else found


def _from_word(text: str, default: bool | float, name: str) -> bool | float:
    if isinstance(default, bool):
        if text.lower() not in (*TRUE, *FALSE):
            _mistaken(name, default, text)
        return text.lower() in TRUE
    number = _number(text)
    if number is None:
        _mistaken(name, default, text)
    return _checked_number(number, default, name, text)


def says_kind(value: Any) -> bool:
    """Say whether a value of a configuration shows what its key takes: it is plain, and not null."""
    return isinstance(value, (str, bool, int, float)) and not _is_code(value)


def _is_code(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(CODE)


def _is_component(value: Any) -> bool:
    return isinstance(value, Mapping) and "_target_" in value


def _holds_component(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "_target_" in value or any(map(_holds_component, value.values()))
    return isinstance(value, list) and any(map(_holds_component, value))


def _refuse_component(name: str, given: object) -> NoReturn:
    raise InputError(
        f"{name} got a component, {given!r}: those run code, which a command line never does. Remedy: write "
        "it into an overlay, and give that as --variant"
    )


def _flow(text: str) -> Any:
    """Return the list or mapping that a text is, the text itself when it is none."""
    try:
        found = yaml.load(text, _AsWritten)  # noqa: S506  (a SafeLoader)
    except (yaml.YAMLError, RecursionError):
        return text
    return found if isinstance(found, (list, dict)) else text


def _plain_value(text: str) -> Any:
    """Return what a plain scalar is where nothing else says it: as in YAML, and 1e-4 is a number."""
    if text.lower() in (*TRUE, *FALSE):
        return text.lower() in TRUE
    if re.fullmatch(r"[-+]?0\d.*", text):  # an identifier, as 007
        return str(text)
    number = _number(text)
    return str(text) if number is None else number


def _number(text: str) -> int | float | None:
    text = text.strip()
    if not NUMBER.fullmatch(text):
        return None
    try:
        return int(text) if re.fullmatch(r"[-+]?[\d_]+", text) else float(text)
    except ValueError:
        return None


def _checked_number(number: float, default: Any, name: str, given: object) -> int | float:
    if not math.isfinite(number):
        raise InputError(f"{name} takes a finite number, got {given}")
    if isinstance(default, int) and not isinstance(default, bool):
        if number != int(number):
            _mistaken(name, default, given)
        return int(number)
    return number


def _mistaken(name: str, default: Any, given: object) -> NoReturn:
    raise InputError(f"{name} takes {_kind(default)}, got {given!r}")


def _kind(default: Any) -> str:
    if isinstance(default, Mapping):
        return "a component (an overlay gives it)" if "_target_" in default else "keys with values"
    if isinstance(default, (list, tuple)):
        return f"a list such as {list(default)}"
    if isinstance(default, bool):
        return "true or false"
    names = ((str, "text"), (int, "a whole number"), (float, "a number"))
    return next((words for kind, words in names if isinstance(default, kind)), "a value")


def _what(value: object) -> str:
    return "a list" if isinstance(value, list) else f"the text {str(value)[:40]!r}"


def require_numbers(parameters: Mapping[str, Any]) -> None:
    """Refuse numbers that YAML 1.1 has read as text, by their key, before an optimizer stumbles over them.

    Parameters
    ----------
    parameters
        Values by key, nested, as MONAI has read them; ``medrestore train`` reads 1e-4 as a number.

    Raises
    ------
    InputError
        For text that is a number with an exponent.
    """
    for key, value in parameters.items():
        if isinstance(value, Mapping):
            require_numbers({f"{key}{SEPARATOR}{name}": item for name, item in value.items()})
        elif isinstance(value, (list, tuple)):
            require_numbers({f"{key}{SEPARATOR}{index}": item for index, item in enumerate(value)})
        elif isinstance(value, str) and NUMBER.fullmatch(value) and "e" in value.lower():
            number = repr(float(value)) if "e" not in repr(float(value)) else f"{float(value):.1e}"
            raise InputError(
                f"{key} takes a number, got the text {value!r}: to YAML 1.1 a number with an exponent has a "
                f"point and a sign. Remedy: write {number}, or use medrestore train, which reads {value}"
            )


def require_parameters(parameters: Mapping[str, Any]) -> None:
    """Refuse ``parameters`` read as text, and those that MONAI's own command line names in vain.

    ``python -m monai.bundle run --seed 1`` would set a new key ``seed``, which nothing reads.

    Parameters
    ----------
    parameters
        Values by key, nested, as MONAI has read them.

    Raises
    ------
    InputError
        As :func:`require_numbers`; for a key of ``parameters`` that is an argument of MONAI's command line,
        or in a file that it names, without ``parameters::``.
    """
    require_numbers(parameters)
    if getattr(sys.modules["__main__"].__spec__, "name", None) != "monai.bundle.__main__":
        return
    words = [word for argument in sys.argv for word in argument.split("=", 1)]
    given = [word.removeprefix("--") for word in words if word.startswith("--")]
    from monai.bundle import ConfigParser

    for name, files in itertools.pairwise(words):
        if name.startswith("--") and name[2:] in ("args_file", "config_file"):
            given += ConfigParser.load_config_files(yaml.safe_load(files))
    if alone := [name for name in dict.fromkeys(given) if name in parameters]:
        whole = ", ".join(f"{PARAMETERS}{SEPARATOR}{name}" for name in alone)
        raise InputError(
            f"{', '.join(alone)} would change nothing: python -m monai.bundle takes a number by its whole "
            f"name. Remedy: write {whole}, or use medrestore train"
        )


def as_literal(value: Any) -> Any:
    r"""Return a value as MONAI's parser must be given it to be taken as it stands.

    MONAI evaluates text that begins with ``$``, ``@`` or ``%`` and turns every ``#`` into ``::``. Such text
    becomes an expression that yields it and holds none of these characters itself.

    >>> as_literal("PET 3"), as_literal("PET #3"), as_literal(["$x", 1])
    ('PET 3', "$'PET \\x233'", ["$'\\x24x'", 1])
    """
    if isinstance(value, str):
        return _expression(value) if SPECIAL.search(value) else str(value)
    if isinstance(value, Mapping):
        if any(SPECIAL.search(str(key)) or SEPARATOR in str(key) for key in value):
            return _expression(value)
        return {key: as_literal(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_literal(item) for item in value]
    return value


def _expression(value: Any) -> str:
    return "$" + SPECIAL.sub(lambda found: f"\\x{ord(found[0]):02x}", ascii(value))
