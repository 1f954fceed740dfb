"""The page of one restoration: what it changes, from the tables of an evaluation alone."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from medrestore.checks import counted
from medrestore.evaluation.arms import INPUT
from medrestore.evaluation.changes.tables import (
    INVENTED,
    LOST,
    REGAINED,
    REPAIRED,
    beside_true,
    image_columns,
    judges_of,
    strata_of,
)
from medrestore.evaluation.markdown import interval_text
from medrestore.evaluation.pages.page import Block, Box, HtmlPage, Notes, Paragraphs, Pictures, Row, Table
from medrestore.evaluation.pages.texts import filled, texts_of
from medrestore.evaluation.record import Evaluation
from medrestore.evaluation.tables import RESAMPLES, differences_by_image
from medrestore.evaluation.titles import Metrics
from medrestore.evaluation.verdict import FIDELITY_METRIC, verdict_sentences, verdict_table
from medrestore.metrics.intervals import bootstrap_mean

__all__ = ["DECISIONS", "Shown", "change_page"]

DECISIONS = "decisions"
"""Name of the table of decisions."""

MOST_ROWS = 20
"""In tables of single subjects, regions or finds."""

NONE = "–"


@dataclass(frozen=True, eq=False)
class Shown:
    """A picture: what it is of, and its PNG.

    Parameters
    ----------
    method, table, change
        What it belongs to.
    heads
        What stands above each of its slices.
    caption
        What it shows.
    png
        File's bytes.
    """

    method: str
    table: str
    change: str
    heads: Sequence[str]
    caption: str
    png: bytes


@dataclass(frozen=True, eq=False)
class _Work:
    """All that the parts of a page are made from."""

    method: str
    result: Evaluation
    tables: Mapping[str, pd.DataFrame]
    pictures: Sequence[Shown]
    page: HtmlPage

    @property
    def per_subject(self) -> pd.DataFrame:
        return self.result.per_subject

    @property
    def verdicts(self) -> pd.DataFrame:
        return self.result.verdicts

    @property
    def metrics(self) -> Metrics:
        return self.result.metrics

    @property
    def true_name(self) -> str:
        return str(self.result.record["true"])

    @property
    def seed(self) -> int:
        return int(self.result.record["seed"])

    @property
    def label(self) -> str:
        return self.metrics.label_of(self.method)

    def own(self, name: str) -> pd.DataFrame:
        """Return the method's rows of a table; none where there is no such table."""
        table = self.tables.get(name, pd.DataFrame({"method": []}))
        return table[table["method"] == self.method]

    def table(self, name: str, rows: Sequence[Sequence[str] | Row], **values: object) -> Table | None:
        return self.page.table(name, rows, method=self.label, **values)

    def shown(self, table: str) -> list[Block]:
        return [
            Pictures(picture.heads, picture.caption, base64.b64encode(picture.png).decode())
            for picture in self.pictures
            if (picture.method, picture.table) == (self.method, table)
        ]

    def image(self, row: Mapping[Any, Any]) -> str:
        """Return how a row's image is called; a session where a subject has several."""
        column = self.metrics.strata.column
        parts = [row["subject_id"], *([self.metrics.strata.title_of(row[column])] if column in row else [])]
        sessions = self.per_subject.groupby("subject_id")["session_id"].nunique()
        if sessions.max() > 1:
            parts.insert(1, row["session_id"])
        return ", ".join(map(str, parts))


def change_page(
    method: str, result: Evaluation, *, tables: Mapping[str, pd.DataFrame], pictures: Sequence[Shown]
) -> str:
    """Return the page of a restoration as HTML that loads nothing.

    Parameters
    ----------
    method
        The restoration.
    result
        The evaluation.
    tables
        Of decisions, parts and finds, by name.
    pictures
        Of all restorations.
    """
    metrics, record = result.metrics, result.record
    texts = texts_of(Path(__file__).parent / "texts.yaml")
    label = metrics.label_of(method)
    page = HtmlPage(
        title=f"What {label} changes",
        subtitle=f"{counted(record['subjects'], 'subject')} of split {record['split']}",
        texts=texts,
    )
    work = _Work(method, result, tables, pictures, page)
    sentence = verdict_sentences(result.verdicts, metrics).get(method)
    if sentence:
        page.lead.append(Box("key", sentence, f"{label}: "))
    page.section("verdict", _verdict(work))
    page.section("decisions", *_decisions(work))
    page.section("parts", *_parts(work))
    page.section("finds", *_finds(work))
    page.section("strata", _strata(work))
    page.section("subjects", _subjects(work))
    said = {
        "version": record["medrestore_version"],
        "split": record["split"],
        "manifest": record["manifest_sha256"][:12],
        "subjects": counted(record["subjects"], "subject"),
    }
    page.section("about", Notes([filled(text, said) for text in texts["about"]]))
    return page.html()


def _verdict(work: _Work) -> Table | None:
    rows = work.verdicts[work.verdicts["first"] == work.method]
    cells = [
        [
            work.metrics.label_of(row["second"]),
            work.metrics.title_of(row["metric"]).title,
            *_estimate(row, work.metrics.title_of(row["metric"]).digits),
            str(row["subjects"]),
            row["verdict"],
        ]
        for row in rows.to_dict("records")
    ]
    return work.table("verdict", cells, unit="subject")


def _estimate(row: Mapping[Any, Any], digits: int) -> tuple[str, str]:
    """Return a difference and the ends of its interval."""
    mean = _number(row["mean"], digits, "+")
    if math.isnan(row["low"]):
        return mean, NONE
    return mean, f"{_number(row['low'], digits, '+')} to {_number(row['high'], digits, '+')}"


def _number(value: float, digits: int, sign: str = "") -> str:
    """Return a rounded number, without a sign where it is 0.

    >>> _number(-0.0001, 2, "+"), _number(float("nan"), 2), _number(0.25, 2, "+")
    ('0.00', '–', '+0.25')
    """
    if math.isnan(value):
        return NONE
    rounded = round(value, digits) + 0.0
    return f"{rounded:{sign if rounded else ''}.{digits}f}"


def _decisions(work: _Work) -> list[Block | None]:
    if DECISIONS not in work.tables:
        return []
    own = work.own(DECISIONS)
    counts = {name: int((own["change"] == name).sum()) for name in (LOST, REPAIRED)}
    judged, rows, reads = beside_true(work.per_subject, work.method, work.true_name, work.metrics), [], 0
    given = work.per_subject[work.per_subject["method"] == INPUT]
    for judge in judges_of(work.per_subject):
        error = f"{judge}_error"
        held = judged.dropna(subset=[error])
        reads += int((held[f"true_{error}"] == 0).sum())
        mine = own[own["judge"] == judge]["change"]
        wrong = [held[f"true_{error}"], given.get(error, pd.Series(dtype=float)), held[error]]
        rows.append(
            [
                "T" if judge == "task" else judge.replace("_", " ").capitalize(),
                str(len(held)),
                *(str(int(part.sum())) if len(part) else NONE for part in wrong),
                *(str(int((mine == name).sum())) for name in (LOST, REPAIRED)),
            ]
        )
    said = {"method": work.label, "reads": reads, LOST: counts[LOST], REPAIRED: counts[REPAIRED]}
    boxes = work.page.texts["boxes"]
    text = filled(boxes["decisions" if any(counts.values()) else "none"], said)
    classes = work.metrics.changes.decisions.classes if work.metrics.changes.decisions else {}
    cells = [
        [
            row["change"],
            work.image(row),
            "T" if row["judge"] == "task" else row["judge"].replace("_", " ").capitalize(),
            classes.get(int(row["label"]), str(row["label"])),
            *(_number(row[name], 2) for name in ("true_score", "input_score", "score", "distance")),
        ]
        for row in _first(own, "change").to_dict("records")
    ]
    return [
        Paragraphs([text]),
        work.table("judges", rows),
        *work.shown(DECISIONS),
        work.table("decisions", cells, shown=len(cells), count=len(own)),
    ]


def _first(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the first rows of each value of a column, as many of each as there is room for."""
    kinds = max(1, table[column].nunique())
    return table.groupby(column, sort=False).head(math.ceil(MOST_ROWS / kinds))


def _parts(work: _Work) -> list[Block | None]:
    declared = work.metrics.changes.parts
    own = work.own(declared.name) if declared else pd.DataFrame()
    if declared is None or own.empty:
        return []
    given = work.tables[declared.name]
    given = given[given["method"] == INPUT]
    limit = f"{100 * declared.limit:g} %"
    rows = []
    for part in own["part"].unique():
        mine, before = own[own["part"] == part], given[given["part"] == part]
        change = mine.groupby("subject_id")["relative_change"].mean().dropna()
        interval = bootstrap_mean(100 * change.to_numpy(), n_resamples=RESAMPLES, seed=work.seed)
        largest = mine.loc[mine["relative_change"].abs().idxmax()]
        rows.append(
            [
                str(part),
                str(len(mine)),
                str(int(before["beyond"].sum())) if len(before) else NONE,
                str(int(mine["beyond"].sum())),
                *(f"{text} %" if text != NONE else text for text in _estimate(interval._asdict(), 1)),
                f"{_number(100 * largest['relative_change'], 1, '+')} % ({work.image(largest)})",
            ]
        )
    beyond = own[own["beyond"] == 1].assign(far=lambda table: table["relative_change"].abs())
    beyond = beyond.sort_values("far", ascending=False, kind="stable")
    keys = [*image_columns(own, work.metrics), "part"]
    values = {tuple(row[name] for name in keys): row["value"] for row in given.to_dict("records")}
    cells = [
        [
            work.image(row),
            row["part"],
            _number(row["true_value"], 2),
            _number(values.get(tuple(row[name] for name in keys), math.nan), 2),
            _number(row["value"], 2),
            f"{_number(100 * row['relative_change'], 1, '+')} %",
        ]
        for row in beyond.head(MOST_ROWS).to_dict("records")
    ]
    said = {"limit": limit, "title": declared.title, "why": declared.why, "file": f"{declared.name}.csv"}
    return [
        work.table("parts", rows, **said),
        work.table("moved", cells, shown=len(cells), count=len(beyond), **said),
    ]


def _finds(work: _Work) -> list[Block | None]:
    declared = work.metrics.changes.finds
    own = work.own(declared.name) if declared else pd.DataFrame()
    if declared is None or own.empty:
        return []
    real = own[own["real"] == 1]
    edges = [0.0, *declared.sizes_ml, math.inf]
    rows: list[Sequence[str] | Row] = []
    for low, high in pairwise(edges):
        held = real[(real["volume_ml"] >= low) & (real["volume_ml"] < high)]
        rows.append(
            _of_size(f"from {low:g} to {high:g} ml" if high < math.inf else f"{low:g} ml or more", held)
        )
    rows.append(Row(_of_size("all", real), kind="strong"))
    every = work.tables[declared.name]
    invented = int((own["change"] == INVENTED).sum())
    subjects = work.per_subject["subject_id"].nunique()
    beside = [
        f"{work.metrics.label_of(name)} {int((every[every['method'] == name]['change'] == INVENTED).sum())}"
        for name in (INPUT, *work.metrics.baselines)
        if name in set(every["method"])
    ]
    changed = own[own["change"].isin([LOST, INVENTED])].sort_values(
        "volume_ml", ascending=False, kind="stable"
    )
    changed = changed.sort_values("change", ascending=False, kind="stable")
    cells = [
        [
            row["change"],
            work.image(row),
            _number(row["volume_ml"], 2),
            ", ".join(_number(row[f"{axis}_mm"], 0) for axis in "xyz"),
            str(int(row["slice"])),
        ]
        for row in _first(changed, "change").to_dict("records")
    ]
    said = {"one": declared.one, "many": declared.many, "why": declared.why, "file": f"{declared.name}.csv"}
    per = _number(invented / subjects, 1)
    return [
        work.table("finds", rows, invented=invented, per=per, beside=", ".join(beside) or NONE, **said),
        *work.shown(declared.name),
        work.table("places", cells, shown=len(cells), count=len(changed), **said),
    ]


def _of_size(name: str, held: pd.DataFrame) -> list[str]:
    changes = [int((held["change"] == change).sum()) for change in (LOST, REGAINED)]
    found = [int(held[column].sum()) for column in ("found_in_true", "found")]
    return [name, *map(str, [len(held), *found, *changes])]


def _strata(work: _Work) -> Table | None:
    images = beside_true(work.per_subject, work.method, work.true_name, work.metrics)
    keys = image_columns(images, work.metrics)
    rows: list[Row] = []
    before = ""
    for title, name, held in strata_of(images, work.tables, work.metrics):
        if title != before:
            rows.append(Row([title], kind="group"))
            before = title
        same = work.per_subject.merge(held[keys].drop_duplicates(), on=keys)
        same = same[same["method"].isin([work.method, INPUT, *work.metrics.baselines])]
        verdicts = verdict_table(same, metrics=work.metrics, seed=work.seed)
        for number, (metric, found) in enumerate(verdicts.groupby("metric", sort=False)):
            sides = {
                other: _side(found[(found["second"] == INPUT) == other], str(metric), work.metrics)
                for other in (True, False)
            }
            first = [name, str(held["subject_id"].nunique())] if number == 0 else ["", ""]
            title_of = work.metrics.title_of(str(metric)).title
            rows.append(Row([*first, title_of, *sides[True], *sides[False]], kind="sub"))
    return work.table("strata", rows)


def _side(rows: pd.DataFrame, metric: str, metrics: Metrics) -> list[str]:
    for row in rows.to_dict("records"):
        digits = metrics.title_of(metric).digits
        return [interval_text(row["mean"], row["low"], row["high"], digits=digits, sign="+"), row["verdict"]]
    return [NONE, ""]


def _subjects(work: _Work) -> Table | None:
    """Return the subjects that lose most against the input; without one against the best classical method."""
    own = work.verdicts[work.verdicts["first"] == work.method]
    if own.empty:
        return None
    second = str(own.iloc[0]["second"])
    metric = str(own.iloc[0]["metric"])
    table = work.per_subject.copy()
    for name in {metric, FIDELITY_METRIC} - set(table):
        table[name] = table[Metrics.observed(name, work.per_subject.columns)].mean(axis=1, skipna=False)
    named = list(dict.fromkeys([metric, FIDELITY_METRIC]))
    lost = differences_by_image(table, work.method, second, named, metrics=work.metrics)
    lost = lost.groupby("subject_id")[named].mean().dropna(subset=[metric])
    sign = 1 if work.metrics.title_of(metric).less_is_better else -1
    order = (sign * lost[metric]).sort_values(ascending=False, kind="stable")
    worse = order[order > 0]
    values = table[table["method"] == work.method].groupby("subject_id")[named].mean()
    cells = []
    for subject in worse.index[:MOST_ROWS]:
        texts = [
            _number(part.loc[subject, name], work.metrics.title_of(name).digits, plus)
            for name in (metric, FIDELITY_METRIC)
            for part, plus in ((values, ""), (lost, "+"))
        ]
        cells.append([str(subject), *texts])
    return work.table(
        "subjects",
        cells,
        title=work.metrics.title_of(metric).title,
        second=work.metrics.label_of(second),
        worse=len(worse),
        count=len(order),
        shown=len(cells),
    )
