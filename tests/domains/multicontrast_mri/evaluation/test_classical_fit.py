"""Inputs that can be fitted: one 4D file or a list, magnitudes, and those that cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest

from medrestore.data.volumes import SourceGrid, read_volume, write_volume
from medrestore.domains.multicontrast_mri.acquisition.channel_volume import read_channels
from medrestore.domains.multicontrast_mri.evaluation.classical import (
    fitted_images,
    input_channels,
    mdme_input,
)

if TYPE_CHECKING:
    from conftest import ContrastCohort


@pytest.fixture
def one_by_one(contrast_cohort: ContrastCohort, tmp_path: Path) -> list[str]:
    """The magnitudes of a subject's channels, each in a file of its own with its sidecar."""
    place = contrast_cohort.folder / "subjects" / "sub-01"
    source = mdme_input([str(place / "mdme.nii.gz")])
    assert source is not None
    volume = read_channels(source.paths, source.acquisition)
    paths = []
    for number, (delay, echo) in enumerate(contrast_cohort.protocol.channels):
        path = write_volume(np.abs(volume.data[number]), volume.source, tmp_path / f"channel{number}.nii.gz")
        sidecar = {
            "SaturationDelay": delay / 1000,
            "EchoTime": echo / 1000,
            "RepetitionTime": contrast_cohort.protocol.tr_ms / 1000,
            "ComplexComponent": "magnitude",
        }
        (tmp_path / f"channel{number}.json").write_text(json.dumps(sidecar))
        paths.append(str(path))
    return paths


def test_a_list_of_magnitudes_is_fitted_as_one_complex_file_is(contrast_cohort, one_by_one):
    whole = mdme_input([str(contrast_cohort.folder / "subjects" / "sub-01" / "mdme.nii.gz")])
    parts = mdme_input(one_by_one)
    assert whole is not None and parts is not None
    assert (whole.acquisition.component, parts.acquisition.component) == ("phase_corrected", "magnitude")
    assert whole.protocol == parts.protocol == contrast_cohort.protocol
    images = fitted_images(whole, ["t1w", "t1c", "t2_flair"])
    assert list(images) == ["t1w", "t2_flair"]
    of_parts = fitted_images(parts, ["t1w"])["t1w"]
    inside = images["t1w"] > 0.2 * images["t1w"].max()
    # Noise of 0.002 beside signals of 0.1 to 0.6 is Rician but for a few parts in a thousand.
    ratio = of_parts[inside] / images["t1w"][inside]
    assert np.median(ratio) == pytest.approx(1.0, abs=0.01)


def test_channels_are_shown_by_name(contrast_cohort, one_by_one):
    source = mdme_input(one_by_one)
    shown = input_channels(one_by_one, source)
    assert list(shown) == [
        f"TD {delay:g}, TE {echo:g} ms" for delay, echo in contrast_cohort.protocol.channels
    ]
    plain = input_channels(one_by_one, None)
    assert list(plain) == [f"channel {number}" for number in range(1, 9)]
    for image, other, path in zip(shown.values(), plain.values(), one_by_one, strict=True):
        np.testing.assert_array_equal(image, other)
        np.testing.assert_array_equal(image, read_volume(path).data)


@pytest.mark.parametrize(
    "sidecar",
    [
        None,
        {"EchoTime": [0.022, 0.095]},
        {"SaturationDelay": [0.15, 0.15, 2.0, 2.0], "EchoTime": [0.022, 0.095] * 2, "RepetitionTime": 4.5},
    ],
    ids=["no sidecar", "no delays", "two delays alone"],
)
def test_other_inputs_are_not_fitted(tmp_path, sidecar):
    path = tmp_path / "images.nii.gz"
    grid = SourceGrid.from_affine((3, 3, 2), np.eye(4))
    nibabel.save(nibabel.Nifti1Image(np.ones((3, 3, 2, 4), np.float32), grid.affine), path)
    if sidecar is not None:
        (tmp_path / "images.json").write_text(json.dumps(sidecar))
    assert mdme_input([str(path)]) is None
