from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from medrestore.tracking.environment import (
    anonymous_text,
    describe_environment,
    flatten,
    git_commit,
    import_mlflow,
)


def in_fresh_process(code: str) -> str:
    # MLflow turns telemetry off by itself where it sees a test or CI: a fresh process without those
    # variables shows what a user gets.
    hidden = ("PYTEST_CURRENT_TEST", "CI", "GITHUB_ACTIONS", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def test_telemetry_is_off_even_where_mlflow_was_imported_before():
    code = (
        "import mlflow; from mlflow.telemetry import get_telemetry_client as client\n"
        "before = client(); import medrestore; print(before is not None, client() is not None)"
    )
    assert in_fresh_process(code) == "True False"


@pytest.mark.parametrize(("given", "expected"), [(None, "true"), ("false", "false")])
def test_telemetry_is_the_users_choice_and_off_without_one(monkeypatch, given, expected):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "to be put back")
    if given is None:
        monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY")
    else:
        monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", given)
    import_mlflow()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == expected


def test_evaluation_imports_no_mlflow():
    modules = ", ".join(
        f"medrestore.domains.{name}.evaluation.evaluate" for name in ("amyloid_pet", "multicontrast_mri")
    )
    assert in_fresh_process(f"import sys, {modules}; print('mlflow' in sys.modules)") == "False"


def test_flatten_names_by_dots_and_cuts_folders():
    config = {
        "network#channels": [1, 2],
        "paths": {"cohort": Path("/data/somebody/cohort"), "many": ["/a/b", "relative/c"]},
        "stages": [{"name": "joint"}],
        "windows": r"C:\Users\somebody\x.csv",
        "long": "x" * 2000,
    }
    flat = flatten(config)
    assert flat.pop("long") == "x" * 997 + "..."
    assert flat == {
        "network_channels": "[1, 2]",
        "paths.cohort": "cohort",
        "paths.many": "[b, relative/c]",
        "stages.0.name": "joint",
        "windows": "x.csv",
    }


def test_anonymous_text_blanks_home_and_present_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/srv/people/somebody")
    monkeypatch.chdir(tmp_path)
    text = (
        f"a: /srv/people/somebody/x\nb: {tmp_path}/y\nc: /Users/somebody/z\nd: /data/x\ne: {tmp_path}-other"
    )
    assert anonymous_text(text) == f"a: ~/x\nb: ./y\nc: ~/z\nd: /data/x\ne: {tmp_path}-other"


def test_anonymous_text_does_without_a_home(monkeypatch, tmp_path):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # no HOME, no entry of this user
    monkeypatch.chdir(tmp_path)
    assert anonymous_text(f"{tmp_path}/y /home/somebody/x ~") == "./y ~/x ~"


def test_environment_says_nothing_about_who_or_where(monkeypatch):
    import platform

    values = describe_environment().values()
    assert platform.node() not in values
    assert all("/" not in value for value in values)
    assert describe_environment()["python"] == platform.python_version()


def test_git_commit_is_that_of_this_checkout():
    root = Path(__file__).parents[2]
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    head = subprocess.run(command, capture_output=True, text=True, check=False)
    if head.returncode:
        pytest.skip("the tests do not run in a git checkout")
    assert str(git_commit()).removesuffix("-dirty") == head.stdout.strip()


def test_git_commit_is_none_without_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert git_commit() is None
