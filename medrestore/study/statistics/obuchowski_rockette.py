"""Obuchowski-Rockette analysis with Hillis' degrees of freedom, for any figure of merit.

The model is ``theta_ij = mu + tau_i + R_j + (tau R)_ij + eps_ij`` for method i and reader j, and the
covariance of eps over cases has four values: var, Cov1 (other method, same reader), Cov2 (same method, other
reader), Cov3 (both other).

All three analyses have one form. The mean of a method varies by E / r, where the error term E has ``df``
degrees of freedom; equality of t methods is tested by F = MS(T) / E, a difference by t with the standard
error sqrt(2 E / r):

=========================  ==========================================  =====================
analysis                   E                                           df
=========================  ==========================================  =====================
random readers and cases   MS(TR) + r max(Cov2 - Cov3, 0)              E^2 (t-1)(r-1)/MS(TR)^2
fixed readers              var - Cov1 + (r-1) max(Cov2 - Cov3, 0)      infinite
fixed cases                MS(TR)                                      (t-1)(r-1)
=========================  ==========================================  =====================

Sources: Obuchowski & Rockette 1995; Hillis 2007 (degrees of freedom), 2014 (single methods).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple, TypeAlias

import numpy.typing as npt

__all__ = [
    "ANALYSES",
    "Components",
    "Difference",
    "Equality",
    "ErrorTerm",
    "Estimate",
    "NonInferiority",
    "components",
    "difference",
    "equality",
    "error_term",
    "estimate",
    "method_error_term",
    "non_inferiority",
    "pairs",
]

Array: TypeAlias = npt.NDArray[Any]

ANALYSES = {
    "random_readers_random_cases": "random readers, random cases",
    "fixed_readers": "fixed readers, random cases",
    "fixed_cases": "random readers, fixed cases",
}
"""In words; what is random stands for others like it, what is fixed for itself."""

RANDOM, FIXED_READERS, FIXED_CASES = ANALYSES


@dataclass(frozen=True)
class Components:
    """Mean squares and covariances; None where one method or one reader leaves them undefined.

    Parameters
    ----------
    methods, readers
        t and r.
    var, cov1, cov2, cov3
        Means over the entries of the covariance over cases.
    ms_t, ms_r, ms_tr
        Mean squares of methods, readers, and both.
    """

    methods: int
    readers: int
    var: Fraction
    cov1: Fraction | None
    cov2: Fraction | None
    cov3: Fraction | None
    ms_t: Fraction | None
    ms_r: Fraction | None
    ms_tr: Fraction | None

    @property
    def between_readers(self) -> Fraction:
        """``max(Cov2 - Cov3, 0)``; 0 for one reader, who shares cases with nobody."""
        if self.cov2 is None or self.cov3 is None:
            return Fraction(0)
        return max(self.cov2 - self.cov3, Fraction(0))

    @property
    def var_r(self) -> Fraction | None:
        """Variance between readers, not truncated at 0."""
        if self.ms_r is None or self.ms_tr is None or self.cov1 is None or self.cov3 is None:
            return None
        return (self.ms_r - self.ms_tr) / self.methods - self.cov1 + self.cov3

    @property
    def var_tr(self) -> Fraction | None:
        """Variance of readers' preferences between methods, not truncated at 0."""
        if self.ms_tr is None or self.cov1 is None or self.cov2 is None or self.cov3 is None:
            return None
        return self.ms_tr - self.var + self.cov1 + (self.cov2 - self.cov3)


def components(theta: Array, covariance: Array, unit: Fraction = Fraction(1)) -> Components:
    """Return the mean squares of theta and the mean covariances.

    Parameters
    ----------
    theta : (t, r), object
        Figures of merit as fractions.
    covariance : (t, r, t, r), object
        Their covariance over cases as integers or fractions.
    unit
        What the entries of ``covariance`` are times.
    """
    t, r = theta.shape
    mean = theta.sum() / (t * r)
    of_method, of_reader = theta.sum(axis=1) / r, theta.sum(axis=0) / t
    rest = theta - of_method[:, None] - of_reader[None, :] + mean
    everything = covariance.sum()
    same_method = covariance.diagonal(axis1=0, axis2=2).sum()
    same_reader = covariance.diagonal(axis1=1, axis2=3).sum()
    same = covariance.reshape(t * r, t * r).trace()

    def ratio(total: Any, count: int) -> Fraction | None:
        return Fraction(total) / count if count else None

    def share(total: Any, count: int) -> Fraction | None:
        return unit * Fraction(total) / count if count else None

    return Components(
        methods=t,
        readers=r,
        var=unit * Fraction(same) / (t * r),
        cov1=share(same_reader - same, t * (t - 1) * r),
        cov2=share(same_method - same, t * r * (r - 1)),
        cov3=share(everything - same_method - same_reader + same, t * (t - 1) * r * (r - 1)),
        ms_t=ratio(r * ((of_method - mean) ** 2).sum(), t - 1),
        ms_r=ratio(t * ((of_reader - mean) ** 2).sum(), r - 1),
        ms_tr=ratio((rest**2).sum(), (t - 1) * (r - 1)),
    )


class ErrorTerm(NamedTuple):
    """What a mean over r readers varies by: variance ``value / readers``.

    Parameters
    ----------
    value
        Exact; 0 where nothing varies, and below 0 where an unbiased estimate of a variance is.
    df
        Degrees of freedom; infinity means the normal distribution.
    readers
        r.
    """

    value: Fraction
    df: float
    readers: int

    def standard_error(self, times: int = 1) -> float | None:
        """Return ``sqrt(times * value / readers)``; None where the value is not above 0."""
        variance = float(times * self.value / self.readers)
        return math.sqrt(variance) if variance > 0 else None


def error_term(analysis: str, parts: Components) -> ErrorTerm | None:
    """Return the error term of differences between methods; None where methods or readers are too few."""
    t, r, between = parts.methods, parts.readers, parts.between_readers
    if analysis == FIXED_READERS:
        if parts.cov1 is None:
            return None
        return ErrorTerm(parts.var - parts.cov1 + (r - 1) * between, math.inf, r)
    if parts.ms_tr is None:
        return None
    residual = (t - 1) * (r - 1)
    if analysis == FIXED_CASES:
        return ErrorTerm(parts.ms_tr, residual, r)
    return _satterthwaite(parts.ms_tr, parts.ms_tr + r * between, residual, r)


def method_error_term(analysis: str, theta: Array, covariance: Array, unit: Fraction) -> ErrorTerm | None:
    """Return the error term of one method by itself.

    Parameters
    ----------
    analysis
        One of :data:`ANALYSES`.
    theta : (r,), object
        The method's figures of merit.
    covariance : (r, r), object
        Their covariance over cases.
    unit
        What its entries are times.
    """
    own = components(theta[None], covariance[None, :, None, :], unit)
    shared = max(own.cov2, Fraction(0)) if own.cov2 is not None else Fraction(0)
    r = own.readers
    if analysis == FIXED_READERS:
        return ErrorTerm(own.var + (r - 1) * shared, math.inf, r)
    if own.ms_r is None:
        return None
    if analysis == FIXED_CASES:
        return ErrorTerm(own.ms_r, r - 1, r)
    return _satterthwaite(own.ms_r, own.ms_r + r * shared, r - 1, r)


def _satterthwaite(mean_square: Fraction, value: Fraction, df: int, readers: int) -> ErrorTerm:
    return ErrorTerm(value, float((value / mean_square) ** 2 * df) if mean_square else math.inf, readers)


class Equality(NamedTuple):
    """Test that all methods are equal; ``f`` and ``p`` are None where nothing varies but the methods."""

    f: float | None
    df1: int
    ddf: float
    p: float | None


def equality(parts: Components, term: ErrorTerm) -> Equality:
    """Return the test of equal methods: F = MS(T) / E; methods that are equal have F = 0 and p = 1."""
    from scipy import stats

    df1 = parts.methods - 1
    if parts.ms_t == 0:
        return Equality(0.0, df1, term.df, 1.0)
    if parts.ms_t is None or term.value <= 0:
        return Equality(None, df1, term.df, None)
    f = float(parts.ms_t / term.value)
    infinite = math.isinf(term.df)
    p = stats.chi2.sf(df1 * f, df1) if infinite else stats.f.sf(f, df1, term.df)
    return Equality(f, df1, term.df, float(p))


class Estimate(NamedTuple):
    """A mean with its interval; None where nothing varies, so that no interval can be told."""

    mean: float
    se: float | None
    df: float
    low: float | None
    high: float | None


def estimate(
    mean: Fraction, term: ErrorTerm, *, alpha: float, bounds: tuple[float, float] | None
) -> Estimate:
    """Return a method's mean over readers and its interval, clipped to the bounds."""
    se = term.standard_error()
    if se is None:
        return Estimate(float(mean), 0.0 if term.value == 0 else None, term.df, None, None)
    half = _quantile(1 - alpha / 2, term.df) * se
    low, high = float(mean) - half, float(mean) + half
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return Estimate(float(mean), se, term.df, low, high)


class Difference(NamedTuple):
    """A difference of two means with its test; None where nothing but the methods varies."""

    difference: float
    se: float | None
    df: float
    t: float | None
    p: float | None
    low: float | None
    high: float | None


def difference(value: Fraction, term: ErrorTerm, *, alpha: float) -> Difference:
    """Return a difference of two methods' means with t, two-sided p and interval."""
    from scipy import stats

    se = term.standard_error(2)
    if se is None:
        none = None if value or term.value else 0.0
        zero = None if term.value else 0.0
        if value:
            return Difference(float(value), zero, term.df, None, None, None, None)
        return Difference(0.0, zero, term.df, 0.0, 1.0, none, none)
    t = float(value) / se
    p = float(2 * stats.t.sf(abs(t), term.df))
    half = _quantile(1 - alpha / 2, term.df) * se
    return Difference(float(value), se, term.df, t, min(p, 1.0), float(value) - half, float(value) + half)


class NonInferiority(NamedTuple):
    """One-sided test that a method is not worse than a reference by the margin or more.

    Parameters
    ----------
    difference
        Method minus reference.
    limit
        The end of the two-sided interval on the worse side, that is below where higher is better.
    bound
        What the limit must not reach: minus the margin where higher is better, else the margin.
    """

    difference: float
    se: float | None
    df: float
    bound: float
    limit: float | None
    t: float | None
    p: float | None


def non_inferiority(
    value: Fraction, term: ErrorTerm, *, margin: float, higher_is_better: bool, alpha: float
) -> NonInferiority:
    """Return T = (benefit + margin) / sqrt(2 E / r), one-sided p, and the limit at level alpha / 2.

    The benefit is the difference, method minus reference, where higher is better, and its negative elsewhere.
    """
    from scipy import stats

    sign = 1 if higher_is_better else -1
    bound = -sign * margin
    se = term.standard_error(2)
    if se is None:
        return NonInferiority(
            float(value), 0.0 if term.value == 0 else None, term.df, bound, None, None, None
        )
    t = (sign * float(value) + margin) / se
    limit = float(value) - sign * _quantile(1 - alpha / 2, term.df) * se
    return NonInferiority(float(value), se, term.df, bound, limit, t, float(stats.t.sf(t, term.df)))


def pairs(count: int) -> Sequence[tuple[int, int]]:
    """Return all pairs of ``count`` things, the first before the second."""
    return [(a, b) for a in range(count) for b in range(a + 1, count)]


def _quantile(probability: float, df: float) -> float:
    from scipy import stats

    return float(stats.t.ppf(probability, df))
