from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from medrestore.study.analysis.verdict import verdict_of
from medrestore.study.measures import MEASURES
from medrestore.study.statistics.analyze import Analysis
from medrestore.study.statistics.results import DifferenceRow, MeanRow


def found(
    difference: float, low: float | None, high: float | None, p: float | None, shown: bool | None, **more: Any
) -> Any:
    """What a verdict needs of an analysis of error rates, taskgan against standard."""
    held = {
        "methods": [MeanRow("standard", 0.1), MeanRow("taskgan", 0.1 + difference)],
        "differences_from_reference": [
            DifferenceRow("taskgan", "standard", difference, None, None, None, p, p, low, high, "t")
        ],
        "non_inferiority": [
            SimpleNamespace(method="taskgan", p=None if shown is None else 0.01, non_inferior=shown)
        ],
        "alpha": 0.05,
        "margin": 0.05,
        "higher_is_better": False,
    }
    return SimpleNamespace(**{**held, **more})


def text(analysis: Analysis) -> str:
    return verdict_of(analysis, MEASURES["error_rate"], arm="taskgan", reference="standard").text


@pytest.mark.parametrize(
    ("analysis", "words"),
    [
        (
            found(0.01, -0.02, 0.04, 0.4, True),
            "Task-GAN is non-inferior to Standard dose: the interval stays within",
        ),
        (found(-0.04, -0.07, -0.01, 0.02, True), "It is better as well."),
        (found(0.03, 0.02, 0.04, 0.001, True), "It is nevertheless worse, by less than the margin."),
        (found(0.04, -0.02, 0.1, 0.2, False), "Non-inferiority of Task-GAN to Standard dose is not shown"),
        (found(0.09, 0.02, 0.16, 0.02, False), "Task-GAN is worse than Standard dose."),
        (found(0.1, None, None, None, None), "Non-inferiority cannot be tested"),
        (
            found(-0.04, -0.07, -0.01, 0.02, None, non_inferiority=[], margin=None),
            "Task-GAN is better than Standard",
        ),
        (
            found(0.04, -0.07, 0.11, 0.3, None, non_inferiority=[], margin=None),
            "A difference .* is not shown.",
        ),
        (found(0.04, None, None, None, None, non_inferiority=[], margin=None), "no test is possible"),
    ],
)
def test_the_conclusion_follows_from_interval_and_margin(analysis, words):
    import re

    assert re.search(words, text(analysis))


def test_numbers_of_the_sentence():
    assert text(found(0.0121, -0.021, 0.046, 0.0004, True)).startswith(
        "Error rate was 0.112 with Task-GAN and 0.100 with Standard dose: difference +0.012 "
        "(95 % interval -0.021 to +0.046), p < 0.001."
    )
