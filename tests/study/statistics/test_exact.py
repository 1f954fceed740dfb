"""Exact sums against Python's own integers and fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from medrestore.study.statistics.auc import concordant_products
from medrestore.study.statistics.exact import as_integers, gram, left_out_products, weighted_sum


@pytest.mark.parametrize("size", [1, 10**3, 2**31, 2**62 - 1, 10**40])
def test_gram_of_integers_of_any_size_and_sign(size):
    random = np.random.default_rng(0)
    rows = [[int(x * size) for x in row] for row in random.uniform(-1, 1, size=(4, 57))]
    array = np.array(rows, dtype=np.int64 if size < 2**62 else object)
    expected = [[sum(x * y for x, y in zip(a, b, strict=True)) for b in rows] for a in rows]
    assert gram(array).tolist() == expected


def test_decimals_are_taken_as_written_and_floats_as_they_are():
    values = np.array([[0.1, 3.7], [-2.125, 4.0]])
    integers, denominator = as_integers(values)
    assert [Fraction(int(x), denominator) for x in integers.ravel()] == [
        Fraction(1, 10),
        Fraction(37, 10),
        Fraction(-17, 8),
        Fraction(4),
    ]
    odd = np.array([1 / 3, 1e-12, 5.0, -1e306])
    integers, denominator = as_integers(odd)
    assert [Fraction(int(x), denominator) for x in integers] == [Fraction(float(x)) for x in odd]


def test_left_out_products_are_those_of_leaving_out():
    """Means over the reads that are there, left out one at a time, against fractions."""
    random = np.random.default_rng(1)
    rows = random.integers(-5, 6, size=(3, 9))
    read = random.random((3, 9)) < 0.8
    rows = np.where(read, rows, 0)
    changes = []
    for values, there in zip(rows.tolist(), read.tolist(), strict=True):
        kept = [Fraction(v) for v, t in zip(values, there, strict=True) if t]
        mean = sum(kept) / len(kept)
        changes.append(
            [
                (sum(kept) - v) / (len(kept) - 1) - mean if t else Fraction(0)
                for v, t in zip(values, there, strict=True)
            ]
        )
    counts = read.sum(axis=1).tolist()
    products, common = left_out_products(rows, read, [n * (n - 1) for n in counts])
    for a in range(3):
        for b in range(3):
            expected = sum(x * y for x, y in zip(changes[a], changes[b], strict=True))
            assert Fraction(products[a, b], common**2) == expected


def test_weighted_sum():
    total, unit = weighted_sum((np.array([7]), Fraction(2, 3)), (np.array([1]), Fraction(-5, 4)))
    assert total[0] * unit == Fraction(7 * 2, 3) - Fraction(5, 4)


@pytest.mark.parametrize("block", [1, 7, 50, 1 << 23])
def test_products_over_pairs_do_not_depend_on_blocks(monkeypatch, block):
    random = np.random.default_rng(2)
    x, y = random.integers(1, 6, size=(3, 11)), random.integers(1, 6, size=(3, 8))
    psi = np.sign(x[:, :, None] - y[:, None, :]).astype(int) + 1
    expected = np.einsum("akl,bkl->ab", psi, psi)
    monkeypatch.setattr("medrestore.study.statistics.auc.BLOCK_ELEMENTS", block)
    assert concordant_products(x, y).tolist() == expected.tolist()
