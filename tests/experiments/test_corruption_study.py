"""The study with made-up evaluations in the place of trainings, and once, slow, with tiny real trainings."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from filelock import FileLock

from medrestore.checks import InputError
from medrestore.domains.histology.domain import DOMAIN
from medrestore.evaluation.record import Evaluation, claimed_evaluation, write_evaluation
from medrestore.evaluation.tables import difference_table, summary_table
from medrestore.experiments import corruption_study
from medrestore.experiments.corruption_study import run_corruption_study
from medrestore.experiments.jobs import Job
from medrestore.tracking.store import default_tracking_uri, open_client

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
                record = {"made_up": True}
                with claimed_evaluation(job.task["output"], record) as claim:
                    summary, differences = (
                        made(table, metrics=DOMAIN.metrics, seed=0)
                        for made in (summary_table, difference_table)
                    )
                    write_evaluation(
                        Evaluation(claim.folder, table, summary, differences, record, DOMAIN.metrics),
                        notes=[],
                    )
        return [job.name for job in jobs]

    monkeypatch.setattr(corruption_study, "run_jobs", run)
    return asked


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One MLflow store: a database takes seconds to make, an experiment none."""
    return default_tracking_uri(tmp_path_factory.mktemp("store"))


@pytest.fixture
def study(tiles: Path, tmp_path: Path, store: str) -> Callable[..., Path]:
    """Return what runs a small study in a folder; each test has an experiment of its own."""

    def run(folder: Path, **settings: Any) -> Path:
        given = {"levels": (0.0, 0.5), "variants": VARIANTS, "seeds": (0, 1), "progress": False, **settings}
        return run_corruption_study(
            "histology", tiles, output=folder, experiment=tmp_path.name, tracking_uri=store, **given
        )

    return run


@pytest.fixture
def recorded(tmp_path: Path, store: str) -> Callable[[], list[Any]]:
    """Return what lists the runs of this test's experiment."""

    def find() -> list[Any]:
        client = open_client(store)
        return list(client.search_runs([client.get_experiment_by_name(tmp_path.name).experiment_id]))

    return find


def test_study_writes_tables_and_figure_and_records_all(tmp_path, store, stand_in, study, recorded):
    folder = study(tmp_path / "study")

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

    (run,) = recorded()
    client = open_client(store)
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


def test_same_settings_continue_with_other_seeds_and_others_are_refused(tmp_path, stand_in, study, recorded):
    folder = study(tmp_path / "study", seeds=(0,))
    assert "1 seed;" in (folder / "tables.md").read_text()
    study(folder, seeds=(0, 2), levels=(0.0, 0.25, 0.5))
    assert pd.read_csv(folder / "by_seed.csv")["seed"].unique().tolist() == [0, 2]
    assert len(recorded()) == 1, "the study is one run"

    before = (folder / "results.csv").read_bytes()
    with pytest.raises(InputError, match=r"holds another corruption study \(variants .*configurations"):
        study(folder, variants=("e", "sqe"))
    with pytest.raises(InputError, match=r"holds another corruption study \(overrides.batch_size none -> 2"):
        study(folder, overrides={"batch_size": 2})
    assert (folder / "results.csv").read_bytes() == before


def test_a_failed_study_is_marked_and_continued(tmp_path, stand_in, study, recorded, monkeypatch):
    def fail(*_: Any, **__: Any) -> list[str]:
        raise InputError("1 of 20 jobs failed")

    with monkeypatch.context() as patch:
        patch.setattr(corruption_study, "run_jobs", fail)
        with pytest.raises(InputError, match="1 of 20 jobs failed"):
            study(tmp_path / "study")
    assert [run.info.status for run in recorded()] == ["FAILED"]
    study(tmp_path / "study")
    assert [run.info.status for run in recorded()] == ["FINISHED"]


def test_a_study_without_a_training_takes_other_settings(tmp_path, stand_in, study, monkeypatch):
    def fail(*_: Any, folder: Path, **__: Any) -> list[str]:
        folder.mkdir()
        (folder / "e_level-0_seed-0.log").touch()
        raise InputError("1 of 20 jobs failed")

    with monkeypatch.context() as patch, pytest.raises(InputError, match="1 of 20 jobs failed"):
        patch.setattr(corruption_study, "run_jobs", fail)
        study(tmp_path / "study", overrides={"batch_size": 2})
    folder = study(tmp_path / "study", seeds=(0,), levels=(0.0,))
    text = (folder / "tables.md").read_text()
    assert "1 seed;" in text
    assert "Seeds are no further" not in text
    assert "A ratio is given" not in text


def test_folders_of_others_are_refused(tmp_path, study):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="holds other files and no corruption study"):
        study(tmp_path)


def test_one_folder_is_worked_on_by_one_process(tmp_path, stand_in, study):
    folder = study(tmp_path / "study")
    with (
        FileLock(folder / ".lock"),
        pytest.raises(InputError, match="another process is at work on this corruption study"),
    ):
        study(folder)


@pytest.mark.slow
def test_tiny_study_trains_restores_evaluates_and_continues(tiles, tmp_path):
    overlay = tmp_path / "tiny.yaml"
    overlay.write_text(TINY)

    def run() -> Path:
        return run_corruption_study(
            "histology",
            tiles,
            output=tmp_path / "study",
            levels=(0.0, 0.5),
            variants=("sqe",),
            seeds=(0,),
            overlays=("demo", str(overlay)),
            jobs=2,
            progress=False,
        )

    folder = run()
    results = pd.read_csv(folder / "results.csv")
    assert set(results["variant"]) == {"sqe", "bicubic"}
    assert results["patients"].max() == 2
    assert results.query("metric == 'rrmse'")["mean"].between(0, 1).all()
    names = [f"{run}_level-{level}_seed-0" for run in ("autoencoder", "sqe") for level in (0, 50)]
    client = open_client(default_tracking_uri(folder))
    key = client.get_experiment_by_name("corruption_study").experiment_id
    runs = {found.info.run_name: found for found in client.search_runs([key])}
    assert set(runs) == {"corruption study", *names}
    parent = runs.pop("corruption study")
    for found in runs.values():
        assert found.info.status == "FINISHED"
        assert found.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert runs["sqe_level-50_seed-0"].data.params["corruption_fraction"] == "0.5"
    weights = [(folder / "runs" / name / "model.pt").read_bytes() for name in names]
    assert len(set(weights)) == len(names), "corruption reaches the weights"

    def times() -> dict[Path, int]:
        made = [
            *folder.glob("runs/*/*.pt"),
            *folder.glob("restored/*/*.png"),
            *folder.glob("evaluations/*/*"),
        ]
        return {path: path.stat().st_mtime_ns for path in made}

    before = times()
    assert len(before) > 2 * 4
    run()
    assert times() == before
