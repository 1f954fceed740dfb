"""The bar counts iterations, goes on after a resumption, and closes however the run ends."""

import pytest
from ignite.engine import Engine, Events

from medrestore.engines.progress import TrainingProgress


def make_engine(fail_at: int = 0) -> tuple[Engine, TrainingProgress]:
    def iterate(engine: Engine, _: object) -> dict[str, float]:
        if engine.state.iteration == fail_at:
            raise RuntimeError("the data ran out")
        return {"pixel": 0.125, "task": 2.0}

    engine = Engine(iterate)
    engine.state.rank = 0
    progress = TrainingProgress(description="gan", interval=2)
    progress.attach(engine)
    return engine, progress


def test_bar_shows_description_total_and_losses(capsys):
    engine, progress = make_engine()
    engine.run(range(5), max_epochs=2)
    shown = capsys.readouterr().err
    assert "gan: 100%" in shown
    assert "10/10" in shown
    assert "pixel=0.125, task=2" in shown
    assert progress.bar is None


def test_bar_starts_where_a_resumed_run_does():
    engine, progress = make_engine()
    engine.state.max_epochs, engine.state.epoch_length, engine.state.iteration = 2, 5, 5
    progress._start(engine)
    assert progress.bar is not None
    assert (progress.bar.n, progress.bar.total) == (5, 10)
    progress._close(engine)


def test_bar_is_closed_when_the_run_fails(capsys):
    engine, progress = make_engine(fail_at=4)

    def fail(_: Engine, error: BaseException) -> None:
        raise error

    engine.add_event_handler(Events.EXCEPTION_RAISED, fail)
    with pytest.raises(RuntimeError, match="the data ran out"):
        engine.run(range(5), max_epochs=2)
    assert progress.bar is None
    assert capsys.readouterr().err.endswith("\n")


def test_other_processes_show_nothing(capsys):
    engine, _ = make_engine()
    engine.state.rank = 1
    engine.run(range(5), max_epochs=1)
    assert capsys.readouterr().err == ""
