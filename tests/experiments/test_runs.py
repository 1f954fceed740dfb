"""Commands that are printed run when they are pasted, whatever environment they were printed from."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from medrestore.experiments.runs import command, how_to_compare


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an environment with a program in a folder, not activated; return the folder with its programs."""
    programs = tmp_path / "my project" / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("medrestore", "mlflow"):
        (programs / name).write_text('#!/bin/sh\necho "$MLFLOW_DISABLE_TELEMETRY"; printf "%s\\n" "$@"\n')
        (programs / name).chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(programs / "medrestore"), "demo"])
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    return programs


def test_program_is_named_by_its_path_where_the_shell_does_not_find_it(environment, tmp_path, monkeypatch):
    assert command("medrestore", "study", "serve", "a") == f"'{environment}/medrestore' study serve a"
    monkeypatch.chdir(tmp_path / "my project")
    assert command("mlflow", "ui") == ".venv/bin/mlflow ui"
    monkeypatch.setenv("PATH", f"{environment}:{os.defpath}")
    assert command("mlflow", "ui") == "mlflow ui"


def test_another_environment_on_the_path_is_not_taken(environment, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    (other / "medrestore").write_text("#!/bin/sh\nexit 1\n")
    (other / "medrestore").chmod(0o755)
    monkeypatch.setenv("PATH", f"{other}:{os.defpath}")
    assert shlex.split(command("medrestore"))[0] == str(environment / "medrestore")


def test_without_programs_the_interpreter_runs_the_module(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "script.py")])
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    assert command("medrestore", "--version") == shlex.join([sys.executable, "-m", "medrestore", "--version"])
    shown = subprocess.run(
        shlex.split(command("medrestore", "--version")), capture_output=True, text=True, check=True
    )
    assert shown.stdout[0].isdigit()


@pytest.mark.usefixtures("environment")
def test_lines_run_as_they_stand_and_mlflow_reports_nothing_home():
    uri = "sqlite:////data/demo output/mlflow.db"
    ui, table = (line.partition(":")[2].strip() for line in how_to_compare("pet", uri).splitlines())
    said = [
        subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout.splitlines()
        for line in (ui, table)
    ]
    assert said == [
        ["true", "ui", "--host", "127.0.0.1", "--backend-store-uri", uri],
        ["", "compare", "pet", "--tracking-uri", uri],
    ]
