"""Tables of what restorations change, image by image: decisions, parts, finds, strata."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from medrestore.evaluation.arms import INPUT
from medrestore.evaluation.declared import Stratum, Tables
from medrestore.evaluation.titles import Metrics

__all__ = [
    "INVENTED",
    "LOST",
    "REGAINED",
    "REPAIRED",
    "beside_true",
    "decision_table",
    "find_table",
    "image_columns",
    "judges_of",
    "part_table",
    "strata_of",
]

LOST, REPAIRED, INVENTED, REGAINED = "lost", "repaired", "invented", "regained"

DECISIONS = ("method", "judge", "change", "label", "true_score", "input_score", "score", "distance")


def image_columns(table: pd.DataFrame, metrics: Metrics) -> list[str]:
    """Return the columns that name an image, whatever method it is of."""
    names = ("subject_id", "session_id", "group", metrics.strata.column)
    return [name for name in names if name in table]


def beside_true(per_subject: pd.DataFrame, method: str, true_name: str, metrics: Metrics) -> pd.DataFrame:
    """Return a method's rows of the table per subject with those of the true image as ``true_COLUMN``."""
    return _beside(per_subject, method, true_name, "true", metrics)


def _beside(table: pd.DataFrame, method: str, other: str, prefix: str, metrics: Metrics) -> pd.DataFrame:
    keys = image_columns(table, metrics)
    rows = table[table["method"] == method]
    others = table[table["method"] == other].drop(columns="method").drop_duplicates(keys)
    named = others.rename(columns={name: f"{prefix}_{name}" for name in others if name not in keys})
    return rows.merge(named, on=keys, how="left")


def decision_table(
    per_subject: pd.DataFrame, methods: Sequence[str], *, true_name: str, metrics: Metrics
) -> pd.DataFrame:
    """Return the decisions that restorations turn.

    Parameters
    ----------
    per_subject
        With ``JUDGE_score`` (probability of a positive), ``JUDGE_error`` (1 for an image read wrong) and
        ``label``. Of the judges the independent observers count; T alone where there is none.
    methods
        The restorations.
    true_name
        Method of the true image's rows.
    metrics
        Of the kind of image.

    Returns
    -------
    pandas.DataFrame
        What names the image, ``method``, ``judge``, ``change``: ``lost`` where the true image is read right
        and the restoration wrong, ``repaired`` where the input is read wrong and the restoration right;
        ``label``, the scores of all three (``input_score`` NaN without an input), and ``distance``, how far
        the score moved: from the true image, or from the input. Method by method, lost ones before, the
        farthest first.
    """
    keys = image_columns(per_subject, metrics)
    rows: list[dict[str, Any]] = []
    for judge in judges_of(per_subject) if metrics.changes.decisions else ():
        score, error = f"{judge}_score", f"{judge}_error"
        wanted = [*keys, "method", "label", score, error]
        for method in methods:
            found = _beside(per_subject[wanted], method, true_name, "true", metrics)
            before = _beside(per_subject[wanted], method, INPUT, "input", metrics)
            found[["input_score", "input_error"]] = before[[f"input_{score}", f"input_{error}"]].to_numpy()
            for row in found.to_dict("records"):
                true, given, own = row[f"true_{error}"], row["input_error"], row[error]
                changes = {LOST: (true, own) == (0, 1), REPAIRED: (given, own) == (1, 0)}
                for change in (name for name, held in changes.items() if held):
                    came_from = row[f"true_{score}"] if change == LOST else row["input_score"]
                    rows.append(
                        {
                            **{name: row[name] for name in keys},
                            **{"method": method, "judge": judge, "change": change, "label": row["label"]},
                            **{"true_score": row[f"true_{score}"], "input_score": row["input_score"]},
                            **{"score": row[score], "distance": abs(row[score] - came_from)},
                        }
                    )
    table = pd.DataFrame(rows, columns=[*keys, *DECISIONS])
    order = {name: number for number, name in enumerate([*methods, LOST, REPAIRED])}
    ranked = table.assign(_method=table["method"].map(order), _change=table["change"].map(order))
    by = ["_method", "_change", "distance", *keys, "judge"]
    up = [name != "distance" for name in by]
    return ranked.sort_values(by, ascending=up, kind="stable")[table.columns].reset_index(drop=True)


def judges_of(per_subject: pd.DataFrame) -> list[str]:
    """Return the independent observers that decided; T where there is none."""
    if "label" not in per_subject:
        return []
    names = [str(name).removesuffix("_error") for name in per_subject if str(name).endswith("_error")]
    judges = [name for name in names if f"{name}_score" in per_subject]
    observers = [name for name in judges if re.fullmatch(r"observer(_\d+)?", name)]
    return observers or [name for name in judges if name == "task"]


def part_table(found: pd.DataFrame, *, true_name: str, metrics: Metrics) -> pd.DataFrame:
    """Return how far each part lies from the true image's.

    Parameters
    ----------
    found
        What names the image, ``method``, ``part``, ``value``.

    Returns
    -------
    pandas.DataFrame
        With ``true_value``, ``relative_change`` (value / true value - 1) and ``beyond``: 1 where it exceeds
        the limit of the kind of image. Rows of the true image have neither.
    """
    parts = metrics.changes.parts
    if parts is None or found.empty:
        return found
    keys = [*image_columns(found, metrics), "part"]
    true = found[found["method"] == true_name].rename(columns={"value": "true_value"})
    table = found.merge(true[[*keys, "true_value"]], on=keys, how="left")
    change = table["value"] / table["true_value"] - 1
    own = (table["method"] != true_name).to_numpy()
    table["relative_change"] = change.where(own)
    table["beyond"] = (change.abs() > parts.limit).astype(float).where(own & change.notna())
    return table


def find_table(found: pd.DataFrame) -> pd.DataFrame:
    """Return finds with ``change``: what became of each between the true image and this one.

    ``lost``: a real one that is marked in the true image and not in this one; ``regained``: the other way
    round; ``invented``: a mark that is none, where the true image has no mark either; else empty. What the
    reader gets wrong in the true image too is no fault of a restoration.
    """
    if found.empty:
        return found
    real, marked, before = (found[name] == 1 for name in ("real", "found", "found_in_true"))
    change = np.select(
        [real & ~marked & before, real & marked & ~before, ~real & ~before], [LOST, REGAINED, INVENTED], ""
    )
    return found.assign(change=change)


def strata_of(
    images: pd.DataFrame, tables: Tables, metrics: Metrics
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield title, name and images of every stratum, where there are two or more: declared ones, and groups.

    Parameters
    ----------
    images
        Of :func:`beside_true`.
    """
    column = metrics.strata.column
    if column in images:
        held = metrics.strata.in_order(images[column])
        for name in held if len(held) > 1 else []:
            yield column.capitalize(), metrics.strata.title_of(name), images[images[column] == name]
    groups = [Stratum("Group", lambda rows, _: rows["group"])] if "group" in images else []
    for stratum in [*metrics.changes.strata, *groups]:
        names = stratum.of(images, tables)
        held = sorted(set(names.dropna()) - {""})
        for name in held if len(held) > 1 else []:
            yield stratum.title, name, images[names == name]
