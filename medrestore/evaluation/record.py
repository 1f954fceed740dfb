"""What every evaluation leaves behind: tables and a record in a folder of its own, whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from medrestore.checks import InputError, OutputError, about, fail, one_line
from medrestore.claims import Claim, claimed
from medrestore.data.tables import records_of
from medrestore.evaluation.arms import raise_all
from medrestore.evaluation.rendering import render
from medrestore.evaluation.titles import Metrics
from medrestore.evaluation.verdict import verdict_note, verdict_sentences, verdict_table
from medrestore.files import atomic_path, sha256_file, write_json

__all__ = [
    "RECORD",
    "Evaluation",
    "claimed_evaluation",
    "files_checksum",
    "load_evaluation",
    "measure_scans",
    "write_evaluation",
]

Measured = TypeVar("Measured")

RECORD = "evaluation.json"
TABLES = ("per_subject", "summary", "differences")
RESULTS = (*(f"{name}.csv" for name in TABLES), "tables.md", "figure.png")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found.

    Parameters
    ----------
    output
        Folder with ``per_subject.csv``, ``summary.csv``, ``differences.csv``, ``verdicts.csv``,
        ``tables.md``, ``figure.png`` and ``evaluation.json``.
    per_subject
        One row per image and method; with strata one for each of them.
    summary, differences
        Of :func:`~medrestore.evaluation.tables.summary_table` and
        :func:`~medrestore.evaluation.tables.difference_table`.
    record
        How it was done: plain values; ``domain`` names the kind of image.
    metrics
        Of the kind of image.
    """

    output: Path
    per_subject: pd.DataFrame
    summary: pd.DataFrame
    differences: pd.DataFrame
    record: dict[str, Any]
    metrics: Metrics

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """What is said of every restoration: :func:`~medrestore.evaluation.verdict.verdict_table`."""
        seed = int(self.record.get("seed", 0))
        return verdict_table(self.per_subject, metrics=self.metrics, seed=seed)

    @property
    def markdown(self) -> str:
        """The verdicts and the tables as Markdown."""
        said = verdict_sentences(self.verdicts, self.metrics)
        return render(self.summary, self.differences, self.metrics, verdicts=said)


def measure_scans(
    rows: pd.DataFrame,
    measure: Callable[[Mapping[str, Any]], Measured],
    *,
    workers: int | None,
    progress: bool,
    unit: str = "scan",
) -> Iterator[Measured]:
    """Measure all rows, several at a time, in the manifest's order.

    Parameters
    ----------
    rows
        Of the manifest.
    measure
        From a row of the manifest to what is found in it.
    workers
        Threads, each with one scan; as many as cores, at most 4, when not given.
    progress
        Show a progress bar.
    unit
        What a row is, for the bar.

    Raises
    ------
    InputError
        When rows could not be measured: at the end, all of them. A comparison over the others alone would be
        another one than was asked for.
    """
    from medrestore.progress import progress_bar

    problems: list[str] = []
    # Filters, similarity maps and decompression run outside of Python's lock: threads use the cores.
    with ThreadPoolExecutor(workers or min(4, os.cpu_count() or 1)) as executor:
        jobs = [executor.submit(measure, row) for row in records_of(rows)]
        try:
            bar = progress_bar(jobs, desc="evaluating", unit=unit, disable=not progress)
            for job in bar:
                try:
                    measured = job.result()
                except OutputError:
                    raise
                except InputError as error:
                    problems.append(str(error))
                else:
                    yield measured
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise
    raise_all(problems)


def files_checksum(paths: Sequence[Path]) -> str:
    """Return one checksum of several files, in the given order."""
    return hashlib.sha256("".join(sha256_file(path) for path in paths).encode()).hexdigest()


def claimed_evaluation(
    output: str | os.PathLike[str], record: Mapping[str, Any]
) -> AbstractContextManager[Claim]:
    """Keep a folder for one evaluation.

    Parameters
    ----------
    output
        New, empty, or of this evaluation.
    record
        All that tells it from others.

    Raises
    ------
    InputError
        As :func:`~medrestore.claims.claimed`.
    """
    return claimed(
        output,
        record,
        record=RECORD,
        belongs="evaluation",
        other="another evaluation",
        has_results=lambda folder: any((folder / name).exists() for name in RESULTS),
        is_finished=lambda found: bool(found.get("finished")) and _has_tables(Path(output)),
        facts={"finished": False},
    )


def load_evaluation(
    folder: str | os.PathLike[str], *, metrics_of: Callable[[str, Iterable[str]], Metrics]
) -> Evaluation:
    """Read a finished evaluation back from its folder.

    Parameters
    ----------
    folder
        Of the evaluation.
    metrics_of
        From the name of a kind of image, and columns that tell it where the record has no name, to metrics.

    Raises
    ------
    InputError
        When the folder holds no finished evaluation, or one of a kind of image that is not known.
    """
    path = Path(folder)
    record = _read_record(path / RECORD)
    written = record.pop("tables_sha256", {})
    if not record.pop("finished", False) or not _has_tables(path):
        raise InputError(f"{path}: holds no finished evaluation. Remedy: run it again")
    name = str(record.get("domain", ""))
    columns = () if name else _read_table(path / "per_subject.csv", (), (), None).columns
    with about(path / RECORD):
        metrics = metrics_of(name, columns)
    texts = [*metrics.text_columns, "method", "first", "second"]
    tables = zip(TABLES, (("subject_id", "method"), ("method",), ()), strict=True)
    per_subject, summary, differences = (
        _read_table(path / f"{name}.csv", columns, texts, written.get(name)) for name, columns in tables
    )
    for name in metrics.text_columns:
        if name in per_subject:
            per_subject[name] = per_subject[name].fillna("")
    return Evaluation(path, per_subject, summary, differences, record, metrics)


def _read_table(
    path: Path, columns: Sequence[str], texts: Sequence[str], checksum: str | None
) -> pd.DataFrame:
    """Read a table that an evaluation wrote, and nothing has rewritten."""
    try:
        # Subjects and methods may be named like a number, "NA" or "null": names are text.
        dtype = dict.fromkeys(texts, str)
        table = pd.read_csv(path.absolute(), dtype=dtype, na_values=[""], keep_default_na=False)
    except (OSError, ValueError) as error:  # errors of pandas' parser are ValueErrors
        reason = one_line(error)
    else:
        missing = [name for name in columns if name not in table]
        if not missing and checksum in (None, sha256_file(path)):
            return table
        reason = f"no column {', '.join(missing)}" if missing else "its checksum is another one"
    raise InputError(
        f"{path}: is not as the evaluation wrote it ({reason}): a spreadsheet may have rewritten it. "
        "Remedy: put the file back, or evaluate again into a new folder"
    )


def write_evaluation(result: Evaluation, *, notes: Sequence[str]) -> None:
    """Write tables and text; the record comes last and says that all are there.

    Parameters
    ----------
    result
        What was found.
    notes
        Sentences that say below the tables how the numbers came about.
    """
    tables = dict(zip(TABLES, (result.per_subject, result.summary, result.differences), strict=True))
    for name, table in {**tables, "verdicts": result.verdicts}.items():
        with atomic_path(result.output / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
    below = "".join(f"- {line}\n" for line in [*notes, *verdict_note(result.verdicts)])
    with atomic_path(result.output / "tables.md") as temporary:
        temporary.write_text(f"{result.markdown}\n{below}", encoding="utf-8")
    written = {name: sha256_file(result.output / f"{name}.csv") for name in TABLES}
    write_json(result.output / RECORD, {**result.record, "tables_sha256": written, "finished": True})


def _has_tables(folder: Path) -> bool:
    return all((folder / f"{name}.csv").is_file() for name in TABLES)


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no record of an evaluation ({one_line(error)})") from error
    if not isinstance(record, dict):
        return {}
    pairs = record.get("pairs", [])
    named = isinstance(pairs, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(name, str) for name in pair)
        for pair in pairs
    )
    if not named or not isinstance(record.get("tables_sha256", {}), dict):
        what = "tables_sha256" if named else "pairs"
        fail(
            f"is not as the evaluation wrote it ({what})",
            path=path,
            remedy="put the file back, or evaluate again into a new folder",
        )
    return record
