"""The demo of histology end to end, with tiny networks; a second call keeps all that is there."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from medrestore.checks import InputError
from medrestore.engines.shelf import find_bundle
from medrestore.experiments.demo import find_demo, run_demo
from medrestore.tracking.store import open_client

SUBJECT = "histology"
DEMO = find_demo(SUBJECT)
TINY = """
device: cpu
precision: fp32
crop_size: 32
generator_channels: 4
generator_blocks: 1
discriminator_channels: [4, 8]
encoder_channels: [4, 4]
encoder_blocks: 0
batch_size: 4
learning_rate: 0.000001
batches_per_epoch: 2
autoencoder_epochs: 1
warm_up_epochs: 1
adversarial_epochs: 1
"""


def test_runs_are_overlays_of_the_bundle() -> None:
    overlays = {path.stem for path in (find_bundle(DEMO.bundle) / "variants").glob("*.yaml")}
    assert overlays >= {*DEMO.runs, "demo"}


@pytest.mark.slow
def test_demo_cuts_trains_restores_evaluates_and_continues(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    output = tmp_path / "output"
    arguments = {"seed": 3, "variants": ("demo", str(tmp_path / "tiny.yaml")), "methods": ("e", "sqe")}
    evaluation = run_demo(SUBJECT, output, **arguments)
    printed = capsys.readouterr().out
    assert "medrestore compare" in printed
    assert "one patient" in printed
    summary = pd.read_csv(evaluation / "summary.csv").set_index(["method", "metric"])["mean"]
    methods = {"bicubic", "lanczos", "e", "sqe"}
    assert {method for method, metric in summary.index if metric == "psnr"} == methods
    # Four iterations at so small a rate leave the network near its start, the bicubic enlargement.
    assert summary["sqe", "psnr"] == pytest.approx(summary["bicubic", "psnr"], abs=0.5)
    runs = {path.name for path in (output / "runs").iterdir()}
    assert runs == {"autoencoder", "e", "sqe"}
    client = open_client(f"sqlite:///{output / 'mlflow.db'}")
    assert client.get_experiment_by_name(DEMO.experiment) is not None

    kept = {path: path.stat().st_mtime_ns for path in (output / "runs").rglob("model.pt")}
    assert len(kept) == 3
    assert run_demo(SUBJECT, output, **arguments) == evaluation
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="nothing is overwritten"):
        run_demo(SUBJECT, tmp_path)
