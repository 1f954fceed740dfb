"""A bar for terminals, whole and rare lines for log files; engines announce no mistake that is told later."""

import io
import itertools
import logging
import time
from pathlib import Path

import pytest
from ignite.engine import Engine

from medrestore.checks import InputError
from medrestore.progress import leave_mistakes_to_caller, progress_bar

PACKAGE = Path(__file__).parents[1] / "medrestore"
COUNT = itertools.count()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let time pass only when the test says so; of the bars' two clocks alike."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


def test_log_file_gets_a_line_a_minute_and_the_last(clock, capsys):
    with progress_bar(total=300, desc="restoring", unit="volume") as bar:
        for _ in range(300):
            clock[0] += 1.0
            bar.update()
            bar.set_postfix_str("sub-1")  # asks for a refresh each time
    lines = capsys.readouterr().err.split("\n")
    assert lines.pop() == ""
    assert all(line.startswith("restoring: ") and "\r" not in line for line in lines)
    assert [line.split("| ")[1].split(" ")[0] for line in lines] == [
        "60/300",
        "120/300",
        "180/300",
        "240/300",
        "300/300",
        "300/300",
    ]


def test_short_work_says_once_that_it_is_done(capsys):
    assert list(progress_bar(range(3), desc="tiles", unit="slide")) == [0, 1, 2]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tiles: 100%")


@pytest.mark.parametrize("options", [{"disable": True}, {"leave": False}])
def test_what_is_not_to_stay_leaves_nothing(options, capsys):
    list(progress_bar(range(3), **options))
    assert capsys.readouterr().err == ""


def test_terminal_gets_a_bar(monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", terminal)
    for _ in progress_bar(range(3), desc="tiles"):
        pass
    assert terminal.getvalue().startswith("\rtiles:   0%")


def test_there_is_one_way_to_show_progress():
    others = [
        path.relative_to(PACKAGE)
        for path in PACKAGE.rglob("*.py")
        if "tqdm" in path.read_text(encoding="utf-8") and path != PACKAGE / "progress.py"
    ]
    assert others == []


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (InputError("scan.nii: is damaged"), 0),
        (PermissionError(13, "Permission denied", "out"), 0),
        (KeyboardInterrupt("interrupted in epoch 3"), 0),
        (IndexError("a fault of the program"), 2),
    ],
)
def test_engine_announces_faults_of_the_program_alone(error, told, caplog):
    caplog.set_level(logging.INFO)

    def iterate(_: Engine, __: object) -> None:
        raise error

    engine = Engine(iterate)
    engine.logger = logging.getLogger(f"test.engine.{next(COUNT)}")
    leave_mistakes_to_caller(engine.logger)
    engine.state.max_epochs = 1  # as MONAI sets it: Ignite then "resumes" at iteration 0
    with pytest.raises(type(error)):
        engine.run([0])
    assert [record.levelname for record in caplog.records if record.levelname == "ERROR"] == ["ERROR"] * told
    assert "resuming" not in caplog.text
