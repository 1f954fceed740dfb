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
from medrestore.data.volumes import SourceGrid, read_volume, write_volume
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


# ---------------------------------------------------------------- guided by MR
@pytest.fixture
def guided(make_cohort, tmp_path: Path) -> dict[str, Any]:
    """Three of four training rows have a T1, which here is the target."""
    manifest = make_cohort()
    rows = cells(manifest)
    rows["t1"] = [path if index != 1 else "" for index, path in enumerate(rows["target"])]
    for index in np.flatnonzero(rows["t1"]):
        rows.loc[index, "t1"] = rows.loc[index, "target"].replace("target", "t1")
        volume = read_volume(manifest.parent / rows.loc[index, "target"])
        write_volume(3 * volume.data, volume.source, manifest.parent / rows.loc[index, "t1"])
    write_manifest(pair_schema(), rows, manifest.parent)
    return {"manifest": manifest, "cache_dir": tmp_path / "cache"}


def test_network_is_shown_three_slices_of_mr_and_whether_it_is_there(guided):
    data = AmyloidPETData.of({**NUMBERS, "context_sigmas_mm": [4.0], "guides": ["t1"]}, **guided)
    assert data.in_channels == 3 + 1 + 3 + 1
    assert [list(places) for places in data.places] == [[3], [4, 5, 6], [7]]
    assert data.scaled_channels == 4
    assert [channel["class"] for channel in data.model_information["channels"]] == [
        *("GaussianChannel", "VolumeChannel", "PresenceChannel")
    ]
    batch = data.training.__getitems__(range(len(data.training)))
    inside = batch["image"][:, :, 2:-2, 3:-3]  # volumes of 12 x 10 in slices of 16 x 16
    held = batch["volume_index"] != 1
    assert bool((inside[held, 7] == 1).all())
    assert not batch["image"][~held][:, 4:].any()
    assert bool(inside[held][:, 5].any(dim=(1, 2)).all())


def test_mr_comes_and_goes_in_training_and_keeps_its_scale(guided):
    numbers = {**NUMBERS, "guides": ["t1"], "guide_dropout": 0.5, "intensity_jitter": 0.3}
    data = AmyloidPETData.of(numbers, **guided)
    batch = data.training.__getitems__(np.flatnonzero(data.training.volume != 1))
    changed = data.augmentation(batch, epoch=1, iteration=1)["image"]
    there = changed[:, 6, 8, 8] == 1
    # 18 slices or so: all there, or none, has a probability of 1e-5.
    assert 0 < int(there.sum()) < len(there)
    assert torch.equal(changed[there][:, 3:], batch["image"][there][:, 3:])
    assert not changed[~there][:, 3:].any()
    assert not torch.equal(changed[:, :3], batch["image"][:, :3])


def test_mr_that_no_manifest_has_is_refused(guided):
    data = AmyloidPETData.of({**NUMBERS, "guides": ["ct"]}, **guided)
    with pytest.raises(InputError, match="guides must be one of 't1', 't2', 'flair', got 'ct'"):
        _ = data.channels


def test_mr_on_a_grid_of_its_own_is_refused_with_the_remedy(guided):
    rows = cells(guided["manifest"])
    path = guided["manifest"].parent / rows.loc[0, "t1"]
    volume = read_volume(path)
    grid = SourceGrid.from_affine(volume.data.shape, np.diag([-4.0, 4.0, 5.5, 1.0]))
    write_volume(volume.data, grid, path)
    write_manifest(pair_schema(), rows, guided["manifest"].parent)
    data = AmyloidPETData.of({**NUMBERS, "guides": ["t1"]}, **guided)
    with pytest.raises(InputError, match=r"t1.nii.gz: is on another grid than .* Remedy: co-register it"):
        _ = data.training
