"""Sentences that stand below the tables of several kinds of image: how the numbers came about."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from medrestore.evaluation.titles import MetricKey

__all__ = ["interval_note", "judges_note", "measured"]


def measured(summary: pd.DataFrame) -> set[str]:
    """Return the names of all metrics in a table, whatever stratum and group they are of."""
    return {MetricKey.parse(str(key)).name for key in summary["metric"].unique()}


def interval_note(subjects: int, *, unit: str = "subject") -> str:
    """Say what stands in parentheses; a single subject has nothing there.

    >>> interval_note(1, unit="patient")
    'A single patient has no interval: the numbers say nothing of other patients.'
    """
    if subjects == 1:
        return f"A single {unit} has no interval: the numbers say nothing of other {unit}s."
    return f"Mean (95 % bootstrap interval over {unit}s)."


def judges_note(metrics: Collection[str], *, ends: Collection[str]) -> str:
    """Say who of the judges of these metrics took part in training; nothing where nobody judged.

    >>> judges_note({"task_mae", "observer_mae"}, ends=["_mae"])
    'T took part in training, observers did not.'
    >>> judges_note({"observer_1_mae"}, ends=["_mae"])
    'Observers took no part in training.'
    """
    judges = {name.removesuffix(end) for name in metrics for end in ends if name.endswith(end)}
    if not judges:
        return ""
    if "task" not in judges:
        return "Observers took no part in training."
    return "T took part in training" + (", observers did not." if judges != {"task"} else ".")
