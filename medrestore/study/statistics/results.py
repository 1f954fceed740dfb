"""What an analysis of reads holds, as analysis.json has it: finite numbers, None where there is none."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from medrestore.study.statistics import obuchowski_rockette as engine

__all__ = [
    "AgreementRow",
    "Cases",
    "ChiSquaredTest",
    "DifferenceRow",
    "Entry",
    "FTest",
    "MeanRow",
    "Missing",
    "NonInferiorityRow",
    "ReaderDifferenceRow",
    "ReaderRow",
    "Readers",
    "Results",
    "VarianceComponents",
]


@dataclass(frozen=True)
class MeanRow:
    """A method's mean over readers, with the interval of that method by itself."""

    method: str
    mean: float
    se: float | None = None
    df: float | None = None
    low: float | None = None
    high: float | None = None
    distribution: str | None = None


@dataclass(frozen=True)
class DifferenceRow:
    """A difference of two methods, first minus second."""

    first: str
    second: str
    difference: float
    se: float | None
    df: float | None
    t: float | None
    p: float | None
    p_adjusted: float | None
    low: float | None
    high: float | None
    distribution: str


@dataclass(frozen=True)
class NonInferiorityRow:
    """A test of one method against the reference, with its verdict in words."""

    method: str
    reference: str
    margin: float
    difference: float
    se: float | None
    df: float | None
    bound: float
    limit: float | None
    t: float | None
    p: float | None
    p_adjusted: float | None
    limit_side: str
    level: float
    non_inferior: bool | None
    verdict: str
    distribution: str


@dataclass(frozen=True)
class ReaderRow:
    """One reader's own estimate of a method: of ``n`` reads, ``events`` where it is a proportion."""

    reader: str
    method: str
    estimate: float
    se: float | None
    n: int
    low: float | None
    high: float | None
    interval: str
    events: int | None


@dataclass(frozen=True)
class ReaderDifferenceRow:
    """One reader's own difference of two methods, over cases, by the normal distribution."""

    reader: str
    first: str
    second: str
    difference: float
    se: float | None
    df: float | None
    t: float | None
    p: float | None
    low: float | None
    high: float | None
    distribution: str


@dataclass(frozen=True)
class AgreementRow:
    """A coefficient of agreement between readers under a method, of decisions or of ratings."""

    method: str
    scale: str
    readers: str
    coefficient: str
    value: float | None
    low: float | None
    high: float | None
    interval: str
    cases: int
    raters: int
    note: str


@dataclass(frozen=True)
class FTest:
    """Test that all methods are equal, for random readers; their differences and means."""

    f: float | None
    df1: int | None
    ddf: float | None
    p: float | None
    differences: Sequence[DifferenceRow]
    methods: Sequence[MeanRow]


@dataclass(frozen=True)
class ChiSquaredTest:
    """Test that all methods are equal, for fixed readers; their differences and means."""

    chi2: float | None
    df: int | None
    p: float | None
    differences: Sequence[DifferenceRow]
    methods: Sequence[MeanRow]


@dataclass(frozen=True)
class VarianceComponents:
    """Mean covariances, mean squares, and variances of readers, which are not truncated at 0."""

    var: float
    cov1: float | None
    cov2: float | None
    cov3: float | None
    ms_t: float | None
    ms_r: float | None
    ms_tr: float | None
    var_r: float | None
    var_tr: float | None


@dataclass(frozen=True)
class Readers:
    """The readers, and whether conclusions hold for others (``random``) or for them alone (``fixed``)."""

    count: int
    names: Sequence[str]
    taken_as: str


@dataclass(frozen=True)
class Cases:
    """Numbers of cases, None where the truth is not known, and of those that enter the metric."""

    total: int
    positive: int | None
    negative: int | None
    in_metric: int


@dataclass(frozen=True)
class Missing:
    """What was done about missing reads, which ones there are, and the cases that were left out for them."""

    policy: str
    reads: Sequence[Mapping[str, str]]
    dropped_cases: Sequence[str]


@dataclass(frozen=True)
class Entry:
    """What is written as a JSON file: a dataclass of numbers, texts and such dataclasses."""

    def as_dict(self) -> dict[str, Any]:
        """Return the content of the file."""
        return dict(json.loads(self.json_text))

    @property
    def json_text(self) -> str:
        """The file; NaN and infinity are refused."""
        return json.dumps(asdict(self), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Results(Entry):
    """All that was found in one figure of merit; settings are those of the analysis."""

    metric: str
    covariance: str
    positive_from: float | None
    higher_is_better: bool
    conclusions_from: str
    alpha: float
    correction: str
    readers: Readers
    cases: Cases
    missing: Missing
    components: VarianceComponents
    random_readers_random_cases: FTest
    fixed_readers: ChiSquaredTest
    fixed_cases: FTest
    methods: Sequence[MeanRow]
    differences: Sequence[DifferenceRow]
    reference: str | None
    differences_from_reference: Sequence[DifferenceRow]
    margin: float | None
    non_inferiority: Sequence[NonInferiorityRow]
    per_reader: Sequence[ReaderRow]
    per_reader_differences: Sequence[ReaderDifferenceRow]
    agreement: Sequence[AgreementRow]
    software: str
    notes: Sequence[str] = ()

    @property
    def tests(self) -> Mapping[str, FTest | ChiSquaredTest]:
        """Tests of equality by :data:`~medrestore.study.statistics.obuchowski_rockette.ANALYSES`."""
        return {name: getattr(self, name) for name in engine.ANALYSES}
