from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from medrestore.tracking.parents import open_parent_run
from medrestore.tracking.runs import RUN_FILE, MLflowRun
from medrestore.tracking.store import RecordingError, open_client
from medrestore.tracking.sync import sync_run


def open_study(folder: Path, tracking_uri: str, *, experiment: str = "parents", seeds: int = 3):  # type: ignore[no-untyped-def]
    return open_parent_run(
        folder,
        experiment=experiment,
        run_name="study",
        kind="a study",
        tracking_uri=tracking_uri,
        parameters={"seeds": seeds},
    )


def test_trainings_are_nested_in_the_study(tmp_path, tracking_uri):
    with open_study(tmp_path, tracking_uri) as parent:
        training = MLflowRun(
            "parents",
            "training",
            output_dir=tmp_path / "run",
            tracking_uri=tracking_uri,
            parent_run=parent.run_id,
        )
        training.start()
        training.finish()
        (tmp_path / "table.csv").write_text("a,b\n")
        parent.log_metrics({"sqe/rrmse": 0.25, "nothing": float("nan")}, step=30)
        parent.log_files([tmp_path / "table.csv"])
    client = open_client(tracking_uri)
    child = client.get_run(training.run_id)
    assert child.data.tags["mlflow.parentRunId"] == parent.run_id
    study = client.get_run(parent.run_id)
    assert (study.info.status, study.data.tags["kind"]) == ("FINISHED", "a study")
    assert study.data.metrics == {"sqe/rrmse": 0.25}
    assert client.get_metric_history(parent.run_id, "sqe/rrmse")[0].step == 30
    assert [item.path for item in client.list_artifacts(parent.run_id)] == ["table.csv"]


def test_a_training_of_its_own_has_no_parent(tmp_path, tracking_uri):
    training = MLflowRun("parents", "alone", output_dir=tmp_path, tracking_uri=tracking_uri)
    training.start()
    training.finish()
    assert "mlflow.parentRunId" not in open_client(tracking_uri).get_run(training.run_id).data.tags


def test_a_study_that_is_called_again_continues_its_run(tmp_path, tracking_uri):
    with open_study(tmp_path, tracking_uri) as first:
        pass
    with open_study(tmp_path, tracking_uri, seeds=5) as second:
        client = open_client(tracking_uri)
        assert client.get_run(second.run_id).info.status == "RUNNING"
    assert second.run_id == first.run_id
    assert client.get_run(second.run_id).data.params == {"seeds": "3"}


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_study_that_ends_badly_says_so(tmp_path, tracking_uri, error, status):
    with pytest.raises(error), open_study(tmp_path, tracking_uri) as parent:
        raise error
    assert open_client(tracking_uri).get_run(parent.run_id).info.status == status


def test_a_run_that_the_store_does_not_hold_is_begun_anew(tmp_path, tracking_uri, caplog):
    (tmp_path / RUN_FILE).write_text('{"run_id": "0123456789abcdef0123456789abcdef"}')
    with caplog.at_level(logging.WARNING), open_study(tmp_path, tracking_uri) as parent:
        pass
    assert "does not hold; starting a new one" in caplog.text
    assert parent.run_id in (tmp_path / RUN_FILE).read_text()


def test_a_study_whose_store_is_lost_keeps_its_record_and_completes_it(tmp_path, tracking_uri, monkeypatch):
    from mlflow.exceptions import MlflowException

    def refuse(*_: Any, **__: Any) -> None:
        raise MlflowException("no connection")

    settings: dict[str, Any] = {
        "experiment": "lost",
        "run_name": "study",
        "kind": "study",
        "tracking_uri": tracking_uri,
        "parameters": {},
    }
    (tmp_path / "tables.md").write_text("table")
    with (
        monkeypatch.context() as patch,
        pytest.raises(RecordingError, match=r"\(no connection\)\. Remedy: call the same again, or: "),
        open_parent_run(tmp_path, **settings) as parent,
    ):
        patch.setattr("mlflow.MlflowClient.log_batch", refuse)
        parent.log_metrics({"psnr": 20.0})
        parent.log_files([tmp_path / "tables.md"])
    assert sync_run(tmp_path) == 3
    client = open_client(tracking_uri)
    run = client.get_run(parent.run_id)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"psnr": 20.0})
    assert [item.path for item in client.list_artifacts(parent.run_id)] == ["tables.md"]
