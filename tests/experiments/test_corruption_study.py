"""The study with made-up evaluations in the place of trainings, and once, slow, with tiny real trainings."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from filelock import FileLock

from medrestore.checks import InputError
from medrestore.evaluation.record import Evaluation, claim_folder, write_evaluation
from medrestore.evaluation.tables import difference_table, summary_table
from medrestore.experiments import corruption_study
from medrestore.experiments.corruption_study import render_corruption_study, run_corruption_study
from medrestore.experiments.jobs import Job
from medrestore.tracking.store import open_client

Cells = dict[tuple[float, int], pd.DataFrame]
VARIANTS = ("e", "qe", "sqe")
TINY = """
device: cpu
precision: fp32
crop_size: 48
generator_channels: 4
generator_blocks: 1
generator_norm: none
generator_enlargement_skip: bicubic
discriminator_channels: [4, 8]
encoder_channels: [4]
encoder_blocks: 1
batch_size: 2
batches_per_epoch: 2
autoencoder_epochs: 1
warm_up_epochs: 1
adversarial_epochs: 1
validation_interval: 1
workers: 0
"""


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, make_cells: Callable[..., Cells]) -> list[str]:
    """Make evaluations up in the place of running jobs; return the names of all jobs that were asked for."""
    asked: list[str] = []

    def run(jobs: Sequence[Job], **settings: Any) -> list[str]:
        for job in jobs:
            asked.append(job.name)
            if job.kind == "evaluation":
                level, seed = job.name.removeprefix("evaluation_level-").split("_seed-")
                cell = (float(level) / 100, int(seed))
                table = make_cells(levels=cell[:1], seeds=cell[1:], variants=list(job.task["methods"]))[cell]
                folder, _ = claim_folder(job.task["output"], {"made_up": True})
                summary = summary_table(table, seed=0)
                result = Evaluation(
                    folder, table, summary, difference_table(table, seed=0), {"made_up": True}
                )
                write_evaluation(result, notes=[])
        return [job.name for job in jobs]

    monkeypatch.setattr(corruption_study, "run_jobs", run)
    return asked


def study(tiles: Path, folder: Path, **settings: Any) -> Path:
    given = {"levels": (0.0, 0.5), "variants": VARIANTS, "seeds": (0, 1), "progress": False, **settings}
    return run_corruption_study(tiles, output=folder, **given)


def test_study_writes_tables_and_figure_and_records_all(
    tiles: Path, tmp_path: Path, stand_in: list[str]
) -> None:
    folder = study(tiles, tmp_path / "study", tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")

    assert folder == (tmp_path / "study").resolve()
    assert len(stand_in) == 2 * 2 * 5
    results = pd.read_csv(folder / "results.csv")
    assert set(results["variant"]) == {*VARIANTS, "bicubic"}
    assert set(results["level"].dropna()) == {0.0, 0.5}
    tables = (folder / "tables.md").read_text()
    assert "8 test patients, 2 seeds" in tables
    assert "Ratio of this change to that of SRGAN_E" in tables
    assert (folder / "figure.png").stat().st_size > 10_000
    record = json.loads((folder / "study.json").read_text())
    assert record["finished"]
    assert record["seeds"] == [0, 1]

    client = open_client(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("corruption_study")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.tags["kind"] == "corruption study"
    row = results.query("variant == 'sqe' and level == 0.5 and metric == 'rrmse'").iloc[0]
    assert run.data.metrics["sqe/level_0.50/rrmse"] == pytest.approx(row["mean"], rel=1e-12)
    assert run.data.metrics["sqe/level_0.50/rrmse_high"] == pytest.approx(row["high"], rel=1e-12)
    assert "bicubic/rrmse" in run.data.metrics
    curve = client.get_metric_history(run.info.run_id, "sqe/rrmse_by_percent")
    assert [point.step for point in curve] == [0, 50]
    artifacts = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert artifacts == {
        *("figure.png", "tables.md", "study.json"),
        *("results.csv", "by_seed.csv", "changes.csv", "differences.csv"),
    }


def test_same_settings_continue_with_other_seeds_and_others_are_refused(
    tiles: Path, tmp_path: Path, stand_in: list[str]
) -> None:
    folder = study(tiles, tmp_path / "study", seeds=(0,))
    assert "1 seed;" in (folder / "tables.md").read_text()
    study(tiles, folder, seeds=(0, 2), levels=(0.0, 0.25, 0.5))
    assert pd.read_csv(folder / "by_seed.csv")["seed"].unique().tolist() == [0, 2]
    client = open_client(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("corruption_study")
    assert len(client.search_runs([experiment.experiment_id])) == 1, "the study is one run"

    before = (folder / "results.csv").read_bytes()
    with pytest.raises(InputError, match=r"holds another corruption study \(variants, configurations differ"):
        study(tiles, folder, variants=("e", "sqe"))
    with pytest.raises(InputError, match=r"holds another corruption study \(overrides differ"):
        study(tiles, folder, overrides={"batch_size": 2})
    assert (folder / "results.csv").read_bytes() == before


def test_a_failed_study_is_marked_and_continued(
    tiles: Path, tmp_path: Path, stand_in: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> list[str]:
        raise InputError("1 of 20 jobs failed")

    with monkeypatch.context() as patch:
        patch.setattr(corruption_study, "run_jobs", fail)
        with pytest.raises(InputError, match="1 of 20 jobs failed"):
            study(tiles, tmp_path / "study")
    client = open_client(f"sqlite:///{tmp_path}/study/mlflow.db")
    key = client.get_experiment_by_name("corruption_study").experiment_id
    assert [run.info.status for run in client.search_runs([key])] == ["FAILED"]
    study(tiles, tmp_path / "study")
    assert [run.info.status for run in client.search_runs([key])] == ["FINISHED"]


def test_figure_and_tables_are_drawn_again_from_the_csv_files(
    tiles: Path, tmp_path: Path, stand_in: list[str]
) -> None:
    folder = study(tiles, tmp_path / "study")
    names = ("tables.md", "figure.png")
    before = {name: (folder / name).read_bytes() for name in names}
    for name in names:
        (folder / name).unlink()
    assert render_corruption_study(folder) == folder
    assert {name: (folder / name).read_bytes() for name in names} == before


def test_folders_of_others_are_refused(tiles: Path, tmp_path: Path, stand_in: list[str]) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="holds other files and no corruption study"):
        study(tiles, tmp_path)
    with pytest.raises(InputError, match=r"results\.csv: is no table of a corruption study"):
        render_corruption_study(tmp_path)


def test_one_folder_is_worked_on_by_one_process(tiles: Path, tmp_path: Path, stand_in: list[str]) -> None:
    folder = study(tiles, tmp_path / "study")
    with FileLock(folder / ".lock"), pytest.raises(InputError, match="another process runs this study"):
        study(tiles, folder)


@pytest.mark.slow
def test_tiny_study_trains_restores_evaluates_and_continues(tiles: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "tiny.yaml"
    overlay.write_text(TINY)
    settings = {"variants": ("e", "sqe"), "seeds": (0,), "overlays": ("demo", str(overlay)), "jobs": 2}
    folder = study(tiles, tmp_path / "study", **settings)

    results = pd.read_csv(folder / "results.csv")
    assert set(results["variant"]) == {"e", "sqe", "bicubic"}
    assert results["patients"].max() == 2
    assert not math.isnan(results.query("variant == 'sqe' and metric == 'rrmse'")["mean"].min())
    names = [f"{run}_level-{level}_seed-0" for run in ("autoencoder", "e", "sqe") for level in (0, 50)]
    client = open_client(f"sqlite:///{folder}/mlflow.db")
    runs = {
        run.info.run_name: run
        for run in client.search_runs([client.get_experiment_by_name("corruption_study").experiment_id])
    }
    assert set(runs) == {"corruption study", *names}
    parent = runs.pop("corruption study")
    for run in runs.values():
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert runs["sqe_level-50_seed-0"].data.params["corruption_fraction"] == "0.5"
    weights = [(folder / "runs" / name / "model.pt").read_bytes() for name in names]
    assert len(set(weights)) == len(names), "corruption and method reach the weights"

    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.p[nt]*") if path.name != "figure.png"}
    study(tiles, folder, **settings)
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*.p[nt]*") if path.name != "figure.png"}
    assert after == before
