"""What model readers measure: log odds of task networks, a quantity of regions, and its threshold."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from medrestore.checks import about, fail
from medrestore.data.identity import scan_name
from medrestore.data.volumes import read_volume
from medrestore.domains.base import Quantity
from medrestore.evaluation.arms import read_on_grid
from medrestore.files import sha256_file
from medrestore.progress import progress_bar
from medrestore.study.layout import READING, Study

if TYPE_CHECKING:
    from medrestore.evaluation.observers import Observer

__all__ = ["best_threshold", "image_scores", "quantified_cohort"]

SURE = 1e-4
"""Probabilities nearer than this to 0 or 1 are cut off: the log odds of 1 are infinite."""

FITTING_SPLITS = ("train", "validation")

_logger = logging.getLogger(__name__)


def image_scores(
    study: Study, observers: Sequence[Observer], regions: Mapping[str, Path], quantity: Quantity
) -> pd.DataFrame:
    """Read every image of the study proper once, as an evaluation does, but each by itself.

    Parameters
    ----------
    study
        Its images are read from where they are served, and must be those that were frozen.
    observers
        Task networks, each with another name.
    regions
        Region map of each case, for the quantity; may be empty.
    quantity
        What is measured in them.

    Returns
    -------
    pandas.DataFrame
        One row an image: ``image_id``, ``arm``, log odds ``NAME_score`` of each network, and the
        quantity with regions.

    Raises
    ------
    InputError
        When an image is missing, changed, empty or on another grid than its region map.
    """
    rows = []
    for image in progress_bar(
        list(study.key[study.key["phase"] == READING].itertuples()), desc="model readers look", unit="image"
    ):
        path = study.image_path(image.image_id)
        if not path.is_file() or sha256_file(path) != image.sha256_served:
            fail("is not the image that was frozen", path=path, remedy="restore it from a backup")
        measured = _measured(path, observers, regions.get(image.case), quantity)
        for observer in observers:
            name = f"{observer.name}_score"
            share = min(max(measured[name], SURE), 1 - SURE)
            measured[name] = math.log(share / (1 - share))
        rows.append({"image_id": image.image_id, "arm": image.arm, **measured})
    return pd.DataFrame(rows)


def _measured(
    path: Path, observers: Sequence[Observer], regions: Path | None, quantity: Quantity
) -> dict[str, float]:
    """Read one image as an evaluation does, by the image alone."""
    volume = read_volume(path)
    with about(path):
        codes = None if regions is None else np.rint(read_on_grid(regions, volume).data).astype(np.int16)
        measured = dict(quantity.look(volume, observers))
        if codes is not None:
            measured[quantity.name] = quantity.measure(volume.data, codes)
        return measured


def quantified_cohort(
    study: Study, manifest: str | os.PathLike[str], quantity: Quantity
) -> tuple[dict[str, Path], float]:
    """Return the region map of each case of a study, and a threshold that none of them has shaped.

    Parameters
    ----------
    study
        The study.
    manifest
        Holds the cases, and standard scans (``target``) of its training and validation splits, with
        regions and a class, of subjects that are in no phase of the study: the threshold is fitted to these.
    quantity
        That the threshold is of.

    Raises
    ------
    InputError
        When a case has no region map, or there are no such scans of both classes.
    """
    path = Path(manifest)
    column = str((study.plan["truth"] or {}).get("column") or quantity.label_column)
    table, maps = quantity.scans(path, column)
    table["case"] = [scan_name(row.subject_id, row.session_id) for row in table.itertuples()]
    # A scan may have several rows, with other degraded images; regions and target are the same in all.
    table = table[table["regions_path"] != ""].drop_duplicates("case")
    cases = list(dict.fromkeys(study.key.loc[study.key["phase"] == READING, "case"]))
    missing = [case for case in cases if case not in maps]
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        fail(
            f"has no region map of {shown}; readers by {quantity.title} need one of every case",
            path=path,
            remedy="add them to the manifest, or give weights for all model readers",
        )
    others = ~table["case"].isin(study.key["case"]) & ~table["subject_id"].isin(study.key["subject"])
    rows = table[others & table["split"].isin(FITTING_SPLITS) & table[column].isin((0, 1))]
    if rows[column].nunique() < 2:
        fail(
            f"has no {quantity.standard} scans of both classes, with regions, in its training and validation "
            f"splits that are not in the study: there is nothing to fit the {quantity.title} threshold to",
            path=path,
            remedy="add such scans, or give weights for all model readers",
        )
    threshold = best_threshold(_of_standard(rows, quantity), rows[column].astype(int).tolist())
    _logger.info("%s threshold %.4f, fitted to %d scans", quantity.title, threshold, len(rows))
    return {case: maps[case] for case in cases}, threshold


def _of_standard(rows: pd.DataFrame, quantity: Quantity) -> list[float]:
    return [
        _measured(Path(row.target_path), (), Path(row.regions_path), quantity)[quantity.name]
        for row in progress_bar(
            list(rows.itertuples()), desc=f"fitting the {quantity.title} threshold", unit="scan"
        )
    ]


def best_threshold(values: Sequence[float], labels: Sequence[int]) -> float:
    """Return the threshold above which most values of class 1, and fewest of class 0, lie.

    Parameters
    ----------
    values : (N,)
        Any number that rises with positivity.
    labels : (N,)
        0 or 1; both occur.

    Returns
    -------
    float
        Midway between two neighboring values, with the highest sensitivity + specificity (Youden 1950); of
        several such places the one with most room.

    >>> best_threshold([1.1, 1.2, 1.5, 1.9], [0, 0, 1, 1])
    1.35
    """
    order = np.argsort(values, kind="stable")
    row, truth = np.asarray(values, dtype=np.float64)[order], np.asarray(labels)[order]
    specificity = np.cumsum(truth == 0)[:-1] / (truth == 0).sum()
    sensitivity = 1 - np.cumsum(truth == 1)[:-1] / (truth == 1).sum()
    room = np.diff(row)
    youden = np.where(room > 0, np.round(sensitivity + specificity, 12), -1.0)
    place = int(np.lexsort((room, youden))[-1])
    return float((row[place] + row[place + 1]) / 2)
