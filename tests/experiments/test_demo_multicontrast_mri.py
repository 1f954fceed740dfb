"""The demo of multi-contrast MRI end to end, on a tiny cohort with tiny networks; a second call keeps all."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from medrestore.checks import InputError
from medrestore.domains.multicontrast_mri.simulate.design import MriCohortSize, MriSubjectGroup
from medrestore.engines.shelf import find_bundle
from medrestore.experiments.demo import find_demo, run_demo
from medrestore.operators.mr_sequences import CONTRASTS
from medrestore.tracking.store import open_client

PSNR = "t1w/psnr"
SUBJECT = "multicontrast-mri"
DEMO = find_demo(SUBJECT)
TINY = """
device: cpu
precision: fp32
spatial_size: [96, 112]
generator_channels: [4, 8, 8]
discriminator_channels: [4, 8]
task_channels: [4, 4, 4, 4, 4]
segmenter_channels: [4, 8]
batch_size: 6
batches_per_epoch: 2
pretrain_epochs: 1
contrast_epochs: 1
mixed_epochs: 1
segmenter_epochs: 1
"""
SIZE = MriCohortSize(
    "tiny",
    (
        MriSubjectGroup("train", patients=1, controls=1),
        MriSubjectGroup("validation", patients=1, controls=0),
        MriSubjectGroup("test", patients=1, controls=1),
    ),
)


def test_runs_are_overlays_of_the_bundle() -> None:
    overlays = {path.stem for path in (find_bundle(DEMO.bundle) / "variants").glob("*.yaml")}
    assert overlays >= {*DEMO.runs, "demo"}


@pytest.mark.slow
def test_demo_registers_trains_restores_evaluates_and_continues(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overlay = tmp_path / "tiny.yaml"
    overlay.write_text(TINY)
    output = tmp_path / "output"
    arguments = {"size": SIZE, "seed": 3, "variants": ("demo", str(overlay)), "methods": ("gan", "taskgan")}
    evaluation = run_demo(SUBJECT, output, **arguments)
    printed = capsys.readouterr().out
    assert "medrestore compare" in printed

    registered = pd.read_csv(output / "cohort" / "registration.csv")
    assert len(registered) == 5 * len(CONTRASTS)
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


def test_demo_refuses_a_folder_of_others(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="holds other files and no demo; nothing is overwritten"):
        run_demo(SUBJECT, tmp_path)
