"""SIGTERM closes what is open, as Ctrl-C does."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from medrestore.interruption import Terminated, terminated_as_interrupted


def test_sigterm_is_raised_in_the_block_and_the_second_one_is_passed_over():
    with pytest.raises(Terminated), terminated_as_interrupted():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)  # must not disturb what is closed here
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_handler_of_somebody_else_stays():
    came: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        with terminated_as_interrupted():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert came == [signal.SIGTERM]


def test_threads_that_get_no_signals_are_left_alone():
    def work() -> None:
        with terminated_as_interrupted():
            pass

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_line_ends_with_the_code_of_the_signal(number, code, call, monkeypatch, tmp_path):
    monkeypatch.setattr(
        "medrestore.domains.amyloid_pet.simulate.cohort.simulate_cohort",
        lambda *_, **__: os.kill(os.getpid(), number),
    )
    ended = call("simulate", "amyloid-pet", "--output", tmp_path / "cohort")
    assert ended.code == code
    assert ended.err.splitlines()[-1] == "interrupted"
    assert "Traceback" not in ended.err
