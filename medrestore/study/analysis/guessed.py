"""Was the blinding kept? What readers took each kind of image for, against what it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from medrestore.checks import InputError
from medrestore.study.analysis.verdict import listed, p_text
from medrestore.study.labels import ALL
from medrestore.study.protocol import CANNOT_TELL

__all__ = ["BANG_LIMIT", "BlindingIndex", "GuessedArms", "blinding_index", "guessed_arms"]

BANG_LIMIT = 0.2
"""Bang's index within -+ this is commonly taken as blinding that was kept."""

UNKNOWN = CANNOT_TELL


class BlindingIndex(NamedTuple):
    """Bang's index of one kind of image: 1 all recognized, 0 guessing, below 0 taken for another kind."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """What the index and its interval say of the blinding, in words."""
        if self.low > BANG_LIMIT:
            return "lost: readers recognized these images"
        if self.low > 0:
            return "partly lost: recognized more often than by chance"
        if self.high < 0:
            return "taken for another kind more often than by chance"
        if self.low >= -BANG_LIMIT and self.high <= BANG_LIMIT:
            return "kept"
        return "no sign of a loss, but too few guesses to call it kept"


def blinding_index(right: int, wrong: int, unknown: int, *, kinds: int, alpha: float = 0.05) -> BlindingIndex:
    """Return Bang's blinding index of one kind of image with its interval.

    Parameters
    ----------
    right, wrong, unknown
        Number of guesses that named this kind, named another one, and named none.
    kinds
        Number of kinds that could be named.
    alpha
        1 - coverage of the interval.

    Returns
    -------
    BlindingIndex

    Raises
    ------
    InputError
        When there is no guess, or fewer than two kinds.

    Notes
    -----
    Bang, Ni & Davis 2004 for two kinds: ``P(right) - P(wrong)``. For K kinds a guess at random is wrong K - 1
    times as often as right, so that ``P(right) - P(wrong) / (K - 1)`` is 0 by chance; the variance is that
    of the multinomial. Guesses count as independent.

    Examples
    --------
    >>> blinding_index(6, 2, 2, kinds=2).value
    0.4
    >>> round(blinding_index(10, 20, 0, kinds=3).value, 12)
    0.0
    """
    from scipy.stats import norm

    n = right + wrong + unknown
    if n == 0 or kinds < 2:
        raise InputError(f"a blinding index needs guesses and two kinds or more, got {n} and {kinds}")
    weight = 1 / (kinds - 1)
    hit, miss = right / n, wrong / n
    value = (right - weight * wrong) / n
    variance = (hit * (1 - hit) + weight**2 * miss * (1 - miss) + 2 * weight * hit * miss) / n
    half = float(norm.ppf(1 - alpha / 2)) * max(variance, 0.0) ** 0.5
    return BlindingIndex(value, max(value - half, -weight), min(value + half, 1.0))


@dataclass(frozen=True, eq=False)
class GuessedArms:
    """What readers took the images for.

    Parameters
    ----------
    counts
        One row an arm: ``arm``, ``kind`` (its label), one column a label, ``I cannot tell``, ``reads``.
    indices
        One row a kind: ``kind``, ``right``, ``wrong``, ``unknown``, ``index``, ``low``, ``high``,
        ``verdict``.
    readers
        One row a reader, the last for all: ``reader``, ``guesses`` (that named a kind), ``right``, ``share``,
        ``low``, ``high`` (Wilson), ``chance``, ``p``.
    """

    counts: pd.DataFrame
    indices: pd.DataFrame
    readers: pd.DataFrame

    @property
    def sentence(self) -> str:
        """Whether the blinding was kept, in a sentence."""
        row = self.readers.iloc[-1]
        if not row["guesses"]:
            return "No reader named a kind of image: nothing suggests that the blinding was lost."
        text = (
            f"Of {row['guesses']} guesses that named a kind, {row['right']} were right "
            f"({row['share']:.0%}, 95 % interval {row['low']:.0%} to {row['high']:.0%}; by chance "
            f"{row['chance']:.0%}; p {p_text(row['p'])}). "
        )
        lost = list(self.indices.loc[self.indices["low"] > 0, "kind"])
        if lost:
            quoted = listed([f"“{kind}”" for kind in lost])
            return text + f"The blinding was not fully kept: readers recognized {quoted}."
        if (self.indices["verdict"] == "kept").all():
            return text + "The blinding was kept."
        return text + "There is no sign that the blinding was lost."


def guessed_arms(
    guesses: pd.DataFrame, labels: Mapping[str, Sequence[str]], *, alpha: float = 0.05
) -> GuessedArms | None:
    """Compare what images were taken for with what they were.

    Parameters
    ----------
    guesses
        One row a read: ``reader``, ``arm``, ``rating`` (the option: 1 to the number of labels, then "I cannot
        tell"; NaN rows are left out).
    labels
        Label -> arms, in the order of the options.
    alpha
        Of the intervals.

    Returns
    -------
    GuessedArms or None
        None when nobody was asked.

    Notes
    -----
    Chance is what guesses that know nothing of the image would get right: the sum over kinds of the share of
    guesses that name a kind times the share of images that are of it, so that neither unequal numbers of
    images nor a reader's habit counts as recognition. The test is binomial, two-sided.
    """
    from scipy.stats import binomtest
    from statsmodels.stats.proportion import proportion_confint

    table = guesses.dropna(subset=["rating"])
    if table.empty:
        return None
    names = [*labels, UNKNOWN]
    kind_of = {arm: label for label, arms in labels.items() for arm in arms}
    table = table.assign(kind=table["arm"].map(kind_of), named=[names[int(r) - 1] for r in table["rating"]])
    rows = []
    for arm, kind in kind_of.items():
        group = table[table["arm"] == arm]
        rows.append(
            {"arm": arm, "kind": kind}
            | {name: int((group["named"] == name).sum()) for name in names}
            | {"reads": len(group)}
        )
    indices = []
    for kind in labels:
        group = table[table["kind"] == kind]
        if group.empty:
            continue
        right, unknown = int((group["named"] == kind).sum()), int((group["named"] == UNKNOWN).sum())
        wrong = len(group) - right - unknown
        index = blinding_index(right, wrong, unknown, kinds=len(labels), alpha=alpha)
        counts = {"kind": kind, "right": right, "wrong": wrong, "unknown": unknown}
        interval = {"index": index.value, "low": index.low, "high": index.high, "verdict": index.verdict}
        indices.append(counts | interval)
    shares = []
    groups = [(str(name), group) for name, group in table.groupby("reader", sort=False)]
    for name, group in [*groups, (ALL, table)]:
        definite = group[group["named"] != UNKNOWN]
        n, right = len(definite), int((definite["named"] == definite["kind"]).sum())
        row = {"reader": name, "guesses": n, "right": right}
        if n:
            chance = float(
                sum((definite["named"] == k).mean() * (definite["kind"] == k).mean() for k in labels)
            )
            low, high = proportion_confint(right, n, alpha=alpha, method="wilson")
            p = float(binomtest(right, n, chance).pvalue) if 0 < chance < 1 else float("nan")
            row |= {"share": right / n, "low": float(low), "high": float(high), "chance": chance, "p": p}
        shares.append(row)
    columns = ["reader", "guesses", "right", "share", "low", "high", "chance", "p"]
    return GuessedArms(pd.DataFrame(rows), pd.DataFrame(indices), pd.DataFrame(shares, columns=columns))
