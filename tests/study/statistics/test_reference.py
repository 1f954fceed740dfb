"""Van Dyke's study, as the Iowa OR-DBM program, MRMCaov and RJafroc print it: six digits and more.

Tolerances: 1e-6 relative, or half a unit in the last digit that is printed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from medrestore.study.statistics.agreement import cohen, fleiss, gwet, icc, krippendorff
from medrestore.study.statistics.analyze import Analysis, analyze_table
from medrestore.study.statistics.power import power_of_table
from medrestore.study.statistics.reads import read_table

RANDOM = "random_readers_random_cases"


def analyze(reads: pd.DataFrame, metric: str = "auc", **settings: Any) -> dict[str, Any]:
    return analyze_table(read_table(reads), metric=metric, **settings).as_dict()


def test_auc_of_each_reader(vandyke):
    entry = analyze(vandyke)
    found = {(row["method"], row["reader"]): row["estimate"] for row in entry["per_reader"]}
    expected = {
        "1": (0.91964573, 0.85877617, 0.90386473, 0.97310789, 0.82979066),
        "2": (0.94782609, 0.90531401, 0.92173913, 0.99935588, 0.92995169),
    }
    for method, areas in expected.items():
        for reader, area in zip("12345", areas, strict=True):
            assert found[method, reader] == pytest.approx(area, abs=5e-9)
    assert [row["mean"] for row in entry["methods"]] == pytest.approx([0.89703704, 0.94083736], abs=5e-9)


@pytest.mark.parametrize(
    ("covariance", "components", "test"),
    [
        (
            "jackknife",
            (8.022882656e-4, 3.466137094e-4, 3.440748289e-4, 2.390283709e-4),
            (4.456318693, 15.25967459, 0.05166568582),
        ),
        (
            "delong",
            (7.921324531e-4, 3.420089577e-4, 3.395265310e-4, 2.358496532e-4),
            (4.484854322, 15.06610794, 0.05123303082),
        ),
        (
            "unbiased",
            (7.883925117e-4, 3.416705566e-4, 3.390649796e-4, 2.356148455e-4),
            (4.489613895, 15.03418081, 0.05116180235),
        ),
    ],
)
def test_components_and_test_by_each_covariance(vandyke, covariance, components, test):
    entry = analyze(vandyke, covariance=covariance)
    found = entry["components"]
    assert [found[name] for name in ("var", "cov1", "cov2", "cov3")] == pytest.approx(components, rel=1e-9)
    assert found["ms_t"] == pytest.approx(0.00479617, abs=5e-9)
    assert found["ms_r"] == pytest.approx(0.00383620, abs=5e-9)
    assert found["ms_tr"] == pytest.approx(0.00055103, abs=5e-9)
    assert [entry[RANDOM][name] for name in ("f", "ddf", "p")] == pytest.approx(test, rel=1e-9)
    assert entry[RANDOM]["df1"] == 1


def test_intervals_and_other_analyses_by_jackknife(vandyke):
    entry = analyze(vandyke)
    assert entry["components"]["var_r"] == pytest.approx(0.00153500, abs=5e-9)
    assert entry["components"]["var_tr"] == pytest.approx(0.00020040, abs=5e-9)
    (difference,) = entry["differences"]
    assert (difference["first"], difference["second"]) == ("1", "2")
    assert difference["difference"] == pytest.approx(-0.04380032, abs=5e-9)
    assert difference["se"] == pytest.approx(0.02074861838, rel=1e-9)
    assert difference["low"] == pytest.approx(-0.0879594986, abs=5e-11)
    assert difference["high"] == pytest.approx(0.0003588544, abs=5e-11)
    assert difference["p"] == difference["p_adjusted"] == pytest.approx(0.05166568582, rel=1e-9)
    one, two = entry["methods"]
    assert (one["se"], one["df"]) == pytest.approx((0.03317360, 12.74), abs=5e-3)
    assert (one["low"], one["high"]) == pytest.approx((0.82522360, 0.96885048), abs=5e-9)
    assert two["se"] == pytest.approx(0.02156637, abs=5e-9)
    assert two["df"] == pytest.approx(12.71, abs=5e-3)
    assert (two["low"], two["high"]) == pytest.approx((0.89413783, 0.98753689), abs=5e-9)
    assert entry["fixed_readers"]["chi2"] == pytest.approx(5.47595, abs=5e-6)
    assert entry["fixed_readers"]["df"] == 1
    assert entry["fixed_readers"]["p"] == pytest.approx(0.0193, abs=5e-5)
    cases = entry["fixed_cases"]
    assert (cases["f"], cases["df1"], cases["ddf"]) == pytest.approx((8.704, 1, 4), abs=5e-4)
    assert cases["p"] == pytest.approx(0.04195875249, rel=1e-9)


def test_decisions(vandyke):
    sensitivity = analyze(vandyke, "sensitivity", positive_from=3)
    assert [row["mean"] for row in sensitivity["methods"]] == pytest.approx([0.8222222222, 0.92], abs=5e-11)
    found = [sensitivity[RANDOM][name] for name in ("f", "ddf", "p")]
    assert found == pytest.approx([6.689492697, 15.71732443, 0.02008822008], rel=1e-9)
    specificity = analyze(vandyke, "specificity", positive_from=3)
    means = [row["mean"] for row in specificity["methods"]]
    assert means == pytest.approx([0.8550724638, 0.8405797101], abs=5e-11)
    assert specificity[RANDOM]["p"] == pytest.approx(0.6702700973, rel=1e-9)
    errors = analyze(vandyke, "error_rate", positive_from=3)
    means = [row["mean"] for row in errors["methods"]]
    assert means == pytest.approx([0.1578947368, 0.1280701754], abs=5e-11)
    found = [errors[RANDOM][name] for name in ("f", "ddf", "p")]
    assert found == pytest.approx([1.293500218, 7.655571397, 0.289745345], rel=1e-9)


def test_non_inferiority(vandyke):
    (row,) = analyze(vandyke, reference="1", margin=0.05)["non_inferiority"]
    assert row["t"] == pytest.approx(4.520798462, rel=1e-9)
    assert row["p"] == pytest.approx(1.9488e-4, abs=5e-9)
    assert row["limit"] == pytest.approx(-0.0003588544, abs=5e-11)  # the other end of the interval of 1 - 2
    assert row["non_inferior"] is True


def test_power(vandyke):
    found = power_of_table(read_table(vandyke), difference=0.043800322, readers=(10,), cases=(165,))
    assert found.table["power"].item() == pytest.approx(0.805419947, rel=1e-8)


def test_agreement(vandyke):
    ratings = read_table(vandyke).ratings
    one, two = ratings[0].T, ratings[1].T
    binary = [(one >= 3).astype(float), (two >= 3).astype(float)]
    assert [fleiss(x).value for x in binary] == pytest.approx([0.59815815, 0.65388619], abs=5e-9)
    assert [gwet(x).value for x in binary] == pytest.approx([0.62216, 0.65837], abs=5e-6)
    found = [gwet(x, weights="quadratic").value for x in (one, two)]
    assert found == pytest.approx([0.70757, 0.80686], abs=5e-6)
    found = [krippendorff(x, level="ordinal weights").value for x in (one, two)]
    assert found == pytest.approx([0.6845, 0.76271], abs=5e-6)
    assert [icc(x).value for x in (one, two)] == pytest.approx([0.729302, 0.80720796], abs=5e-7)
    assert cohen(binary[0][:, 0], binary[0][:, 1]).value == pytest.approx(0.62558649, abs=5e-9)


def test_two_readers(vandyke):
    entry = analyze(vandyke[vandyke["reader"].isin(["1", "2"])])
    found = [entry[RANDOM][name] for name in ("f", "ddf", "p")]
    assert found == pytest.approx([5.984284014, 7.663516963, 0.04144445897], rel=1e-9)


def test_one_read_removed_moves_the_published_p(vandyke):
    """Software that takes what is there turns .0517 into .0500 and says nothing; here it must be declared."""
    gone = (vandyke["reader"] == "3") & (vandyke["treatment"] == "2") & (vandyke["case"] == "7")
    table = read_table(vandyke[~gone])
    with pytest.raises(ValueError, match=r"1 of 1140 reads is missing: reader '3', method '2', case '7'"):
        analyze_table(table, metric="auc")
    available = analyze_table(table, metric="auc", missing="available").as_dict()
    assert available[RANDOM]["p"] == pytest.approx(0.04995517912, rel=1e-9)
    dropped = analyze_table(table, metric="auc", missing="drop_cases")
    without = analyze(vandyke[vandyke["case"] != "7"])
    assert dropped.as_dict()[RANDOM] == without[RANDOM]
    assert dropped.as_dict()["missing"]["dropped_cases"] == ["7"]
    assert "1 case was left out" in dropped.summary


def test_wrong_ways_are_wrong(vandyke):
    """Pooling reads over readers, or testing reader means, forgets what readers or cases share."""
    from scipy import stats
    from statsmodels.stats.contingency_tables import mcnemar

    positive = vandyke[vandyke["truth"] == "1"].assign(read=lambda x: x["rating"].astype(int) >= 3)
    paired = positive.pivot_table(index=["reader", "case"], columns="treatment", values="read")
    pooled = mcnemar(pd.crosstab(paired["1"], paired["2"]), exact=True).pvalue
    assert pooled == pytest.approx(5.95e-5, abs=5e-8)
    right = analyze(vandyke, "sensitivity", positive_from=3)
    assert right[RANDOM]["p"] > 300 * pooled

    entry = analyze(vandyke)
    areas = np.array([row["estimate"] for row in entry["per_reader"]]).reshape(5, 2)
    forgetful = stats.ttest_rel(areas[:, 0], areas[:, 1]).pvalue
    assert forgetful == pytest.approx(0.0420, abs=5e-5)
    assert entry[RANDOM]["p"] > 0.05 > forgetful
    assert forgetful == pytest.approx(entry["fixed_cases"]["p"], rel=1e-9)  # it answers for these cases alone


def test_the_analysis_is_written_and_read_back_as_it_is(vandyke):
    analysis = analyze_table(read_table(vandyke), metric="auc")
    assert isinstance(analysis, Analysis)
