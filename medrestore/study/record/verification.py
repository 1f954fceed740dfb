"""Whether a study is still what was frozen, and its record of reads what was written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrestore.checks import InputError, counted
from medrestore.files import sha256_file
from medrestore.progress import progress_bar
from medrestore.study.layout import Study, open_study
from medrestore.study.record.chain import chain_problems
from medrestore.study.record.entry import checked_entry
from medrestore.study.record.store import ReadStore

__all__ = ["Verification", "verify_study"]

SHOWN = 20
"""Problems that are printed; all are counted."""


@dataclass(frozen=True)
class Verification:
    """What came of a check.

    Parameters
    ----------
    rows
        Rows on record.
    head
        Hash of the last row; noted elsewhere, it proves later that no row up to it was touched.
    problems
        What is wrong; empty when nothing is.
    """

    rows: int
    head: str
    problems: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{counted(self.rows, 'row')} of reads", f"hash of the last row: {self.head}"]
        if not self.problems:
            return "\n".join(
                [*lines, "chain, frozen files and images are whole", "note the hash outside of this study"]
            )
        more = len(self.problems) - SHOWN
        lines += [
            f"{counted(len(self.problems), 'problem')}:",
            *(f"  {problem}" for problem in self.problems[:SHOWN]),
        ]
        return "\n".join([*lines, *([f"  and {more} more"] if more > 0 else [])])


def verify_study(folder: str | os.PathLike[str], *, head: str = "") -> Verification:
    """Check frozen files, images, and every row of the reads; also while a server runs.

    Parameters
    ----------
    folder
        The study.
    head
        A hash that was noted earlier: of a row, or the plan's before the first one. Whoever can write to the
        file could write the whole chain anew; that its end is no longer the one that was noted tells.

    Raises
    ------
    InputError
        When the folder holds no study.
    """
    if not (Path(folder) / "private" / "design.json").is_file():
        open_study(folder)  # says what is wrong
    try:
        study = open_study(folder)
    except InputError as error:
        return Verification(rows=0, head="", problems=(str(error), "the reads were not checked"))
    problems = [*_image_problems(study)]
    rows: list[dict[str, Any]] = []
    try:
        with ReadStore(study, read_only=True) as store:
            damage = store.damage()
            rows = [] if damage else store.stored_rows()
    except InputError as error:
        damage = [str(error)]
    problems += damage
    last = str(rows[-1]["hash"]) if rows else study.plan_sha256
    try:
        problems += [*chain_problems(rows, study.plan_sha256), *_row_problems(study, rows)]
    except (TypeError, ValueError) as error:
        problems.append(f"a row holds what no read can be ({error})")
    if head and head not in {study.plan_sha256, *(row["hash"] for row in rows)}:
        problems.append(f"no row has the noted hash {head[:64]}: rows were removed or replaced")
    return Verification(rows=len(rows), head=last, problems=tuple(problems))


def _image_problems(study: Study) -> Iterator[str]:
    """Yield images that are missing, changed, or in the public folder without being in the key."""
    images = list(zip(study.key["image_id"], study.key["sha256_served"], strict=True))
    for image_id, wanted in progress_bar(images, desc="images", unit="image", leave=False):
        path = study.image_path(str(image_id))
        if not path.is_file():
            yield f"{path}: is missing"
        else:
            try:
                if sha256_file(path) != wanted:
                    yield f"{path}: is not the image that was frozen"
            except InputError as error:  # the others are looked at all the same
                yield str(error)
    known = {study.public / "protocol.json", *(study.image_path(str(image_id)) for image_id, _ in images)}
    for path in sorted(study.public.rglob("*")):
        if not path.is_dir() and path not in known:
            yield f"{path}: is in the folder that may be handed out, but was not frozen with the study"


def _row_problems(study: Study, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield rows that the store would not have written."""
    table, served = study.reading_list, study.key.set_index("image_id")["sha256_served"]
    owners = dict(zip(table["read_id"], zip(table["reader"], table["phase"], strict=True), strict=True))
    image = dict(zip(table["read_id"], table["image_id"].map(served), strict=True))
    answered: set[str] = set()
    for row in rows:
        fields = ("answer_id", "read_id", "reader", "origin", "reason", "seconds", "image_sha256")
        try:
            entry = checked_entry(
                study.protocol,
                owners,
                answers=json.loads(row["answers"]),
                **{field: row[field] for field in fields},
            )
        except (InputError, TypeError, AttributeError, ValueError) as error:
            yield f"row {row['row']} is no valid read: {error}"
            continue
        if (entry["answers"], entry["phase"]) != (row["answers"], row["phase"]):
            yield f"row {row['row']}: answers or phase are not in the form in which they are stored"
        if row["image_sha256"] not in (None, image[row["read_id"]]):
            yield f"row {row['row']}: another image was shown than that of its reading"
        if (row["reason"] is not None) != (row["read_id"] in answered):
            yield f"row {row['row']}: a correction has a reason, and a first answer has none"
        answered.add(row["read_id"])
