"""No read is lost: the server is killed again and again while eight readers read and correct."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medrestore import rng
from medrestore.study.layout import Study
from medrestore.study.record.store import ReadStore
from medrestore.study.record.verification import verify_study
from medrestore.study.server.tokens import read_tokens

KILLS = int(os.environ.get("MEDRESTORE_TEST_KILLS", "20"))
READERS = 8

SERVE = """
import sys
from pathlib import Path
from medrestore.study.server.serve import serve
serve(sys.argv[1], port=int(sys.argv[2]), page={"/": (Path(sys.argv[3]), "text/html")})
"""


@dataclass
class Reader:
    """A scripted reader: reads what is next, corrects now and then, keeps what is not acknowledged.

    Parameters
    ----------
    name, token, port
        Who reads, and where.
    chance
        Decides on answers and corrections.
    stop
        Set when no new answer is to be begun; one that was begun is still delivered.
    """

    name: str
    token: str
    port: int
    chance: np.random.Generator
    stop: threading.Event
    acknowledged: list[tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=list)
    lost_acknowledgements: int = 0
    attempts: int = 0
    failure: BaseException | None = None
    connection: http.client.HTTPConnection | None = None

    def run(self) -> None:
        """Read until told to stop."""
        try:
            state = json.loads(self.ask("GET", "/api/state")[1])
            while not self.stop.is_set():
                entry = self.choose(state)
                status, content = self.ask("POST", "/api/answers", json.dumps(entry).encode())
                assert status in (200, 201), (status, content)
                receipt = json.loads(content)
                self.lost_acknowledgements += status == 200
                self.acknowledged.append((entry, receipt))
                state = receipt["state"]
        except BaseException as error:  # told by the test
            self.failure = error

    def choose(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return the next answer: to the next reading, or a correction of an earlier one."""
        earlier, following = state["earlier"], state["next"]
        correction = earlier and (following is None or self.chance.random() < 0.2)
        entry: dict[str, Any] = {"answer_id": str(uuid.uuid4()), "image_sha256": None, "reason": None}
        if correction:
            entry["read_id"] = earlier[int(self.chance.integers(len(earlier)))]["read_id"]
            entry["reason"] = "looked again"
        else:
            entry["read_id"] = following["read_id"]
            if self.chance.random() < 0.3:
                status, image = self.ask("GET", following["image"])
                assert status == 200
                entry["image_sha256"] = hashlib.sha256(image).hexdigest()
        entry["seconds"] = round(float(self.chance.uniform(0, 100)), 3)
        entry["answers"] = {
            "frontal": int(self.chance.integers(1, 4)),
            "parietal": int(self.chance.integers(1, 4)),
            "positive": bool(self.chance.random() < 0.5),
            "confidence": int(self.chance.integers(1, 6)),
            "quality": int(self.chance.integers(1, 6)),
            "artifact": False,
            "remark": f"{self.name} {len(self.acknowledged)}",
        }
        return entry

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Send one request again and again, the very same bytes, until the whole response has come."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        while True:
            self.attempts += 1
            try:
                if self.connection is None:
                    self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
                self.connection.request(method, path, body=body, headers=headers)
                response = self.connection.getresponse()
                return response.status, response.read()
            except (OSError, http.client.HTTPException):
                if self.connection is not None:
                    self.connection.close()
                self.connection = None
                time.sleep(0.02)


def start(study: Study, port: int, page: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SERVE, str(study.folder), str(port), str(page)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until_ready(server: subprocess.Popen[str]) -> None:
    assert server.stdout is not None
    assert server.stderr is not None
    for line in server.stdout:
        if line == "ready\n":
            return
    pytest.fail(f"the server did not start: {server.stderr.read()}")


def kill(server: subprocess.Popen[str]) -> None:
    server.send_signal(signal.SIGKILL)
    server.communicate()
    assert server.returncode == -signal.SIGKILL


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.parametrize("kills", [3, pytest.param(KILLS, marks=pytest.mark.slow)])
def test_every_acknowledged_read_is_there_once_after_kills(make_study, tmp_path, kills):
    names = [f"reader_{number}" for number in range(READERS)]
    study = make_study(tmp_path / "study", cases=60, readers=names, duplicates=0, seed=kills)
    page = tmp_path / "index.html"
    page.write_text("page", encoding="utf-8")
    tokens, port, stop = read_tokens(study), free_port(), threading.Event()
    readers = [
        Reader(name, tokens[name], port, rng.generator(kills, "scripted reader", name), stop)
        for name in names
    ]
    threads = [threading.Thread(target=reader.run) for reader in readers]
    moment = rng.generator(kills, "moments")
    for thread in threads:
        thread.start()
    rows_at_kills = []
    try:
        for _ in range(kills):
            server = start(study, port, page)
            if moment.random() < 0.2:
                time.sleep(moment.uniform(0, 1.2))  # maybe while it starts
            else:
                wait_until_ready(server)
                time.sleep(moment.uniform(0.02, 0.8))
            kill(server)
            rows_at_kills.append(sum(len(reader.acknowledged) for reader in readers))
        server = start(study, port, page)
        wait_until_ready(server)
        time.sleep(0.5)
        stop.set()
        for thread in threads:
            thread.join(timeout=60)
        assert not any(thread.is_alive() for thread in threads)
        server.terminate()
        server.communicate(timeout=30)
    finally:
        stop.set()
        if server.poll() is None:
            server.kill()
            server.communicate()
    assert [reader.failure for reader in readers] == [None] * READERS
    for reader in readers:
        assert reader.connection is not None
        reader.connection.close()

    receipts = [(entry, receipt) for reader in readers for entry, receipt in reader.acknowledged]
    with ReadStore(study, read_only=True) as store:
        rows = store.rows()  # checks the chain
    # Each answer that a reader began was acknowledged in the end; no row is there that nobody sent.
    assert sorted(rows["answer_id"]) == sorted(entry["answer_id"] for entry, _ in receipts)
    stored = rows.set_index("answer_id").to_dict("index")
    for entry, receipt in receipts:
        row = stored[entry["answer_id"]]
        assert (row["row"], row["hash"]) == (receipt["row"], receipt["hash"])
        assert {key: row["answers"][key] for key in entry["answers"]} == entry["answers"]
        assert (row["read_id"], row["seconds"]) == (entry["read_id"], entry["seconds"])
        assert (row["reason"] if isinstance(row["reason"], str) else None) == entry["reason"]
    for reader in readers:
        numbers = [receipt["row"] for _, receipt in reader.acknowledged]
        assert numbers == sorted(numbers)
    heads = [receipt["hash"] for _, receipt in receipts]
    for head in (heads[0], heads[len(heads) // 2], heads[-1]):
        assert verify_study(study.folder, head=head).problems == ()
    # The kills did hit servers at work.
    assert len(set(rows_at_kills)) > kills / 2
    assert sum(reader.attempts for reader in readers) > len(receipts)
    lost = sum(reader.lost_acknowledgements for reader in readers)
    if kills >= 20:
        assert lost > 0  # and some fell between the row and its acknowledgement
    print(f"{kills} kills: {len(receipts)} reads acknowledged, {lost} of them after a lost acknowledgement")
