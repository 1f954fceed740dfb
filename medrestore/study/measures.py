"""Figures of merit of a reader study: the one table that plans, statistics and reports read.

To add a figure of merit, add a line to :data:`MEASURES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy.typing as npt

    from medrestore.study.protocol import Protocol

    Array: TypeAlias = npt.NDArray[Any]

__all__ = ["CORRECTIONS", "COVARIANCES", "MEASURES", "Covariance", "Measure", "measures_in_order"]

ROLES = ("decision", "score", "quality")
"""Parts of a protocol, in the order in which a report shows the measures of each."""


@dataclass(frozen=True)
class Covariance:
    """How the covariance over cases is estimated.

    Parameters
    ----------
    title
        In the heading of an analysis.
    phrase
        In the methods of a paper.
    sources
        Keys of the references.
    """

    title: str
    phrase: str
    sources: tuple[str, ...] = ()


COVARIANCES = {
    "jackknife": Covariance("the jackknife", "the jackknife"),
    "delong": Covariance("DeLong", "DeLong's method", ("delong",)),
    "unbiased": Covariance("Gallas' unbiased estimate", "unbiased one-shot estimates", ("gallas",)),
}
"""By the name that plans and the command line use."""

CORRECTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "holm": ("Holm's correction", ("holm",)),
    "bonferroni": ("Bonferroni's correction", ()),
    "sidak": ("Šidák's correction", ("sidak",)),
    "fdr_bh": ("the false discovery rate of Benjamini and Hochberg", ("fdr_bh",)),
    "none": ("", ()),
}
"""Corrections of pairwise p values by statsmodels' names: phrase in a paper's methods, and references."""


def _as_rated(ratings: Array, _: Array | None) -> Array:
    return ratings


def _complement(ratings: Array, _: Array | None) -> Array:
    return 1 - ratings


def _right(ratings: Array, truth: Array | None) -> Array:
    right: Array = ratings == truth
    return right


def _wrong(ratings: Array, truth: Array | None) -> Array:
    wrong: Array = ratings != truth
    return wrong


@dataclass(frozen=True)
class Measure:
    """A figure of merit.

    Parameters
    ----------
    metric
        In plans, on the command line and in ``analysis.json``.
    name
        In the tables of a study and in MLflow.
    title
        In figures and at the head of columns.
    noun
        Within a sentence on a study.
    role
        One of :data:`ROLES`: which question of a protocol it is computed from.
    counts
        What each read counts for, from ratings (with a threshold: 0 or 1) and truth; the figure is its mean
        over cases. None for the area under the ROC curve, which is no mean.
    phrase
        Within a sentence on any table of ratings; ``noun`` when not given.
    threshold
        Whether ``positive_from`` must be given, may be left out when all ratings are 0 or 1, or has no
        meaning.
    positive_from
        The threshold of studies.
    classes
        Truth of the cases that enter; empty for all.
    higher_is_better
        Which direction is good; decides the sign of a non-inferiority margin.
    bounds
        Range that intervals are clipped to; None where the scale is the reader's own.
    digits
        Decimals in tables.
    complement_of
        The measure that it is 1 minus: comparisons show that one alone.
    """

    metric: str
    name: str
    title: str
    noun: str
    role: str
    counts: Callable[[Array, Array | None], Array] | None
    phrase: str = ""
    threshold: Literal["needed", "unless binary", "refused"] = "unless binary"
    positive_from: float | None = None
    classes: tuple[int, ...] = ()
    higher_is_better: bool = True
    bounds: tuple[float, float] | None = (0.0, 1.0)
    digits: int = 3
    complement_of: str = ""

    @property
    def judged(self) -> bool:
        """Whether it compares ratings with the truth."""
        return self.role != "quality"

    @property
    def is_proportion(self) -> bool:
        """Whether it counts reads, so that a single reader has an interval of Wilson."""
        return self.threshold != "refused"

    @property
    def entering(self) -> int | None:
        """Truth of the cases that enter, where these are of one class."""
        return self.classes[0] if len(self.classes) == 1 else None

    @property
    def direction(self) -> str:
        """Which direction is better: ``higher`` or ``lower``."""
        return "higher" if self.higher_is_better else "lower"

    def question(self, protocol: Protocol) -> str:
        """Return the question it is computed from; empty where the protocol has none."""
        return str(getattr(protocol, self.role))


MEASURES = {
    measure.metric: measure
    for measure in (
        Measure(
            *("auc", "auc", "AUC", "area under the ROC curve", "score", None),
            phrase="area under the empirical ROC curve",
            threshold="refused",
            classes=(0, 1),
        ),
        Measure(
            *("error_rate", "error_rate", "Error rate", "error rate", "decision", _wrong),
            higher_is_better=False,
        ),
        Measure(
            *("accuracy", "accuracy", "Accuracy", "accuracy", "decision", _right),
            complement_of="error_rate",
        ),
        Measure(
            *("sensitivity", "sensitivity", "Sensitivity", "sensitivity", "decision", _as_rated),
            classes=(1,),
        ),
        Measure(
            *("specificity", "specificity", "Specificity", "specificity", "decision", _complement),
            classes=(0,),
        ),
        Measure(
            *("mean_rating", "mean_quality", "Mean quality", "mean image quality", "quality", _as_rated),
            phrase="mean rating",
            threshold="refused",
            bounds=None,
            digits=2,
        ),
        Measure(
            *("share_at_least", "share_quality_at_least_3", "Quality ≥ 3"),
            *("share of images of quality 3 or more", "quality", _as_rated),
            phrase="share of ratings at or above the threshold",
            threshold="needed",
            positive_from=3,
        ),
    )
}
"""All figures of merit by their metric."""


def measures_in_order() -> list[Measure]:
    """Return all measures in the order of a report: by role, complements of others last.

    >>> [measure.name for measure in measures_in_order()][:5]
    ['error_rate', 'sensitivity', 'specificity', 'accuracy', 'auc']
    """
    return sorted(
        MEASURES.values(), key=lambda measure: (ROLES.index(measure.role), bool(measure.complement_of))
    )
