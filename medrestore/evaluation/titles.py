"""Names of methods and metrics as tables, figures and MLflow show them.

A metric's key says what is measured, and before it where: ``psnr`` of a scan, ``t1w/psnr`` of a stratum of a
subject's images, ``patient/t1w/psnr`` of a stratum in a group of subjects. ``mean`` stands for the mean over
all strata. Which metrics and strata there are, each kind of image says: :class:`Metrics`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medrestore.evaluation.declared import Changes

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "ANCHORED",
    "DIAGNOSIS",
    "FIDELITY",
    "MEAN",
    "QUALITY",
    "QUANTIFICATION",
    "MetricKey",
    "MetricTitle",
    "Metrics",
    "Strata",
]

MEAN = "mean"
"""In the place of a stratum: the mean over all of them. So no stratum can be called so."""

LABELS = {
    "input": "Input",
    "l1": "L1",
    "l1_task": "L1 + task",
    "gan": "GAN",
    "taskgan": "Task-GAN",
    "true": "True image",
}
"""Of what no kind of image has to itself."""


ANCHORED = "_anchored"
"""End of the name of a method's anchored version, see :mod:`medrestore.inference.anchor`."""


@dataclass(frozen=True)
class MetricTitle:
    """How a metric is shown.

    Parameters
    ----------
    title
        Of its column, or of its table where strata are the columns.
    digits
        Behind the point.
    table
        That it stands in.
    shown
        Whether tables of strata show it; what they do not show is in the files and in MLflow.
    averaged
        Whether a mean over strata says anything.
    paired
        Whether more of it is better or worse, so that methods can be told apart by its difference.
    less_is_better
        Of the two.
    bounded
        Whether a column of texts, ``NAME_bound``, says of each value whether it is the end of a scale which
        the true one lies below (``<``) or beyond (``>``). A mean that some lie beyond is shown with >=.
    """

    title: str
    digits: int
    table: str
    shown: bool = True
    averaged: bool = True
    paired: bool = True
    less_is_better: bool = False
    bounded: bool = False


QUALITY, DIAGNOSIS, QUANTIFICATION = "Image quality", "Diagnosis", "Quantification"
FIDELITY = {
    "psnr": MetricTitle("PSNR (dB)", 2, QUALITY),
    "ssim": MetricTitle("SSIM", 3, QUALITY),
    "rmse": MetricTitle("RMSE", 3, QUALITY, less_is_better=True),
}
"""What can be measured of every kind of image."""

_KINDS = {
    "patch_accuracy": "accuracy, patches",
    "slice_accuracy": "accuracy, slices",
    "mae": "MAE",
    "error": "error",
    "auc": "AUC",
}
"""What is said of a classifier: end of the metric's name and its title."""

_OF_SUBJECT = ("_patch_accuracy", "_slice_accuracy", "_mae", "_error")
"""Ends of columns that hold a classifier's reading of one subject, of which a mean can be taken."""

_ERRORS = ("mae", "error")
"""What is said of a classifier by how wrong it is."""


@dataclass(frozen=True)
class MetricKey:
    """What is measured, and of which stratum and group.

    Parameters
    ----------
    name
        Of the metric.
    stratum
        Name, or ``mean``; empty where images have no strata.
    group
        Of subjects; empty for all.

    Examples
    --------
    >>> str(MetricKey("psnr", "t1w", "patient"))
    'patient/t1w/psnr'
    >>> MetricKey.parse("t1w/psnr")
    MetricKey(name='psnr', stratum='t1w', group='')
    """

    name: str
    stratum: str = ""
    group: str = ""

    @classmethod
    def parse(cls, key: str) -> MetricKey:
        """Take a key apart."""
        *where, name = key.split("/")
        group, stratum = ["", "", *where][-2:]
        return cls(name, stratum, group)

    def __str__(self) -> str:
        return "/".join(part for part in (self.group, self.stratum, self.name) if part)


@dataclass(frozen=True)
class Strata:
    """Images of one subject that tables keep apart: each metric has a table, with the strata as columns.

    Parameters
    ----------
    column
        Of the table per subject, names the stratum of a row; empty where there are no strata.
    titles
        Of known strata, in the order of the tables.
    first
        Strata whose paired differences come first.
    apart
        Metrics that are shown for each group of subjects too.
    joined
        Tables in which all metrics stand side by side: their titles by their names.
    """

    column: str = ""
    titles: Mapping[str, str] = field(default_factory=dict)
    first: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()
    joined: Mapping[str, str] = field(default_factory=dict)

    def title_of(self, stratum: str) -> str:
        """Return a stratum's name as tables and figures show it.

        >>> strata = Strata("sequence", {"t2_flair": "T2-FLAIR"})
        >>> strata.title_of("t2_flair"), strata.title_of("t1c"), strata.title_of("mean")
        ('T2-FLAIR', 't1c', 'Mean')
        """
        return "Mean" if stratum == MEAN else self.titles.get(stratum, stratum)

    def in_order(self, strata: Iterable[str]) -> list[str]:
        """Sort strata as tables show them: the known ones first, others by name, the mean last.

        >>> Strata("sequence", {"t1w": "T1w", "t2w": "T2w"}).in_order(["mean", "t2w", "dwi", "t1w"])
        ['t1w', 't2w', 'dwi', 'mean']
        """
        known = list(self.titles)

        def rank(name: str) -> tuple[bool, int, str]:
            return name == MEAN, known.index(name) if name in known else len(known), name

        return sorted(set(strata), key=rank)


def _no_more(_: pd.DataFrame) -> Iterable[tuple[str, float, int]]:
    return ()


@dataclass(frozen=True)
class Metrics:
    """What is measured of a kind of image, beside the readings of classifiers, and how tables show it.

    Parameters
    ----------
    titles
        Of the metrics, in the order of the tables.
    pairs
        Methods whose paired differences are reported where both are there.
    diagnosis
        Metrics that say whether the diagnosis held: the first one that was measured counts in verdicts.
        ``observer_mae`` and its like stand for the mean over all independent observers.
    strata
        Of a subject's images.
    summaries
        From a method's rows of the table per subject to numbers that are no mean over subjects: name, value,
        number of subjects.
    alike
        Keys of their records that evaluations taken together must have in common, beside those of all kinds.
    labels, baselines
        How tables and figures call its methods, and those that need no training.
    changes
        What a restoration may change, which a page for each of them shows.
    """

    titles: Mapping[str, MetricTitle]
    pairs: tuple[tuple[str, str], ...] = ()
    diagnosis: tuple[str, ...] = ()
    strata: Strata = Strata()
    summaries: Callable[[pd.DataFrame], Iterable[tuple[str, float, int]]] = _no_more
    alike: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    baselines: Mapping[str, str] = field(default_factory=dict)
    changes: Changes = field(default_factory=Changes)

    @property
    def bounded(self) -> list[str]:
        """Metrics with a column ``NAME_bound``."""
        return [name for name, title in self.titles.items() if title.bounded]

    @property
    def text_columns(self) -> list[str]:
        """Columns of the table per subject in which an empty text is no missing number."""
        bounds = [f"{name}_bound" for name in self.bounded]
        return ["subject_id", "session_id", "group", *filter(None, [self.strata.column]), *bounds]

    def label_of(self, method: str) -> str:
        """Return a method's name as tables and figures show it.

        >>> [Metrics(FIDELITY).label_of(name) for name in ("taskgan", "my_method", "taskgan_anchored")]
        ['Task-GAN', 'my_method', 'Task-GAN + anchor']
        """
        known = {**LABELS, **self.labels, **self.baselines}
        if method not in known and method.endswith(ANCHORED):
            return f"{self.label_of(method.removesuffix(ANCHORED))} + anchor"
        return known.get(method, method)

    def title_of(self, metric: str) -> MetricTitle:
        """Return how a metric is shown; those of a classifier are named after it.

        Parameters
        ----------
        metric
            Its name, without stratum and group.

        >>> Metrics(FIDELITY).title_of("observer_mae").title
        'Observer MAE'
        >>> Metrics(FIDELITY).title_of("task_patch_accuracy").title
        'T accuracy, patches'
        """
        if metric in self.titles:
            return self.titles[metric]
        judge, kind = _judge_and_kind(metric)
        who = "T" if judge == "task" else judge.replace("_", " ").capitalize()
        title = f"{who} {_KINDS.get(kind, kind)}".strip()
        return MetricTitle(title, 3, DIAGNOSIS, less_is_better=kind in _ERRORS)

    def among(self, columns: Iterable[str]) -> list[str]:
        """Return the columns of a table per subject that allow a mean, in the order of the tables."""
        given = list(columns)
        judged = [name for name in given if name.endswith(_OF_SUBJECT) and name not in self.titles]
        return [name for name in self.titles if name in given] + judged

    @staticmethod
    def observed(metric: str, columns: Iterable[str]) -> list[str]:
        """Return the columns that a metric is the mean of: of an observer's those of all observers.

        >>> Metrics.observed("observer_mae", ["psnr", "task_mae", "observer_1_mae", "observer_2_mae"])
        ['observer_1_mae', 'observer_2_mae']
        """
        judge, kind = _judge_and_kind(metric)
        of_any = rf"{judge}(_\d+)?_{kind}" if judge == "observer" else re.escape(metric)
        return [name for name in columns if re.fullmatch(of_any, name)]

    def in_order(self, metrics: Iterable[str]) -> list[str]:
        """Sort metrics as tables show them: those with a title first, then T, then the other classifiers."""
        known = list(self.titles)

        def rank(name: str) -> tuple[int, bool, str, int]:
            if name in self.titles:
                return known.index(name), False, "", 0
            judge, kind = _judge_and_kind(name)
            return (
                len(known),
                judge != "task",
                judge,
                list(_KINDS).index(kind) if kind in _KINDS else len(_KINDS),
            )

        return sorted(set(metrics), key=rank)


def _judge_and_kind(metric: str) -> tuple[str, str]:
    for kind in _KINDS:
        if metric.endswith(f"_{kind}"):
            return metric.removesuffix(f"_{kind}"), kind
    judge, _, kind = metric.rpartition("_")
    return judge, kind
