"""Work spread over processes that end with the one that started them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from medrestore.checks import require_in_range

__all__ = ["available_cores", "named_results", "run_tasks", "worker_count"]

Result = TypeVar("Result")

PARENT_CHECK_S = 0.5


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_count(workers: int | None) -> int:
    """Return the number of processes that was asked for, one per core when None; refuse one out of range."""
    if workers is None:
        return available_cores()
    require_in_range("workers", workers, 1, 1024)
    return workers


def run_tasks(
    function: Callable[..., Result], tasks: Sequence[tuple[Any, ...]], *, workers: int
) -> Iterator[Result]:
    """Call a function with each tuple of arguments and yield the results as they come, in any order.

    Parameters
    ----------
    function : callable
        Of a module, so that a worker process finds it.
    tasks : sequence of tuples
        Positional arguments; large arrays are shared between processes, read-only.
    workers : int
        Processes, each with one thread for linear algebra; 1 calls the function in this process.

    Notes
    -----
    Processes are not forked: a fork of a process in which torch or BLAS run threads can hang. They start
    clean and need no ``__main__`` guard in the caller's script. When this process ends, however it ends, they
    end too: one that outlived a killed run would go on writing, beside the run that continues it.
    """
    if min(workers, len(tasks)) <= 1:
        for task in tasks:
            yield function(*task)
        return
    from joblib import Parallel, delayed, parallel_config  # type: ignore[import-untyped]
    from joblib.externals.loky import get_reusable_executor  # type: ignore[import-untyped]

    with parallel_config(backend="loky", inner_max_num_threads=1):
        yield from Parallel(n_jobs=min(workers, len(tasks)), return_as="generator_unordered")(
            delayed(_call)(function, os.getpid(), task) for task in tasks
        )
    # They would wait for further work, hold memory, and end by themselves just when it comes.
    get_reusable_executor(reuse=True).shutdown(wait=True)


def named_results(
    function: Callable[..., tuple[str, Result]],
    tasks: Sequence[tuple[Any, ...]],
    *,
    workers: int,
    progress: bool,
    description: str,
    unit: str,
    finished: Mapping[str, Result] | None = None,
) -> dict[str, Result]:
    """Run tasks behind a progress bar; return what each gives under the name that it gives.

    Parameters
    ----------
    function, tasks, workers
        As in :func:`run_tasks`; the function returns a name and a result.
    progress
        Show the bar.
    description, unit
        On it.
    finished
        Results that were there already: the bar begins behind them.
    """
    from medrestore.progress import progress_bar

    found = dict(finished or {})
    with progress_bar(
        total=len(found) + len(tasks), initial=len(found), desc=description, unit=unit, disable=not progress
    ) as bar:
        for name, result in run_tasks(function, tasks, workers=workers):
            found[name] = result
            bar.set_postfix_str(name, refresh=False)
            bar.update()
    return found


def _call(function: Callable[..., Result], parent: int, task: tuple[Any, ...]) -> Result:
    _end_with(parent)
    return function(*task)


@lru_cache(maxsize=1)
def _end_with(parent: int) -> None:
    """End this process when its parent has ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
