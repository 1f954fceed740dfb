"""Trainings on several doses: what a batch holds, what the weights say, what is warned of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from manifest import cells, write_manifest

from medrestore.checks import InputError
from medrestore.domains.amyloid_pet.schema import pair_schema
from medrestore.domains.amyloid_pet.training import AmyloidPETData

NUMBERS: dict[str, Any] = {
    **{"seed": 0, "batch_size": 8, "batches_per_epoch": 4, "neighbors": 1, "spatial_size": [16, 16]},
    "label_column": "amyloid_status",
}


@pytest.fixture
def several_doses(make_cohort, tmp_path: Path) -> dict[str, Any]:
    """Every row a second and third time, at other doses; which image it is does not matter here."""
    manifest = make_cohort()
    rows = cells(manifest)
    doses = [rows.assign(dose_fraction=dose) for dose in ("0.01", "0.05", "0.25")]
    write_manifest(pair_schema(), pd.concat(doses), manifest.parent)
    return {"manifest": manifest, "cache_dir": tmp_path / "cache"}


@pytest.mark.parametrize(("share", "expected"), [(0.5, 4), (0.25, 2), (0.75, 6)])
def test_lowest_dose_has_its_share_of_each_batch_and_labels_stay_balanced(several_doses, share, expected):
    data = AmyloidPETData.of({**NUMBERS, "lowest_dose_share": share}, **several_doses)
    doses = data.rows("train")["dose_fraction"].to_numpy()
    for batch in data.loader(pin_memory=False):
        assert (doses[batch["volume_index"].numpy()] == 0.01).sum() == expected
        assert batch["amyloid_status"].sum() == 4


def test_without_a_share_all_rows_are_drawn_alike(several_doses):
    data = AmyloidPETData.of({**NUMBERS, "batches_per_epoch": 60, "lowest_dose_share": 0}, **several_doses)
    doses = data.rows("train")["dose_fraction"].to_numpy()
    drawn = doses[data.training.volume[data.sampler.draw(0).reshape(-1)]]
    # 480 of 78 slices, which are all drawn before any comes again: 6 times each, and 12 once more.
    assert abs(np.mean(drawn == 0.01) - 1 / 3) < 12 / 480


def test_one_dose_is_drawn_as_without_a_share(make_cohort, tmp_path):
    given = {"manifest": make_cohort(), "cache_dir": tmp_path / "cache"}
    drawn = [
        AmyloidPETData.of({**NUMBERS, "lowest_dose_share": share}, **given).sampler.draw(2)
        for share in (0.5, 0)
    ]
    np.testing.assert_array_equal(*drawn)


def test_share_of_all_is_refused(several_doses):
    data = AmyloidPETData.of({**NUMBERS, "lowest_dose_share": 1}, **several_doses)
    with pytest.raises(InputError, match=r"lowest_dose_share must be in \[0, 1\), got 1"):
        data.sampler  # noqa: B018


def test_weights_say_the_doses_of_the_training(several_doses):
    seen = AmyloidPETData.of(NUMBERS, **several_doses).model_information["training_range"]
    assert seen["dose_fraction"] == ["0.01", "0.05", "0.25"]


def test_validation_tells_the_psnr_at_each_dose(several_doses, make_cohort, tmp_path):
    data = AmyloidPETData.of(NUMBERS, **several_doses)
    doses = data.rows("validation")["dose_fraction"].to_numpy()
    target = torch.ones(len(doses), 1, 2, 2)
    # A volume's peak is 1: an error of 10^-k everywhere is 20 k dB.
    errors = torch.from_numpy(np.where(doses == 0.01, 0.1, 0.01)).float()[:, None, None, None]
    batch = {"label": target, "volume_index": torch.arange(len(doses))}
    found = data.measures.measure([(batch, target + errors)])
    # float32: 1 + .01 is known to a part in a hundred thousand of the error.
    assert found["psnr_dose_0.01"] == pytest.approx(20, abs=1e-3)
    assert found["psnr_dose_0.05"] == found["psnr_dose_0.25"] == pytest.approx(40, abs=1e-2)
    given = {"manifest": make_cohort(name="one"), "cache_dir": tmp_path / "one"}
    alone = AmyloidPETData.of(NUMBERS, **given).measures.measure([(batch, target + errors)])
    assert set(alone) == {"l1", "psnr"}
