"""Agreement beyond chance, between readers or of one reader with themselves, with intervals over cases.

All coefficients but Cohen's and the ICC are functions of sums over cases of the counts of ratings per case
and category; so they are resampled over cases all at once, by matrix products. Intervals: Cohen's by its
asymptotic standard error (statsmodels), the ICC's by F distributions (McGraw & Wong 1996), the others' by the
percentile bootstrap over cases.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from medrestore import rng
from medrestore.checks import InputError, require_in_range, require_in_set, require_same_shape

__all__ = [
    "LEVELS",
    "MOST_CATEGORIES",
    "WEIGHTS",
    "Agreement",
    "cohen",
    "fleiss",
    "gwet",
    "icc",
    "krippendorff",
    "percent_agreement",
]

Array: TypeAlias = npt.NDArray[Any]

RESAMPLES = 1000
SEED = 0
BLOCK = 100
VARIANCE_ROUNDING = 1e-12
MOST_CATEGORIES = 200
WEIGHTS = ("identity", "ordinal", "linear", "quadratic")
LEVELS = ("nominal", "ordinal", "ordinal weights", "interval")


class Agreement(NamedTuple):
    """A coefficient with its interval; None where it is not defined, and then ``note`` says why."""

    coefficient: str
    value: float | None
    low: float | None
    high: float | None
    interval: str
    cases: int
    raters: int
    note: str = ""


def percent_agreement(ratings: Array, *, alpha: float = 0.05) -> Agreement:
    """Return the share of pairs of ratings of one case that are equal, averaged over cases.

    Parameters
    ----------
    ratings : (n, k), float
        Cases by raters; NaN where a rating is missing. Cases with fewer than two ratings tell nothing of it.
    alpha
        The interval holds 1 - alpha.

    Examples
    --------
    >>> percent_agreement(np.array([[1, 1], [1, 0], [0, 0], [0, 0]])).value
    0.75
    """
    counts, _ = _counts(ratings)
    return _coefficient("percent agreement", counts, lambda rows, w: _observed(rows, None, w), alpha)


def fleiss(ratings: Array, *, alpha: float = 0.05) -> Agreement:
    """Return the kappa of Fleiss 1971 for nominal categories.

    Parameters
    ----------
    ratings : (n, k), float
        Cases by raters; none may be missing.
    alpha
        The interval holds 1 - alpha.

    Raises
    ------
    InputError
        When a rating is missing.
    """
    _require_complete("Fleiss' kappa", ratings, "Gwet's AC1 or Krippendorff's alpha")
    counts, _ = _counts(ratings)

    def kappa(rows: Array, weights: Array) -> Array:
        shares = _mean(rows / rows.sum(axis=1, keepdims=True), weights)
        return _beyond_chance(_observed(rows, None, weights), (shares**2).sum(axis=1))

    return _coefficient("Fleiss kappa", counts, kappa, alpha)


def gwet(
    ratings: Array,
    *,
    weights: str = "identity",
    categories: Sequence[float] | None = None,
    alpha: float = 0.05,
) -> Agreement:
    """Return AC1 (identity weights) or AC2 (all others) of Gwet 2008.

    Parameters
    ----------
    ratings : (n, k), float
        Cases by raters; NaN where a rating is missing.
    weights
        What a disagreement counts beside an agreement: nothing, or the less the more ranks, the larger a
        distance or its square lies between.
    categories
        All ratings of the scale; those that were given when left out.
    alpha
        The interval holds 1 - alpha.

    Notes
    -----
    ``pe = T sum_q pi_q (1 - pi_q) / (Q (Q - 1))``, T the sum of the weights: for identity T = Q.
    """
    require_in_set("weights", weights, WEIGHTS)
    counts, values = _counts(ratings, categories)
    q = len(values)
    table = _weights(values, weights)

    def coefficient(rows: Array, resampled: Array) -> Array:
        shares = _mean(rows / rows.sum(axis=1, keepdims=True), resampled)
        chance = table.sum() * (shares * (1 - shares)).sum(axis=1) / max(q * (q - 1), 1)
        return _beyond_chance(_observed(rows, table, resampled), chance if q > 1 else np.ones(len(resampled)))

    name = "Gwet AC1" if weights == "identity" else f"Gwet AC2, {weights}"
    return _coefficient(name, counts, coefficient, alpha)


def krippendorff(ratings: Array, *, level: str = "nominal", alpha: float = 0.05) -> Agreement:
    """Return Krippendorff's alpha.

    Parameters
    ----------
    ratings : (n, k), float
        Cases by raters; NaN where a rating is missing.
    level
        ``nominal``, ``ordinal``, ``interval``, or ``ordinal weights``: Gwet's, as agreement software in R has
        them, which depend on the scale alone and not on how often its categories were used.
    alpha
        The interval holds 1 - alpha.

    Notes
    -----
    ``1 - Do/De`` (Krippendorff 2011) over cases with two ratings or more. The ordinal distance of c and k,
    the sum of n from c to k less half of n_c + n_k, is the distance of their mean ranks: so the ordinal alpha
    is the interval alpha of mean ranks.
    """
    require_in_set("level", level, LEVELS)
    counts, values = _counts(ratings)
    counts = counts[counts.sum(axis=1) > 1]
    raters = counts.sum(axis=1)
    kinds = {"nominal": "identity", "ordinal weights": "ordinal", "interval": "quadratic"}
    apart = None if level == "ordinal" else 1 - _weights(values, kinds[level])

    def coefficient(rows: Array, resampled: Array) -> Array:
        totals = resampled @ rows
        everything = totals.sum(axis=1)
        share = resampled / (raters - 1)
        if apart is not None:
            within = share @ (rows @ apart * rows).sum(axis=1)
            between = (totals @ apart * totals).sum(axis=1)
        else:
            ranks = totals.cumsum(axis=1) - totals / 2
            within = ((share * raters) @ rows * ranks**2).sum(axis=1) * 2
            within = within - 2 * (share * (ranks @ rows.T) ** 2).sum(axis=1)
            between = 2 * everything * (totals * ranks**2).sum(axis=1)
            between = between - 2 * (totals * ranks).sum(axis=1) ** 2
        used = (totals > 0).sum(axis=1) > 1
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Array = np.where(used, 1 - within * (everything - 1) / between, np.nan)
        return found

    return _coefficient(f"Krippendorff alpha, {level}", counts, coefficient, alpha)


def cohen(first: Array, second: Array, *, weights: str = "identity", alpha: float = 0.05) -> Agreement:
    """Return Cohen's kappa of two raters, or of one rater's two readings.

    Parameters
    ----------
    first, second : (n,), float
        Ratings of the same cases; none may be missing.
    weights
        As of :func:`gwet`: ``identity`` for the unweighted kappa.
    alpha
        The interval holds 1 - alpha.

    Raises
    ------
    InputError
        When a rating is missing, or lengths differ.
    """
    from scipy import stats
    from statsmodels.stats.inter_rater import cohens_kappa

    require_in_set("weights", weights, WEIGHTS)
    require_same_shape(first=np.shape(first), second=np.shape(second))
    ratings = np.stack([first, second], axis=1).astype(float)
    _require_complete("Cohen's kappa", ratings, "leaving those cases out by name")
    values, codes = np.unique(ratings, return_inverse=True)
    codes = codes.reshape(ratings.shape)
    name = "Cohen kappa" if weights == "identity" else f"Cohen kappa, {weights}"
    if len(values) < 2:
        return _undefined(name, ratings)
    table = np.zeros((len(values), len(values)))
    np.add.at(table, (codes[:, 0], codes[:, 1]), 1)
    loss = None if weights == "identity" else 1 - _weights(values, weights)
    with np.errstate(divide="ignore", invalid="ignore"):  # variances of 0, or of -1e-15
        found = cohens_kappa(table, weights=loss)
    value = float(found.kappa)
    if not found.var_kappa > VARIANCE_ROUNDING:
        note = "its standard error is 0 in these ratings, which tells no interval"
        return Agreement(name, value, None, None, "none", len(ratings), 2, note)
    half = float(found.std_kappa) * float(stats.norm.ppf(1 - alpha / 2))
    return Agreement(
        name, value, max(value - half, -1.0), min(value + half, 1.0), "asymptotic", len(ratings), 2
    )


def icc(ratings: Array, *, alpha: float = 0.05) -> Agreement:
    """Return ICC(2,1) of Shrout & Fleiss 1979: absolute agreement of single ratings, raters at random.

    Parameters
    ----------
    ratings : (n, k), float
        Cases by raters; none may be missing.
    alpha
        The interval holds 1 - alpha (McGraw & Wong 1996, table 7, case 2A).

    Raises
    ------
    InputError
        When a rating is missing, or there are fewer than two cases or raters.
    """
    from scipy import stats

    ratings = np.asarray(ratings, dtype=float)
    _require_complete("the ICC", ratings, "Krippendorff's alpha for intervals")
    n, k = ratings.shape
    if n < 2 or k < 2:
        raise InputError(f"an ICC needs two cases and two raters or more, got {n} and {k}")
    width = np.ptp(ratings)
    if width == 0:
        return _undefined("ICC(2,1)", ratings)
    ratings = (ratings - ratings.min()) / width  # of any scale without overflow: it does not matter
    mean, rows, columns = ratings.mean(), ratings.mean(axis=1), ratings.mean(axis=0)
    msr = k * ((rows - mean) ** 2).sum() / (n - 1)
    msc = n * ((columns - mean) ** 2).sum() / (k - 1)
    rest = ratings - rows[:, None] - columns[None, :] + mean
    mse = (rest**2).sum() / ((n - 1) * (k - 1))
    total = msr + (k - 1) * mse + k * (msc - mse) / n
    if total < VARIANCE_ROUNDING:
        note = "cases and raters vary less than chance lets them: not defined"
        return Agreement("ICC(2,1)", None, None, None, "none", n, k, note)
    value = (msr - mse) / total
    if value > 1 - VARIANCE_ROUNDING:
        return Agreement("ICC(2,1)", 1.0, None, None, "none", n, k, "raters agree in all: no interval")
    a = k * value / (n * (1 - value))
    b = 1 + k * value * (n - 1) / (n * (1 - value))
    with np.errstate(divide="ignore", invalid="ignore"):  # few ratings may leave F without a quantile
        v = (a * msc + b * mse) ** 2 / ((a * msc) ** 2 / (k - 1) + (b * mse) ** 2 / ((n - 1) * (k - 1)))
        f_low, f_high = stats.f.ppf(1 - alpha / 2, n - 1, v), stats.f.ppf(1 - alpha / 2, v, n - 1)
        spread = k * msc + (k * n - k - n) * mse
        low = n * (msr / f_low - mse) / (spread + n * msr / f_low)
        high = n * (msr - mse / f_high) / (spread / f_high + n * msr)
    if not (np.isfinite(low) and np.isfinite(high)):
        return Agreement(
            "ICC(2,1)", float(value), None, None, "none", n, k, "too few ratings for an interval"
        )
    low, high = float(low), float(high)
    return Agreement("ICC(2,1)", float(value), low, high, "F", n, k)


def _coefficient(
    name: str, counts: Array, coefficient: Callable[[Array, Array], Array], alpha: float
) -> Agreement:
    """Return a coefficient of counts per case and category, resampled over cases."""
    require_in_range("alpha", alpha, 0, 1, include_low=False, include_high=False)
    n = len(counts)
    raters = int(counts.sum(axis=1).max()) if n else 0
    if n == 0 or raters < 2:
        return Agreement(name, None, None, None, "none", n, raters, "no case has two ratings")
    value = float(coefficient(counts, np.ones((1, n)))[0])
    if math.isnan(value):
        return Agreement(name, None, None, None, "none", n, raters, SAME)
    drawn = _resamples(n)
    blocks = [coefficient(counts, drawn[start : start + BLOCK]) for start in range(0, len(drawn), BLOCK)]
    found = np.concatenate(blocks)
    lost = int(np.isnan(found).sum())
    low, high = np.nanquantile(found, [alpha / 2, 1 - alpha / 2])
    note = f"undefined in {lost} of {len(drawn)} resamples, which were left out" if lost else ""
    return Agreement(name, value, float(low), float(high), "bootstrap", n, raters, note)


SAME = "all ratings are the same, so agreement beyond chance is not defined"


def _undefined(name: str, ratings: Array) -> Agreement:
    return Agreement(name, None, None, None, "none", len(ratings), ratings.shape[1], SAME)


@lru_cache(maxsize=4)
def _resamples(n: int) -> Array:
    """Return how often each of n cases is drawn in each resample: one draw for all coefficients."""
    drawn = rng.generator(SEED, "agreement", n).integers(n, size=(RESAMPLES, n))
    flat = drawn + n * np.arange(RESAMPLES)[:, None]
    return np.bincount(flat.ravel(), minlength=n * RESAMPLES).reshape(RESAMPLES, n).astype(np.float64)


def _counts(ratings: Array, categories: Sequence[float] | None = None) -> tuple[Array, Array]:
    """Return how often each case with a rating was given each category, and the values of the categories."""
    ratings = np.asarray(ratings, dtype=float)
    there = ~np.isnan(ratings)
    values = (
        np.unique(ratings[there]) if categories is None else np.unique(np.asarray(categories, dtype=float))
    )
    unknown = np.setdiff1d(ratings[there], values)
    if len(unknown):
        raise InputError(
            f"rating {unknown[0]:g} is none of the categories {', '.join(f'{v:g}' for v in values)}"
        )
    if len(values) > MOST_CATEGORIES:
        raise InputError(
            f"ratings have {len(values)} different values: no categories. Remedy: take the ICC, or round "
            "ratings"
        )
    counts = np.zeros((len(ratings), len(values)))
    case, _ = np.nonzero(there)
    np.add.at(counts, (case, np.searchsorted(values, ratings[there])), 1)
    return counts[there.any(axis=1)], values


def _weights(values: Array, kind: str) -> Array:
    """Return the weights of Gwet: 1 on the diagonal, 0 for the ends of the scale unless by identity."""
    q = len(values)
    if kind == "identity" or q < 2:
        return np.eye(q)
    places = np.arange(q) if kind == "ordinal" else values
    apart = np.abs(places[:, None] - places[None, :]) / (places[-1] - places[0])
    loss = {"ordinal": apart * (apart * (q - 1) + 1) / q, "linear": apart, "quadratic": apart**2}
    weights: Array = 1 - loss[kind]
    return weights


def _observed(counts: Array, table: Array | None, weights: Array) -> Array:
    """Return weighted agreement of pairs of ratings, averaged over cases with two ratings or more."""
    raters = counts.sum(axis=1)
    several = raters > 1
    rows, raters = counts[several], raters[several]
    near = rows if table is None else rows @ table
    agreed = (rows * (near - 1)).sum(axis=1) / (raters * (raters - 1))
    return _mean(agreed[:, None], weights[:, several])[:, 0]


def _mean(rows: Array, weights: Array) -> Array:
    with np.errstate(invalid="ignore"):  # a resample may hold no such case
        mean: Array = weights @ rows / weights.sum(axis=1, keepdims=True)
    return mean


def _beyond_chance(observed: Array, chance: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        beyond: Array = np.where(chance < 1 - 1e-12, (observed - chance) / (1 - chance), np.nan)
    return beyond


def _require_complete(what: str, ratings: Array, remedy: str) -> None:
    missing = int(np.isnan(np.asarray(ratings, dtype=float)).sum())
    if missing:
        raise InputError(f"{what} needs complete ratings, {missing} are missing. Remedy: {remedy}")
