"""Reading server: whether its timing tells the arm, and what an acknowledgement costs above a bare flush.

Run: ``python benchmarks/study_server.py``. A real server, and readers who read all images in their random
order. Targets: the arms' medians differ no more than those of random groups of readings (permutation test: a
p value that is small again and again tells the arm), and an acknowledgement takes no 10 ms more than a bare
flushed insert.
"""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from scipy.ndimage import gaussian_filter
from timing import machine

from medrestore.data.volumes import SourceGrid, write_volume
from medrestore.study.create import create_study
from medrestore.study.layout import Study
from medrestore.study.server.tokens import read_tokens

SHAPE = (256, 256, 89)
NOISE = {"standard": 0.0, "low_dose": 1.0, "restored": 0.02}
READERS = ("reader_1", "reader_2")
QUESTIONS = {
    "questions": [
        {"name": "positive", "text": "Positive?", "type": "yes_no"},
        {"name": "quality", "text": "Quality", "type": "choice", "options": {1: "bad", 2: "fair", 3: "good"}},
    ],
    "decision": "positive",
    "quality": "quality",
}
SERVE = """
import sys
from pathlib import Path
from medrestore.study.server.serve import serve
serve(sys.argv[1], port=0, page={"/": (Path(sys.argv[2]), "text/html")})
"""
TARGET_MS = 10.0


def make_study(folder: Path, cases: int) -> Study:
    """Write arms as unlike as can be, from perfectly smooth to pure noise, and freeze a study of them."""
    grid = SourceGrid.from_affine(SHAPE, np.diag([1.2, 1.2, 2.8, 1.0]))
    x, y, z = (np.linspace(-1, 1, length, dtype=np.float32) for length in SHAPE)
    inside = x[:, None, None] ** 2 + y[None, :, None] ** 2 + z[None, None, :] ** 2 < 0.5
    head = gaussian_filter(inside.astype(np.float32), 3) * 2
    random = np.random.default_rng(0)
    names = [f"case{number:02}_ses-1" for number in range(cases)]
    for arm, noise in NOISE.items():
        for name in names:
            volume = head + noise * random.standard_normal(SHAPE, dtype=np.float32)
            write_volume(np.maximum(volume, 0), grid, folder / arm / f"{name}.nii")
    truth = pd.DataFrame({"case": names, "truth": [number % 2 for number in range(cases)]})
    truth.to_csv(folder / "truth.csv", index=False)
    plan = {
        **{"title": "Benchmark", "seed": 1, "readers": list(READERS), "questions": QUESTIONS},
        "arms": {arm: arm for arm in NOISE},
        "subjects": {"file": "truth.csv"},
        "truth": {"file": "truth.csv"},
        **{"sessions": len(NOISE), "washout_days": 0, "duplicate_fraction": 0},
        "primary": {"metric": "error_rate", "arm": "restored", "reference": "standard", "margin": 0.05},
    }
    truth.assign(subject=truth["case"]).to_csv(folder / "truth.csv", index=False)
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan), encoding="utf-8")
    return create_study(folder / "plan.yaml", output=folder / "study", progress=False)


def read_all(study: Study, reader: str, port: int, repetitions: int) -> list[dict[str, Any]]:
    """Read all images as a page would; return the seconds of each request with the arm of its image."""
    image_of = study.reading_list.set_index("read_id")["image_id"]
    arm_of = study.key.set_index("image_id")["arm"]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Authorization": f"Bearer {read_tokens(study)[reader]}", "Content-Type": "application/json"}

    def ask(method: str, path: str, body: bytes | None = None) -> tuple[float, bytes]:
        begun = time.perf_counter()
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        content = response.read()
        seconds = time.perf_counter() - begun
        assert response.status in (200, 201), content
        return seconds, content

    state = json.loads(ask("GET", "/api/state")[1])
    times: list[dict[str, Any]] = []
    random = np.random.default_rng(0)
    while state["next"] is not None:
        reading, progress = state["next"], state["progress"]
        arm = arm_of[image_of[reading["read_id"]]]
        common = {"arm": arm, "reading": reading["read_id"]}
        for _ in range(repetitions):
            times.append({**common, "what": "state", "seconds": ask("GET", "/api/state")[0]})
        if progress["session_done"] + 1 == progress["session_total"]:
            # The whole session is visible now: its images are asked for in turns.
            seen = [item["read_id"] for item in (*state["earlier"], reading)]
            for _ in range(repetitions):
                for read_id in random.permutation(seen):
                    seconds = ask("GET", f"/api/images/{read_id}")[0]
                    arm = arm_of[image_of[read_id]]
                    times.append({"arm": arm, "reading": read_id, "what": "image", "seconds": seconds})
        entry = {"answer_id": str(uuid.uuid4()), "read_id": reading["read_id"], "seconds": 10.0}
        answers = {"answers": {"positive": True, "quality": 2}, "image_sha256": None, "reason": None}
        seconds, content = ask("POST", "/api/answers", json.dumps({**entry, **answers}).encode())
        times.append({**common, "what": "answer", "seconds": seconds})
        state = json.loads(content)["state"]
    connection.close()
    return times


def bare_insert_s(folder: Path, repetitions: int) -> float:
    """Return the median time of one flushed insert of as many bytes into a table without anything else."""
    connection = sqlite3.connect(folder / "bare.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE reads (row INTEGER PRIMARY KEY, content TEXT)")
    seconds = []
    for _ in range(repetitions):
        begun = time.perf_counter()
        connection.execute("INSERT INTO reads (content) VALUES (?)", ("x" * 700,))
        seconds.append(time.perf_counter() - begun)
    connection.close()
    return statistics.median(seconds)


def spread(groups: dict[str, list[float]]) -> float:
    """Return the ratio of the greatest to the least median."""
    medians = [statistics.median(values) for values in groups.values()]
    return max(medians) / min(medians)


def shuffled_p(times: pd.DataFrame, permutations: int = 999) -> float:
    """Return how often random groups of the same sizes differ at least as much as the arms do."""
    groups = {str(arm): list(part) for arm, part in times.groupby("arm")["seconds"]}
    found = spread(groups)
    random = np.random.default_rng(0)
    arms, seconds = times["arm"].to_numpy(), times["seconds"].to_numpy()
    as_far = 1
    for _ in range(permutations):
        order: dict[str, list[float]] = defaultdict(list)
        for arm, value in zip(random.permutation(arms), seconds, strict=True):
            order[arm].append(value)
        as_far += spread(order) >= found
    return as_far / (permutations + 1)


def main() -> None:
    """Make a study, read it, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--repetitions", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = make_study(folder, options.cases)
        (folder / "index.html").write_text("page", encoding="utf-8")
        begun = time.perf_counter()
        server = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", SERVE, str(study.folder), str(folder / "index.html")],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert server.stdout is not None
        lines = []
        while "ready\n" not in lines:
            lines.append(server.stdout.readline())
        started = time.perf_counter() - begun
        port = int(lines[2].rpartition(":")[2].partition("/")[0])
        times = pd.DataFrame(
            [row for reader in READERS for row in read_all(study, reader, port, options.repetitions)]
        )
        server.send_signal(signal.SIGINT)
        server.wait()
        floor_ms = bare_insert_s(folder, 200) * 1e3
    print(machine(1))
    print(f"server ready after {started:.2f} s")
    # One number a reading, its least disturbed: others on the machine only ever add time.
    readings = times.groupby(["what", "arm", "reading"])["seconds"].min().reset_index()
    for what, part in readings.groupby("what"):
        groups = {str(arm): list(group) for arm, group in part.groupby("arm")["seconds"]}
        medians = ", ".join(f"{arm} {statistics.median(values) * 1e3:.2f}" for arm, values in groups.items())
        print(f"{what}: median ms {medians}; ratio {spread(groups):.3f}, p = {shuffled_p(part):.2f}")
    answer_ms = times.loc[times["what"] == "answer", "seconds"].median() * 1e3
    met = "met" if answer_ms < floor_ms + TARGET_MS else "missed"
    print(f"acknowledgement {answer_ms:.2f} ms, bare flushed insert {floor_ms:.2f} ms: target {met}")


if __name__ == "__main__":
    main()
