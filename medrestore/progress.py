"""What long work tells: a bar on a terminal or in a notebook, a line a minute in a log file."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable
from typing import Any, TextIO

import tqdm.auto
import tqdm.std

from medrestore.endings import ending_of

__all__ = ["LOG_INTERVAL_SECONDS", "leave_mistakes_to_caller", "progress_bar"]

LOG_INTERVAL_SECONDS = 60.0
"""Between two lines of a bar that no terminal shows."""


def progress_bar(iterable: Iterable[Any] | None = None, **options: Any) -> tqdm.std.tqdm[Any]:
    """Return a bar of tqdm: the one way in which the package shows progress.

    Where the standard error stream is no terminal, it writes whole lines, one in
    :data:`LOG_INTERVAL_SECONDS` and one at its end.

    Parameters
    ----------
    iterable
        What is worked through; without it, the bar is advanced by its ``update``.
    options
        As tqdm takes them: ``total``, ``initial``, ``desc``, ``unit``, ``disable``, ``leave``.

    Returns
    -------
    tqdm.std.tqdm
        To be iterated over, or used as a context.
    """
    in_notebook = any(base.__module__ == "tqdm.notebook" for base in tqdm.auto.tqdm.__mro__)
    if in_notebook or sys.stderr.isatty():
        return tqdm.auto.tqdm(iterable, dynamic_ncols=True, **options)
    return _LogProgress(iterable, file=_Lines(sys.stderr), miniters=1, maxinterval=float("inf"), **options)


class _LogProgress(tqdm.std.tqdm):
    """A bar that refreshes itself rarely, whoever asks for it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._told = time.monotonic()
        super().__init__(*arguments, mininterval=LOG_INTERVAL_SECONDS, **options)

    def refresh(self, *arguments: Any, **options: Any) -> bool | None:
        """Write a line when the last one, or the beginning, is long enough ago."""
        now = time.monotonic()
        if now - self._told < LOG_INTERVAL_SECONDS:
            return False
        self._told = now
        return super().refresh(*arguments, **options)  # type: ignore[no-any-return,unused-ignore]


class _Lines:
    """A stream to which a bar writes lines: carriage returns and padding are left out."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        line = text.strip()
        if line:
            self.stream.write(f"{line}\n")

    def flush(self) -> None:
        self.stream.flush()


def leave_mistakes_to_caller(logger: logging.Logger) -> None:
    """Keep an engine of Ignite from announcing what whoever runs it tells in one line.

    An engine logs every exception twice as an error before it raises it. What the user can mend, or has asked
    for by Ctrl-C, is told without; a fault of the program keeps both lines. Left out too are its "resuming
    from iteration 0" at a fresh start (a training says itself when it is continued) and a line for every
    epoch, which the bar shows.
    """
    logger.addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    text = record.getMessage()
    if text.startswith(("Engine run resuming from", "Epoch[")):
        return False
    error = sys.exc_info()[1]
    return "terminating due to exception" not in text or error is None or ending_of(error) is None
