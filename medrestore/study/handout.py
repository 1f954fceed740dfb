"""A reader's images for a desktop viewer (ITK-SNAP, 3D Slicer, MRIcroGL), and the table to fill in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import pandas as pd

from medrestore.checks import InputError, counted, fail, no_room, require_in_set
from medrestore.files import beside, require_empty_folder, sha256_file
from medrestore.progress import progress_bar
from medrestore.study.images.blinding import set_file_time
from medrestore.study.layout import QUALIFICATION, READING, TRAINING, Study, open_study
from medrestore.study.protocol import Protocol
from medrestore.study.questions import Question

__all__ = ["write_handout"]


def write_handout(
    study_folder: str | os.PathLike[str],
    *,
    reader: str,
    output: str | os.PathLike[str],
    progress: bool = True,
) -> int:
    """Write all images of a reader in reading order.

    Parameters
    ----------
    study_folder
        A frozen study.
    reader
        A human reader of the plan.
    output
        A new or empty folder. It gets ``session-1/001_READID.nii`` and so on (``session-0`` for training and
        the first attempt of the qualification, where the plan has them), ``reads.csv`` with a row an image
        and a column a question, and ``README.txt``.
    progress
        Show a bar.

    Returns
    -------
    int
        Number of readings.

    Raises
    ------
    InputError
        When there is no such human reader, the folder holds files, or an image is not the one that was
        frozen: then nothing is written.

    Notes
    -----
    Images are copied: links would tell by their number which readings are of one image. A reader who compares
    the contents of files can still find hidden duplicates; on the reading page that is not possible. Training
    without the page shows no truth after an answer.
    """
    study = open_study(study_folder)
    require_in_set("reader", reader, tuple(study.readers))
    if study.readers[reader] != "human":
        raise InputError(
            f"reader {reader!r} is a model; it reads by medrestore study simulate-readers, not by a viewer"
        )
    # Absolute, for "." has no name. Made last: a handout that is refused leaves nothing.
    folder = require_empty_folder(Path(output).absolute(), belongs="handout", make=False)
    readings = list(_readings(study, reader))
    unfinished = beside(folder, f".partial-{os.getpid()}-")
    try:
        for reading in progress_bar(readings, desc="copy images", unit="image", disable=not progress):
            _copy_image(study, reading, unfinished / reading["file"])
        _write_table(study.protocol, readings, unfinished / "reads.csv")
        readme = _readme(study, reader, readings)
        (unfinished / "README.txt").write_text(readme, encoding="utf-8")
        for path in (*sorted(unfinished.rglob("*"), reverse=True), unfinished):
            set_file_time(path)
        if folder.is_dir():  # it may hold what file browsers leave
            for path in list(unfinished.iterdir()):
                path.replace(folder / path.name)
            set_file_time(folder)
        else:
            unfinished.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return len(readings)


def _readings(study: Study, reader: str) -> Iterator[dict[str, Any]]:
    """Yield the readings of a reader in order, each with the place of its file."""
    table = study.reading_list[study.reading_list["reader"] == reader]
    order = {phase: number for number, phase in enumerate((TRAINING, QUALIFICATION, READING))}
    table = table[(table["phase"] != QUALIFICATION) | (table["attempt"] == 1)]
    table = table.assign(
        folder=table["session"].where(table["phase"] == READING, 0), order=table["phase"].map(order)
    )
    for session, rows in table.sort_values(["order", "session", "position"]).groupby("folder"):
        for number, row in enumerate(rows.to_dict("records"), start=1):
            yield {
                **{str(name): value for name, value in row.items()},
                "file": f"session-{session}/{number:03}_{row['read_id']}.nii",
            }


def _copy_image(study: Study, reading: Mapping[str, Any], target: Path) -> None:
    """Copy an image and require that the copy holds the bytes that were frozen."""
    image_id = reading["image_id"]
    source = study.image_path(image_id)
    wanted = study.key.set_index("image_id").loc[image_id, "sha256_served"]
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError:
        fail("is missing; nothing was written", path=source, remedy="restore it from a backup")
    except OSError as error:
        if reason := no_room(error):
            raise InputError(
                f"{target.parents[1]}: {reason}; nothing was written. Remedy: free some space"
            ) from error
        raise
    if sha256_file(target) != wanted:
        fail(
            "is not the image that was frozen; nothing was written",
            path=source,
            remedy="restore it from a backup",
        )


def _asked(protocol: Protocol) -> list[Question]:
    return [question for question in protocol.questions if question.type != "derived"]


def _write_table(protocol: Protocol, readings: Sequence[Mapping[str, Any]], path: Path) -> None:
    columns = ["file", "read_id", *(question.name for question in _asked(protocol))]
    rows = [{"file": reading["file"], "read_id": reading["read_id"]} for reading in readings]
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False, lineterminator="\n")


def _readme(study: Study, reader: str, readings: Sequence[Mapping[str, Any]]) -> str:
    """Return what a reader must know, in words."""
    protocol = study.protocol
    preparation = [reading for reading in readings if reading["phase"] != READING]
    sessions = sorted({reading["session"] for reading in readings if reading["phase"] == READING})
    days = float(study.plan["washout_days"])
    steps = [
        "Open the images of one folder in the order of their numbers. One image at a time: do not open two "
        "together, and do not go back to compare.",
        "Images come with a display window to start from. Change it as you like.",
        "Fill in one row of reads.csv for each image, right after you have read it: the column 'file' names "
        "it. Change neither 'file' nor 'read_id'. Save the table as CSV.",
        f"Read session-1 first, and so on to session-{len(sessions)}."
        + (f" Leave at least {days:g} days between two sessions." if days and len(sessions) > 1 else ""),
        "Send reads.csv back, and tell if you could not open an image.",
    ]
    if preparation:
        steps.insert(
            3,
            f"Begin with session-0: {counted(len(preparation), 'image')} to practice, answered in the same "
            "way.",
        )
    parts = [
        protocol.title,
        f"Study {study.design['study_id']}, reader {reader}: {counted(len(readings), 'image')}.",
    ]
    if protocol.instructions:
        parts.append(protocol.instructions.strip())
    parts.append("HOW TO READ")
    parts.append("\n".join(_hanging(f"{number}. ", step) for number, step in enumerate(steps, start=1)))
    parts.append("WHAT IS ASKED (columns of reads.csv)")
    parts += [_question(question, protocol) for question in _asked(protocol)]
    return "\n\n".join(parts) + "\n"


def _question(question: Question, protocol: Protocol) -> str:
    lines = [f"{question.name}: {question.text}"]
    if question.help:
        lines.append(_hanging("  ", question.help))
    if question.when:
        conditions = [
            f"{name} is {_in_words(protocol[name], value)}" for name, value in question.when.items()
        ]
        lines.append(f"  only if {' and '.join(conditions)}; otherwise leave it empty")
    if question.type == "choice":
        lines.append("  write one of these numbers:")
        lines += [f"    {number}  {label}" for number, label in question.options.items()]
    elif question.type == "yes_no":
        lines.append("  write yes or no")
    elif question.type == "point":
        lines.append(
            "  write x y z in mm, as the viewer shows them (to the right, front and top is positive)"
        )
    elif question.type == "text":
        lines.append("  write in your own words")
    else:
        lines.append(f"  write a {'whole ' if question.type == 'integer' else ''}number{_range(question)}")
    if not question.required:
        lines.append("  may be left empty")
    return "\n".join(lines)


def _in_words(question: Question, value: Any) -> str:
    return {True: "yes", False: "no"}[value] if question.type == "yes_no" else str(value)


def _range(question: Question) -> str:
    return "" if question.range is None else f" from {question.range[0]:g} to {question.range[1]:g}"


def _hanging(start: str, text: str) -> str:
    return "\n".join(wrap(text, 100, initial_indent=start, subsequent_indent=" " * len(start)))
