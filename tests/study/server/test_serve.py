"""The reading server: what a reader gets and what becomes of an answer, over real connections."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from medrestore.checks import InputError
from medrestore.study.layout import Study
from medrestore.study.record.store import ReadStore
from medrestore.study.record.verification import verify_study
from medrestore.study.server.serve import make_app, serve

SERVE = """
import sys
from pathlib import Path
from medrestore.study.server.serve import serve
page = {"/": (Path(sys.argv[2]), "text/html")}
serve(sys.argv[1], port=int(sys.argv[3]), page=page)
"""


class Clock:
    """A clock that tests can turn."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def order(study: Study, reader: str = "reader_1") -> list[str]:
    table = study.reading_list
    return list(table.loc[table["reader"] == reader, "read_id"])


def test_state_says_what_the_page_needs(study, serve_study):
    server = serve_study(study)
    first, second, *_ = order(study)
    assert server.state() == {
        "study_id": study.design["study_id"],
        "version": "0.1.0",
        "plan_sha256": study.plan_sha256,
        "reader": "reader_1",
        "protocol": study.protocol.as_dict(),
        "phase": "reading",
        "message": "Session 1 of 4.",
        "opens_at": None,
        "session": {"number": 1, "of": 4},
        "progress": {"done": 0, "total": 13, "session_done": 0, "session_total": 4},
        "next": {"read_id": first, "phase": "reading", "image": f"/api/images/{first}"},
        "after": {"read_id": second, "image": f"/api/images/{second}"},
        "earlier": [],
    }


def test_an_image_comes_as_it_was_frozen(study, serve_study):
    server = serve_study(study)
    row = study.reading_list.iloc[0]
    reply = server.ask("GET", f"/api/images/{row['read_id']}")
    assert reply.status == 200
    assert dict(reply.headers)["content-type"] == "application/octet-stream"
    assert reply.body == study.image_path(row["image_id"]).read_bytes()
    assert len(reply.body) == 352 + 12 * 12 * 6 * 2  # header of a NIfTI-1 file, and 16-bit voxels


def test_the_page_is_served_without_a_token(study, serve_study):
    server = serve_study(study)
    reply = server.ask("GET", "/", reader=None)
    assert (reply.status, reply.body) == (200, b"stub index.html")
    assert dict(reply.headers)["content-type"].startswith("text/html")
    assert server.ask("GET", "/page.js", reader=None).body == b"stub page.js"


def test_an_answer_is_acknowledged_with_its_row(study, serve_study):
    server = serve_study(study)
    first, second, third, *_ = order(study)
    answer_id = str(uuid.uuid4())
    reply = server.answer(first, answer_id=answer_id)
    rows = server.store.rows()
    assert reply.status == 201
    assert {key: reply.json[key] for key in ("answer_id", "row", "hash", "feedback")} == {
        "answer_id": answer_id,
        "row": 1,
        "hash": rows["hash"].iloc[0],
        "feedback": None,
    }
    state = reply.json["state"]
    assert state == server.state()
    assert (state["next"]["read_id"], state["after"]["read_id"]) == (second, third)
    assert state["progress"] == {"done": 1, "total": 13, "session_done": 1, "session_total": 4}
    assert [item["read_id"] for item in state["earlier"]] == [first]
    assert state["earlier"][0]["answers"]["load"] == 2
    row = rows.iloc[0]
    assert (row["origin"], row["seconds"], row["reader"]) == ("page", 3.25, "reader_1")


def test_the_same_answer_again_is_acknowledged_again_and_no_new_row(study, serve_study):
    server = serve_study(study)
    first = order(study)[0]
    answer_id = str(uuid.uuid4())
    one = server.answer(first, answer_id=answer_id)
    # Also later, when another reading is due.
    assert server.answer_next().status == 201
    two = server.answer(first, answer_id=answer_id)
    assert (one.status, two.status) == (201, 200)
    assert (one.json["row"], one.json["hash"]) == (two.json["row"], two.json["hash"])
    assert two.json["state"] == server.state()
    assert len(server.store.rows()) == 2
    other = server.answer(first, answer_id=answer_id, seconds=4)
    assert other.status == 409
    assert len(server.store.rows()) == 2


def test_a_correction_is_a_new_row_with_a_reason(study, serve_study, good_answers):
    server = serve_study(study)
    first = order(study)[0]
    server.answer_next()
    changed = {**good_answers, "quality": 1}
    refused = server.answer(first, answers=changed)
    assert refused.status == 409
    assert "reason" in refused.json["detail"]
    taken = server.answer(first, answers=changed, reason="pressed the wrong key")
    assert taken.status == 201
    assert taken.json["state"]["earlier"][0]["answers"]["quality"] == 1
    assert list(server.store.rows()["read_id"]) == [first, first]
    # The image of a read that may be corrected can be looked at again.
    assert server.ask("GET", f"/api/images/{first}").status == 200


def test_what_is_not_the_readers_turn_is_refused(study, serve_study):
    server = serve_study(study)
    first, second, third, *_ = order(study)
    assert server.answer(second).status == 409
    assert server.answer(order(study)[-1]).status == 409
    assert server.ask("GET", f"/api/images/{third}").status == 404
    assert server.ask("GET", f"/api/images/{second}").status == 200  # is loaded ahead
    assert server.answer(first, image_sha256="0" * 64).status == 409
    assert server.store.rows().empty
    row = study.reading_list.iloc[0]
    shown = hashlib.sha256(study.image_path(row["image_id"]).read_bytes()).hexdigest()
    assert server.answer(first, image_sha256=shown).status == 201
    assert server.store.rows()["image_sha256"].iloc[0] == shown


def test_training_tells_the_truth_and_the_qualification_opens_the_study(
    make_study, tmp_path, serve_study, good_answers
):
    study = make_study(tmp_path / "study", training=1, qualification=2, pass_mark=1.0)
    server = serve_study(study)
    truth = study.truth
    case_of = study.reading_list.merge(study.key, on="image_id").set_index("read_id")["case"]
    state = server.state()
    assert state["phase"] == state["next"]["phase"] == "training"
    read_id = state["next"]["read_id"]
    reply = server.answer(read_id, answers={**good_answers, "positive": False})
    wanted = truth[case_of[read_id]]
    assert reply.json["feedback"] == {"truth": wanted, "correct": wanted == 0}
    assert server.answer(read_id, reason="now I know").status == 409
    for attempt in (1, 2):
        for _ in range(2):
            state = server.state()
            assert state["phase"] == "qualification"
            assert f"attempt {attempt} of 2" in state["message"]
            positive = bool(truth[case_of[state["next"]["read_id"]]])
            # The first attempt is all wrong, the second all right.
            given = {**good_answers, "positive": positive if attempt == 2 else not positive}
            reply = server.answer(state["next"]["read_id"], answers=given)
            assert reply.json["feedback"] is None
    assert reply.json["state"]["phase"] == "reading"
    assert list(server.store.rows()["phase"]) == ["training"] + ["qualification"] * 4


def test_a_session_opens_after_the_washout(make_study, tmp_path, serve_study):
    study, clock = make_study(tmp_path / "study", washout_days=14), Clock()
    server = serve_study(study, clock=clock)
    for _ in range(4):
        assert server.answer_next().status == 201
    state = server.state()
    assert (state["phase"], state["next"]) == ("washout", None)
    assert state["opens_at"] == "2026-01-15T00:00:00+00:00"
    early = order(study)[4]
    assert server.answer(early).status == 409
    assert server.ask("GET", f"/api/images/{early}").status == 404
    clock.now += timedelta(days=14)
    assert server.answer(early).status == 201


def test_a_damaged_image_stops_the_reading(study, serve_study, caplog):
    server = serve_study(study)
    row = study.reading_list.iloc[0]
    path, read_id = study.image_path(row["image_id"]), row["read_id"]
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"x")
    reply = server.ask("GET", f"/api/images/{read_id}")
    assert reply.status == 409
    assert "damaged" in reply.json["detail"]
    assert "its reading is stopped" in caplog.text
    assert server.answer(read_id).status == 409
    path.unlink()
    assert server.ask("GET", f"/api/images/{read_id}").status == 409
    assert server.store.rows().empty
    # Once the file is restored the study goes on.
    path.write_bytes(whole)
    assert server.ask("GET", f"/api/images/{read_id}").body == whole
    assert server.answer(read_id).status == 201


def test_a_full_disk_is_told_and_the_answer_can_be_sent_again(study, serve_study, good_answers):
    server = serve_study(study)
    connection = server.store._connection
    with server.store.exclusive():
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
    replies = []
    for read_id in order(study):
        given = {"answer_id": str(uuid.uuid4()), "answers": {**good_answers, "remark": "x" * 2000}}
        replies.append((read_id, given, server.answer(read_id, **given)))
        if replies[-1][2].status != 201:
            break
    read_id, given, refused = replies[-1]
    assert refused.status == 503
    assert "Keep this page open" in refused.json["detail"]
    assert len(server.store.rows()) == len(replies) - 1
    with server.store.exclusive():
        connection.execute("PRAGMA max_page_count = 100000")
    assert server.answer(read_id, **given).status == 201
    assert len(server.store.rows()) == len(replies)


def test_a_bug_shows_readers_no_trace(study, serve_study, monkeypatch, capsys):
    server = serve_study(study)

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret place armstandardzz")

    monkeypatch.setattr(ReadStore, "answered", broken)
    reply = server.ask("GET", "/api/state")
    assert (reply.status, reply.body) == (500, b"Internal Server Error")
    assert "content-security-policy" in dict(reply.headers)
    printed, until = "", time.monotonic() + 10
    while "ZeroDivisionError" not in printed:  # the coordinator's console has it, a moment later
        assert time.monotonic() < until
        time.sleep(0.01)
        printed += capsys.readouterr().err


def test_a_model_reader_has_no_way_in(make_study, tmp_path, serve_study):
    study = make_study(tmp_path / "study", readers={"anna": "human", "net": "model"})
    server = serve_study(study)
    assert server.ask("GET", "/api/state", reader="anna").status == 200
    assert server.ask("GET", "/api/state", reader="net").status == 401


def start(study: Study, folder: Path, port: int = 0) -> tuple[subprocess.Popen[str], list[str]]:
    page = folder / "index.html"
    page.write_text("stub", encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(study.folder), str(page), str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if line == "ready\n":
            break
    return process, lines


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_serve_prints_a_link_for_each_human_reader_and_ends_whole(make_study, tmp_path, by):
    study = make_study(tmp_path / "study", readers={"anna": "human", "net": "model", "bela": "human"})
    begun = time.perf_counter()
    process, lines = start(study, tmp_path)
    seconds = time.perf_counter() - begun
    links = [line for line in lines if "http://" in line]
    assert [line.split()[0] for line in links] == ["anna", "bela"]
    found = re.search(r"0 of 13 answered  http://127\.0\.0\.1:(\d+)/#(\S+)$", links[0])
    assert found is not None, lines
    assert study.design["study_id"] in lines[0]
    assert str(study.reads_path) in lines[0]
    with socket.create_connection(("127.0.0.1", int(found[1])), timeout=5) as connection:
        connection.sendall(
            b"GET /api/state HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            b"Authorization: Bearer " + found[2].encode() + b"\r\n\r\n"
        )
        reply = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["reader"] == "anna"
    process.send_signal(by)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    assert out == f"stopped; the last row of the reads has the hash {study.plan_sha256}\n"
    assert not list(study.private.glob("reads.sqlite-*"))  # the log is merged: one file holds all
    assert verify_study(study.folder).problems == ()
    assert seconds < 15  # an import of torch or MLflow alone would take this on a busy machine


def test_the_server_imports_nothing_heavy():
    code = (
        "import sys, medrestore.study.server.serve; "
        "print([name for name in ('torch', 'monai', 'mlflow', 'nibabel', 'scipy', 'matplotlib') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_serve_says_what_is_wrong_and_the_remedy(study, tmp_path, make_stub_page, monkeypatch):
    page = make_stub_page(tmp_path / "page")
    with pytest.raises(InputError, match="port must be in"):
        serve(study.folder, port=70000, page=page)
    with pytest.raises(InputError, match=r"host must not be empty.*127\.0\.0\.1"):
        serve(study.folder, host="", port=0, page=page)
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(InputError, match=r"cannot listen on 127\.0\.0\.1, port \d+: .*Remedy: .*--port"),
    ):
        serve(study.folder, port=taken.getsockname()[1], page=page)
    with ReadStore(study), pytest.raises(InputError, match="another process is writing reads"):
        serve(study.folder, port=0, page=page)
    monkeypatch.setattr("medrestore.study.page.niivue_missing", lambda: "no viewer. Remedy: Node.js, handout")
    with pytest.raises(InputError, match="no viewer"):
        serve(study.folder, port=0)
    study.image_path(study.key["image_id"].iloc[3]).unlink()
    with pytest.raises(InputError, match=r"1 of 12 images are missing.*Remedy: restore"):
        serve(study.folder, port=0, page=page)
    tokens = study.private / "tokens.csv"
    kept = tokens.read_text(encoding="utf-8")
    for content, message in (
        (kept.replace("reader_2", "reader_3"), "no token of 20 characters or more for reader 'reader_2'"),
        ("reader,token\nreader_1,short\nreader_2,short\n", "no token of 20 characters"),
        (f"reader,token\nreader_1,{'x' * 32}\nreader_2,{'x' * 32}\n", "two readers have the same token"),
    ):
        tokens.write_text(content, encoding="utf-8")
        with ReadStore(study) as store, pytest.raises(InputError, match=message):
            make_app(study, store, page=page)
    tokens.unlink()
    with ReadStore(study) as store, pytest.raises(InputError, match=r"tokens\.csv: is missing"):
        make_app(study, store, page=page)


def test_another_address_than_this_machine_is_warned_about(
    study, tmp_path, make_stub_page, monkeypatch, capsys
):
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: None)
    page = make_stub_page(tmp_path / "page")
    serve(study.folder, host="0.0.0.0", port=0, page=page)  # noqa: S104
    printed = capsys.readouterr()
    assert f"http://{socket.gethostname()}:" in printed.out
    assert "links and answers travel unencrypted" in printed.err
    assert "Remedy: serve on 127.0.0.1" in printed.err
    serve(study.folder, host="localhost", port=0, page=page)
    printed = capsys.readouterr()
    assert "http://localhost:" in printed.out
    assert printed.err == ""
