"""The demo of histology end to end, with tiny networks; a second call keeps all that is there."""

from __future__ import annotations

import pandas as pd
import pytest
from tiny_demos import tiny_variants

from medrestore.experiments.demo import find_demo, run_demo
from medrestore.tracking.store import open_client

SUBJECT = "histology"
DEMO = find_demo(SUBJECT)


@pytest.mark.slow
def test_demo_cuts_trains_restores_evaluates_and_continues(tmp_path, capsys):
    output, variants = tmp_path / "output", tiny_variants(tmp_path / "tiny.yaml", SUBJECT, learning_rate=1e-6)
    arguments = {"seed": 3, "variants": variants, "methods": ("e", "sqe")}
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
