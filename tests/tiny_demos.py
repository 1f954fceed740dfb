"""The demos at their smallest: overlays of tiny networks and short trainings, and a cohort for MRI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from medrestore.domains.multicontrast_mri.simulate.design import MriCohortSize, MriSubjectGroup

TINY: dict[str, dict[str, Any]] = {
    "amyloid-pet": {
        "spatial_size": [96, 96],
        "generator_channels": [4, 8, 8],
        "discriminator_channels": [4, 8],
        "task_widen_factor": 0.125,
        "batch_size": 4,
        "batches_per_epoch": 2,
        "pretrain_epochs": 1,
        "joint_epochs": 1,
    },
    "multicontrast-mri": {
        "spatial_size": [96, 112],
        "generator_channels": [4, 8, 8],
        "discriminator_channels": [4, 8],
        "task_channels": [4, 4, 4, 4, 4],
        "segmenter_channels": [4, 8],
        "batch_size": 6,
        "batches_per_epoch": 2,
        "pretrain_epochs": 1,
        "contrast_epochs": 1,
        "mixed_epochs": 1,
        "segmenter_epochs": 1,
    },
    "histology": {
        "crop_size": 32,
        "generator_channels": 4,
        "generator_blocks": 1,
        "discriminator_channels": [4, 8],
        "encoder_channels": [4, 4],
        "encoder_blocks": 0,
        "batch_size": 4,
        "batches_per_epoch": 2,
        "autoencoder_epochs": 1,
        "warm_up_epochs": 1,
        "adversarial_epochs": 1,
    },
}

MRI_SIZE = MriCohortSize(
    "tiny",
    (
        MriSubjectGroup("train", patients=1, controls=1),
        MriSubjectGroup("validation", patients=1, controls=0),
        MriSubjectGroup("test", patients=1, controls=1),
    ),
)


def tiny_variants(path: Path, subject: str, **changes: Any) -> tuple[str, str]:
    """Write the overlay of a demo to ``path``; return the overlays that a tiny run takes."""
    overlay = {"device": "cpu", "precision": "fp32", **TINY[subject], **changes}
    path.write_text(yaml.safe_dump(overlay), encoding="utf-8")
    return "demo", str(path)
