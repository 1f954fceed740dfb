"""Splits: by subject, stratified, seeded."""

from __future__ import annotations

from collections import Counter

import pytest

from medrestore.checks import InputError
from medrestore.data.splits import assign_splits, largest_remainder


@pytest.mark.parametrize(
    ("total", "weights", "shares"),
    [
        # Quotas 0.3, 0.6, 2.1 for 3: floors 0, 0, 2, the place left goes to the largest remainder, .6.
        (3, [1, 2, 7], [0, 1, 2]),
        (10, [0.7, 0.2, 0.1], [7, 2, 1]),
        (7, [1, 1], [4, 3]),  # a tie goes to the earlier one
        (0, [1, 2], [0, 0]),
        (5, [0, 1], [0, 5]),
    ],
)
def test_largest_remainder_by_hand(total, weights, shares):
    assert largest_remainder(total, weights) == shares


@pytest.mark.parametrize("weights", [[], [0, 0], [-1, 2], [float("nan"), 1]])
def test_weights_without_a_share_are_refused(weights):
    with pytest.raises(InputError, match="weights must be at least 0, and not all 0"):
        largest_remainder(3, weights)


COHORT = [f"sub-{index:04}" for index in range(40)]
STATUS = [int(index < 10) for index in range(40)]


def test_every_split_has_the_cohorts_mixture():
    splits = assign_splits(COHORT, STATUS, counts={"train": 24, "validation": 6, "test": 10}, seed=0)
    assert Counter(splits.values()) == {"train": 24, "validation": 6, "test": 10}
    positive = Counter(splits[name] for name, status in zip(COHORT, STATUS, strict=True) if status)
    # A quarter is positive. Validation, first: 1.5 of 6, a tie, goes to the class that sorts first (0): 1.
    # Test: 9 of the 34 left are positive, 2.65 of 10: 3. Train: the 6 that are left.
    assert positive == {"train": 6, "validation": 1, "test": 3}


def test_fractions_are_rounded_by_largest_remainder():
    splits = assign_splits(
        COHORT[:7], [0] * 7, fractions={"train": 0.6, "validation": 0.2, "test": 0.2}, seed=3
    )
    # Quotas 4.2, 1.4, 1.4: floors 4, 1, 1, the one left to validation.
    assert Counter(splits.values()) == {"train": 4, "validation": 2, "test": 1}


def test_sessions_of_a_subject_stay_together():
    rows = [name for name in COHORT for _ in range(3)]
    labels = [status for status in STATUS for _ in range(3)]
    splits = assign_splits(rows, labels, fractions={"train": 0.5, "test": 0.5}, seed=0)
    assert sorted(splits) == sorted(COHORT)


def test_order_of_rows_has_no_effect_and_the_seed_has():
    options = {"counts": {"train": 30, "test": 10}}
    first = assign_splits(COHORT, STATUS, seed=5, **options)
    assert assign_splits(COHORT[::-1], STATUS[::-1], seed=5, **options) == first
    assert assign_splits(COHORT, STATUS, seed=6, **options) != first


def test_all_assignments_are_equally_likely():
    # 400 seeds, one of 4 subjects for test: expected 100 each, deviation sqrt(400 * .25 * .75) = 8.7; 4 of
    # these.
    chosen = Counter(
        next(name for name, split in splits.items() if split == "test")
        for splits in (
            assign_splits(list("abcd"), [0] * 4, counts={"train": 3, "test": 1}, seed=seed)
            for seed in range(400)
        )
    )
    assert all(abs(count - 100) < 35 for count in chosen.values())
    assert len(chosen) == 4


@pytest.mark.parametrize(
    ("subjects", "labels", "options", "message"),
    [
        (["a", "a"], [0, 1], {"counts": {"train": 1}}, "subject 'a' has two labels, 0 and 1"),
        (["a", "b"], [0], {"counts": {"train": 2}}, "equally many, got 2 and 1"),
        ([], [], {"counts": {"train": 0}}, "no subject"),
        (["a", "b"], [0, 1], {}, "either fractions or counts"),
        (
            ["a", "b"],
            [0, 1],
            {"counts": {"train": 2}, "fractions": {"train": 1.0}},
            "either fractions or counts",
        ),
        (["a", "b"], [0, 1], {"counts": {"train": 3}}, "must add up to the number of subjects, 2"),
        (["a", "b"], [0, 1], {"fractions": {"train": 0.7, "test": 0.2}}, "must add up to 1, got 0.8999"),
        (
            ["a", "b"],
            [0, 1],
            {"fractions": {"train": 1.0, "test": 0.0}},
            r"fraction of split 'test' must be in \(0",
        ),
        (
            ["a", "b"],
            [0, 1],
            {"fractions": {"train": 0.9, "test": 0.1}},
            "2 subjects leave split 'test' empty",
        ),
        (["a", "b"], [0, 1], {"counts": {"train": 3, "test": -1}}, "leave split 'test' empty"),
    ],
)
def test_impossible_splits_are_refused(subjects, labels, options, message):
    with pytest.raises(InputError, match=message):
        assign_splits(subjects, labels, seed=0, **options)  # type: ignore[arg-type]
