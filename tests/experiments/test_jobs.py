from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from medrestore.checks import InputError
from medrestore.experiments.jobs import Job, cores_per_job, run_jobs

CHILD = """
import json, os, signal, sys, time
from pathlib import Path

task = json.loads(Path(sys.argv[1]).read_text())
began = time.time()
print("bar 1\\rbar 2\\rworking on", task["name"], os.environ["OMP_NUM_THREADS"])
time.sleep(task.get("seconds", 0))
if task.get("signal"):
    os.kill(os.getpid(), task["signal"])
if task.get("fail"):
    sys.exit("no such tile")
if task.get("product"):
    Path(task["product"]).write_text(json.dumps([began, time.time()]))
"""


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a module that a child process can run: it says what it does and writes its product."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "made_up_child.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    return "made_up_child"


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., Job]:
    def make(name: str, *needs: str, kind: str = "kind", **task: object) -> Job:
        product = tmp_path / name
        return Job(name, kind, {"name": name, "product": str(product), **task}, (product,), needs)

    return make


def span(path: Path) -> tuple[float, float]:
    began, ended = json.loads(path.read_text())
    return began, ended


def test_jobs_run_in_order_side_by_side_and_once(tmp_path, child, make_job):
    jobs = [make_job("a", seconds=1), make_job("b", "a"), make_job("c", seconds=1), make_job("d", "b", "c")]

    ran = run_jobs(jobs, folder=tmp_path / "jobs", parallel=2, child=child, progress=False)

    assert sorted(ran) == ["a", "b", "c", "d"]
    a, b, c, d = (span(tmp_path / name) for name in "abcd")
    assert b[0] > a[1]
    assert d[0] > max(b[1], c[1])
    assert c[0] < a[1], "a and c need nothing of each other: they run side by side"
    log = (tmp_path / "jobs" / "a.log").read_text()
    assert f"working on a {cores_per_job(2)}" in log

    assert run_jobs(jobs, folder=tmp_path / "jobs", child=child, progress=False) == []
    (tmp_path / "b").unlink()
    assert run_jobs(jobs, folder=tmp_path / "jobs", child=child, progress=False) == ["b"]


def test_failed_jobs_are_named_with_the_end_of_their_log(tmp_path, child, make_job):
    jobs = [
        make_job("good"),
        make_job("bad", fail=True),
        make_job("killed", signal=int(signal.SIGKILL)),
        make_job("empty", product=""),
        make_job("follows", "bad"),
        make_job("free"),
    ]
    with pytest.raises(InputError, match="3 of 6 jobs failed, 4 are left") as failure:
        run_jobs(jobs, folder=tmp_path / "jobs", child=child, progress=False)

    said = str(failure.value)
    assert "bad: ended with code 1" in said
    assert "    no such tile" in said
    assert "    bar 2" in said, "a bar's states are lines of their own"
    assert "killed: was ended by signal SIGKILL" in said
    assert "empty: left no empty" in said
    assert "follows" not in said
    assert (tmp_path / "free").exists(), "one that needs no failed job goes on"
    assert not (tmp_path / "follows").exists()


def test_the_first_failure_of_a_kind_stops_the_study(tmp_path, child, make_job):
    jobs = [make_job("encoder", kind="autoencoder"), make_job("bad", kind="sqe", fail=True), make_job("next")]
    with pytest.raises(InputError, match="1 of 3 jobs failed, 2 are left"):
        run_jobs(jobs, folder=tmp_path / "jobs", child=child, progress=False)
    assert not (tmp_path / "next").exists()

    # A kind that ended well in an earlier call is known to work.
    mended = [jobs[0], make_job("first", kind="sqe"), jobs[2]]
    run_jobs(mended, folder=tmp_path / "jobs", child=child, progress=False)
    later = [*mended, make_job("worse", kind="sqe", fail=True), make_job("last")]
    with pytest.raises(InputError, match="1 of 5 jobs failed, 1 are left"):
        run_jobs(later, folder=tmp_path / "jobs", child=child, progress=False)
    assert (tmp_path / "last").exists()


def test_at_least_one_process_is_needed(tmp_path):
    with pytest.raises(InputError, match=r"jobs must be in \[1, 1024\], got 0"):
        run_jobs([], folder=tmp_path, parallel=0)


def test_cores_are_shared_out():
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert cores_per_job(1) == cores
    assert cores_per_job(1000) == 1


WAITING = """
import os, sys, time
from pathlib import Path
from medrestore.experiments.child import end_with_parent

end_with_parent()
Path(os.environ["PID_FILE"]).write_text(str(os.getpid()))
time.sleep(60)
"""

PARENT = """
import sys
from medrestore.experiments.jobs import Job, run_jobs

run_jobs([Job("waits", "kind", {})], folder=sys.argv[1], child="waiting_child", progress=False)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_children_end_with_the_study(tmp_path, how):
    (tmp_path / "waiting_child.py").write_text(WAITING)
    pid_file = tmp_path / "pid"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PID_FILE": str(pid_file)}
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "jobs")], env=environment, stderr=subprocess.DEVNULL
    )
    wait_for(pid_file.exists, seconds=30)
    wait_for(lambda: pid_file.read_text() != "", seconds=5)

    parent.send_signal(how)
    parent.wait(10)

    # Far less than the 60 s that the child would sleep, far more than the milliseconds that it takes.
    wait_for(lambda: not is_alive(int(pid_file.read_text())), seconds=10)


def wait_for(condition: Callable[[], bool], *, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # One that ended and that nobody waited for is listed still.
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")
