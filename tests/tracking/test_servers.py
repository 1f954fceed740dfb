"""Servers that are gone, hang or answer with errors: told within seconds, by name, and the work goes on."""

from __future__ import annotations

import http.server
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ignite.engine import Engine

from medrestore.checks import InputError
from medrestore.tracking.compare import compare
from medrestore.tracking.outbox import Outbox
from medrestore.tracking.parents import open_parent_run
from medrestore.tracking.runs import MLflowRun
from medrestore.tracking.store import (
    RecordingError,
    default_tracking_uri,
    experiment_id,
    open_client,
    reason_of,
)
from medrestore.tracking.sync import sync_run, sync_runs

LONGEST_SECONDS = 60.0
"""Within which the start of a run tells: one answer is waited for, 2 s here; a loaded machine is slow, and
MLflow's own patience is minutes."""


@pytest.fixture
def gone() -> str:
    """An address at which nobody listens, with a password in it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return f"http://me:secret@127.0.0.1:{port}"


@pytest.fixture
def hanging() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield f"http://me:secret@127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def broken() -> Iterator[str]:
    """A server that is overloaded, and asks to come back in an hour."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.send_response(503)
            self.send_header("Retry-After", "3600")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://me:secret@127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("gone", "connection refused"), ("hanging", "no answer in time"), ("broken", "error 503")],
)
def test_a_server_that_gives_no_answer_is_named_within_seconds(kind, reason, request, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    uri = request.getfixturevalue(kind)
    calls: list[Callable[[], object]] = [
        MLflowRun("none", "run", output_dir=tmp_path / "run", tracking_uri=uri).start,
        lambda: compare("none", tracking_uri=uri),
        open_parent_run(
            tmp_path, experiment="none", run_name="study", kind="study", tracking_uri=uri, parameters={}
        ).__enter__,
    ]
    for call in calls:
        began = time.monotonic()
        with pytest.raises(RecordingError) as caught:
            call()
        assert time.monotonic() - began < LONGEST_SECONDS
        message = str(caught.value)
        assert message.startswith(f"tracking_uri '{uri.replace('me:secret@', '')}': MLflow took no record")
        assert reason in message
        assert "Remedy: start the server" in message
        assert "secret" not in message
        assert "\n" not in message


@pytest.mark.parametrize(
    "uri", ["sqlite:////proc/nowhere/mlflow.db", "postgresql://me:secret@127.0.0.1:1/runs"]
)
def test_a_database_that_cannot_be_opened_is_named_within_seconds(uri, tmp_path):
    began = time.monotonic()
    with pytest.raises(RecordingError, match="MLflow cannot open this store") as caught:
        MLflowRun("none", "run", output_dir=tmp_path, tracking_uri=uri).start()
    assert time.monotonic() - began < LONGEST_SECONDS
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_artifacts_that_cannot_be_written_are_an_error_at_the_start(tmp_path):
    uri = default_tracking_uri(tmp_path)
    client = open_client(uri)
    (tmp_path / "file").touch()  # no folder can be made below a file, whoever asks
    client.create_experiment("blocked", artifact_location=(tmp_path / "file" / "artifacts").as_uri())
    run = MLflowRun("blocked", "run", output_dir=tmp_path / "run", tracking_uri=uri)
    with pytest.raises(RecordingError, match=r"MLflow took no record \(.*file/artifacts"):
        run.start()
    assert client.get_run(run.run_id).info.status == "FAILED"


def test_a_locked_database_is_waited_for_beside_the_training(tmp_path, monkeypatch, caplog):
    import sqlite3
    from contextlib import closing

    monkeypatch.setattr("medrestore.tracking.sender.SHORT_END_SECONDS", 0.5)
    run = MLflowRun("locked", "run", output_dir=tmp_path)
    run.start()
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        run.log({"loss": 1.0}, step=1)
        run.finish("KILLED")  # SQLite itself would wait longer
        other.rollback()
    assert "MLflow has not taken 2 records" in caplog.text
    assert sync_run(tmp_path) == 2
    client = open_client(default_tracking_uri(tmp_path))
    assert client.get_run(run.run_id).info.status == "KILLED"
    assert len(client.get_metric_history(run.run_id, "loss")) == 1


def test_several_folders_are_synced_and_the_bad_ones_named(tmp_path, tracking_uri):
    run = MLflowRun("several", "run", output_dir=tmp_path / "good", tracking_uri=tracking_uri)
    run.start()
    run.finish()
    (tmp_path / "other").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "mlflow_run.json").write_text("{}")
    shutil.copytree(tmp_path / "good", tmp_path / "lost")
    (tmp_path / "lost" / "mlflow_unsent").mkdir()
    (tmp_path / "lost" / "mlflow_run.json").write_text(
        f'{{"run_id": "{"0" * 32}", "tracking_uri": "{tracking_uri}"}}'
    )
    names = ("good", "other", "missing", "damaged", "lost")
    done = []
    with pytest.raises(InputError) as caught:
        done += sync_runs([tmp_path / name for name in names])
    text = str(caught.value)
    assert text.startswith("4 of 5 runs could not be completed in MLflow, the others were:")
    assert "other: no run of MLflow was recorded here" in text
    assert "missing: there is no such folder" in text
    assert "damaged/mlflow_run.json: names no run of MLflow" in text
    assert f"is of run {'0' * 32}, which {tracking_uri} does not hold" in text


def test_a_run_that_was_deleted_is_completed_once_it_is_restored(tmp_path, tracking_uri):
    run = MLflowRun("run deleted", "run", output_dir=tmp_path, tracking_uri=tracking_uri)
    run.start()
    run.finish()
    outbox = Outbox(tmp_path)
    outbox.add_tags({"late": "yes"})
    client = open_client(tracking_uri)
    client.delete_run(run.run_id)
    with pytest.raises(InputError, match=r"somebody deleted. Remedy: restore it in MLflow; or remove"):
        sync_run(tmp_path)
    client.restore_run(run.run_id)
    assert sync_run(tmp_path) == 1
    assert client.get_run(run.run_id).data.tags["late"] == "yes"


def test_what_was_refused_is_told_when_it_is_sent_again(tmp_path, tracking_uri):
    run = MLflowRun("refused", "run", output_dir=tmp_path, tracking_uri=tracking_uri)
    run.start()
    run.finish()
    (tmp_path / "mlflow_unsent").mkdir()
    (tmp_path / "mlflow_unsent" / "refused.jsonl").write_text("half a rec\n")
    with pytest.raises(
        InputError, match=r"refused.jsonl: holds what MLflow refused. Remedy: .*; or remove the"
    ):
        list(sync_runs([tmp_path]))
    (tmp_path / "mlflow_unsent" / "refused.jsonl").unlink()
    assert list(sync_runs([tmp_path])) == [(tmp_path, 0)]


@pytest.mark.parametrize(
    ("uri", "fault"),
    [
        ("", "is empty"),
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:///~/mlflow.db", "holds a ~"),
        ("sqlite:///what?/mlflow.db", r"holds a '\?'"),
    ],
)
def test_a_store_elsewhere_than_its_address_reads_is_refused(uri, fault, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for call in (lambda: open_client(uri), lambda: compare("none", tracking_uri=uri)):
        with pytest.raises(InputError, match=f"^tracking_uri '.*': {fault}.*Remedy: "):
            call()
    assert not list(tmp_path.iterdir())


def test_a_store_in_a_relative_folder_is_found_from_elsewhere(tmp_path, monkeypatch):
    from medrestore.tracking.recording import named_run, remember_run

    monkeypatch.chdir(tmp_path)
    place = tmp_path / "run" / "mlflow_run.json"
    place.parent.mkdir()
    remember_run(place, "a", experiment="e", tracking_uri="sqlite:///db/mlflow.db?timeout=30")
    monkeypatch.chdir("/")
    assert named_run(place) == ("a", default_tracking_uri(tmp_path / "db"))


def test_names_that_no_experiment_can_have_are_refused(tracking_uri):
    client = open_client(tracking_uri)
    with pytest.raises(InputError, match=r"takes no such name .* Remedy: use another experiment name"):
        experiment_id(client, "x" * 600, tracking_uri)
    with pytest.raises(InputError, match="experiment has no name"):
        experiment_id(client, "", tracking_uri)


def test_the_cause_of_a_failed_connection_is_told():
    error = OSError(
        "API request to https://h/api failed with exception HTTPSConnectionPool(host='h', port=1): "
        "Max retries exceeded with url: /api (Caused by SSLError(SSLError(1, '[SSL] wrong version number')))"
    )
    assert reason_of(error) == "[SSL] wrong version number"


@pytest.mark.parametrize("content", [None, "", '{"run_id": null, "tracking_uri": null}'])
def test_records_of_a_run_that_is_no_longer_named_can_be_done_without(content, tmp_path):
    Outbox(tmp_path).add_tags({"late": "yes"})
    if content is not None:
        (tmp_path / "mlflow_run.json").write_text(content)
    with pytest.raises(InputError, match=r"mlflow_run.json: .*; or remove .*mlflow_unsent and do without"):
        sync_run(tmp_path)
    shutil.rmtree(tmp_path / "mlflow_unsent")
    MLflowRun("none", "run", output_dir=tmp_path)._found_finished(Engine(lambda *_: None))
