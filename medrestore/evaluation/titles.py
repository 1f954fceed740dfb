"""Names of methods and metrics as tables, figures and MLflow show them.

A metric's key says what is measured, and before it where: ``psnr`` of a scan, ``t1w/psnr`` of a contrast,
``patient/t1w/psnr`` of a contrast in a group of subjects. ``mean`` stands for the mean over all contrasts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = [
    "DIAGNOSIS",
    "LESIONS",
    "MEAN",
    "NUCLEI",
    "QUALITY",
    "QUANTIFICATION",
    "MetricKey",
    "MetricTitle",
    "contrast_title",
    "in_order",
    "in_order_of_contrasts",
    "label_of",
    "metrics_of",
    "title_of",
]

MEAN = "mean"
"""In the place of a contrast: the mean over all of them. So no contrast can be called so."""

LABELS = {
    "input": "Input",
    "gaussian": "Gaussian filter",
    "nlm": "Non-local means",
    "classical": "Classical fit",
    "l1": "L1",
    "l1_task": "L1 + task",
    "gan": "GAN",
    "taskgan": "Task-GAN",
    "bicubic": "Bicubic",
    "lanczos": "Lanczos",
    "srgan": "SRGAN",
    "e": "SRGAN_E",
    "qe": "SRGAN_QE",
    "sqe": "SRGAN_SQE",
    "standard_dose": "Standard dose",
    "true": "True image",
}


@dataclass(frozen=True)
class MetricTitle:
    """How a metric is shown.

    Parameters
    ----------
    title
        Of its column, or of its table where contrasts are the columns.
    digits
        Behind the point.
    table
        That it stands in.
    shown
        Whether tables of contrasts show it; what they do not show is in the files and in MLflow.
    averaged
        Whether a mean over contrasts says anything.
    paired
        Whether more of it is better or worse, so that methods can be told apart by its difference.
    """

    title: str
    digits: int
    table: str
    shown: bool = True
    averaged: bool = True
    paired: bool = True


QUALITY, DIAGNOSIS, QUANTIFICATION = "Image quality", "Diagnosis", "Quantification"
LESIONS, GRID = "Lesions", "Grid artifact"
NUCLEI = "Nuclei and stains"
TITLES = {
    "psnr": MetricTitle("PSNR (dB)", 2, QUALITY),
    "ssim": MetricTitle("SSIM", 3, QUALITY),
    "rmse": MetricTitle("RMSE", 3, QUALITY),
    "nrmse": MetricTitle("NRMSE, head", 3, QUALITY, shown=False),
    "rrmse": MetricTitle("RRMSE", 4, QUALITY),
    "ms_mssim": MetricTitle("MS-mSSIM", 3, QUALITY),
    "qilv": MetricTitle("QILV", 3, QUALITY),
    "dose_equivalent": MetricTitle("Dose equivalent", 3, QUALITY),
    "suvr_bias": MetricTitle("SUVR bias", 3, QUANTIFICATION, paired=False),
    "suvr_lower_limit": MetricTitle("Lower limit", 3, QUANTIFICATION),
    "suvr_upper_limit": MetricTitle("Upper limit", 3, QUANTIFICATION),
    "suvr_absolute_error": MetricTitle("SUVR absolute error", 3, QUANTIFICATION),
    "cnr": MetricTitle("Lesion CNR", 2, QUANTIFICATION, averaged=False, paired=False),
    "cnr_difference": MetricTitle(
        "Lesion CNR, difference to true image", 2, QUANTIFICATION, shown=False, averaged=False, paired=False
    ),
    "cnr_ratio": MetricTitle("Lesion CNR / that of the true image", 2, QUANTIFICATION, paired=False),
    "cnr_error": MetricTitle("Lesion CNR, absolute error", 2, QUANTIFICATION),
    "grid_ratio": MetricTitle("Grid artifact / that of the true image", 2, GRID),
    "grid_amplitude": MetricTitle("Grid amplitude (% of the head's mean)", 2, GRID, paired=False),
    "lesion_dice": MetricTitle("Dice, lesion mask", 3, LESIONS, averaged=False),
    "lesion_dice_to_true": MetricTitle("Dice, true image's segmentation", 3, LESIONS, averaged=False),
    "lesion_sensitivity": MetricTitle("Lesions detected", 3, LESIONS, averaged=False),
    "false_lesions": MetricTitle("False lesions per subject", 2, LESIONS, averaged=False),
    "nuclei_density": MetricTitle("Nuclei per mm²", 0, NUCLEI, paired=False),
    "nuclei_error": MetricTitle("Nuclei, relative error of count", 3, NUCLEI),
    "nuclei_f1": MetricTitle("Nuclei found again, F1", 3, NUCLEI),
    "stain_drift_hematoxylin": MetricTitle("Hematoxylin, drift of density", 4, NUCLEI),
    "stain_drift_eosin": MetricTitle("Eosin, drift of density", 4, NUCLEI),
}
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


@dataclass(frozen=True)
class MetricKey:
    """What is measured, and of which contrast and group.

    Parameters
    ----------
    name
        Of the metric.
    contrast
        Name, or ``mean``; empty where images have no contrasts.
    group
        Of subjects; empty for all.

    Examples
    --------
    >>> str(MetricKey("psnr", "t1w", "patient"))
    'patient/t1w/psnr'
    >>> MetricKey.parse("t1w/psnr")
    MetricKey(name='psnr', contrast='t1w', group='')
    """

    name: str
    contrast: str = ""
    group: str = ""

    @classmethod
    def parse(cls, key: str) -> MetricKey:
        """Take a key apart."""
        *where, name = key.split("/")
        group, contrast = ["", "", *where][-2:]
        return cls(name, contrast, group)

    def __str__(self) -> str:
        return "/".join(part for part in (self.group, self.contrast, self.name) if part)


def label_of(method: str) -> str:
    """Return a method's name as tables and figures show it.

    >>> label_of("taskgan"), label_of("my_method")
    ('Task-GAN', 'my_method')
    """
    return LABELS.get(method, method)


def contrast_title(contrast: str) -> str:
    """Return a contrast's name as tables and figures show it.

    >>> contrast_title("t2_flair"), contrast_title("t1c"), contrast_title("mean")
    ('T2-FLAIR', 't1c', 'Mean')
    """
    from medrestore.operators.mr_sequences import TITLES as CONTRAST_TITLES

    return "Mean" if contrast == MEAN else CONTRAST_TITLES.get(contrast, contrast)


def in_order_of_contrasts(contrasts: Iterable[str]) -> list[str]:
    """Sort contrasts as tables show them: the six of the paper first, others by name, the mean last.

    >>> in_order_of_contrasts(["mean", "t2w", "dwi", "t1w"])
    ['t1w', 't2w', 'dwi', 'mean']
    """
    from medrestore.operators.mr_sequences import CONTRASTS

    known = list(CONTRASTS)

    def rank(name: str) -> tuple[bool, int, str]:
        return name == MEAN, known.index(name) if name in known else len(known), name

    return sorted(set(contrasts), key=rank)


def title_of(metric: str) -> MetricTitle:
    """Return how a metric is shown; those of a classifier are named after it.

    Parameters
    ----------
    metric
        Its name, without contrast and group.

    >>> title_of("observer_mae").title
    'Observer MAE'
    >>> title_of("task_patch_accuracy").title
    'T accuracy, patches'
    """
    if metric in TITLES:
        return TITLES[metric]
    judge, kind = _judge_and_kind(metric)
    who = "T" if judge == "task" else judge.replace("_", " ").capitalize()
    return MetricTitle(f"{who} {_KINDS.get(kind, kind)}".strip(), 3, DIAGNOSIS)


def _judge_and_kind(metric: str) -> tuple[str, str]:
    for kind in _KINDS:
        if metric.endswith(f"_{kind}"):
            return metric.removesuffix(f"_{kind}"), kind
    judge, _, kind = metric.rpartition("_")
    return judge, kind


def metrics_of(columns: Iterable[str]) -> list[str]:
    """Return the metrics that a per-subject table's columns allow a mean of, in the order of the tables."""
    given = list(columns)
    judged = [name for name in given if name.endswith(_OF_SUBJECT) and name not in TITLES]
    return [name for name in TITLES if name in given] + judged


def in_order(metrics: Iterable[str]) -> list[str]:
    """Sort metrics as tables show them: those with a title first, then T, then the other classifiers."""

    def rank(name: str) -> tuple[int, bool, str, int]:
        if name in TITLES:
            return list(TITLES).index(name), False, "", 0
        judge, kind = _judge_and_kind(name)
        return (
            len(TITLES),
            judge != "task",
            judge,
            list(_KINDS).index(kind) if kind in _KINDS else len(_KINDS),
        )

    return sorted(set(metrics), key=rank)
