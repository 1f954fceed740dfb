from __future__ import annotations

import math

import pandas as pd
import pytest
from scipy.stats import binom

from medrestore.checks import InputError
from medrestore.study.analysis.guessed import blinding_index, guessed_arms

LABELS = {"full": ["standard"], "restored": ["gan", "taskgan"]}


def table(*groups: tuple[str, int, int], reader: str = "anna") -> pd.DataFrame:
    """Rows of (arm, option, times)."""
    rows = [
        {"reader": reader, "arm": arm, "rating": option}
        for arm, option, times in groups
        for _ in range(times)
    ]
    return pd.DataFrame(rows)


def test_the_index_of_two_kinds_is_bangs():
    # Bang, Ni & Davis 2004: BI = (2 r - 1) (definite / all), r the share of right ones among the definite.
    found = blinding_index(30, 10, 20, kinds=2)
    assert found.value == pytest.approx((2 * 30 / 40 - 1) * 40 / 60)
    p, q = 30 / 60, 10 / 60
    variance = (p * (1 - p) + q * (1 - q) + 2 * p * q) / 60
    assert found.high == pytest.approx(found.value + 1.959964 * math.sqrt(variance), abs=1e-6)
    assert found.low == pytest.approx(found.value - 1.959964 * math.sqrt(variance), abs=1e-6)


@pytest.mark.parametrize("kinds", [2, 3, 5])
def test_the_index_is_0_by_chance_and_1_when_all_is_recognized(kinds):
    assert blinding_index(10, 10 * (kinds - 1), 7, kinds=kinds).value == pytest.approx(0, abs=1e-15)
    assert blinding_index(12, 0, 0, kinds=kinds).value == 1
    assert blinding_index(0, 12, 0, kinds=kinds).value == pytest.approx(-1 / (kinds - 1))


def test_an_index_without_guesses_is_refused():
    with pytest.raises(InputError, match="needs guesses and two kinds or more, got 0 and 2"):
        blinding_index(0, 0, 0, kinds=2)


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        ((90, 10, 0), "lost"),
        ((300, 240, 100), "partly lost"),
        ((250, 250, 100), "kept"),
        ((5, 4, 3), "no sign of a loss"),
        ((100, 200, 0), "taken for another kind"),
    ],
)
def test_the_verdict_says_what_the_interval_allows(counts, verdict):
    assert blinding_index(*counts, kinds=2).verdict.startswith(verdict)


def test_shares_are_compared_with_what_habit_alone_gives():
    # Always "restored": right for 6 of 9 images, and 6 of 9 is what knowing nothing gives.
    habit = guessed_arms(table(("standard", 2, 3), ("gan", 2, 3), ("taskgan", 2, 3)), LABELS)
    assert habit is not None
    row = habit.readers.iloc[-1]
    assert (row["guesses"], row["right"], row["share"], row["chance"]) == (9, 6, 6 / 9, 6 / 9)
    assert habit.indices.set_index("kind")["index"].to_dict() == {"full": -1.0, "restored": 1.0}


def test_counts_and_chance_by_hand():
    reads = table(("standard", 1, 8), ("standard", 2, 2), ("gan", 1, 3), ("gan", 2, 5), ("gan", 3, 4))
    found = guessed_arms(reads, LABELS)
    assert found is not None
    row = found.readers.iloc[0]
    assert (row["guesses"], row["right"]) == (18, 13)
    chance = (11 / 18) * (10 / 18) + (7 / 18) * (8 / 18)
    assert row["chance"] == pytest.approx(chance)
    outcomes = [binom.pmf(k, 18, chance) for k in range(19)]
    exact = sum(p for p in outcomes if p <= outcomes[13] * (1 + 1e-7))
    assert row["p"] == pytest.approx(exact)
    gan = found.counts.set_index("arm").loc["gan"]
    assert (gan["full"], gan["restored"], gan["I cannot tell"], gan["reads"]) == (3, 5, 4, 12)
    kinds = found.indices.set_index("kind")
    assert kinds.loc["restored", "index"] == pytest.approx((5 - 3) / 12)
    assert list(found.readers["reader"]) == ["anna", "all"]


def test_who_never_guesses_has_no_share():
    found = guessed_arms(table(("standard", 3, 4), ("gan", 3, 4)), LABELS)
    assert found is not None
    assert found.readers["guesses"].tolist() == [0, 0]
    assert found.readers["share"].isna().all()
    assert "No reader named a kind" in found.sentence


def test_the_sentence_names_what_was_recognized():
    found = guessed_arms(table(("standard", 1, 50), ("gan", 2, 26), ("gan", 1, 24)), LABELS)
    assert found is not None
    assert "readers recognized “full”." in found.sentence
    assert (
        guessed_arms(pd.DataFrame({"reader": ["a"], "arm": ["gan"], "rating": [float("nan")]}), LABELS)
        is None
    )
