"""Analysis of long reads: one figure of merit, all tests and intervals, as JSON, tables and text."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

import medrestore
from medrestore.checks import InputError, require_in_range, require_in_set
from medrestore.files import atomic_path, require_empty_folder
from medrestore.study.measures import CORRECTIONS, MEASURES
from medrestore.study.statistics.between_readers import agreement_between_readers
from medrestore.study.statistics.merit import figure_of_merit
from medrestore.study.statistics.notes import notes_on
from medrestore.study.statistics.obuchowski_rockette import FIXED_CASES, FIXED_READERS, RANDOM
from medrestore.study.statistics.reads import MISSING, ReadTable
from medrestore.study.statistics.results import Cases, Missing, Readers, Results
from medrestore.study.statistics.sections import Findings
from medrestore.study.statistics.summary import summarize

__all__ = ["TABLES", "Analysis", "analyze_table"]

READERS = ("random", "fixed")
TABLES = ("differences", "methods", "per_reader", "per_reader_differences", "non_inferiority", "agreement")
"""Sections that are tables: each is written as a CSV file of that name, where it has rows."""


@dataclass(frozen=True)
class Analysis(Results):
    """An analysis of one figure of merit, to be written and read."""

    def table(self, name: str) -> pd.DataFrame:
        """Return one of :data:`TABLES`."""
        require_in_set("table", name, TABLES)
        return pd.DataFrame(getattr(self, name))

    @property
    def summary(self) -> str:
        """The analysis as text."""
        return summarize(self)

    def write(self, folder: str | os.PathLike[str]) -> Path:
        """Write ``analysis.json``, a CSV file for each table, and ``summary.txt``; return the folder.

        Raises
        ------
        InputError
            When the folder holds other things than an analysis.
        """
        output = require_empty_folder(folder, belongs="analysis of reads", marker="analysis.json")
        # First what the folder is known by: whatever stops the rest, the next call knows it again.
        with atomic_path(output / "analysis.json") as path:
            path.write_text(self.json_text, encoding="utf-8")
        for name in TABLES:
            if getattr(self, name):
                with atomic_path(output / f"{name}.csv") as path:
                    self.table(name).to_csv(path, index=False)
            else:
                (output / f"{name}.csv").unlink(missing_ok=True)  # of an earlier analysis
        with atomic_path(output / "summary.txt") as path:
            path.write_text(self.summary + "\n", encoding="utf-8")
        return output


def analyze_table(
    table: ReadTable,
    *,
    metric: str,
    positive_from: float | None = None,
    covariance: str = "jackknife",
    reference: str | None = None,
    margin: float | None = None,
    alpha: float = 0.05,
    correction: str = "holm",
    readers: str = "random",
    missing: str = "refuse",
    agreement: bool = True,
) -> Analysis:
    """Analyze one figure of merit of a multi-reader multi-case study.

    Parameters
    ----------
    table
        Reads, of :func:`read_table`.
    metric
        A key of :data:`~medrestore.study.measures.MEASURES`.
    positive_from
        Ratings of this or more are positive.
    covariance
        ``jackknife``, ``delong`` or ``unbiased``.
    reference
        Method that all others are compared with, besides all pairs.
    margin
        Non-inferiority margin to the reference, in the metric's unit.
    alpha
        Level of two-sided tests and intervals; non-inferiority is tested one-sided at half of it.
    correction
        Of p values of differences: one of :data:`CORRECTIONS`.
    readers
        ``random``: conclusions hold for readers like these; ``fixed``: for these alone.
    missing
        One of :data:`MISSING`.
    agreement
        Whether to compute the agreement between readers too; it is that of the ratings, whatever the metric.

    Returns
    -------
    Analysis

    Raises
    ------
    InputError
        When a setting is wrong, reads are missing and not declared, the readers' design is not crossed, or
        there are too few readers or cases.

    Notes
    -----
    Obuchowski & Rockette 1995 with the degrees of freedom of Hillis 2007; see
    :mod:`medrestore.study.statistics.obuchowski_rockette`.
    """
    require_in_set("metric", metric, tuple(MEASURES))
    require_in_set("readers", readers, READERS)
    require_in_set("missing", missing, MISSING)
    require_in_set("correction", correction, tuple(CORRECTIONS))
    require_in_range("alpha", alpha, 0, 1, include_low=False, include_high=False)
    _check_comparison(table, reference, margin)
    if len(table.readers) == 1 and readers == "random":
        raise InputError(
            f"{table.source}: there is one reader, {table.readers[0]!r}: one reader cannot stand for other "
            "readers. Remedy: --readers fixed, for conclusions on this reader alone, or add readers"
        )
    used = table.resolve(missing)
    merit = figure_of_merit(used, metric, positive_from=positive_from, covariance=covariance)
    found = Findings(merit, MEASURES[metric], used.methods, used.readers, alpha, correction)
    headline = RANDOM if readers == "random" else FIXED_READERS
    random, fixed = found.f_test(RANDOM), found.chi_squared_test()
    several = len(used.methods) > 1
    analysis = Analysis(
        metric=metric,
        covariance=covariance,
        positive_from=positive_from,
        higher_is_better=MEASURES[metric].higher_is_better,
        conclusions_from=headline,
        alpha=alpha,
        correction=correction,
        readers=Readers(len(used.readers), used.readers, readers),
        cases=_cases(used, merit.cases),
        missing=Missing(
            missing,
            [dict(zip(("reader", "method", "case"), read, strict=True)) for read in used.absent],
            used.dropped,
        ),
        components=found.components(),
        random_readers_random_cases=random,
        fixed_readers=fixed,
        fixed_cases=found.f_test(FIXED_CASES),
        methods=(random if readers == "random" else fixed).methods,
        differences=(random if readers == "random" else fixed).differences,
        reference=reference,
        differences_from_reference=found.differences(headline, reference=reference) if reference else [],
        margin=margin,
        non_inferiority=(
            found.non_inferiority(headline, reference=reference, margin=margin)
            if reference is not None and margin is not None
            else []
        ),
        per_reader=found.per_reader(),
        per_reader_differences=found.per_reader_differences() if several else [],
        agreement=(
            agreement_between_readers(used, positive_from=positive_from, alpha=alpha) if agreement else []
        ),
        software=f"medrestore {medrestore.__version__}",
    )
    return replace(analysis, notes=notes_on(analysis, found, used))


def _check_comparison(table: ReadTable, reference: str | None, margin: float | None) -> None:
    if reference is not None:
        require_in_set("reference", reference, table.methods)
        if len(table.methods) == 1:
            raise InputError(
                f"reference {reference!r} is the only method: there is nothing to compare it with"
            )
    if margin is None:
        return
    if reference is None:
        raise InputError(
            f"margin {margin} needs a reference: non-inferior to which method? "
            f"Remedy: --reference with one of {', '.join(table.methods)}"
        )
    require_in_range("margin", margin, 0, float("inf"), include_low=False, include_high=False)


def _cases(table: ReadTable, entering: int) -> Cases:
    positive = None if table.truth is None else int(np.sum(table.truth == 1))
    return Cases(
        total=len(table.cases),
        positive=positive,
        negative=None if positive is None else len(table.cases) - positive,
        in_metric=entering,
    )
