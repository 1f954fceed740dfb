"""The numbers of a corruption study: seeds pooled, intervals over patients, changes with the level."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medrestore import rng
from medrestore.checks import InputError
from medrestore.evaluation.tables import RESAMPLES, difference_table, summary_table
from medrestore.evaluation.titles import Metrics
from medrestore.experiments.corruption_plan import Corruption
from medrestore.files import atomic_path
from medrestore.metrics.intervals import Interval, bootstrap_mean

__all__ = ["TABLES", "StudyResults", "pool_cells", "ratio_of_means", "write_results"]

TABLES = ("results", "by_seed", "changes", "differences")

Cell: TypeAlias = tuple[float, int]
"""Level and seed."""


@dataclass(frozen=True, eq=False)
class StudyResults:
    """What a corruption study found; every interval is a 95 % bootstrap interval over patients.

    Parameters
    ----------
    results
        ``level``, ``variant``, ``metric``, ``mean``, ``low``, ``high``, ``seeds``, ``patients``. Rows of the
        reference, which is not trained, have no level and 0 seeds.
    by_seed
        ``level``, ``variant``, ``seed``, ``metric``, ``mean``, ``patients``.
    changes
        From the lowest level: ``level``, ``variant``, ``metric``, ``change``, ``low``, ``high``, ``patients``
        and ``ratio``, ``ratio_low``, ``ratio_high`` to the change of the first variant. A ratio is given only
        where the interval of the first variant's change leaves out 0.
    differences
        Between variants at one level: ``level``, ``first``, ``second``, ``metric``, ``mean``, ``low``,
        ``high``, ``subjects``.
    study, metrics
        Of the kind of image.
    """

    results: pd.DataFrame
    by_seed: pd.DataFrame
    changes: pd.DataFrame
    differences: pd.DataFrame
    study: Corruption
    metrics: Metrics

    @property
    def variants(self) -> list[str]:
        """Those that were trained, in order."""
        return [str(name) for name in self.results["variant"].unique() if name != self.study.reference]

    @property
    def seeds(self) -> int:
        """Number of trainings of each variant at each level."""
        return len(self.by_seed["seed"].unique())

    @property
    def levels(self) -> list[float]:
        """From the lowest to the highest."""
        return sorted(float(level) for level in self.results["level"].dropna().unique())


def pool_cells(
    cells: Mapping[Cell, pd.DataFrame],
    study: Corruption,
    metrics: Metrics,
    *,
    variants: Sequence[str],
    seed: int = 0,
) -> StudyResults:
    """Pool the evaluations of all levels and seeds.

    Parameters
    ----------
    cells
        By level and seed: a row per image and method (``subject_id``, ``session_id``, ``method``, metrics),
        the same images in all; every level with the same seeds.
    study, metrics
        Of the kind of image.
    variants
        Methods that were trained, in order; the first is what the changes of the others are compared with.
    seed
        Of the bootstrap.

    Raises
    ------
    InputError
        When the cells are not those of whole levels, or of other images, or lack a variant.

    Notes
    -----
    An image's value is the mean over the seeds, a patient's the mean over the images; intervals are over
    patients: seeds of a training are no further patients. How much a training's chance matters is in
    ``by_seed``.
    """
    _require_alike(cells, variants, study.unit)
    levels = sorted({level for level, _ in cells})
    seeds = sorted({number for _, number in cells})
    first = next(iter(cells.values()))
    untrained = first[first["method"] == study.reference]
    names = metrics.among(first.columns)
    images = {
        level: _over_seeds([cells[level, number] for number in seeds], variants, names) for level in levels
    }
    parts = [
        summary_table(table, metrics=metrics, seed=seed).assign(level=level, seeds=len(seeds))
        for level, table in images.items()
    ]
    if len(untrained):
        parts.append(summary_table(untrained, metrics=metrics, seed=seed).assign(level=math.nan, seeds=0))
    results = pd.concat(parts, ignore_index=True).rename(
        columns={"method": "variant", "subjects": "patients"}
    )
    order = ["level", "variant", "metric", "mean", "low", "high", "seeds", "patients"]
    pairs = _pairs(variants)
    differences = [
        difference_table(table, metrics=metrics, pairs=pairs, seed=seed).assign(level=level)
        for level, table in images.items()
    ]
    columns = ["level", "first", "second", "metric", "mean", "low", "high", "subjects"]
    return StudyResults(
        results[order],
        _by_seed(cells, variants, names),
        _changes(images, variants, [name for name in names if metrics.title_of(name).paired], seed),
        pd.concat(differences, ignore_index=True)[columns],
        study,
        metrics,
    )


def ratio_of_means(
    top: Sequence[float] | NDArray[np.float64], bottom: Sequence[float] | NDArray[np.float64], *, seed: int
) -> Interval:
    """Return the ratio of two means over the same patients and its percentile bootstrap interval.

    Parameters
    ----------
    top, bottom : (N,)
        Of the same patients in the same order; patients are drawn together.
    seed
        Of the bootstrap.

    Returns
    -------
    Interval
        All NaN where the interval of the bottom's mean holds 0 or there is none: a ratio to what may be
        nothing says nothing.

    Examples
    --------
    >>> ratio_of_means([1.0, 2.0, 3.0], [2.0, 4.0, 6.0], seed=0)
    Interval(mean=0.5, low=0.5, high=0.5)
    """
    above, below = np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64)
    whole = bootstrap_mean(below, seed=seed, n_resamples=RESAMPLES)
    if not (whole.low > 0 or whole.high < 0):
        return Interval(math.nan, math.nan, math.nan)
    drawn = rng.generator(seed, "bootstrap", len(below)).integers(len(below), size=(RESAMPLES, len(below)))
    low, high = np.quantile(above[drawn].mean(axis=1) / below[drawn].mean(axis=1), [0.025, 0.975])
    return Interval(float(above.mean() / below.mean()), float(low), float(high))


def write_results(found: StudyResults, folder: str | os.PathLike[str]) -> None:
    """Write :data:`TABLES`, a CSV file each."""
    for name in TABLES:
        with atomic_path(Path(folder) / f"{name}.csv") as temporary:
            getattr(found, name).to_csv(temporary, index=False, lineterminator="\n")


def _require_alike(cells: Mapping[Cell, pd.DataFrame], variants: Sequence[str], unit: str) -> None:
    if not cells:
        raise InputError("cells must hold at least one evaluation")
    wanted = {(level, seed) for level, _ in cells for _, seed in cells}
    if set(cells) != wanted:
        lacking = ", ".join(f"level {level:g} seed {seed}" for level, seed in sorted(wanted - set(cells)))
        raise InputError(f"every level must have every seed; there is no evaluation of {lacking}")
    images: list[Any] = []
    for (level, seed), table in cells.items():
        for name in variants:
            held = table[table["method"] == name]
            if held.empty:
                raise InputError(f"the evaluation of level {level:g} seed {seed} has no method {name!r}")
            found = sorted(zip(held["subject_id"], held["session_id"], strict=True))
            if found != (images := images or found):
                raise InputError(
                    f"the evaluation of {name!r} at level {level:g} with seed {seed} is one of other {unit}s"
                )


def _over_seeds(
    tables: Sequence[pd.DataFrame], variants: Sequence[str], metrics: Sequence[str]
) -> pd.DataFrame:
    """Return each variant's images, each with its mean over the seeds."""
    held = pd.concat(tables, ignore_index=True)
    means = held.groupby(["method", "subject_id", "session_id"])[list(metrics)].mean()
    return means.loc[list(variants)].reset_index()


def _pairs(variants: Sequence[str]) -> list[tuple[str, str]]:
    """Return what is compared at each level: each variant with the one before, the last with the first."""
    pairs = list(zip(variants[1:], variants[:-1], strict=True))
    return pairs if len(variants) < 3 else [*pairs, (variants[-1], variants[0])]


def _by_seed(
    cells: Mapping[Cell, pd.DataFrame], variants: Sequence[str], metrics: Sequence[str]
) -> pd.DataFrame:
    rows = []
    for (level, seed), table in sorted(cells.items(), key=lambda item: item[0]):
        for variant in variants:
            patients = table[table["method"] == variant].groupby("subject_id")[list(metrics)].mean()
            for metric in metrics:
                values = patients[metric].dropna()
                if len(values):
                    row = (level, variant, seed, metric, float(values.mean()), len(values))
                    rows.append(row)
    return pd.DataFrame(rows, columns=["level", "variant", "seed", "metric", "mean", "patients"])


def _changes(
    images: Mapping[float, pd.DataFrame], variants: Sequence[str], metrics: Iterable[str], seed: int
) -> pd.DataFrame:
    """Return how every variant changes from the lowest level, patient by patient."""
    base, *others = sorted(images)
    names = list(metrics)
    means = {
        (level, str(name)): table[table["method"] == name].groupby("subject_id")[names].mean()
        for level, table in images.items()
        for name in variants
    }
    rows = []
    for metric in names:
        for level in others:
            moved = {
                name: (means[level, name][metric] - means[base, name][metric]).dropna() for name in variants
            }
            for name, values in moved.items():
                if values.empty:
                    continue
                change = bootstrap_mean(values.to_numpy(), seed=seed, n_resamples=RESAMPLES)
                ratio = Interval(math.nan, math.nan, math.nan)
                shared = values.index.intersection(moved[variants[0]].index)
                if name != variants[0] and len(shared):
                    first = moved[variants[0]].loc[shared].to_numpy()
                    ratio = ratio_of_means(values.loc[shared].to_numpy(), first, seed=seed)
                rows.append((level, name, metric, *change, len(values), *ratio))
    columns = ["level", "variant", "metric", "change", "low", "high", "patients"]
    return pd.DataFrame(rows, columns=[*columns, "ratio", "ratio_low", "ratio_high"])
