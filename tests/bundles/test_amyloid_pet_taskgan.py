"""The amyloid bundle: every overlay learns, every training restores, runs survive being killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from trained import (
    arguments,
    differing,
    learned,
    monai_arguments,
    require_grid,
    require_resumable,
    restored,
    tensors,
)

from medrestore.data.schema import split_rows
from medrestore.domains.amyloid_pet.schema import pair_schema
from medrestore.networks.weights import load_file
from medrestore.tracking.store import open_client

BUNDLE = Path(__file__).parents[2] / "bundles" / "amyloid_pet_taskgan"


def config_files(*variants: str) -> str:
    """Return train.yaml and overlays as python -m monai.bundle takes them."""
    files = [BUNDLE / "configs" / "train.yaml", *(BUNDLE / "variants" / f"{name}.yaml" for name in variants)]
    return str([str(path) for path in files])


def test_pretrained_task_network_is_where_the_training_starts(tiny_training):
    task, _ = tiny_training("task")
    observer, _ = tiny_training("observer")
    weights = {"task_weights": str(task / "model.pt"), "observer": str(observer / "model.pt")}
    folder, before = tiny_training("taskgan", batches_per_epoch=10, **weights)
    pretrained = load_file(task / "model.pt")["networks"]["task"]["state"]
    assert all(torch.equal(value, before["task"][name]) for name, value in pretrained.items())
    assert load_file(folder / "checkpoint.pt")["epoch"] == 1
    run = json.loads((folder / "mlflow_run.json").read_text())["run_id"]
    recorded = open_client(f"sqlite:///{folder.parent}/mlflow.db").get_run(run).data.metrics
    assert {"validation_psnr", "validation_task_mae", "validation_observer_mae"} <= set(recorded)
    assert {"joint/pixel", "joint/feature_matching", "joint/discriminator"} <= set(recorded)
    rates = {name for name in recorded if name.startswith("learning_rate/")}
    assert rates == {"learning_rate/generator", "learning_rate/discriminator"}  # T is frozen throughout
    assert "joint/loss" not in recorded  # it is joint/generator


def test_paper_teaches_the_task_network_beside_the_generator(tiny_training):
    weights = {"task_weights": str(tiny_training("task")[0] / "model.pt")}
    folder, before = tiny_training("paper", **weights)
    assert learned(folder, before) == {"generator", "discriminator", "task"}
    assert load_file(folder / "checkpoint.pt")["iteration"] == 2
    (group,) = load_file(folder / "checkpoint.pt")["step"]["optimizers"]["task"]["param_groups"]
    assert group["weight_decay"] == 0


@pytest.mark.slow
def test_monai_trains_the_same_network(tiny_training, tmp_path, tiny_overrides, one_thread):
    """``python -m monai.bundle run`` gives what :func:`open_bundle` gives, bit for bit."""
    output = tmp_path / "run"
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", config_files("demo", "l1")]
    overrides = {**tiny_overrides, "output_dir": output}
    finished = subprocess.run(
        [*command, *monai_arguments(BUNDLE, overrides)],
        cwd=tmp_path,
        env=one_thread,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    expected, _ = tiny_training("l1")
    assert differing(output / "model.pt", expected / "model.pt") == []


@pytest.mark.parametrize("overlay", ["l1", "taskgan", "blend"])
def test_restores_the_test_split_on_the_source_grid(overlay, tiny_training, tiny_cohort, tmp_path):
    weights = tiny_training(overlay)[0] / "model.pt"
    written = restored(BUNDLE, weights, output=tmp_path / "restored", dataset_dir=str(tiny_cohort))
    rows = split_rows(pair_schema().read(tiny_cohort / "manifest.csv"), "test")
    assert [path.name for path in written] == [
        f"{name}_ses-01_restored.nii.gz" for name in rows["subject_id"]
    ]
    for path, source in zip(written, rows["degraded_path"], strict=True):
        require_grid(path, source)


@pytest.mark.slow
def test_killed_and_resumed_blend_is_bit_identical(tiny_overrides, trainings, tmp_path, call):
    store = f"sqlite:///{trainings}/mlflow.db"
    given = {**tiny_overrides, "batches_per_epoch": 6, "joint_epochs": 4, "tracking_uri": store}
    require_resumable(call, BUNDLE, given, tmp_path, epochs=4, variants=["demo", "l1", "blend"])


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_from_the_doubled_batch(tmp_path, tiny_overrides, one_thread):
    # Instance norm and no dropout: nothing depends on which other slices a process has.
    common = {
        **tiny_overrides,
        "generator_norm": "instance",
        "discriminator_norm": "instance",
        "generator_dropout": 0.0,
    }
    monai = ["-m", "monai.bundle", "run", "--config_file"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    two = {**common, "output_dir": tmp_path / "two", "batch_size": 2}
    one = {**common, "output_dir": tmp_path / "one"}
    for command in (
        [*torchrun, *monai, config_files("demo", "gan"), *monai_arguments(BUNDLE, two)],
        [sys.executable, *monai, config_files("demo", "gan"), *monai_arguments(BUNDLE, one)],
    ):
        finished = subprocess.run(
            command, cwd=tmp_path, env=one_thread, capture_output=True, text=True, check=False
        )
        assert finished.returncode == 0, finished.stderr
    written = sorted(path.name for path in (tmp_path / "two").glob("*.pt"))
    assert written == ["checkpoint.pt", "model.pt"]
    client = open_client(f"sqlite:///{tmp_path}/two/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("amyloid_pet").experiment_id])
    assert run.info.status == "FINISHED"
    ours, expected = (tensors(load_file(tmp_path / name / "model.pt")["networks"]) for name in ("two", "one"))
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        # Adam's first steps are learning_rate * sign(gradient), whatever the size of the gradient: where it
        # is zero but for rounding, a weight may move the other way, by 2 * 2 * 0.002 at most.
        difference = (ours[name] - value).abs()
        assert difference.max() <= 0.008 + 1e-6, name
        if value.ndim == 4:  # a bias before instance norm has no gradient but rounding
            assert (difference > 1e-4).float().mean() < 0.01, name


@pytest.mark.slow
def test_sigterm_closes_the_record_and_says_how_to_continue(tiny_overrides, tmp_path):
    """As a scheduler sends it at a time limit."""
    given = {
        **tiny_overrides,
        "cache_dir": tmp_path / "cache",
        "output_dir": tmp_path / "run",
        "batches_per_epoch": 200,
    }
    program = [sys.executable, "-c", "from medrestore.cli import main; main()"]
    command = [*program, "train", str(BUNDLE), "--variant", "demo", *arguments(given)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 240
        while not (tmp_path / "run" / "checkpoint.pt").exists() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "Traceback" not in told
    assert told.splitlines()[-1].endswith("Continue with the same call")
    run = json.loads((tmp_path / "run" / "mlflow_run.json").read_text())["run_id"]
    client = open_client(f"sqlite:///{tmp_path}/run/mlflow.db")
    assert client.get_run(run).info.status == "KILLED"
