"""Evaluations of several seeds in one table."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from medrestore.checks import InputError
from medrestore.evaluation.pool import pool_evaluations
from medrestore.evaluation.record import RECORD


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
    (folder / RECORD).write_text(json.dumps({"finished": True, "split": "test", **record}))
    return folder


def test_mean_over_seeds_and_pairs(tmp_path: Path) -> None:
    a = evaluation(tmp_path / "a", {"gan": [30.0, 32.0], "taskgan": [31.0, 33.0], "l1": [29.0, 29.0]})
    b = evaluation(tmp_path / "b", {"gan": [28.0, 30.0], "taskgan": [31.0, 33.0]})
    text = pool_evaluations([a, b])
    # By hand: GAN (29 + 31) / 2 = 30, Task-GAN (31 + 33) / 2 = 32, paired difference 2 for both subjects.
    assert "30.00 (29.00, 31.00)" in text
    assert "32.00 (31.00, 33.00)" in text
    assert "+2.00 (+2.00, +2.00)" in text
    assert "L1" not in text  # not in every evaluation


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text.replace(",", ";").encode(), "no column subject_id, method"),
        (lambda text: text.encode("utf-16"), "codec can't decode"),
        (lambda text: (text + "a,b,c,d,e,f,g,h\n").encode(), "Expected 5 fields"),
    ],
)
def test_tables_that_a_spreadsheet_rewrote_are_refused(
    tmp_path: Path, change: Callable[[str], bytes], reason: str
) -> None:
    table = evaluation(tmp_path / "a", {"gan": [30.0, 32.0]}) / "per_subject.csv"
    table.write_bytes(change(table.read_text()))
    with pytest.raises(
        InputError, match=rf"per_subject\.csv: is not as .*{reason}.*Remedy: put the file back"
    ):
        pool_evaluations([tmp_path / "a"])


def test_different_cohorts_are_refused(tmp_path: Path) -> None:
    a = evaluation(tmp_path / "a", {"gan": [30.0, 32.0]}, manifest_sha256="1")
    b = evaluation(tmp_path / "b", {"gan": [30.0, 32.0]}, manifest_sha256="2")
    with pytest.raises(InputError, match="was evaluated with manifest_sha256 2"):
        pool_evaluations([a, b])
    with pytest.raises(InputError, match="at least one"):
        pool_evaluations([])
