"""Sections of a study's report: what each table and figure shows of one kind of readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medrestore.checks import counted
from medrestore.data.tables import records_of
from medrestore.evaluation.pages.page import Block, Notes, Paragraphs, Row, Table
from medrestore.study.analysis.analyze import StudyAnalysis
from medrestore.study.analysis.reader_group import ReaderGroup
from medrestore.study.labels import ALL, arm_label, reader_label
from medrestore.study.report import bars, figures, forest
from medrestore.study.report.besides import agreement_parts, answer_parts, blinding_parts, time_parts
from medrestore.study.report.cells import NONE, interval_cell, number_cell, p_cell, share_cell
from medrestore.study.report.page import ReportPage
from medrestore.study.statistics import obuchowski_rockette as engine
from medrestore.study.statistics.analyze import Analysis
from medrestore.study.statistics.results import ChiSquaredTest

__all__ = ["add_group", "error_section"]


def error_section(page: ReportPage, analysis: StudyAnalysis) -> Table | None:
    """Return the table of errors as the paper has it: readers by row, arms by column, the truth first."""
    arms = analysis.main.arms
    truth_arm = analysis.main.truth_arm
    rows: list[Sequence[str] | Row] = []
    for group in analysis.groups:
        table = group.tables.errors
        if table.empty:
            continue
        cells = {(row["reader"], row["arm"]): row for row in records_of(table)}
        whole = "Human experts" if group.kind == "human" else "Model readers (model)"
        whole += f", {counted(len(group.readers), 'reader')}"
        # What is the truth for those whose consensus it is, is not for others.
        own = truth_arm if group is analysis.main else ""
        rows.append(Row((whole, *(_errors(cells.get((ALL, arm)), arm, own) for arm in arms)), "strong"))
        for reader in group.readers:
            texts = [_errors(cells.get((reader, arm)), arm, own) for arm in arms]
            rows.append(Row((reader_label(reader, group.kind), *texts), "sub"))
    titles = [_truth_title(arm, truth_arm) for arm in arms]
    return page.table("errors", rows, *titles, truth=truth_arm and arm_label(truth_arm))


def _truth_title(arm: str, truth_arm: str) -> str:
    return f"{arm_label(arm)} (ground truth)" if arm == truth_arm else arm_label(arm)


def _errors(row: Mapping[str, Any] | None, arm: str, truth_arm: str) -> str:
    if arm == truth_arm:
        return "0 (ground truth)"
    return NONE if row is None else share_cell(row["errors"], row["reads"])


def add_group(page: ReportPage, group: ReaderGroup, analysis: StudyAnalysis) -> None:
    """Add all sections on one kind of readers."""
    kind = group.kind if group is not analysis.main else ""
    name = f"{group.kind}_"
    page.section("primary", *_primary(page, group), kind=kind)
    page.section("measures", _measures(page, group), *_differences(page, group, name), kind=kind)
    page.section("readers", *_readers(page, group, name), kind=kind)
    for part, drawing in (("roc", figures.draw_roc), ("quality", bars.draw_quality)):
        page.section(part, page.figure(part, drawing(group), file=f"{name}{part}"), kind=kind)
    page.section("agreement", *agreement_parts(page, group, analysis, name), kind=kind)
    page.section("times", *time_parts(page, group, name), kind=kind)
    page.section("blinding", *blinding_parts(page, group, name), kind=kind)
    page.section("answers", answer_parts(page, group), kind=kind)


def _primary(page: ReportPage, group: ReaderGroup) -> list[Block | None]:
    verdict, analysis = group.verdict, group.primary
    if verdict is None or analysis is None:
        return []
    digits = verdict.measure.digits
    row, tested = verdict.difference, verdict.non_inferiority
    rows = []
    for arm in (verdict.arm, verdict.reference):
        own = next(item for item in analysis.methods if item.method == arm)
        rows.append(
            (arm_label(arm), number_cell(own.mean, digits), interval_cell(own.low, own.high, digits), "")
        )
    rows.append(
        (
            "Difference",
            number_cell(row.difference, digits, "+"),
            interval_cell(row.low, row.high, digits, "+"),
            p_cell(row.p),
        )
    )
    if tested is not None:
        verb = "non-inferior" if tested.non_inferior else "not shown"
        rows.append(
            (f"Non-inferiority, margin {analysis.margin:g}", verb, "", f"{p_cell(tested.p)} (one-sided)")
        )
    parts: list[Block | None] = [
        Paragraphs(verdict.sentences),
        page.table(
            "primary",
            rows,
            title=verdict.measure.title,
            noun=verdict.measure.noun,
            level=f"{100 * (1 - analysis.alpha):g}",
        ),
        _tests(page, analysis),
    ]
    notes = [note for note in analysis.notes if note]
    if notes:
        parts.append(Notes(notes))
    return parts


def _tests(page: ReportPage, analysis: Analysis) -> Table | None:
    rows = []
    for name, test in analysis.tests.items():
        degrees: tuple[float | None, ...]
        if isinstance(test, ChiSquaredTest):
            statistic, value, degrees = "χ²", test.chi2, (test.df,)
        else:
            statistic, value, degrees = "F", test.f, (test.df1, test.ddf)
        if value is not None:
            shown = ", ".join(f"{number:.4g}" for number in degrees if number is not None)
            title = engine.ANALYSES[name].capitalize()
            rows.append((title, f"{statistic} = {value:.3f}", shown, p_cell(test.p)))
    parts = {label: getattr(analysis.components, key) for key, label in COMPONENTS.items()}
    values = [f"{label} {value:.3g}" for label, value in parts.items() if value is not None]
    return page.table("tests", rows, components=", ".join(values))


COMPONENTS = {
    "var": "Var(ε)",
    "cov1": "Cov1",
    "cov2": "Cov2",
    "cov3": "Cov3",
    "ms_t": "MS(T)",
    "ms_r": "MS(R)",
    "ms_tr": "MS(TR)",
}


def _measures(page: ReportPage, group: ReaderGroup) -> Table | None:
    held = group.measured
    if not held:
        return None
    alpha = group.measures[held[0].name].alpha
    rows = []
    for arm in group.arms:
        texts = [arm_label(arm)]
        for measure in held:
            found = next((row for row in group.measures[measure.name].methods if row.method == arm), None)
            text = NONE
            if found is not None:
                text = (
                    f"{found.mean:.{measure.digits}f}\n{interval_cell(found.low, found.high, measure.digits)}"
                )
            texts.append(text)
        rows.append(texts)
    titles = [measure.title for measure in held]
    return page.table("measures", rows, *titles, level=f"{100 * (1 - alpha):g}", taken=group.taken_as)


def _differences(page: ReportPage, group: ReaderGroup, name: str) -> list[Block | None]:
    rows: list[Sequence[str] | Row] = []
    for measure in group.measured:
        if measure.complement_of:
            continue
        section = group.measures[measure.name].differences
        if not section:
            continue
        rows.append(Row((measure.title,), "group"))
        for row in section:
            pair = f"{arm_label(row.first)} − {arm_label(row.second)}"
            digits = measure.digits
            rows.append(
                (
                    pair,
                    number_cell(row.difference, digits, "+"),
                    interval_cell(row.low, row.high, digits, "+"),
                    p_cell(row.p),
                    p_cell(row.p_adjusted),
                )
            )
    drawing = forest.draw_differences(group)
    return [
        page.figure("differences", drawing, file=f"{name}differences"),
        page.table("differences", rows),
    ]


def _readers(page: ReportPage, group: ReaderGroup, name: str) -> list[Block | None]:
    shown = [measure for measure in group.measured if not measure.complement_of]
    parts: list[Block | None] = []
    for of, chosen in (
        ("decisions", [measure for measure in shown if measure.role == "decision"]),
        ("ratings", [measure for measure in shown if measure.role != "decision"]),
    ):
        drawing = forest.draw_readers(group, chosen)
        parts.append(page.figure("readers", drawing, file=f"{name}readers_{of}", of=of))
    if group.primary is not None and group.verdict is not None:
        primary, verdict = group.primary, group.verdict
        found = {(row.reader, row.method): row for row in primary.per_reader}
        pairs = {(row.reader, row.first, row.second): row for row in primary.per_reader_differences}
        digits = verdict.measure.digits
        rows = []
        for reader in primary.readers.names:
            texts = [reader_label(reader, group.kind)]
            for arm in (verdict.arm, verdict.reference):
                row = found[reader, arm]
                texts.append(f"{row.estimate:.{digits}f} {interval_cell(row.low, row.high, digits)}".strip())
            own, other = found[reader, verdict.arm], found[reader, verdict.reference]
            texts.append(number_cell(own.estimate - other.estimate, digits, "+"))
            pair = pairs.get((reader, verdict.arm, verdict.reference)) or pairs.get(
                (reader, verdict.reference, verdict.arm)
            )
            texts.append(p_cell(pair.p) if pair else NONE)
            rows.append(texts)
        words = {"arm": arm_label(verdict.arm), "reference": arm_label(verdict.reference)}
        parts.append(page.table("primary_readers", rows, noun=verdict.measure.noun, **words))
    return parts
