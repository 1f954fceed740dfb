from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from medrestore.checks import InputError
from medrestore.data.volumes import read_volume, write_volume
from medrestore.domains.base import metrics_of
from medrestore.domains.multicontrast_mri.acquisition.acquisition import make_acquisition
from medrestore.domains.multicontrast_mri.acquisition.channel_volume import read_channels
from medrestore.domains.multicontrast_mri.evaluation import comparison as comparison_module
from medrestore.domains.multicontrast_mri.evaluation.evaluate import evaluate_contrasts
from medrestore.evaluation.measures import foreground_mask
from medrestore.evaluation.pool import pool_evaluations
from medrestore.evaluation.record import Evaluation, load_evaluation
from medrestore.metrics.lesions import surrounding_ring
from medrestore.metrics.texture import grid_artifact
from medrestore.networks.weights import load_network
from medrestore.operators.mr_sequences import CONTRASTS
from medrestore.solvers.relaxometry import fit_relaxometry, synthesize
from medrestore.testing import check_domain

if TYPE_CHECKING:
    from conftest import ContrastCohort

METHODS = ["classical", "gan", "taskgan", "true"]
FILES = [
    *("differences.csv", "evaluation.json", "figure.png", "lesions.csv", "per_subject.csv"),
    *("summary.csv", "tables.md", "verdicts.csv"),
]
FEW: dict[str, Any] = {"task": None, "observers": [], "segmenter": None, "contrasts": ["t2_flair"]}


def run(cohort: ContrastCohort, output: Path, **settings: Any) -> Evaluation:
    given: dict[str, Any] = {
        "methods": cohort.methods,
        "task": cohort.task,
        "observers": [cohort.observer],
        "segmenter": cohort.segmenter,
        "progress": False,
    }
    return evaluate_contrasts(cohort.manifest, output=output, **given | settings)


@pytest.fixture(scope="module")
def evaluation(contrast_cohort: ContrastCohort, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return run(contrast_cohort, tmp_path_factory.mktemp("results") / "evaluation")


def pick(table: pd.DataFrame, **values: str) -> pd.Series[Any]:
    for name, value in values.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def true_image(cohort: ContrastCohort, subject: str, contrast: str) -> tuple[Any, Any]:
    """The true image over its mean in the head, double precision, and the head."""
    volume = read_volume(cohort.folder / "subjects" / subject / f"{contrast}.nii.gz")
    head = foreground_mask(volume.data, voxel_size_mm=volume.voxel_size_mm)
    image = volume.data.astype(np.float64)
    return image / image[head].mean(), head


def restored(cohort: ContrastCohort, subject: str, contrast: str, head: Any, method: str = "gan") -> Any:
    file = cohort.methods[method] / f"{subject}_ses-01_{contrast}_restored.nii.gz"
    image = read_volume(file).data.astype(np.float64)
    return image / image[head].mean()


def test_every_subject_contrast_and_method_has_a_row(evaluation):
    table = pd.read_csv(evaluation.output / "per_subject.csv")
    assert sorted(path.name for path in evaluation.output.iterdir()) == sorted([*FILES, "changes"])
    # Four subjects, three contrasts; T1w of one is missing, post-contrast T1w has no signal equation.
    assert len(table) == 4 * 3 * 4 - 4 - 4
    assert list(table["method"].unique()) == METHODS
    assert set(table[table["method"] == "classical"]["contrast"]) == {"t1w", "t2_flair"}
    assert not ((table["subject_id"] == "sub-04") & (table["contrast"] == "t1w")).any()
    assert evaluation.record["available"] == {"t1w": 3, "t2_flair": 4, "t1c": 4}
    assert evaluation.record["groups"] == {"patient": 2, "control": 2}
    assert evaluation.record["fitted_scans"] == 4
    assert set(table[table["subject_id"] == "sub-02"]["group"]) == {"control"}


def test_quality_is_that_of_scikit_image(contrast_cohort, evaluation):
    true, head = true_image(contrast_cohort, "sub-01", "t2_flair")
    image = restored(contrast_cohort, "sub-01", "t2_flair", head)
    row = pick(evaluation.per_subject, subject_id="sub-01", contrast="t2_flair", method="gan")
    peak = np.percentile(true[head], 99.9)
    # The evaluation divides float32 images: 6e-8 a voxel, by errors of a tenth.
    assert row["data_range"] == pytest.approx(peak, rel=1e-6)
    assert row["psnr"] == pytest.approx(peak_signal_noise_ratio(true, image, data_range=peak), abs=1e-4)
    assert row["rmse"] == pytest.approx(10 ** (-row["psnr"] / 20), rel=1e-6)  # in units of the data range
    inside = (image - true)[head]
    assert row["nrmse"] == pytest.approx(np.sqrt(np.mean(inside**2)), rel=1e-5)
    by_slice = [
        structural_similarity(
            true[..., z],
            image[..., z],
            data_range=peak,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for z in range(true.shape[2])
    ]
    assert row["ssim"] == pytest.approx(np.mean(by_slice), abs=1e-5)


def test_gain_changes_nothing(contrast_cohort, evaluation, tmp_path):
    """The second method's files are the first's times a gain: no number may differ beyond rounding."""
    folder = tmp_path / "louder"
    folder.mkdir()
    for file in contrast_cohort.methods["gan"].iterdir():
        volume = read_volume(file)
        write_volume(volume.data * 64, volume.source, folder / file.name)  # a power of two: exact
    methods = {"gan": contrast_cohort.methods["gan"], "louder": folder}
    found = run(contrast_cohort, tmp_path / "out", methods=methods, classical=False).per_subject
    one, other = (
        found[found["method"] == name].drop(columns="method").reset_index(drop=True)
        for name in ("gan", "louder")
    )
    pd.testing.assert_frame_equal(one, other)


def test_classical_images_are_fit_and_signal_equation(contrast_cohort, evaluation):
    protocol = contrast_cohort.protocol
    acquisition = make_acquisition(
        saturation_delays_ms=protocol.saturation_delays_ms, echo_times_ms=protocol.echo_times_ms
    )
    volume = read_channels([contrast_cohort.folder / "subjects" / "sub-03" / "mdme.nii.gz"], acquisition)
    inside = foreground_mask(volume.reference(acquisition).data, voxel_size_mm=volume.voxel_size_mm)
    maps = fit_relaxometry(volume.data, protocol=protocol, mask=inside)
    image = synthesize(maps, CONTRASTS["t2_flair"]).astype(np.float64)
    true, head = true_image(contrast_cohort, "sub-03", "t2_flair")
    row = pick(evaluation.per_subject, subject_id="sub-03", contrast="t2_flair", method="classical")
    expected = peak_signal_noise_ratio(true, image / image[head].mean(), data_range=row["data_range"])
    assert row["psnr"] == pytest.approx(expected, abs=1e-4)  # float32 images
    assert row["psnr"] > 25  # the equations made the true images: noise of 2 % is all that differs


def test_observers_read_patches_and_slices(contrast_cohort, evaluation):
    _, head = true_image(contrast_cohort, "sub-02", "t1c")
    image = restored(contrast_cohort, "sub-02", "t1c", head, "taskgan")
    network = load_network(contrast_cohort.observer, "task")
    area = head.sum(axis=(0, 1))
    right_patches = patches = right_slices = slices = 0
    errors = []
    for z in range(head.shape[2]):
        if area[z] < 0.25 * area.max():
            continue
        # 48 x 52 pixels centered in 48 x 56.
        centered, inside = np.zeros((48, 56), np.float32), np.zeros((48, 56))
        centered[:, 2:54], inside[:, 2:54] = image[..., z], head[..., z]
        with torch.no_grad():
            probability = torch.softmax(network(torch.from_numpy(centered)[None, None])[0], 0).numpy()
        rows, columns = probability.shape[1:]
        total = np.zeros(3)
        count = 0
        for i in range(rows):
            for j in range(columns):
                # The pixels that a patch stands for: its share of the slice.
                top, bottom = i * 48 // rows, -(-(i + 1) * 48 // rows)
                left, right = j * 56 // columns, -(-(j + 1) * 56 // columns)
                if inside[top:bottom, left:right].mean() >= 0.5:
                    total += probability[:, i, j]
                    count += 1
                    right_patches += probability[:, i, j].argmax() == 2
        patches += count
        slices += 1
        right_slices += total.argmax() == 2
        errors.append(1 - total[2] / count)
    row = pick(evaluation.per_subject, subject_id="sub-02", contrast="t1c", method="taskgan")
    assert row["observer_patch_accuracy"] == pytest.approx(right_patches / patches, abs=1e-9)
    assert row["observer_slice_accuracy"] == right_slices / slices
    assert row["observer_mae"] == pytest.approx(np.mean(errors), abs=1e-5)  # float32 network
    assert patches > 0 and row["task_mae"] != row["observer_mae"]


def test_lesions_by_hand(contrast_cohort, evaluation):
    place = contrast_cohort.folder / "subjects" / "sub-03"
    lesions = read_volume(place / "lesions.nii.gz").data > 0
    trues = {name: true_image(contrast_cohort, "sub-03", name) for name in contrast_cohort.contrasts}
    heads = np.logical_and.reduce([head for _, head in trues.values()])
    ring = surrounding_ring(
        lesions, [image for image, _ in trues.values()], voxel_size_mm=(4, 4, 6), inside=heads
    )
    true, head = trues["t2_flair"]
    image = restored(contrast_cohort, "sub-03", "t2_flair", head)

    def cnr(volume: Any) -> float:
        return float((volume[lesions].mean() - volume[ring].mean()) / volume[ring].std(ddof=1))

    about = {"subject_id": "sub-03", "contrast": "t2_flair"}
    row = pick(evaluation.per_subject, method="gan", **about)
    assert row["cnr"] == pytest.approx(cnr(image), rel=1e-5)  # float32 images
    assert row["cnr_difference"] == pytest.approx(cnr(image) - cnr(true), rel=1e-5)
    assert row["cnr_ratio"] == pytest.approx(cnr(image) / cnr(true), rel=1e-5)
    assert row["cnr_error"] == abs(row["cnr_difference"])
    assert row["cnr"] > 1

    network = load_network(contrast_cohort.segmenter, "segmenter")

    def segment(volume: Any) -> Any:
        slices = np.zeros((6, 1, 48, 56), np.float32)
        slices[:, 0, :, 2:54] = volume.transpose(2, 0, 1)
        with torch.no_grad():
            return network(torch.from_numpy(slices)).numpy()[:, 0, :, 2:54].transpose(1, 2, 0) > 0

    def overlap(a: Any, b: Any) -> float:
        return float(2 * (a & b).sum() / (a.sum() + b.sum()))

    # A voxel whose logit is nearly zero may turn over with float32 rounding: one of thousands.
    assert row["lesion_dice"] == pytest.approx(overlap(segment(image), lesions), abs=1e-3)
    assert row["lesion_dice_to_true"] == pytest.approx(overlap(segment(image), segment(true)), abs=1e-3)
    own = pick(evaluation.per_subject, method="true", **about)
    assert own["lesion_dice"] == pytest.approx(overlap(segment(true), lesions), abs=1e-3)
    assert np.isnan(own["lesion_dice_to_true"]) and np.isnan(own["psnr"]) and np.isnan(own["cnr_ratio"])


def test_controls_have_false_lesions_alone(evaluation):
    table = evaluation.per_subject
    controls = table[table["group"] == "control"]
    assert controls[["cnr", "lesion_dice", "lesion_sensitivity"]].isna().all(axis=None)
    assert controls[controls["contrast"] == "t2_flair"]["false_lesions"].notna().all()
    assert table[table["contrast"] != "t2_flair"]["false_lesions"].isna().all()


def test_grid_artifact_of_the_head(contrast_cohort, evaluation):
    true, head = true_image(contrast_cohort, "sub-01", "t1w")
    image = restored(contrast_cohort, "sub-01", "t1w", head)
    area = head.sum(axis=(0, 1))
    judged = np.flatnonzero(area >= 0.25 * area.max())
    # The head is narrower than 48 pixels: all 48 of X, and of Y the 48 around its middle.
    columns = np.flatnonzero(head.any(axis=(0, 2)))
    first = min(max(columns[0] - (48 - (columns[-1] + 1 - columns[0])) // 2, 0), 52 - 48)
    slices = [volume[:, first : first + 48, judged].transpose(2, 0, 1) for volume in (image, true)]
    own, of_true = (grid_artifact(part) for part in slices)
    row = pick(evaluation.per_subject, subject_id="sub-01", contrast="t1w", method="gan")
    # float32 images; what is measured is a thousandth of them.
    assert row["grid_ratio"] == pytest.approx(own.relative.mean() / of_true.relative.mean(), rel=1e-3)
    assert row["grid_amplitude"] == pytest.approx(100 * np.sqrt(np.mean(own.amplitude**2)), rel=1e-3)


def test_tables_text_and_figure(evaluation):
    text = (evaluation.output / "tables.md").read_text(encoding="utf-8")
    for expected in (
        "### PSNR (dB)\n\n| Method        | T1w ",
        "### Lesion CNR\n",
        "### Grid artifact / that of the true image\n",
        "### T accuracy, patches\n",
        "### Observer MAE\n",
        "| T2-FLAIR: Dice, lesion mask | T2-FLAIR: Dice, true image's segmentation |",
        "### PSNR (dB): control and patient apart",
        "| Task-GAN - GAN",
        "| T1w, PSNR (dB)",
        "Contrasts that were not acquired: T1w 1.",
        "divided by its own mean over the head of the true image",
        "percentile 99.9 of the true image in the head",
        "of 4 of 4 inputs",
    ):
        assert expected in text
    assert (evaluation.output / "figure.png").read_bytes().startswith(b"\x89PNG")
    table = evaluation.per_subject.set_index(["method", "contrast", "subject_id"])["psnr"].sort_index()
    mean = pick(evaluation.differences, metric="t1w/psnr", first="taskgan", second="gan")
    expected_mean = (table["taskgan", "t1w"] - table["gan", "t1w"]).mean()
    assert mean["mean"] == pytest.approx(expected_mean) and mean["subjects"] == 3
    patients = pick(evaluation.summary, metric="patient/t1c/psnr", method="gan")
    both = [table["gan", "t1c", name] for name in ("sub-01", "sub-03")]
    assert patients["mean"] == pytest.approx(np.mean(both)) and patients["subjects"] == 2


def test_an_evaluation_keeps_the_contract(contrast_cohort, evaluation):
    check_domain("multicontrast_mri", manifest=contrast_cohort.manifest, evaluation=evaluation.output)


def test_a_finished_evaluation_is_read_not_repeated(contrast_cohort, evaluation, monkeypatch):
    monkeypatch.setattr(comparison_module, "measure_image", lambda *_: pytest.fail("evaluated again"))
    again = run(contrast_cohort, evaluation.output)
    pd.testing.assert_frame_equal(again.per_subject, evaluation.per_subject)
    assert again.record == evaluation.record
    assert again.markdown == evaluation.markdown
    with pytest.raises(InputError, match=r"holds another evaluation \(seed 0 -> 1\)"):
        run(contrast_cohort, evaluation.output, seed=1)


def test_relaxometry_is_fitted_once_per_subject_and_once_for_the_figure(
    contrast_cohort, tmp_path, monkeypatch
):
    calls = []
    original = comparison_module.fitted_images

    def counted(*arguments: Any) -> Any:
        calls.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(comparison_module, "fitted_images", counted)
    run(contrast_cohort, tmp_path / "out", task=None, observers=[], segmenter=None)
    assert len(calls) == 4 + 1


def test_seeds_are_pooled(contrast_cohort, evaluation, tmp_path):
    assert (
        pool_evaluations([evaluation.output, evaluation.output], metrics_of=metrics_of) == evaluation.markdown
    )
    other = run(contrast_cohort, tmp_path / "out", **FEW)
    with pytest.raises(InputError, match=r"was evaluated with contrasts \['t2_flair'\]"):
        pool_evaluations([evaluation.output, other.output], metrics_of=metrics_of)


def test_an_input_without_protocol_has_no_classical_row(contrast_cohort, tmp_path):
    folder = tmp_path / "cohort"
    shutil.copytree(contrast_cohort.folder, folder)
    for file in folder.glob("subjects/*/mdme.json"):
        file.unlink()
    methods = {"mine": folder / "gan"}
    found = evaluate_contrasts(
        folder / "manifest.csv", methods=methods, output=tmp_path / "out", progress=False
    )
    assert set(found.per_subject["method"]) == {"mine", "true"}
    assert found.record["fitted_scans"] == 0
    assert found.differences.empty
    assert load_evaluation(tmp_path / "out", metrics_of=metrics_of).markdown == found.markdown
