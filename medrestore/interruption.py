"""Signals that ask a process to end: Ctrl-C, and SIGTERM, which a scheduler sends at a time limit."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from medrestore.checks import causes

__all__ = ["Terminated", "exit_code", "interrupt_behind", "terminated_as_interrupted"]


class Terminated(KeyboardInterrupt):
    """SIGTERM came: what holds for Ctrl-C holds for it."""


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM raise :class:`Terminated` in the block, so that what is open is closed as after Ctrl-C.

    A handler that somebody else has set stays, as does the default in a thread that gets no signals.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield
        return
    own = os.getpid()

    def handle(_: int, __: FrameType | None) -> None:
        if os.getpid() != own:  # a forked child has nothing of this process's to close
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        # Schedulers send it to a step and to its processes: the second one must not disturb the closing.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def interrupt_behind(error: BaseException) -> KeyboardInterrupt | None:
    """Return the interruption that an error is, or came from; None when there was none."""
    return next((cause for cause in causes(error) if isinstance(cause, KeyboardInterrupt)), None)


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """Return the code that shells expect of a program that a signal ended: 128 and its number.

    >>> exit_code(KeyboardInterrupt()), exit_code(Terminated())
    (130, 143)
    """
    return 128 + (signal.SIGTERM if isinstance(interrupt, Terminated) else signal.SIGINT)
