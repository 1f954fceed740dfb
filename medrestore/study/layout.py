"""Where a study keeps what, and the frozen record that every part of it reads.

::

    STUDY/public/protocol.json          what readers are asked; served
    STUDY/public/images/IMAGE_ID.nii    blinded images; served under the id of a reading
    STUDY/private/plan.yaml             the plan as it was given
    STUDY/private/design.json           the plan in its normal form, versions, hashes
    STUDY/private/reading_list.csv      who reads what, when: frozen before the first read
    STUDY/private/key.csv               which image is which arm of which case; never served
    STUDY/private/truth.csv             truth of each case
    STUDY/private/tokens.csv            the secret of each reader's link
    STUDY/private/reads.sqlite          all reads, append-only
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from medrestore.checks import InputError, fail, one_line
from medrestore.files import sha256_file
from medrestore.study.protocol import Protocol

__all__ = [
    "KEY_COLUMNS",
    "PHASES",
    "READING_COLUMNS",
    "Study",
    "canonical_json",
    "open_study",
    "sha256_text",
]

FORMAT = 1
TRAINING, QUALIFICATION, READING = PHASES = ("training", "qualification", "reading")
"""What a reading is for; only ``reading`` enters the analysis."""

READING_COLUMNS = ("reader", "phase", "attempt", "session", "position", "read_id", "image_id", "repeat")
"""``attempt`` counts the qualification's, ``session`` and ``position`` from 1, ``repeat`` is 1 for a hidden
duplicate."""

KEY_COLUMNS = (
    *("image_id", "phase", "case", "subject", "arm", "source", "sha256_source", "sha256_scrubbed"),
    *("sha256_served", "bytes", "window_low", "window_high"),
)


@dataclass(frozen=True)
class Study:
    """A frozen study on disk.

    Parameters
    ----------
    folder
        The study's folder.
    design
        Content of ``private/design.json``: ``study_id``, ``created``, ``software`` (versions), ``generator``
        (name and version of the random generator), ``plan`` (normal form), ``plan_sha256``,
        ``reading_list_sha256``, ``protocol_sha256``, ``key_sha256``, ``truth_sha256``.
    protocol
        What readers are asked.
    """

    folder: Path
    design: Mapping[str, Any]
    protocol: Protocol

    @property
    def plan(self) -> Mapping[str, Any]:
        """The plan in its normal form."""
        plan: Mapping[str, Any] = self.design["plan"]
        return plan

    @property
    def plan_sha256(self) -> str:
        """The checksum that every read carries."""
        return str(self.design["plan_sha256"])

    @property
    def arms(self) -> list[str]:
        """Names of the arms, in the plan's order."""
        return list(self.plan["arms"])

    @property
    def readers(self) -> dict[str, str]:
        """Reader -> ``human`` or ``model``."""
        return {name: str(entry["kind"]) for name, entry in self.plan["readers"].items()}

    @property
    def public(self) -> Path:
        """The folder that may be handed out."""
        return self.folder / "public"

    @property
    def private(self) -> Path:
        """The folder that is never served."""
        return self.folder / "private"

    @property
    def reads_path(self) -> Path:
        """The sqlite file of all reads."""
        return self.private / "reads.sqlite"

    @cached_property
    def reading_list(self) -> pd.DataFrame:
        """All readings: :data:`READING_COLUMNS`."""
        return _table(
            self.private / "reading_list.csv", READING_COLUMNS, ("attempt", "session", "position", "repeat")
        )

    @cached_property
    def key(self) -> pd.DataFrame:
        """All images: :data:`KEY_COLUMNS`."""
        return _table(self.private / "key.csv", KEY_COLUMNS, ("bytes", "window_low", "window_high"))

    @cached_property
    def truth(self) -> dict[str, int]:
        """Case -> 0 or 1; empty when the truth is the consensus of an arm."""
        path = self.private / "truth.csv"
        if not path.is_file():
            return {}
        table = _table(path, ("case", "truth"), ("truth",))
        return {str(case): int(truth) for case, truth in zip(table["case"], table["truth"], strict=True)}

    def image_path(self, image_id: str) -> Path:
        """Return the file of an image."""
        return self.public / "images" / f"{image_id}.nii"


def open_study(folder: str | os.PathLike[str]) -> Study:
    """Open a study and check that nothing that was frozen has changed.

    Raises
    ------
    InputError
        When the folder holds no study, or plan, protocol, reading list, key or truth are not those that were
        frozen.
    """
    place = Path(folder)
    path = place / "private" / "design.json"
    if not path.is_file():
        fail(
            "is no study",
            path=place,
            remedy="make one with medrestore study create PLAN.yaml --output FOLDER",
        )
    try:
        design = json.loads(path.read_text(encoding="utf-8"))
        if design["format"] != FORMAT:
            fail(f"has format {design['format']}, this version reads {FORMAT}", path=path)
        frozen = {
            place / "public" / "protocol.json": design["protocol_sha256"],
            place / "private" / "reading_list.csv": design["reading_list_sha256"],
            place / "private" / "key.csv": design["key_sha256"],
        }
        if design["truth_sha256"]:
            frozen[place / "private" / "truth.csv"] = design["truth_sha256"]
        if sha256_text(canonical_json(design["plan"])) != design["plan_sha256"]:
            fail(
                "the plan is not the one that was frozen", path=path, remedy="restore the file from a backup"
            )
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        fail(f"is damaged ({one_line(error)})", path=path, remedy="restore the folder from a backup")
    for file, wanted in frozen.items():
        if not file.is_file() or sha256_file(file) != wanted:
            fail("is not the file that was frozen", path=file, remedy="restore it from a backup")
    entry = json.loads((place / "public" / "protocol.json").read_text(encoding="utf-8"))
    protocol = Protocol.from_dict({name: value for name, value in entry.items() if name != "study_id"})
    return Study(folder=place, design=design, protocol=protocol)


def canonical_json(value: Any) -> str:
    """Return JSON that is the same text for the same content: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_text(text: str) -> str:
    """Return the SHA-256 of a text's UTF-8 bytes in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def _table(path: Path, columns: tuple[str, ...], numbers: tuple[str, ...]) -> pd.DataFrame:
    table = pd.read_csv(path.absolute(), dtype=str, keep_default_na=False)
    missing = [column for column in columns if column not in table]
    if missing:
        fail(f"has no column {', '.join(missing)}", path=path)
    for column in numbers:
        table[column] = pd.to_numeric(table[column])
    return table
