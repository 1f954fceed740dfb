"""Options that several commands share, those of kinds of image among them; and commands that only declare."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated, Any

import typer

from medrestore.checks import InputError, counted
from medrestore.files import with_home

__all__ = [
    "EvaluatedSplit",
    "Manifest",
    "Methods",
    "Observers",
    "OutputFolder",
    "Samples",
    "Seed",
    "Task",
    "Workers",
    "done_by",
    "folders_of",
    "home_in_word",
    "named_numbers",
    "named_pairs",
    "report_problems",
]

Seed = Annotated[int, typer.Option(help="Names every random stream: the same seed gives the same bytes.")]
OutputFolder = Annotated[
    Path,
    typer.Option(
        help="A new folder, or one of an interrupted run with the same settings, which is continued; a run "
        "that was refused before it had results is mended and called again."
    ),
]
Manifest = Annotated[Path, typer.Argument(help="The manifest, a CSV table.")]
Methods = Annotated[
    list[str] | None,
    typer.Option("--method", help="NAME=FOLDER of restored images (NAME_OF_IMAGE_restored); repeat."),
]
Task = Annotated[Path | None, typer.Option(help="model.pt whose network T judges the images.")]
Observers = Annotated[
    list[Path] | None,
    typer.Option("--observer", help="model.pt of an independent observer; repeat for several."),
]
EvaluatedSplit = Annotated[str, typer.Option(help="Rows of this split are evaluated.")]
Samples = Annotated[
    int | None,
    typer.Option(help="Keep dropout on, draw so many restorations, write their mean and standard deviation."),
]
Workers = Annotated[int | None, typer.Option(help="Processes; all cores when not given.")]


def done_by(
    place: str, says: str = "", **changes: Callable[[Any], Any]
) -> Callable[[Callable[..., None]], Callable[..., Any]]:
    """Return what makes a command of a function that only declares: another one, imported late, does it.

    Parameters
    ----------
    place
        Of the function that does it, seen from the package of the declaration: it takes the options by name.
        What is None is not given to it.
    says
        Is printed at the end: ``{0}`` is what was returned, ``{output}`` that option.
    changes
        What is made of an option, by its name.
    """

    def decorate(declared: Callable[..., None]) -> Callable[..., Any]:
        @wraps(declared)
        def call(**options: Any) -> Any:
            function = resolve_name(f"{declared.__module__.rpartition('.')[0]}.{place}")
            changed = {name: changes[name](options[name]) for name in changes}
            result = function(
                **{name: value for name, value in {**options, **changed}.items() if value is not None}
            )
            if says:
                typer.echo(says.format(result, **options))
            return result

        return call

    return decorate


def folders_of(methods: list[str] | None) -> dict[str, Path]:
    """Return the folder of each method of ``--method`` NAME=FOLDER."""
    return {name: Path(folder) for name, folder in named_pairs("method", methods or []).items()}


def named_pairs(option: str, items: list[str]) -> dict[str, str]:
    """Turn NAME=VALUE items of an option into a mapping."""
    pairs: dict[str, str] = {}
    for item in items:
        name, joined, value = item.partition("=")
        if not joined:
            raise InputError(f"--{option} expects NAME=VALUE, got {item!r}")
        if name in pairs:
            raise InputError(
                f"--{option} {name!r} is given twice, as {pairs[name]!r} and {value!r}. Remedy: give one of "
                "them, or another name"
            )
        pairs[name] = value
    return pairs


def named_numbers(option: str, items: list[str]) -> dict[str, float]:
    """Turn NAME=NUMBER items of an option into a mapping."""
    numbers = {}
    for name, value in named_pairs(option, items).items():
        try:
            numbers[name] = float(value)
        except ValueError:
            numbers[name] = math.nan
        if not math.isfinite(numbers[name]):
            raise InputError(f"--{option} expects NAME=NUMBER, got {f'{name}={value}'!r}")
    return numbers


def report_problems(file: Path, problems: Sequence[object]) -> None:
    """Print the faults of a file and how many they are; end with code 1 when there is one."""
    for problem in problems:
        typer.echo(str(problem))
    typer.echo(f"{file}: {counted(len(problems), 'problem')}")
    if problems:
        raise typer.Exit(1)


def home_in_word(word: str) -> str:
    """Return a word of a command line with the home folder written out, behind ``--option=`` too.

    >>> home_in_word("~scan.nii.gz"), home_in_word("--input=./~/scan.nii.gz")
    ('~scan.nii.gz', '--input=./~/scan.nii.gz')
    """
    head = re.match(r"-{0,2}[\w.-]+=(?=~)", word)
    begin = head.end() if head else 0
    return word[:begin] + with_home(word[begin:])
