"""Scans at several doses in one evaluation: a column for each, and filters of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from manifest import cells

from medrestore.checks import InputError
from medrestore.data.volumes import read_volume
from medrestore.domains.amyloid_pet.evaluation.evaluate import evaluate
from medrestore.domains.amyloid_pet.restoration import find_volumes
from medrestore.domains.amyloid_pet.schema import pair_schema
from medrestore.domains.base import metrics_of
from medrestore.evaluation.pool import pool_evaluations
from medrestore.evaluation.record import Evaluation, load_evaluation
from medrestore.metrics.fidelity import psnr
from medrestore.solvers.filters import gaussian_filter

if TYPE_CHECKING:
    from conftest import Cohort

DOSES = ("0.01", "0.1", "0.5")


@pytest.fixture(scope="module")
def several(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of the cohort's scans at three doses, in a copy of it, and a method's files of each."""
    folder = tmp_path_factory.mktemp("several")
    shutil.copytree(cohort.folder / "subjects", folder / "subjects")
    rows = cells(cohort.manifest)
    table = pd.concat(
        rows.assign(
            degraded=rows["degraded"].str.replace("dose-0.01", f"dose-{dose}"), dose_fraction=float(dose)
        )
        for dose in DOSES
    )
    path = pair_schema().write(pair_schema().with_checksums(table, folder), folder / "manifest.csv")
    (folder / "blend").mkdir()
    for item in find_volumes(path, split="test"):
        shutil.copy(item.path, folder / "blend" / f"{item.name}_restored.nii.gz")  # restores nothing
    return path


@pytest.fixture(scope="module")
def evaluation(several: Path, cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return evaluate(
        several,
        methods={"blend": several.parent / "blend"},
        observers=[cohort.observer],
        dose_series=several,
        filters={"gaussian": None},
        output=tmp_path_factory.mktemp("results") / "evaluation",
        progress=False,
    )


def test_every_dose_is_a_stratum(evaluation):
    table = evaluation.per_subject
    assert len(table) == 4 * 3 * 4  # subjects, doses, methods
    of_input = evaluation.summary.set_index(["method", "metric"]).loc["input"]
    for dose in DOSES:
        held = table[(table["method"] == "input") & (table["dose"] == dose)]
        assert of_input.loc[f"{dose}/psnr", "mean"] == pytest.approx(held["psnr"].mean())
        assert of_input.loc[f"{dose}/dose_equivalent", "mean"] == pytest.approx(float(dose))
        assert f"{dose}/observer_auc" in of_input.index
        assert f"{dose}/suvr_lower_limit" in of_input.index
    text = (evaluation.output / "tables.md").read_text(encoding="utf-8")
    header = text.split("### PSNR (dB)\n\n")[1].splitlines()[0]
    assert [cell.strip() for cell in header.split("|")[1:-1]] == ["Method", "1 %", "10 %", "50 %", "Mean"]
    assert "_beyond" not in text
    assert "4 subjects, 12 scans of split test, dose fraction 0.01, 0.1, 0.5" in text


def test_method_that_restores_nothing_is_its_input(evaluation):
    table = evaluation.per_subject.set_index(["method", "subject_id", "dose"]).sort_index()
    pd.testing.assert_frame_equal(table.loc["blend"], table.loc["input"])


def test_each_dose_has_a_filter_tuned_on_its_own_validation_scans(several, evaluation):
    tuned = evaluation.record["tuned_filters"]
    assert list(tuned) == [f"{dose}/gaussian" for dose in DOSES]
    widths = [tuned[f"{dose}/gaussian"]["value"] for dose in DOSES]
    assert widths == sorted(widths, reverse=True)  # less noise, less to smooth
    assert widths[0] > widths[-1]
    text = (evaluation.output / "tables.md").read_text(encoding="utf-8")
    assert f"Gaussian filter at 10 %: fwhm_mm {widths[1]:g} (best mean PSNR of 1 validation scans)." in text
    place = several.parent / "subjects" / "sub-02"
    target = read_volume(place / "target.nii.gz").data
    for dose, width in zip(DOSES, widths, strict=True):
        image = read_volume(place / f"degraded_dose-{dose}.nii.gz").data
        smooth = gaussian_filter(image, fwhm_mm=width, voxel_size_mm=(4, 4, 6))
        rows = evaluation.per_subject.set_index(["method", "subject_id", "dose"])
        expected = psnr(smooth, target, data_range=float(target.max()))
        assert rows.loc[("gaussian", "sub-02", dose), "psnr"] == pytest.approx(expected)


def test_record_makes_the_same_tables_again(evaluation):
    again = load_evaluation(evaluation.output, metrics_of=metrics_of)
    assert again.markdown == evaluation.markdown
    assert "| 1 % " in pool_evaluations([evaluation.output] * 2, metrics_of=metrics_of)
    assert json.loads((evaluation.output / "evaluation.json").read_text())["dose_fractions"] == [
        0.01,
        0.1,
        0.5,
    ]


def test_one_dose_of_several_is_evaluated_as_ever(several, tmp_path):
    found = evaluate(
        several,
        methods={},
        dose_fraction=0.1,
        filters={},
        output=tmp_path / "evaluation",
        progress=False,
    )
    assert "dose" not in found.per_subject
    assert set(found.summary["metric"]) >= {"psnr", "suvr_bias"}
    assert np.unique(found.per_subject["dose_fraction"]).tolist() == [0.1, 1.0]


def test_dose_without_validation_scans_is_named(several, tmp_path):
    rows = cells(several)
    other = several.with_name("other.csv")
    rows[(rows["split"] == "test") | (rows["dose_fraction"] != "0.1")].to_csv(other, index=False)
    with pytest.raises(InputError, match=r"dose fraction 0.1: the manifest has no validation scan to tune"):
        evaluate(other, methods={}, filters={"gaussian": None}, output=tmp_path / "e", progress=False)


def test_missing_dose_of_a_method_is_named(several, tmp_path):
    folder = tmp_path / "blend"
    shutil.copytree(several.parent / "blend", folder)
    (folder / "sub-03_ses-01_dose-0.5_restored.nii.gz").unlink()
    with pytest.raises(
        InputError, match=r"method 'blend': .*sub-03_ses-01_dose-0.5_restored.nii.gz is missing"
    ):
        evaluate(several, methods={"blend": folder}, filters={}, output=tmp_path / "e", progress=False)
