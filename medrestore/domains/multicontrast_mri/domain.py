"""What the other rooms learn of multi-contrast MRI."""

from __future__ import annotations

from medrestore.domains.base import Domain
from medrestore.domains.multicontrast_mri.changes import CHANGES
from medrestore.domains.multicontrast_mri.schema import schema_of_table
from medrestore.evaluation.titles import FIDELITY, QUALITY, QUANTIFICATION, Metrics, MetricTitle, Strata
from medrestore.operators.mr_sequences import TITLES

__all__ = ["DOMAIN", "LESIONS"]

LESIONS, GRID = "Lesions", "Grid artifact"

DOMAIN = Domain(
    name="multicontrast_mri",
    metrics=Metrics(
        titles={
            **FIDELITY,
            "nrmse": MetricTitle("NRMSE, head", 3, QUALITY, shown=False, less_is_better=True),
            "cnr": MetricTitle("Lesion CNR", 2, QUANTIFICATION, averaged=False, paired=False),
            "cnr_difference": MetricTitle(
                "Lesion CNR, difference to true image",
                2,
                QUANTIFICATION,
                shown=False,
                averaged=False,
                paired=False,
            ),
            "cnr_ratio": MetricTitle("Lesion CNR / that of the true image", 2, QUANTIFICATION, paired=False),
            "cnr_error": MetricTitle("Lesion CNR, absolute error", 2, QUANTIFICATION, less_is_better=True),
            "grid_ratio": MetricTitle("Grid artifact / that of the true image", 2, GRID, less_is_better=True),
            "grid_amplitude": MetricTitle("Grid amplitude (% of the head's mean)", 2, GRID, paired=False),
            "lesion_dice": MetricTitle("Dice, lesion mask", 3, LESIONS, averaged=False),
            "lesion_dice_to_true": MetricTitle("Dice, true image's segmentation", 3, LESIONS, averaged=False),
            "lesion_sensitivity": MetricTitle("Lesions detected", 3, LESIONS, averaged=False),
            "false_lesions": MetricTitle(
                "False lesions per subject", 2, LESIONS, averaged=False, less_is_better=True
            ),
        },
        pairs=(("taskgan", "gan"), ("gan", "l1"), ("taskgan", "l1"), ("taskgan", "classical")),
        diagnosis=("lesion_dice", "observer_mae"),
        strata=Strata(
            column="contrast",
            titles=TITLES,
            first=("t1w", "t2_flair"),  # that of the paper's table 2, and the hardest one
            apart=("psnr", "ssim", "observer_slice_accuracy", "observer_1_slice_accuracy"),
            joined={LESIONS: "Lesions, segmented independently"},
        ),
        alike=("contrasts",),
        changes=CHANGES,
        baselines={"classical": "Classical fit"},
    ),
    schema=schema_of_table,
)
