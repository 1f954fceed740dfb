"""ROC curves of readers, and the mean curve of an arm whose area is the readers' mean area."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from medrestore.checks import InputError

__all__ = ["RocCurve", "mean_roc", "roc_curves"]

Array: TypeAlias = npt.NDArray[Any]


class RocCurve(NamedTuple):
    """Corners of an empirical ROC curve, from (0, 0) to (1, 1)."""

    false_positive_rate: Array
    true_positive_rate: Array

    @property
    def area(self) -> float:
        """Area under the straight lines between the corners."""
        from sklearn.metrics import auc

        return float(auc(self.false_positive_rate, self.true_positive_rate))


def mean_roc(curves: Sequence[RocCurve]) -> RocCurve:
    """Return the mean of ROC curves, taken along the lines of constant sum of both rates.

    Parameters
    ----------
    curves
        One or more.

    Returns
    -------
    RocCurve

    Raises
    ------
    InputError
        When there is no curve.

    Notes
    -----
    Chen & Samuelson 2014: with u = FPR + TPR and v = TPR - FPR, v is a function of u, also where the curve is
    vertical, and the mean of v over readers is again a curve. Its area is the mean of the areas, which
    neither vertical nor pooled averaging gives.

    Examples
    --------
    >>> perfect = RocCurve(np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0]))
    >>> chance = RocCurve(np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    >>> mean_roc([perfect, chance]).area
    0.75
    """
    if not curves:
        raise InputError("the mean of ROC curves needs one curve or more")
    sums = [curve.false_positive_rate + curve.true_positive_rate for curve in curves]
    at = np.unique(np.concatenate(sums))
    rise = np.mean(
        [
            np.interp(at, u, curve.true_positive_rate - curve.false_positive_rate)
            for u, curve in zip(sums, curves, strict=True)
        ],
        axis=0,
    )
    # Rates neither fall nor leave [0, 1], but for rounding.
    rates = [np.maximum.accumulate(np.clip(rate / 2, 0.0, 1.0)) for rate in (at - rise, at + rise)]
    return RocCurve(*rates)


def roc_curves(reads: pd.DataFrame) -> dict[str, dict[str, RocCurve]]:
    """Return each reader's empirical ROC curve.

    Parameters
    ----------
    reads
        ``reader``, ``method``, ``truth`` (both classes), ``rating``.

    Returns
    -------
    dict
        Method -> reader -> curve.
    """
    from sklearn.metrics import roc_curve

    curves: dict[str, dict[str, RocCurve]] = {}
    for (method, reader), group in reads.groupby(["method", "reader"], sort=False):
        false_positive, true_positive, _ = roc_curve(group["truth"], group["rating"], drop_intermediate=False)
        curves.setdefault(str(method), {})[str(reader)] = RocCurve(false_positive, true_positive)
    return curves
