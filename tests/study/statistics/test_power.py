"""Power against simulation-free checks: noncentral t, limits, and counting upwards."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

from medrestore.checks import InputError
from medrestore.cli import app
from medrestore.study.analysis.analyze import study_reads
from medrestore.study.record.store import ReadStore
from medrestore.study.statistics.power import (
    Pilot,
    power,
    power_of_table,
    smallest_cases,
)
from medrestore.study.statistics.reads import read_table

PILOT = Pilot(readers=5, methods=2, cases=114, var_tr=2.0e-4, error=4.56e-4, between=1.05e-4)


def slow_power(pilot: Pilot, d: float, readers: int, cases: float, alpha: float) -> float:
    """Hillis 2011 with scalars; F' with one degree of freedom is the square of a noncentral t."""
    share = pilot.cases / cases
    variance = pilot.var_tr + share * (pilot.error + (readers - 1) * pilot.between)
    ddf = variance**2 / ((pilot.var_tr + share * (pilot.error - pilot.between)) ** 2 / (readers - 1))
    shift = math.sqrt(readers * d**2 / (2 * variance))
    edge = stats.t.ppf(1 - alpha / 2, ddf)
    return float(stats.nct.sf(edge, ddf, shift) + stats.nct.cdf(-edge, ddf, shift))


@pytest.mark.parametrize("readers", [2, 4, 10])
@pytest.mark.parametrize("d", [0.01, 0.05, 0.1])
def test_power_is_that_of_a_noncentral_t(readers, d):
    cases = np.array([20.0, 114.0, 300.0])
    expected = [slow_power(PILOT, d, readers, k, 0.05) for k in cases]
    assert power(PILOT, d, readers=readers, cases=cases) == pytest.approx(expected, rel=1e-8)


def test_limits():
    tiny = power(PILOT, 1e-9, readers=5, cases=100.0, alpha=0.05)
    assert float(tiny) == pytest.approx(0.05, abs=1e-6)
    endless = power(PILOT, 0.03, readers=5, cases=math.inf)
    assert float(endless) == pytest.approx(slow_power(PILOT, 0.03, 5, 1e12, 0.05), rel=1e-6)
    still = Pilot(readers=5, methods=2, cases=50, var_tr=0.0, error=0.0, between=0.0)
    assert float(power(still, 0.01, readers=3, cases=50.0)) == 1
    # ddf is infinite
    one_reader_is_all = Pilot(
        readers=5, methods=2, cases=50, var_tr=0.0, error=2e-4, between=2e-4
    )  # ddf is infinite
    shift = 3 * 0.02**2 / (2 * 6e-4)
    expected = stats.norm.sf(1.959964 - math.sqrt(shift)) + stats.norm.cdf(-1.959964 - math.sqrt(shift))
    assert float(power(one_reader_is_all, 0.02, readers=3, cases=50.0)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("readers", [3, 4, 6, 10])
@pytest.mark.parametrize("d", [0.0438, 0.09, 0.2])
def test_the_smallest_number_of_cases_is_found_by_counting(readers, d):
    found = smallest_cases(PILOT, d, readers=readers, target=0.8)
    enough = power(PILOT, d, readers=readers, cases=np.arange(4.0, 3000.0)) >= 0.8
    assert found == (int(np.flatnonzero(enough)[0]) + 4 if enough.any() else None)


def test_more_cases_alone_may_not_do():
    assert smallest_cases(PILOT, 0.0438, readers=3, target=0.8) is None
    assert float(power(PILOT, 0.0438, readers=3, cases=math.inf)) < 0.8


def test_the_command_writes_table_and_sizes(make_reads, tmp_path):
    path, output = tmp_path / "pilot.csv", tmp_path / "power"
    make_reads(3, readers=("a", "b", "c", "d"), positive=20, negative=30).to_csv(path, index=False)
    command = ["study", "power", str(path), "--difference", "0.05", "--output", str(output)]
    plans = ["--readers", "3", "--readers", "8", "--cases", "100", "--cases", "400"]
    result = CliRunner().invoke(app, [*command, *plans], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    entry = json.loads((output / "power.json").read_text())
    assert [(row["readers"], row["cases"]) for row in entry["power"]] == [
        (3, 100),
        (3, 400),
        (8, 100),
        (8, 400),
    ]
    assert [row["readers"] for row in entry["sizes"]] == [3, 8]
    table = pd.read_csv(output / "power.csv")
    assert table["power"].tolist() == pytest.approx([row["power"] for row in entry["power"]])
    assert "cases for 0.8" in result.output
    pilot = Pilot(**entry["pilot"])
    expected = slow_power(pilot, 0.05, 8, 400, 0.05)
    assert entry["power"][-1]["power"] == pytest.approx(expected, rel=1e-8)


def test_a_study_is_a_pilot(make_study, good_answers, tmp_path):
    """The same numbers as of its reads in a long table."""
    study = make_study(tmp_path / "study", cases=6, duplicates=0)
    random = np.random.default_rng(2)
    with ReadStore(study) as store:
        store.append_many(
            [
                {
                    "answer_id": f"00000000-0000-4000-8000-{number:012}",
                    "read_id": row.read_id,
                    "reader": row.reader,
                    "answers": {
                        **good_answers,
                        "positive": bool(random.integers(2)),
                        "confidence": int(random.integers(1, 6)),
                    },
                    "origin": "import",
                }
                for number, row in enumerate(study.reading_list.itertuples())
            ]
        )
    reads = study_reads(study, metric="auc")
    assert len(reads) == 2 * 3 * 6
    found = power_of_table(read_table(reads), difference=0.1)
    assert found.pilot.cases == 6
    command = ["study", "power", str(study.folder), "--difference", "0.1"]
    assert CliRunner().invoke(app, command, catch_exceptions=False).output == f"{found.summary}\n"


def test_sensitivity_counts_positive_cases(make_reads):
    table = read_table(make_reads(3, positive=20, negative=30))
    found = power_of_table(table, difference=0.1, metric="sensitivity", positive_from=3)
    assert found.pilot.cases == 20
    assert "positive cases for 0.8" in found.summary
    assert 20 in found.table["cases"].to_numpy()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"difference": 0}, r"difference must be in \(0, inf\), got 0"),
        ({"target": 0.04}, r"target must be in \(0.05, 1\), got 0.04"),
        ({"readers": (1,)}, r"readers must be in \[2, 10000\], got 1"),
        ({"cases": (2,)}, r"cases must be in \[4, 1000000000\], got 2"),
        ({"metric": "area"}, "metric must be one of"),
    ],
)
def test_wrong_settings_are_refused(make_reads, settings, message):
    with pytest.raises(InputError, match=message):
        power_of_table(read_table(make_reads(3)), **{"difference": 0.1, **settings})


@pytest.mark.parametrize("names", [{"readers": ("Ann",)}, {"methods": ("gan",)}])
def test_a_pilot_of_one_is_refused(make_reads, names):
    with pytest.raises(InputError, match="power needs a pilot of two readers and two methods or more"):
        power_of_table(read_table(make_reads(3, **names)), difference=0.1)
