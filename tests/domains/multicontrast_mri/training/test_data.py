"""What inference must know of a training on multi-contrast MRI: measured on the reference channel."""

from __future__ import annotations

import json

import numpy as np
import pytest

from medrestore.data.training_range import range_warnings, volume_features
from medrestore.data.volumes import Volume
from medrestore.domains.multicontrast_mri.acquisition.acquisition import Acquisition
from medrestore.domains.multicontrast_mri.acquisition.channel_volume import read_channels
from medrestore.domains.multicontrast_mri.schema import contrast_schema
from medrestore.domains.multicontrast_mri.training.data import ContrastData

CONTRASTS = ("t1w", "t2w", "t2_flair")


def test_what_inference_must_know_is_plain(make_cohort, acquisition):
    table = contrast_schema(CONTRASTS).read(make_cohort())
    data = ContrastData.of(
        {"seed": 0, "batch_size": 1, "batches_per_epoch": 1, "neighbors": 1, "spatial_size": (16, 12)},
        contrasts=CONTRASTS,
        component=acquisition.component,
        saturation_delays_ms=acquisition.saturation_delays_ms,
        echo_times_ms=acquisition.echo_times_ms,
        manifest="",
        cache_dir="",
    )
    data.table = table.assign(split="train")
    information = data.model_information
    assert json.loads(json.dumps(information)) == information
    assert Acquisition.from_plain(information.pop("acquisition")) == acquisition
    domain = information.pop("training_range")
    assert information == {
        "restorer": "multicontrast_mri.ContrastFileRestorer",
        "neighbors": 1,
        "label_column": "contrast",
        "spatial_size": [16, 12],
        "contrasts": list(CONTRASTS),
    }
    references = [read_channels(paths, acquisition).reference(acquisition) for paths in table["input_paths"]]
    noise = [volume_features(volume)["relative_noise"] for volume in references]
    assert domain["features"]["relative_noise"] == [min(noise), max(noise)]
    # Tolerance: NIfTI keeps the affine as float32.
    assert domain["features"]["voxel_size_z_mm"] == pytest.approx([5.0, 5.0], rel=1e-6)

    assert range_warnings(references[0], domain) == []
    coarse = Volume(references[0].data, np.diag([4.0, 4.0, 8.0, 1.0]), references[0].source)
    assert "voxel size z mm is 8, trained on 5 to 5" in range_warnings(coarse, domain)


@pytest.mark.parametrize(
    ("asking", "masks"),
    [
        ({}, ()),
        ({"lesion_weight": 0.1}, ("lesions",)),
        ({"lesion_share": 0.5}, ("lesions",)),
        ({"patch_size": (8, 8)}, ("lesions",)),
        ({"lesion_share": 0.5, "lesion_contrast": "stir"}, ()),
    ],
)
def test_batches_hold_lesions_where_anything_asks_for_them(asking, masks, acquisition):
    """The variant ``lesions`` with weight 0 still says what segmenter and observer make of an image."""
    data = ContrastData.of(
        {"seed": 0, "batch_size": 1, "batches_per_epoch": 1, "neighbors": 1, "spatial_size": (16, 12)},
        contrasts=CONTRASTS,
        component=acquisition.component,
        manifest="",
        cache_dir="",
        **{"lesion_contrast": "t2_flair", **asking},
    )
    assert data.masks == masks
