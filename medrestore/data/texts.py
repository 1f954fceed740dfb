"""Texts that a user wrote or edited: what is not UTF-8 is told apart by its bytes, and named."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

from medrestore.checks import fail

__all__ = ["alike", "plain_text", "read_json_object", "read_text"]

_FORMATS = {
    b"PK\x03\x04": "is a workbook (.xlsx, .ods) or another ZIP archive, no text",
    b"\xd0\xcf\x11\xe0": "is a workbook of old Excel (.xls), no text",
    b"\x1f\x8b": "is compressed with gzip, no text",
    b"\xff\xfe\x00\x00": "is UTF-32 text, expected UTF-8",
    b"\x00\x00\xfe\xff": "is UTF-32 text, expected UTF-8",
    b"\xff\xfe": "is UTF-16 text, expected UTF-8",
    b"\xfe\xff": "is UTF-16 text, expected UTF-8",
    b"%PDF": "is a PDF document, no text",
}


def read_text(path: Path, *, what: str = "a text file") -> str:
    """Return the text of a file in UTF-8, with or without byte-order mark.

    Parameters
    ----------
    path
        Of the file.
    what
        What was expected there, for a message.

    Raises
    ------
    InputError
        When there is no such file, or it is no UTF-8; says in one line what it seems to be.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        fail(f"no such file, expected {what}", path=path)
    except IsADirectoryError:
        fail(f"is a folder, expected {what}", path=path)
    except OSError as error:
        fail(f"cannot be read ({error.strerror or type(error).__name__}), expected {what}", path=path)
    remedy = "save it as UTF-8 text"
    if path.suffix.lower() == ".csv":
        remedy = "save it as UTF-8 (in a spreadsheet: 'CSV UTF-8', separated by commas)"
    for start, message in _FORMATS.items():
        if content.startswith(start):
            fail(message, path=path, remedy=remedy)
    if b"\x00" in content:
        zeros = content[:4096].count(b"\x00")
        if 3 * zeros >= len(content[:4096]):  # of every two bytes one, where the letters are Latin
            fail("is UTF-16 text without its mark, expected UTF-8", path=path, remedy=remedy)
        line = content[: content.index(b"\x00")].count(b"\n") + 1
        fail(f"holds NUL bytes (line {line}): it is damaged, or no text", path=path, remedy=remedy)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        _not_utf8(path, content, error, remedy)


def _not_utf8(path: Path, content: bytes, error: UnicodeDecodeError, remedy: str) -> NoReturn:
    line = content[: error.start].count(b"\n") + 1
    wrong = content[error.start]
    guess = content[error.start : error.start + 1].decode("cp1252", errors="ignore")
    seems = f" ({guess!r} in Windows-1252 or Latin-1)" if guess else ""
    fail(f"is no UTF-8: byte 0x{wrong:02x} in line {line}{seems}", path=path, remedy=remedy)


def plain_text(text: str) -> str:
    r"""Return a text without what nobody sees: composed (NFC), marks have a width, spaces are plain.

    >>> plain_text("\u200bsub-01\u00a0 "), plain_text("e\u0301") == "\u00e9"
    ('sub-01', True)
    """
    if text.isascii():
        return text.strip()
    composed = unicodedata.normalize("NFC", text)
    kinds = ((mark, unicodedata.category(mark)) for mark in composed)
    return "".join(" " if kind == "Zs" else mark for mark, kind in kinds if kind != "Cf").strip()


def alike(name: str) -> str:
    """Return what names have in common that a person, or a spreadsheet, would take for one.

    Case, widths, zeros before a number and behind its point, and the sign between words do not count.

    >>> alike("SUB_1") == alike("sub-001"), alike("7.0") == alike("007"), alike("1-11") == alike("11-1")
    (True, True, False)
    """
    folded = unicodedata.normalize("NFKC", plain_text(name)).casefold()
    folded = "".join("-" if unicodedata.category(mark) in ("Pd", "Pc", "Zs") else mark for mark in folded)
    if re.fullmatch(r"(?=.*[a-f])[0-9a-f]{6,}", folded):
        return folded  # a checksum as a pseudonym: its zeros tell
    folded = re.sub(r"(?<![\d.])(\d+)\.0+(?![\d.])", r"\1", folded)
    folded = re.sub(r"(?<![\d.])0+(?=\d)", "", folded)
    return re.sub(r"[-.]+", "-", folded)


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the keys and values of a JSON file.

    Raises
    ------
    InputError
        When it cannot be read, is no JSON object, or has a key twice, of which JSON would take the last.
    """
    remedy = "correct it, or take it away"

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        if twice:
            fail(f"has the key {twice[0]!r} twice", path=path, remedy="keep one of them")
        return dict(pairs)

    text = read_text(path, what="a JSON file")
    try:
        content = json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        fail(f"is no JSON ({error})", path=path, remedy=remedy)
    except RecursionError:
        fail("is no JSON (brackets too deep)", path=path, remedy=remedy)
    if not isinstance(content, dict):
        fail("is no JSON object of keys and values", path=path, remedy=remedy)
    return content
