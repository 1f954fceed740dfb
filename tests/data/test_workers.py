"""Work in several processes: all of it done, errors passed on, nobody left behind by a killed run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from medrestore.checks import InputError
from medrestore.data.workers import available_cores, run_tasks


def total(values: np.ndarray, factor: int) -> tuple[float, int]:
    return float(values.sum()) * factor, os.getpid()


def failing(number: int) -> int:
    if number == 2:
        raise InputError("number two is bad")
    return number


def test_one_worker_is_this_process():
    results = list(run_tasks(total, [(np.ones(3), 1), (np.ones(3), 2)], workers=1))
    assert results == [(3.0, os.getpid()), (6.0, os.getpid())]


def test_nothing_to_do():
    assert list(run_tasks(total, [], workers=4)) == []


def test_two_workers_do_all_of_it():
    large = np.ones(500_000)  # large enough to be shared by a memory map
    results = list(run_tasks(total, [(large, factor) for factor in range(6)], workers=2))
    assert sorted(result for result, _ in results) == [500_000.0 * factor for factor in range(6)]
    assert os.getpid() not in {process for _, process in results}


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_are_passed_on(workers):
    with pytest.raises(InputError, match="number two is bad"):
        list(run_tasks(failing, [(1,), (2,), (3,)], workers=workers))


def test_available_cores():
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_workers_end_with_a_killed_run(tmp_path):
    script = tmp_path / "run.py"
    # No __main__ guard: none is needed.
    script.write_text(
        "import os, pathlib, sys, time\n"
        "from medrestore.data.workers import run_tasks\n"
        "def work(folder, number):\n"
        "    (pathlib.Path(folder) / f'{os.getpid()}.pid').touch()\n"
        "    time.sleep(60)\n"
        "list(run_tasks(work, [(sys.argv[1], number) for number in range(4)], workers=2))\n"
    )
    with subprocess.Popen([sys.executable, str(script), str(tmp_path)], stderr=subprocess.DEVNULL) as run:
        found: list[int] = []
        deadline = time.monotonic() + 60
        while len(found) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
            found = [int(path.stem) for path in tmp_path.glob("*.pid")]
        run.send_signal(signal.SIGKILL)
    assert len(found) == 2
    deadline = time.monotonic() + 20
    while any(map(alive, found)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, found))


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # A container without an init process leaves the dead as zombies.
    status = Path(f"/proc/{process}/status")
    return not (status.exists() and "State:\tZ" in status.read_text())
