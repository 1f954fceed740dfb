"""Whether the diagnosis held: errors of a classifier's reading of slices and volumes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from medrestore.checks import InputError, require_in_range, require_in_set, require_same_shape

__all__ = ["auc", "error_rate", "middle_slices", "slice_mae", "volume_decision"]

Array: TypeAlias = npt.NDArray[Any]


def middle_slices(n: int, count: int = 40) -> slice:
    """Return the ``count`` slices in the middle of ``n``; an odd remainder is cut off behind.

    Raises
    ------
    InputError
        When there are not as many slices.

    Examples
    --------
    >>> middle_slices(89)
    slice(24, 64, None)
    """
    if not 1 <= count <= n:
        raise InputError(f"count of middle slices must be in [1, {n}], the number of slices, got {count}")
    first = (n - count) // 2
    return slice(first, first + count)


def slice_mae(probabilities: Sequence[float] | Array, label: float) -> float:
    """Return the mean absolute error |p - y| over a subject's slices (Task-GAN, table 3).

    Parameters
    ----------
    probabilities : (N,)
        What the classifier says of each slice, in [0, 1].
    label
        The subject's y, 0 or 1.

    Raises
    ------
    InputError
        When a probability is not in [0, 1], there is none, or the label is neither 0 nor 1.

    Examples
    --------
    >>> slice_mae([0.75, 0.5], 1)
    0.375
    """
    require_in_set("label", label, (0, 1))
    return float(np.abs(_probabilities(probabilities) - label).mean())


def volume_decision(probabilities: Sequence[float] | Array, threshold: float = 0.5) -> bool:
    """Return whether a volume reads positive: the mean over its slices exceeds the threshold.

    Parameters
    ----------
    probabilities
        As in :func:`slice_mae`.
    threshold
        Largest mean that still reads negative.

    Raises
    ------
    InputError
        When a probability or the threshold is not in [0, 1], or there is no slice.

    Examples
    --------
    >>> volume_decision([0.9, 0.4, 0.3])
    True
    """
    require_in_range("threshold", threshold, 0, 1)
    return bool(_probabilities(probabilities).mean() > threshold)


def error_rate(decisions: Sequence[bool] | Array, labels: Sequence[float] | Array) -> float:
    """Return the share of volumes that were read wrong.

    Parameters
    ----------
    decisions : (N,)
        Reading of each volume, 0 or 1.
    labels : (N,)
        Truth of each volume, 0 or 1.

    Raises
    ------
    InputError
        When lengths differ, there is no volume, or a value is neither 0 nor 1.

    Examples
    --------
    >>> error_rate([True, False, True, True], [1, 0, 0, 1])
    0.25
    """
    read, truth = _binary("decisions", decisions), _binary("labels", labels)
    require_same_shape(decisions=read.shape, labels=truth.shape)
    return float((read != truth).mean())


def auc(scores: Sequence[float] | Array, labels: Sequence[float] | Array) -> float:
    """Return the area under the receiver operating characteristic.

    It is the chance that a positive scores above a negative.

    Parameters
    ----------
    scores : (N,)
        Any number that rises with positivity.
    labels : (N,)
        Truth of each volume, 0 or 1.

    Raises
    ------
    InputError
        When lengths differ, a score is not finite, or only one class is there.

    Examples
    --------
    >>> auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    0.75
    """
    from sklearn.metrics import roc_auc_score

    truth, row = _binary("labels", labels), np.asarray(scores, dtype=np.float64)
    require_same_shape(scores=row.shape, labels=truth.shape)
    if not np.isfinite(row).all():
        raise InputError(f"scores must be finite, got {row.tolist()}")
    if truth.min() == truth.max():
        raise InputError(f"an AUC needs both classes, got {truth.size} of class {int(truth[0])} alone")
    return float(roc_auc_score(truth, row))


def _probabilities(values: Sequence[float] | Array) -> Array:
    row = np.asarray(values, dtype=np.float64)
    if row.ndim != 1 or row.size == 0 or not ((row >= 0) & (row <= 1)).all():
        raise InputError(f"probabilities must be a row of numbers in [0, 1], got {row.tolist()}")
    return row


def _binary(name: str, values: Sequence[float] | Sequence[bool] | Array) -> Array:
    row = np.asarray(values, dtype=np.float64)
    if row.ndim != 1 or row.size == 0 or not np.isin(row, (0, 1)).all():
        raise InputError(f"{name} must be a row of 0 and 1, got shape {row.shape} with {row.tolist()}")
    return row.astype(np.int64)
