"""A thread that empties an outbox beside the work, and waits longer and longer for a store that is gone."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from medrestore.tracking.outbox import Outbox
from medrestore.tracking.store import reason_of

__all__ = ["Sender"]

PAUSE_SECONDS = 5.0
"""Between two calls of a store that answers: points are sent together."""

WAITS_SECONDS = (60.0, 120.0, 300.0)
"""After the first, the second and every further failure in a row."""

LONGEST_END_SECONDS = 120.0
"""How long the end of the work waits for a store that takes what it gets."""

SHORT_END_SECONDS = 5.0
"""How long it waits for one that does not, and how long an interruption waits at most."""


class Sender(threading.Thread):
    """Send what comes into an outbox until :meth:`finish`.

    Parameters
    ----------
    outbox
        Of the run.
    client
        An ``MlflowClient``.
    run_id
        Of the run.
    name
        Of the store, for warnings.
    """

    def __init__(self, outbox: Outbox, *, client: Any, run_id: str, name: str) -> None:
        super().__init__(name="mlflow sender", daemon=True)  # no exit of the program waits for a server
        self.outbox = outbox
        self.client, self.run_id, self.store = client, run_id, name
        self.logger = logging.getLogger("medrestore.tracking")
        self._condition = threading.Condition()
        self._work = False
        self._ending = False
        self._failures = 0
        self._not_before = 0.0

    def wake(self) -> None:
        """Say that there is something to send."""
        with self._condition:
            self._work = True
            self._condition.notify()

    def run(self) -> None:
        """Send, wait, send."""
        while True:
            with self._condition:
                while not self._ending:
                    left = self._not_before - time.monotonic()
                    if self._work and left <= 0:
                        break
                    self._condition.wait(left if self._work else None)
                ending, self._work = self._ending, False
            self._try()
            if ending:
                return

    def _try(self) -> None:
        try:
            self.outbox.send(self.client, self.run_id)
        except Exception as error:  # a thread that died would keep records without a word
            wait = WAITS_SECONDS[min(self._failures, len(WAITS_SECONDS) - 1)]
            self._failures += 1
            self._not_before = time.monotonic() + wait
            self._work = True
            if not self._ending:
                self.logger.warning(
                    f"MLflow at {self.store} took no record ({reason_of(error)}); records are kept in "
                    f"{self.outbox.place}, next try in {wait / 60:.0f} min"
                )
        else:
            self._failures = 0
            self._not_before = time.monotonic() + PAUSE_SECONDS

    def finish(self, *, hurry: bool = False) -> bool:
        """Send the rest as far as the store takes it now; return whether nothing is left.

        Parameters
        ----------
        hurry
            Wait a few seconds only: after an interruption there may be no more.
        """
        with self._condition:
            self._ending = True
            self._condition.notify()
        began = time.monotonic()
        while self.is_alive():
            longest = SHORT_END_SECONDS if hurry or self._failures else LONGEST_END_SECONDS
            left = began + longest - time.monotonic()
            if left <= 0:
                break
            self.join(min(left, 0.2))
        return self.outbox.close()
