"""Agreement in a study: between its readers, and of each reader with themselves on the hidden duplicates."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medrestore.checks import InputError
from medrestore.study.analysis.unblinded import Unblinded
from medrestore.study.labels import ALL
from medrestore.study.questions import Question
from medrestore.study.statistics.agreement import cohen
from medrestore.study.statistics.between_readers import coefficients
from medrestore.study.statistics.sections import wilson

__all__ = ["between_readers", "within_readers"]

BETWEEN_COLUMNS = (
    *("question", "arm", "readers", "coefficient"),
    *("value", "low", "high", "cases", "raters", "note"),
)
WITHIN_COLUMNS = (
    *("question", "reader", "pairs", "same", "share", "low", "high"),
    *("coefficient", "kappa", "kappa_low", "kappa_high", "note"),
)


def between_readers(unblinded: Unblinded, question: str, kind: str, *, alpha: float = 0.05) -> pd.DataFrame:
    """Return every coefficient of agreement between readers that suits a question, arm by arm.

    Parameters
    ----------
    unblinded
        The reads.
    question
        A yes/no question, or one whose answers are ordered.
    kind
        Of the readers.
    alpha
        Intervals hold 1 - alpha.

    Returns
    -------
    pandas.DataFrame
        :data:`BETWEEN_COLUMNS`; ``readers`` is ``all`` or a pair. Empty for one reader.

    Raises
    ------
    InputError
        When answers are missing and were not declared.
    """
    table = unblinded.long(question, kind, judged=False)
    categories = scale(unblinded.study.protocol[question], table["rating"])
    rows = []
    for arm, group in table.groupby("method", sort=False):
        wide = group.pivot_table(index="case", columns="reader", values="rating", sort=False)
        if wide.shape[1] < 2:
            continue
        names = tuple(map(str, wide.columns))
        for who, found in coefficients(wide.to_numpy(float), categories, names, alpha=alpha):
            rows.append({"question": question, "arm": arm, "readers": who, **found._asdict()})
    return pd.DataFrame(rows, columns=list(BETWEEN_COLUMNS))


def within_readers(unblinded: Unblinded, question: str, kind: str, *, alpha: float = 0.05) -> pd.DataFrame:
    """Return how far readers agreed with themselves on images that they saw twice without knowing it.

    Parameters
    ----------
    unblinded, question, kind, alpha
        As in :func:`between_readers`.

    Returns
    -------
    pandas.DataFrame
        :data:`WITHIN_COLUMNS`, one row a reader and ``all`` at the end: number of pairs of reads, how many
        were the same, their share with its Wilson interval, and Cohen's kappa, with quadratic weights for
        more than two categories. Empty without duplicates.
    """
    table = unblinded.answers(question, kind).dropna(subset=["rating"])
    wide = table.pivot_table(index=["reader", "image_id"], columns="repeat", values="rating", sort=False)
    if not {0, 1} <= set(wide.columns):
        return pd.DataFrame(columns=list(WITHIN_COLUMNS))
    both = wide.dropna(subset=[0, 1])
    categories = scale(unblinded.study.protocol[question], table["rating"])
    weights = "quadratic" if len(categories) > 2 else "identity"
    rows = []
    groups = [(str(name), group) for name, group in both.groupby(level="reader", sort=False)]
    for name, group in [*groups, (ALL, both)]:
        first, second = group[0].to_numpy(), group[1].to_numpy()
        same, pairs = int((first == second).sum()), len(group)
        if pairs == 0:
            continue
        low, high = wilson(same, pairs, alpha=alpha)
        kappa = cohen(first, second, weights=weights, alpha=alpha)
        counts = {"question": question, "reader": name, "pairs": pairs, "same": same, "share": same / pairs}
        rows.append(
            {**counts, "low": low, "high": high, "coefficient": kappa.coefficient, "kappa": kappa.value}
            | {"kappa_low": kappa.low, "kappa_high": kappa.high, "note": kappa.note}
        )
    return pd.DataFrame(rows, columns=list(WITHIN_COLUMNS))


def scale(question: Question, ratings: pd.Series[float]) -> np.ndarray:
    """Return all values of a question's scale: those it offers, else those that were given.

    Raises
    ------
    InputError
        When the answers are no numbers.
    """
    if question.type == "yes_no":
        return np.array([0.0, 1.0])
    if question.options:
        return np.array(sorted(question.options), dtype=float)
    if question.type in ("text", "point"):
        raise InputError(f"answers to {question.name!r} have no order, so there is no agreement of them")
    return np.unique(ratings.dropna().to_numpy(float))
