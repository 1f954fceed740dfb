"""What tests ask of trainings: tensors, curves, and whether they survive a kill."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch
from command_line import Ended
from monai.bundle import ConfigParser

from medrestore.engines.bundle import open_bundle
from medrestore.networks.weights import load_file
from medrestore.tracking.store import open_client


def tensors(value: object, prefix: str = "") -> dict[str, torch.Tensor]:
    """Flatten a checkpoint to its tensors by path."""
    if isinstance(value, torch.Tensor):
        return {prefix: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {name: tensor for key, item in items for name, tensor in tensors(item, f"{prefix}/{key}").items()}


def differing(a: Path, b: Path) -> list[str]:
    """Return the names of tensors that are not bit-identical in two files of weights."""
    one, other = tensors(load_file(a)), tensors(load_file(b))
    assert one.keys() == other.keys()
    assert len(one) > 20
    return [name for name in one if not torch.equal(one[name], other[name])]


def learned(folder: Path, before: Mapping[str, Mapping[str, torch.Tensor]]) -> set[str]:
    """Return the networks that a finished training changed; what it leaves must be there, and finite."""
    files = {path.name for path in folder.iterdir()}
    assert {"model.pt", "checkpoint.pt", "config.yaml", "mlflow_run.json"} <= files
    after = load_file(folder / "checkpoint.pt")["step"]["networks"]
    assert all(value.isfinite().all() for value in tensors(after).values())
    return {
        name for name in before if any(not torch.equal(v, after[name][k]) for k, v in before[name].items())
    }


def restored(bundle: Path, weights: Path, *, output: Path, **overrides: Any) -> list[Path]:
    """Restore the test split by a bundle's inference; return the files."""
    overrides |= {"weights": str(weights), "output_dir": str(output), "device": "cpu"}
    workflow = open_bundle(bundle, "inference", overrides=overrides)
    workflow.initialize()
    written: list[Path]
    (written,) = workflow.run()
    workflow.finalize()
    return written


def require_grid(path: Path, source: str | Path) -> None:
    """Require finite float32 voxels on the grid of the source, header and all, and a sidecar."""
    ours, given = nibabel.load(path), nibabel.load(source)
    assert ours.get_data_dtype() == np.float32
    assert ours.header.get_xyzt_units() == given.header.get_xyzt_units()
    for form in ("qform", "sform"):
        own, own_code = getattr(ours, f"get_{form}")(coded=True)
        theirs, their_code = getattr(given, f"get_{form}")(coded=True)
        assert own_code == their_code
        np.testing.assert_array_equal(own, theirs)
    ours_itk, given_itk = SimpleITK.ReadImage(str(path)), SimpleITK.ReadImage(str(source))
    for name in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(ours_itk, name)() == getattr(given_itk, name)(), name
    assert np.isfinite(ours.get_fdata()).all()
    sidecar = path.with_name(path.name.replace(".nii.gz", ".json"))
    assert json.loads(sidecar.read_text())["method"] == "taskgan"


def arguments(overrides: Mapping[str, Any]) -> list[str]:
    """Return overrides as the command line takes them."""
    return [word for key, value in overrides.items() for word in (f"--{key}", str(value))]


def monai_arguments(bundle: Path, overrides: Mapping[str, Any]) -> list[str]:
    """Return overrides of a training as MONAI's command line takes them: numbers by their whole names."""
    numbers = ConfigParser.load_config_file(bundle / "configs" / "train.yaml")["parameters"]
    return arguments({f"parameters::{key}" if key in numbers else key: overrides[key] for key in overrides})


def recorded(folder: Path, *, store: Path | None = None) -> dict[str, float]:
    """Return the last value of every curve of a training."""
    run = json.loads((folder / "mlflow_run.json").read_text())["run_id"]
    client = open_client(f"sqlite:///{store or folder.parent}/mlflow.db")
    metrics: dict[str, float] = client.get_run(run).data.metrics
    return metrics


def require_resumable(
    call: Callable[..., Ended],
    bundle: Path,
    overrides: Mapping[str, Any],
    folder: Path,
    *,
    epochs: int,
    variants: Sequence[str] = ("demo",),
) -> None:
    """Train overlays in ``whole``, and in ``killed``: a process, by SIGKILL after a checkpoint.

    The same call, here, continues it: what both leave must be the same, bit for bit.
    """

    def words(name: str) -> list[str]:
        given = arguments({**overrides, "output_dir": folder / name})
        chosen = [word for variant in variants for word in ("--variant", variant)]
        return ["train", str(bundle), *chosen, *given]

    checkpoint = folder / "killed" / "checkpoint.pt"
    program = [sys.executable, "-c", "from medrestore.cli import main; main()", *words("killed")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(program, env=environment, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert load_file(checkpoint)["epoch"] < epochs
    assert not (folder / "killed" / "model.pt").exists()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums are then of one order, here and in the process that was killed
    for name in ("killed", "whole"):
        ended = call(*words(name))
        assert ended.code == 0, ended.err
    torch.set_num_threads(threads)
    for name in ("checkpoint.pt", "model.pt"):
        assert differing(folder / "whole" / name, folder / "killed" / name) == []


def monai_bundle(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    """Call ``python -m monai.bundle`` in this process, in the current folder."""
    monkeypatch.setattr(sys, "argv", ["monai.bundle", *map(str, arguments)])
    runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
