"""What a read must be before it is put on record."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from medrestore.checks import InputError, require_in_set
from medrestore.study.layout import canonical_json
from medrestore.study.protocol import Protocol

__all__ = ["ORIGINS", "ReadConflictError", "UnknownReadError", "checked_entry"]

ORIGINS = ("page", "import", "model")
"""Where a read came from: the reading page, a file filled in beside another viewer, a model reader."""

LONGEST_ANSWER_ID = 64
LONGEST_REASON = 500


class ReadConflictError(InputError):
    """The read contradicts the record: other content under its id, or no reason for a correction."""


class UnknownReadError(InputError):
    """The reading does not exist, or belongs to another reader."""


def checked_entry(
    protocol: Protocol,
    owners: Mapping[str, tuple[str, str]],
    *,
    answer_id: str,
    read_id: str,
    reader: str,
    answers: Mapping[str, Any],
    origin: str,
    reason: str | None = None,
    seconds: float | None = None,
    image_sha256: str | None = None,
) -> dict[str, Any]:
    """Return a read in the form in which it is stored.

    Parameters
    ----------
    protocol
        Checks the answers and derives values from them; a model reader may leave questions out.
    owners
        read_id -> (reader, phase).
    answer_id, read_id, reader, answers, origin, reason, seconds, image_sha256
        As :meth:`~medrestore.study.record.store.ReadStore.append` takes them.

    Raises
    ------
    UnknownReadError
        When the reading is none of the reader.
    InputError
        When a value is wrong.
    """
    require_in_set("origin", origin, ORIGINS)
    owner, phase = owners.get(read_id, ("", ""))
    if not owner or owner != reader:
        raise UnknownReadError(f"reading {read_id[:40]!r} is none of this reader")
    if not 0 < len(answer_id) <= LONGEST_ANSWER_ID:
        raise InputError(f"answer_id must be a text of 1 to {LONGEST_ANSWER_ID} characters")
    if reason is not None and not (reason.strip() and len(reason) <= LONGEST_REASON and "\0" not in reason):
        raise InputError(f"reason must be a text of 1 to {LONGEST_REASON} characters")
    if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
        raise InputError(f"seconds must be a number of 0 or more, got {seconds}")
    if image_sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", image_sha256):
        raise InputError("image_sha256 must be 64 hexadecimal digits in lower case")
    entry = {
        "answer_id": answer_id,
        "read_id": read_id,
        "reader": reader,
        "phase": phase,
        "origin": origin,
        "answers": canonical_json(protocol.check_answers(answers, complete=origin != "model")),
        "reason": reason,
        "seconds": None if seconds is None else float(seconds),
        "image_sha256": image_sha256,
    }
    try:
        canonical_json(entry).encode()
    except UnicodeEncodeError as error:
        raise InputError("a text holds a lone surrogate, which is no Unicode character") from error
    return entry
