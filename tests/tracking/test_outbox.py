"""Records wait in order, each is sent once, and nothing is lost by a kill."""

from __future__ import annotations

import errno
import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medrestore.checks import InputError
from medrestore.tracking.outbox import UNSENT, Outbox


class Store:
    """A client that notes what it gets, and fails where it is told to."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.errors: list[Exception] = []
        self.stage = "active"

    def _take(self, *what: Any) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.got.append(what)

    def log_batch(self, _: str, *, params: Any, tags: Any, metrics: Any) -> None:
        del params
        self._take([(m.key, m.step) for m in metrics] or [tag.key for tag in tags])

    def log_artifact(self, _: str, path: str, inside: str | None) -> None:
        self._take(Path(path).name, inside)

    def get_run(self, _: str) -> Any:
        return SimpleNamespace(info=SimpleNamespace(lifecycle_stage=self.stage))

    def set_terminated(self, _: str, *, status: str, end_time: int) -> None:
        self._take(status, end_time)


def error(code: str, message: str = "no") -> Exception:
    from mlflow.exceptions import RestException

    return RestException({"error_code": code, "message": message})


def filled(folder: Path) -> Outbox:
    outbox = Outbox(folder)
    outbox.add_points([("loss", 1.0, 5, 1)])
    outbox.add_points([("loss", float("nan"), 5, 2), ("psnr", 20.0, 5, 2)])
    outbox.add_tags({"failure": "none"})
    path = outbox.spool("panels/epoch_0001.png")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"picture")
    outbox.add_file(path, "panels")
    outbox.add_points([("loss", 0.5, 6, 3)])
    outbox.add_end("FINISHED", 7)
    return outbox


SENT = [
    ([("loss", 1), ("loss", 2), ("psnr", 2)],),
    (["failure"],),
    ("epoch_0001.png", "panels"),
    ([("loss", 3)],),
    ("FINISHED", 7),
]


def test_records_are_sent_in_order_points_together_and_the_folder_is_gone(tmp_path):
    outbox, store = filled(tmp_path), Store()
    assert len(outbox) == 6
    assert outbox.send(store, "run") == 6
    assert store.got == SENT
    assert len(outbox) == 0
    assert outbox.send(store, "run") == 0
    assert outbox.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sent", range(len(SENT)))
def test_a_store_that_fails_at_any_place_gets_every_record_once(tmp_path, sent):
    store = Store()
    outbox = filled(tmp_path)

    def take(*what: Any) -> None:
        if len(store.got) == sent:
            raise OSError("connection refused")
        store.got.append(what)

    store._take = take  # type: ignore[method-assign]
    with pytest.raises(OSError, match="refused"):
        outbox.send(store, "run")
    assert not outbox.close()
    del store._take
    Outbox(tmp_path).send(store, "run")  # another process, later
    assert store.got == SENT


def test_half_a_line_of_a_killed_process_is_cut_off(tmp_path):
    outbox, store = filled(tmp_path), Store()
    entries = tmp_path / UNSENT / "entries.jsonl"
    whole = entries.read_bytes()
    entries.write_bytes(whole + b'{"points": [["lo')
    assert len(Outbox(tmp_path)) == len(outbox)
    second = Outbox(tmp_path)
    second.add_tags({"resumed": "yes"})
    second.send(store, "run")
    assert store.got == [*SENT, (["resumed"],)]


def test_a_run_folder_that_was_moved_sends_its_files(tmp_path):
    filled(tmp_path / "scratch")
    (tmp_path / "scratch").rename(tmp_path / "project")
    store = Store()
    Outbox(tmp_path / "project").send(store, "run")
    assert store.got == SENT


def test_what_a_store_will_never_take_is_put_aside(tmp_path, caplog):
    outbox, store = Outbox(tmp_path), Store()
    for step in (1, 2, 3):
        outbox.add_points([("loss", 1.0, 5, step)])
    outbox.add_end("FINISHED", 7)
    # All together, then the first by itself.
    store.errors = [error("INVALID_PARAMETER_VALUE"), error("INVALID_PARAMETER_VALUE", "too long")]
    with caplog.at_level(logging.WARNING, logger="medrestore.tracking"):
        outbox.send(store, "run")
    assert store.got == [([("loss", 2)],), ([("loss", 3)],), ("FINISHED", 7)]
    assert "MLflow refused a record, which is kept in" in caplog.text
    assert "too long" in caplog.text
    assert outbox.close()
    (refused,) = (tmp_path / UNSENT).iterdir()
    assert json.loads(refused.read_text()) == {"points": [["loss", 1.0, 5, 1]]}


@pytest.mark.parametrize(
    "code",
    [
        "INTERNAL_ERROR",
        "TEMPORARILY_UNAVAILABLE",
        "PERMISSION_DENIED",
        "UNAUTHENTICATED",
        "RESOURCE_DOES_NOT_EXIST",
    ],
)
def test_what_may_be_taken_later_is_not_put_aside(tmp_path, code):
    from mlflow.exceptions import RestException

    outbox, store = Outbox(tmp_path), Store()
    outbox.add_points([("loss", 1.0, 5, 1)])
    store.errors = [error(code)]
    with pytest.raises(RestException):
        outbox.send(store, "run")
    assert len(outbox) == 1


def test_weights_that_a_proxy_finds_too_large_do_not_hold_up_the_end(tmp_path):
    import requests

    answer = requests.Response()
    answer.status_code = 413
    outbox, store = Outbox(tmp_path), Store()
    (tmp_path / "model.pt").write_bytes(b"weights")
    outbox.add_file(tmp_path / "model.pt", "model")
    outbox.add_end("FINISHED", 7)
    store.errors = [requests.HTTPError("413 Request Entity Too Large", response=answer)]
    outbox.send(store, "run")
    assert store.got == [("FINISHED", 7)]


def test_a_full_disk_holds_records_until_there_is_room(tmp_path, monkeypatch):
    outbox, store = Outbox(tmp_path), Store()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left")))
        outbox.add_points([("loss", 1.0, 5, 1)])
    outbox.add_points([("loss", 2.0, 5, 2)])
    assert len(outbox) == 2
    outbox.send(store, "run")
    assert store.got == [([("loss", 1), ("loss", 2)],)]


def test_long_runs_are_sent_in_batches(tmp_path):
    outbox, store = Outbox(tmp_path), Store()
    for step in range(1000):
        outbox.add_points([("a", 1.0, 5, step), ("b", 1.0, 5, step)])
    outbox.send(store, "run")
    sizes = [len(batch) for (batch,) in store.got]
    assert max(sizes) <= 800
    assert sum(sizes) == 2000
    assert [step for (batch,) in store.got for name, step in batch if name == "a"] == list(range(1000))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"garbage",
        b"\0" * 300,
        b"\xff\xfe",
        b"[1, 2]",
        b'{"x": 1}',
        b'{"points": [["loss", "high"]]}',
        b'{"tags": {"a": 1}}',
        b'{"end": "GONE", "time": 7}',
    ],
)
def test_a_damaged_line_is_put_aside_and_the_others_are_sent(tmp_path, line):
    filled(tmp_path)
    entries = tmp_path / UNSENT / "entries.jsonl"
    entries.write_bytes(line + b"\n" + entries.read_bytes())
    outbox, store = Outbox(tmp_path), Store()
    assert outbox.send(store, "run") == 6
    assert store.got == SENT
    assert outbox.close()
    (refused,) = (path for path in (tmp_path / UNSENT).iterdir() if path.is_file())
    assert refused.read_text(encoding="utf-8") == line.decode(errors="replace") + "\n"


@pytest.mark.parametrize("sent", ["", "half", "-5", "13", "99999999"])
def test_a_damaged_position_sends_all_again(tmp_path, sent):
    filled(tmp_path)
    (tmp_path / UNSENT / "sent").write_text(sent)
    outbox, store = Outbox(tmp_path), Store()
    assert outbox.send(store, "run") == 6
    assert store.got == SENT


def test_a_run_that_was_deleted_keeps_its_records(tmp_path):
    from mlflow.exceptions import MlflowException

    outbox, store = filled(tmp_path), Store()
    store.stage = "deleted"
    store.errors = [error("INVALID_PARAMETER_VALUE", "must be in the 'active' state")]
    with pytest.raises(MlflowException, match="active"):
        outbox.send(store, "run")
    assert not outbox.close()
    store.stage = "active"  # restored
    assert Outbox(tmp_path).send(store, "run") == 6
    assert store.got == SENT


def test_a_panel_that_was_refused_is_kept_and_can_be_sent_again(tmp_path):
    outbox, store = filled(tmp_path), Store()
    take = store.log_artifact
    store.log_artifact = lambda *_: store._take(store.errors.append(error("INVALID_PARAMETER_VALUE")))  # type: ignore[method-assign]
    assert outbox.send(store, "run") == 5
    assert outbox.close()
    store.log_artifact = take  # type: ignore[method-assign]
    later = Outbox(tmp_path)
    later.take_back()
    store.got.clear()
    assert later.send(store, "run") == 1
    assert store.got == [SENT[2]]
    assert later.close()
    assert not list(tmp_path.iterdir())


def test_what_could_be_kept_nowhere_is_told(tmp_path):
    (tmp_path / UNSENT).touch()
    outbox = Outbox(tmp_path)
    outbox.add_tags({"a": "b"})
    assert outbox.lost().startswith("1 record could not be kept ([Errno 17]")
    assert not outbox.close()


def test_a_folder_that_cannot_be_written_is_not_the_stores_fault(tmp_path, monkeypatch):
    outbox = filled(tmp_path)

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", "sent")

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(InputError, match=r"mlflow_unsent/sent: cannot be written \(Read-only .* Remedy: "):
        outbox.send(Store(), "run")
