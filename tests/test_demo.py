"""The demo end to end, on the tiny cohort with tiny networks; a second call keeps all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from medrestore import demo
from medrestore.checks import InputError
from medrestore.data.manifest import with_checksums
from medrestore.data.volumes import read_volume, write_volume
from medrestore.demo import BUNDLE, EXPERIMENT, METHODS, run_demo
from medrestore.engines.bundle import find_bundle
from medrestore.networks.weights import load_file
from medrestore.tracking.store import open_client

TINY = """
device: cpu
precision: fp32
spatial_size: [32, 32]
generator_channels: [4, 8, 8]
discriminator_channels: [4, 8]
task_widen_factor: 0.0625
batch_size: 4
batches_per_epoch: 2
pretrain_epochs: 1
joint_epochs: 1
"""


@pytest.fixture
def simulated(tiny_cohort: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Put the tiny cohort in the place of a simulated one; note what was asked for."""
    from medrestore.data.phantoms import cohort

    asked: list[tuple[str, int]] = []

    def simulate(output: Path, *, size: str, seed: int) -> Path:
        asked.append((size, seed))
        if not output.exists():
            shutil.copytree(tiny_cohort, output, ignore=shutil.ignore_patterns(".cache"))
            table = pd.read_csv(output / "manifest.csv", dtype=str, keep_default_na=False)
            test = table[table["split"] == "test"]
            higher = test.assign(
                degraded=test["degraded"].str.replace("degraded", "higher"), dose_fraction="0.25"
            )
            for row in higher.itertuples():
                target, low = (
                    read_volume(output / path)
                    for path in (row.target, row.degraded.replace("higher", "degraded"))
                )
                write_volume((target.data + low.data) / 2, target.source, output / row.degraded)
            both = with_checksums(pd.concat([test, higher]), output)
            both.to_csv(output / "dose_series.csv", index=False)
        return output / "manifest.csv"

    monkeypatch.setattr(cohort, "simulate_cohort", simulate)
    return asked


def test_methods_are_overlays_of_the_bundle() -> None:
    assert {path.stem for path in (find_bundle(BUNDLE) / "variants").glob("*.yaml")} >= set(METHODS)


def test_demo_trains_restores_evaluates_and_continues(
    simulated: list[tuple[str, int]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    overlay = tmp_path / "tiny.yaml"
    overlay.write_text(TINY)
    output = tmp_path / "output"
    call: Callable[[], Path] = lambda: run_demo(  # noqa: E731
        output, seed=3, variants=("demo", str(overlay)), methods=("l1", "taskgan")
    )
    evaluation = call()
    said = capsys.readouterr().out
    assert simulated == [("demo", 3)]
    assert evaluation == output / "evaluation"
    # The shared T and the observer come from trainings of their own, with seeds of their own.
    seeds = {
        name: (output / "runs" / name / "config.yaml").read_text() for name in ("observer", "task", "taskgan")
    }
    assert "seed: 7001" in seeds["observer"]
    assert "seed: 3" in seeds["task"]
    assert "seed: 3" in seeds["taskgan"]
    assert load_file(output / "runs" / "taskgan" / "checkpoint.pt")["epoch"] == 1  # T came pretrained
    for method in ("l1", "taskgan"):
        names = {path.name for path in (output / "restored" / method).glob("*.nii.gz")}
        assert names == {"sub-0006_ses-01_restored.nii.gz", "sub-0007_ses-01_restored.nii.gz"}
    table = pd.read_csv(evaluation / "per_subject.csv")
    assert {"input", "l1", "taskgan"} <= set(table["method"])
    assert (evaluation / "figure.png").stat().st_size > 10_000
    assert (evaluation / "tables.md").read_text().splitlines()[0] in said
    for part in (
        "1 of 4",
        "4 of 4",
        str(evaluation),
        f"medrestore compare {EXPERIMENT} --tracking-uri sqlite:///",
    ):
        assert part in said
    client = open_client(f"sqlite:///{output}/mlflow.db")
    experiment = client.get_experiment_by_name("amyloid_pet")
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.run_name for run in runs} == {"observer", "task", "l1", "taskgan"}
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert client.get_experiment_by_name(EXPERIMENT) is not None

    kept = {
        path: path.stat().st_mtime_ns
        for path in output.rglob("*")
        if path.suffix in {".pt", ".gz", ".csv", ".png"}
    }
    assert call() == evaluation
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(client.search_runs([experiment.experiment_id])) == len(runs)


def test_folder_of_others_is_refused_before_anything_is_simulated(
    simulated: list[tuple[str, int]], tmp_path: Path
) -> None:
    (tmp_path / "thesis.docx").write_text("years of work")
    with pytest.raises(InputError, match="holds other files and no demo; nothing is overwritten"):
        run_demo(tmp_path)
    assert simulated == []
    assert demo.METHODS == ("l1", "l1_task", "gan", "taskgan")
