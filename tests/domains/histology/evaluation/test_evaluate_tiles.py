"""Every number of an evaluation of tiles, found another way."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from skimage.color import hed_from_rgb
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from skimage.transform import downscale_local_mean

from medrestore.checks import InputError
from medrestore.domains.base import metrics_of
from medrestore.domains.histology.evaluation import evaluate as evaluate_module
from medrestore.domains.histology.evaluation.evaluate import TileComparison, evaluate_tiles
from medrestore.domains.histology.evaluation.measures import TrueTile, measure_tile
from medrestore.evaluation.pool import pool_evaluations
from medrestore.evaluation.record import Evaluation
from medrestore.metrics.structure import qilv
from medrestore.operators.recording import degradation_called
from medrestore.operators.resampling import GaussianSubsampling
from medrestore.testing import check_domain

if TYPE_CHECKING:
    from conftest import TileCohort

METHODS = ["bicubic", "lanczos", "e", "sqe", "true"]
FILES = [
    *("differences.csv", "evaluation.json", "figure.png", "per_subject.csv"),
    *("summary.csv", "tables.md", "verdicts.csv"),
]
TILE = "P2_A_x0_y0"
COLUMNS = ["Gaussian 1", "Box", "Mean"]


def run(cohort: TileCohort, output: Path, **settings: Any) -> Evaluation:
    given: dict[str, Any] = {"methods": cohort.methods, "progress": False}
    return evaluate_tiles(cohort.manifest, output=output, **given | settings)


@pytest.fixture(scope="module")
def evaluation(tile_cohort: TileCohort, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return run(tile_cohort, tmp_path_factory.mktemp("results") / "evaluation")


@pytest.fixture
def no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes a second, and has tests of its own."""
    monkeypatch.setattr(evaluate_module, "draw_tiles", lambda *_, path: path.write_bytes(b"figure"))


def pick(table: pd.DataFrame, **values: str) -> pd.Series[Any]:
    for name, value in values.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def restored(cohort: TileCohort, method: str, tile: str = TILE) -> Any:
    return np.asarray(Image.open(cohort.methods[method] / f"{tile}_restored.png"))


def test_every_tile_and_method_has_a_row(tile_cohort, evaluation):
    table = pd.read_csv(evaluation.output / "per_subject.csv")
    assert sorted(path.name for path in evaluation.output.iterdir()) == sorted([*FILES, "changes"])
    assert list(table["session_id"].unique()) == list(tile_cohort.tiles)
    assert list(table["method"]) == METHODS * 4
    assert set(table["subject_id"]) == {"P1", "P2", "P3"}
    true = table[table["method"] == "true"].dropna(axis=1, how="all")
    assert set(true) == {"subject_id", "session_id", "method", "nuclei", "nuclei_density"}
    # Two tiles have four nuclei, too few for a relative error of the count; all else has every number.
    rest = table[(table["method"] != "true")].drop(columns=["nuclei_error", "nuclei_f1"])
    assert not rest.isna().any().any()
    few = table[(table["method"] != "true") & table["nuclei_f1"].isna()]
    assert set(few["subject_id"]) == {"P1"}
    assert evaluation.record["tiles_with_nuclei"] == 2
    assert (evaluation.record["subjects"], evaluation.record["tiles"]) == (3, 4)


def test_fidelity_and_structure_are_those_of_scikit_image(tile_cohort, evaluation):
    row = pick(evaluation.per_subject, session_id=TILE, method="sqe")
    true, image = tile_cohort.tiles[TILE], restored(tile_cohort, "sqe")
    # Double precision on both sides.
    assert row["psnr"] == pytest.approx(peak_signal_noise_ratio(true, image, data_range=255), rel=1e-12)
    error = np.sqrt(sum((float(a) - float(b)) ** 2 for a, b in zip(true.flat, image.flat, strict=True)))
    assert row["rrmse"] == pytest.approx(error / np.sqrt((true.astype(float) ** 2).sum()), rel=1e-12)
    by_scale = [
        structural_similarity(
            downscale_local_mean(true.astype(float), (2**scale, 2**scale, 1)),
            downscale_local_mean(image.astype(float), (2**scale, 2**scale, 1)),
            data_range=255,
            channel_axis=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for scale in range(5)
    ]
    assert row["ms_mssim"] == pytest.approx(np.mean(by_scale), rel=1e-9)
    assert row["qilv"] == qilv(image, true)  # whose own tests know the value


def test_baselines_enlarge_the_reduced_tile(tile_cohort, evaluation):
    true = tile_cohort.tiles[TILE]
    low = Image.fromarray(GaussianSubsampling(scale=4, sigma=2.0).picture(true))
    for method, kernel in (("bicubic", Image.Resampling.BICUBIC), ("lanczos", Image.Resampling.LANCZOS)):
        image = np.asarray(low.resize((176, 176), kernel))
        row = pick(evaluation.per_subject, session_id=TILE, method=method)
        expected = peak_signal_noise_ratio(true, image, data_range=255)
        assert row["psnr"] == pytest.approx(expected, rel=1e-12)


def test_each_degradation_is_a_column(tile_cohort, tmp_path):
    names = ["gaussian1", "box", "gaussian2-jpeg70"]
    folder = tmp_path / "sqe"
    for name in names[:2]:
        for tile in tile_cohort.tiles:
            save_as = folder / f"{tile}_{name}_restored.png"
            save_as.parent.mkdir(exist_ok=True)
            shutil.copy(tile_cohort.methods["sqe"] / f"{tile}_restored.png", save_as)
    with pytest.raises(InputError, match=f"{TILE}_gaussian2-jpeg70_restored.png is missing"):
        run(tile_cohort, tmp_path / "out", methods={"sqe": folder}, degradations=names)
    found = run(tile_cohort, tmp_path / "out", methods={"sqe": folder}, degradations=names[:2])
    assert list(found.per_subject["degradation"].unique()) == names[:2]
    true = tile_cohort.tiles[TILE]
    low = degradation_called("box").picture(true)
    image = np.asarray(Image.fromarray(low).resize((176, 176), Image.Resampling.BICUBIC))
    row = pick(found.per_subject, session_id=TILE, method="bicubic", degradation="box")
    assert row["psnr"] == pytest.approx(peak_signal_noise_ratio(true, image, data_range=255), rel=1e-12)
    per_patient = found.per_subject.query("method == 'bicubic' and degradation == 'box'")
    mean = per_patient.groupby("subject_id")["psnr"].mean().mean()
    row = pick(found.summary, method="bicubic", metric="box/psnr")
    assert row["mean"] == pytest.approx(mean, rel=1e-12)
    assert row["subjects"] == 3
    # The very same restorations: no degradation tells them apart.
    sqe = [pick(found.summary, method="sqe", metric=f"{name}/psnr")["mean"] for name in (*names[:2], "mean")]
    assert max(sqe) - min(sqe) < 1e-9
    text = (found.output / "tables.md").read_text()
    heads = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert ["Method", *COLUMNS] in heads
    assert "reduced 4-fold in each of the ways that the columns name" in text
    assert found.record["degradations"] == names[:2]
    assert "sigma" not in found.record
    assert found.record["tiles"] == 4
    assert (found.output / "figure.png").stat().st_size > 10_000
    assert metrics_of("", found.per_subject.columns).strata.column == "degradation"


def test_stains_drift_by_the_difference_of_mean_densities(tile_cohort, evaluation):
    row = pick(evaluation.per_subject, session_id=TILE, method="e")
    images = (restored(tile_cohort, "e"), tile_cohort.tiles[TILE])
    density = [-np.log10(np.maximum(image, 1) / 255) @ hed_from_rgb for image in images]
    drift = np.abs(density[0].mean(axis=(0, 1)) - density[1].mean(axis=(0, 1)))
    assert row["stain_drift_hematoxylin"] == pytest.approx(drift[0], abs=1e-6)  # float32 densities
    assert row["stain_drift_eosin"] == pytest.approx(drift[1], abs=1e-6)
    assert drift.min() > 1e-4


def test_nuclei_that_a_method_loses_are_counted(tile_cohort):
    """Three of nine nuclei are painted over: by hand, error 3 / 9, F1 = 2 x 6 / (6 + 9)."""
    true = tile_cohort.tiles[TILE]
    image = true.copy()
    image[88:132] = true[130:174]  # the third row, which has one nucleus, becomes background...
    image[5:47, 90:174] = true[130:172, 90:174]  # ...and so do two nuclei of the first
    tile = TrueTile(true, microns_per_pixel=0.25)
    measured = measure_tile(image, tile)
    area = (176 * 0.25e-3) ** 2  # mm2
    assert measure_tile(None, tile) == {"nuclei": 9, "nuclei_density": pytest.approx(9 / area)}
    assert measured["nuclei"] == 6
    assert measured["nuclei_density"] == pytest.approx(6 / area)
    assert measured["nuclei_error"] == pytest.approx(3 / 9)
    assert measured["nuclei_f1"] == pytest.approx(12 / 15)


def test_means_are_over_patients(evaluation):
    rows = evaluation.per_subject[evaluation.per_subject["method"] == "sqe"]
    values = {name: list(group["psnr"]) for name, group in rows.groupby("subject_id")}
    by_patient = [sum(held) / len(held) for held in values.values()]
    found = pick(evaluation.summary, method="sqe", metric="psnr")
    assert sorted(map(len, values.values())) == [1, 1, 2]
    assert found["mean"] == pytest.approx(sum(by_patient) / 3)
    assert found["subjects"] == 3
    assert min(by_patient) <= found["low"] <= found["mean"] <= found["high"] <= max(by_patient)
    differing = pick(evaluation.differences, first="sqe", second="e", metric="rrmse")
    assert differing["high"] < 0  # half the noise
    assert set(zip(evaluation.differences["first"], evaluation.differences["second"], strict=True)) == {
        ("sqe", "e"),
        ("sqe", "bicubic"),
        ("e", "bicubic"),
    }


def test_the_tables_say_what_was_done(evaluation):
    text = (evaluation.output / "tables.md").read_text(encoding="utf-8")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    assert ["Method", "PSNR (dB)", "RRMSE", "MS-mSSIM", "QILV"] in lines
    assert [line[0] for line in lines[2:6]] == ["Bicubic", "Lanczos", "SRGAN_E", "SRGAN_SQE"]
    assert "### Nuclei and stains" in text
    assert next(line for line in lines if line[0] == "True image")[2:] == ["n/a"] * 4
    for expected in (
        "3 patients, 4 tiles of 176 x 176 pixels at 0.25 µm per pixel, split test",
        "Gaussian of 2 pixels and subsampled 4-fold, in 8 bits. Interpolated from it: Bicubic and Lanczos.",
        "of the 2 true tiles with 5 nuclei or more",
    ):
        assert expected in text
    assert "no interval" not in text


def test_an_evaluation_keeps_the_contract(tile_cohort, evaluation):
    check_domain("histology", manifest=tile_cohort.manifest, evaluation=evaluation.output)


def test_a_finished_evaluation_is_returned_and_others_refused(tile_cohort, evaluation, monkeypatch):
    def fail(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(TileComparison, "measure", fail)
    again = run(tile_cohort, evaluation.output)
    pd.testing.assert_frame_equal(again.summary, evaluation.summary)
    assert again.markdown == evaluation.markdown
    with pytest.raises(InputError, match=r"holds another evaluation \(sigma .* -> .*\)"):
        run(tile_cohort, evaluation.output, sigma=1.0)
    with pytest.raises(InputError, match=r"another evaluation \(methods\.sqe is gone\)"):
        run(tile_cohort, evaluation.output, methods={"e": tile_cohort.methods["e"]})


@pytest.mark.usefixtures("no_figure")
def test_without_methods_interpolation_is_left(tile_cohort, tmp_path):
    result = run(tile_cohort, tmp_path / "out", methods={}, baselines=["bicubic"], split="train", sigma=1.0)
    assert list(result.per_subject["method"]) == ["bicubic", "true"]
    text = (result.output / "tables.md").read_text(encoding="utf-8")
    assert "1 patient, 1 tile of 176 x 176" in text
    assert "A single patient has no interval" in text
    assert "Gaussian of 1 pixel and subsampled 4-fold, in 8 bits. Interpolated from it: Bicubic." in text


def test_small_tiles_and_coarse_ones_lack_what_cannot_be_said(tile_cohort, tmp_path):
    folder = tmp_path / "cohort"
    shutil.copytree(tile_cohort.folder / "slides", folder / "slides")
    table = pd.read_csv(tile_cohort.manifest)
    table = table.assign(tile_size=88, microns_per_pixel=2.0, slide_microns_per_pixel=1.0)
    table.to_csv(folder / "manifest.csv", index=False)
    found = evaluate_tiles(folder / "manifest.csv", methods={}, output=tmp_path / "out", progress=False)
    assert not {"ms_mssim", "nuclei", "nuclei_density", "nuclei_f1"} & set(found.per_subject)
    assert set(found.summary["metric"]) >= {"psnr", "rrmse", "qilv", "stain_drift_eosin"}
    text = (found.output / "tables.md").read_text(encoding="utf-8")
    assert "MS-mSSIM needs tiles of 176 pixels or more" in text
    assert "Nuclei cannot be told at more than 1 µm per pixel" in text
    assert (found.output / "figure.png").is_file()


@pytest.mark.usefixtures("no_figure")
def test_seeds_are_pooled_and_other_reductions_refused(tile_cohort, evaluation, tmp_path):
    swapped = {"e": tile_cohort.methods["sqe"], "sqe": tile_cohort.methods["e"]}
    other = run(tile_cohort, tmp_path / "other", methods=swapped)
    text = pool_evaluations([evaluation.output, other.output], metrics_of=metrics_of)
    rows = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()]
    found = {row[1]: row[2] for row in rows if len(row) == 7 and row[1].startswith("SRGAN")}
    assert found["SRGAN_E"] == found["SRGAN_SQE"]  # each is the mean of both now
    blurred = run(tile_cohort, tmp_path / "blurred", sigma=1.0, methods={}, baselines=())
    with pytest.raises(InputError, match=r"was evaluated with sigma 1\.0"):
        pool_evaluations([evaluation.output, blurred.output], metrics_of=metrics_of)
