from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medrestore.checks import InputError
from medrestore.domains.base import metrics_of
from medrestore.evaluation.record import Evaluation
from medrestore.evaluation.tables import difference_table, summary_table
from medrestore.tracking.compare import compare, render
from medrestore.tracking.evaluations import log_evaluation
from medrestore.tracking.store import RecordingError, open_client


def make_evaluation(folder: Path, *, shift: float = 0.0) -> Evaluation:
    rows = [
        {
            "subject_id": f"s{subject}",
            "session_id": "1",
            "method": method,
            "label": subject % 2,
            "psnr": np.nan if method == "standard_dose" else 20.0 + 3 * number + subject + shift,
            "dose_equivalent": np.nan if method == "standard_dose" else 0.1,
            "dose_equivalent_bound": ">" if method == "gan" and subject == 1 else "",
            "observer_score": 0.1 + 0.2 * subject,
            "observer_mae": 0.3 - 0.05 * number,
            "observer_error": 0.0,
            "suvr": 1.2 + 0.1 * subject,
            "suvr_bias": np.nan if method == "standard_dose" else 0.01 * subject,
            "suvr_absolute_error": np.nan if method == "standard_dose" else 0.01 * subject,
        }
        for number, method in enumerate(("input", "gan", "taskgan", "standard_dose"))
        for subject in range(4)
    ]
    table = pd.DataFrame(rows)
    folder.mkdir()
    for name in ("tables.md", "per_subject.csv", "figure.png"):
        (folder / name).write_text(name)
    record = {
        "domain": "amyloid_pet",
        "manifest_sha256": f"{shift}",
        "split": "test",
        "methods": {"gan": "a", "taskgan": "b"},
        "seed": 0,
        "pairs": [["taskgan", "gan"]],
        "tuned_filters": {"gaussian": {"parameter": "fwhm_mm", "value": 8.0}},
    }
    return evaluation_of(table, "amyloid_pet", folder, record)


def evaluation_of(
    table: pd.DataFrame, domain: str, folder: Path, record: dict[str, Any], **settings: Any
) -> Evaluation:
    metrics = metrics_of(domain, ())
    return Evaluation(
        output=folder,
        per_subject=table,
        summary=summary_table(table, metrics=metrics, seed=0),
        differences=difference_table(table, metrics=metrics, seed=0, **settings),
        metrics=metrics,
        record=record,
    )


def test_methods_are_nested_runs_with_metrics_of_the_same_names(tmp_path, tracking_uri):
    evaluation = make_evaluation(tmp_path / "evaluation")
    run_id = log_evaluation(evaluation, experiment="nested", tracking_uri=tracking_uri)
    client = open_client(tracking_uri)
    parent = client.get_run(run_id)
    runs = client.search_runs([parent.info.experiment_id], f"tags.mlflow.parentRunId = '{run_id}'")
    assert {run.info.run_name for run in runs} == {"Input", "GAN", "Task-GAN", "Standard dose"}
    assert all(run.info.status == "FINISHED" for run in [parent, *runs])
    methods = {run.data.tags["method"]: run.data.metrics for run in runs}
    row = evaluation.summary.set_index(["method", "metric"]).loc[("taskgan", "psnr")]
    assert methods["taskgan"]["psnr"] == row["mean"] == 27.5  # 26 + 0, 1, 2, 3
    assert (methods["taskgan"]["psnr_low"], methods["taskgan"]["psnr_high"]) == (row["low"], row["high"])
    assert not [name for name in methods["taskgan"] if "subjects" in name]  # no curves of counts
    assert set(methods["taskgan"]) == set(methods["gan"])
    assert "suvr_upper_limit_low" not in methods["gan"]
    assert "psnr" not in methods["standard_dose"]
    assert parent.data.metrics["difference/taskgan/gan/psnr"] == 3.0
    # .05 lower in every subject
    assert parent.data.metrics["verdict/gan/input/observer_mae_high"] == pytest.approx(-0.05, abs=1e-12)
    tags = {run.data.tags["method"]: run.data.tags.get("verdict", "") for run in runs}
    assert tags["taskgan"].startswith("better than the input (") and tags["input"] == ""
    assert parent.data.params["filters.gaussian_fwhm_mm"] == "8.0"
    assert parent.data.params["manifest_sha256"] == "0.0"
    files = {item.path for item in client.list_artifacts(run_id)}
    assert files == {"tables.md", "per_subject.csv", "figure.png"}


def test_an_evaluation_is_recorded_once(tmp_path, tracking_uri):
    evaluation = make_evaluation(tmp_path / "evaluation")
    first = log_evaluation(evaluation, experiment="once", tracking_uri=tracking_uri)
    assert log_evaluation(evaluation, experiment="once", tracking_uri=tracking_uri) == first
    assert len(set(compare("once", tracking_uri=tracking_uri)["evaluation"])) == 1


def test_the_tables_come_back_from_mlflow_alone(tmp_path, tracking_uri):
    evaluation = make_evaluation(tmp_path / "evaluation")
    run_id = log_evaluation(evaluation, experiment="tables", tracking_uri=tracking_uri)
    table = compare("tables", tracking_uri=tracking_uri)
    title, _, text = render(table).partition("\n\n")
    assert title.startswith(f"## evaluation {run_id[:8]}, 20")
    assert title.endswith(" UTC")
    assert text == evaluation.markdown
    assert text.startswith("### Verdict\n\n**GAN**: better than the input (Observer MAE -0.050 (")
    assert "≥ 0.100" in text
    assert "+3.00 (+3.00, +3.00)" in text


def test_tables_of_contrasts_and_groups_come_back_too(tmp_path, tracking_uri):
    rows = [
        {
            "subject_id": f"s{subject}",
            "session_id": "1",
            "group": ("patient", "control")[subject % 2],
            "contrast": contrast,
            "method": method,
            "psnr": np.nan if method == "true" else 20.0 + number + subject + 5 * place,
            "cnr": 2.0 + number if subject % 2 == 0 else np.nan,
            "observer_slice_accuracy": 0.5 + 0.1 * number,
            "lesion_dice": 0.5 if contrast == "t2_flair" else np.nan,
        }
        # In another order than that of the tables, which must not depend on how MLflow returns metrics.
        for place, contrast in enumerate(("t2_flair", "pdw", "t1w", "dwi"))
        for number, method in enumerate(("classical", "gan", "taskgan", "true"))
        for subject in range(4)
    ]
    record = {
        "manifest_sha256": "c",  # no domain: a record of before is read too
        "contrasts": ["t2_flair", "pdw", "t1w", "dwi"],
        "seed": 0,
    }
    evaluation = evaluation_of(pd.DataFrame(rows), "multicontrast_mri", tmp_path, record)
    run_id = log_evaluation(evaluation, experiment="contrasts", tracking_uri=tracking_uri)
    parent = open_client(tracking_uri).get_run(run_id)
    assert parent.data.metrics["difference/taskgan/gan/t1w/psnr"] == 1.0
    counts = parent.data.tags["subjects/difference/taskgan/gan"].split(", ")
    assert counts[0] == "2"  # of most, those of patients and controls
    assert "t1w/psnr 4" in counts
    text = render(compare("contrasts", tracking_uri=tracking_uri)).partition("\n\n")[2]
    assert text == evaluation.markdown
    head = next(line for line in text.splitlines() if line.startswith("| Method"))
    assert [cell.strip() for cell in head.split("|")[2:-1]] == ["T1w", "T2-FLAIR", "PDw", "dwi", "Mean"]
    assert "### PSNR (dB): control and patient apart" in text


def test_an_evaluation_of_tiles_is_compared_as_any(tmp_path, tracking_uri):
    rows = [
        {
            "subject_id": f"P{patient}",
            "session_id": f"P{patient}_x{tile}_y0",
            "method": method,
            "rrmse": np.nan if method == "true" else 0.1 - 0.01 * number + 0.002 * patient,
            "nuclei_density": 2000.0 + 100 * tile,
            "nuclei_error": np.nan if method == "true" else 0.05,
        }
        for number, method in enumerate(("bicubic", "e", "sqe", "true"))
        for patient in range(3)
        for tile in range(2)
    ]
    record = {
        "domain": "histology",
        "manifest_sha256": "t",
        "methods": {"e": "a", "sqe": "b"},
        "baselines": ["bicubic"],
        "seed": 0,
    }
    pairs = [("sqe", "e"), ("sqe", "bicubic")]
    evaluation = evaluation_of(pd.DataFrame(rows), "histology", tmp_path, record, pairs=pairs)
    run_id = log_evaluation(evaluation, experiment="tiles", tracking_uri=tracking_uri)
    parent = open_client(tracking_uri).get_run(run_id)
    assert parent.data.metrics["difference/sqe/bicubic/rrmse"] == pytest.approx(-0.02)
    text = render(compare("tiles", tracking_uri=tracking_uri)).partition("\n\n")[2]
    assert text == evaluation.markdown
    assert "### Nuclei and stains" in text and "SRGAN_SQE - SRGAN_E" in text


def test_the_latest_evaluation_comes_first(tmp_path, tracking_uri):
    ids = [
        log_evaluation(
            make_evaluation(tmp_path / f"{shift}", shift=shift), experiment="two", tracking_uri=tracking_uri
        )
        for shift in (0.0, 5.0)
    ]
    table = compare("two", tracking_uri=tracking_uri)
    psnr = table[(table["metric"] == "psnr") & (table["method"] == "input") & (table["second"] == "")]
    assert psnr["mean"].tolist() == [26.5, 21.5]
    assert [name.split()[1].rstrip(",") for name in psnr["evaluation"]] == [ids[1][:8], ids[0][:8]]
    assert render(table).count("### Paired differences") == 2


def test_a_record_that_fails_is_marked_and_left_out(tmp_path, tracking_uri, monkeypatch):
    from medrestore.tracking import evaluations as module

    evaluation = make_evaluation(tmp_path / "evaluation")

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no space")

    with (
        monkeypatch.context() as patch,
        pytest.raises(RecordingError, match=r"no space.*call the same again to record"),
    ):
        patch.setattr(module, "new_run", fail)
        log_evaluation(evaluation, experiment="failing", tracking_uri=tracking_uri)
    client = open_client(tracking_uri)
    experiment = client.get_experiment_by_name("failing")
    assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == ["FAILED"]
    with pytest.raises(InputError, match=r"experiment 'failing' of .* holds no finished evaluation"):
        compare("failing", tracking_uri=tracking_uri)
    log_evaluation(evaluation, experiment="failing", tracking_uri=tracking_uri)
    assert not compare("failing", tracking_uri=tracking_uri).empty


def test_a_mistaken_name_is_named(tmp_path, tracking_uri):
    with pytest.raises(InputError, match=r"has no experiment 'wrong'; it has .*Default"):
        compare("wrong", tracking_uri=tracking_uri)
    with pytest.raises(InputError, match="there is no such store"):
        compare("any", tracking_uri=f"sqlite:///{tmp_path}/nothing.db")
    assert not (tmp_path / "nothing.db").exists()
