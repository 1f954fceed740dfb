"""Making a study: the plan is resolved, images are blinded, reading orders drawn, and all of it is sealed.

``private/design.json`` is written last. Until it is there the folder holds an unfinished study, which the
same plan continues: ``private/creation.json`` keeps the secret salt from which all ids follow, and checksums
of everything that the plan resolved to.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import secrets
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medrestore import __version__
from medrestore.checks import InputError, fail
from medrestore.claims import Claim, claimed
from medrestore.data.tables import read_text_table
from medrestore.data.workers import worker_count
from medrestore.files import atomic_path, sha256_file
from medrestore.study.images.blinding import set_file_time
from medrestore.study.images.package import package_images
from medrestore.study.layout import FORMAT, Study, canonical_json, open_study, sha256_text
from medrestore.study.planning.design import make_reading_list
from medrestore.study.planning.ids import random_ids
from medrestore.study.planning.plan import Plan, read_plan

__all__ = ["create_study"]

logger = logging.getLogger(__name__)

OWN_FILE = re.compile(r"[0-9a-f]{16}\.nii|protocol\.json|\.partial-.*")
"""What a study that is being made has in its folder of what is served."""

DESIGN, CREATION, RECORDS = "design.json", "creation.json", "creation"
REFUSED = "refused"
SHOWN = 10
"""Faults that are told at once."""

RESOLVED = {
    "plan_sha256": "the plan",
    "protocol_sha256": "the questions",
    "truth_sha256": "the truth",
    "sources_sha256": "the list of images",
}
"""What must be as before for a call to continue an interrupted one."""


def create_study(
    plan_path: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str],
    workers: int | None = None,
    progress: bool = True,
) -> Study:
    """Make a study from a plan and freeze it.

    Parameters
    ----------
    plan_path
        YAML file; see ``docs/reader_studies.md``.
    output
        A new or empty folder, or one that an interrupted call with the same plan left: images that are whole
        are kept. Those of a call that was refused give way to a mended plan. A frozen study of the same plan
        is returned as it is.
    workers
        Processes; one per core when None. Each holds the arms of one case.
    progress
        Show a bar.

    Returns
    -------
    Study
        Frozen: plan, seed, random generator and its version, reading list, key, truth and protocol, by their
        checksums.

    Raises
    ------
    InputError
        When the plan or an image is wrong, or the folder holds other files or a study of another plan.
    """
    count = worker_count(workers)
    plan = read_plan(plan_path)
    for note in plan.notes:
        logger.warning("%s: %s", plan_path, note)
    folder = Path(output)
    private = folder / "private"
    truth = _truth_text(plan)
    # As it comes back from the file: there, the number of an option is a text, and sorted as one.
    entry = json.loads(json.dumps(plan.entry, allow_nan=False))
    resolved = {
        "the plan": sha256_text(canonical_json(entry)),
        "the questions": sha256_text(canonical_json(plan.protocol.as_dict())),
        "the truth": sha256_text(truth) if truth else "",
        "the list of images": sha256_text(_sources_text(plan)),
    }
    if (private / DESIGN).is_file():
        return _frozen(folder, resolved)
    with claimed(
        folder,
        resolved,
        record=f"private/{CREATION}",
        belongs="study",
        other="another study, of which images are made",
        has_results=_is_worth_keeping,
        remains=("public", "private"),
        facts=_new_creation(),
        mode=0o700,
    ) as claim:
        creation = {key: value for key, value in claim.facts.items() if key != REFUSED}
        claim.note(creation)
        try:
            _make(plan, claim, entry, truth, workers=count, progress=progress)
        except InputError:
            # The plan may have to be mended: then its images give way.
            claim.note({**creation, REFUSED: True})
            raise
    _clean(private)
    return open_study(folder)


def _make(
    plan: Plan, claim: Claim, entry: Mapping[str, Any], truth: str, *, workers: int, progress: bool
) -> None:
    """Blind the images, draw the reading list, write all tables and seal them."""
    folder, creation, resolved = claim.folder, claim.facts, claim.settings
    private, images = folder / "private", folder / "public" / "images"
    private.chmod(0o700)
    images.mkdir(parents=True, exist_ok=True)
    seed, salt = int(entry["seed"]), str(creation["salt"])
    sources = _named(plan.sources, seed=seed, salt=salt)
    key, faces = package_images(
        sources,
        images,
        records=private / RECORDS,
        protocol=plan.protocol,
        deface=bool(entry["deface"]),
        workers=workers,
        progress=progress,
    )
    _require_distinct(key)
    reading_list = make_reading_list(
        sources[["image_id", "phase", "case", "subject", "arm"]],
        readers=list(entry["readers"]),
        sessions=int(entry["sessions"]),
        duplicate_fraction=float(entry["duplicate_fraction"]),
        seed=seed,
        salt=salt,
        attempts=int((entry["qualification"] or {}).get("attempts", 0)),
    )
    study_id = str(creation["study_id"])
    served = json.dumps({**plan.protocol.as_dict(), "study_id": study_id}, indent=1, ensure_ascii=False)
    texts = {
        folder / "public" / "protocol.json": served + "\n",
        private / "plan.yaml": plan.text,
        private / "reading_list.csv": reading_list.to_csv(index=False, lineterminator="\n"),
        private / "key.csv": key.to_csv(index=False, lineterminator="\n"),
    }
    if truth:
        texts[private / "truth.csv"] = truth
    if len(faces):
        texts[private / "defacing.csv"] = faces.to_csv(index=False, lineterminator="\n")
    for path, text in texts.items():
        _write(path, text)
    _write_tokens(private / "tokens.csv", list(entry["readers"]))
    _require_only_ours(folder)
    for path in (folder / "public" / "protocol.json", images, folder / "public"):
        set_file_time(path)
    design = {
        "format": FORMAT,
        "study_id": study_id,
        "created": creation["created"],
        "software": {
            "medrestore": __version__,
            "numpy": np.__version__,
            "pandas": pd.__version__,
            "python": platform.python_version(),
        },
        "generator": {
            "name": f"numpy.random.{np.random.PCG64.__name__}, streams named by SHA-256 of seed and keys",
            "version": np.__version__,
        },
        "salt": salt,
        "plan": entry,
        "plan_sha256": resolved["the plan"],
        "reading_list_sha256": sha256_file(private / "reading_list.csv"),
        "protocol_sha256": sha256_file(folder / "public" / "protocol.json"),
        "key_sha256": sha256_file(private / "key.csv"),
        "truth_sha256": resolved["the truth"],
        "resolved": {key: resolved[name] for key, name in RESOLVED.items()},
    }
    _write(private / DESIGN, json.dumps(design, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _frozen(folder: Path, resolved: Mapping[str, str]) -> Study:
    study = open_study(folder)
    _require_same(study.design.get("resolved", {}), resolved, folder)
    _clean(study.private)
    return study


def _new_creation() -> dict[str, Any]:
    """Return what the note of a study that is begun holds: its id, and the salt that all ids follow from."""
    return {
        "study_id": secrets.token_hex(6),
        "salt": secrets.token_hex(32),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _is_worth_keeping(folder: Path) -> bool:
    """Return whether an unfinished study holds images, and was interrupted; or files that are not its own.

    One that was refused is worth continuing with the same plan, but may have to be mended.
    """
    files = [path for path in (folder / "public").rglob("*") if path.is_file()]
    if any(not OWN_FILE.fullmatch(path.name) for path in files):
        return True
    try:
        refused = json.loads((folder / "private" / CREATION).read_text(encoding="utf-8")).get(REFUSED)
    except (OSError, ValueError, AttributeError):
        refused = False
    return bool(files) and not refused


def _require_same(found: Mapping[str, str], resolved: Mapping[str, str], folder: Path) -> None:
    differing = [name for key, name in RESOLVED.items() if found.get(key) != resolved[name]]
    if differing:
        fail(
            f"holds another study: {', '.join(differing)} changed since it was begun",
            path=folder,
            remedy="name a new folder; a study that was begun is never changed",
        )


def _named(sources: pd.DataFrame, *, seed: int, salt: str) -> pd.DataFrame:
    """Return the images with their random names, which depend on no order but that of the plan's names."""
    order = sources.sort_values(["phase", "case", "arm"], kind="stable").index
    names = pd.Series(random_ids(len(sources), seed=seed, salt=salt, stream="image_id"), index=order)
    return sources.assign(image_id=names).reset_index(drop=True)


def _sources_text(plan: Plan) -> str:
    return plan.sources.to_csv(
        index=False, lineterminator="\n", columns=["phase", "case", "subject", "arm", "path"]
    )


def _truth_text(plan: Plan) -> str:
    """Return the table of the truth; empty when the reads of an arm will tell it."""
    if not plan.truth:
        return ""
    table = pd.DataFrame({"case": list(plan.truth), "truth": list(plan.truth.values())})
    return table.to_csv(index=False, lineterminator="\n")


def _require_distinct(key: pd.DataFrame) -> None:
    """Refuse an image that is there twice, under whatever name: of two arms, or of two cases."""
    for checksum in ("sha256_source", "sha256_served"):
        twins = key[key.duplicated(checksum, keep=False)]
        if twins.empty:
            continue
        pairs = [
            " and ".join(f"{row.source} ({row.arm} of {row.case})" for row in same.itertuples())
            for _, same in twins.groupby(checksum, sort=False)
        ]
        more = f"; and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else ""
        raise InputError(
            f"the same image stands for several: {'; '.join(pairs[:SHOWN])}{more}. "
            "Remedy: give each arm and case its own image, or leave the cases out"
        )


def _write_tokens(path: Path, readers: list[str]) -> None:
    """Draw the secret of each reader's link, once; readable for the owner alone."""
    if path.is_file() and read_text_table(path).get("reader", pd.Series()).to_list() == readers:
        return
    table = pd.DataFrame({"reader": readers, "token": [secrets.token_urlsafe(32) for _ in readers]})
    with atomic_path(path) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_text(table.to_csv(index=False, lineterminator="\n"), encoding="utf-8")


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode())


def _require_only_ours(folder: Path) -> None:
    """Remove what killed calls left half written; refuse what was put beside the files that are served."""
    for path in folder.rglob(".partial-*"):
        path.unlink()
    for path in (folder / "public").iterdir():
        if path.name not in ("images", "protocol.json"):
            fail("is no file of this study", path=path, remedy="move it elsewhere: this folder is served")


def _clean(private: Path) -> None:
    """Remove the notes of the making; a study that is frozen needs none."""
    shutil.rmtree(private / RECORDS, ignore_errors=True)
    (private / CREATION).unlink(missing_ok=True)
