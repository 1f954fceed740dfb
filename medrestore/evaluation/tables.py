"""From one row per subject and method to the tables of a paper: means, intervals, paired differences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medrestore import rng
from medrestore.metrics.intervals import Interval, bootstrap_mean
from medrestore.metrics.quantitative import bland_altman
from medrestore.metrics.task import auc

__all__ = [
    "PAIRS",
    "auc_interval",
    "difference_table",
    "label_of",
    "metrics_of",
    "render",
    "summary_table",
]

PAIRS = (("taskgan", "gan"), ("l1_task", "l1"), ("gan", "l1"), ("taskgan", "l1"))
"""Methods whose paired differences are reported where both are there."""

LABELS = {
    "input": "Input",
    "gaussian": "Gaussian filter",
    "nlm": "Non-local means",
    "l1": "L1",
    "l1_task": "L1 + task",
    "gan": "GAN",
    "taskgan": "Task-GAN",
    "standard_dose": "Standard dose",
}

RESAMPLES = 2000


@dataclass(frozen=True)
class MetricTitle:
    """How a metric is shown: its column's title, digits, and the table it stands in."""

    title: str
    digits: int
    table: str


QUALITY, DIAGNOSIS, QUANTIFICATION = "Image quality", "Diagnosis", "Quantification"
TITLES = {
    "psnr": MetricTitle("PSNR (dB)", 2, QUALITY),
    "ssim": MetricTitle("SSIM", 3, QUALITY),
    "rmse": MetricTitle("RMSE", 3, QUALITY),
    "nrmse": MetricTitle("NRMSE, head", 3, QUALITY),
    "dose_equivalent": MetricTitle("Dose equivalent", 3, QUALITY),
    "suvr_bias": MetricTitle("SUVR bias", 3, QUANTIFICATION),
    "suvr_lower_limit": MetricTitle("Lower limit", 3, QUANTIFICATION),
    "suvr_upper_limit": MetricTitle("Upper limit", 3, QUANTIFICATION),
    "suvr_absolute_error": MetricTitle("SUVR absolute error", 3, QUANTIFICATION),
}


def label_of(method: str) -> str:
    """Return a method's name as tables and figures show it.

    >>> label_of("taskgan"), label_of("my_method")
    ('Task-GAN', 'my_method')
    """
    return LABELS.get(method, method)


def title_of(metric: str) -> MetricTitle:
    """Return how a metric is shown; those of a classifier are named after it.

    >>> title_of("observer_mae").title
    'Observer MAE'
    """
    if metric in TITLES:
        return TITLES[metric]
    judge, _, kind = metric.rpartition("_")
    who = "T" if judge == "task" else judge.replace("_", " ").capitalize()
    kinds = {"mae": "MAE", "error": "error", "auc": "AUC"}
    return MetricTitle(f"{who} {kinds.get(kind, kind)}".strip(), 3, DIAGNOSIS)


def metrics_of(columns: Iterable[str]) -> list[str]:
    """Return the metrics that a per-subject table's columns allow a mean of, in the order of the tables."""
    given = list(columns)
    judged = [name for name in given if name.endswith(("_mae", "_error")) and name not in TITLES]
    return [name for name in TITLES if name in given] + judged


def summary_table(per_subject: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """Return mean and 95 % bootstrap interval over subjects of every metric and method.

    Parameters
    ----------
    per_subject
        One row per scan and method: ``subject_id``, ``method``, ``label`` (y: 0, 1 or NaN) and metrics; NaN
        where a metric does not apply. Scans of one subject are averaged first.
    seed
        Of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        ``method``, ``metric``, ``mean``, ``low``, ``high``, ``subjects``: a row for each that applies. Beside
        the means: the AUC of every classifier, the limits of agreement of the SUVR (95 %, Bland and Altman),
        and the share of subjects whose dose equivalent lies beyond the dose series.
    """
    rows: list[dict[str, Any]] = []
    for method, group in per_subject.groupby("method", sort=False):
        for metric in metrics_of(per_subject.columns):
            values = _by_subject(group, metric)
            if len(values):
                interval = bootstrap_mean(values.to_numpy(), n_resamples=RESAMPLES, seed=seed)
                rows.append(_row(method, metric, interval, len(values)))
        for score in [name for name in per_subject.columns if name.endswith("_score")]:
            held = group.dropna(subset=[score, "label"])
            if held["label"].nunique() == 2:
                interval = auc_interval(held[score], held["label"], held["subject_id"], seed=seed)
                rows.append(
                    _row(method, score.replace("_score", "_auc"), interval, held["subject_id"].nunique())
                )
        rows += _of_all(str(method), group)
    return pd.DataFrame(rows, columns=["method", "metric", "mean", "low", "high", "subjects"])


def _of_all(method: str, group: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of numbers that have no interval."""
    nothing = float("nan")
    rows = []
    if "suvr_bias" in group:
        held = group.dropna(subset=["suvr_bias"])
        if len(held) > 1:
            agreement = bland_altman(held["suvr"].to_numpy(), (held["suvr"] - held["suvr_bias"]).to_numpy())
            for metric, value in (("lower", agreement.lower), ("upper", agreement.upper)):
                rows.append(
                    _row(method, f"suvr_{metric}_limit", Interval(value, nothing, nothing), len(held))
                )
    if "dose_equivalent_bound" in group:
        held = group.dropna(subset=["dose_equivalent"])
        if len(held):
            beyond = float((held["dose_equivalent_bound"] == ">").mean())
            rows.append(_row(method, "dose_equivalent_beyond", Interval(beyond, nothing, nothing), len(held)))
    return rows


def _by_subject(group: pd.DataFrame, metric: str) -> pd.Series[float]:
    return group.dropna(subset=[metric]).groupby("subject_id", sort=True)[metric].mean()


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
    per_subject: pd.DataFrame, *, pairs: Sequence[tuple[str, str]] = PAIRS, seed: int
) -> pd.DataFrame:
    """Return paired differences over subjects, first minus second, with 95 % bootstrap intervals.

    Parameters
    ----------
    per_subject
        As in :func:`summary_table`.
    pairs
        Methods by name; a pair of which one is not there is left out.
    seed
        Of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        ``first``, ``second``, ``metric``, ``mean``, ``low``, ``high``, ``subjects``. The SUVR enters by its
        absolute error.
    """
    rows: list[dict[str, Any]] = []
    present = set(per_subject["method"])
    for first, second in pairs:
        if not {first, second} <= present:
            continue
        for metric in metrics_of(per_subject.columns):
            if metric == "suvr_bias":
                continue
            a, b = (
                _by_subject(per_subject[per_subject["method"] == name], metric) for name in (first, second)
            )
            difference = (a - b).dropna()
            if len(difference):
                interval = bootstrap_mean(difference.to_numpy(), n_resamples=RESAMPLES, seed=seed)
                rows.append({"first": first, "second": second} | _row("", metric, interval, len(difference)))
    columns = ["first", "second", "metric", "mean", "low", "high", "subjects"]
    return pd.DataFrame(rows, columns=columns)


def render(summary: pd.DataFrame, differences: pd.DataFrame) -> str:
    """Return the tables as aligned Markdown, readable on a terminal too.

    Parameters
    ----------
    summary
        Of :func:`summary_table`.
    differences
        Of :func:`difference_table`.
    """
    parts = []
    cells = {
        (row["method"], row["metric"]): _cell(row["metric"], row["mean"], row["low"], row["high"])
        for row in summary.to_dict("records")
    }
    _mark_beyond(summary, cells)
    shown = [name for name in summary["metric"].unique() if name != "dose_equivalent_beyond"]
    for table in (QUALITY, DIAGNOSIS, QUANTIFICATION):
        metrics = _in_order([name for name in shown if title_of(name).table == table])
        body = [
            [label_of(method), *(cells.get((method, name), "n/a") for name in metrics)]
            for method in summary["method"].unique()
            if any((method, name) in cells for name in metrics)
        ]
        if metrics:
            parts += [
                f"### {table}",
                _markdown(["Method", *(title_of(name).title for name in metrics)], body),
            ]
    if len(differences):
        metrics = _in_order(list(differences["metric"].unique()))
        cells = {
            ((row["first"], row["second"]), row["metric"]): _cell(
                row["metric"], row["mean"], row["low"], row["high"], sign="+"
            )
            for row in differences.to_dict("records")
        }
        pairs = list(dict.fromkeys(pair for pair, _ in cells))
        body = [
            [title_of(name).title, *(cells.get((pair, name), "n/a") for pair in pairs)] for name in metrics
        ]
        head = ["Metric", *(f"{label_of(first)} - {label_of(second)}" for first, second in pairs)]
        parts += ["### Paired differences", _markdown(head, body)]
    return "\n\n".join(parts) + "\n"


def _in_order(metrics: list[str]) -> list[str]:
    """Sort metrics as tables show them: those with a title first, then T, then the other classifiers."""
    kinds = ("mae", "error", "auc")

    def rank(name: str) -> tuple[int, bool, str, int]:
        if name in TITLES:
            return list(TITLES).index(name), False, "", 0
        judge, _, kind = name.rpartition("_")
        return len(TITLES), judge != "task", judge, kinds.index(kind) if kind in kinds else len(kinds)

    return sorted(metrics, key=rank)


def _cell(metric: str, mean: float, low: float, high: float, *, sign: str = "") -> str:
    digits = title_of(metric).digits
    text = f"{mean:{sign}.{digits}f}"
    return text if math.isnan(low) else f"{text} ({low:{sign}.{digits}f}, {high:{sign}.{digits}f})"


def _mark_beyond(summary: pd.DataFrame, cells: dict[tuple[str, str], str]) -> None:
    """Put >= before a mean dose equivalent some of whose subjects lie beyond the dose series."""
    for row in summary[summary["metric"] == "dose_equivalent_beyond"].to_dict("records"):
        if row["mean"] > 0:
            cells[row["method"], "dose_equivalent"] = f"≥ {cells[row['method'], 'dose_equivalent']}"


def _markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[index]) for row in [head, *body]) for index in range(len(head))]
    lines = [[text.ljust(width) for text, width in zip(row, widths, strict=True)] for row in [head, *body]]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
