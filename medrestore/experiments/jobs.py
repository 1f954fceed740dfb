"""Jobs of a study: child processes, some at a time, each done once however often the study is called."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from medrestore.checks import InputError, require_in_range
from medrestore.data.workers import available_cores
from medrestore.files import atomic_path

__all__ = ["Job", "cores_per_job", "run_jobs"]

CHILD = "medrestore.experiments.child"
"""Module that a child process runs; its one argument is the file of the task."""

PATIENCE_SECONDS = 20.0
"""How long a child that is asked to end may take to close its record."""

POLL_SECONDS = 0.2
LAST_LINES = 15


@dataclass(frozen=True)
class Job:
    """One child process.

    Parameters
    ----------
    name
        Of its log and of its mark.
    kind
        Jobs of one kind differ in level and seed only: when the first of a kind fails, all would.
    task
        What the child does, plain values.
    products
        Files or folders that are there when it is done.
    needs
        Names of jobs that must be done before.
    """

    name: str
    kind: str
    task: Mapping[str, Any]
    products: tuple[Path, ...] = ()
    needs: tuple[str, ...] = ()


@dataclass
class _Child:
    job: Job
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    began: float


def cores_per_job(jobs: int) -> int:
    """Return how many threads each of some processes gets: the cores it may use, shared out."""
    return max(1, available_cores() // jobs)


def run_jobs(
    jobs: Sequence[Job],
    *,
    folder: str | os.PathLike[str],
    parallel: int = 1,
    child: str = CHILD,
    environment: Mapping[str, str] | None = None,
    progress: bool = True,
) -> list[str]:
    """Run what is not done yet, in the given order as far as needs and free places allow.

    Parameters
    ----------
    jobs
        A job comes after those that it needs.
    folder
        Gets ``NAME.log``, all that the child printed, and ``NAME.json``, which says that it is done.
    parallel
        Processes at a time; cores are shared out between them.
    child
        Module that a child runs (``python -m CHILD TASK.json``).
    environment
        Further variables for every child.
    progress
        Show a progress bar.

    Returns
    -------
    list
        Names of the jobs that were run: not those that were done before.

    Raises
    ------
    InputError
        When a job failed: names each, with the end of its log. Others go on where a job of the same kind has
        ended well before, in this call or an earlier one; else nothing more is started: it is the settings.

    Notes
    -----
    A child ends with this process, even when this one is killed: it waits for the end of its standard input.
    """
    from medrestore.progress import progress_bar

    require_in_range("jobs", parallel, 1, 1024)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    done = {job.name for job in jobs if _is_done(job, place)}
    good_kinds = {job.kind for job in jobs if job.name in done}
    waiting = [job for job in jobs if job.name not in done]
    failed: dict[str, str] = {}
    ran: list[str] = []
    running: list[_Child] = []
    stopped = False
    bar = progress_bar(total=len(jobs), initial=len(done), desc="study", unit="job", disable=not progress)
    try:
        while running or (waiting and not stopped):
            while len(running) < parallel and not stopped:
                ready = next((job for job in waiting if done.issuperset(job.needs)), None)
                if ready is None:
                    break
                waiting.remove(ready)
                running.append(_start(ready, place, child, parallel, environment or {}))
                _show(bar, running)
            if not running:
                break  # what is left needs a job that failed
            time.sleep(POLL_SECONDS)
            for one in [entry for entry in running if entry.process.poll() is not None]:
                running.remove(one)
                problem = _finish(one, place)
                if problem:
                    failed[one.job.name] = problem
                    stopped = stopped or one.job.kind not in good_kinds
                else:
                    done.add(one.job.name)
                    good_kinds.add(one.job.kind)
                    ran.append(one.job.name)
                    bar.update()
                _show(bar, running)
    finally:
        _stop(running)
        bar.close()
    if failed:
        left = len(jobs) - len(done)
        raise InputError(
            f"{len(failed)} of {len(jobs)} jobs failed, {left} are left. Remedy: mend what the ends of their "
            "logs say and call the study again; what is done is kept\n\n" + "\n\n".join(failed.values())
        )
    return ran


def _is_done(job: Job, folder: Path) -> bool:
    return _mark(job, folder).is_file() and all(path.exists() for path in job.products)


def _mark(job: Job, folder: Path) -> Path:
    return folder / f"{job.name}.json"


def _start(job: Job, folder: Path, child: str, parallel: int, further: Mapping[str, str]) -> _Child:
    task = folder / f"{job.name}.task.json"
    with atomic_path(task) as temporary:
        temporary.write_text(json.dumps(job.task, indent=2) + "\n", encoding="utf-8")
    threads = str(cores_per_job(parallel))
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": threads,
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait for work leave the cores to other jobs
        "PYTHONUNBUFFERED": "1",
        "TQDM_MININTERVAL": "30",  # a log is no terminal
        "MPLBACKEND": "Agg",
        **further,
    }
    log = (folder / f"{job.name}.log").open("ab")
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", child, str(task)],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
    )
    return _Child(job, process, log, time.monotonic())


def _finish(child: _Child, folder: Path) -> str:
    """Mark a job that ended well; return what is to be said of one that did not."""
    _close(child)
    name, code = child.job.name, child.process.returncode
    missing = [path.name for path in child.job.products if not path.exists()]
    if code == 0 and not missing:
        seconds = round(time.monotonic() - child.began, 1)
        with atomic_path(_mark(child.job, folder)) as temporary:
            temporary.write_text(json.dumps({"seconds": seconds}) + "\n", encoding="utf-8")
        (folder / f"{name}.task.json").unlink(missing_ok=True)
        return ""
    how = f"ended with code {code}"
    if code < 0:
        how = f"was ended by signal {_signal_name(-code)}"
    elif code == 0:
        how = f"left no {', '.join(missing)}"
    path = folder / f"{name}.log"
    return f"{name}: {how}; the end of {path}:\n{_last_lines(path)}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _last_lines(path: Path) -> str:
    with path.open("rb") as stream:
        stream.seek(max(path.stat().st_size - 20_000, 0))
        text = stream.read().decode("utf-8", errors="replace")
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", text)]
    return "\n".join(f"    {line}" for line in [line for line in lines if line][-LAST_LINES:])


def _stop(running: Sequence[_Child]) -> None:
    """End children as Ctrl-C would, so that they close their records; those that do not end are killed."""
    for child in running:
        if child.process.poll() is None:
            child.process.send_signal(signal.SIGINT)
    until = time.monotonic() + PATIENCE_SECONDS
    for child in running:
        try:
            child.process.wait(max(until - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()
        _close(child)


def _close(child: _Child) -> None:
    if child.process.stdin is not None:
        child.process.stdin.close()
    child.log.close()


def _show(bar: Any, running: Sequence[_Child]) -> None:
    bar.set_postfix_str(", ".join(child.job.name for child in running))
