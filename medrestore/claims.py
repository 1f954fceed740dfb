"""Folders that are claimed for the settings of what is in them.

A claim is a record of the settings in the folder. It is continued with the same settings alone, and given up
when nothing came of it: what was refused is mended and called again.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from medrestore.checks import fail, one_line
from medrestore.files import (
    LOCK,
    holds_files,
    only_process,
    require_empty_folder,
    require_folder,
    write_json,
)

__all__ = ["Claim", "any_record", "claimed", "differing_settings"]

MOST_NAMED = 5
"""Settings that differ which a message names."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_LONGEST = 40
"""Characters up to which a message shows a value."""


@dataclass(frozen=True)
class Claim:
    """A folder that is this run's.

    Parameters
    ----------
    folder
        The folder.
    settings
        All that its content depends on, as JSON gives it back.
    record
        File in it that holds the settings.
    facts
        What the record held beside the settings when the block was entered.
    finished
        Whether all there is to do is done.
    """

    folder: Path
    settings: Mapping[str, Any]
    record: Path
    facts: Mapping[str, Any] = field(default_factory=dict)
    finished: bool = False

    @property
    def fingerprint(self) -> str:
        """Checksum that tells these settings from others."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()

    def note(self, facts: Mapping[str, Any]) -> None:
        """Write the record anew, with facts beside the settings."""
        write_json(self.record, {**facts, **self.settings})


@contextmanager
def claimed(
    path: str | PathLike[str],
    settings: Mapping[str, Any],
    *,
    record: str,
    belongs: str,
    other: str,
    has_results: Callable[[Path], bool],
    is_finished: Callable[[Mapping[str, Any]], bool] = lambda _: False,
    remains: Sequence[str] = (),
    facts: Mapping[str, Any] | None = None,
    mode: int = 0o777,
) -> Iterator[Claim]:
    """Keep a folder for one run with these settings while the block works in it.

    Parameters
    ----------
    path
        Of the folder: new, empty, or of an earlier run.
    settings
        All that its content depends on; what JSON can hold.
    record
        File in the folder that holds the settings.
    belongs
        What the folder is for: ``evaluation``.
    other
        What a folder of other settings holds: ``another evaluation``.
    has_results
        Says whether anything in the folder depends on the settings of its record and is worth keeping.
        Without it the claim is none: what was refused is mended and called again.
    is_finished
        Says of a record whether all is done. Nothing is locked or written then.
    remains
        Files and folders that a run without results may have left: removed when other settings follow.
    facts
        What the record of a new claim holds beside the settings.
    mode
        Of the record's own folder.

    Raises
    ------
    InputError
        When the folder is a file, holds other files or results of other settings (names what differs), has a
        record that cannot be read, or another process works in it.
    """
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    folder = require_folder(path, belongs=belongs)
    file = folder / record

    def look() -> tuple[Mapping[str, Any], bool]:
        """Return the record that is there, none where there is none, and whether it is of these settings."""
        if not file.exists():
            require_empty_folder(folder, belongs=belongs, make=False)
            return {}, False
        found = _read_record(file)
        same = all(key in found and found[key] == value for key, value in plain.items())
        # Without the keys of a record it is somebody's file of the same name.
        if not same and (not found.keys() >= plain.keys() or has_results(folder)):
            fail(
                f"holds {other} ({differing_settings(found, plain)}); nothing is overwritten",
                path=folder,
                remedy="give the settings that it was begun with to continue it, or name a new folder",
            )
        return found, same

    made = not folder.exists()
    found, same = look()
    if same and is_finished(found) and has_results(folder):
        yield Claim(folder, plain, file, _beside(found, plain), finished=True)
        return
    folder.mkdir(parents=True, exist_ok=True)
    with only_process(folder, work=belongs):
        found, same = look()  # another process may have come first
        if found and not same:
            for name in remains:
                _remove(folder / name)
        claim = Claim(folder, plain, file, _beside(found, plain) if same else dict(facts or {}))
        file.parent.mkdir(mode=mode, parents=True, exist_ok=True)
        if not same:
            claim.note(claim.facts)
        try:
            yield claim
        except BaseException:
            _give_up(claim, has_results, whole=made)
            raise


def any_record(folder: Path, pattern: str, says: Callable[[Any], object]) -> bool:
    """Return whether a JSON file in a folder says something; one that is damaged says nothing.

    Parameters
    ----------
    folder
        It need not be there.
    pattern
        Of the files, below the folder.
    says
        Called with the content of each.
    """
    for path in folder.glob(pattern):
        try:
            if says(json.loads(path.read_text(encoding="utf-8"))):
                return True
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    return False


def _give_up(claim: Claim, has_results: Callable[[Path], bool], *, whole: bool) -> None:
    """Take a claim back of which nothing came; where other files are left it stays: they have an owner."""
    if has_results(claim.folder) or holds_files(claim.folder, but=[claim.record.name]):
        return
    claim.record.unlink(missing_ok=True)
    for path in sorted(claim.folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            with suppress(OSError):
                path.rmdir()
    if whole:
        _remove(claim.folder / LOCK)
        with suppress(OSError):
            claim.folder.rmdir()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _beside(record: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in settings}


def _read_record(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        fail(f"is not readable JSON ({one_line(error)})", path=path, remedy="name a new folder")
    return found if isinstance(found, dict) else {}


def differing_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say which settings differ, the old ones first; what a record holds beside settings is none.

    >>> differing_settings({"seed": 0, "scan": {"angles": 80}}, {"seed": 1, "scan": {"angles": 40}})
    'seed 0 -> 1, scan.angles 80 -> 40'
    >>> differing_settings({"methods": {"gan": "0f" * 32}}, {"methods": {"l1": "1e" * 32}})
    'methods.l1 is new, methods.gan is gone'
    """
    found = _differences(before, now)
    more = f", and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    return ", ".join(found[:MOST_NAMED]) + more


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], *, of: str = "") -> list[str]:
    found = []
    for key in [*now, *(key for key in before if of and key not in now)]:
        name, held = f"{of}{key}", [side[key] for side in (before, now) if key in side]
        if len(held) == 2 and held[0] == held[1]:
            continue
        if len(held) == 2 and all(isinstance(value, dict) for value in held):
            found += _differences(*held, of=f"{name}.")
            continue
        old, new = (_text(side[key]) if key in side else "none" for side in (before, now))
        if old and new:
            found.append(f"{name} {old} -> {new}")
        else:
            found.append(
                f"{name} " + ("changed" if len(held) == 2 else "is new" if key in now else "is gone")
            )
    return found


def _text(value: object) -> str:
    """Return a value as messages show it; nothing when it is too long or a checksum."""
    text = value if isinstance(value, str) else json.dumps(value)
    return "" if len(text) > _LONGEST or _DIGEST.fullmatch(text) else text or "''"
