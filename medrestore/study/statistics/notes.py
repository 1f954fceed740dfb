"""What an analysis must say in words: what was declared, left out, assumed, or cannot be tested."""

from __future__ import annotations

import math

import numpy as np

from medrestore.checks import counted
from medrestore.study.statistics import obuchowski_rockette as engine
from medrestore.study.statistics.reads import ReadTable
from medrestore.study.statistics.results import ReaderRow, Results
from medrestore.study.statistics.sections import Findings, listing

__all__ = ["notes_on"]

NAMES = {
    engine.RANDOM: "random readers and cases",
    engine.FIXED_READERS: "fixed readers",
    engine.FIXED_CASES: "fixed cases",
}
STILL = {
    engine.RANDOM: "every reader shows the same difference, and readers share no variation over cases",
    engine.FIXED_READERS: "no difference varies over cases",
    engine.FIXED_CASES: "every reader shows the same difference",
}


def notes_on(results: Results, found: Findings, table: ReadTable) -> list[str]:
    """Return the sentences that belong to an analysis."""
    return [
        *_declared(results, found, table),
        *_design(found),
        *_components(results, found),
        *_tests(found),
        *_readers_without_variance(results, found),
    ]


def _declared(results: Results, found: Findings, table: ReadTable) -> list[str]:
    notes = []
    if found.measure.counts is not None and results.covariance != "jackknife":
        notes.append(
            f"{results.metric} is a mean over cases: its covariance is the same by jackknife, DeLong and "
            "the unbiased estimate."
        )
    count = len(table.absent)
    if table.policy == "drop_cases" and table.dropped:
        notes.append(
            f"Declared: {counted(count, 'missing read')}; "
            f"{counted(len(table.dropped), 'case was', 'cases were')} left out because not all readers "
            f"read them under all methods: {listing(table.dropped)}."
        )
    if table.policy == "available" and count:
        notes.append(
            f"Declared: {counted(count, 'missing read')}; every estimate stands on the "
            "reads that are there, which is fair only if they are missing by chance."
        )
    return notes


def _design(found: Findings) -> list[str]:
    notes = []
    if len(found.methods) == 1:
        notes.append(
            f"There is one method, {found.methods[0]!r}: its mean is reported, and there is nothing to "
            "compare."
        )
    if len(found.readers) == 1:
        notes.append(
            f"There is one reader, {found.readers[0]!r}: conclusions hold for this reader alone; analyses "
            "of random readers and of fixed cases need two readers or more."
        )
    if found.measure.bounds is None:
        notes.append("Higher ratings are taken as better; intervals are not clipped to the scale.")
    return notes


def _components(results: Results, found: Findings) -> list[str]:
    notes = []
    parts, values = found.parts, results.components
    if parts.cov2 is not None and parts.cov3 is not None and parts.cov2 < parts.cov3:
        notes.append("Cov2 is below Cov3: their difference is taken as 0.")
    below = {"Var(R)": values.var_r, "Var(TR)": values.var_tr}
    negative = [name for name, value in below.items() if (value or 0.0) < 0]
    if negative:
        verb = "is" if len(negative) == 1 else "are"
        notes.append(
            f"{' and '.join(negative)} {verb} below 0 and not truncated: estimates of variance can be."
        )
    return notes


def _tests(found: Findings) -> list[str]:
    notes = []
    parts = found.parts
    if parts.ms_t == 0:
        notes.append(
            "The means of all methods are equal: MS(T) is 0, F is 0 and p is 1, whatever varies besides."
        )
    for name in engine.ANALYSES:
        term = engine.error_term(name, parts)
        if term is None:
            continue
        if term.value < 0:
            notes.append(
                f"{NAMES[name].capitalize()}: the estimated variance of a difference is below 0, so there "
                "is no test and no interval. The jackknife and DeLong cannot be below 0."
            )
        elif term.value == 0 and parts.ms_t:
            notes.append(
                f"{NAMES[name].capitalize()}: the methods differ and nothing else varies: {STILL[name]}. F "
                "would be infinite; neither p nor an interval is given, since no variance was seen to judge "
                "the difference by."
            )
        elif term.value == 0:
            notes.append(
                f"{NAMES[name].capitalize()}: methods do not differ and nothing varies between them."
            )
        elif math.isinf(term.df) and name == engine.RANDOM:
            notes.append(
                "Random readers and cases: every reader shows the same difference (MS(TR) is 0), so ddf is "
                "infinite (null): tests are chi-squared and normal."
            )
    return notes


def _readers_without_variance(results: Results, found: Findings) -> list[str]:
    """Say where a reader's own estimate does not vary over cases: an interval of no width would be a lie."""
    flat = [row for row in results.per_reader if not row.se]
    negative = [row for row in flat if row.se is None]
    perfect = [row for row in flat if row.se == 0 and row.estimate in (0.0, 1.0)]
    constant = [row for row in flat if row.se == 0 and row.estimate not in (0.0, 1.0)]
    notes = []
    auc = found.measure.counts is None

    def named(rows: list[ReaderRow]) -> str:
        return listing(f"reader {row.reader} with {row.method}" for row in rows)

    if negative:
        notes.append(f"The unbiased variance over cases is below 0 for {named(negative)}: no standard error.")
    if perfect and auc:
        everywhere = np.all([row.estimate == 1 for row in results.per_reader])
        notes.append(
            (
                "Perfect separation everywhere: "
                if everywhere
                else "Perfect separation (AUC 1, or 0 reversed): "
            )
            + f"{named(perfect)}. Its variance over cases is 0 by the estimate, not in truth: no interval "
            "is given for that reader."
        )
    elif perfect and found.measure.bounds is not None:
        notes.append(
            f"All or none of the reads counted for {named(perfect)}: the standard error is 0 by the "
            "estimate, the Wilson interval is not."
        )
    elif perfect:
        constant = [*perfect, *constant]
    if constant:
        notes.append(
            f"The estimate does not vary over cases for {named(constant)}: all ratings are the same there, "
            "and no interval is given."
        )
    return notes
