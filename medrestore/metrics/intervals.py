"""Intervals over subjects: percentile bootstrap of a mean and of a paired difference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from medrestore import rng
from medrestore.checks import InputError, require_in_range, require_same_shape

__all__ = ["Interval", "bootstrap_mean", "paired_difference"]

Array: TypeAlias = npt.NDArray[Any]


class Interval(NamedTuple):
    """Mean over subjects between the ends of its interval; the ends are NaN for a single subject."""

    mean: float
    low: float
    high: float


def bootstrap_mean(
    values: Sequence[float] | Array, *, level: float = 0.95, n_resamples: int = 2000, seed: int
) -> Interval:
    """Return the mean over subjects and its percentile bootstrap interval.

    Parameters
    ----------
    values : (N,)
        One number per subject.
    level
        Probability content of the interval.
    n_resamples
        Number of samples of N subjects drawn with replacement.
    seed
        Names the stream that the samples are drawn from.

    Returns
    -------
    Interval
        With NaN ends where N = 1: one subject says nothing of how subjects differ.

    Raises
    ------
    InputError
        When there is no value, one is not finite, or a parameter is out of its range. Values that are missing
        are not left out in silence: the interval would belong to other subjects than the reader thinks.

    Notes
    -----
    Efron 1979. The samples depend on the seed and on N alone, so intervals of one table share them.

    Examples
    --------
    >>> bootstrap_mean([1.0, 1.0, 1.0], seed=0)
    Interval(mean=1.0, low=1.0, high=1.0)
    """
    row = np.asarray(values, dtype=np.float64)
    if row.ndim != 1 or row.size == 0:
        raise InputError(f"values must be a row of one number or more, got shape {row.shape}")
    if not np.isfinite(row).all():
        where = np.flatnonzero(~np.isfinite(row)).tolist()
        raise InputError(
            f"values must be finite, got NaN or infinity at {where}. Remedy: leave those subjects out by name"
        )
    require_in_range("level", level, 0, 1, include_low=False, include_high=False)
    require_in_range("n_resamples", n_resamples, 1, float("inf"), include_high=False)
    mean = float(row.mean())
    if row.size == 1:
        return Interval(mean, float("nan"), float("nan"))
    drawn = rng.generator(seed, "bootstrap", row.size).integers(row.size, size=(n_resamples, row.size))
    low, high = np.quantile(row[drawn].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high))


def paired_difference(
    a: Sequence[float] | Array,
    b: Sequence[float] | Array,
    *,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int,
) -> Interval:
    """Return the mean of a - b over subjects and its percentile bootstrap interval.

    Parameters
    ----------
    a, b : (N,)
        Two methods' numbers of the same subjects in the same order.
    level, n_resamples, seed
        As in :func:`bootstrap_mean`.

    Raises
    ------
    InputError
        When lengths differ, or as :func:`bootstrap_mean`.

    Examples
    --------
    >>> paired_difference([3.0, 5.0], [1.0, 3.0], seed=0)
    Interval(mean=2.0, low=2.0, high=2.0)
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    require_same_shape(a=first.shape, b=second.shape)
    return bootstrap_mean(first - second, level=level, n_resamples=n_resamples, seed=seed)
