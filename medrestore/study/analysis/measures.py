"""What a study measures: figures of merit by the name that tables, figures and MLflow use."""

from __future__ import annotations

from dataclasses import dataclass

from medrestore.evaluation.titles import label_of
from medrestore.study.questions import Protocol

__all__ = ["MEASURES", "Measure", "arm_label", "measure_of_metric", "measures_of", "reader_label"]

ARM_LABELS = {"standard": "Standard dose", "low_dose": "Low dose"}


@dataclass(frozen=True)
class Measure:
    """A figure of merit as a study reports it.

    Parameters
    ----------
    name
        In tables and in MLflow.
    title
        In figures and at the head of columns.
    noun
        Within a sentence.
    metric
        Name of the engine.
    role
        ``decision``, ``score`` or ``quality``: which question of the protocol it is computed from.
    positive_from
        Least rating that counts; None where the metric needs none.
    judged
        Whether it compares ratings with the truth.
    """

    name: str
    title: str
    noun: str
    metric: str
    role: str
    positive_from: float | None = None
    judged: bool = True

    @property
    def is_proportion(self) -> bool:
        """Whether it counts reads, so that a single reader has an interval of Wilson."""
        return self.metric not in ("auc", "mean_rating")

    @property
    def digits(self) -> int:
        """Decimals in tables."""
        return 2 if self.metric == "mean_rating" else 3

    def question(self, protocol: Protocol) -> str:
        """Return the question it is computed from; empty where the protocol has none."""
        return str(getattr(protocol, self.role))


MEASURES = (
    Measure("error_rate", "Error rate", "error rate", "error_rate", "decision"),
    Measure("sensitivity", "Sensitivity", "sensitivity", "sensitivity", "decision"),
    Measure("specificity", "Specificity", "specificity", "specificity", "decision"),
    Measure("accuracy", "Accuracy", "accuracy", "accuracy", "decision"),
    Measure("auc", "AUC", "area under the ROC curve", "auc", "score"),
    Measure("mean_quality", "Mean quality", "mean image quality", "mean_rating", "quality", judged=False),
    Measure(
        *("share_quality_at_least_3", "Quality ≥ 3", "share of images of quality 3 or more"),
        *("share_at_least", "quality"),
        positive_from=3,
        judged=False,
    ),
)
"""All measures, in the order of the report."""


def measures_of(protocol: Protocol) -> tuple[Measure, ...]:
    """Return the measures that the questions of a protocol allow."""
    return tuple(measure for measure in MEASURES if measure.question(protocol))


def measure_of_metric(metric: str) -> Measure:
    """Return the measure that a plan's metric names.

    >>> measure_of_metric("mean_rating").name
    'mean_quality'
    """
    return next(measure for measure in MEASURES if measure.metric == metric)


def arm_label(arm: str) -> str:
    """Return an arm's name as tables and figures show it.

    >>> arm_label("taskgan"), arm_label("low_dose"), arm_label("my_arm")
    ('Task-GAN', 'Low dose', 'My arm')
    """
    known = ARM_LABELS.get(arm, label_of(arm))
    return f"{arm[:1].upper()}{arm[1:]}".replace("_", " ") if known == arm else known


def reader_label(reader: str, kind: str) -> str:
    """Return a reader's pseudonym as tables and figures show it; a model is marked as one.

    >>> reader_label("reader_1", "human"), reader_label("suvr", "model")
    ('reader 1', 'suvr (model)')
    """
    name = reader.replace("_", " ")
    return f"{name} (model)" if kind == "model" and "model" not in name else name
