"""Progress of a training on the terminal, with the time left."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events

from medrestore.progress import progress_bar

__all__ = ["TrainingProgress"]


class TrainingProgress:
    """One bar over all iterations of a training: stage, losses and time left.

    Parameters
    ----------
    description
        Shown in front of the bar.
    interval
        Iterations between two refreshes.
    """

    def __init__(self, *, description: str = "training", interval: int = 5) -> None:
        self.description = description
        self.interval = interval
        self.bar: Any | None = None

    def attach(self, engine: Engine) -> None:
        """Show the bar while ``engine`` runs; on the first process only."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.interval), self._update)
        engine.add_event_handler(Events.COMPLETED | Events.TERMINATE | Events.EXCEPTION_RAISED, self._close)

    def _start(self, engine: Engine) -> None:
        total = engine.state.max_epochs * engine.state.epoch_length
        self.bar = progress_bar(
            total=total,
            initial=engine.state.iteration,
            desc=self.description,
            unit="it",
            disable=engine.state.rank != 0,
        )

    def _update(self, engine: Engine) -> None:
        if self.bar is not None:
            self.bar.update(engine.state.iteration - self.bar.n)
            output = engine.state.output
            self.bar.set_postfix({name: f"{output[name]:.3g}" for name in list(output)[:3]}, refresh=False)

    def _close(self, engine: Engine, *_: Exception) -> None:
        if self.bar is not None:
            self.bar.update(engine.state.iteration - self.bar.n)
            self.bar.close()
            self.bar = None
