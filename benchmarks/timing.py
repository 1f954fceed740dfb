"""Timing of things that are compared: in turns, so that a slow spell of the machine slows all of them."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from types import SimpleNamespace
from typing import Any


def interleaved(
    jobs: Mapping[str, Callable[[], object]],
    *,
    repetitions: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Run every job once to warm up, then all in turns; return the seconds of each one's least disturbed run.

    The minimum, not the mean: other processes on the machine only ever add time. Where they never leave it
    alone, ``time.process_time`` as the clock leaves out the time they took (and adds up that of all threads).
    """
    for job in jobs.values():
        job()
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repetitions):
        for name, job in jobs.items():
            start = clock()
            job()
            seconds[name].append(clock() - start)
    return {name: min(values) for name, values in seconds.items()}


def learned(batches: Sequence[Any]) -> Any:
    """Return batches as what a trainer learns from."""
    return SimpleNamespace(loader=lambda **_: batches, sampler=None, augmentation=None, model_information={})


def one_iteration(trainer: Any, batches: Sequence[Any]) -> Callable[[], None]:
    """Return a job that lets a trainer do one iteration: what its engine does between two batches."""
    import torch
    from ignite.engine import Events

    waiting = cycle(batches)
    trainer.state.epoch, trainer.state.epoch_length = 1, 10**6
    trainer._enter_epoch()

    def iterate() -> None:
        state = trainer.state
        state.iteration += 1
        state.batch = next(waiting)
        trainer._fire_event(Events.ITERATION_STARTED)
        state.output = trainer._process_function(trainer, state.batch)
        trainer._fire_event(Events.ITERATION_COMPLETED)
        if torch.device(state.device).type == "cuda":
            torch.cuda.synchronize()

    return iterate


def machine(threads: int) -> str:
    """Say what the figures were measured on."""
    return f"{platform.machine()} {platform.system()}, Python {platform.python_version()}, {threads} threads"
