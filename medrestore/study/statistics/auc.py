"""Empirical area under the ROC curve of many readers and methods, with its covariance over cases.

All sums are of integers: with ``A[a, k]`` twice the placement of positive case k (negatives below it, and
half of those that tie) and ``B[a, l]`` that of negative case l, the area of a is ``S[a] / (2 n1 n0)``, S the
sum of either.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from medrestore.study.statistics.exact import gram, left_out_products, weighted_sum

__all__ = ["Placements", "concordant_products", "delong", "jackknife", "placements", "unbiased"]

Array: TypeAlias = npt.NDArray[Any]

BLOCK_ELEMENTS = 1 << 23
"""Comparisons held in memory at once; sums of four times as many ones stay exact in double precision."""


class Placements(NamedTuple):
    """Twice the placements of a figures of merit, 0 for a read that is missing.

    Parameters
    ----------
    positive : (a, n1), int
        Per positive case.
    negative : (a, n0), int
        Per negative case.
    read_positive, read_negative : (a, n1), (a, n0), bool
        Which reads are there.
    """

    positive: Array
    negative: Array
    read_positive: Array
    read_negative: Array

    @property
    def total(self) -> Array:
        """(a,) twice the number of pairs in the right order."""
        total: Array = self.positive.sum(axis=1)
        return total

    @property
    def counts(self) -> tuple[Array, Array]:
        """(a,), (a,) numbers of positive and of negative reads."""
        return self.read_positive.sum(axis=1), self.read_negative.sum(axis=1)

    @property
    def areas(self) -> list[Fraction]:
        """The areas, exactly."""
        n1, n0 = self.counts
        return [Fraction(int(s), int(2 * p * q)) for s, p, q in zip(self.total, n1, n0, strict=True)]


def placements(ratings: Array, truth: Array) -> Placements:
    """Return the placements of each case among those of the other class, by ranks in O(n log n).

    Parameters
    ----------
    ratings : (a, n), float
        NaN where a read is missing.
    truth : (n,), int
        1 for positive.

    Examples
    --------
    >>> placements(np.array([[1.0, 3.0, 2.0, 2.0]]), np.array([0, 1, 1, 0])).areas
    [Fraction(7, 8)]
    """
    positive, negative = ratings[:, truth == 1], ratings[:, truth == 0]
    above = np.zeros(positive.shape, dtype=np.int64)
    below = np.zeros(negative.shape, dtype=np.int64)
    there_1, there_0 = ~np.isnan(positive), ~np.isnan(negative)
    for a in range(len(ratings)):
        x, y = positive[a, there_1[a]], negative[a, there_0[a]]
        above[a, there_1[a]] = _twice_rank(x, np.sort(y))
        below[a, there_0[a]] = 2 * len(x) - _twice_rank(y, np.sort(x))
    return Placements(above, below, there_1, there_0)


def jackknife(placed: Placements) -> tuple[Array, Fraction]:
    """Return the covariance by leaving out one case at a time: integers (a, a), and their unit.

    Notes
    -----
    V = (N-1)/N sum_k (theta(-k) - mean)(theta(-k) - mean)'. Leaving out positive case k changes the area by
    ``(S - n1 A_k) / (2 n1 (n1 - 1) n0)``, and these changes add up to 0, so the mean is the area itself. A
    read that is missing changes nothing.
    """
    cases = placed.positive.shape[1] + placed.negative.shape[1]
    n1, n0 = placed.counts
    parts = []
    for rows, read, same, other in (
        (placed.positive, placed.read_positive, n1, n0),
        (placed.negative, placed.read_negative, n0, n1),
    ):
        units = [2 * p * (p - 1) * q for p, q in zip(same.tolist(), other.tolist(), strict=True)]
        products, common = left_out_products(rows, read, units)
        parts.append((products, Fraction(cases - 1, cases * common**2)))
    return weighted_sum(*parts)


def delong(placed: Placements) -> tuple[Array, Fraction]:
    """Return the covariance of DeLong, DeLong and Clarke-Pearson 1988: integers (a, a), and their unit.

    V = cov(V10) / n1 + cov(V01) / n0 with divisors n - 1; no read may be missing.
    """
    n1, n0 = placed.positive.shape[1], placed.negative.shape[1]
    scatter_1, scatter_0 = _scatter(placed.positive), _scatter(placed.negative)
    return weighted_sum(
        (scatter_1, Fraction(1, 4 * n0**2 * n1**2 * (n1 - 1))),
        (scatter_0, Fraction(1, 4 * n1**2 * n0**2 * (n0 - 1))),
    )


def unbiased(placed: Placements, ratings: Array, truth: Array) -> tuple[Array, Fraction]:
    """Return the unbiased covariance of Gallas 2006: integers (a, a), and their unit.

    Notes
    -----
    The moments M1 to M3 cancel: V = theta_a theta_b - M4, where M4 is the mean of psi_a psi_b over pairs that
    share neither case. No read may be missing.
    """
    n1, n0 = placed.positive.shape[1], placed.negative.shape[1]
    total = placed.total.astype(object)
    squares = np.multiply.outer(total, total)
    disjoint = (
        squares
        - gram(placed.positive)
        - gram(placed.negative)
        + concordant_products(ratings[:, truth == 1], ratings[:, truth == 0])
    )
    return weighted_sum(
        (squares, Fraction(1, 4 * n1**2 * n0**2)),
        (disjoint, Fraction(-1, 4 * n1 * (n1 - 1) * n0 * (n0 - 1))),
    )


def concordant_products(positive: Array, negative: Array) -> Array:
    """Return the sums over all pairs of cases of ``2 psi_a * 2 psi_b``, block by block.

    Parameters
    ----------
    positive, negative : (a, n1), (a, n0)
        Ratings.

    Returns
    -------
    (a, a), object
        Python integers.
    """
    a, n1 = positive.shape
    n0 = negative.shape[1]
    ranks = np.unique(np.hstack([positive, negative]), return_inverse=True)[1]
    ranks = ranks.reshape(a, n1 + n0).astype(np.int32)
    x, y = ranks[:, :n1, None], ranks[:, None, n1:]
    step_0 = max(1, min(n0, BLOCK_ELEMENTS // a))
    step_1 = max(1, BLOCK_ELEMENTS // (a * step_0))
    # Sums below 2^24 are exact in single precision, which is twice as fast.
    precise = np.float32 if 4 * step_1 * step_0 < 1 << 24 else np.float64
    total = np.zeros((a, a), dtype=object)
    for first in range(0, n1, step_1):
        for start in range(0, n0, step_0):
            left, right = x[:, first : first + step_1], y[:, :, start : start + step_0]
            psi = ((left > right).view(np.int8) + (left >= right).view(np.int8)).reshape(a, -1)
            psi = psi.astype(precise)
            total += (psi @ psi.T).astype(np.int64).astype(object)
    return total


def _twice_rank(values: Array, among: Array) -> Array:
    ranks: Array = among.searchsorted(values, "left") + among.searchsorted(values, "right")
    return ranks


def _scatter(rows: Array) -> Array:
    """Return n times the sum of squares and products about the mean."""
    total = rows.sum(axis=1).astype(object)
    scatter: Array = rows.shape[1] * gram(rows) - np.multiply.outer(total, total)
    return scatter
