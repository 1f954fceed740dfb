"""Evaluations of several seeds in one table."""

import json
from pathlib import Path

import pandas as pd
import pytest

from medrestore.checks import InputError
from medrestore.domains.base import metrics_of
from medrestore.evaluation.pool import pool_evaluations
from medrestore.evaluation.record import RECORD
from medrestore.files import sha256_file


def evaluation(folder: Path, psnr: dict[str, list[float]], **record: object) -> Path:
    folder.mkdir()
    rows = [
        {
            "subject_id": f"sub-{index}",
            "session_id": "ses-01",
            "method": method,
            "label": index % 2,
            "psnr": value,
        }
        for method, values in psnr.items()
        for index, value in enumerate(values)
    ]
    pd.DataFrame(rows).to_csv(folder / "per_subject.csv", index=False)
    for name in ("summary.csv", "differences.csv"):
        pd.DataFrame({"method": []}).to_csv(folder / name, index=False)
    (folder / RECORD).write_text(
        json.dumps({"finished": True, "domain": "amyloid_pet", "split": "test", **record})
    )
    return folder


def test_mean_over_seeds_and_pairs(tmp_path):
    a = evaluation(tmp_path / "a", {"gan": [30.0, 32.0], "taskgan": [31.0, 33.0], "l1": [29.0, 29.0]})
    b = evaluation(tmp_path / "b", {"gan": [28.0, 30.0], "taskgan": [31.0, 33.0]})
    text = pool_evaluations([a, b], metrics_of=metrics_of)
    # By hand: GAN (29 + 31) / 2 = 30, Task-GAN (31 + 33) / 2 = 32, paired difference 2 for both subjects.
    assert "30.00 (29.00, 31.00)" in text
    assert "32.00 (31.00, 33.00)" in text
    assert "+2.00 (+2.00, +2.00)" in text
    assert "L1" not in text  # not in every evaluation


def test_the_verdict_is_over_the_pooled_values(tmp_path):
    # Over both seeds GAN has 30 and 34, input 31 and 33: -1 and +1, while either seed alone tells them apart.
    a = evaluation(tmp_path / "a", {"input": [30.0, 32.0], "gan": [32.0, 36.0]})
    b = evaluation(tmp_path / "b", {"input": [32.0, 34.0], "gan": [28.0, 32.0]})
    for folders, word in (([a], "better than"), ([b], "worse than"), ([a, b], "no different from")):
        text = pool_evaluations(folders, metrics_of=metrics_of)
        assert text.startswith(f"### Verdict\n\n**GAN**: {word} the input (PSNR (dB) ")
    assert "PSNR (dB) +0.00 (-1.00, +1.00), no different)" in text


def test_records_that_name_no_kind_of_image_are_read(tmp_path):
    a, b = (evaluation(tmp_path / name, {"gan": [30.0, 32.0]}) for name in "ab")
    (b / RECORD).write_text(json.dumps({"finished": True, "split": "test"}))
    assert pool_evaluations([a, b], metrics_of=metrics_of) == pool_evaluations([a], metrics_of=metrics_of)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text.replace(",", ";").encode(), "no column subject_id, method"),
        (lambda text: text.encode("utf-16"), "codec can't decode"),
        (lambda text: (text + "a,b,c,d,e,f,g,h\n").encode(), "Expected 5 fields"),
    ],
)
def test_tables_that_a_spreadsheet_rewrote_are_refused(tmp_path, change, reason):
    table = evaluation(tmp_path / "a", {"gan": [30.0, 32.0]}) / "per_subject.csv"
    table.write_bytes(change(table.read_text()))
    with pytest.raises(
        InputError, match=rf"per_subject\.csv: is not as .*{reason}.*Remedy: put the file back"
    ):
        pool_evaluations([tmp_path / "a"], metrics_of=metrics_of)


def test_different_cohorts_are_refused(tmp_path):
    a = evaluation(tmp_path / "a", {"gan": [30.0, 32.0]}, manifest_sha256="1")
    b = evaluation(tmp_path / "b", {"gan": [30.0, 32.0]}, manifest_sha256="2")
    with pytest.raises(InputError, match="was evaluated with manifest_sha256 2"):
        pool_evaluations([a, b], metrics_of=metrics_of)
    with pytest.raises(InputError, match="at least one"):
        pool_evaluations([], metrics_of=metrics_of)


def test_anchors_by_other_regions_are_no_further_seeds(tmp_path):
    a = evaluation(tmp_path / "a", {"gan_anchored": [30.0, 32.0]}, anchor="regions")
    b = evaluation(tmp_path / "b", {"gan_anchored": [30.0, 32.0]}, anchor="atlas")
    with pytest.raises(InputError, match=r"was evaluated with anchor atlas, .* with regions"):
        pool_evaluations([a, b], metrics_of=metrics_of)
    assert "31.00 (30.00, 32.00)" in pool_evaluations([a, a], metrics_of=metrics_of)


def test_names_that_look_like_no_value(tmp_path):
    """A subject or method may be called NA, null or 007: none is left out of a mean."""
    folder = evaluation(tmp_path / "a", {"NA": [30.0, 32.0, 40.0], "007": [31.0, 33.0, 41.0]})
    table = pd.read_csv(folder / "per_subject.csv", dtype=str)
    table["subject_id"] = ["NA", "null", "007"] * 2
    table["method"] = ["NA"] * 3 + ["007"] * 3
    table.to_csv(folder / "per_subject.csv", index=False)
    text = pool_evaluations([folder], metrics_of=metrics_of)
    assert "34.00 (30.00, 40.00)" in text
    assert "| NA " in text
    assert "| 007 " in text


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("30.0", '"30,0"'),
        lambda text: text.splitlines()[0] + "\n",
        lambda text: text + text.splitlines()[1] + "\n",
        lambda text: "\n".join(text.splitlines()[:-1]) + "\n",
        lambda text: text.replace("31.0", "abc"),
    ],
    ids=["decimal comma", "no row", "row twice", "row lost", "text"],
)
def test_tables_of_other_values_are_refused(tmp_path, change):
    folder = evaluation(tmp_path / "a", {"gan": [30.0, 32.0], "l1": [31.0, 33.0]})
    written = {"per_subject": sha256_file(folder / "per_subject.csv")}
    record = {"finished": True, "domain": "amyloid_pet", "split": "test", "tables_sha256": written}
    (folder / RECORD).write_text(json.dumps(record))
    assert "31.00 (30.00, 32.00)" in pool_evaluations([folder], metrics_of=metrics_of)
    table = folder / "per_subject.csv"
    table.write_text(change(table.read_text()))
    with pytest.raises(InputError, match=r"per_subject\.csv: is not as the evaluation wrote it"):
        pool_evaluations([folder], metrics_of=metrics_of)


def test_a_record_of_brackets_is_refused(tmp_path):
    folder = evaluation(tmp_path / "a", {"gan": [30.0]})
    (folder / RECORD).write_text("[" * 100_000)
    with pytest.raises(InputError, match="is no record of an evaluation"):
        pool_evaluations([folder], metrics_of=metrics_of)


@pytest.mark.parametrize(
    "entry",
    [{"pairs": ["ab"]}, {"pairs": [["gan"]]}, {"pairs": 3}, {"pairs": [["gan", 1]]}, {"tables_sha256": "x"}],
)
def test_a_record_that_a_hand_changed_is_refused(tmp_path, entry):
    folder = evaluation(tmp_path / "a", {"gan": [30.0]})
    (folder / RECORD).write_text(
        json.dumps({"finished": True, "domain": "amyloid_pet", "split": "test", **entry})
    )
    with pytest.raises(InputError, match=rf"is not as the evaluation wrote it \({next(iter(entry))}\)"):
        pool_evaluations([folder], metrics_of=metrics_of)
