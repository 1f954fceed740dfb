from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medrestore.checks import InputError
from medrestore.experiments import child
from medrestore.experiments.corruption_plan import configuration_checksum, find_study


@pytest.fixture(autouse=True)
def _no_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch over standard input would end the process of the tests."""
    monkeypatch.setattr(child, "end_with_parent", lambda: None)


def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> int:
    def work(task: dict[str, Any]) -> None:
        assert task["what"] == "made up"
        if error is not None:
            raise error

    monkeypatch.setitem(child.TASKS, "train", work)
    (tmp_path / "task.json").write_text(json.dumps({"do": "train", "what": "made up"}))
    return child.main([str(tmp_path / "task.json")])


def test_a_task_that_ends_well_says_nothing(tmp_path, monkeypatch, capsys):
    assert run(tmp_path, monkeypatch, None) == 0
    assert capsys.readouterr().err == ""


def test_a_mistake_in_the_input_is_said_last(tmp_path, monkeypatch, capsys):
    error = RuntimeError("Failed to instantiate")  # as MONAI wraps it
    error.__cause__ = InputError("vgg19-dcbb9e9d.pth: is not there")
    assert run(tmp_path, monkeypatch, error) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "error: vgg19-dcbb9e9d.pth: is not there"


def test_another_error_leaves_its_traceback(tmp_path, monkeypatch, capsys):
    assert run(tmp_path, monkeypatch, ZeroDivisionError("by zero")) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "ZeroDivisionError: by zero"


def test_an_evaluation_degrades_tiles_as_the_weights_say(tmp_path, monkeypatch):
    from medrestore.domains.histology.evaluation import evaluate
    from medrestore.networks.weights import save_file

    given: dict[str, Any] = {}
    monkeypatch.setattr(evaluate, "evaluate_tiles", lambda **settings: given.update(settings))
    save_file({"scale": 2, "sigma": 1.5}, tmp_path / "model.pt")
    task = {
        "manifest": "manifest.csv",
        "methods": {"e": "restored"},
        "weights": str(tmp_path / "model.pt"),
        "output": "out",
        "split": "test",
        "evaluate": find_study("histology").evaluate,
        "pairs": [["sqe", "e"]],
        "workers": 2,
    }
    child.evaluate_cell(task)
    assert (given["scale"], given["sigma"], given["workers"]) == (2, 1.5, 2)
    assert given["baselines"] == ["bicubic"]
    assert given["pairs"] == [("sqe", "e")]


def test_a_run_of_a_changed_configuration_is_refused(tmp_path):
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("batch_size: 3\n")
    overlays = [str(overlay), "sqe"]
    checksum = configuration_checksum("histology_srgan", overlays, {})
    task = {"bundle": "histology_srgan", "overlays": overlays, "configuration": checksum}
    overlay.write_text("batch_size: 4\n")
    with pytest.raises(InputError, match=r"mine\.yaml, sqe was changed since the study was called"):
        child.train_and_restore(task)
