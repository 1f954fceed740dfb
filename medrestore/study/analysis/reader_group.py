"""Analysis of the reads of one kind of readers; humans and models are never pooled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pandas as pd

from medrestore.checks import InputError, counted, require_in_range, require_in_set
from medrestore.study.analysis import tables
from medrestore.study.analysis.consistency import between_readers, within_readers
from medrestore.study.analysis.guessed import GuessedArms, guessed_arms
from medrestore.study.analysis.roc import RocCurve, roc_curves
from medrestore.study.analysis.unblinded import Unblinded
from medrestore.study.analysis.verdict import Verdict, verdict_of
from medrestore.study.labels import KIND_TITLES, arm_label
from medrestore.study.layout import Study
from medrestore.study.measures import CORRECTIONS, COVARIANCES, MEASURES, Measure, measures_in_order
from medrestore.study.protocol import GUESS
from medrestore.study.statistics.analyze import READERS, Analysis, analyze_table
from medrestore.study.statistics.reads import read_table

__all__ = ["GroupTables", "ReaderGroup", "Settings", "analyze_group", "reference_of"]


@dataclass(frozen=True)
class Settings:
    """How the measures beside the primary endpoint are analyzed; the plan says how that one is.

    Parameters
    ----------
    readers, covariance, alpha, correction, missing
        As of :func:`~medrestore.study.statistics.analyze.analyze_table`, without ``available``;
        ``covariance`` is of the AUC, all others have the jackknife's.
    """

    readers: str = "random"
    covariance: str = "jackknife"
    alpha: float = 0.05
    correction: str = "holm"
    missing: str = "refuse"

    def __post_init__(self) -> None:
        require_in_set("readers", self.readers, READERS)
        require_in_set("covariance", self.covariance, tuple(COVARIANCES))
        require_in_set("correction", self.correction, tuple(CORRECTIONS))
        require_in_range("alpha", self.alpha, 0, 1, include_low=False, include_high=False)


@dataclass(frozen=True, eq=False)
class GroupTables:
    """Tables of one kind of readers, in the files of their names; empty where there is nothing in one."""

    measures: pd.DataFrame = field(default_factory=pd.DataFrame)
    differences: pd.DataFrame = field(default_factory=pd.DataFrame)
    differences_from_reference: pd.DataFrame = field(default_factory=pd.DataFrame)
    per_reader: pd.DataFrame = field(default_factory=pd.DataFrame)
    agreement_between_readers: pd.DataFrame = field(default_factory=pd.DataFrame)
    agreement_within_readers: pd.DataFrame = field(default_factory=pd.DataFrame)
    errors: pd.DataFrame = field(default_factory=pd.DataFrame)
    quality: pd.DataFrame = field(default_factory=pd.DataFrame)
    reading_times: pd.DataFrame = field(default_factory=pd.DataFrame)
    learning: pd.DataFrame = field(default_factory=pd.DataFrame)
    answers: pd.DataFrame = field(default_factory=pd.DataFrame)
    corrections: pd.DataFrame = field(default_factory=pd.DataFrame)
    guesses: pd.DataFrame = field(default_factory=pd.DataFrame)
    blinding: pd.DataFrame = field(default_factory=pd.DataFrame)
    guesses_by_reader: pd.DataFrame = field(default_factory=pd.DataFrame)


@dataclass(frozen=True, eq=False)
class ReaderGroup:
    """All that was found in the reads of one kind of readers; humans and models are never pooled.

    Parameters
    ----------
    kind
        ``human`` or ``model``.
    readers
        Names.
    cases
        Number of cases.
    arms
        All arms that were read, the reference first.
    truth_arm
        The arm whose consensus is the truth; empty when the truth came from a table.
    measures
        Name of a measure -> its analysis, in the order of the report.
    primary
        Analysis of the primary endpoint; None where there is none or it could not be had.
    verdict
        What the primary endpoint says.
    tables
        What was counted and measured, row by row.
    guessed
        What images were taken for; None where nobody was asked.
    curves
        Arm -> reader -> ROC curve.
    times
        ``reader``, ``arm``, ``session``, ``seconds``: reading times behind the table of them.
    taken_as
        ``random`` or ``fixed``: for whom the conclusions hold.
    notes
        What a reader of the results must know.
    """

    kind: str
    readers: tuple[str, ...]
    cases: int
    arms: tuple[str, ...]
    truth_arm: str
    measures: Mapping[str, Analysis]
    primary: Analysis | None
    verdict: Verdict | None
    tables: GroupTables
    guessed: GuessedArms | None
    curves: Mapping[str, Mapping[str, RocCurve]]
    times: pd.DataFrame
    taken_as: str
    notes: tuple[str, ...] = ()

    @property
    def measured(self) -> list[Measure]:
        """The measures that were analyzed, in the order of the report."""
        return [measure for measure in measures_in_order() if measure.name in self.measures]

    @property
    def summary(self) -> str:
        """The means over readers of every measure, in a few lines of text."""
        title = KIND_TITLES[self.kind].lower()
        lines = [f"{counted(len(self.readers), title[:-1])}, {counted(self.cases, 'case')}"]
        width = max(len(arm_label(arm)) for arm in self.arms)
        for measure in self.measured:
            lines.append(f"  {measure.title}")
            digits = measure.digits
            for row in self.measures[measure.name].methods:
                interval = "" if row.low is None else f"  ({row.low:.{digits}f} to {row.high:.{digits}f})"
                lines.append(f"    {arm_label(row.method):{width}s}  {row.mean:.{digits}f}{interval}")
        if self.guessed is not None:
            lines.append(f"  {self.guessed.sentence}")
        return "\n".join(lines)


def analyze_group(held: Unblinded, kind: str, settings: Settings) -> ReaderGroup:
    """Analyze all reads of one kind of readers.

    Parameters
    ----------
    held
        The reads.
    kind
        ``human`` or ``model``.
    settings
        How; the primary endpoint is analyzed as the plan says.

    Notes
    -----
    A measure that cannot be had from the reads (one class of cases, no answers) is named in the notes with
    its reason; the others are analyzed.
    """
    study, protocol = held.study, held.study.protocol
    notes: list[str] = []
    readers = held.readers[kind]
    if len(readers) == 1 and settings.readers == "random":
        settings = replace(settings, readers="fixed")
        notes.append(
            "There is one reader, who cannot stand for others: all intervals and tests hold for this reader "
            "alone (readers fixed, cases random)."
        )
    measures: dict[str, Analysis] = {}
    for measure in measures_in_order():
        if not measure.question(protocol) or (measure.judged and not held.truth):
            continue
        try:
            measures[measure.name] = _analyze_measure(held, kind, measure, settings)
        except InputError as error:
            notes.append(f"{measure.title}: not analyzed: {_reason(error)}.")
    primary, verdict = _primary(held, kind, settings, notes)
    reads = held.reads(kind)
    times = reads[["reader", "arm", "session", "position", "repeat", "seconds"]]
    found = _agreement_tables(held, kind, settings, notes)
    found |= {
        "reading_times": tables.time_table(reads),
        "learning": tables.learning_table(reads),
        "answers": tables.answer_table(held, kind),
        "corrections": tables.correction_table(held, kind),
        **_measure_tables(measures),
    }
    curves: Mapping[str, Mapping[str, RocCurve]] = {}
    if "error_rate" in measures:
        judged = held.long(protocol.decision, kind, judged=True)
        found["errors"] = tables.error_table(judged, alpha=settings.alpha)
    if "auc" in measures:
        curves = roc_curves(held.long(protocol.score, kind, judged=True))
    if protocol.quality:
        ratings = held.answers(protocol.quality, kind)
        found["quality"] = tables.quality_table(ratings[ratings["repeat"] == 0], protocol[protocol.quality])
    guessed = None
    if study.plan.get("guess"):
        guesses = held.answers(GUESS, kind)
        guessed = guessed_arms(guesses[guesses["repeat"] == 0], study.plan["guess"], alpha=settings.alpha)
        if guessed is not None:
            found |= {
                "guesses": guessed.counts,
                "blinding": guessed.indices,
                "guesses_by_reader": guessed.readers,
            }
    return ReaderGroup(
        kind=kind,
        readers=readers,
        cases=int(reads["case"].nunique()),
        arms=_arm_order(study, held.truth_arm),
        truth_arm=held.truth_arm,
        measures=measures,
        primary=primary,
        verdict=verdict,
        tables=GroupTables(**found),
        guessed=guessed,
        curves=curves,
        times=times[times["repeat"] == 0].dropna(subset=["seconds"]),
        taken_as=settings.readers,
        notes=tuple(notes),
    )


def _analyze_measure(
    held: Unblinded,
    kind: str,
    measure: Measure,
    settings: Settings,
    *,
    reference: str | None = None,
    margin: float | None = None,
) -> Analysis:
    reads = held.long(measure.question(held.study.protocol), kind, judged=measure.judged)
    if reads.empty:
        raise InputError("No reader answered the question it is computed from")
    table = read_table(reads, needs_truth=measure.judged)
    reference = reference or reference_of(held.study)
    return analyze_table(
        table,
        metric=measure.metric,
        positive_from=measure.positive_from,
        covariance=settings.covariance if measure.counts is None else "jackknife",
        reference=reference if reference in table.methods and len(table.methods) > 1 else None,
        margin=margin,
        alpha=settings.alpha,
        correction=settings.correction,
        readers="fixed" if len(table.readers) == 1 else settings.readers,
        agreement=False,
    )


def _primary(
    held: Unblinded, kind: str, settings: Settings, notes: list[str]
) -> tuple[Analysis | None, Verdict | None]:
    plan: Mapping[str, Any] | None = held.study.plan.get("primary")
    if not plan:
        notes.append("The plan names no primary endpoint: all results are exploratory.")
        return None, None
    measure = MEASURES[plan["metric"]]
    if measure.judged and held.truth_arm in (plan["arm"], plan["reference"]):
        notes.append(
            "The primary endpoint cannot be tested: it compares with the arm whose consensus read is the "
            "truth, and which therefore has no errors by definition."
        )
        return None, None
    own = replace(settings, covariance=plan["covariance"], alpha=plan["alpha"], correction="none")
    try:
        analysis = _analyze_measure(
            held, kind, measure, own, reference=plan["reference"], margin=plan["margin"]
        )
    except InputError as error:
        notes.append(f"The primary endpoint could not be analyzed: {_reason(error)}.")
        return None, None
    return analysis, verdict_of(analysis, measure, arm=plan["arm"], reference=plan["reference"])


def _agreement_tables(
    held: Unblinded, kind: str, settings: Settings, notes: list[str]
) -> dict[str, pd.DataFrame]:
    between, within = [], []
    for role in ("decision", "quality"):
        question = getattr(held.study.protocol, role)
        if not question:
            continue
        try:
            between.append(between_readers(held, question, kind, alpha=settings.alpha))
            within.append(within_readers(held, question, kind, alpha=settings.alpha))
        except InputError as error:
            notes.append(f"Agreement of {role}: not analyzed: {_reason(error)}.")
    found = {"agreement_between_readers": between, "agreement_within_readers": within}
    return {name: pd.concat(some) for name, parts in found.items() if (some := [t for t in parts if len(t)])}


def _measure_tables(measures: Mapping[str, Analysis]) -> dict[str, pd.DataFrame]:
    names = {
        "measures": "methods",
        "differences": "differences",
        "differences_from_reference": "differences_from_reference",
        "per_reader": "per_reader",
    }
    return {
        name: pd.DataFrame(
            {"measure": measure, **asdict(row)}
            for measure, analysis in measures.items()
            for row in getattr(analysis, section)
        ).rename(columns={"method": "arm"})
        for name, section in names.items()
    }


def reference_of(study: Study) -> str:
    """Return the arm that others are compared with: the plan's reference, else the first arm."""
    plan = study.plan.get("primary")
    return str(plan["reference"]) if plan else study.arms[0]


def _arm_order(study: Study, truth_arm: str) -> tuple[str, ...]:
    """Return the arms as tables show them: the truth first, else the reference."""
    first = truth_arm or reference_of(study)
    return (first, *(arm for arm in study.arms if arm != first))


def _reason(error: InputError) -> str:
    """Return why something could not be had, without the remedy, which is for whoever runs the study."""
    return str(error).removeprefix("reads: ").partition(". Remedy")[0]
