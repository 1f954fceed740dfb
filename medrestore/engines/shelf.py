"""Where bundles lie, in a checkout and in an installed package, and what each offers."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from medrestore.checks import InputError
from medrestore.data.texts import read_json_object, read_text
from medrestore.engines.values import PARAMETERS

__all__ = ["BundleContents", "bundle_contents", "bundles_on_shelf", "find_bundle", "guides"]

PACKAGE = Path(__file__).parents[1]
SHELVES = (PACKAGE / "_share", PACKAGE.parent)
"""Folders that hold ``bundles`` and ``docs``: of an installed package, of a checkout."""

METADATA = Path("configs", "metadata.json")

SECTION = re.compile(r"# -{8,} (?P<title>.+)")
SETTING = re.compile(r"(?P<key>\w+): +(?P<value>[^\s#].*)")
MONAI_KEYS = ("network_def", "initialize", "run", "finalize")
"""Keys by which MONAI finds its way; nobody sets them."""


@dataclass(frozen=True)
class BundleContents:
    """What a bundle offers.

    Parameters
    ----------
    path
        Its folder.
    title, version
        As its metadata say.
    overlays
        What each changes, by name.
    settings
        Of each configuration, the lines of its keys that have a value, on the top level and in
        ``parameters``: ``key: default  # comment``, and the titles of its sections.
    """

    path: Path
    title: str
    version: str
    overlays: dict[str, str]
    settings: dict[str, list[str]]


def bundles_on_shelf() -> list[Path]:
    """Return the folders of the bundles that ship with the package, by name; each name once."""
    found: dict[str, Path] = {}
    for shelf in SHELVES:
        for metadata in (shelf / "bundles").glob(f"*/{METADATA.as_posix()}"):
            found.setdefault(metadata.parents[1].name, metadata.parents[1])
    return [found[name] for name in sorted(found)]


def guides() -> Path | None:
    """Return the folder of the user guides, where they are at hand."""
    return next((shelf / "docs" for shelf in SHELVES if (shelf / "docs" / "notation.md").is_file()), None)


def find_bundle(name: str | os.PathLike[str]) -> Path:
    """Return the folder of a bundle: a path, or the name of one that ships with the package.

    Raises
    ------
    InputError
        When neither is there; lists the names that are.
    """
    for folder in (Path(name), *(shelf / "bundles" / name for shelf in SHELVES)):
        if (folder / METADATA).is_file():
            return folder
    known = ", ".join(path.name for path in bundles_on_shelf())
    raise InputError(f"{name}: is no bundle (no {METADATA} in it). Bundles that ship: {known}")


def bundle_contents(name: str | os.PathLike[str]) -> BundleContents:
    """Read what a bundle offers.

    Parameters
    ----------
    name
        As :func:`find_bundle` takes it.

    Raises
    ------
    InputError
        For no bundle, or one whose files cannot be read.
    """
    folder = find_bundle(name).absolute()
    metadata = read_json_object(folder / METADATA)
    return BundleContents(
        path=folder,
        title=str(metadata.get("name", "")),
        version=str(metadata.get("version", "")),
        overlays={
            path.stem: _first_sentence(read_text(path)) for path in sorted(folder.glob("variants/*.yaml"))
        },
        settings={
            path.stem: _settings(read_text(path))
            for path in sorted(folder.glob("configs/*.yaml"), reverse=True)
        },
    )


def _first_sentence(text: str) -> str:
    """Return the first sentence of the comment at the top of a YAML file."""
    words = []
    for line in text.splitlines():
        if not re.match(r"# \S", line):  # the comment has ended, or a command stands in it
            break
        words.append(line[2:].rstrip())
    return re.split(r"(?<=\.) ", " ".join(words), maxsplit=1)[0].rstrip(".:")


def _settings(text: str) -> list[str]:
    kept: list[str] = []
    title = ""
    indent = ""
    for written in text.splitlines():
        if re.match(r"\w", written):
            indent = "  " if written.startswith(f"{PARAMETERS}:") else ""
        line = written.removeprefix(indent)
        section, setting = SECTION.fullmatch(line), SETTING.fullmatch(line)
        if section:
            title = section["title"]
        elif setting and setting["key"] not in MONAI_KEYS and "_target_" not in setting["value"]:
            if title:
                kept.append(f"# {title}")
                title = ""
            kept.append(line)
    return kept
