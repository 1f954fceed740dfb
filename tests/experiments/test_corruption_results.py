from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medrestore.checks import InputError
from medrestore.domains.histology.domain import DOMAIN
from medrestore.experiments.corruption_plan import find_study
from medrestore.experiments.corruption_results import (
    TABLES,
    StudyResults,
    pool_cells,
    ratio_of_means,
    write_results,
)

Cells = dict[tuple[float, int], pd.DataFrame]
VARIANTS = ("e", "qe", "sqe")
OF_KIND = find_study("histology"), DOMAIN.metrics


def one(table: pd.DataFrame, **values: Any) -> pd.Series[Any]:
    for name, value in values.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def slow_means(cells: Cells, level: float, variant: str, metric: str) -> dict[str, float]:
    """Patient by patient, by loops: the mean over tiles of the mean over seeds."""
    values: dict[str, dict[str, list[float]]] = {}
    for (at, _), table in cells.items():
        for row in table.to_dict("records"):
            if at == level and row["method"] == variant:
                values.setdefault(row["subject_id"], {}).setdefault(row["session_id"], []).append(row[metric])
    return {
        patient: sum(sum(seeds) / len(seeds) for seeds in tiles.values()) / len(tiles)
        for patient, tiles in values.items()
    }


def test_means_and_changes_are_those_of_loops(make_cells):
    cells = make_cells()
    found = pool_cells(cells, *OF_KIND, variants=VARIANTS)

    assert found.variants == list(VARIANTS)
    assert found.levels == [0.0, 0.15, 0.3]
    assert found.seeds == 3
    for level in found.levels:
        for variant in VARIANTS:
            means = slow_means(cells, level, variant, "qilv")
            row = one(found.results, level=level, variant=variant, metric="qilv")
            # Both are sums of the same doubles in another order.
            assert row["mean"] == pytest.approx(sum(means.values()) / len(means), rel=1e-12)
            assert (row["seeds"], row["patients"]) == (3, 8)
            assert row["low"] < row["mean"] < row["high"]
    changes = {
        variant: {
            patient: value - slow_means(cells, 0.0, variant, "rrmse")[patient]
            for patient, value in slow_means(cells, 0.3, variant, "rrmse").items()
        }
        for variant in VARIANTS
    }
    for variant in VARIANTS:
        row = one(found.changes, level=0.3, variant=variant, metric="rrmse")
        mean = sum(changes[variant].values()) / 8
        assert row["change"] == pytest.approx(mean, rel=1e-9)
        assert row["low"] < row["change"] < row["high"]
        assert min(changes[variant].values()) <= row["low"]
    row = one(found.changes, level=0.3, variant="sqe", metric="rrmse")
    assert row["ratio"] == pytest.approx(sum(changes["sqe"].values()) / sum(changes["e"].values()), rel=1e-9)
    assert row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
    assert math.isnan(one(found.changes, level=0.3, variant="e", metric="rrmse")["ratio"])


def test_seeds_are_no_further_patients(make_cells):
    """Five seeds that say the same leave the interval as it is with one."""
    one_seed = make_cells(seeds=(0,))
    repeated = {(level, seed): table for (level, _), table in one_seed.items() for seed in range(5)}
    single, several = (pool_cells(cells, *OF_KIND, variants=VARIANTS) for cells in (one_seed, repeated))
    columns = ["mean", "low", "high", "patients"]
    # Means of five equal doubles may differ in the last bit.
    pd.testing.assert_frame_equal(single.results[columns], several.results[columns], rtol=1e-12)


def test_reference_has_no_level_and_each_seed_its_mean(make_cells):
    cells = make_cells()
    found = pool_cells(cells, *OF_KIND, variants=VARIANTS)
    row = found.results[(found.results["variant"] == "bicubic") & (found.results["metric"] == "rrmse")]
    assert len(row) == 1
    assert math.isnan(row["level"].item())
    assert row["seeds"].item() == 0
    table = cells[0.15, 2]
    held = table[table["method"] == "qe"]
    seed = one(found.by_seed, level=0.15, seed=2, variant="qe", metric="rrmse")
    assert seed["mean"] == pytest.approx(held["rrmse"].mean(), rel=1e-12)  # as many tiles of each patient
    assert "bicubic" not in set(found.by_seed["variant"])


def test_differences_are_paired_at_each_level(make_cells):
    cells = make_cells()
    found = pool_cells(cells, *OF_KIND, variants=VARIANTS)
    pairs = set(zip(found.differences["first"], found.differences["second"], strict=True))
    assert pairs == {("qe", "e"), ("sqe", "qe"), ("sqe", "e")}
    row = one(found.differences, level=0.3, first="sqe", second="e", metric="rrmse")
    first, second = (slow_means(cells, 0.3, name, "rrmse") for name in ("sqe", "e"))
    assert row["mean"] == pytest.approx(np.mean([first[key] - second[key] for key in first]), rel=1e-9)


def test_one_patient_gives_no_interval_and_no_ratio(make_cells):
    found = pool_cells(make_cells(patients=1), *OF_KIND, variants=VARIANTS)
    assert found.results[["low", "high"]].isna().all(axis=None)
    assert found.changes["change"].notna().all()
    assert found.changes["ratio"].isna().all()


def test_ratio_by_hand_and_none_to_what_may_be_nothing():
    assert tuple(ratio_of_means([1.0, 1.0], [4.0, 4.0], seed=0)) == (0.25, 0.25, 0.25)
    assert tuple(ratio_of_means([-1.0, -1.0], [-2.0, -2.0], seed=0)) == (0.5, 0.5, 0.5)
    # Of two patients a quarter of the samples is the first twice: the interval of the mean holds 0.
    assert np.isnan(ratio_of_means([1.0, 1.0], [-1.0, 3.0], seed=0)).all()
    assert np.isnan(ratio_of_means([1.0], [2.0], seed=0)).all()


def test_tables_are_written(tmp_path, make_cells):
    found = pool_cells(make_cells(), *OF_KIND, variants=VARIANTS)
    write_results(found, tmp_path)
    for name in TABLES:
        again = pd.read_csv(tmp_path / f"{name}.csv")
        pd.testing.assert_frame_equal(getattr(found, name), again, check_dtype=False)
    header = (tmp_path / "results.csv").read_text().splitlines()[0]
    assert header == "level,variant,metric,mean,low,high,seeds,patients"


def test_evaluations_that_do_not_belong_together_are_refused(make_cells):
    cells = make_cells(levels=(0.0, 0.3), seeds=(0, 1))
    with pytest.raises(InputError, match="at least one evaluation"):
        pool_cells({}, *OF_KIND, variants=VARIANTS)
    whole = dict(cells)
    del whole[0.3, 1]
    with pytest.raises(InputError, match=r"there is no evaluation of level 0\.3 seed 1"):
        pool_cells(whole, *OF_KIND, variants=VARIANTS)
    with pytest.raises(InputError, match="level 0 seed 0 has no method 'srgan'"):
        pool_cells(cells, *OF_KIND, variants=("srgan", "e"))
    other = {**cells, (0.3, 1): cells[0.3, 1].iloc[1:]}
    with pytest.raises(InputError, match=r"'e' at level 0\.3 with seed 1 is one of other tiles"):
        pool_cells(other, *OF_KIND, variants=VARIANTS)


def test_a_study_of_one_level_has_no_changes(make_cells):
    found = pool_cells(make_cells(levels=(0.3,)), *OF_KIND, variants=VARIANTS)
    assert isinstance(found, StudyResults)
    assert found.changes.empty
    assert found.levels == [0.3]
