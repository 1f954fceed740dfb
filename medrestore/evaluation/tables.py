"""From one row per subject and method to the tables of a paper: means, intervals, paired differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medrestore import rng
from medrestore.evaluation.titles import MEAN, MetricKey, Metrics
from medrestore.metrics.intervals import Interval, bootstrap_mean
from medrestore.metrics.task import auc

__all__ = ["auc_interval", "difference_table", "differences_by_image", "summary_table"]

RESAMPLES = 2000


def summary_table(per_subject: pd.DataFrame, *, metrics: Metrics, seed: int) -> pd.DataFrame:
    """Return mean and 95 % bootstrap interval over subjects of every metric and method.

    Parameters
    ----------
    per_subject
        One row per scan and method: ``subject_id``, ``method``, metrics, and ``label`` (y: 0, 1 or NaN) where
        a classifier scored; NaN where a metric does not apply. Scans of one subject are averaged first. With
        a column of strata there is a row for each stratum too, and a column ``group`` of subjects.
    metrics
        Of the kind of image.
    seed
        Of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        ``method``, ``metric``, ``mean``, ``low``, ``high``, ``subjects``: a row for each that applies. Beside
        the means: the AUC of every classifier, the kind's own summaries, and of bounded metrics the share of
        values that lie beyond. Metrics of strata and groups are named as
        :class:`~medrestore.evaluation.titles.MetricKey` names them.
    """
    names = metrics.among(per_subject.columns)
    rows: list[dict[str, Any]] = []
    for method in per_subject["method"].unique():
        for stratum, group, part in _strata(per_subject, method, metrics):
            means = part.groupby("subject_id", sort=True)[names].mean()
            for metric in names:
                values = means[metric].dropna()
                if len(values) and (stratum != MEAN or metrics.title_of(metric).averaged):
                    interval = bootstrap_mean(values.to_numpy(), n_resamples=RESAMPLES, seed=seed)
                    key = str(MetricKey(metric, stratum, group))
                    rows.append(_row(method, key, interval, len(values)))
        for stratum, group, part in _strata(per_subject, method, metrics):
            if stratum != MEAN:
                rows += [
                    {**row, "metric": str(MetricKey(row["metric"], stratum, group))}
                    for row in _of_all(str(method), part, metrics, seed)
                ]
    return pd.DataFrame(rows, columns=["method", "metric", "mean", "low", "high", "subjects"])


def _strata(
    per_subject: pd.DataFrame, method: object, metrics: Metrics
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield the rows of a method by stratum and group of subjects, each of them also taken together.

    A mean over strata is that of methods that have them all: of others it would be a mean of other images.
    A single group is no group apart.
    """
    held = per_subject[per_subject["method"] == method]
    column = metrics.strata.column
    if column not in per_subject:
        yield "", "", held
        return
    strata = metrics.strata.in_order(per_subject[column])
    whole = len(strata) > 1 and set(held[column]) == set(strata)
    names = sorted(set(per_subject["group"]) - {""}) if "group" in per_subject else []
    for group in ["", *names] if len(names) > 1 else [""]:
        rows = held[held["group"] == group] if group else held
        for stratum in strata:
            yield stratum, group, rows[rows[column] == stratum]
        if whole:
            yield MEAN, group, rows


def _of_all(method: str, group: pd.DataFrame, metrics: Metrics, seed: int) -> list[dict[str, Any]]:
    """Return the rows of numbers that are no mean over subjects."""
    nothing = float("nan")
    rows = []
    for score in [name for name in group.columns if name.endswith("_score")]:
        held = group.dropna(subset=[score, "label"])
        if held["label"].nunique() == 2:
            interval = auc_interval(held[score], held["label"], held["subject_id"], seed=seed)
            metric = score.replace("_score", "_auc")
            rows.append(_row(method, metric, interval, held["subject_id"].nunique()))
    for metric, value, count in metrics.summaries(group):
        rows.append(_row(method, metric, Interval(value, nothing, nothing), count))
    for metric in metrics.bounded:
        held = group.dropna(subset=[metric]) if f"{metric}_bound" in group else group.iloc[:0]
        if len(held):
            beyond = float((held[f"{metric}_bound"] == ">").mean())
            rows.append(_row(method, f"{metric}_beyond", Interval(beyond, nothing, nothing), len(held)))
    return rows


def _row(method: object, metric: str, interval: Interval, subjects: int) -> dict[str, Any]:
    return {"method": method, "metric": metric, **interval._asdict(), "subjects": subjects}


def auc_interval(
    scores: Sequence[float] | pd.Series[float],
    labels: Sequence[int] | pd.Series[int],
    subjects: Sequence[str] | pd.Series[str],
    *,
    seed: int,
    level: float = 0.95,
) -> Interval:
    """Return the area under the ROC and its percentile bootstrap interval over subjects.

    Parameters
    ----------
    scores, labels, subjects : (N,)
        Of each scan; scans of one subject are drawn together.
    seed
        Of the bootstrap.
    level
        Probability content of the interval.

    Returns
    -------
    Interval
        Ends are NaN when most samples lack one of the classes.

    Notes
    -----
    The AUC of a sample is the mean over pairs of a positive and a negative, weighted by how often both were
    drawn (Mann and Whitney 1947). Samples without one of the classes are left out.
    """
    score = np.asarray(scores, dtype=np.float64)
    positive = np.asarray(labels).astype(bool)
    _, index = np.unique(np.asarray(subjects, dtype=str), return_inverse=True)
    count = int(index.max()) + 1
    drawn = rng.generator(seed, "bootstrap", count).integers(count, size=(RESAMPLES, count))
    times = np.stack([np.bincount(row, minlength=count) for row in drawn])[:, index].astype(np.float64)
    higher = score[positive][:, None] - score[~positive][None, :]
    wins = (higher > 0) + 0.5 * (higher == 0)
    pairs = times[:, positive].sum(1) * times[:, ~positive].sum(1)
    held = pairs > 0
    point = auc(score, positive)
    if held.mean() < 0.5:
        return Interval(point, float("nan"), float("nan"))
    areas: NDArray[np.float64] = np.einsum(
        "rp,pn,rn->r", times[held][:, positive], wins, times[held][:, ~positive], optimize=True
    )
    low, high = np.quantile(areas / pairs[held], [(1 - level) / 2, (1 + level) / 2])
    return Interval(point, float(low), float(high))


def difference_table(
    per_subject: pd.DataFrame, *, metrics: Metrics, pairs: Sequence[tuple[str, str]] | None = None, seed: int
) -> pd.DataFrame:
    """Return paired differences over subjects, first minus second, with 95 % bootstrap intervals.

    Parameters
    ----------
    per_subject, metrics
        As in :func:`summary_table`.
    pairs
        Methods by name; a pair of which one is not there is left out. Those of the kind of image when not
        given.
    seed
        Of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        ``first``, ``second``, ``metric``, ``mean``, ``low``, ``high``, ``subjects``. Signed errors enter by
        their absolute value.
    """
    names = [name for name in metrics.among(per_subject.columns) if metrics.title_of(name).paired]
    present = set(per_subject["method"])
    rows: list[dict[str, Any]] = []
    for first, second in metrics.pairs if pairs is None else pairs:
        if not {first, second} <= present:
            continue
        paired = differences_by_image(per_subject, first, second, names, metrics=metrics).assign(method=first)
        summary = summary_table(paired, metrics=metrics, seed=seed).drop(columns="method")
        rows += summary.assign(first=first, second=second).to_dict("records")  # type: ignore[arg-type]
    columns = ["first", "second", "metric", "mean", "low", "high", "subjects"]
    return pd.DataFrame(rows, columns=columns)


def differences_by_image(
    per_subject: pd.DataFrame, first: str, second: str, names: Sequence[str], *, metrics: Metrics
) -> pd.DataFrame:
    """Return first minus second of metrics image by image, for the images that have both.

    Before any mean: of a stratum that one of the two lacks there is no difference. An image that was
    evaluated more than once counts by its mean.
    """
    keys = ("subject_id", "session_id", "group", metrics.strata.column)
    image = [name for name in keys if name in per_subject]
    a, b = (
        per_subject[per_subject["method"] == method].groupby(image, sort=False)[list(names)].mean()
        for method in (first, second)
    )
    return (a - b).dropna(how="all").reset_index()
