"""What an evaluation leaves of changes: tables, pictures, and the pages that are made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from medrestore.data.tables import records_of
from medrestore.evaluation.changes.page import DECISIONS, Shown, change_page
from medrestore.evaluation.changes.pictures import Picture
from medrestore.evaluation.changes.tables import decision_table, find_table, judges_of, part_table
from medrestore.evaluation.record import Evaluation
from medrestore.evaluation.titles import Metrics
from medrestore.evaluation.verdict import restorations
from medrestore.files import atomic_path

__all__ = ["FOLDER", "MOST_PICTURES", "Taken", "change_files", "kept", "write_changes", "write_pages"]

FOLDER = "changes"
"""Of pages and pictures, in an evaluation's folder."""

MOST_PICTURES = 4
"""Of each method and kind of change."""

PICTURES = ("file", "method", "table", "change", "heads", "caption")


@dataclass(frozen=True, eq=False)
class Taken:
    """A picture that was taken while an image was measured.

    Parameters
    ----------
    method, table, change
        What it belongs to.
    weight
        The more the more telling.
    caption
        What it shows.
    picture
        Its slices.
    """

    method: str
    table: str
    change: str
    weight: float
    caption: str
    picture: Picture = field(repr=False)


def kept(taken: Iterable[Taken]) -> list[Taken]:
    """Return the most telling pictures of each method and kind of change, those first."""
    groups: dict[tuple[str, str, str], list[Taken]] = {}
    for one in taken:
        groups.setdefault((one.method, one.table, one.change), []).append(one)
    return [
        one for group in groups.values() for one in sorted(group, key=lambda one: -one.weight)[:MOST_PICTURES]
    ]


def change_files(folder: Path, metrics: Metrics) -> list[Path]:
    """Return the tables and pages that are in an evaluation's folder."""
    tables = [folder / f"{name}.csv" for name in _names(metrics)]
    return [*filter(Path.is_file, tables), *sorted((folder / FOLDER).glob("*.html"))]


def _names(metrics: Metrics) -> list[str]:
    changes = metrics.changes
    return [DECISIONS, *(one.name for one in (changes.parts, changes.finds) if one is not None)]


def write_changes(
    result: Evaluation, *, found: Mapping[str, Sequence[Mapping[str, Any]]], taken: Iterable[Taken]
) -> None:
    """Write the tables of what restorations change, and their pictures.

    Parameters
    ----------
    result
        The evaluation.
    found
        Rows of the kind's parts and finds, by the names of their tables.
    taken
        Pictures of images.
    """
    folder, per_subject, metrics = result.output, result.per_subject, result.metrics
    true_name = str(result.record["true"])
    tables: dict[str, pd.DataFrame] = {}
    changes = metrics.changes
    if changes.decisions is not None and judges_of(per_subject):
        methods = restorations(per_subject, metrics)
        tables[DECISIONS] = decision_table(per_subject, methods, true_name=true_name, metrics=metrics)
    if changes.parts is not None and found.get(changes.parts.name):
        table = pd.DataFrame(list(found[changes.parts.name]))
        tables[changes.parts.name] = part_table(table, true_name=true_name, metrics=metrics)
    if changes.finds is not None and found.get(changes.finds.name):
        tables[changes.finds.name] = find_table(pd.DataFrame(list(found[changes.finds.name])))
    for name, table in tables.items():
        with atomic_path(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
    (folder / FOLDER).mkdir(exist_ok=True)
    rows = []
    for number, one in enumerate(kept(taken), start=1):
        rows.append([f"{one.method}_{number:03}.png", one.method, one.table, one.change])
        rows[-1] += ["|".join(one.picture.heads), one.caption]
        with atomic_path(folder / FOLDER / rows[-1][0]) as temporary:
            temporary.write_bytes(one.picture.png(changes.colors))
    with atomic_path(folder / FOLDER / "pictures.csv") as temporary:
        pd.DataFrame(rows, columns=list(PICTURES)).to_csv(temporary, index=False, lineterminator="\n")


def write_pages(result: Evaluation) -> list[Path]:
    """Write the page of every restoration, from the tables and pictures that an evaluation's folder holds.

    Returns
    -------
    list
        Paths of the pages.
    """
    folder, metrics = result.output, result.metrics
    tables = {
        name: _read(folder / f"{name}.csv", metrics)
        for name in _names(metrics)
        if (folder / f"{name}.csv").is_file()
    }
    listed = records_of(_read(folder / FOLDER / "pictures.csv", metrics))
    pictures = [
        Shown(
            row["method"],
            row["table"],
            row["change"],
            row["heads"].split("|"),
            row["caption"],
            (folder / FOLDER / row["file"]).read_bytes(),
        )
        for row in listed
    ]
    pages = []
    for method in restorations(result.per_subject, metrics):
        html = change_page(method, result, tables=tables, pictures=pictures)
        pages.append(folder / FOLDER / f"{method}.html")
        with atomic_path(pages[-1]) as temporary:
            temporary.write_text(html, encoding="utf-8")
    return pages


def _read(path: Path, metrics: Metrics) -> pd.DataFrame:
    texts = dict.fromkeys([*metrics.text_columns, "judge", "part", *PICTURES], str)
    table = pd.read_csv(path, dtype=dict(texts), na_values=[""], keep_default_na=False)
    held = [name for name in texts if name in table]
    table[held] = table[held].fillna("")
    return table
