"""Files that are whole or not there: written beside their place, flushed, then renamed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medrestore.checks import InputError, no_room

__all__ = ["atomic_path", "require_empty_folder", "sha256_file"]


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path in the folder of ``path``; rename it to ``path`` when the block ends well.

    The temporary file keeps the suffixes of ``path`` (writers choose their format by them) and is flushed to
    disk before the rename, so a killed process or a full disk leaves the file that was there before.

    Raises
    ------
    InputError
        When the disk is full, a quota used up or the file too large; names the file and what is kept.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".partial-{os.getpid()}-{final.name}")
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(final)
    except OSError as error:
        if reason := no_room(error):
            kept = "the file from before is kept" if final.exists() else "nothing was written"
            raise InputError(f"{final}: {reason}; {kept}. Remedy: free some space and run again") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with Path(path).open("rb") as stream:
        digest = hashlib.sha256()
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def require_empty_folder(path: str | os.PathLike[str], *, belongs: str, marker: str = "") -> Path:
    """Return the folder, made if need be; refuse one that holds other things than a run that left ``marker``.

    Raises
    ------
    InputError
        When the folder holds files and none of them is ``marker``.
    """
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file, expected a folder for {belongs}")
    if folder.is_dir() and any(folder.iterdir()) and not (marker and (folder / marker).exists()):
        raise InputError(
            f"{folder}: holds other files and no {belongs}; nothing is overwritten. "
            "Remedy: name an empty or new folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder
