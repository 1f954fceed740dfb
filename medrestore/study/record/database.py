"""The file of the record of reads: how it is made and opened."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from medrestore.checks import fail
from medrestore.study.record.chain import SCHEMA

__all__ = ["connect_to_read", "connect_to_write", "damage_of", "file_identity"]

BUSY_S = 10.0
"""How long a connection waits for another one (a program that looks at the file)."""


def connect_to_write(path: Path) -> sqlite3.Connection:
    """Open the file with a write-ahead log that is flushed at every commit; make it when there is none.

    Raises
    ------
    InputError
        When the disk takes no write-ahead log.
    """
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        if connection.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            fail("this disk takes no write-ahead log", path=path, remedy="put the study on a local disk")
        # fullfsync: on macOS a plain fsync leaves the data in the drive's cache.
        connection.executescript(
            "PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON;" + SCHEMA
        )
        _flush_folder(path.parent)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_to_read(path: Path) -> sqlite3.Connection | None:
    """Open the file to look at it, beside a writer if there is one; None when nothing was ever written."""
    if not path.exists() or path.stat().st_size == 0:
        return None
    address = f"{path.resolve().as_uri()}?mode=ro"
    try:
        return _look(address)
    except sqlite3.OperationalError:
        if path.with_name(f"{path.name}-wal").exists():
            raise
        # On a medium that cannot be written, SQLite needs to be told that nobody else writes either.
        return _look(f"{address}&immutable=1")


def _look(address: str) -> sqlite3.Connection | None:
    connection = sqlite3.connect(address, uri=True, timeout=BUSY_S, check_same_thread=False)
    try:
        made = connection.execute("SELECT name FROM sqlite_master WHERE name = 'reads'").fetchone()
    except BaseException:
        connection.close()
        raise
    if made is None:
        connection.close()
        return None
    return connection


def damage_of(connection: sqlite3.Connection) -> list[str]:
    """Return what SQLite finds wrong with its file; nothing when it is whole."""
    try:
        found = [text for (text,) in connection.execute("PRAGMA integrity_check")]
    except sqlite3.Error as error:
        found = [str(error)]
    return [f"the file of reads is damaged: {text}" for text in found if text != "ok"]


def file_identity(path: Path) -> tuple[int, int]:
    """Return what tells this very file from another one that was put in its place."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _flush_folder(folder: Path) -> None:
    """Flush a folder's entries: without it a new file's name may be lost with the power."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
