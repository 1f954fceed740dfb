"""One table over several evaluations of the same subjects: trainings of different seeds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

import pandas as pd

from medrestore.checks import InputError
from medrestore.evaluation.record import load_evaluation
from medrestore.evaluation.rendering import render
from medrestore.evaluation.tables import difference_table, summary_table
from medrestore.evaluation.titles import Metrics
from medrestore.evaluation.verdict import verdict_sentences, verdict_table

__all__ = ["pool_evaluations"]

ALIKE = ("manifest_sha256", "split", "data_range")
"""Keys of their records that evaluations taken together must have in common, whatever they are of."""


def pool_evaluations(
    folders: Sequence[str | os.PathLike[str]],
    *,
    metrics_of: Callable[[str, Iterable[str]], Metrics],
    pairs: Sequence[tuple[str, str]] | None = None,
    seed: int = 0,
) -> str:
    """Return the tables of several evaluations taken together, as Markdown.

    A subject's value is the mean over the evaluations; intervals are over subjects, as everywhere: seeds of a
    training are no further subjects. Methods that are not in every evaluation are left out.

    Parameters
    ----------
    folders
        Of evaluations, each with its own seed of the trainings.
    metrics_of
        From the name of a kind of image to its metrics.
    pairs
        Methods whose paired differences are reported; those of the first evaluation when not given.
    seed
        Of the bootstrap.

    Raises
    ------
    InputError
        When there is none, or they are evaluations of different subjects, data ranges or splits.
    """
    if not folders:
        raise InputError("folders must name at least one evaluation")
    evaluations = [load_evaluation(folder, metrics_of=metrics_of) for folder in folders]
    first = evaluations[0]
    for other in evaluations[1:]:
        for key in (*ALIKE, *first.metrics.alike):
            if other.record.get(key) != first.record.get(key):
                raise InputError(
                    f"{other.output}: was evaluated with {key} {other.record.get(key)}, "
                    f"{first.output} with {first.record.get(key)}"
                )
    shared = set.intersection(*(set(item.per_subject["method"]) for item in evaluations))
    table = pd.concat([item.per_subject for item in evaluations], ignore_index=True)
    table = table[table["method"].isin(shared)]
    if pairs is None:
        pairs = [(one, other) for one, other in first.record.get("pairs", first.metrics.pairs)]
    summary = summary_table(table, metrics=first.metrics, seed=seed)
    differences = difference_table(table, metrics=first.metrics, pairs=pairs, seed=seed)
    verdicts = verdict_table(table, metrics=first.metrics, seed=seed)
    said = verdict_sentences(verdicts, first.metrics)
    return render(summary, differences, first.metrics, verdicts=said)
