"""A results folder that was moved or copied: its store must write beside itself, not to the old place."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["ARTIFACTS", "follow_moved_store"]

ARTIFACTS = "mlartifacts"
"""Folder beside an sqlite store that holds its artifacts."""

COLUMNS = (("experiments", "artifact_location"), ("runs", "artifact_uri"))
"""Where MLflow keeps absolute places of artifacts."""


def follow_moved_store(file: Path) -> None:
    """Let the artifacts of an sqlite store lie beside its file again after its folder was moved or copied.

    MLflow writes absolute places into the store when an experiment or a run is made, and would go on writing
    to the old place. Places that somebody else has chosen stay.

    Parameters
    ----------
    file
        The store; nothing is done when it is not there, or cannot be written.
    """
    if not file.is_file():
        return
    here = file.parent / ARTIFACTS
    try:
        with closing(sqlite3.connect(file, timeout=5)) as connection, connection:
            for table, column in COLUMNS:
                rows = connection.execute(f"SELECT rowid, {column} FROM {table}").fetchall()  # noqa: S608
                for key, place in rows:
                    base, rest = _split(place)
                    if base is not None and (_moved(base, here) or _copied(connection, base, here, file)):
                        new = here.as_uri() + rest
                        connection.execute(
                            f"UPDATE {table} SET {column} = ? WHERE rowid = ?",  # noqa: S608
                            (new, key),
                        )
    except sqlite3.Error:
        return  # no store of MLflow, or one that cannot be written: whoever writes to it is told


def _split(place: str | None) -> tuple[Path | None, str]:
    """Return the folder ``mlartifacts`` of a place on this machine and what follows; else None."""
    if not place or not place.startswith(("file:", "/")):
        return None, ""
    head, found, rest = place.rpartition(f"/{ARTIFACTS}")
    if not found or (rest and not rest.startswith("/")):
        return None, ""
    return Path(unquote(urlsplit(head).path)) / ARTIFACTS, rest


def _moved(base: Path, here: Path) -> bool:
    """Say whether artifacts that lay in ``base`` were moved or copied to ``here`` with the store."""
    if base == here or (base.exists() and here.exists() and base.samefile(here)):
        return False
    return here.exists() or not base.exists()


def _copied(connection: sqlite3.Connection, base: Path, here: Path, file: Path) -> bool:
    """Say whether the store was copied without its artifacts: those in ``base`` are the other store's."""
    other = base.parent / file.name
    if base == here or not other.is_file() or other.samefile(file):
        return False
    with closing(sqlite3.connect(f"{other.as_uri()}?mode=ro", uri=True, timeout=5)) as original:
        return not _experiments(connection).isdisjoint(_experiments(original))


def _experiments(connection: sqlite3.Connection) -> set[tuple[int, int]]:
    return set(connection.execute("SELECT experiment_id, creation_time FROM experiments"))
