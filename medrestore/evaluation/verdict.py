"""What an evaluation says of a restoration in a sentence: better, no different, or worse."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from medrestore.evaluation.arms import INPUT
from medrestore.evaluation.markdown import interval_text
from medrestore.evaluation.tables import RESAMPLES, differences_by_image
from medrestore.evaluation.titles import Metrics
from medrestore.metrics.intervals import bootstrap_mean

__all__ = [
    "FIDELITY_METRIC",
    "overall",
    "restorations",
    "verdict_note",
    "verdict_sentences",
    "verdict_table",
    "word_of",
]

BETTER, SAME, WORSE, OPEN = "better", "no different", "worse", "not told"

FIDELITY_METRIC = "psnr"
"""Counts in the verdict of every kind of image, beside its diagnosis."""

COLUMNS = ("first", "second", "metric", "mean", "low", "high", "subjects", "verdict")


def verdict_table(per_subject: pd.DataFrame, *, metrics: Metrics, seed: int) -> pd.DataFrame:
    """Compare every restoration with the input and with the best classical method, subject by subject.

    Parameters
    ----------
    per_subject
        As in :func:`~medrestore.evaluation.tables.summary_table`. Methods are restorations where they are
        neither input nor baseline and have a PSNR, which the true image has not.
    metrics
        Of the kind of image: its diagnosis and its baselines.
    seed
        Of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        ``first`` (the restoration), ``second`` (what it is compared with), ``metric``, ``mean``, ``low``,
        ``high`` (of the paired difference first - second over subjects, 95 % bootstrap), ``subjects``,
        ``verdict``: ``better`` or ``worse`` where the interval lies to one side of 0, else ``no different``;
        ``not told`` of a single subject.

    Notes
    -----
    The best classical method is the best by each metric on these very subjects: a restoration has to beat
    them all, by each of both.
    """
    table = per_subject.copy()
    counted: list[str] = []
    for name in metrics.diagnosis:
        columns = Metrics.observed(name, per_subject.columns)
        if columns and not counted:
            table[name] = per_subject[columns].mean(axis=1, skipna=False)
            counted.append(name)
    counted += [FIDELITY_METRIC] if FIDELITY_METRIC in table else []
    rows: list[dict[str, Any]] = []
    for method in restorations(table, metrics):
        for metric in counted:
            less_is_better = metrics.title_of(metric).less_is_better
            gained = _gained(table, method, metric, metrics)
            for name in _references(gained, less_is_better=less_is_better):
                interval = bootstrap_mean(gained[name].to_numpy(), n_resamples=RESAMPLES, seed=seed)
                row = {"first": method, "second": name, "metric": metric, **interval._asdict()}
                word = word_of(interval.low, interval.high, less_is_better=less_is_better)
                rows.append({**row, "subjects": len(gained[name]), "verdict": word})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _gained(
    per_subject: pd.DataFrame, method: str, metric: str, metrics: Metrics
) -> dict[str, pd.Series[float]]:
    """Return a restoration's differences to input and baselines that share images with it, by subject."""
    found = {}
    for name in (INPUT, *metrics.baselines):
        by_image = differences_by_image(per_subject, method, name, [metric], metrics=metrics)
        by_subject = by_image.groupby("subject_id")[metric].mean()
        if len(by_subject):
            found[name] = by_subject
    return found


def _references(gained: Mapping[str, pd.Series[float]], *, less_is_better: bool) -> list[str]:
    """Return the input, and the baseline that is hardest to beat: against it least is gained."""
    sign = -1 if less_is_better else 1
    classical = {sign * float(values.mean()): name for name, values in gained.items() if name != INPUT}
    return [*([INPUT] if INPUT in gained else []), *([classical[min(classical)]] if classical else [])]


def restorations(per_subject: pd.DataFrame, metrics: Metrics) -> list[str]:
    """Return the methods of a table per subject that are neither input, baseline nor true image."""
    if FIDELITY_METRIC not in per_subject:
        return []
    measured = per_subject.dropna(subset=[FIDELITY_METRIC])["method"].unique()
    return [str(name) for name in measured if name not in (INPUT, *metrics.baselines)]


def word_of(low: float, high: float, *, less_is_better: bool) -> str:
    """Return what the interval of a difference says.

    >>> word_of(0.1, 0.3, less_is_better=False), word_of(0.1, 0.3, less_is_better=True)
    ('better', 'worse')
    >>> word_of(-0.1, 0.3, less_is_better=True), word_of(float("nan"), float("nan"), less_is_better=True)
    ('no different', 'not told')
    """
    low, high = (-high, -low) if less_is_better else (low, high)
    if math.isnan(low):  # of a single subject
        return OPEN
    return BETTER if low > 0 else WORSE if high < 0 else SAME


def overall(words: Iterable[str]) -> str:
    """Return one word for several: what is worse by one of them is worse, whatever it gains by the others.

    >>> overall(["better", "worse"]), overall(["better", "no different"]), overall(["no different"])
    ('worse', 'better', 'no different')
    """
    held = list(words)
    return next((word for word in (WORSE, BETTER, SAME) if word in held), OPEN)


def verdict_sentences(verdicts: pd.DataFrame, metrics: Metrics) -> dict[str, str]:
    """Return the verdict of every restoration in a sentence, without its name.

    Parameters
    ----------
    verdicts
        Of :func:`verdict_table`.
    metrics
        Of the kind of image.
    """
    sentences = {}
    for method, rows in verdicts.groupby("first", sort=False):
        against = {
            "the input": rows[rows["second"] == INPUT],
            "the best classical method": rows[rows["second"] != INPUT],
        }
        parts = [_against(name, held, metrics) for name, held in against.items() if len(held)]
        sentences[str(method)] = "; ".join(parts) + "."
    return sentences


def _against(name: str, rows: pd.DataFrame, metrics: Metrics) -> str:
    word = overall(rows["verdict"])
    than = {SAME: "from", OPEN: "against"}.get(word, "than")
    references = list(rows["second"].unique())
    if name.endswith("method") and len(references) == 1:
        name = f"{name}, {metrics.label_of(references[0])}"
    numbers = [
        f"{metrics.title_of(row['metric']).title} {_interval(row, metrics)}"
        + (f" against {metrics.label_of(row['second'])}" if len(references) > 1 else "")
        + f", {row['verdict']}"
        for row in rows.to_dict("records")
    ]
    return f"{word} {than} {name} ({'; '.join(numbers)})"


def _interval(row: Any, metrics: Metrics) -> str:
    digits = metrics.title_of(row["metric"]).digits
    return interval_text(row["mean"], row["low"], row["high"], digits=digits, sign="+")


def verdict_note(verdicts: pd.DataFrame) -> list[str]:
    """Say how verdicts come about; nothing where there are none."""
    if verdicts.empty:
        return []
    return [
        "Verdict: paired differences over subjects, restoration minus what it is compared with (95 % "
        "bootstrap interval). Better or worse where the interval lies to one side of 0; over both metrics, "
        "worse where one of them is worse. The best classical method is the best by each metric on these "
        "very subjects."
    ]
