from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medrestore.checks import InputError
from medrestore.study.analysis.analyze import StudyAnalysis, analyze_study
from medrestore.study.analysis.reader_group import Settings
from medrestore.study.labels import arm_label
from medrestore.study.report.report import PRIVATE_FILES, RECORD, write_report
from medrestore.tracking.store import open_client
from medrestore.tracking.studies import log_study

STANDARD, LOW, RESTORED = "armstandardzz", "armlowdosezz", "armtaskganzz"
METRICS = {
    *("error_rate", "sensitivity", "specificity", "accuracy", "auc", "mean_quality"),
    *("share_quality_at_least_3", "reading_seconds_median", "reads"),
}


def analyzed(tools: SimpleNamespace, folder: Path, **settings: Any) -> StudyAnalysis:
    study = tools.write_study(folder, cases=10, **settings)
    return analyze_study(tools.read_study(study, tools.noisy))


@pytest.fixture(scope="module")
def mixed(
    study_tools: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory
) -> tuple[StudyAnalysis, Path]:
    """A study of two humans and a model, and its report; the truth is a consensus."""
    folder = tmp_path_factory.mktemp("mixed")
    readers = {"anna": "human", "bert": "human", "carl": "human", "net_1": "model"}
    primary = {"metric": "error_rate", "arm": RESTORED, "reference": LOW, "margin": 0.3}
    analysis = analyzed(
        study_tools,
        folder / "study",
        readers=readers,
        seed=21,
        primary={**primary, "alpha": 0.05, "covariance": "jackknife"},
        plan={"truth": {"consensus_of": STANDARD, "ties": "refuse"}},
    )
    return analysis, write_report(analysis, folder / "analysis")


@pytest.fixture(scope="module")
def recorded(mixed: tuple[StudyAnalysis, Path], tracking_uri: str) -> str:
    return log_study(*mixed, tracking_uri=tracking_uri)


def children(client: Any, run_id: str) -> list[Any]:
    experiment = client.get_run(run_id).info.experiment_id
    return list(client.search_runs([experiment], f"tags.mlflow.parentRunId = '{run_id}'"))


def test_a_nested_run_for_every_reader_and_arm_with_metrics_of_the_same_names(recorded, mixed, tracking_uri):
    client = open_client(tracking_uri)
    runs = children(client, recorded)
    cells = {(run.data.tags["reader"], run.data.tags["arm"]): run for run in runs}
    assert len(runs) == len(cells) == 4 * 3
    assert {reader for reader, _ in cells} == {"anna", "bert", "carl", "net_1"}
    for (reader, arm), run in cells.items():
        assert set(run.data.metrics) == METRICS
        assert run.info.status == "FINISHED"
        assert run.data.params == {
            "reader": reader,
            "arm": arm,
            "reader_kind": "model" if reader == "net_1" else "human",
        }
        assert math.isnan(run.data.metrics["error_rate"]) == (arm == STANDARD)  # it is the truth
        assert run.data.metrics["reads"] == 10
        assert run.data.metrics["reading_seconds_median"] == 30
    assert cells["net_1", RESTORED].info.run_name == f"net 1 (model), {arm_label(RESTORED)}"
    group = mixed[0].main
    for row in group.measures["auc"].as_dict()["per_reader"]:
        assert cells[row["reader"], row["method"]].data.metrics["auc"] == row["estimate"]


def test_the_run_holds_plan_checksums_and_means(recorded, mixed, tracking_uri):
    client = open_client(tracking_uri)
    run, analysis = client.get_run(recorded), mixed[0]
    experiment = client.get_experiment(run.info.experiment_id)
    assert experiment.name == f"study_{analysis.study.design['study_id']}"
    parameters = run.data.params
    assert parameters["plan_sha256"] == analysis.study.plan_sha256
    assert parameters["reading_list_sha256"] == analysis.study.design["reading_list_sha256"]
    assert parameters["chain_head"] == analysis.chain_head
    assert parameters["plan.primary.margin"] == "0.3"
    assert parameters["plan.truth"] == f"consensus of {STANDARD}"
    assert (parameters["human_readers"], parameters["model_readers"], parameters["cases"]) == ("3", "1", "10")
    verdict = analysis.main.verdict
    assert verdict is not None
    metrics = run.data.metrics
    assert metrics[f"{RESTORED}/error_rate"] == verdict.means[0]
    assert metrics[f"difference/{RESTORED}/{LOW}/error_rate"] == verdict.difference.difference
    assert f"model/{RESTORED}/error_rate" in metrics
    assert run.data.tags["verdict"] == verdict.text


def test_what_names_a_case_or_a_folder_is_not_recorded(recorded, mixed, tracking_uri, tmp_path):
    client = open_client(tracking_uri)
    _, folder = mixed
    place = Path(client.download_artifacts(recorded, "", str(tmp_path)))
    files = {path.relative_to(place).as_posix(): path for path in place.rglob("*") if path.is_file()}
    written = set(json.loads((folder / RECORD).read_text())["files"])
    assert set(files) == written - set(PRIVATE_FILES)
    assert "reads.csv" in written
    for run in [client.get_run(recorded), *children(client, recorded)]:
        values = [run.info.run_name, *run.data.params.values(), *run.data.tags.values()]
        assert not any(word in value for value in values for word in ("sub-zz", "/data/", str(folder.parent)))
    for name, path in files.items():
        content = path.read_bytes()
        assert b"sub-zz" not in content, name
        assert b"/data/" not in content, name


def test_an_analysis_is_recorded_once_and_another_one_beside_it(recorded, mixed, tracking_uri, tmp_path):
    analysis, folder = mixed
    assert log_study(analysis, folder, tracking_uri=tracking_uri) == recorded
    client = open_client(tracking_uri)
    again = analyze_study(analysis.study.folder, Settings(alpha=0.1))
    other = log_study(again, write_report(again, tmp_path / "other"), tracking_uri=tracking_uri)
    assert other != recorded
    assert client.get_run(other).info.experiment_id == client.get_run(recorded).info.experiment_id


def test_a_rehearsal_is_recorded_as_one(study_tools, tracking_uri, tmp_path):
    readers = {"net_1": "model", "net_2": "model"}
    analysis = analyzed(study_tools, tmp_path / "study", readers=readers, seed=22)
    run_id = log_study(analysis, write_report(analysis, tmp_path / "analysis"), tracking_uri=tracking_uri)
    run = open_client(tracking_uri).get_run(run_id)
    assert run.info.run_name == "rehearsal with model readers"
    assert all(name.startswith("model/") for name in run.data.metrics)


def test_a_record_that_fails_is_marked_and_made_anew(study_tools, tracking_uri, tmp_path, monkeypatch):
    from medrestore.tracking import studies as module

    analysis = analyzed(study_tools, tmp_path / "study", seed=23)
    folder = write_report(analysis, tmp_path / "analysis")

    def fail(*_: Any) -> None:
        raise InputError("no space")

    with monkeypatch.context() as patch, pytest.raises(InputError, match="no space"):
        patch.setattr(module, "reader_label", fail)
        log_study(analysis, folder, tracking_uri=tracking_uri)
    client = open_client(tracking_uri)
    experiment = client.get_experiment_by_name(f"study_{analysis.study.design['study_id']}")
    assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == ["FAILED"]
    run_id = log_study(analysis, folder, tracking_uri=tracking_uri)
    assert client.get_run(run_id).info.status == "FINISHED"
