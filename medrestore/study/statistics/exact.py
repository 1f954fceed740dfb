"""Exact sums of integers over one denominator: equal methods differ by 0, not by rounding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["as_integers", "gram", "left_out_products", "weighted_sum"]

Array: TypeAlias = npt.NDArray[Any]

MOST_DECIMALS = 6
SIGNIFICAND_BITS = 53


def as_integers(values: Array) -> tuple[Array, int]:
    """Return finite numbers as integers over one denominator.

    Parameters
    ----------
    values : (...), float
        Decimals of up to six digits are taken as written: 3.7 is 37/10. Others are the binary numbers they
        are.

    Returns
    -------
    (...), int64 or object
        The numerators.
    int
        The denominator.

    Examples
    --------
    >>> as_integers(np.array([3.7, -0.25]))
    (array([370, -25]), 100)
    """
    for decimals in range(MOST_DECIMALS + 1):
        with np.errstate(over="ignore"):
            scaled = np.rint(values * 10.0**decimals)
        if (np.abs(scaled) < 2.0**SIGNIFICAND_BITS).all() and (scaled / 10.0**decimals == values).all():
            return scaled.astype(np.int64), 10**decimals
    ratios = [Fraction(value) for value in values.ravel().tolist()]
    denominator = max(ratio.denominator for ratio in ratios)  # powers of two: the largest is common to all
    numerators = np.empty(len(ratios), dtype=object)
    numerators[:] = [ratio.numerator * (denominator // ratio.denominator) for ratio in ratios]
    return numerators.reshape(values.shape), denominator


def gram(rows: Array) -> Array:
    """Return ``rows @ rows.T`` of integers without rounding.

    Parameters
    ----------
    rows : (A, N), int64 or object
        Integers of any size and sign.

    Returns
    -------
    (A, A), object
        Python integers.

    Notes
    -----
    The integers are cut into limbs so short that floating-point sums over N products of them stay below 2^53,
    where they are exact; so the work is done by fast matrix products.

    Examples
    --------
    >>> gram(np.array([[10**9, 1], [1, 0]]))
    array([[1000000000000000001, 1000000000],
           [1000000000, 1]], dtype=object)
    """
    bits = (SIGNIFICAND_BITS - 1 - max(rows.shape[1], 1).bit_length()) // 2
    limbs, rest = [], rows
    while rest.size and max(int(rest.max()), -int(rest.min())) >= 1 << bits:
        limbs.append((rest & ((1 << bits) - 1)).astype(np.float64))
        rest = rest >> bits  # rounds down: the rest carries the sign
    limbs.append(rest.astype(np.float64))
    total = np.zeros((len(rows), len(rows)), dtype=object)
    for i, first in enumerate(limbs):
        for j, second in enumerate(limbs):
            total += (first @ second.T).astype(np.int64).astype(object) * (1 << bits * (i + j))
    return total


def left_out_products(rows: Array, read: Array, units: Sequence[int]) -> tuple[Array, int]:
    """Return the products of the changes that leaving out one case makes, summed over cases.

    Parameters
    ----------
    rows : (A, N), int
        What each case adds to a total; 0 where it was not read.
    read : (A, N), bool
        Where it was. Leaving out what is not there changes nothing.
    units
        A numbers: the change by case k is ``(total - count * rows[:, k]) / unit``.

    Returns
    -------
    (A, A), object
        Python integers.
    int
        Their denominator is its square.

    Examples
    --------
    The mean of 1, 0, 1, 1 becomes 2/3 without a 1 and 1 without the 0:

    >>> left_out_products(np.array([[1, 0, 1, 1]]), np.ones((1, 4), dtype=bool), [4 * 3])
    (array([[12]], dtype=object), 12)
    """
    counts = read.sum(axis=1)
    largest = max(int(rows.max()), -int(rows.min())) * rows.shape[1]
    if largest * int(counts.max()) >= 1 << 62:
        rows = rows.astype(object)
    changes = np.where(read, rows.sum(axis=1)[:, None] - counts[:, None] * rows, 0)
    common = math.lcm(*units)
    if any(unit != common for unit in units):
        changes = changes.astype(object) * np.array([[common // unit] for unit in units], dtype=object)
    return gram(changes), common


def weighted_sum(*terms: tuple[Array, Fraction]) -> tuple[Array, Fraction]:
    """Return the sum of integer arrays times fractions, as an integer array times one fraction.

    >>> weighted_sum((np.array([1, 2]), Fraction(1, 2)), (np.array([3, 3]), Fraction(1, 3)))
    (array([9, 12], dtype=object), Fraction(1, 6))
    """
    denominator = math.lcm(*(weight.denominator for _, weight in terms))
    total = sum(array.astype(object) * int(weight * denominator) for array, weight in terms)
    return np.asarray(total, dtype=object), Fraction(1, denominator)
