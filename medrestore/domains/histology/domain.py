"""What the other rooms learn of histology."""

from __future__ import annotations

from medrestore.domains.base import Domain
from medrestore.domains.histology.changes import CHANGES
from medrestore.domains.histology.schema import TILES
from medrestore.evaluation.titles import FIDELITY, QUALITY, Metrics, MetricTitle, Strata

__all__ = ["DOMAIN"]

NUCLEI = "Nuclei and stains"

DOMAIN = Domain(
    name="histology",
    metrics=Metrics(
        titles={
            **FIDELITY,
            "rrmse": MetricTitle("RRMSE", 4, QUALITY, less_is_better=True),
            "ms_mssim": MetricTitle("MS-mSSIM", 3, QUALITY),
            "qilv": MetricTitle("QILV", 3, QUALITY),
            "nuclei_density": MetricTitle("Nuclei per mm²", 0, NUCLEI, paired=False),
            "nuclei_error": MetricTitle("Nuclei, relative error of count", 3, NUCLEI, less_is_better=True),
            "nuclei_f1": MetricTitle("Nuclei found again, F1", 3, NUCLEI),
            "stain_drift_hematoxylin": MetricTitle(
                "Hematoxylin, drift of density", 4, NUCLEI, less_is_better=True
            ),
            "stain_drift_eosin": MetricTitle("Eosin, drift of density", 4, NUCLEI, less_is_better=True),
        },
        pairs=(
            ("qe", "e"),
            ("sqe", "qe"),
            ("sqe", "e"),
            ("e", "srgan"),
            ("sqe", "srgan"),
            ("sqe", "bicubic"),
            ("e", "bicubic"),
            ("any_blur", "bicubic"),
            ("any_blur", "sqe"),
            ("any_blur", "specialized"),
        ),
        diagnosis=("nuclei_f1",),
        strata=Strata(
            "degradation",
            {
                "gaussian1": "Gaussian 1",
                "gaussian2": "Gaussian 2",
                "gaussian3": "Gaussian 3",
                "box": "Box",
                "bicubic": "Bicubic",
                "lanczos": "Lanczos",
                "gaussian2-noise5": "Gaussian 2, noise 5",
                "gaussian2-jpeg70": "Gaussian 2, JPEG 70",
                "box-jpeg70": "Box, JPEG 70",
            },
        ),
        alike=("scale", "sigma", "degradations"),
        labels={
            "srgan": "SRGAN",
            "e": "SRGAN_E",
            "qe": "SRGAN_QE",
            "sqe": "SRGAN_SQE",
            "any_blur": "Any blur",
            "specialized": "Trained for it",
        },
        changes=CHANGES,
        baselines={"bicubic": "Bicubic", "lanczos": "Lanczos"},
    ),
    schema=TILES,
)
