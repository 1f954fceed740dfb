"""A results folder that was moved or copied records beside itself, never at its old place."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from medrestore.tracking.relocation import follow_moved_store
from medrestore.tracking.runs import MLflowRun
from medrestore.tracking.store import default_tracking_uri, open_client


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run in the store beside it."""
    folder = tmp_path_factory.mktemp("scratch") / "run 1"
    run = MLflowRun("moved", "run", output_dir=folder)
    run.start()
    run.log({"loss": 1.0}, step=1)
    run.finish("KILLED")
    return folder


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def copy_without_artifacts(old: Path, new: Path) -> None:
    shutil.copytree(old, new, ignore=shutil.ignore_patterns("mlartifacts"))


@pytest.mark.parametrize("bring", [shutil.copytree, shutil.move, copy_without_artifacts])
def test_a_run_is_continued_where_its_folder_is_now(recorded, tmp_path, bring):
    shutil.copytree(recorded, tmp_path / "old")
    follow_moved_store(tmp_path / "old" / "mlflow.db")
    bring(tmp_path / "old", tmp_path / "project" / "new")
    old = tmp_path / "old"
    before = {name: (old / name).read_bytes() for name in files(old)} if old.exists() else None
    new = tmp_path / "project" / "new"
    (new / "model.pt").write_bytes(b"weights")
    run = MLflowRun("moved", "run", output_dir=new, weights=new / "model.pt")
    run.start()
    run.log({"loss": 2.0}, step=2)
    run.finish()
    client = open_client(default_tracking_uri(new))
    found = client.get_run(run.run_id)
    assert found.data.tags["resumed_at_iteration"] == "0"
    assert len(client.get_metric_history(run.run_id, "loss")) == 2
    assert any(name.endswith(f"{run.run_id}/artifacts/model/model.pt") for name in files(new))
    assert {item.path for item in client.list_artifacts(run.run_id)} >= {"environment.json", "model"}
    if before is None:
        assert not old.exists()
    else:
        assert {name: (old / name).read_bytes() for name in files(old)} == before


def test_a_new_run_of_a_moved_store_lies_beside_it(recorded, tmp_path):
    """As runs of a demo do that share the store of its folder."""
    shutil.copytree(recorded, tmp_path / "demo")
    run = MLflowRun(
        "moved",
        "another",
        output_dir=tmp_path / "demo" / "runs" / "another",
        tracking_uri=default_tracking_uri(tmp_path / "demo"),
    )
    run.start()
    run.finish()
    place = open_client(default_tracking_uri(tmp_path / "demo")).get_run(run.run_id).info.artifact_uri
    assert place == f"{(tmp_path / 'demo' / 'mlartifacts').as_uri()}/{run.run_id}/artifacts"


def test_places_that_somebody_else_has_chosen_stay(tmp_path):
    uri = default_tracking_uri(tmp_path)
    client = open_client(uri)
    chosen = {
        "bucket": "s3://bucket/mlartifacts",
        "folder": (tmp_path / "big" / "files").as_uri(),
        "other": (tmp_path / "big" / "mlartifacts").as_uri(),
    }
    (tmp_path / "big" / "mlartifacts").mkdir(parents=True)
    for name, place in chosen.items():
        client.create_experiment(name, artifact_location=place)
    client = open_client(uri)
    for name, place in chosen.items():
        assert client.get_experiment_by_name(name).artifact_location == place


def test_a_link_to_the_folder_is_no_move(recorded, tmp_path):
    (tmp_path / "link").symlink_to(recorded)
    before = (recorded / "mlflow.db").read_bytes()
    follow_moved_store(tmp_path / "link" / "mlflow.db")
    assert (recorded / "mlflow.db").read_bytes() == before


def test_a_file_that_is_no_store_is_left_alone(tmp_path):
    (tmp_path / "mlflow.db").write_text("no database")
    follow_moved_store(tmp_path / "mlflow.db")
    follow_moved_store(tmp_path / "nothing.db")
    assert (tmp_path / "mlflow.db").read_text() == "no database"
    assert not (tmp_path / "nothing.db").exists()
