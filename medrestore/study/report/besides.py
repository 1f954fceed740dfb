"""Parts of a study's report beside its endpoints: agreement, reading times, blinding, all answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from medrestore.data.tables import records_of
from medrestore.evaluation.pages.page import Block, Paragraphs, Row, Table
from medrestore.study.analysis.analyze import StudyAnalysis
from medrestore.study.analysis.reader_group import ReaderGroup
from medrestore.study.labels import ALL, arm_label, reader_label
from medrestore.study.report import bars, figures, forest
from medrestore.study.report.cells import NONE, absent, interval_cell, number_cell, p_cell, share_cell
from medrestore.study.report.page import ReportPage

__all__ = ["agreement_parts", "answer_parts", "blinding_parts", "time_parts"]


def agreement_parts(
    page: ReportPage, group: ReaderGroup, analysis: StudyAnalysis, name: str
) -> list[Block | None]:
    """Return figure and tables of the agreement between readers, and of each with themselves."""
    protocol = analysis.study.protocol
    titles = {protocol.decision: "Decision", protocol.quality: "Image quality"}
    titles = {question: title for question, title in titles.items() if question}
    drawing = forest.draw_agreement(group, titles)
    parts: list[Block | None] = [page.figure("agreement", drawing, file=f"{name}agreement")]
    between = group.tables.agreement_between_readers
    if len(between):
        rows: list[Sequence[str] | Row] = []
        for question, held in between.groupby("question", sort=False):
            rows.append(Row((titles[str(question)],), "group"))
            everybody = held[held["readers"] == "all"]
            for coefficient in everybody["coefficient"].unique():
                of_arm = everybody[everybody["coefficient"] == coefficient].set_index("arm")
                texts = [_coefficient_cell(of_arm, arm) for arm in group.arms]
                rows.append((coefficient[0].upper() + coefficient[1:], *texts))
            pairs = held[held["readers"] != "all"]
            if len(pairs):
                rows.append(
                    (
                        f"{pairs['coefficient'].iloc[0]}, pairs (range)",
                        *(_pairs(pairs, arm) for arm in group.arms),
                    )
                )
        parts.append(page.table("between_readers", rows, *map(arm_label, group.arms)))
    within = group.tables.agreement_within_readers
    if len(within):
        rows = []
        for question, held in within.groupby("question", sort=False):
            rows.append(Row((titles[str(question)],), "group"))
            for row in records_of(held):
                who = reader_label(row["reader"], group.kind)
                rows.append(
                    (
                        who,
                        share_cell(row["same"], row["pairs"]),
                        interval_cell(row["low"], row["high"], 2),
                        _kappa(row),
                    )
                )
        parts.append(page.table("within_readers", rows, quality=protocol.quality))
    return parts


def _coefficient_cell(of_arm: pd.DataFrame, arm: str) -> str:
    if arm not in of_arm.index or absent(of_arm.loc[arm, "value"]):
        return NONE
    row = records_of(of_arm.loc[[arm]])[0]
    return f"{number_cell(row['value'], 2)} {interval_cell(row['low'], row['high'], 2)}".strip()


def _pairs(pairs: pd.DataFrame, arm: str) -> str:
    values = pd.to_numeric(pairs.loc[pairs["arm"] == arm, "value"]).dropna()
    if values.empty:
        return NONE
    ends = [number_cell(float(value), 2) for value in (values.min(), values.max())]
    return ends[0] if len(values) == 1 else " to ".join(ends)


def _kappa(row: Mapping[str, Any]) -> str:
    if absent(row["kappa"]):
        return NONE
    interval = interval_cell(row["kappa_low"], row["kappa_high"], 2)
    return f"{number_cell(row['kappa'], 2)} {interval}".strip()


def time_parts(page: ReportPage, group: ReaderGroup, name: str) -> list[Block | None]:
    """Return figure and tables of reading times."""
    table, learning = group.tables.reading_times, group.tables.learning
    if table.empty:
        return []
    cells = {(row["reader"], row["arm"]): row for row in records_of(table)}
    rows: list[Sequence[str] | Row] = []
    for reader in (ALL, *group.readers):
        texts = []
        for arm in group.arms:
            row = cells.get((reader, arm))
            text = NONE
            if row is not None:
                text = f"{row['median']:.0f} ({row['lower_quartile']:.0f} to {row['upper_quartile']:.0f})"
            texts.append(text)
        who = reader_label(reader, group.kind)
        rows.append(Row((who, *texts), "strong" if reader == ALL else ""))
    halves = [
        (
            reader_label(row["reader"], group.kind),
            *(number_cell(row[part], 0) for part in ("first_half", "second_half", "session_1", "later")),
        )
        for row in records_of(learning)
    ]
    return [
        page.figure("times", figures.draw_times(group), file=f"{name}times"),
        page.table("times", rows, *map(arm_label, group.arms)),
        page.table("learning", halves),
    ]


def blinding_parts(page: ReportPage, group: ReaderGroup, name: str) -> list[Block | None]:
    """Return what readers took the images for, and whether the blinding was kept."""
    if group.guessed is None:
        return []
    found = group.guessed
    indices = [
        (
            row["kind"],
            f"{row['right']}",
            f"{row['wrong']}",
            f"{row['unknown']}",
            f"{row['index']:+.2f} {interval_cell(row['low'], row['high'], 2, '+')}",
            row["verdict"],
        )
        for row in records_of(found.indices)
    ]
    readers = []
    for row in records_of(found.readers):
        who = reader_label(row["reader"], group.kind)
        if not row["guesses"]:
            readers.append((who, "0/0", NONE, NONE, NONE))
            continue
        readers.append(
            (
                who,
                share_cell(row["right"], row["guesses"]),
                interval_cell(row["low"], row["high"], 2),
                f"{row['chance']:.2f}",
                p_cell(row["p"]),
            )
        )
    return [
        Paragraphs([found.sentence]),
        page.figure("guesses", bars.draw_guesses(group), file=f"{name}guesses"),
        page.table("blinding", indices),
        page.table("guesses", readers),
    ]


def answer_parts(page: ReportPage, group: ReaderGroup) -> Table | None:
    """Return the table of how often each answer was given."""
    table = group.tables.answers
    if table.empty:
        return None
    rows: list[Sequence[str] | Row] = []
    for text, held in table.groupby("text", sort=False):
        rows.append(Row((str(text),), "group"))
        for answer in held["answer"].unique():
            of_arm = held[held["answer"] == answer].set_index("arm")
            cells = []
            for arm in group.arms:
                if arm not in of_arm.index:
                    cells.append(NONE)
                    continue
                reads, asked = int(of_arm.loc[arm, "reads"]), int(of_arm.loc[arm, "asked"])
                given = answer == "given" or asked == 0
                cells.append(f"{reads}" if given else f"{reads} ({reads / asked:.0%})")
            rows.append(Row((answer, *cells), "sub"))
    return page.table("answers", rows, *map(arm_label, group.arms))
