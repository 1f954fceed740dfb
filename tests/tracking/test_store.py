"""A store that several trainings open at once is made once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from medrestore.checks import InputError
from medrestore.tracking.store import default_tracking_uri, experiment_id, open_client, sqlite_file

OPEN = """
import sys, time
from pathlib import Path
from medrestore.tracking.environment import import_mlflow
from medrestore.tracking.store import default_tracking_uri, experiment_id, open_client, sqlite_file
import_mlflow()
import mlflow
folder = Path(sys.argv[1])
(folder / f"ready{sys.argv[2]}").touch()
while len(list(folder.glob("ready*"))) < 3:
    time.sleep(0.001)
open_client(f"sqlite:///{folder}/mlflow.db").search_experiments()
"""


@pytest.mark.slow
def test_processes_that_start_together_open_one_store(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, str(tmp_path), str(number)], stderr=subprocess.PIPE, text=True
        )
        for number in range(3)
    ]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors


def test_a_store_below_a_file_is_refused_by_name(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/mlflow\.db': MLflow cannot open this store"):
        open_client(f"sqlite:///{tmp_path}/file/mlflow.db")


@pytest.mark.parametrize("name", ["a?b", "a%20b", "50 % #1?x=y", "a;b&c=d", ":memory:", "a+b", "\u00e9 $x@y"])
def test_default_store_lies_in_a_folder_of_any_name(name, tmp_path):
    folder = tmp_path / name
    assert sqlite_file(default_tracking_uri(folder)) == folder / "mlflow.db"


def test_store_in_a_folder_of_an_odd_name_is_made_there(tmp_path):
    folder = tmp_path / "a%20b #1?x=y"
    folder.mkdir()
    client = open_client(default_tracking_uri(folder))
    run = client.create_run(experiment_id(client, "x", default_tracking_uri(folder)))
    client.log_text(run.info.run_id, "text", "note.txt")
    assert {path.name for path in folder.iterdir()} == {"mlflow.db", "mlartifacts"}
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
