"""Analysis of a study as its plan says: the primary endpoint, and all measures beside it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from medrestore.checks import InputError, require_in_set
from medrestore.domains.base import quantity_of
from medrestore.study.analysis import tables
from medrestore.study.analysis.quantified import Quantified, quantified
from medrestore.study.analysis.reader_group import ReaderGroup, Settings, analyze_group, reference_of
from medrestore.study.analysis.unblinded import MODEL, Unblinded, unblind
from medrestore.study.layout import Study, open_study
from medrestore.study.measures import MEASURES

__all__ = ["StudyAnalysis", "analyze_study", "study_reads"]


@dataclass(frozen=True, eq=False)
class StudyAnalysis:
    """The analysis of a study.

    Parameters
    ----------
    unblinded
        What it was computed from.
    settings
        How.
    groups
        Humans first; models are a part by themselves.
    quantified
        Regional quantification beside the reads; None without region maps.
    notes
        On the study as a whole.
    """

    unblinded: Unblinded
    settings: Settings
    groups: tuple[ReaderGroup, ...]
    quantified: Quantified | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def study(self) -> Study:
        """The study."""
        return self.unblinded.study

    @property
    def main(self) -> ReaderGroup:
        """The main analysis: of the human readers as soon as one has read."""
        return self.groups[0]

    @property
    def is_rehearsal(self) -> bool:
        """Whether only model readers have read."""
        return self.main.kind == MODEL

    @cached_property
    def completeness(self) -> pd.DataFrame:
        """What each reader has read."""
        return tables.completeness_table(self.unblinded)

    @cached_property
    def qualification(self) -> pd.DataFrame:
        """How readers did in the qualification."""
        return tables.qualification_table(self.study, self.unblinded.rows)

    @property
    def chain_head(self) -> str:
        """Hash of the last row of the record."""
        return str(self.unblinded.rows["hash"].iloc[-1])

    @property
    def summary(self) -> str:
        """The analysis in a few lines of text."""
        lines = [f"study {self.study.design['study_id']}: {self.study.plan['title']}"]
        if self.is_rehearsal:
            lines.append("REHEARSAL WITH MODEL READERS: no human has read yet")
        lines += [*self.notes, *self.main.notes]
        if self.main.verdict is not None:
            lines += ["", f"primary endpoint: {self.main.verdict.text}"]
        for group in self.groups:
            lines += ["", group.summary]
        return "\n".join(lines)


def study_reads(
    study: Study, question: str | None = None, *, metric: str | None = None, kind: str | None = None
) -> pd.DataFrame:
    """Return the reads of a study as the long table that figures of merit are computed from.

    Parameters
    ----------
    study
        The study.
    question
        Whose answers; those of the primary endpoint when not given, else of the protocol's decision, score or
        quality.
    metric
        Names the question by what is to be computed from it: the decision, score or quality of the protocol.
    kind
        ``human`` or ``model``; humans as soon as one has read, when not given.

    Returns
    -------
    pandas.DataFrame
        ``reader``, ``method``, ``case``, ``truth``, ``rating``: the last correction of each reading; without
        hidden duplicates, training and qualification, and without an arm whose consensus is the truth where
        the answers are compared with it.

    Raises
    ------
    InputError
        When readings are missing, the chain is broken, or there is no such question.
    """
    held = unblind(study)
    protocol = study.protocol
    if question is None and metric is not None:
        require_in_set("metric", metric, tuple(MEASURES))
        measure = MEASURES[metric]
        question = measure.question(protocol)
        if not question:
            raise InputError(
                f"metric {metric!r} needs questions with a {measure.role}, which this study has not"
            )
    question = question or _main_question(study)
    judged = question in (protocol.decision, protocol.score) and bool(held.truth)
    return held.long(question, kind or held.main_kind, judged=judged)


def analyze_study(
    study: str | os.PathLike[str] | Study,
    settings: Settings | None = None,
    *,
    manifest: str | os.PathLike[str] | None = None,
) -> StudyAnalysis:
    """Analyze all reads of a study.

    Parameters
    ----------
    study
        The study or its folder.
    settings
        How. The primary endpoint has the plan's level and covariance.
    manifest
        Has a region map for every case: regions of all arms are then compared with those of the reference.

    Raises
    ------
    InputError
        When the chain of reads is broken or a frozen file was changed, or readings are missing and were not
        declared.

    Notes
    -----
    Images are not read again: each was checked as it was served, and ``medrestore study verify`` checks all.
    """
    settings = settings or Settings()
    opened = study if isinstance(study, Study) else open_study(study)
    held = unblind(opened, missing=settings.missing)
    groups = tuple(analyze_group(held, kind, settings) for kind in held.kinds)
    measured = None
    if manifest is not None:
        measured = quantified(
            opened,
            manifest,
            quantity=quantity_of(manifest),
            reference=reference_of(opened),
            truth=dict(held.truth),
        )
    return StudyAnalysis(held, settings, groups, measured, _notes(held))


def _main_question(study: Study) -> str:
    plan, protocol = study.plan.get("primary"), study.protocol
    if plan:
        return MEASURES[plan["metric"]].question(protocol)
    question = protocol.decision or protocol.score or protocol.quality
    if not question:
        names = ", ".join(item.name for item in protocol.questions)
        raise InputError(f"the plan names no primary endpoint. Remedy: name a question, one of {names}")
    return question


def _notes(held: Unblinded) -> tuple[str, ...]:
    notes = []
    if held.silent:
        notes.append(f"No read yet of {', '.join(held.silent)}: not in any number of this report.")
    for kind in held.kinds:
        if held.dropped[kind]:
            count, all_of = len(held.dropped[kind]), len(held.study.plan["cases"])
            notes.append(
                f"{count} of {all_of} cases were left out of the analysis of {kind} readers, since not every "
                "reader has read them under every arm. This was declared when the analysis was started."
            )
    if held.tied:
        notes.append(
            f"{len(held.tied)} of {len(held.study.plan['cases'])} cases have no truth, since the readers "
            "were split; they are left out of all measures that need it."
        )
    return tuple(notes)
