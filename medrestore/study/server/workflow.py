"""Where a reader stands: a pure function of the frozen reading list, the reads on record, and the time.

Training comes first, then the qualification (each attempt a pass over its images), then the reading sessions
in their order. A session opens ``washout_days`` after the last row of the session before it, corrections
included: who corrects a read has seen the image again. For the same reason the reads of a finished session
can be corrected for one day only, and not once the next session has begun.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from medrestore.checks import InputError
from medrestore.study.layout import QUALIFICATION, READING, TRAINING, Study
from medrestore.study.record.store import CurrentRead

__all__ = [
    "DONE",
    "LOCKED",
    "WASHOUT",
    "Assignment",
    "Reading",
    "State",
    "feedback",
    "make_assignments",
    "state_of",
]

WASHOUT, LOCKED, DONE = "washout", "locked", "done"
"""States beside the phases of a study: between two sessions, qualification failed, all read."""

GRACE = timedelta(days=1)
"""How long after its last row the reads of a finished session may be corrected."""


@dataclass(frozen=True)
class Reading:
    """One presentation of one image to one reader.

    Parameters
    ----------
    read_id, image_id, phase
        As in the reading list.
    sha256
        Of the image as it is served.
    truth
        Of its case, in training and qualification alone; None where it is not known.
    """

    read_id: str
    image_id: str
    phase: str
    sha256: str
    truth: int | None = None


@dataclass(frozen=True)
class Assignment:
    """All that one reader is to read, in order.

    Parameters
    ----------
    reader
        The reader.
    training
        Training readings.
    attempts
        Readings of each attempt of the qualification.
    sessions
        Readings of each session.
    pass_mark
        Share of the qualification's decisions that must agree with the truth.
    decision
        The question that is compared with the truth.
    washout
        From the last row of a session to the opening of the next one.
    """

    reader: str
    training: tuple[Reading, ...]
    attempts: tuple[tuple[Reading, ...], ...]
    sessions: tuple[tuple[Reading, ...], ...]
    pass_mark: float
    decision: str
    washout: timedelta

    @property
    def readings(self) -> tuple[Reading, ...]:
        """All readings, in order."""
        groups = (self.training, *self.attempts, *self.sessions)
        return tuple(reading for group in groups for reading in group)


@dataclass(frozen=True)
class State:
    """Where a reader stands.

    Parameters
    ----------
    phase
        ``training``, ``qualification``, ``reading``, ``washout``, ``locked`` or ``done``.
    message
        What the reader is told about it.
    opens_at
        When the next session opens, during a washout.
    session, sessions
        Number of the session (0 before the first) and of all.
    done, total
        Of the phase.
    session_done, session_total
        Of the session, or of the attempt at the qualification.
    next, after
        The reading to answer, and the one behind it in the same session, to be loaded ahead.
    earlier
        Answered readings that may still be corrected.
    """

    phase: str
    message: str
    sessions: int
    session: int = 0
    opens_at: datetime | None = None
    done: int = 0
    total: int = 0
    session_done: int = 0
    session_total: int = 0
    next: Reading | None = None
    after: Reading | None = None
    earlier: tuple[Reading, ...] = ()

    @property
    def visible(self) -> tuple[Reading, ...]:
        """Readings whose images the reader may see now."""
        return tuple(reading for reading in (self.next, self.after, *self.earlier) if reading is not None)


def make_assignments(study: Study) -> dict[str, Assignment]:
    """Return what each reader of a study is to read.

    Raises
    ------
    InputError
        When the qualification cannot be judged: an image without truth, or no decision is asked.
    """
    images = study.key.set_index("image_id")[["case", "sha256_served"]].to_dict("index")
    qualification: Mapping[str, Any] = study.plan.get("qualification") or {}
    found: dict[str, dict[tuple[str, int, int], list[Reading]]] = {reader: {} for reader in study.readers}
    order = ["attempt", "session", "position"]
    for row in study.reading_list.sort_values(order, kind="stable").to_dict("records"):
        phase, image = str(row["phase"]), images[row["image_id"]]
        truth = None if phase == READING else study.truth.get(str(image["case"]))
        reading = Reading(
            str(row["read_id"]), str(row["image_id"]), phase, str(image["sha256_served"]), truth
        )
        if phase == QUALIFICATION and (truth is None or not study.protocol.decision):
            raise InputError(
                f"{study.folder}: the qualification cannot be judged without a decision and the truth of "
                "each case. Remedy: give both in the plan, or leave the qualification out"
            )
        group = (phase, int(row["attempt"]), int(row["session"]))
        found[str(row["reader"])].setdefault(group, []).append(reading)
    return {
        reader: Assignment(
            reader=reader,
            training=tuple(reading for group in _groups(groups, TRAINING) for reading in group),
            attempts=_groups(groups, QUALIFICATION),
            sessions=_groups(groups, READING),
            pass_mark=float(qualification.get("pass_mark", 0.0)),
            decision=study.protocol.decision,
            washout=timedelta(days=float(study.plan.get("washout_days") or 0)),
        )
        for reader, groups in found.items()
    }


def state_of(assignment: Assignment, reads: Mapping[str, CurrentRead], *, now: datetime) -> State:
    """Return where a reader stands.

    Parameters
    ----------
    assignment
        What the reader is to read.
    reads
        read_id -> the row that counts.
    now
        The time, in UTC.
    """
    sessions = len(assignment.sessions)
    todo = _unanswered(assignment.training, reads)
    if todo:
        done = len(assignment.training) - len(todo)
        return State(
            phase=TRAINING,
            message="Training: the truth is shown after each answer.",
            sessions=sessions,
            done=done,
            total=len(assignment.training),
            session_done=done,
            session_total=len(assignment.training),
            next=todo[0],
            after=_second(todo),
        )
    return _qualification(assignment, reads) or _sessions(assignment, reads, now)


def feedback(
    assignment: Assignment, reading: Reading, answers: Mapping[str, Any]
) -> dict[str, int | bool] | None:
    """Return what a reader is told after an answer: in training, the truth, where it is known."""
    if reading.phase != TRAINING or reading.truth is None:
        return None
    return {"truth": reading.truth, "correct": _agrees(assignment, reading, answers)}


def _qualification(assignment: Assignment, reads: Mapping[str, CurrentRead]) -> State | None:
    """Return the state within the qualification; None when it is passed or there is none."""
    attempts, before = len(assignment.attempts), ""
    total = sum(map(len, assignment.attempts))
    for number, attempt in enumerate(assignment.attempts, start=1):
        todo = _unanswered(attempt, reads)
        # Guards against rounding: 0.8 of 15 is 12, not 13.
        needed = math.ceil(assignment.pass_mark * len(attempt) - 1e-9)
        if todo:
            done = len(attempt) - len(todo)
            return State(
                phase=QUALIFICATION,
                message=f"{before}Qualification, attempt {number} of {attempts}: "
                f"{needed} of {len(attempt)} decisions must agree with the truth.",
                sessions=len(assignment.sessions),
                done=done,
                total=len(attempt),
                session_done=done,
                session_total=len(attempt),
                next=todo[0],
                after=_second(todo),
            )
        right = sum(_agrees(assignment, reading, reads[reading.read_id].answers) for reading in attempt)
        if right >= needed:
            return None
        before = f"Attempt {number}: {right} of {len(attempt)} agreed, {needed} are needed. "
    if not attempts:
        return None
    return State(
        phase=LOCKED,
        message=f"{before}The qualification was not passed. Please turn to the coordinator of the study.",
        sessions=len(assignment.sessions),
        done=total,
        total=total,
    )


def _sessions(assignment: Assignment, reads: Mapping[str, CurrentRead], now: datetime) -> State:
    """Return the state within the reading sessions."""
    todo_of = [_unanswered(session, reads) for session in assignment.sessions]
    total = sum(map(len, assignment.sessions))
    done = total - sum(map(len, todo_of))
    place = next((index for index, todo in enumerate(todo_of) if todo), None)
    if place is None:
        finished, ended = _finished(assignment, reads, len(assignment.sessions), now)
        return State(
            phase=DONE,
            message="All images are read. Thank you." + (_until(ended) if finished else ""),
            sessions=len(assignment.sessions),
            session=len(assignment.sessions),
            done=done,
            total=total,
            earlier=finished,
        )
    session, todo = assignment.sessions[place], todo_of[place]
    number, earlier, opens_at = place + 1, _answered(session, reads), None
    message = f"Session {number} of {len(assignment.sessions)}."
    if place > 0 and not earlier:
        earlier, ended = _finished(assignment, reads, place, now)
        if now < ended + assignment.washout:
            opens_at = ended + assignment.washout
            message = f"Session {number} opens on {_words(opens_at)}."
            if earlier:
                message += f"{_until(ended)} After a correction the wait begins anew."
    return State(
        phase=READING if opens_at is None else WASHOUT,
        message=message,
        sessions=len(assignment.sessions),
        session=number,
        opens_at=opens_at,
        done=done,
        total=total,
        session_done=len(session) - len(todo),
        session_total=len(session),
        next=todo[0] if opens_at is None else None,
        after=_second(todo) if opens_at is None else None,
        earlier=earlier,
    )


def _finished(
    assignment: Assignment, reads: Mapping[str, CurrentRead], sessions: int, now: datetime
) -> tuple[tuple[Reading, ...], datetime]:
    """Return what may be corrected of the last of these finished sessions, and the time of their last row."""
    times = [reads[item.read_id].time for session in assignment.sessions[:sessions] for item in session]
    ended = max(times, default=now)
    open_to_correction = bool(sessions) and now < ended + GRACE
    return (assignment.sessions[sessions - 1] if open_to_correction else ()), ended


def _until(ended: datetime) -> str:
    """Say how long the reads of a session that ended may be corrected."""
    return f" The last session's reads can be corrected until {_words(ended + GRACE)}."


def _words(time: datetime) -> str:
    return f"{time:%Y-%m-%d at %H:%M} UTC"


def _groups(
    groups: Mapping[tuple[str, int, int], Sequence[Reading]], phase: str
) -> tuple[tuple[Reading, ...], ...]:
    return tuple(tuple(groups[key]) for key in sorted(groups) if key[0] == phase)


def _unanswered(readings: Sequence[Reading], reads: Mapping[str, CurrentRead]) -> list[Reading]:
    return [reading for reading in readings if reading.read_id not in reads]


def _answered(readings: Sequence[Reading], reads: Mapping[str, CurrentRead]) -> tuple[Reading, ...]:
    return tuple(reading for reading in readings if reading.read_id in reads)


def _second(readings: Sequence[Reading]) -> Reading | None:
    return readings[1] if len(readings) > 1 else None


def _agrees(assignment: Assignment, reading: Reading, answers: Mapping[str, Any]) -> bool:
    decision = answers.get(assignment.decision)
    return decision is not None and reading.truth is not None and bool(decision) == bool(reading.truth)
