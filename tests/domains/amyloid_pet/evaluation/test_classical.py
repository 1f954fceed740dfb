from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from medrestore.checks import InputError
from medrestore.data.schema import split_rows
from medrestore.data.volumes import read_volume
from medrestore.domains.amyloid_pet.evaluation.classical import FILTERS, tuned_filters
from medrestore.domains.amyloid_pet.schema import pair_schema
from medrestore.metrics.fidelity import psnr
from medrestore.solvers.filters import gaussian_filter, non_local_means

if TYPE_CHECKING:
    pass


def test_filters_are_tuned_on_the_validation_scans(cohort):
    table = pair_schema().read(cohort.manifest)
    filters, record = tuned_filters(split_rows(table, "validation"))
    folder = cohort.folder / "subjects" / "sub-00"
    target = read_volume(folder / "target.nii.gz").data
    degraded = read_volume(folder / "degraded_dose-0.01.nii.gz").data
    peak = float(target.max())

    widths = FILTERS["gaussian"][1]
    smooth = [gaussian_filter(degraded, fwhm_mm=width, voxel_size_mm=(4, 4, 6)) for width in widths]
    quality = [psnr(image, target, data_range=peak) for image in smooth]
    assert filters["gaussian"].value == widths[int(np.argmax(quality))]
    assert record["gaussian"]["mean_psnr"] == [round(value, 4) for value in quality]
    assert record["gaussian"]["chosen"] == "best mean PSNR of 1 validation scans"
    np.testing.assert_array_equal(
        filters["gaussian"].restore(degraded, voxel_size_mm=(4, 4, 6)), smooth[int(np.argmax(quality))]
    )

    strengths = FILTERS["nlm"][1]
    part, whole = degraded[..., ::3], target[..., ::3]
    quality = [
        psnr(non_local_means(part, strength=strength), whole, data_range=peak) for strength in strengths
    ]
    assert filters["nlm"].value == strengths[int(np.argmax(quality))]
    np.testing.assert_array_equal(
        filters["nlm"].restore(degraded, voxel_size_mm=(4, 4, 6)),
        non_local_means(degraded, strength=filters["nlm"].value),
    )


def test_given_parameters_are_not_tuned():
    nothing = pd.DataFrame()
    filters, record = tuned_filters(nothing, given={"gaussian": 8})
    assert list(filters) == ["gaussian"]
    assert record == {"gaussian": {"parameter": "fwhm_mm", "value": 8.0, "chosen": "given"}}
    assert tuned_filters(nothing, given={}) == ({}, {})


def test_mistakes_are_named():
    with pytest.raises(InputError, match="filters has no key 'gausian'; did you mean 'gaussian'"):
        tuned_filters(pd.DataFrame(), given={"gausian": 8})
    with pytest.raises(InputError, match="no validation scan to tune the classical filters on"):
        tuned_filters(pd.DataFrame())
