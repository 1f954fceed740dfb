from __future__ import annotations

import pandas as pd

from medrestore.domains.histology.domain import DOMAIN
from medrestore.experiments.corruption_plan import find_study
from medrestore.experiments.corruption_results import StudyResults, pool_cells
from medrestore.experiments.corruption_tables import tables_text

NONE = float("nan")
OF_KIND = find_study("histology"), DOMAIN.metrics


def hand_made() -> StudyResults:
    """Two variants, two levels, two seeds, one metric: round numbers."""
    results = [
        (0.0, "e", "rrmse", 0.10, 0.08, 0.12, 2, 5),
        (0.3, "e", "rrmse", 0.16, 0.13, 0.19, 2, 5),
        (0.0, "sqe", "rrmse", 0.09, 0.07, 0.11, 2, 5),
        (0.3, "sqe", "rrmse", 0.105, 0.08, 0.13, 2, 5),
        (NONE, "bicubic", "rrmse", 0.2, 0.17, 0.23, 0, 5),
    ]
    by_seed = [
        (level, variant, seed, "rrmse", mean + (0.003 if seed else -0.003), 5)
        for level, variant, _, mean, *_ in results[:4]
        for seed in (0, 1)
    ]
    changes = [
        (0.3, "e", "rrmse", 0.06, 0.05, 0.07, 5, NONE, NONE, NONE),
        (0.3, "sqe", "rrmse", 0.015, 0.01, 0.02, 5, 0.25, 0.2, 0.3),
    ]
    differences = [
        (0.0, "sqe", "e", "rrmse", -0.01, -0.02, 0.0, 5),
        (0.3, "sqe", "e", "rrmse", -0.055, -0.06, -0.05, 5),
    ]
    seed_columns = ["level", "variant", "seed", "metric", "mean", "patients"]
    change_columns = ["level", "variant", "metric", "change", "low", "high", "patients"]
    pair_columns = ["level", "first", "second", "metric", "mean", "low", "high", "subjects"]
    return StudyResults(
        pd.DataFrame(
            results, columns=["level", "variant", "metric", "mean", "low", "high", "seeds", "patients"]
        ),
        pd.DataFrame(by_seed, columns=seed_columns),
        pd.DataFrame(changes, columns=[*change_columns, "ratio", "ratio_low", "ratio_high"]),
        pd.DataFrame(differences, columns=pair_columns),
        *OF_KIND,
    )


def test_tables_by_hand():
    assert (
        tables_text(hand_made(), notes=["Test tiles are clean."])
        == """\
## RRMSE

| Method    | 0 %                     | 30 %                    |
| --------- | ----------------------- | ----------------------- |
| SRGAN_E   | 0.1000 (0.0800, 0.1200) | 0.1600 (0.1300, 0.1900) |
| SRGAN_SQE | 0.0900 (0.0700, 0.1100) | 0.1050 (0.0800, 0.1300) |
| Bicubic   | 0.2000 (0.1700, 0.2300) | 0.2000 (0.1700, 0.2300) |

Change from 0 %:

| Method    | 30 %                       |
| --------- | -------------------------- |
| SRGAN_E   | +0.0600 (+0.0500, +0.0700) |
| SRGAN_SQE | +0.0150 (+0.0100, +0.0200) |

Ratio of this change to that of SRGAN_E:

| Method    | 30 %              |
| --------- | ----------------- |
| SRGAN_SQE | 0.25 (0.20, 0.30) |

Paired differences at each level:

| Methods             | 0 %                        | 30 %                       |
| ------------------- | -------------------------- | -------------------------- |
| SRGAN_SQE - SRGAN_E | -0.0100 (-0.0200, +0.0000) | -0.0550 (-0.0600, -0.0500) |

Standard deviation over seeds:

| Method    | 0 %     | 30 %    |
| --------- | ------- | ------- |
| SRGAN_E   | 0.00424 | 0.00424 |
| SRGAN_SQE | 0.00424 | 0.00424 |

- Test tiles are clean.
"""
    )  # the standard deviation of two values 0.006 apart is 0.006 / sqrt(2)


def test_one_seed_and_one_level_leave_tables_out(make_cells):
    found = pool_cells(make_cells(levels=(0.3,), seeds=(4,)), *OF_KIND, variants=("e", "qe"))
    text = tables_text(found)
    assert "Standard deviation" not in text
    assert "Change from" not in text
    assert text.count("## ") == 3
