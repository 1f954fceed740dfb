"""Figures of merit of a reader study: any of them as exact numbers, with their covariance over cases."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from medrestore.checks import InputError, fail, require_in_set
from medrestore.study.measures import COVARIANCES, MEASURES, Measure
from medrestore.study.statistics import auc
from medrestore.study.statistics.exact import as_integers, left_out_products
from medrestore.study.statistics.reads import ReadTable

__all__ = ["Merit", "figure_of_merit"]

Array: TypeAlias = npt.NDArray[Any]

LEAST_RATING, LARGEST_RATING = 1e-50, 1e50


@dataclass(frozen=True)
class Merit:
    """Figures of merit of t methods and r readers.

    Parameters
    ----------
    theta : (t, r), object
        Fractions: equal numbers are equal.
    covariance : (t, r, t, r), object
        Integers; times ``unit`` they are the covariances over cases.
    unit
        What an integer of ``covariance`` stands for.
    cases
        Number of cases that enter.
    counts : (t, r), int
        Reads behind each figure: all cases where none is missing.
    events : (t, r), int, or None
        Reads counted by a proportion; None where the figure is no proportion.
    """

    theta: Array
    covariance: Array
    unit: Fraction
    cases: int
    counts: Array
    events: Array | None = None

    @property
    def estimates(self) -> Array:
        """(t, r) theta in floating point."""
        return self.theta.astype(np.float64)

    @property
    def covariances(self) -> Array:
        """(t, r, t, r) covariance over cases in floating point."""
        scaled = [float(entry * self.unit) for entry in self.covariance.ravel()]
        return np.array(scaled).reshape(self.covariance.shape)


def figure_of_merit(
    table: ReadTable, metric: str, *, positive_from: float | None = None, covariance: str = "jackknife"
) -> Merit:
    """Return the figures of merit of all methods and readers, and their covariance.

    Parameters
    ----------
    table
        Reads, resolved (:meth:`ReadTable.resolve`).
    metric
        A key of :data:`~medrestore.study.measures.MEASURES`.
    positive_from
        Ratings of this or more are positive.
    covariance
        One of :data:`~medrestore.study.measures.COVARIANCES`.
        They coincide for means over cases, that is for all metrics but the AUC.

    Raises
    ------
    InputError
        When the metric cannot be had from these reads: a threshold is missing or has no meaning, or there are
        fewer than two cases of a class that enters.

    Notes
    -----
    A mean over n cases has the covariance ``cov / n`` with the divisor n - 1 in all three ways: the
    jackknife's leave-one-out means differ from the mean by ``(mean - x_k) / (n - 1)``.
    """
    require_in_set("metric", metric, tuple(MEASURES))
    require_in_set("covariance", covariance, tuple(COVARIANCES))
    if table.policy == "available" and covariance != "jackknife" and np.isnan(table.ratings).any():
        raise InputError(
            f"covariance {covariance!r} needs complete reads. Remedy: use jackknife with --missing available"
        )
    measure = MEASURES[metric]
    ratings = _thresholded(table, measure, positive_from)
    t, r, _ = ratings.shape
    rows = ratings.reshape(t * r, -1)
    if measure.counts is None:
        truth = _truth(table)
        _require_two(table, ~np.isnan(ratings), truth, (1, 0), metric)
        placed = auc.placements(rows, truth)
        if covariance == "jackknife":
            products, unit = auc.jackknife(placed)
        elif covariance == "delong":
            products, unit = auc.delong(placed)
        else:
            products, unit = auc.unbiased(placed, rows, truth)
        theta = np.array(placed.areas, dtype=object).reshape(t, r)
        counts = np.add(*placed.counts).reshape(t, r)
        return Merit(theta, products.reshape(t, r, t, r), unit, len(truth), counts)
    if measure.classes:
        _require_two(table, ~np.isnan(ratings), _truth(table), measure.classes, metric)
    rows = np.where(np.isnan(rows), np.nan, measure.counts(rows, _truth(table) if measure.judged else None))
    if measure.classes:
        rows = rows[:, np.isin(_truth(table), measure.classes)]
    return _mean(rows, (t, r), table, proportion=measure.is_proportion)


def _mean(rows: Array, shape: tuple[int, int], table: ReadTable, *, proportion: bool) -> Merit:
    """Return means over cases; by the jackknife over all of them where reads are missing."""
    t, r = shape
    cases = rows.shape[1]
    read = ~np.isnan(rows)
    counts = read.sum(axis=1)
    if counts.min() < 2:
        fail(f"a mean over cases needs two cases or more, got {counts.min()}", path=table.source)
    size = np.abs(rows[read & (rows != 0)])
    if len(size) and not (size.min() >= LEAST_RATING and size.max() <= LARGEST_RATING):
        fail(
            f"ratings from {size.min():g} to {size.max():g} in size: their variances are beyond computing",
            path=table.source,
            remedy="write ratings in another unit",
        )
    values, denominator = as_integers(np.where(read, rows, 0.0))
    total = values.astype(object).sum(axis=1)
    theta = np.array(
        [Fraction(int(s), int(n) * denominator) for s, n in zip(total, counts, strict=True)], dtype=object
    )
    products, common = left_out_products(values, read, [n * (n - 1) for n in counts.tolist()])
    return Merit(
        theta.reshape(shape),
        products.reshape(t, r, t, r),
        Fraction(cases - 1, cases * (common * denominator) ** 2),
        cases,
        counts.reshape(shape),
        total.astype(np.int64).reshape(shape) if proportion else None,
    )


def _thresholded(table: ReadTable, measure: Measure, positive_from: float | None) -> Array:
    if measure.threshold == "refused":
        if positive_from is not None:
            raise InputError(
                f"metric {measure.metric!r} takes ratings as they are, got positive_from {positive_from}. "
                "Remedy: leave --positive-from out, or choose a metric of decisions"
            )
        return table.ratings
    there = ~np.isnan(table.ratings)
    if positive_from is not None:
        if not np.isfinite(positive_from):
            raise InputError(f"positive_from must be a finite number, got {positive_from}")
        return np.where(there, table.ratings >= positive_from, np.nan)
    if measure.threshold == "needed" or not np.isin(table.ratings[there], (0, 1)).all():
        seen = np.unique(table.ratings[there])
        raise InputError(
            f"{table.source}: metric {measure.metric!r} needs positive_from: ratings run from {seen[0]:g} to "
            f"{seen[-1]:g}. Remedy: say from which rating on a read counts, such as --positive-from "
            f"{seen[len(seen) // 2]:g}"
        )
    return table.ratings


def _truth(table: ReadTable) -> Array:
    if table.truth is None:
        raise InputError(
            f"{table.source}: this metric needs the truth of each case. Remedy: add column 'truth'"
        )
    return table.truth


def _require_two(table: ReadTable, read: Array, truth: Array, classes: tuple[int, ...], metric: str) -> None:
    for kind in classes:
        least = int(read[:, :, truth == kind].sum(axis=2).min())
        if least < 2:
            fail(
                f"metric {metric!r} needs two {'positive' if kind else 'negative'} cases, got {least}",
                path=table.source,
                remedy="add cases of known truth, or choose a metric of the cases that are there",
            )
