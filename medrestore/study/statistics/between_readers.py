"""Agreement between the readers of a study, method by method."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from medrestore.study.statistics.agreement import (
    LEVELS,
    MOST_CATEGORIES,
    Agreement,
    cohen,
    fleiss,
    gwet,
    icc,
    krippendorff,
    percent_agreement,
)
from medrestore.study.statistics.reads import ReadTable
from medrestore.study.statistics.results import AgreementRow

__all__ = ["agreement_between_readers", "coefficients"]

Array: TypeAlias = npt.NDArray[Any]

EVERYBODY = "all"


def agreement_between_readers(
    table: ReadTable, *, positive_from: float | None = None, alpha: float = 0.05
) -> list[AgreementRow]:
    """Return every coefficient of agreement for each method, of decisions and of ratings.

    Parameters
    ----------
    table
        Reads.
    positive_from
        Ratings of this or more are positive decisions; ratings of 0 and 1 are decisions by themselves.
    alpha
        Intervals hold 1 - alpha.

    Returns
    -------
    list of AgreementRow
        Empty for one reader. Coefficients that need complete ratings say so in ``note`` where one is missing.
    """
    if len(table.readers) < 2:
        return []
    seen = np.unique(table.ratings[~np.isnan(table.ratings)])
    binary = bool(np.isin(seen, (0, 1)).all())
    rows = []
    for i, method in enumerate(table.methods):
        ratings = table.ratings[i].T
        if positive_from is not None or binary:
            cut = 1.0 if positive_from is None else positive_from
            decisions = np.where(np.isnan(ratings), np.nan, ratings >= cut)
            found = coefficients(decisions, np.array([0.0, 1.0]), table.readers, alpha=alpha)
            rows += [AgreementRow(method, "decision", who, *its) for who, its in found]
        if not binary:
            found = coefficients(ratings, seen, table.readers, alpha=alpha)
            rows += [AgreementRow(method, "rating", who, *its) for who, its in found]
    return rows


def coefficients(
    ratings: Array, categories: Array, raters: tuple[str, ...], *, alpha: float = 0.05
) -> list[tuple[str, Agreement]]:
    """Return the coefficients that suit a scale, each with its readers: nominal ones, or ordinal for more.

    Parameters
    ----------
    ratings : (n, k), float
        Cases by raters; NaN where one is missing.
    categories
        All values of the scale.
    raters
        Names of the k raters.
    alpha
        Intervals hold 1 - alpha.

    Notes
    -----
    Cohen's kappa of a pair is over the cases that both rated. Fleiss' kappa and the ICC say in ``note`` that
    they need complete ratings where one is missing.
    """
    ordinal = len(categories) > 2
    weights = "quadratic" if ordinal else "identity"
    missing = int(np.isnan(ratings).sum())
    found: list[tuple[str, Agreement]] = []

    def complete(name: str, measure: Callable[..., Agreement]) -> None:
        note = f"needs complete ratings, {missing} are missing"
        none = Agreement(name, None, None, None, "none", len(ratings), len(raters), note)
        found.append((EVERYBODY, none if missing else measure(ratings, alpha=alpha)))

    if len(categories) <= MOST_CATEGORIES:
        values = categories.tolist()
        found.append((EVERYBODY, percent_agreement(ratings, alpha=alpha)))
        if not ordinal:
            complete("Fleiss kappa", fleiss)
        found.append((EVERYBODY, gwet(ratings, weights=weights, categories=values, alpha=alpha)))
        for level in LEVELS[1:] if ordinal else LEVELS[:1]:
            found.append((EVERYBODY, krippendorff(ratings, level=level, alpha=alpha)))
        for a, b in combinations(range(len(raters)), 2):
            both = ratings[~np.isnan(ratings[:, [a, b]]).any(axis=1)]
            if len(both):
                pair = cohen(both[:, a], both[:, b], weights=weights, alpha=alpha)
                found.append((f"{raters[a]}, {raters[b]}", pair))
    if ordinal and len(ratings) > 1:
        complete("ICC(2,1)", icc)
    return found
