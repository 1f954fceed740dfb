"""Splits by subject, stratified by label, reproducible from a seed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from medrestore import rng
from medrestore.checks import InputError, counted, require_in_range

__all__ = ["assign_splits", "largest_remainder"]


def largest_remainder(total: int, weights: Sequence[float]) -> list[int]:
    """Share ``total`` items in proportion to ``weights``, in whole numbers (Hamilton's method).

    Every share is its quota rounded down or up; ties go to the earlier weight.

    >>> largest_remainder(7, [0.5, 0.25, 0.25])
    [3, 2, 2]

    Raises
    ------
    InputError
        For a negative weight or weights that are all zero.
    """
    values = np.asarray(weights, dtype=np.float64)
    if values.size == 0 or not (values >= 0).all() or not 0 < values.sum() < np.inf:
        raise InputError(f"weights must be at least 0, and not all 0, got {list(weights)}")
    quotas = total * values / values.sum()
    shares = np.floor(quotas + 1e-9).astype(int)  # 0.3 * 10 is 3, not 2.9999999999999996
    order = np.argsort(-(quotas - shares), kind="stable")
    shares[order[: total - int(shares.sum())]] += 1
    return [int(share) for share in shares]


def assign_splits(
    subjects: Sequence[str],
    labels: Sequence[Hashable],
    *,
    fractions: Mapping[str, float] | None = None,
    counts: Mapping[str, int] | None = None,
    seed: int,
) -> dict[str, str]:
    """Assign every subject to one split, each split with the cohort's mixture of labels.

    Parameters
    ----------
    subjects
        Subject of every row; a subject may come more than once (sessions, doses).
    labels
        Label of every row, the same in all rows of a subject.
    fractions
        Part of the subjects by split name; they add up to 1. Give either these or ``counts``.
    counts
        Number of subjects by split name; they add up to the number of subjects.
    seed
        The assignment depends on it and on the set of subjects and labels, not on the order of rows.

    Returns
    -------
    dict
        Subject to split name.

    Notes
    -----
    Splits are filled from the smallest to the largest, each with the mixture of labels that is still there,
    rounded by largest remainder: its count of a label is within one of proportional to what was left.

    Raises
    ------
    InputError
        When a subject has two labels, numbers do not add up, or a split would stay empty.

    Examples
    --------
    >>> split = assign_splits(list("abcdef"), [0, 0, 0, 0, 1, 1], counts={"train": 3, "test": 3}, seed=0)
    >>> sorted(split.values())
    ['test', 'test', 'test', 'train', 'train', 'train']
    """
    label_of = _label_of_subject(subjects, labels)
    sizes = _split_sizes(len(label_of), fractions, counts)
    classes = sorted({(type(label).__name__, str(label)) for label in label_of.values()})
    pools = {}
    for kind in classes:
        members = sorted(
            name for name, label in label_of.items() if (type(label).__name__, str(label)) == kind
        )
        order = rng.generator(seed, "splits", *kind).permutation(len(members))
        pools[kind] = [members[index] for index in order]
    assigned: dict[str, str] = {}
    for split in sorted(sizes, key=lambda name: sizes[name]):
        shares = largest_remainder(sizes[split], [len(pool) for pool in pools.values()])
        for pool, share in zip(pools.values(), shares, strict=True):
            assigned.update(dict.fromkeys(pool[:share], split))
            del pool[:share]
    return {subject: assigned[subject] for subject in label_of}


def _label_of_subject(subjects: Sequence[str], labels: Sequence[Hashable]) -> dict[str, Hashable]:
    if len(subjects) != len(labels):
        raise InputError(f"subjects and labels must be equally many, got {len(subjects)} and {len(labels)}")
    if len(subjects) == 0:
        raise InputError("there is no subject to assign to a split")
    label_of: dict[str, Hashable] = {}
    for subject, label in zip(subjects, labels, strict=True):
        if label_of.setdefault(subject, label) != label:
            raise InputError(
                f"subject {subject!r} has two labels, {label_of[subject]!r} and {label!r}. "
                "Remedy: give every subject one label to stratify by"
            )
    return label_of


def _split_sizes(
    total: int, fractions: Mapping[str, float] | None, counts: Mapping[str, int] | None
) -> dict[str, int]:
    if (fractions is None) == (counts is None):
        raise InputError("give either fractions or counts")
    if counts is not None:
        if sum(counts.values()) != total:
            raise InputError(f"counts {dict(counts)} must add up to the number of subjects, {total}")
        sizes = dict(counts)
    else:
        assert fractions is not None  # noqa: S101
        for name, fraction in fractions.items():
            require_in_range(f"fraction of split {name!r}", fraction, 0, 1, include_low=False)
        if abs(sum(fractions.values()) - 1) > 1e-9:
            raise InputError(f"fractions {dict(fractions)} must add up to 1, got {sum(fractions.values())}")
        sizes = dict(zip(fractions, largest_remainder(total, list(fractions.values())), strict=True))
    empty = [name for name, size in sizes.items() if size < 1]
    if empty:
        verb = "leaves" if total == 1 else "leave"
        raise InputError(
            f"{counted(total, 'subject')} {verb} split {', '.join(map(repr, empty))} empty: {sizes}"
        )
    return sizes
