"""The demo of multi-contrast MRI end to end, on a tiny cohort with tiny networks; a second call keeps all."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from tiny_demos import MRI_SIZE, tiny_variants

from medrestore.experiments.demo import find_demo, run_demo
from medrestore.operators.mr_sequences import CONTRASTS
from medrestore.tracking.store import open_client

PSNR = "t1w/psnr"
SUBJECT = "multicontrast-mri"
DEMO = find_demo(SUBJECT)
SIZE = replace(MRI_SIZE, groups=(replace(MRI_SIZE.groups[0], controls=0), *MRI_SIZE.groups[1:]))


@pytest.mark.slow
def test_demo_registers_trains_restores_evaluates_and_continues(tmp_path, capsys):
    output, variants = tmp_path / "output", tiny_variants(tmp_path / "tiny.yaml", SUBJECT)
    arguments = {"size": SIZE, "seed": 3, "variants": variants, "methods": ("gan", "taskgan")}
    evaluation = run_demo(SUBJECT, output, **arguments)
    printed = capsys.readouterr().out
    assert "medrestore compare" in printed

    registered = pd.read_csv(output / "cohort" / "registration.csv")
    assert len(registered) == 4 * len(CONTRASTS)
    restored = {path.name for path in (output / "restored" / "taskgan").glob("*.nii.gz")}
    test = pd.read_csv(output / "cohort" / "manifest.csv").query("split == 'test'")
    assert restored == {
        f"{row.subject_id}_{row.session_id}_{contrast}_restored.nii.gz"
        for row in test.itertuples()
        for contrast in CONTRASTS
    }
    summary = pd.read_csv(evaluation / "summary.csv")
    assert {"classical", "gan", "taskgan", "true"} == set(summary["method"])
    assert {f"{contrast}/psnr" for contrast in CONTRASTS} <= set(summary["metric"])
    observed = summary[(summary["method"] == "true") & summary["metric"].str.contains("observer")]
    assert len(observed) > 0
    gan = summary[(summary["method"] == "gan") & (summary["metric"] == PSNR)]
    assert f"{gan['mean'].item():.2f}" in printed

    runs = open_client(f"sqlite:///{output}/mlflow.db")
    assert runs.get_experiment_by_name(DEMO.experiment) is not None
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.nii.gz")}
    assert run_demo(SUBJECT, output, **arguments) == evaluation
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*.nii.gz")} == before
