"""Files that are whole or not there (written beside their place, flushed, renamed), and folders for them."""

from __future__ import annotations

import errno
import getpass
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from medrestore.checks import OutputError, fail, no_room, one_line

__all__ = [
    "LONGEST_NAME",
    "atomic_path",
    "beside",
    "holds_files",
    "is_file",
    "name_the_nameless",
    "only_process",
    "require_empty_folder",
    "require_file",
    "require_file_place",
    "require_folder",
    "require_short_name",
    "sha256_file",
    "with_home",
    "write_json",
]

LONGEST_NAME = 255
"""Bytes of a file's name that every common file system takes."""

NO_HOME = os.devnull
"""Home of a user who has none: nothing can be written below it."""

LOCK = ".lock"
"""File in a folder that one process at a time works in; what it holds means nothing."""

WITHOUT_LOCKS = (
    *(errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP),  # file systems that know no locks
    *(errno.EACCES, errno.EPERM, errno.EROFS),  # nobody can write there: there is nothing to keep apart
)

NOTHING = (".partial-*", LOCK, ".DS_Store", "._*", "Thumbs.db", "desktop.ini")
"""Patterns of files that are nobody's work: of killed writes, locks, and what file browsers leave."""


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path in the folder of ``path``; rename it to ``path`` when the block ends well.

    The temporary file keeps the suffixes of ``path`` (writers choose their format by them) and is flushed to
    disk before the rename, so a killed process or a full disk leaves the file that was there before.

    Raises
    ------
    InputError
        When no file can be of that name or in that place.
    OutputError
        When the disk is full, a quota used up or the file too large; names the file and what is kept.
    """
    final = require_file_place(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    # Absolute: pandas and nibabel take the first folder of ~name/table.csv for the home of a user.
    temporary = beside(final.absolute(), f".partial-{os.getpid()}-")
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(final)
    except OSError as error:
        if reason := no_room(error):
            kept = "the file from before is kept" if final.exists() else "nothing was written"
            raise OutputError(f"{final}: {reason}; {kept}. Remedy: free some space and run again") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def require_file_place(path: str | os.PathLike[str]) -> Path:
    """Return a path that is a file or can become one.

    Raises
    ------
    InputError
        When it is a folder, what it would lie in is a file, or the name is longer than a file's can be.
    """
    final = Path(path)
    require_short_name(final)
    require_folder(final.parent, belongs=final.name)
    if final.is_dir():
        fail("is a folder, expected a file to write", path=final, remedy="name a file in it")
    return final


def beside(path: Path, prefix: str, suffix: str = "") -> Path:
    """Name a temporary companion of a file: prefix, its name and suffix; a digest for a name too long for it.

    >>> beside(Path("out/scan.nii.gz"), ".partial-7-").name
    '.partial-7-scan.nii.gz'
    """
    name = f"{prefix}{path.name}{suffix}"
    if len(os.fsencode(name)) > LONGEST_NAME:
        digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:32]
        ending = ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix
        name = f"{prefix}{digest}{ending}{suffix}"
    return path.with_name(name)


def require_short_name(path: Path) -> None:
    """Require that a file's name is not longer than file systems take.

    Raises
    ------
    InputError
        When it is; says by how much.
    """
    length = len(os.fsencode(path.name))
    if length > LONGEST_NAME:
        fail(
            f"the name of this file would have {length} bytes, it can have {LONGEST_NAME}",
            path=path,
            remedy=f"give what it is named after a name that is {length - LONGEST_NAME} bytes shorter",
        )


def require_file(path: str | os.PathLike[str], *, expected: str = "") -> Path:
    """Return the path of a file that is there to be read.

    Raises
    ------
    InputError
        When there is nothing, a link that leads nowhere, a folder or a device, or the system refuses to look.
    """
    path = Path(path)
    found = ""
    try:
        if not path.is_file():
            found = (
                "is a folder"
                if path.is_dir()
                else "is neither a file nor a folder"
                if path.exists()
                else "is a link to a file that is not there"
                if path.is_symlink()
                else "no such file"
            )
    except OSError as error:
        found = f"cannot be read ({error.strerror or one_line(error)})"
    if found:
        fail(f"{found}, expected {expected}" if expected else found, path=path)
    return path


def is_file(path: str | os.PathLike[str]) -> bool:
    """Return whether there is a file that can be looked at; what is below a closed folder cannot."""
    try:
        return Path(path).is_file()
    except OSError:
        return False


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal.

    Raises
    ------
    InputError
        When there is no such file, or the system refuses to read it.
    """
    path = require_file(path)
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
    except OSError as error:
        fail(f"cannot be read ({error.strerror or one_line(error)})", path=path)
    return digest.hexdigest()


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all, the same bytes for the same content."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def require_folder(path: str | os.PathLike[str], *, belongs: str) -> Path:
    """Return a path that is a folder or can become one.

    Parameters
    ----------
    path
        Of the folder.
    belongs
        What it is for.

    Raises
    ------
    InputError
        When it, or what it would lie in, is a file or cannot be reached, or is a home that nobody wrote out.
    """
    folder = Path(path)
    if folder.parts[:1] == ("~",):
        fail(
            "begins with ~, which a shell writes out at the beginning of a word alone",
            path=folder,
            remedy="write the home folder out; of a folder of that name give the absolute path",
        )
    place, found = folder, ""
    try:
        while not place.exists() and not place.is_symlink():
            place = place.parent
        if not place.is_dir():
            found = "is a file" if place.exists() else "is a link that leads nowhere"
    except OSError as error:
        found = f"cannot be reached ({error.strerror or one_line(error)})"
    if found:
        fail(f"{found}, expected a folder for {belongs}", path=place, remedy="name a new folder")
    return folder


def require_empty_folder(
    path: str | os.PathLike[str],
    *,
    belongs: str,
    marker: str = "",
    tolerated: Sequence[str] = (),
    make: bool = True,
) -> Path:
    """Return the folder; refuse one that holds other things than a run that left ``marker``.

    Parameters
    ----------
    path
        Of the folder. Folders in it that hold no file count as nothing.
    belongs
        What it is for.
    marker
        File or folder in it by which a folder of this kind is known.
    tolerated
        Patterns of further names that do not count.
    make
        Whether to make a folder that is not there.

    Raises
    ------
    InputError
        When it is a file, or holds files and none of them is ``marker``.
    """
    folder = require_folder(path, belongs=belongs)
    if not (marker and (folder / marker).exists()) and holds_files(folder, but=tolerated):
        fail(
            f"holds other files and no {belongs}; nothing is overwritten",
            path=folder,
            remedy="name an empty or new folder",
        )
    if make:
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def holds_files(folder: Path, *, but: Sequence[str] = ()) -> bool:
    """Return whether there is a file in a folder or below it, but those of these patterns and nobody's.

    Parameters
    ----------
    folder
        It need not be there.
    but
        Patterns of names.
    """
    patterns = (*NOTHING, *but)
    return any(
        not any(fnmatchcase(path.name, pattern) for pattern in patterns)
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    )


@contextmanager
def only_process(path: str | os.PathLike[str], *, work: str, wait: bool = False) -> Iterator[None]:
    """Hold a folder, made if need be, for this process alone while the block runs.

    The operating system lets go of it when the process ends, however that comes about.

    Parameters
    ----------
    path
        The folder; while it is held it has the file ``.lock``.
    work
        What is done in it: ``training``.
    wait
        For the end of another process that holds it.

    Raises
    ------
    InputError
        When another process holds it and is not waited for.
    """
    from filelock import FileLock, Timeout

    folder = require_folder(path, belongs=work)
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / LOCK
    while True:
        lock = FileLock(place)
        try:
            lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            fail(
                f"another process is at work on this {work}",
                path=folder,
                remedy="wait for its end, or end it; two at a time need a folder each",
            )
        except NotImplementedError:
            break
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
            break
        if place.exists():
            break
        lock.release()  # its file was taken away between opening and locking, and keeps nobody out
    try:
        yield
    finally:
        with suppress(OSError):  # where an open file cannot be removed it stays, and is nobody's work
            place.unlink()
        lock.release()


def name_the_nameless() -> None:
    """Give a process without a home folder one that is not there, and a user without a name one."""
    if os.path.expanduser("~") == "~":  # noqa: PTH111  (Path raises where there is none)
        os.environ["HOME"] = NO_HOME
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = "nobody"


def with_home(path: str) -> str:
    """Return a path that begins in the home folder, ``~`` or ``~/...``, written out; any other as it is.

    Shells do so for a word of its own alone, not behind ``--key=`` or in a file.

    Raises
    ------
    InputError
        When nothing says where the home folder is.
    """
    if path != "~" and not path.startswith("~/"):
        return path
    found = os.path.expanduser(path)  # noqa: PTH111  (Path raises where there is none)
    if found == path or os.environ.get("HOME") == NO_HOME:
        fail("the home folder is not known (HOME is not set)", path=path, remedy="write the path out")
    return found
