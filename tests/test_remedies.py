"""Messages name options that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import typer
import yaml

import medrestore
from medrestore.cli import app

PACKAGE = Path(medrestore.__file__).parent
BUNDLES = PACKAGE.parent / "bundles"
OPTION = re.compile(r"(?<![\w-])--([a-z][a-z0-9_-]*[a-z0-9])")
OTHERS = {
    *("tile", "pyramid"),  # vips tiffsave
    *("backend-store-uri", "tracking"),  # mlflow ui, monai.bundle run
    *("porcelain", "untracked-files", "error-unmatch"),  # git
    "key",  # any: of a placeholder
    "help",
}
"""Options of other programs, and of every command."""
NO_MESSAGES = ("study/page/build_hook.py", "evaluation/pages/page.py")
"""Files whose strings are a style sheet, or call a packager."""
OF_SLIDES = ("slide-microns-per-pixel", "override-microns-per-pixel")
"""Named by whatever reads slides, so these commands have all of them."""


def commands() -> dict[str, set[str]]:
    """Return the options of every command, by its words."""
    found: dict[str, set[str]] = {}

    def walk(command: object, words: str) -> None:
        for name, below in getattr(command, "commands", {}).items():
            walk(below, f"{words} {name}".strip())
        names = {
            option.removeprefix("--")
            for parameter in getattr(command, "params", [])
            for option in (*parameter.opts, *parameter.secondary_opts)
            if option.startswith("--")
        }
        found[words] = names

    walk(typer.main.get_command(app), "")
    return found


def keys() -> set[str]:
    """Return the keys of all bundles, which ``train`` and ``monai.bundle run`` take as options."""
    return {
        key
        for file in BUNDLES.glob("*/configs/*.yaml")
        for key in yaml.safe_load(file.read_text(encoding="utf-8"))
    }


def said() -> Iterator[tuple[str, str]]:
    """Yield the options in all strings of the package but docstrings, with where they stand."""
    for file in sorted(PACKAGE.rglob("*.py")):
        if file.relative_to(PACKAGE).as_posix() in NO_MESSAGES:
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                for option in OPTION.findall(node.value):
                    yield option, f"{file.relative_to(PACKAGE)}:{node.lineno}"


def test_options_that_messages_name_exist():
    known = set.union(*commands().values(), keys(), OTHERS)
    missing = [f"--{option} in {place}" for option, place in said() if option not in known]
    assert missing == []


def test_remedies_of_slides_exist_in_every_command_that_reads_slides():
    options = commands()
    for name in ("histology tiles", "restore", "histology reduce"):
        assert set(OF_SLIDES) <= options[name]
    # What tells of tiles is said by the command that cuts them.
    told = {
        option
        for option, place in said()
        if place.startswith(("domains/histology/slides/tiles", "domains/histology/slides/slide_"))
    }
    assert told <= options["histology tiles"]
