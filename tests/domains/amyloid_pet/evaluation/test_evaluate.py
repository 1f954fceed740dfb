from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch

from medrestore.checks import InputError
from medrestore.data.atlas import AtlasRegistration
from medrestore.data.intensity import foreground_scale
from medrestore.data.volumes import Volume, read_volume, write_volume
from medrestore.domains.amyloid_pet.evaluation import comparison
from medrestore.domains.amyloid_pet.evaluation import evaluate as module
from medrestore.domains.amyloid_pet.evaluation.evaluate import evaluate
from medrestore.domains.amyloid_pet.regions import scan_regions
from medrestore.domains.base import metrics_of
from medrestore.evaluation.measures import foreground_mask
from medrestore.evaluation.record import Evaluation, load_evaluation
from medrestore.files import sha256_file
from medrestore.inference.anchor import GeometricTransfer, anchored
from medrestore.metrics.quantitative import dose_equivalent
from medrestore.networks.weights import load_network
from medrestore.testing import check_domain

if TYPE_CHECKING:
    from conftest import Cohort

METHODS = ["input", "gaussian", "nlm", "gan", "taskgan", "standard_dose"]
FILES = [
    *("decisions.csv", "differences.csv", "evaluation.json", "figure.png", "per_subject.csv"),
    *("regions.csv", "summary.csv", "tables.md", "verdicts.csv"),
]

FEW: dict[str, Any] = {"methods": {}, "filters": {}, "task": None, "observers": [], "dose_series": None}


def run(cohort: Cohort, output: Path, **settings: Any) -> Evaluation:
    given: dict[str, Any] = {
        "methods": cohort.methods,
        "task": cohort.task,
        "observers": [cohort.observer],
        "dose_series": cohort.dose_series,
        "filters": {"gaussian": 8.0, "nlm": 2.0},
        "progress": False,
    }
    return evaluate(cohort.manifest, output=output, **given | settings)


@pytest.fixture(scope="module")
def evaluation(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return run(cohort, tmp_path_factory.mktemp("results") / "evaluation")


def test_every_scan_and_method_has_a_row(evaluation):
    table = pd.read_csv(evaluation.output / "per_subject.csv")
    assert len(table) == 4 * len(METHODS)
    assert list(table["method"].unique()) == METHODS
    assert sorted(path.name for path in evaluation.output.iterdir()) == sorted([*FILES, "changes"])
    assert evaluation.record["subjects"] == 4


def test_numbers_of_a_scan_by_hand(cohort, evaluation):
    table = pd.read_csv(evaluation.output / "per_subject.csv")
    row = table[(table["subject_id"] == "sub-03") & (table["method"] == "taskgan")].iloc[0]
    place = cohort.folder / "subjects" / "sub-03"
    target = read_volume(place / "target.nii.gz").data.astype(np.float64)
    degraded = read_volume(place / "degraded_dose-0.01.nii.gz").data
    image = read_volume(cohort.methods["taskgan"] / "sub-03_ses-01_restored.nii.gz").data.astype(np.float64)
    regions = read_volume(place / "regions.nii.gz").data
    mask = foreground_mask(target.astype(np.float32), voxel_size_mm=(4, 4, 6))

    def decibel(other: Any) -> float:
        return float(20 * np.log10(target.max() / np.sqrt(np.mean((other - target) ** 2))))

    assert row["label"] == 1
    assert row["data_range"] == pytest.approx(target.max())
    assert row["psnr"] == pytest.approx(decibel(image))
    assert row["rmse"] == pytest.approx(np.sqrt(np.mean((image - target) ** 2)) / target[mask].mean())
    inside = (image - target)[mask]
    assert row["nrmse"] == pytest.approx(np.sqrt(np.mean(inside**2)) / target[mask].mean())

    def suvr(volume: Any) -> float:
        cortex = np.mean([volume[regions == code].mean() for code in (2, 3, 4, 5)])
        return float(cortex / volume[regions == 1].mean())

    assert row["suvr"] == pytest.approx(suvr(image))
    assert row["suvr_bias"] == pytest.approx(suvr(image) - suvr(target))
    assert row["suvr_absolute_error"] == abs(row["suvr_bias"])

    doses = {
        dose: decibel(read_volume(place / f"degraded_dose-{dose}.nii.gz").data) for dose in (0.01, 0.1, 0.5)
    }
    expected = dose_equivalent(decibel(image), list(doses), list(doses.values()))
    assert row["dose_equivalent"] == pytest.approx(expected.fraction)

    network = load_network(cohort.observer, "task")
    scale = foreground_scale(degraded, voxel_size_mm=(4, 4, 6))
    judged = np.flatnonzero(mask.any(axis=(0, 1)))
    slices = torch.from_numpy((image[:, :, judged] / scale).transpose(2, 0, 1)[:, None].astype(np.float32))
    with torch.no_grad():
        probability = torch.sigmoid(network(slices)).numpy()
    # float32 networks: another batch adds up in another order.
    assert row["observer_score"] == pytest.approx(probability.mean(), abs=1e-5)
    assert row["observer_mae"] == pytest.approx(np.abs(probability - 1).mean(), abs=1e-5)
    assert row["observer_error"] == float(probability.mean() <= 0.5)
    assert row["task_score"] != row["observer_score"]


def test_standard_dose_and_input_are_rows_of_their_own(evaluation):
    table = evaluation.per_subject.set_index(["subject_id", "method"]).sort_index()
    for subject in ("sub-01", "sub-02", "sub-03", "sub-04"):
        assert table.loc[(subject, "input"), "dose_equivalent"] == 0.01
        assert np.isnan(table.loc[(subject, "standard_dose"), "psnr"])
        assert table.loc[(subject, "standard_dose"), "task_mae"] > 0


def test_tables_text_and_figure(evaluation):
    text = (evaluation.output / "tables.md").read_text(encoding="utf-8")
    assert "| Task-GAN - GAN" in text
    assert "4 subjects, 4 scans of split test, dose fraction 0.01" in text
    assert "Gaussian filter: fwhm_mm 8 (given)" in text
    assert "maximum of each scan's standard dose in the head" in text
    assert (evaluation.output / "figure.png").read_bytes().startswith(b"\x89PNG")
    mean = evaluation.differences.set_index("metric").loc["psnr", "mean"]
    table = evaluation.per_subject.set_index(["method", "subject_id"])["psnr"]
    assert mean == pytest.approx((table["taskgan"] - table["gan"]).mean())


def test_threads_change_no_byte(cohort, evaluation, tmp_path):
    again = run(cohort, tmp_path / "again", workers=1)
    for name in FILES:
        assert (again.output / name).read_bytes() == (evaluation.output / name).read_bytes()


def test_an_evaluation_keeps_the_contract(cohort, evaluation):
    check_domain("amyloid_pet", manifest=cohort.manifest, evaluation=evaluation.output)


def test_a_finished_evaluation_is_read_not_repeated(cohort, evaluation, monkeypatch):
    monkeypatch.setattr(module, "tuned_filters", lambda *_, **__: pytest.fail("evaluated again"))
    again = run(cohort, evaluation.output)
    pd.testing.assert_frame_equal(again.per_subject, evaluation.per_subject)
    pd.testing.assert_frame_equal(again.summary, evaluation.summary)
    assert again.record == evaluation.record
    assert again.markdown == evaluation.markdown


def test_an_interrupted_evaluation_is_done_again(cohort, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(
            comparison, "draw_evaluation", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        run(cohort, tmp_path / "out", **FEW)
    with pytest.raises(InputError, match="holds no finished evaluation"):
        load_evaluation(tmp_path / "out", metrics_of=metrics_of)
    assert run(cohort, tmp_path / "out", **FEW).record["subjects"] == 4


def test_an_evaluation_that_met_a_nan_is_mended(cohort, tmp_path):
    shutil.copytree(cohort.methods["gan"], tmp_path / "gan")
    damaged = tmp_path / "gan" / "sub-02_ses-01_restored.nii.gz"
    whole = damaged.read_bytes()
    image = nibabel.load(damaged)
    data = np.asarray(image.dataobj).copy()
    data[0, 0, 0] = np.nan
    nibabel.save(nibabel.Nifti1Image(data, image.affine, image.header), damaged)
    few = FEW | {"methods": {"gan": tmp_path / "gan"}}
    with pytest.raises(InputError, match="not finite"):
        run(cohort, tmp_path / "out", **few)
    assert not (tmp_path / "out").exists()
    damaged.write_bytes(whole)
    found = run(cohort, tmp_path / "out", **few)
    (found.output / "summary.csv").unlink()
    with pytest.raises(InputError, match="holds no finished evaluation"):
        load_evaluation(found.output, metrics_of=metrics_of)
    again = run(cohort, tmp_path / "out", **few)
    pd.testing.assert_frame_equal(
        load_evaluation(tmp_path / "out", metrics_of=metrics_of).summary, again.summary
    )


def test_notes_explain_what_the_tables_show(cohort, evaluation, tmp_path):
    whole = (evaluation.output / "tables.md").read_text(encoding="utf-8")
    for word in (
        "Dose equivalent: dose",
        "MAE: mean",
        "T took part in training, observers did not",
        "SUVR: comp",
    ):
        assert word in whole
    table = pd.read_csv(cohort.manifest).drop(columns=["regions", "regions_sha256"])
    table.loc[table["subject_id"] == "sub-01"].to_csv(tmp_path / "manifest.csv", index=False)
    (tmp_path / "subjects").symlink_to(cohort.folder / "subjects")
    bare = evaluate(tmp_path / "manifest.csv", output=tmp_path / "out", progress=False, **FEW)
    text = (bare.output / "tables.md").read_text(encoding="utf-8")
    assert "1 subject, 1 scan of split test" in text
    assert "A single subject has no interval" in text
    for word in ("Dose equivalent", "MAE", "training", "SUVR"):
        assert word not in text


def test_other_results_are_not_overwritten(cohort, evaluation, tmp_path):
    with pytest.raises(InputError, match=r"holds another evaluation \(seed 0 -> 1\); nothing is overwritten"):
        run(cohort, evaluation.output, seed=1)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="nothing is overwritten"):
        run(cohort, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_filters_are_tuned_when_not_given(cohort, tmp_path):
    found = run(cohort, tmp_path / "out", **FEW | {"filters": None})
    assert found.record["tuned_filters"]["gaussian"]["chosen"] == "best mean PSNR of 1 validation scans"
    assert list(found.per_subject["method"].unique()) == ["input", "gaussian", "nlm", "standard_dose"]
    assert "dose_equivalent" not in found.per_subject
    assert found.differences.empty
    assert "Diagnosis" not in found.markdown
    again = load_evaluation(tmp_path / "out", metrics_of=metrics_of)
    assert again.markdown == found.markdown


def test_one_scan_without_regions_has_a_table_and_a_figure(cohort, tmp_path):
    table = pd.read_csv(cohort.manifest).drop(columns=["regions", "regions_sha256"])
    table.loc[table["subject_id"] == "sub-01"].to_csv(tmp_path / "manifest.csv", index=False)
    for place in ("subjects", "gan"):
        (tmp_path / place).symlink_to(cohort.folder / place)
    folder = tmp_path / "restored"
    folder.mkdir()
    shutil.copy(cohort.methods["gan"] / "sub-01_ses-01_restored.nii.gz", folder)
    found = evaluate(
        tmp_path / "manifest.csv",
        methods={"mine": folder},
        output=tmp_path / "out",
        observers=[cohort.task, cohort.observer],
        filters={},
        data_range=2.0,
        progress=False,
    )
    row = found.per_subject.set_index("method").loc["mine"]
    assert row["data_range"] == 2.0
    assert {"observer_1_mae", "observer_2_mae"} <= set(found.per_subject)
    assert "suvr" not in found.per_subject
    assert "Quantification" not in found.markdown
    assert "data range: 2.0 SUV" in (found.output / "tables.md").read_text(encoding="utf-8")


def test_a_departure_is_measured_where_there_is_one(cohort, tmp_path):
    table = pd.read_csv(cohort.manifest, dtype=str, keep_default_na=False)
    table = table[table["split"] == "test"].assign(departure="", departure_sha256="")
    first = table.index[0]
    target = read_volume(cohort.folder / table.loc[first, "target"])
    difference = np.zeros_like(target.data)
    difference[12:18, 18:22, 3:5] = 0.5
    path = write_volume(difference, target.source, cohort.folder / "departure.nii.gz")
    table.loc[first, ["departure", "departure_sha256"]] = "departure.nii.gz", sha256_file(path)
    manifest = cohort.folder / "departures.csv"
    table.to_csv(manifest, index=False)
    few = FEW | {"methods": {"gan": cohort.methods["gan"]}}
    output = evaluate(manifest, output=tmp_path / "few", progress=False, **few).output
    measured = pd.read_csv(output / "per_subject.csv")
    rows = measured[measured["subject_id"] == table.loc[first, "subject_id"]].set_index("method")
    assert measured["departure_recovered"].notna().sum() == 2  # input and gan of the first scan
    image = read_volume(
        cohort.methods["gan"] / f"{table.loc[first, 'subject_id']}_ses-01_restored.nii.gz"
    ).data
    error = (image - target.data)[difference > 0]
    expected = 20 * np.log10(target.data.max() / np.sqrt(np.mean(error.astype(np.float64) ** 2)))
    assert rows.loc["gan", "departure_psnr"] == pytest.approx(expected, abs=1e-3)
    assert "PSNR, departure (dB)" in (output / "tables.md").read_text()


def test_scans_without_a_status_are_measured_all_the_same(cohort, tmp_path):
    table = pd.read_csv(cohort.manifest, dtype=str)
    table.loc[table["split"] == "test", "amyloid_status"] = ""
    table.to_csv(cohort.folder / "unlabeled.csv", index=False)
    found = evaluate(
        cohort.folder / "unlabeled.csv",
        methods=cohort.methods,
        output=tmp_path / "out",
        observers=[cohort.observer],
        filters={},
        dose_fraction=0.01,
        progress=False,
    )
    assert found.per_subject["label"].isna().all()
    assert found.per_subject["observer_score"].notna().all()
    assert "observer_mae" not in found.per_subject
    assert set(found.summary["metric"]) >= {"psnr", "suvr_bias"}
    assert "Diagnosis" not in found.markdown
    assert load_evaluation(tmp_path / "out", metrics_of=metrics_of).markdown == found.markdown


def test_a_dose_series_must_hold_every_scan(cohort, tmp_path):
    table = pd.read_csv(cohort.dose_series)
    part = cohort.folder / "part.csv"
    table[table["subject_id"] != "sub-02"].to_csv(part, index=False)
    with pytest.raises(InputError, match=r"part\.csv: has no reconstruction of sub-02_ses-01"):
        run(cohort, tmp_path / "out", dose_series=part)


def test_a_damaged_restoration_is_named(cohort, tmp_path):
    folder = tmp_path / "gan"
    shutil.copytree(cohort.methods["gan"], folder)
    path = folder / "sub-04_ses-01_restored.nii.gz"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"sub-04_ses-01_restored\.nii\.gz: is truncated or damaged"):
        run(cohort, tmp_path / "out", methods={"gan": folder})


def test_all_bad_files_are_named_before_anything_is_compared(cohort, tmp_path, monkeypatch):
    """Restorations, a region map, a degraded image and so on: one list, no table of the others."""
    folder = tmp_path / "cohort"
    shutil.copytree(cohort.folder, folder)
    gan = tmp_path / "gan"
    shutil.copytree(cohort.methods["gan"], gan)
    for place in (
        gan / "sub-02_ses-01_restored.nii.gz",
        gan / "sub-04_ses-01_restored.nii.gz",
        folder / "subjects" / "sub-03" / "regions.nii.gz",
        folder / "subjects" / "sub-01" / "degraded_dose-0.01.nii.gz",
    ):
        place.write_bytes(place.read_bytes()[:-60])

    def too_early(*_: Any, **__: Any) -> None:
        raise AssertionError("work began before all files were read")

    monkeypatch.setattr("medrestore.domains.amyloid_pet.evaluation.evaluate.tuned_filters", too_early)
    with pytest.raises(InputError, match="problems in what is compared") as refusal:
        evaluate(
            folder / cohort.manifest.name,
            output=tmp_path / "out",
            methods={"gan": gan},
            dose_fraction=0.01,
            progress=False,
        )
    text = str(refusal.value)
    for name in ("sub-02_ses-01_restored", "sub-04_ses-01_restored", "sub-03/regions", "sub-01/degraded"):
        assert sum(name in line and "truncated" in line for line in text.splitlines()[1:]) == 1, text
    assert not (tmp_path / "out" / "summary.csv").exists()


def test_standard_dose_given_as_a_method_is_found_out(cohort, tmp_path):
    folder = tmp_path / "gan"
    shutil.copytree(cohort.methods["gan"], folder)
    shutil.copy(
        cohort.folder / "subjects" / "sub-02" / "target.nii.gz", folder / "sub-02_ses-01_restored.nii.gz"
    )
    with pytest.raises(
        InputError,
        match=r"sub-02_ses-01, method 'gan': .*gan/sub-02_ses-01_restored\.nii\.gz: the image is the target",
    ):
        run(cohort, tmp_path / "out", methods={"gan": folder})


@pytest.mark.parametrize("data_range", [0.0, -1.0])
def test_a_data_range_must_be_positive(cohort, tmp_path, data_range):
    with pytest.raises(InputError, match="data_range must be in"):
        run(cohort, tmp_path / "out", data_range=data_range)


def test_an_unreadable_record_is_named(tmp_path):
    (tmp_path / "evaluation.json").write_text("{")
    with pytest.raises(InputError, match=r"evaluation\.json: is no record of an evaluation"):
        load_evaluation(tmp_path, metrics_of=metrics_of)


# ---------------------------------------------------------------------------- the anchor
@pytest.fixture(scope="module")
def with_anchor(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """Evaluate with region maps of three of the four test scans."""
    table = pd.read_csv(cohort.manifest, dtype=str)
    table.loc[table["subject_id"] == "sub-02", ["regions", "regions_sha256"]] = ""
    table.to_csv(cohort.folder / "some_regions.csv", index=False)
    return evaluate(
        cohort.folder / "some_regions.csv",
        output=tmp_path_factory.mktemp("results") / "anchored",
        anchor="regions",
        methods=cohort.methods,
        observers=[cohort.observer],
        filters={"gaussian": 8.0},
        progress=False,
    )


def test_every_method_has_a_row_with_an_anchor(cohort, with_anchor):
    assert list(with_anchor.per_subject["method"].unique()) == [
        "input",
        *("gaussian", "gaussian_anchored", "gan", "gan_anchored", "taskgan", "taskgan_anchored"),
        "standard_dose",
    ]
    text = (with_anchor.output / "tables.md").read_text(encoding="utf-8")
    for label in ("Gaussian + anchor", "GAN + anchor", "Task-GAN + anchor - Standard dose"):
        assert label in text
    assert "1 scan without an anchor, counted as restored (no row of a manifest names a region map" in text
    assert with_anchor.record["not_anchored"].keys() == {"sub-02_ses-01"}


def test_rows_with_an_anchor_are_those_of_anchored_images(cohort, with_anchor):
    table = with_anchor.per_subject.set_index(["subject_id", "method"])
    place = cohort.folder / "subjects" / "sub-03"
    degraded, target = (read_volume(place / f"{name}.nii.gz") for name in ("degraded_dose-0.01", "target"))
    image = read_volume(cohort.methods["gan"] / "sub-03_ses-01_restored.nii.gz").data
    codes = read_volume(place / "regions.nii.gz").data.astype(int)
    expected = anchored(image, degraded.data, GeometricTransfer(codes, voxel_size_mm=(4, 4, 6))).image
    rmse = np.sqrt(np.mean((expected.astype(np.float64) - target.data) ** 2))
    assert table.loc[("sub-03", "gan_anchored"), "psnr"] == pytest.approx(
        20 * np.log10(target.data.max() / rmse)
    )
    assert table.loc[("sub-03", "gan_anchored"), "psnr"] != table.loc[("sub-03", "gan"), "psnr"]
    # Without a region map a scan is as it was restored.
    assert table.loc[("sub-02", "gan_anchored"), "psnr"] == table.loc[("sub-02", "gan"), "psnr"]


def test_a_map_that_tells_no_noise_leaves_the_anchor_out(cohort, tmp_path):
    regions = nibabel.load(cohort.folder / "subjects" / "sub-03" / "regions.nii.gz")
    flat = np.zeros(regions.shape, dtype=np.int16)
    flat[:, :, regions.shape[2] // 2] = 1 + np.arange(regions.shape[0])[:, None] % 5  # none along z
    nibabel.save(nibabel.Nifti1Image(flat, regions.affine), cohort.folder / "flat.nii.gz")
    table = pd.read_csv(cohort.manifest, dtype=str)
    table.loc[table["subject_id"] == "sub-03", ["regions", "regions_sha256"]] = ["flat.nii.gz", ""]
    table.to_csv(cohort.folder / "flat_regions.csv", index=False)
    found = evaluate(
        cohort.folder / "flat_regions.csv",
        output=tmp_path / "out",
        anchor="regions",
        **FEW | {"methods": {"gan": cohort.methods["gan"]}},
        progress=False,
    )
    (reason,) = found.record["not_anchored"].values()
    assert reason == "no region reaches over 9 mm along z, so the noise of its mean is not known"
    rows = found.per_subject.set_index(["subject_id", "method"])["psnr"]
    assert rows["sub-03", "gan_anchored"] == rows["sub-03", "gan"]


def test_anchored_methods_are_paired_with_themselves_and_with_standard_dose(with_anchor):
    pairs = set(zip(with_anchor.differences["first"], with_anchor.differences["second"], strict=True))
    assert pairs >= {
        ("taskgan_anchored", "taskgan"),
        ("taskgan_anchored", "gan"),
        ("taskgan_anchored", "standard_dose"),
        ("taskgan", "standard_dose"),
        ("gan_anchored", "gan"),
    }
    held = with_anchor.differences.set_index(["first", "second", "metric"])["mean"]
    table = with_anchor.per_subject.pivot_table("observer_mae", "subject_id", "method")
    expected = (table["taskgan_anchored"] - table["standard_dose"]).mean()
    assert held["taskgan_anchored", "standard_dose", "observer_mae"] == pytest.approx(expected)
    assert ("taskgan_anchored", "standard_dose", "psnr") not in held.index


def test_restorations_that_were_written_with_an_anchor_are_a_method(cohort, tmp_path):
    """The folder beside the plain ones is found as any other is."""
    folder = tmp_path / "gan" / "anchored"
    shutil.copytree(cohort.methods["gan"], folder)
    found = run(cohort, tmp_path / "out", **FEW | {"methods": {"gan_anchored": folder}})
    assert "GAN + anchor" in found.markdown


def test_anchors_that_cannot_be_are_refused(cohort, tmp_path):
    with pytest.raises(InputError, match="anchor must be one of"):
        run(cohort, tmp_path / "out", anchor="region")
    names = {"gan": cohort.methods["gan"], "gan_anchored": cohort.methods["taskgan"]}
    with pytest.raises(InputError, match="'gan_anchored': the name is taken"):
        run(cohort, tmp_path / "out", methods=names, anchor="regions")
    table = pd.read_csv(cohort.manifest).drop(columns=["regions", "regions_sha256"])
    table.to_csv(cohort.folder / "no_regions.csv", index=False)
    with pytest.raises(InputError, match="names no region map in split test"):
        evaluate(cohort.folder / "no_regions.csv", output=tmp_path / "out", anchor="regions", methods={})


def test_codes_that_are_none_are_refused_and_not_taken_for_others(cohort, tmp_path):
    """65537 is 1 in 16 bits."""
    table = pd.read_csv(cohort.manifest, dtype=str)
    row = table.index[table["subject_id"] == "sub-02"][0]
    image = nibabel.load(cohort.folder / table.loc[row, "regions"])
    codes = np.asarray(image.dataobj).astype(np.float32)
    codes[0, 0, 0] = 65537
    path = cohort.folder / "large_codes.nii.gz"
    nibabel.save(nibabel.Nifti1Image(codes, image.affine), path)
    table.loc[row, ["regions", "regions_sha256"]] = [path.name, sha256_file(path)]
    table.to_csv(cohort.folder / "large_codes.csv", index=False)
    with pytest.raises(InputError, match=r"large_codes\.nii\.gz: region codes must be from 0 to 32767"):
        evaluate(cohort.folder / "large_codes.csv", output=tmp_path / "out", methods={}, filters={})


def test_without_an_anchor_nothing_of_it_is_recorded(evaluation):
    assert not {"anchor", "not_anchored"} & set(evaluation.record)


def test_an_atlas_is_registered_once_for_all_methods_of_a_scan(cohort, tmp_path, monkeypatch):
    registered = []

    def register(volume: Volume) -> AtlasRegistration:
        """Say that the scan lies in the template as it is."""
        registered.append(volume.path)
        return AtlasRegistration(np.eye(4), failure="shows no brain" * (len(registered) == 2))

    monkeypatch.setattr(scan_regions, "register_atlas", register)
    found = evaluate(
        cohort.manifest,
        output=tmp_path / "atlas",
        anchor="atlas",
        methods=cohort.methods,
        filters={},
        progress=False,
        workers=1,
    )
    # The figure looks at scans again, the maps are there.
    assert len(registered) == len(set(registered)) == 4
    assert {path.name for path in registered} == {"degraded_dose-0.01.nii.gz"}
    (failed,) = found.record["not_anchored"]
    maps = {path.name.partition("_ses")[0] for path in (tmp_path / "atlas" / "regions").glob("*.nii.gz")}
    assert maps == {path.parent.name for path in registered} - {failed.partition("_ses")[0]}
    (name,) = sorted(maps)[:1]
    codes = read_volume(tmp_path / "atlas" / "regions" / f"{name}_ses-01_dose-0.01_regions.nii.gz").data
    place = cohort.folder / "subjects" / name
    degraded, target = (read_volume(place / f"{of}.nii.gz") for of in ("degraded_dose-0.01", "target"))
    image = read_volume(cohort.methods["gan"] / f"{name}_ses-01_restored.nii.gz").data
    transfer = GeometricTransfer(codes.astype(int), voxel_size_mm=degraded.voxel_size_mm)
    rmse = np.sqrt(np.mean((anchored(image, degraded.data, transfer).image.astype(float) - target.data) ** 2))
    rows = found.per_subject.set_index(["subject_id", "method"])
    assert rows.loc[(name, "gan_anchored"), "psnr"] == pytest.approx(20 * np.log10(target.data.max() / rmse))
    # SUVR is measured in the manifest's regions, with and without.
    assert rows["suvr"].notna().all()
