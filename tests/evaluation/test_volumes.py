"""Pairs of volumes of a kind of image that says no more than what air is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medrestore.checks import InputError
from medrestore.data.intensity import Intensity
from medrestore.data.pairs import pair_schema
from medrestore.data.schema import Schema
from medrestore.data.volumes import SourceGrid, write_volume
from medrestore.evaluation.drawing import at_quartiles
from medrestore.evaluation.record import Evaluation
from medrestore.evaluation.titles import FIDELITY, Metrics
from medrestore.evaluation.volumes import evaluate_volumes

HOUNSFIELD = Intensity(nothing=-1000)
METRICS = Metrics(FIDELITY, pairs=(("l1", "input"),))
GRID = SourceGrid.from_affine((12, 14, 4), np.diag([8.0, 8.0, 12.0, 1.0]))
SUBJECTS = ("a", "b", "c", "d")


def head(number: int) -> np.ndarray:
    image = np.full(GRID.shape, -1000.0)
    image[3:9, 3:11, 1:3] = 40.0 + number
    return image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Heads whose degraded images are 100 HU too high or more, and restored ones 10."""
    schema = pair_schema(intensity=HOUNSFIELD)
    (tmp_path / "l1").mkdir()
    rows = []
    for number, name in enumerate(SUBJECTS):
        row = {"subject_id": name, "session_id": "1", "split": "test"}
        for column, error in (("degraded", 100 + number), ("target", 0)):
            path = write_volume(head(number) + error, GRID, tmp_path / f"{name}_{column}.nii.gz")
            row[column] = path.name
        write_volume(head(number) + 10, GRID, tmp_path / "l1" / f"{name}_1_restored.nii.gz")
        rows.append(row)
    schema.write(schema.with_checksums(pd.DataFrame(rows), tmp_path), tmp_path / "manifest.csv")
    return tmp_path


def evaluate(folder: Path, schema: Schema) -> Evaluation:
    return evaluate_volumes(
        folder / "manifest.csv",
        domain="ct",
        metrics=METRICS,
        schema=schema,
        intensity=HOUNSFIELD,
        methods={"l1": folder / "l1"},
        output=folder / "out",
        progress=False,
    )


def test_numbers_are_those_above_air(folder):
    found = evaluate(folder, pair_schema(intensity=HOUNSFIELD))
    table = found.per_subject.set_index(["subject_id", "method"])
    assert list(found.per_subject["method"]) == ["input", "l1", "true"] * len(SUBJECTS)
    for number, name in enumerate(SUBJECTS):
        peak = 1040 + number  # above air
        assert table.loc[(name, "true"), "data_range"] == peak
        assert np.isnan(table.loc[(name, "true"), "psnr"])
        for method, error in (("input", 100 + number), ("l1", 10)):
            # float32 volumes
            expected = pytest.approx(20 * np.log10(peak / error), rel=1e-5)
            assert table.loc[(name, method), "psnr"] == expected
    text = (found.output / "tables.md").read_text(encoding="utf-8")
    assert "4 subjects, 4 scans of split test" in text and "L1 - Input" in text
    assert (found.output / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_tables_without_pairs_are_refused(folder):
    with pytest.raises(InputError, match="manifests of ct hold no pairs"):
        evaluate(folder, Schema((), ()))


def test_at_most_three_are_shown():
    assert at_quartiles("abc") == ["a", "b", "c"]
    assert at_quartiles("abcde") == ["b", "c", "d"]
