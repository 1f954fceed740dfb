"""Readings of slices and volumes, by hand."""

import numpy as np
import pytest

from medrestore import rng
from medrestore.checks import InputError
from medrestore.metrics.task import auc, error_rate, middle_slices, slice_mae, volume_decision


@pytest.mark.parametrize(
    ("n", "count", "expected"),
    [(50, 40, (5, 45)), (89, 40, (24, 64)), (40, 40, (0, 40)), (5, 1, (2, 3)), (4, 1, (1, 2))],
)
def test_middle_slices(n, count, expected):
    assert middle_slices(n, count) == slice(*expected)
    assert len(range(n)[middle_slices(n, count)]) == count


@pytest.mark.parametrize(("n", "count"), [(39, 40), (5, 0)])
def test_too_few_slices_are_refused(n, count):
    with pytest.raises(InputError, match=rf"must be in \[1, {n}\], the number of slices, got {count}"):
        middle_slices(n, count)


def test_slice_mae_by_hand():
    probabilities = np.array([0.0, 0.5, 1.0, 0.25])
    assert slice_mae(probabilities, 0) == 0.4375
    assert slice_mae(probabilities, 1) == 0.5625


def test_volume_decision_is_by_the_mean_and_not_by_the_majority():
    assert volume_decision([1.0, 0.9, 0.1, 0.1, 0.45]) is True  # mean 0.51, two of five above one half
    assert volume_decision([0.5, 0.5]) is False  # the threshold itself reads negative
    assert volume_decision([0.3, 0.3], 0.25) is True


def test_error_rate_by_hand():
    assert error_rate([1, 1, 0, 0, 0], [1, 0, 1, 0, 0]) == 0.4
    assert error_rate(np.array([True, False]), np.array([1.0, 0.0])) == 0


def test_auc_equals_the_share_of_pairs_in_order():
    random = rng.generator(0, "auc")
    labels = random.integers(0, 2, 60)
    scores = np.round(labels * 0.3 + random.random(60), 1)  # rounded: ties count one half
    pairs = [(p > q) + 0.5 * (p == q) for p in scores[labels == 1] for q in scores[labels == 0]]
    assert auc(scores, labels) == pytest.approx(np.mean(pairs), rel=1e-12)


@pytest.mark.parametrize("read", [lambda p: slice_mae(p, 1), volume_decision])
@pytest.mark.parametrize("probabilities", [[], [0.2, 1.2], [float("nan")], [[0.5]]])
def test_what_is_no_probability_is_refused(read, probabilities):
    with pytest.raises(InputError, match=r"probabilities must be a row of numbers in \[0, 1\]"):
        read(probabilities)


def test_other_bad_input_is_refused():
    with pytest.raises(InputError, match="label must be one of 0, 1, got 2"):
        slice_mae([0.5], 2)
    with pytest.raises(InputError, match=r"threshold must be in \[0, 1\], got 1.5"):
        volume_decision([0.5], 1.5)
    with pytest.raises(InputError, match=r"decisions \(2,\), labels \(3,\)"):
        error_rate([1, 0], [1, 0, 1])
    with pytest.raises(InputError, match="labels must be a row of 0 and 1"):
        error_rate([1, 0], [1, 2])
    with pytest.raises(InputError, match="decisions must be a row of 0 and 1"):
        error_rate([], [])
    with pytest.raises(InputError, match="needs both classes, got 3 of class 1 alone"):
        auc([0.1, 0.2, 0.3], [1, 1, 1])
    with pytest.raises(InputError, match="scores must be finite"):
        auc([0.1, float("nan")], [0, 1])
    with pytest.raises(InputError, match=r"scores \(3,\), labels \(2,\)"):
        auc([0.1, 0.2, 0.3], [0, 1])
