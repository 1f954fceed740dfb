from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from medrestore.checks import InputError
from medrestore.study.analysis.roc import RocCurve, mean_roc, roc_curves


def ratings(seed: int, *, readers: int = 4, cases: int = 31) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    truth = np.arange(cases) % 3 == 0
    rows = [
        {
            "reader": f"r{reader}",
            "method": method,
            "truth": int(truth[case]),
            "rating": round(float(random.normal(truth[case] * lift, 1)) * 2),
        }
        for reader in range(readers)
        for method, lift in (("a", 0.4), ("b", 2.0))
        for case in range(cases)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("seed", range(5))
def test_the_area_of_the_mean_curve_is_the_mean_of_the_areas(seed):
    reads = ratings(seed)
    curves = roc_curves(reads)
    for method, readers in curves.items():
        areas = []
        for reader, curve in readers.items():
            own = reads[(reads["method"] == method) & (reads["reader"] == reader)]
            areas.append(roc_auc_score(own["truth"], own["rating"]))
            assert curve.area == pytest.approx(areas[-1], abs=1e-12)
        mean = mean_roc(list(readers.values()))
        assert mean.area == pytest.approx(np.mean(areas), abs=1e-12)
        assert (np.diff(mean.false_positive_rate) >= 0).all()
        assert (np.diff(mean.true_positive_rate) >= 0).all()
        assert (mean.false_positive_rate[0], mean.true_positive_rate[0]) == (0, 0)
        assert (mean.false_positive_rate[-1], mean.true_positive_rate[-1]) == (1, 1)


def test_the_mean_of_one_curve_is_that_curve():
    curve = RocCurve(np.array([0, 0, 0.25, 1.0]), np.array([0, 0.5, 0.75, 1.0]))
    mean = mean_roc([curve])
    np.testing.assert_allclose(mean.false_positive_rate, curve.false_positive_rate, atol=1e-15)
    np.testing.assert_allclose(mean.true_positive_rate, curve.true_positive_rate, atol=1e-15)


def test_no_curve_is_refused():
    with pytest.raises(InputError, match="one curve or more"):
        mean_roc([])
