"""The reads of a study with the blinding lifted: what every part of the analysis starts from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from medrestore.checks import InputError, fail, require_in_set
from medrestore.study.layout import READING, Study
from medrestore.study.questions import answer_key
from medrestore.study.record.chain import chain_problems
from medrestore.study.record.store import ReadStore

__all__ = ["KINDS", "MISSING", "Unblinded", "truth_arm_of", "unblind"]

KINDS = HUMAN, MODEL = ("human", "model")
"""Kinds of readers: they are never pooled."""

MISSING = ("refuse", "drop_cases")
"""What is done about readings that are not on record: nothing is analyzed; or cases that not every reader has
read under every arm are left out, and the report says so."""

LONG = ("reader", "method", "case", "truth", "rating")
"""Columns of the table that figures of merit are computed from."""

SHOWN = 10
PLANNED = ("reader", "kind", "arm", "case", "subject", "session", "position", "repeat", "read_id", "image_id")


@dataclass(frozen=True, eq=False)
class Unblinded:
    """All readings of the study proper, unblinded.

    Parameters
    ----------
    study
        The study.
    planned
        One row for each reading of phase ``reading``: ``reader``, ``kind``, ``arm``, ``case``, ``subject``,
        ``session``, ``position``, ``repeat``, ``read_id``, ``image_id``, and what is on record of it:
        ``answered``, ``answers`` (a dictionary, of the last row), ``seconds`` and ``time`` (of the first
        row: a correction is no reading), ``origin``, ``corrections``.
    rows
        All rows of the record, of all phases.
    truth
        Case -> 0 or 1.
    truth_arm
        The arm whose consensus is the truth; empty when the truth came from a table.
    tied
        Cases without truth, because the readers of that arm were split.
    readers
        Names by kind, of those who are analyzed.
    dropped
        Cases that are left out, by kind.
    silent
        Readers without any read.
    missing
        One of :data:`MISSING`.
    """

    study: Study
    planned: pd.DataFrame
    rows: pd.DataFrame
    truth: Mapping[str, int]
    truth_arm: str
    tied: tuple[str, ...]
    readers: Mapping[str, tuple[str, ...]]
    dropped: Mapping[str, tuple[str, ...]]
    silent: tuple[str, ...]
    missing: str
    _asked: dict[tuple[str, str], pd.DataFrame] = field(default_factory=dict, repr=False)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of readers that have read, humans first."""
        return tuple(kind for kind in KINDS if self.readers[kind])

    @property
    def main_kind(self) -> str:
        """Kind of the main analysis: humans as soon as one has read."""
        return self.kinds[0]

    def reads(self, kind: str) -> pd.DataFrame:
        """Return the readings that are analyzed: on record, of readers of this kind and of cases kept."""
        table = self.planned
        kept = table["answered"] & table["reader"].isin(self.readers[kind])
        kept &= ~table["case"].isin(self.dropped[kind])
        return table[kept]

    def answers(self, question: str, kind: str) -> pd.DataFrame:
        """Return the answers to a question, one row a reading: columns of the reading, ``truth``, ``rating``.

        Ratings are numbers: false 0, true 1. A reading whose reader left the question out has NaN; readers
        who never answered it are left out.
        """
        if (question, kind) in self._asked:
            return self._asked[question, kind]
        self.study.protocol[question]
        reads = self.reads(kind)
        rating = pd.Series([answer_key(item.get(question)) for item in reads["answers"]], reads.index, float)
        table = reads.assign(
            rating=rating, truth=reads["case"].map(dict(self.truth)).astype(float), method=reads["arm"]
        )
        heard = table.groupby("reader")["rating"].transform("count") > 0
        self._asked[question, kind] = table[heard].reset_index(drop=True)
        return self._asked[question, kind]

    def long(self, question: str, kind: str, *, judged: bool) -> pd.DataFrame:
        """Return the crossed table of a figure of merit: :data:`LONG`.

        Parameters
        ----------
        question, kind
            Whose ratings.
        judged
            Whether the figure compares ratings with the truth: then the arm that is the truth, and cases
            without truth, are left out.

        Raises
        ------
        InputError
            When a reader left the question out and missing answers were not declared.
        """
        table = self.answers(question, kind)
        table = table[table["repeat"] == 0]
        if judged:
            table = table[(table["arm"] != self.truth_arm) & table["truth"].notna()]
        unanswered = table[table["rating"].isna()]
        if len(unanswered):
            if self.missing == "refuse":
                raise InputError(
                    f"{len(unanswered)} of {len(table)} answers to question {question!r} are missing. "
                    "Remedy: "
                    "declare with --missing drop_cases to leave out every case that not all readers answered"
                )
            table = table[~table["case"].isin(unanswered["case"])]
        # Methods in the plan's order; cases alike for all of them.
        order = table["arm"].map({arm: place for place, arm in enumerate(self.study.arms)})
        table = table.assign(order=order).sort_values(["order", "case"], kind="stable")
        return table[list(LONG)].reset_index(drop=True)


def truth_arm_of(study: Study) -> str:
    """Return the arm whose consensus is the truth; empty when the truth came from a table."""
    return str((study.plan.get("truth") or {}).get("consensus_of") or "")


def unblind(study: Study, *, missing: str = "refuse") -> Unblinded:
    """Join record, reading list, key and truth of a study, once its chain has been checked.

    Parameters
    ----------
    study
        The study.
    missing
        One of :data:`MISSING`.

    Raises
    ------
    InputError
        When the chain is broken, nothing was read, readings are missing and were not declared, or the readers
        of the consensus arm are split over a case and the plan does not say what then.
    """
    require_in_set("missing", missing, MISSING)
    with ReadStore(study, read_only=True) as store:
        problems = store.damage()
        stored = [] if problems else store.stored_rows()
    problems += chain_problems(stored, study.plan_sha256)
    if problems:
        listed = "; ".join(problems[:SHOWN])
        fail(
            f"the record of reads is not as it was written: {listed}",
            path=study.reads_path,
            remedy="restore it from a backup; medrestore study verify lists all. Nothing was analyzed",
        )
    rows = pd.DataFrame(stored)
    planned = _planned(study, rows)
    readers, silent = _readers(study, planned)
    dropped = {kind: _incomplete(planned, readers[kind], missing) for kind in KINDS}
    arm, truth = truth_arm_of(study), dict(study.truth)
    tied: tuple[str, ...] = ()
    if arm:
        kind = HUMAN if readers[HUMAN] else MODEL
        voices = planned[planned["reader"].isin(readers[kind])]
        truth, tied = _consensus(study, voices, arm)
    return Unblinded(study, planned, rows, truth, arm, tied, readers, dropped, silent, missing)


def _planned(study: Study, rows: pd.DataFrame) -> pd.DataFrame:
    table = study.reading_list[study.reading_list["phase"] == READING]
    table = table.merge(
        study.key[["image_id", "case", "subject", "arm"]], on="image_id", validate="many_to_one"
    )
    table["kind"] = table["reader"].map(study.readers)
    # In the plan's order, whichever arm and reader came first.
    for column, names in (("arm", study.arms), ("reader", list(study.readers))):
        table["order"] = table[column].map({name: place for place, name in enumerate(names)})
        table = table.sort_values("order", kind="stable")
    columns = ["read_id", "answers", "seconds", "time", "origin", "image_sha256", "corrections"]
    if len(rows):
        groups = rows.groupby("read_id", sort=False)
        # First row: the reading itself. Last row: what counts of it.
        first = rows.drop_duplicates("read_id", keep="first").set_index("read_id")
        last = rows.drop_duplicates("read_id", keep="last").set_index("read_id")
        found = first[["seconds", "time", "origin", "image_sha256"]].assign(
            answers=[json.loads(text) for text in last["answers"].reindex(first.index)],
            corrections=groups.size().reindex(first.index) - 1,
        )
        found = found.rename_axis("read_id").reset_index()[columns]
    else:
        found = pd.DataFrame(columns=columns)
    table = table[["read_id", *[name for name in PLANNED if name != "read_id"]]].merge(
        found, on="read_id", how="left"
    )
    table["answered"] = table["answers"].notna()
    table["seconds"] = pd.to_numeric(table["seconds"]).astype(float)
    table["corrections"] = pd.to_numeric(table["corrections"]).fillna(0).astype(int)
    return table


def _readers(study: Study, planned: pd.DataFrame) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    read = planned.groupby("reader")["answered"].any()
    if not read.any():
        fail("no image has been read yet", path=study.folder, remedy="read with medrestore study serve")
    active = {
        kind: tuple(name for name, its in study.readers.items() if its == kind and read.get(name, False))
        for kind in KINDS
    }
    return active, tuple(name for name in study.readers if not read.get(name, False))


def _incomplete(planned: pd.DataFrame, readers: tuple[str, ...], missing: str) -> tuple[str, ...]:
    """Return the cases to leave out; refuse when readings are missing and were not declared."""
    if not readers:
        return ()
    kind = planned.loc[planned["reader"] == readers[0], "kind"].iloc[0]
    same = planned[planned["kind"] == kind]
    gone = same[~same["answered"]]
    if gone.empty:
        return ()
    if missing == "refuse":
        counts = same.groupby("reader", sort=False)["answered"].agg(["size", "sum"]).astype(int)
        listed = "; ".join(
            f"{reader}: {row.size_ - row.read} of {row.size_}"
            for reader, row in counts.set_axis(["size_", "read"], axis=1).iterrows()
            if row.size_ > row.read
        )
        raise InputError(
            f"{len(gone)} of {len(same)} readings are missing ({listed}). Remedy: let them be read, or "
            "declare "
            "with --missing drop_cases to leave out every case that not all readers have read under all arms"
        )
    lacking = gone[(gone["repeat"] == 0) & gone["reader"].isin(readers)]["case"]
    kept = same[~same["case"].isin(lacking)]
    if kept.empty:
        raise InputError(
            "no case was read by every reader under every arm. Remedy: let more be read before the analysis"
        )
    return tuple(dict.fromkeys(lacking))


def _consensus(study: Study, planned: pd.DataFrame, arm: str) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return the majority of the readers' decisions on an arm, and the cases over which they are split."""
    decision = study.protocol.decision
    if not decision:
        raise InputError(
            f"the truth is the consensus read of arm {arm!r}, but the protocol has no decision. "
            "Remedy: name the yes/no question with 'decision' in the questions"
        )
    reads = planned[(planned["arm"] == arm) & (planned["repeat"] == 0) & planned["answered"]]
    votes = pd.Series([answer_key(item.get(decision)) for item in reads["answers"]], reads["case"], float)
    share = votes.dropna().groupby(level=0).mean()
    ties = str(study.plan["truth"].get("ties") or "refuse")
    tied = tuple(case for case in study.plan["cases"] if share.get(case) == 0.5)
    if tied and ties == "refuse":
        raise InputError(
            f"the readers are split over {len(tied)} cases of arm {arm!r}, which is to be the truth: "
            f"{', '.join(tied[:SHOWN])}{', ...' if len(tied) > SHOWN else ''}. Remedy: an odd number of "
            "readers, or a plan that says what a tie is (truth: ties: exclude, positive or negative)"
        )
    truth = {str(case): int(value > 0.5) for case, value in share.items() if value != 0.5}
    if ties in ("positive", "negative"):
        truth |= dict.fromkeys(tied, int(ties == "positive"))
        tied = ()
    return truth, tied
