"""The demo end to end, on a tiny cohort with tiny networks; a second call keeps all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from manifest import cells, write_manifest
from tiny_demos import tiny_variants

from medrestore.data.volumes import read_volume, write_volume
from medrestore.domains.amyloid_pet.schema import pair_schema
from medrestore.experiments.demo import find_demo, run_demo
from medrestore.experiments.description import methods_of
from medrestore.networks.weights import load_file
from medrestore.study.create import create_study
from medrestore.study.layout import open_study
from medrestore.study.record.verification import verify_study
from medrestore.tracking.store import open_client

SUBJECT = "amyloid-pet"
DEMO = find_demo(SUBJECT)
NETWORK_READERS = {"network_1": 7002, "network_2": 7003}
SUVR_READERS = ("suvr_1", "suvr_2", "suvr_3")
TESTED = ("0006", "0007", "1006", "1007", "2006", "2007")
FROZEN = ("design.json", "reading_list.csv", "key.csv", "reads.sqlite", "manifest.csv", "per_subject.csv")


@pytest.fixture
def simulated(tiny_cohort: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Put the tiny cohort, with regions and more test scans, in the place of a simulated one."""
    from medrestore.domains.amyloid_pet.simulate import cohort

    asked: list[tuple[str, int]] = []

    def simulate(output: str, *, size: str, seed: int, mr: list[str]) -> Path:
        assert mr == []  # nothing of the demo looks at it
        asked.append((size, seed))
        folder = Path(output)
        if not folder.exists():
            shutil.copytree(tiny_cohort, folder, ignore=shutil.ignore_patterns(".cache"))
            table = cells(folder / "manifest.csv")
            table = pd.concat([table, *_more_test_scans(table, folder)], ignore_index=True)
            table["regions"] = [_write_regions(folder, row.target) for row in table.itertuples()]
            write_manifest(pair_schema(), table, folder)
            test = table[table["split"] == "test"]
            higher = test.assign(
                degraded=test["degraded"].str.replace("degraded", "higher"), dose_fraction="0.25"
            )
            for row in higher.itertuples():
                target, low = (
                    read_volume(folder / path)
                    for path in (row.target, row.degraded.replace("higher", "degraded"))
                )
                write_volume((target.data + low.data) / 2, target.source, folder / row.degraded)
            both = pair_schema().with_checksums(pd.concat([test, higher]), folder)
            both.to_csv(folder / "dose_series.csv", index=False)
        return folder / "manifest.csv"

    monkeypatch.setattr(cohort, "simulate_cohort", simulate)
    return asked


def _more_test_scans(table: pd.DataFrame, folder: Path) -> list[pd.DataFrame]:
    """Give each class of the test split two more subjects: a study of one of a class has no variance."""
    test, more = table[table["split"] == "test"], []
    for number in (1, 2):
        again = test.assign(subject_id=[f"{name[:-4]}{number}{name[-3:]}" for name in test["subject_id"]])
        for column in ("target", "degraded"):
            again[column] = [f"subjects/{name}/{column}.nii.gz" for name in again["subject_id"]]
            for source, target in zip(test[column], again[column], strict=True):
                volume = read_volume(folder / source)
                noise = np.random.default_rng(number).normal(0, 0.05, volume.data.shape)
                noisy = np.maximum(volume.data + noise, 0).astype(np.float32)
                write_volume(noisy, volume.source, folder / target)
        more.append(again)
    return more


def _write_regions(folder: Path, target: str) -> str:
    """Cerebellum in front, four cortical regions behind: the blob of positive scans is in one of them."""
    volume = read_volume(folder / target)
    regions = np.zeros(volume.data.shape, dtype=np.int16)
    regions[8:24, 6:14, 3:7] = 1
    for number in range(4):
        regions[6 + 5 * number : 11 + 5 * number, 15:24, 3:7] = 2 + number
    path = target.replace("target", "regions")
    write_volume(regions, volume.source, folder / path, dtype="int16")
    return path


def test_demo_trains_restores_evaluates_and_continues(simulated, tmp_path, capsys, monkeypatch):
    output = tmp_path / "output"
    variants = tiny_variants(tmp_path / "tiny.yaml", SUBJECT, spatial_size=[32, 32])
    call: Callable[[], Path] = lambda: run_demo(  # noqa: E731
        SUBJECT, output, seed=3, variants=variants, methods=("l1", "taskgan")
    )
    evaluation = call()
    said = capsys.readouterr().out
    assert methods_of(DEMO.runs) == ("l1", "l1_task", "gan", "taskgan")
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
        assert names == {f"sub-{number}_ses-01_restored.nii.gz" for number in TESTED}
    table = pd.read_csv(evaluation / "per_subject.csv")
    assert {"input", "l1", "taskgan"} <= set(table["method"])
    assert (evaluation / "figure.png").stat().st_size > 10_000
    assert (evaluation / "tables.md").read_text().splitlines()[0] in said
    for part in (
        "1 of 5",
        "5 of 5",
        "REHEARSAL WITH MODEL READERS",
        "Error rate was",
        f"medrestore study create {output / 'study_plan_human.yaml'} --output {output / 'study_human'}",
        f"medrestore study serve {output / 'study_human'}",
        str(output / "study" / "analysis" / "report.html"),
        str(evaluation),
        f"medrestore compare {DEMO.experiment} --tracking-uri sqlite:///",
    ):
        assert part in said
    client = open_client(f"sqlite:///{output}/mlflow.db")
    experiment = client.get_experiment_by_name("amyloid_pet")
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.run_name for run in runs} == {"observer", "task", "l1", "taskgan", *NETWORK_READERS}
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert client.get_experiment_by_name(DEMO.experiment) is not None
    _require_rehearsal(output)
    experiments = {found.name: _run_ids(client, found) for found in client.search_experiments()}
    assert len(experiments) == 4  # MLflow's own empty one; trainings, evaluation, study

    kept = {
        path: path.stat().st_mtime_ns
        for path in output.rglob("*")
        if path.suffix in {".pt", ".gz", ".png", ".nii", ".yaml"} or path.name in FROZEN
    }
    assert call() == evaluation
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert {found.name: _run_ids(client, found) for found in client.search_experiments()} == experiments


def _run_ids(client: Any, experiment: Any) -> set[str]:
    return {run.info.run_id for run in client.search_runs([experiment.experiment_id])}


def _require_rehearsal(output: Path) -> None:
    """Require a study of all arms, read by networks that no generator knows and by SUVR, and its report."""
    study = open_study(output / "study")
    assert study.arms == ["standard", "low_dose", "taskgan"]
    assert study.readers == dict.fromkeys((*NETWORK_READERS, *SUVR_READERS), "model")
    assert len(study.plan["cases"]) == len(TESTED)
    verified = verify_study(output / "study")
    # 3 arms of 6 cases and a tenth of these again, by 5 readers.
    assert (verified.rows, verified.problems) == (5 * (18 + 2), ())
    weights = {(output / "runs" / name / "model.pt").read_bytes() for name in ("observer", *NETWORK_READERS)}
    assert len(weights) == 3
    for name, seed in NETWORK_READERS.items():
        assert f"seed: {seed}" in (output / "runs" / name / "config.yaml").read_text()
    report = (output / "study" / "analysis" / "report.html").read_text()
    assert "Rehearsal with model readers" in report
    assert (output / "study" / "analysis" / "suvr_agreement.csv").is_file()
    # The plan for a person can be carried out, and prepares by scans that are not in its study.
    human = create_study(output / "study_plan_human.yaml", output=output / "study_human")
    assert human.readers == {"reader_1": "human"}
    phases = human.key.drop_duplicates("case")["phase"].value_counts()
    assert phases.to_dict() == {"reading": 4, "training": 2, "qualification": 2}
    assert sorted(human.truth.values()) == [0, 0, 0, 0, 1, 1, 1, 1]
