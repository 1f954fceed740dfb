"""Where a reader stands, worked out by hand for a small study."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from medrestore.checks import InputError
from medrestore.study.layout import canonical_json
from medrestore.study.record.store import CurrentRead
from medrestore.study.server.workflow import Assignment, Reading, feedback, make_assignments, state_of

START = datetime(2026, 1, 1, 8, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def readings(*names: str, phase: str = "reading", truth: int | None = None) -> tuple[Reading, ...]:
    return tuple(Reading(name, f"image of {name}", phase, "sha", truth) for name in names)


def assignment(**changes: Any) -> Assignment:
    """Two training cases, one attempt after the other over 5 positive cases, two sessions of 2 and 1."""
    given: dict[str, Any] = {
        "reader": "reader_1",
        "training": readings("t1", "t2", phase="training", truth=1),
        "attempts": (
            readings("a1", "a2", "a3", "a4", "a5", phase="qualification", truth=1),
            readings("b1", "b2", "b3", "b4", "b5", phase="qualification", truth=1),
        ),
        "sessions": (readings("r1", "r2"), readings("s1")),
        "pass_mark": 0.8,
        "decision": "positive",
        "washout": timedelta(0),
    }
    return Assignment(**{**given, **changes})


def reads(*names: str, positive: bool = True, at: datetime = START) -> dict[str, CurrentRead]:
    return {name: CurrentRead(1, canonical_json({"positive": positive}), at) for name in names}


def names(items: tuple[Reading, ...]) -> list[str]:
    return [item.read_id for item in items]


def test_training_comes_first_in_order_and_cannot_be_corrected():
    state = state_of(assignment(), {}, now=START)
    assert (state.phase, state.next.read_id, state.after.read_id) == ("training", "t1", "t2")  # type: ignore[union-attr]
    assert (state.done, state.total, state.session, state.sessions) == (0, 2, 0, 2)
    state = state_of(assignment(), reads("t1"), now=START)
    assert (state.phase, state.next.read_id, state.after) == ("training", "t2", None)  # type: ignore[union-attr]
    assert (state.done, state.earlier, names(state.visible)) == (1, (), ["t2"])


def test_the_truth_is_told_in_training_alone():
    plan = assignment()
    assert feedback(plan, plan.training[0], {"positive": True}) == {"truth": 1, "correct": True}
    assert feedback(plan, plan.training[0], {"positive": False}) == {"truth": 1, "correct": False}
    assert feedback(plan, plan.attempts[0][0], {"positive": True}) is None
    assert feedback(plan, plan.sessions[0][0], {"positive": True}) is None
    assert feedback(plan, readings("t", phase="training")[0], {"positive": True}) is None


@pytest.mark.parametrize(("right", "phase"), [(5, "reading"), (4, "reading"), (3, "qualification")])
def test_the_qualification_needs_the_pass_mark(right, phase):
    first = ["a1", "a2", "a3", "a4", "a5"]
    done = reads("t1", "t2", *first[:right]) | reads(*first[right:], positive=False)
    state = state_of(assignment(), done, now=START)
    assert state.phase == phase
    assert state.earlier == ()
    if phase == "qualification":
        assert state.next.read_id == "b1"  # type: ignore[union-attr]
        assert "Attempt 1: 3 of 5 agreed, 4 are needed" in state.message
        assert "attempt 2 of 2" in state.message
        assert (state.done, state.total) == (0, 5)


def test_who_fails_all_attempts_is_locked_out():
    failed = [f"{attempt}{place}" for attempt in "ab" for place in range(1, 6)]
    done = reads("t1", "t2") | reads(*failed, positive=False)
    state = state_of(assignment(), done, now=START)
    assert (state.phase, state.next, state.visible) == ("locked", None, ())
    assert "0 of 5 agreed" in state.message
    assert "coordinator" in state.message


def test_a_pass_mark_is_not_raised_by_rounding():
    # In floating point 0.07 * 100 is 7.000000000000001, whose ceiling is 8.
    attempt = readings(*(f"a{place}" for place in range(100)), phase="qualification", truth=1)
    done = reads(*names(attempt)[:7]) | reads(*names(attempt)[7:], positive=False)
    plan = assignment(training=(), attempts=(attempt,), pass_mark=0.07)
    assert state_of(plan, done, now=START).phase == "reading"


def test_reading_goes_on_in_order_and_what_was_read_in_the_session_can_be_corrected():
    plan = assignment(training=(), attempts=())
    state = state_of(plan, {}, now=START)
    assert (state.phase, state.session, state.next.read_id, state.after.read_id) == ("reading", 1, "r1", "r2")  # type: ignore[union-attr]
    # Weeks later the session is still open: a break may take as long as it needs.
    state = state_of(plan, reads("r1"), now=START + 20 * DAY)
    assert (state.next.read_id, state.after, names(state.earlier)) == ("r2", None, ["r1"])  # type: ignore[union-attr]
    assert (state.done, state.total, state.session_done, state.session_total) == (1, 3, 1, 2)
    # Nothing of the next session is loaded ahead: it may be closed.
    assert names(state.visible) == ["r2", "r1"]


def test_without_washout_the_next_session_is_open_and_the_one_before_until_it_begins():
    plan = assignment(training=(), attempts=())
    state = state_of(plan, reads("r1", "r2"), now=START)
    assert (state.phase, state.session, state.next.read_id) == ("reading", 2, "s1")  # type: ignore[union-attr]
    assert names(state.earlier) == ["r1", "r2"]
    assert state_of(plan, reads("r1", "r2"), now=START + DAY).earlier == ()
    longer = assignment(training=(), attempts=(), sessions=(readings("r1"), readings("s1", "s2")))
    assert names(state_of(longer, reads("r1", "s1"), now=START).earlier) == ["s1"]


def test_the_washout_counts_from_the_last_row_of_the_session():
    plan = assignment(training=(), attempts=(), washout=14 * DAY)
    done = reads("r1") | reads("r2", at=START + timedelta(hours=1))
    opens = START + timedelta(hours=1) + 14 * DAY
    state = state_of(plan, done, now=opens - timedelta(seconds=1))
    assert (state.phase, state.next, state.opens_at, state.session) == ("washout", None, opens, 2)
    assert state.message == "Session 2 opens on 2026-01-15 at 09:00 UTC."
    assert state.visible == ()  # a day after the session its images are no longer shown
    state = state_of(plan, done, now=opens)
    assert (state.phase, state.next.read_id, state.opens_at) == ("reading", "s1", None)  # type: ignore[union-attr]
    early = state_of(plan, done, now=START + timedelta(hours=2))
    assert names(early.earlier) == ["r1", "r2"]
    assert "corrected until 2026-01-02 at 09:00 UTC. After a correction the wait begins anew" in early.message
    # A correction of r1 three hours later: the image was seen again.
    corrected = {**done, **reads("r1", at=START + timedelta(hours=3))}
    assert state_of(plan, corrected, now=opens).opens_at == START + timedelta(hours=3) + 14 * DAY


def test_a_session_that_was_begun_is_not_closed_again():
    plan = assignment(
        training=(), attempts=(), sessions=(readings("r1"), readings("s1", "s2")), washout=14 * DAY
    )
    done = reads("r1", at=START) | reads("s1", at=START)  # imported: the order is the other viewer's matter
    state = state_of(plan, done, now=START)
    assert (state.phase, state.next.read_id) == ("reading", "s2")  # type: ignore[union-attr]


def test_all_read():
    state = state_of(assignment(training=(), attempts=()), reads("r1", "r2", "s1"), now=START)
    assert (state.phase, state.next, state.done, state.total) == ("done", None, 3, 3)
    assert names(state.earlier) == ["s1"]
    later = state_of(assignment(training=(), attempts=()), reads("r1", "r2", "s1"), now=START + DAY)
    assert (later.phase, later.visible, later.message) == ("done", (), "All images are read. Thank you.")


def test_assignments_are_those_of_the_reading_list(make_study, tmp_path):
    study = make_study(tmp_path / "study", training=2, qualification=3, attempts=2, washout_days=1.5)
    plan = make_assignments(study)["reader_2"]
    table = study.reading_list[study.reading_list["reader"] == "reader_2"]
    assert names(plan.readings) == list(table["read_id"])
    assert [len(part) for part in (plan.training, *plan.attempts, *plan.sessions)] == [2, 3, 3, 4, 4, 4, 1]
    assert (plan.pass_mark, plan.decision, plan.washout) == (0.8, "positive", timedelta(days=1.5))
    case_of = study.key.set_index("image_id")["case"]
    for reading in (*plan.training, *plan.attempts[0]):
        assert reading.truth == study.truth[case_of[reading.image_id]]
    # The truth of what is studied is not even at hand where the reader's state is made.
    assert {reading.truth for session in plan.sessions for reading in session} == {None}


def test_a_qualification_that_cannot_be_judged_is_refused(make_study, tmp_path):
    study = make_study(tmp_path / "study", qualification=1)
    study.__dict__["truth"] = {}
    with pytest.raises(InputError, match="cannot be judged"):
        make_assignments(study)
