"""Tables of a study that need no model: errors by reader, times, ratings, answers, completeness."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from medrestore.study.analysis.unblinded import Unblinded
from medrestore.study.labels import ALL
from medrestore.study.layout import QUALIFICATION, Study
from medrestore.study.protocol import GUESS
from medrestore.study.questions import Question, answer_key
from medrestore.study.statistics.sections import wilson

__all__ = [
    "answer_table",
    "completeness_table",
    "correction_table",
    "error_table",
    "learning_table",
    "qualification_table",
    "quality_table",
    "time_table",
]


def _cells(table: pd.DataFrame, arm: str = "arm") -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield the rows of each reader and arm, those of all readers together first."""
    for reader in (ALL, *table["reader"].unique()):
        group = table if reader == ALL else table[table["reader"] == reader]
        for name, cell in group.groupby(arm, sort=False):
            yield reader, str(name), cell


def error_table(reads: pd.DataFrame, *, alpha: float = 0.05) -> pd.DataFrame:
    """Return the errors of each reader and of all together under each arm (Task-GAN, table 3).

    Parameters
    ----------
    reads
        ``reader``, ``method``, ``truth`` and ``rating``, both 0 or 1.
    alpha
        1 - coverage of the Wilson intervals.

    Returns
    -------
    pandas.DataFrame
        ``reader`` (``all`` first), ``arm``, ``errors``, ``reads``, ``error_rate``, ``low``, ``high``.
        Decisions of several readers on one case are not independent: all readers together have no interval
        here.
    """
    wrong = reads.assign(wrong=reads["rating"] != reads["truth"])
    rows = []
    for reader, arm, cell in _cells(wrong, "method"):
        errors, n = int(cell["wrong"].sum()), len(cell)
        low, high = wilson(errors, n, alpha=alpha) if reader != ALL else (float("nan"), float("nan"))
        counts = {"reader": reader, "arm": arm, "errors": errors, "reads": n}
        rows.append({**counts, "error_rate": errors / n, "low": low, "high": high})
    return pd.DataFrame(rows, columns=["reader", "arm", "errors", "reads", "error_rate", "low", "high"])


def quality_table(ratings: pd.DataFrame, question: Question) -> pd.DataFrame:
    """Return how often each arm got each rating.

    Parameters
    ----------
    ratings
        ``reader``, ``arm``, ``rating``.
    question
        Whose options are counted.

    Returns
    -------
    pandas.DataFrame
        ``reader`` (``all`` first), ``arm``, ``rating``, ``label``, ``reads``.
    """
    held = ratings.dropna(subset=["rating"])
    levels = list(question.options.items()) or [(int(v), str(int(v))) for v in sorted(set(held["rating"]))]
    rows = []
    for reader, arm, cell in _cells(held):
        counts = cell["rating"].value_counts()
        rows += [(reader, arm, level, label, int(counts.get(level, 0))) for level, label in levels]
    return pd.DataFrame(rows, columns=["reader", "arm", "rating", "label", "reads"])


def time_table(reads: pd.DataFrame) -> pd.DataFrame:
    """Return the reading times of each arm.

    Parameters
    ----------
    reads
        ``reader``, ``arm``, ``seconds``, ``repeat``; hidden duplicates and reads without a time do not count.

    Returns
    -------
    pandas.DataFrame
        ``reader`` (``all`` first), ``arm``, ``reads``, ``median``, ``lower_quartile``, ``upper_quartile``.
    """
    held = reads[(reads["repeat"] == 0) & reads["seconds"].notna()]
    rows = [
        (reader, arm, len(cell), *cell["seconds"].quantile([0.5, 0.25, 0.75]))
        for reader, arm, cell in _cells(held)
    ]
    columns = ["reader", "arm", "reads", "median", "lower_quartile", "upper_quartile"]
    return pd.DataFrame(rows, columns=columns)


def learning_table(reads: pd.DataFrame) -> pd.DataFrame:
    """Return whether readers grew faster: their median time in both halves of the first session, and later.

    Parameters
    ----------
    reads
        ``reader``, ``session``, ``position``, ``seconds``.

    Returns
    -------
    pandas.DataFrame
        ``reader``, ``first_half``, ``second_half`` (of session 1), ``session_1``, ``later``; seconds, NaN
        where there is no time.
    """
    held = reads.dropna(subset=["seconds"])
    rows = []
    for reader, group in held.groupby("reader", sort=False):
        first = group[group["session"] == 1]
        early = first["position"] <= first["position"].median()
        parts = {
            "first_half": first[early],
            "second_half": first[~early],
            "session_1": first,
            "later": group[group["session"] > 1],
        }
        rows.append({"reader": reader} | {name: part["seconds"].median() for name, part in parts.items()})
    return pd.DataFrame(rows, columns=["reader", "first_half", "second_half", "session_1", "later"])


def answer_table(unblinded: Unblinded, kind: str) -> pd.DataFrame:
    """Return how often each answer was given under each arm.

    Returns
    -------
    pandas.DataFrame
        ``question``, ``text``, ``answer``, ``arm``, ``reads`` (with this answer), ``asked`` (that answered
        the question); a number's median, a point and a text by how often they were given. Hidden duplicates
        do not count, nor does the question what kind of image it was.
    """
    reads = unblinded.reads(kind)
    reads = reads[reads["repeat"] == 0]
    rows: list[dict[str, Any]] = []
    for question in unblinded.study.protocol.questions:
        if question.name == GUESS:
            continue
        for arm in unblinded.study.arms:
            given = [
                item[question.name]
                for item in reads.loc[reads["arm"] == arm, "answers"]
                if question.name in item
            ]
            base = {"question": question.name, "text": question.text, "arm": arm, "asked": len(given)}
            rows += [{**base, "answer": answer, "reads": count} for answer, count in _counts(question, given)]
    columns = ["question", "text", "answer", "arm", "reads", "asked"]
    return pd.DataFrame(rows, columns=columns)


def _counts(question: Question, given: list[Any]) -> list[tuple[str, int]]:
    if question.type in ("text", "point"):
        return [("given", len(given))]
    if question.type == "yes_no":
        return [("yes", sum(map(bool, given))), ("no", len(given) - sum(map(bool, given)))]
    if question.options:
        return [(f"{level} {label}", given.count(level)) for level, label in question.options.items()]
    if question.type == "derived":
        levels = sorted({answer_key(value) for value in given})
        return [(f"{level:g}", given.count(level)) for level in levels]
    return [("given", len(given))]


def completeness_table(unblinded: Unblinded) -> pd.DataFrame:
    """Return what each reader has read.

    Returns
    -------
    pandas.DataFrame
        ``reader``, ``kind``, ``planned``, ``read``, ``missing``, ``duplicates`` (hidden, read),
        ``corrected``, ``without_time``, ``first`` and ``last`` (dates), ``least_days_between_sessions`` (NaN
        with one session).
    """
    rows = []
    for reader, group in unblinded.planned.groupby("reader", sort=False):
        read = group[group["answered"]]
        times = pd.to_datetime(read["time"], utc=True, format="ISO8601")
        sessions = times.groupby(read["session"]).agg(["min", "max"]).sort_index()
        gaps = (sessions["min"].shift(-1) - sessions["max"]).dropna().dt.total_seconds() / 86400
        rows.append(
            {
                "reader": reader,
                "kind": group["kind"].iloc[0],
                "planned": len(group),
                "read": len(read),
                "missing": len(group) - len(read),
                "duplicates": int((read["repeat"] == 1).sum()),
                "corrected": int((read["corrections"] > 0).sum()),
                "without_time": int(read["seconds"].isna().sum()),
                "first": times.min().date().isoformat() if len(read) else "",
                "last": times.max().date().isoformat() if len(read) else "",
                "least_days_between_sessions": float(gaps.min()) if len(gaps) else float("nan"),
            }
        )
    return pd.DataFrame(rows)


def correction_table(unblinded: Unblinded, kind: str) -> pd.DataFrame:
    """Return the corrections of reads: ``reader``, ``arm``, ``reason``, ``corrections``."""
    reads = unblinded.reads(kind)
    rows = unblinded.rows
    again = rows[rows.duplicated("read_id", keep="first") & rows["read_id"].isin(reads["read_id"])]
    arm_of = reads.set_index("read_id")["arm"]
    table = again.assign(arm=again["read_id"].map(arm_of), reason=again["reason"].fillna(""))
    counted = table.groupby(["reader", "arm", "reason"], sort=True).size()
    return counted.rename("corrections").reset_index()


def qualification_table(study: Study, rows: pd.DataFrame) -> pd.DataFrame:
    """Return how readers did in the qualification: ``reader``, ``attempt``, ``right``, ``read``, ``passed``.

    Parameters
    ----------
    study
        The study.
    rows
        Of the record, all phases.
    """
    columns = ["reader", "attempt", "right", "read", "passed"]
    entry: Mapping[str, Any] | None = study.plan.get("qualification")
    if not entry or rows.empty:
        return pd.DataFrame(columns=columns)
    import json

    last = rows[rows["phase"] == QUALIFICATION].drop_duplicates("read_id", keep="last")
    table = last[["read_id", "answers"]].merge(study.reading_list, on="read_id")
    table = table.merge(study.key[["image_id", "case"]], on="image_id")
    decided = [json.loads(text).get(study.protocol.decision) for text in table["answers"]]
    truth = table["case"].map(study.truth)
    table["right"] = [
        value is not None and bool(value) == bool(t) for value, t in zip(decided, truth, strict=True)
    ]
    found = table.groupby(["reader", "attempt"])["right"].agg(["sum", "size"]).reset_index()
    found.columns = pd.Index(columns[:4])
    found["passed"] = found["right"] / found["read"] >= float(entry["pass_mark"]) - 1e-9
    return found
