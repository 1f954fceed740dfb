"""Analysis of long reads: one figure of merit, all tests and intervals, as JSON, tables and text."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import medrestore
from medrestore.checks import InputError, require_in_range, require_in_set
from medrestore.files import atomic_path, require_empty_folder
from medrestore.study.measures import CORRECTIONS, MEASURES
from medrestore.study.statistics.between_readers import agreement_between_readers
from medrestore.study.statistics.merit import figure_of_merit
from medrestore.study.statistics.notes import notes_on
from medrestore.study.statistics.obuchowski_rockette import ANALYSES, FIXED_READERS, RANDOM
from medrestore.study.statistics.reads import MISSING, ReadTable
from medrestore.study.statistics.sections import Findings
from medrestore.study.statistics.summary import summarize

__all__ = ["TABLES", "Analysis", "analyze_table"]

READERS = ("random", "fixed")
TABLES = ("differences", "methods", "per_reader", "per_reader_differences", "non_inferiority", "agreement")
"""Sections that are tables: each is written as a CSV file of that name, where it has rows."""


@dataclass(frozen=True)
class Analysis:
    """An analysis of one figure of merit.

    Parameters
    ----------
    entry
        Content of ``analysis.json``.
    """

    entry: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return the content of ``analysis.json``: no NaN, no infinity."""
        copy: dict[str, Any] = json.loads(json.dumps(self.entry, allow_nan=False))
        return copy

    def table(self, name: str) -> pd.DataFrame:
        """Return one of :data:`TABLES`."""
        require_in_set("table", name, TABLES)
        return pd.DataFrame(self.entry[name])

    @property
    def summary(self) -> str:
        """The analysis as text."""
        return summarize(self.entry)

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
            path.write_text(
                json.dumps(self.entry, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8"
            )
        for name in TABLES:
            if self.entry[name]:
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
    sections = {name: found.analysis(name) for name in ANALYSES}
    several = len(used.methods) > 1
    entry: dict[str, Any] = {
        "metric": metric,
        "covariance": covariance,
        "positive_from": positive_from,
        "higher_is_better": MEASURES[metric].higher_is_better,
        "conclusions_from": headline,
        "alpha": alpha,
        "correction": correction,
        "readers": {"count": len(used.readers), "names": list(used.readers), "taken_as": readers},
        "cases": _cases(used, merit.cases),
        "missing": {
            "policy": missing,
            "reads": [
                {"reader": reader, "method": method, "case": case} for reader, method, case in used.absent
            ],
            "dropped_cases": list(used.dropped),
        },
        "components": found.components(),
        **sections,
        "methods": sections[headline]["methods"],
        "differences": sections[headline]["differences"],
        "reference": reference,
        "differences_from_reference": found.differences(headline, reference=reference) if reference else [],
        "margin": margin,
        "non_inferiority": (
            found.non_inferiority(headline, reference=reference, margin=margin)
            if reference is not None and margin is not None
            else []
        ),
        "per_reader": found.per_reader(),
        "per_reader_differences": found.per_reader_differences() if several else [],
        "agreement": (
            agreement_between_readers(used, positive_from=positive_from, alpha=alpha) if agreement else []
        ),
        "software": f"medrestore {medrestore.__version__}",
    }
    entry["notes"] = notes_on(entry, found, used)
    return Analysis(entry)


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


def _cases(table: ReadTable, entering: int) -> dict[str, int | None]:
    positive = None if table.truth is None else int(np.sum(table.truth == 1))
    return {
        "total": len(table.cases),
        "positive": positive,
        "negative": None if positive is None else len(table.cases) - positive,
        "in_metric": entering,
    }
